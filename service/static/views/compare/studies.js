/** Two studies: a measure against what is removed, on the same axes, and the scores of both. */

import { html, useState } from "../../lib/preact.js";
import { href, setQuery } from "../../lib/router.js";
import { percent } from "../../lib/format.js";
import { Card, Notice, Select, Table } from "../../lib/parts.js";
import { PointsChart } from "../../lib/points-chart.js";
import { BOUNDS, lineOf, preferred, SHARES, shown, value } from "../job/study.js";

/**
 * @typedef {import("../../lib/api.js").Schemas["StudyResult"]} Study
 * @typedef {import("../../lib/api.js").Schemas["MeasureUsed"]} Measure
 * @typedef {import("../../lib/points-chart.js").Point} Point
 */

const SECOND = 100_000;
/** More than a study has variants: from here on keys are of the second. */

/** @param {{a: any, b: any, query: URLSearchParams}} props */
export function Studies({ a, b, query }) {
  const [chosen, setChosen] = useState(/** @type {number | null} */ (null));
  /** @type {Study[]} */
  const [one, other] = [a.result, b.result];
  if (!one || !other) return html`<p class="muted">A study without scores cannot be compared.</p>`;
  const common = one.measures.filter(({ measure }) => [one, other].every((study) => hasMeasure(study, measure)));
  const measure = common.find((each) => each.measure === query.get("measure")) ?? preferred(common);
  if (!measure) {
    return html`<${Notice} kind="warn" title="No measure in common">The two studies were scored by other measures.</${Notice}>`;
  }
  const name = measure.measure;
  const points = [...pointsOf(one, name, "first", 0), ...pointsOf(other, name, "second", SECOND)];
  return html`<${Card}
      title="Quality against what is removed"
      lead=${`${measure.title}; ${measure.better} is better. Removed is the mean over all sampling steps and samples.`}
      aside=${html`<${Select}
        label="Measure"
        value=${name}
        options=${common.map((each) => ({ value: each.measure, title: each.title }))}
        onChange=${(/** @type {string} */ given) => setQuery({ measure: given })}
      />`}
    >
      <${PointsChart}
        label=${`${measure.title} of both studies against the share of components removed`}
        points=${points}
        xTitle="removed, %"
        yTitle=${measure.title}
        yText=${(/** @type {number} */ at) => (SHARES.includes(name) ? percent(at, 0) : shown(name, at))}
        xRange=${[0, 100]}
        yBounds=${BOUNDS[name] ?? [0, null]}
        chosen=${chosen}
        onChoose=${setChosen}
      />
      ${points.some(({ hollow }) => hollow) &&
      html`<p class="small muted">Hollow points are of too few samples, or reference images, to be compared.</p>`}
    </${Card}>
    <div class="columns">
      <${ScoresCard} job=${a} place="First" measures=${common} />
      <${ScoresCard} job=${b} place="Second" measures=${common} />
    </div>`;
}

/** @param {{job: any, place: string, measures: Measure[]}} props */
function ScoresCard({ job, place, measures }) {
  const study = /** @type {Study} */ (job.result);
  return html`<${Card}
    title=${html`${place}: <a href=${href(`/ui/jobs/${job.id}`)}>${job.title}</a>`}
    lead=${`${Math.min(...study.variants.map(({ samples }) => samples))} samples of each prune.`}
  >
    <${Table}
      caption=${`Scores of the ${place.toLowerCase()} study`}
      hideCaption
      columns=${[
        { title: "Prune" },
        { title: "Removed", number: true },
        ...measures.map(({ title }) => ({ title: title.replace(/ \(.*\)$/, ""), number: true })),
      ]}
      rows=${study.variants.map((variant) => [
        html`<span class="nowrap">${variant.prune ? variant.name : "unpruned"}</span>`,
        variant.removed ? percent(variant.removed.fraction) : "–",
        ...measures.map(({ measure }) => shown(measure, value(variant, measure))),
      ])}
    />
  </${Card}>`;
}

/**
 * @param {Study} study
 * @param {string} measure
 */
function hasMeasure(study, measure) {
  return study.variants.some((variant) => value(variant, measure) !== null);
}

/**
 * @param {Study} study
 * @param {string} measure
 * @param {string} place
 * @param {number} from the key of the first point
 * @returns {Point[]}
 */
function pointsOf(study, measure, place, from) {
  const tried = new Set(study.search?.trials.map(({ variant }) => variant) ?? []);
  return study.variants.flatMap((variant, index) => {
    const at = value(variant, measure);
    if (at === null) return [];
    const score = variant.scores[measure];
    const removed = variant.removed?.fraction ?? 0;
    const way = lineOf(variant, tried);
    return [
      {
        key: from + index,
        series: `${place}, ${way}`,
        x: 100 * removed,
        y: at,
        low: score?.low ?? null,
        high: score?.high ?? null,
        hollow: score?.reliable === false,
        text: `${place}, ${variant.prune ? variant.name : "unpruned"}: removes ${percent(removed)}, ${shown(measure, at)}`,
      },
    ];
  });
}
