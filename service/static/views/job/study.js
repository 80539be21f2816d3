/** A study: its measures against what was removed, every score in a table, the trials of its search, and its files. */

import { html, useState } from "../../lib/preact.js";
import { setQuery } from "../../lib/router.js";
import { url } from "../../lib/api.js";
import { count, fixed, number, percent } from "../../lib/format.js";
import { Badge, Button, Card, Notice, Select, Stats, Table } from "../../lib/parts.js";
import { PointsChart } from "../../lib/points-chart.js";
import { wayOf } from "../../lib/prunes.js";

/**
 * @typedef {import("../../lib/api.js").Schemas["StudyResult"]} Study
 * @typedef {import("../../lib/api.js").Schemas["StudyVariant"]} Variant
 * @typedef {import("../../lib/api.js").Schemas["MeasureUsed"]} Measure
 * @typedef {import("../../lib/api.js").Schemas["Score"]} Score
 */

export const SHARES = ["accuracy", "precision", "recall"];
export const BOUNDS = /** @type {Record<string, [number | null, number | null]>} */ ({
  accuracy: [0, 1],
  precision: [0, 1],
  recall: [0, 1],
  ssim: [-1, 1],
  kid: [null, null],
  psnr: [null, null],
  "clip-score": [-100, 100],
});
/** The least and the greatest value that measures can have; the others cannot be negative. */
const WITH_BASELINE = /** @type {Record<string, number>} */ ({ drift: 0, ssim: 1, lpips: 0 });
/** The value of the unpruned samples by the measures that compare with them. */

const TITLES = /** @type {Record<string, string>} */ ({
  fid: "Fréchet distance",
  drift: "Drift",
  accuracy: "Accuracy",
  "modulation-error": "Modulation error",
});
/** Of what a search can keep within a budget. */

/** @param {{job: any, query: URLSearchParams}} props */
export function StudyResult({ job, query }) {
  const study = /** @type {Study} */ (job.result);
  const [chosen, setChosen] = useState(/** @type {number | null} */ (null));
  const measured = study.measures.filter(({ measure }) =>
    study.variants.some((each) => value(each, measure) !== null),
  );
  const measure = measured.find((each) => each.measure === query.get("measure")) ?? preferred(measured);
  const least = Math.min(...study.variants.map(({ samples }) => samples));
  return html`
    ${
      !study.complete &&
      html`<${Notice} kind="info" title="Scores so far">
      <p>
        ${count(study.shards.done)} of ${count(study.shards.total)} parts are done
        (${count(least)} samples of each prune); scores come in as they are made.
      </p>
    </${Notice}>`
    }
    ${study.search && html`<${Search} search=${study.search} complete=${study.complete} />`}
    ${
      measure &&
      html`<${Card}
      title="Quality against what is removed"
      lead=${`${measure.title}; ${measure.better} is better. Removed is the mean over all sampling steps and samples.`}
      aside=${html`<${Select}
        label="Measure"
        value=${measure.measure}
        options=${measured.map(({ measure: name, title }) => ({ value: name, title }))}
        onChange=${(/** @type {string} */ name) => setQuery({ measure: name })}
      />`}
    >
      <${Quality} study=${study} measure=${measure} chosen=${chosen} choose=${setChosen} />
    </${Card}>`
    }
    ${
      study.measures.length > 0 || !study.complete
        ? html`<${Card}
            title="Scores"
            lead=${`${count(least)} samples of each, from the same noise. Intervals are of 95 %.`}
          >
            <${Scores} study=${study} measures=${measured} chosen=${chosen} />
            ${study.exports && html`<${Exports} job=${job} exports=${study.exports} />`}
          </${Card}>`
        : html`<${Card} title="Scores" lead="Nothing was sampled: the modulation error is of the condition vectors alone.">
            ${study.exports && html`<${Exports} job=${job} exports=${study.exports} />`}
          </${Card}>`
    }
  `;
}

/**
 * Class accuracy says whether samples still are what they should be; without it, the first measure.
 * @param {Measure[]} measures
 */
export function preferred(measures) {
  return measures.find(({ measure }) => measure === "accuracy") ?? measures[0];
}

/**
 * @param {Variant} variant
 * @param {string} measure
 */
export function value(variant, measure) {
  return variant.scores[measure]?.value ?? (variant.prune === null ? (WITH_BASELINE[measure] ?? null) : null);
}

/**
 * @param {string} measure
 * @param {number | null | undefined} at
 */
export function shown(measure, at) {
  if (at === null || at === undefined) return "–";
  if (SHARES.includes(measure)) return percent(at);
  if (measure === "psnr") return `${fixed(at, 2)} dB`;
  return number(at, 4);
}

/**
 * @param {{study: Study, measure: Measure, chosen: number | null, choose: (index: number) => void}} props
 */
function Quality({ study, measure, chosen, choose }) {
  const name = measure.measure;
  const tried = new Set(study.search?.trials.map(({ variant }) => variant) ?? []);
  const points = study.variants.flatMap((variant, index) => {
    const at = value(variant, name);
    if (at === null) return [];
    const score = /** @type {Score | undefined} */ (variant.scores[name]);
    const removed = variant.removed?.fraction ?? 0;
    const interval =
      score?.low != null && score.high != null ? `, ${shown(name, score.low)} to ${shown(name, score.high)}` : "";
    return [
      {
        key: index,
        series: lineOf(variant, tried),
        x: 100 * removed,
        y: at,
        low: score?.low ?? null,
        high: score?.high ?? null,
        hollow: score?.reliable === false,
        text:
          `${variant.prune ? variant.name : "unpruned"}: removes ${percent(removed)}, ` +
          `${measure.title} ${shown(name, at)}${interval}`,
        note: score?.reliable === false ? (score.note ?? "not reliable") : "",
      },
    ];
  });
  const base = points.find(({ series }) => series === "unpruned");
  return html`<${PointsChart}
      label=${`${measure.title} against the share of components removed`}
      points=${points}
      xTitle="removed, %"
      yTitle=${measure.title}
      yText=${(/** @type {number} */ at) => (SHARES.includes(name) ? percent(at, 0) : number(at))}
      xRange=${[0, 100]}
      yBounds=${BOUNDS[name] ?? [0, null]}
      level=${base ? { at: base.y, title: "unpruned" } : null}
      chosen=${chosen}
      onChoose=${choose}
    />
    ${
      points.some(({ hollow }) => hollow) &&
      html`<p class="small muted">
        ${`Hollow points can be compared with nothing: ${points.find(({ hollow }) => hollow)?.note}.`}
      </p>`
    }`;
}

/**
 * The line that a variant is a point of: those of its way to prune, or of a search.
 * @param {Variant} variant
 * @param {Set<string>} tried
 */
export function lineOf({ name, prune }, tried) {
  if (tried.has(name)) return "search";
  return prune ? wayOf(prune) : "unpruned";
}

/** @param {{study: Study, measures: Measure[], chosen: number | null}} props */
function Scores({ study, measures, chosen }) {
  const doubted = study.variants.some(({ scores }) =>
    Object.values(scores).some(({ reliable }) => reliable === false),
  );
  return html`<${Table}
      caption="The scores of every prune"
      hideCaption
      selected=${chosen ?? undefined}
      columns=${[
        { title: "Prune" },
        { title: "Removed", number: true },
        ...measures.map(({ title, better }) => ({
          title: `${title.replace(/ \(.*\)$/, "")} ${better === "higher" ? "↑" : "↓"}`,
          number: true,
        })),
      ]}
      rows=${study.variants.map((variant) => [
        html`<span class="nowrap">${variant.prune ? variant.name : "unpruned"}</span>`,
        variant.removed ? percent(variant.removed.fraction) : "–",
        ...measures.map(({ measure }) => {
          const score = /** @type {Score | undefined} */ (variant.scores[measure]);
          if (!score || score.value === null) return "–";
          const span =
            score.low != null && score.high != null
              ? `${shown(measure, score.low)} to ${shown(measure, score.high)}`
              : "";
          const spread = score.std != null ? `± ${number(score.std)}` : "";
          return html`${shown(measure, score.value)}${score.reliable === false ? "†" : ""}
          ${(span || spread) && html`<br /><small class="muted nowrap">${span || spread}</small>`}`;
        }),
      ])}
    />
    ${doubted &&
    html`<p class="small muted">† of too few samples, or reference images, to be compared with anything.</p>`}`;
}

/** @param {{search: NonNullable<Study["search"]>, complete: boolean}} props */
function Search({ search, complete }) {
  const { measure, budget, limit, threshold, fraction, trials } = search;
  const allowed = measure === "accuracy" ? percent(budget) : number(budget);
  return html`<${Card}
    title="Search"
    lead=${`The largest threshold whose ${TITLES[measure].toLowerCase().replace("fré", "Fré")} is within ${shown(measure, limit)} (a budget of ${allowed}).`}
    aside=${!complete &&
    html`<${Badge} kind="live">${trials.length} ${trials.length === 1 ? "trial" : "trials"}</${Badge}>`}
  >
    ${
      threshold !== null && threshold !== undefined
        ? html`<${Stats}
            values=${[
              [complete ? "Found" : "Best so far", number(threshold, 4)],
              ["Removes", percent(fraction)],
            ]}
          />`
        : html`<p>
            ${complete ? "No threshold that was tried is within the budget." : "No trial is within the budget yet."}
          </p>`
    }
    ${search.reliable === false && html`<p class="small muted">The values that it compared are of too few samples.</p>`}
    ${
      trials.length > 0 &&
      html`<${Table}
        caption="The trials, in their order"
        hideCaption
        columns=${[
          { title: "Trial", number: true },
          { title: "Threshold", number: true },
          { title: "Removes", number: true },
          { title: TITLES[measure], number: true },
          { title: "Within the budget" },
        ]}
        rows=${trials.map((trial, index) => [
          index + 1,
          number(trial.threshold, 4),
          percent(trial.fraction),
          shown(measure, trial.value),
          html`<${Badge} kind=${trial.within ? "good" : "bad"}>${trial.within ? "yes" : "no"}</${Badge}>`,
        ])}
      />`
    }
  </${Card}>`;
}

/** @param {{job: any, exports: NonNullable<Study["exports"]>}} props */
function Exports({ job, exports }) {
  const files = [
    ["JSON", exports.document],
    ["CSV", exports.table],
    ["Markdown", exports.markdown],
    ["PNG", exports.png],
    ["SVG", exports.svg],
  ].filter(([, name]) => name);
  return html`<div class="row">
    <span class="small muted">Download as</span>
    ${files.map(
      ([title, name]) =>
        html`<${Button}
          small
          href=${url(job.links.artifacts[/** @type {string} */ (name)])}
          download=${name}
        >${title}</${Button}>`,
    )}
  </div>`;
}
