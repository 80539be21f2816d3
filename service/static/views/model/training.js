/** How a model was trained: its settings, and what was measured meanwhile. */

import { html, useMemo } from "../../lib/preact.js";
import { getJson } from "../../lib/api.js";
import { useLoaded } from "../../lib/load.js";
import { count, duration, number } from "../../lib/format.js";
import { Card, Loading, ProblemNotice, Stats } from "../../lib/parts.js";
import { Chart } from "../../lib/chart.js";

/** The curves that are shares of 1, by their names in the record, in one chart. */
const SHARES = /** @type {const} */ ([
  ["cosine", "Cosine of c"],
  ["npr", "nPR of c"],
  ["cosine_y", "Cosine of y"],
]);
const COLOURS = ["series-1", "series-3", "series-4"];
const STEP_AXIS = { title: "training step", format: count };
const SHARE_AXIS = { title: "share of 1", range: /** @type {[number, number]} */ ([0, 1]), format: number };
const LOSS_AXIS = { title: "loss", log: true, format: number };

/**
 * The record of a training, as `GET /models/{model}/training` has it; what a record lacks is left out.
 * @param {{path: string}} props
 */
export function TrainingCard({ path }) {
  const { data: record, error, reload } = useLoaded((signal) => getJson(path, { signal }), [path]);
  const curve = useMemo(() => pointsOf(record), [record]);
  const steps = useMemo(() => curve.map(({ step }) => step), [curve]);
  const shares = useMemo(() => SHARES.map(([key, title], place) => seriesOf(curve, key, title, COLOURS[place])).flat(), [curve]);
  const loss = useMemo(() => seriesOf(curve, "loss", "Loss", "series-2"), [curve]);
  return html`<${Card} title="Training" lead="c is measured where sampling starts, over all classes.">
    ${error && html`<${ProblemNotice} error=${error} retry=${reload} />`}
    ${!record && !error && html`<${Loading}>Reading the record of the training</${Loading}>`}
    ${record && html`<${Stats} small values=${settingsOf(record, curve)} />`}
    ${curve.length > 1 &&
    html`<div class="columns">
      ${shares.length > 0 && html`<${Chart}
        label="Cosine and nPR over training"
        x=${steps}
        series=${shares}
        xAxis=${STEP_AXIS}
        yAxis=${SHARE_AXIS}
      />`}
      ${loss.length > 0 && html`<${Chart}
        label="Loss over training"
        x=${steps}
        series=${loss}
        xAxis=${STEP_AXIS}
        yAxis=${LOSS_AXIS}
      />`}
    </div>`}
  </${Card}>`;
}

/**
 * The points of a record that have a step, in the order of steps.
 * @param {any} record
 * @returns {Record<string, number>[]}
 */
function pointsOf(record) {
  const curve = Array.isArray(record?.curve) ? record.curve : [];
  return curve.filter((/** @type {any} */ point) => Number.isFinite(point?.step)).sort((/** @type {any} */ a, /** @type {any} */ b) => a.step - b.step);
}

/**
 * One curve, or none where no point has it.
 * @param {Record<string, number>[]} curve
 * @param {string} key
 * @param {string} title
 * @param {string} [colour]
 * @returns {import("../../lib/chart.js").Series[]}
 */
function seriesOf(curve, key, title, colour) {
  const values = curve.map((point) => (Number.isFinite(point[key]) ? point[key] : null));
  return values.some((value) => value !== null) ? [{ title, values, ...(colour && { colour }) }] : [];
}

/**
 * @param {any} record
 * @param {Record<string, number>[]} curve
 * @returns {[string, string][]}
 */
function settingsOf(record, curve) {
  const recipe = { ...record, ...record.recipe };
  const last = curve.at(-1) ?? {};
  const found = [
    ["Steps", recipe.steps ?? last.step, count],
    ["Batch", recipe.batch_size, count],
    ["Learning rate", recipe.learning_rate, number],
    ["Weight decay", recipe.weight_decay, number],
    ["Average of weights", recipe.average, (/** @type {number} */ value) => number(value, 5)],
    ["Last loss", last.loss, (/** @type {number} */ value) => number(value, 4)],
    ["Took", last.seconds, duration],
  ];
  return found.filter(([, value]) => Number.isFinite(value)).map(([title, value, show]) => [title, show(value)]);
}
