/** How magnitudes and variances are spread, where the classes lie, and how all of it changes over sampling. */

import { html, useMemo, useState } from "./preact.js";
import { computed as computedByJob, url } from "./api.js";
import { useLoaded } from "./load.js";
import { count, fixed, number, percent } from "./format.js";
import { href } from "./router.js";
import { Card, DataTable, Loading, ProblemNotice, Stats, Tabs } from "./parts.js";
import { Chart } from "./chart.js";
import { Scatter } from "./scatter.js";
import { magnitudeHistogram, variance } from "../widget/statistics.js";

/** @typedef {import("./exploration.js").Exploration} Exploration */

const SHARES = [0.9, 0.95, 0.99];
const LEAST_POINTS = 4;

/** @param {{exploration: Exploration}} props */
export function SamplingCard({ exploration }) {
  const { overTime, times, removedOverTime, removedOverRun, moment, part, rule, run, tau } = exploration;
  const { fraction } = times.value;
  const what = rule.value === "keep" ? "Removed" : `Removed at τ = ${tau.value}`;
  const title = "Over sampling";
  const found = overTime.value;
  if (!found || !removedOverTime.value) {
    return html`<${Card} title=${title}><${Loading}>Reading all times</${Loading}></${Card}>`;
  }
  return html`<${Card}
    title=${title}
    lead=${html`${what}: <strong>${percent(removedOverRun.value)}</strong> of all
      components${run.value && `, over ${run.value.name}`}. Click a time to look at it.`}
  >
    <${Chart}
      label="Cosine, nPR and the removed share over sampling"
      x=${fraction}
      series=${[
        { title: "Cosine", values: found.cosine },
        { title: "nPR", values: found.npr, colour: "series-3" },
        { title: "Removed", values: removedOverTime.value, colour: "removed" },
      ]}
      xAxis=${SAMPLING_AXIS}
      yAxis=${SHARE_AXIS}
      height=${300}
      marks=${part.value === "c" ? [{ at: fraction[moment.value], title: `t = ${number(exploration.timestep.value, 4)}` }] : []}
      onPick=${(/** @type {number} */ index) => (moment.value = index)}
    />
  </${Card}>`;
}

const SAMPLING_AXIS = { title: "share of sampling done", format: (/** @type {number} */ share) => percent(share, 0) };
const SHARE_AXIS = { title: "share of 1", range: /** @type {[number, number]} */ ([0, 1]), format: (/** @type {number} */ value) => fixed(value, 2) };

/** @param {{exploration: Exploration}} props */
export function DistributionCard({ exploration }) {
  const [chosen, setChosen] = useState("histogram");
  const tabs = [
    { id: "histogram", title: "Histogram", content: () => html`<${Histogram} exploration=${exploration} />` },
    { id: "sparsity", title: "Sparsity", content: () => html`<${Sparsity} exploration=${exploration} />` },
    { id: "variance", title: "Variance", content: () => html`<${Variance} exploration=${exploration} />` },
    {
      id: "tsne",
      title: "t-SNE",
      content: () =>
        exploration.names.length < LEAST_POINTS
          ? html`<p class="muted">It is drawn of ${LEAST_POINTS} vectors or more.</p>`
          : html`<${Neighbours} exploration=${exploration} />`,
    },
  ];
  return html`<${Card} title="How components are spread">
    <${Tabs} label="Figures" tabs=${tabs} chosen=${chosen} onChoose=${setChosen} />
  </${Card}>`;
}

/** @param {Exploration} exploration */
function threshold({ rule, tau }) {
  return rule.value === "keep" || tau.value <= 0 ? [] : [{ at: tau.value, title: `τ = ${tau.value}` }];
}

const MAGNITUDE_AXIS = { title: "|c|", log: true, format: (/** @type {number} */ value) => number(value, 2) };

/** @param {{exploration: Exploration}} props */
function Histogram({ exploration }) {
  const vectors = exploration.vectors.value;
  const { edges, counts } = useMemo(() => {
    const { edges, counts } = magnitudeHistogram(vectors.data);
    const first = counts.findIndex(Boolean);
    const last = counts.findLastIndex(Boolean);
    return { edges: edges.slice(first, last + 1), counts: counts.slice(first, last + 1) };
  }, [vectors]);
  return html`<${Chart}
    label=${`How many of the ${count(vectors.data.length)} components of all vectors have which magnitude`}
    x=${edges}
    series=${[{ title: "Components", values: counts, kind: "bars", colour: "kept" }]}
    xAxis=${MAGNITUDE_AXIS}
    yAxis=${COUNT_AXIS}
    marks=${threshold(exploration)}
  />`;
}

const COUNT_AXIS = { title: "components", format: count };

/** @param {{exploration: Exploration}} props */
function Sparsity({ exploration }) {
  const counts = exploration.counts.value;
  const { x, shares } = useMemo(() => {
    const x = Array.from({ length: 141 }, (_, step) => Number((10 ** (-5 + step / 20)).toPrecision(3)));
    const all = x.map((tau) => counts.share(tau));
    const first = Math.max(0, all.findIndex((share) => share > 0.001) - 1);
    const last = all.findIndex((share) => share >= 1);
    const stop = last < 0 ? x.length : last + 1;
    return { x: x.slice(first, stop), shares: all.slice(first, stop) };
  }, [counts]);
  return html`<${Chart}
    label="Share of the components of all vectors that are below a threshold"
    x=${x}
    series=${[{ title: "Below", values: shares }]}
    xAxis=${THRESHOLD_AXIS}
    yAxis=${BELOW_AXIS}
    marks=${threshold(exploration)}
  />`;
}

const THRESHOLD_AXIS = { ...MAGNITUDE_AXIS, title: "threshold τ" };
const BELOW_AXIS = { title: "share below τ", range: SHARE_AXIS.range, format: (/** @type {number} */ share) => percent(share, 0) };

/** @param {{exploration: Exploration}} props */
function Variance({ exploration }) {
  const vectors = exploration.vectors.value;
  const alone = vectors.count < 2;
  const { held, needed } = useMemo(() => {
    const spread = Array.from(variance(vectors)).sort((a, b) => b - a);
    const total = spread.reduce((sum, value) => sum + value, 0);
    let so = 0;
    const held = spread.map((value) => (so += value) / (total || 1));
    return { held, needed: SHARES.map((share) => held.findIndex((value) => value >= share) + 1) };
  }, [vectors]);
  if (alone) return html`<p class="muted">One vector does not vary.</p>`;
  return html`<div class="stack-small">
    <${Stats} small values=${SHARES.map((share, index) => [`${100 * share} % of the variance`, count(needed[index]), "components"])} />
    <${Chart}
      label="Share of the variance over the vectors that the most varying components hold"
      x=${held.map((_, index) => index + 1)}
      series=${[{ title: "Held", values: held }]}
      xAxis=${COMPONENTS_AXIS}
      yAxis=${HELD_AXIS}
    />
  </div>`;
}

const COMPONENTS_AXIS = { title: "components, the most varying first", format: count };
const HELD_AXIS = { title: "share of variance", range: SHARE_AXIS.range, format: BELOW_AXIS.format };

/**
 * t-SNE of the classes, by a job of the service; colours are cosines to the chosen class.
 * @param {{exploration: Exploration}} props
 */
function Neighbours({ exploration }) {
  const { model, loaded, part, timestep, row, cosines, names } = exploration;
  const at = part.value === "c" ? timestep.value : null;
  const address = url(
    href(`/metrics/${encodeURIComponent(model.name)}/figures/tsne`, {
      part: part.value,
      timestep: at,
      conditions: loaded.conditions,
    }),
  );
  const { data, error, loading, reload } = useLoaded((signal) => computedByJob(address, { signal }), [address]);
  if (error) return html`<${ProblemNotice} error=${error} retry=${reload} />`;
  if (!data || loading) return html`<${Loading}>Computing t-SNE</${Loading}>`;
  const { x, y } = data.data;
  const found = cosines.value;
  const likeness = found && x.map((/** @type {number} */ _, /** @type {number} */ index) => found.values[row.value * found.count + index]);
  return html`<div class="stack-small">
    <${Scatter}
      label=${`t-SNE of ${x.length} vectors, coloured by the cosine to ${names[row.value]}`}
      x=${x}
      y=${y}
      names=${names}
      values=${likeness}
      chosen=${row.value}
      onPick=${(/** @type {number} */ index) => (row.value = index)}
    />
    <${DataTable}
      caption="t-SNE of the classes"
      columns=${[{ title: "Class" }, { title: "x", number: true }, { title: "y", number: true }]}
      rows=${() => names.map((/** @type {string} */ name, /** @type {number} */ index) => [name, number(x[index]), number(y[index])])}
    />
  </div>`;
}
