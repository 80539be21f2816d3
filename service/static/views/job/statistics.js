/** Results of jobs that compute statistics, vectors and figures: short, since other pages show them at length. */

import { html } from "../../lib/preact.js";
import { href } from "../../lib/router.js";
import { url } from "../../lib/api.js";
import { bytes, count, fixed, number, percent } from "../../lib/format.js";
import { Chart } from "../../lib/chart.js";
import { Becomes, Card, Stats, Table } from "../../lib/parts.js";

/** @typedef {import("../../lib/api.js").Schemas} Schemas */

/** @type {Record<string, (props: {job: any}) => import("../../lib/preact.js").Node>} */
export const STATISTICS = {
  metrics: Metrics,
  extract: Vectors,
  cosine: Cosine,
  "over-time": OverTime,
  removal: Removal,
  attribution: Attribution,
  anatomy: Anatomy,
  figure: Figure,
  "figure-transformer": Figure,
  "metrics-transformer": MetricsOfTransformer,
  "over-time-transformer": OverTime,
};

/** @param {{result: {model: {name: string}, part?: string, timestep?: number | null}}} props */
function ModelLink({ result: { model, part, timestep } }) {
  return html`<a href=${href(`/ui/models/${model.name}`, { part, t: timestep })}>Explore them</a>`;
}

/**
 * @param {string} part
 * @param {number | null} timestep
 */
function partOf(part, timestep) {
  return ["Part", part, timestep === null ? "of no time" : `t = ${number(timestep)}`];
}

/** @param {{job: any}} props */
function Metrics({ job }) {
  const result = /** @type {Schemas["MetricsResult"]} */ (job.result);
  const { part, timestep, dim, cosine, npr, pr, norm } = result;
  return html`<${Card} title="Condition vectors" aside=${html`<${ModelLink} result=${result} />`}>
    <${Stats}
      values=${[
        ["Vectors", count(result.count), `of ${dim} components`],
        partOf(part, timestep),
        ...(cosine ? [["Cosine", number(cosine.mean, 4), `${number(cosine.min)} to ${number(cosine.max)}`]] : []),
        ["nPR", number(npr), `PR ${number(pr)}`],
        ["Norm", number(norm)],
      ]}
    />
  </${Card}>`;
}

/** @param {{job: any}} props */
function MetricsOfTransformer({ job }) {
  const result = /** @type {Schemas["MetricsTransformerResult"]} */ (job.result);
  const { part, parts, dim, cosine, npr, pr, norm } = result;
  const described = (/** @type {Schemas["PartMeasured"]} */ each) => [
    each.what,
    each.covers,
    number(each.norm),
    number(each.npr),
    each.cosine ? number(each.cosine.mean, 4) : "–",
  ];
  return html`<${Card} title="Condition vectors" lead=${`Over ${count(result.times.length)} times of a schedule.`}>
    <${Stats}
      values=${[
        ["Vectors", count(result.count), `of ${part}, ${dim} components`],
        ...(cosine ? [["Cosine", number(cosine.mean, 4), `${number(cosine.min)} to ${number(cosine.max)}`]] : []),
        ["nPR", number(npr), `PR ${number(pr)}`],
        ["Norm", number(norm)],
      ]}
    />
    <${Table}
      caption="The parts of c"
      hideCaption
      columns=${[
        { title: "Part of c" },
        { title: "Of" },
        ...["Norm", "nPR", "Cosine"].map((title) => ({ title, number: true })),
      ]}
      rows=${parts.map(described)}
    />
  </${Card}>`;
}

/** @param {{job: any}} props */
function Anatomy({ job }) {
  const result = /** @type {Schemas["AnatomyResult"]} */ (job.result);
  return html`<${Card} title="What AdaLN takes" aside=${`${result.models}: ${result.name}`}>
    <${AnatomyTable} result=${result} />
  </${Card}>`;
}

/** @param {{result: Schemas["AnatomyResult"]}} props */
export function AnatomyTable({ result }) {
  const { replacements, unmeasured, recommendation } = result;
  return html`<${Stats}
      values=${[
        ["AdaLN", percent(result.adaln_share), `${count(result.adaln_parameters)} of ${count(result.parameters)} parameters`],
        ["AdaLN's size", bytes(result.adaln_bytes), `of ${bytes(result.bytes)}`],
        ["c", count(result.condition_dim), `components, of ${result.depends_on.join(" + ")}`],
      ]}
    />
    <${Table}
      caption="What could stand in place of AdaLN"
      hideCaption
      columns=${[{ title: "In place of AdaLN" }, ...["Error", "Columns", "Size", "Saves"].map((title) => ({ title, number: true }))]}
      rows=${replacements.map((each) => [
        each.what === "rank" ? `rank ${count(each.number)}` : `table of ${count(each.number)} steps`,
        each.error === null ? "not measured" : percent(each.error, 2),
        count(each.columns),
        bytes(each.bytes),
        each.saved_bytes < 0 ? "nothing" : bytes(each.saved_bytes),
      ])}
    />
    ${unmeasured && html`<p>Errors were not measured: ${unmeasured}.</p>`}
    <p>Recommended: ${recommendation}.</p>`;
}

/** @param {{job: any}} props */
function Attribution({ job }) {
  const result = /** @type {Schemas["AttributionResult"]} */ (job.result);
  const { shares, count: classes, dim, components, directions } = result;
  const largest = [
    ...components.slice(0, 8).map((each) => ({ ...each, name: `component ${each.index}` })),
    ...directions.slice(0, 8).map((each) => ({ ...each, name: `direction ${each.index}` })),
  ];
  return html`<${Card}
    title="What carries what"
    lead=${`The variance of y over ${classes} classes, of ${dim} components: weighted by what the blocks make of it, and plain.`}
  >
    <${Stats} values=${shares.map(({ part, plain, weighted }) => [part, percent(weighted), `plain ${percent(plain)}`])} />
    <${Table}
      caption="The largest components and principal directions, and what their variance is of"
      hideCaption
      columns=${[
        { title: "Largest" },
        ...["Share", ...shares.map(({ part }) => part)].map((title) => ({ title, number: true })),
      ]}
      rows=${largest.map(({ name, share, parts }) => [name, percent(share), ...parts.map((part) => percent(part, 0))])}
    />
  </${Card}>`;
}

/** @param {{job: any}} props */
function Vectors({ job }) {
  const { artifact, shapes, bytes: size } = /** @type {Schemas["ExtractResult"]} */ (job.result);
  return html`<${Card} title="Vectors" lead=${`${artifact}, ${bytes(size)}`}>
    <${Stats} small values=${Object.entries(shapes).map(([name, shape]) => [name, shape.join(" × ")])} />
  </${Card}>`;
}

/** @param {{job: any}} props */
function Cosine({ job }) {
  const result = /** @type {Schemas["CosineResult"]} */ (job.result);
  const { part, timestep, order, mean, min, max } = result;
  return html`<${Card} title="Cosines of all pairs" aside=${html`<${ModelLink} result=${result} />`}>
    <${Stats}
      values=${[
        ["Vectors", count(result.count), `by ${order}`],
        partOf(part, timestep),
        ["Mean cosine", number(mean, 4), `${number(min)} to ${number(max)}`],
      ]}
    />
  </${Card}>`;
}

/** @param {{job: any}} props */
function OverTime({ job }) {
  const result = /** @type {Schemas["OverTimeResult" | "OverTimeTransformerResult"]} */ (job.result);
  const { cosine, fraction, npr, removed } = result;
  const link = job.kind === "over-time" && html`<${ModelLink} result=${result} />`;
  return html`<${Card} title="Over the run" aside=${link}>
    <${Chart}
      label="Cosine, nPR and what thresholds remove over sampling"
      x=${fraction.map((each) => 100 * each)}
      series=${[
        ...(cosine ? [{ title: "mean cosine", values: cosine.mean }] : []),
        { title: "nPR", values: npr },
        ...removed
          .slice(0, 2)
          .map((each) => ({ title: `removed at ${number(each.threshold)}`, values: each.fraction })),
      ]}
      xAxis=${{ title: "sampling done, %" }}
      yAxis=${{ title: "from 0 to 1", range: [0, 1] }}
    />
  </${Card}>`;
}

/** @param {{job: any}} props */
function Removal({ job }) {
  const { sampler, steps, fraction, prunes } = /** @type {Schemas["RemovalResult"]} */ (job.result);
  return html`<${Card} title="What is removed" lead=${`Over ${steps} steps of ${sampler}, without sampling.`}>
    <${Table}
      caption="What each prune removes"
      hideCaption
      columns=${[
        { title: "Prune" },
        ...["Removed", "Components a step", "nPR", "Cosine", "Modulation error", "Largest"].map((title) => ({
          title,
          number: true,
        })),
      ]}
      rows=${prunes.map(({ name, removed, embedding, modulation }) => [
        html`<span class="nowrap">${name}</span>`,
        percent(removed.fraction),
        `${removed.min} to ${removed.max}`,
        html`<${Becomes} from=${fixed(embedding.npr_before, 4)} to=${fixed(embedding.npr_after, 4)} />`,
        html`<${Becomes} from=${fixed(embedding.cosine_before, 4)} to=${fixed(embedding.cosine_after, 4)} />`,
        modulation ? percent(modulation.error) : "–",
        modulation ? percent(modulation.largest) : "–",
      ])}
    />
    ${
      prunes.some(({ modulation }) => modulation) &&
      html`<${Chart}
          label="The modulation error at each step of sampling"
          x=${fraction.map((each) => 100 * each)}
          series=${prunes.slice(0, 6).flatMap(({ name, modulation }) =>
            modulation ? [{ title: name, values: modulation.by_step }] : [],
          )}
          xAxis=${{ title: "sampling done, %" }}
          yAxis=${{ title: "modulation error" }}
        />
        <p class="small muted">
          The modulation error is how much the prune changes all shifts, scales and gates, of the whole run’s: their root
          mean square over the vectors. The largest is that of the vector that changes most.
        </p>`
    }
  </${Card}>`;
}

/** @param {{job: any}} props */
function Figure({ job }) {
  const { caption, figure, png } = /** @type {Schemas["FigureResult" | "FigureTransformerResult"]} */ (job.result);
  return html`<${Card} title=${`Figure: ${figure}`} lead=${caption}>
    <img class="paper" src=${url(job.links.artifacts[png] ?? "")} alt=${caption} />
  </${Card}>`;
}
