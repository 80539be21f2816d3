/** Cosines of all pairs of classes as a heatmap, and one pair of them. */

import { html, useComputed, useMemo } from "./preact.js";
import { count, fixed, number } from "./format.js";
import { announce, Card, DataTable, Loading, Select, Stats, Table } from "./parts.js";
import { Heatmap, Scale } from "./widgets.js";
import { extremes, ORDERS, placesBy } from "./pairs.js";
import { cosineRange, rowOf } from "../widget/statistics.js";

/** @typedef {import("./exploration.js").Exploration} Exploration */

const MOST_COMPONENTS = 8;

/** @param {{exploration: Exploration}} props */
export function CosineCard({ exploration }) {
  const { cosines, order, names, pair, stale, part, timestep } = exploration;
  const found = cosines.value;
  const range = useMemo(() => found && cosineRange(found.values, found.count), [found]);
  const places = useMemo(() => found && placesBy(order.value, { values: found.values, names }), [found, order.value]);
  const pairs = (names.length * (names.length - 1)) / 2;
  const stats = range && `mean ${fixed(range.mean, 4)}, from ${fixed(range.min, 4)} to ${fixed(range.max, 4)}`;
  return html`<${Card}
    title="Cosine between classes"
    lead=${pairs === 0
      ? "One vector: there are no pairs."
      : range
        ? stale.value
          ? `Computing ${part.value === "c" ? `t = ${number(timestep.value, 4)}` : "y"} …`
          : `${count(pairs)} pairs: ${stats}. Click a pair, or use arrow keys.`
        : ""}
    aside=${html`<div class="inline-field"><${Select}
      label="Order by"
      options=${ORDERS}
      value=${order.value}
      onChange=${(/** @type {string} */ value) => (order.value = value)}
    /></div>`}
  >
    ${pairs === 0
      ? null
      : found && range && places
      ? html`<div class=${`stack-small ${stale.value ? "stale" : ""}`} aria-busy=${stale.value}><${Heatmap}
            values=${found.values}
            count=${found.count}
            order=${places}
            low=${range.min}
            high=${1}
            pair=${pair.value}
            label=${`Cosines of ${names.length} vectors, ${stats}. Arrow keys choose a pair, with Shift in steps of ten.`}
            say=${(/** @type {number} */ row, /** @type {number} */ column, /** @type {number} */ value) =>
              `${names[row]} · ${names[column]}: ${fixed(value, 4)}`}
            onPick=${(/** @type {number} */ row, /** @type {number} */ column) => {
              pair.value = [row, column];
              announce(`${names[row]} and ${names[column]}: cosine ${fixed(found.values[row * found.count + column], 4)}`);
            }}
          />
          <${Scale} low=${range.min} high=${1} /></div>
          <${DataTable}
            caption="the pairs that are most and least alike"
            columns=${[{ title: "One class" }, { title: "Other class" }, { title: "Cosine", number: true }]}
            rows=${() => extremes(found.values, names)}
          />`
      : html`<${Loading}>Computing cosines</${Loading}>`}
  </${Card}>`;
}

/**
 * The pair that is marked in the heatmap, and the components in which its vectors differ most.
 * @param {{exploration: Exploration}} props
 */
export function PairCard({ exploration }) {
  const { pair, names, cosines, vectors, pruner, prune } = exploration;
  const after = useComputed(() => {
    if (!pair.value) return NaN;
    const [a, b] = pair.value.map((row) => pruner.value.pruned(row, prune.value));
    return cosineOf(a, b);
  });
  if (!pair.value || !cosines.value) return null;
  const [row, column] = pair.value;
  const [a, b] = [rowOf(vectors.value, row), rowOf(vectors.value, column)];
  const removed = [row, column].map((each) => pruner.value.removed(each, prune.value));
  const differing = Array.from({ length: a.length }, (_, k) => k)
    .sort((k, l) => Math.abs(a[l] - b[l]) - Math.abs(a[k] - b[k]))
    .slice(0, MOST_COMPONENTS);
  return html`<${Card}
    title=${`${names[row]} and ${names[column]}`}
    lead="The pair that is marked, and the components in which it differs most."
    aside=${html`<button type="button" class="button button-small" onClick=${() => (pair.value = null)}>Close</button>`}
  >
    <${Stats}
      values=${[
        ["Cosine", html`<span data-number="pair-cosine">${fixed(cosineOf(a, b), 4)}</span>`],
        ["Cosine when pruned", fixed(after.value, 4)],
        ["Distance", number(Math.hypot(...Array.from(a, (value, k) => value - b[k]))), "of the vectors as they are"],
      ]}
    />
    <${Table}
      caption=${`Components of ${names[row]} and ${names[column]} that differ most`}
      hideCaption
      columns=${[
        { title: "Component", number: true },
        { title: names[row], number: true },
        { title: names[column], number: true },
        { title: "Difference", number: true },
        { title: "Pruned" },
      ]}
      rows=${differing.map((k) => [k, number(a[k]), number(b[k]), number(a[k] - b[k]), gone(removed.map((each) => each[k]))])}
    />
  </${Card}>`;
}

/** @param {number[]} flags */
function gone(flags) {
  if (flags.every(Boolean)) return "removed";
  return flags.some(Boolean) ? "removed of one" : "kept";
}

/**
 * @param {ArrayLike<number>} a
 * @param {ArrayLike<number>} b
 */
function cosineOf(a, b) {
  let [dot, one, two] = [0, 0, 0];
  for (let k = 0; k < a.length; k++) {
    dot += a[k] * b[k];
    one += a[k] * a[k];
    two += b[k] * b[k];
  }
  return one && two ? Math.min(1, dot / Math.sqrt(one * two)) : 0;
}
