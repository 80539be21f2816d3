/** Two models, or two times of one: cosines on one range of colours, magnitudes in one chart. */

import { html, useEffect, useMemo, useState } from "../../lib/preact.js";
import { href, setQuery } from "../../lib/router.js";
import { getJson } from "../../lib/api.js";
import { useLoaded } from "../../lib/load.js";
import { loadTimes, loadVectors } from "../../lib/vectors.js";
import { latestOf } from "../../lib/compute.js";
import { ConditionsField, useConditions } from "../../lib/conditions.js";
import { extremes, ORDERS, placesBy } from "../../lib/pairs.js";
import { fixed, number, percent, toldApart } from "../../lib/format.js";
import { announce, Card, DataTable, Loading, ProblemNotice, Segmented, Select, Table, TimeField } from "../../lib/parts.js";
import { Heatmap, Scale } from "../../lib/widgets.js";
import { Chart } from "../../lib/chart.js";
import { conditionAt, cosineRange, Pruner, rowOf } from "../../widget/statistics.js";

/** @typedef {"a" | "b"} Side */
const SIDES = /** @type {Side[]} */ (["a", "b"]);
/** @typedef {import("../../widget/statistics.js").Vectors} Vectors */

/**
 * @typedef {object} Measured
 * @property {string} title
 * @property {string[]} names
 * @property {Vectors} vectors
 * @property {Float32Array} cosines
 * @property {{mean: number, min: number, max: number}} range
 * @property {import("../../widget/statistics.js").Summary} summary
 */

/** @param {{a: string, b: string, ready: string[], query: URLSearchParams}} props */
export function Models({ a, b, ready, query }) {
  const [measured, setMeasured] = useState(/** @type {Record<Side, Measured | null>} */ ({ a: null, b: null }));
  const order = query.get("order") ?? "class";
  const part = query.get("part") === "y" ? "y" : "c";
  const [pair, setPair] = useState(/** @type {[number, number] | null} */ (null));
  const least = [measured.a, measured.b].map((each) => each?.range.min ?? NaN).filter(Number.isFinite);
  const low = least.length > 0 ? Math.min(...least) : 0; // one vector has no pairs, and so no range
  const alike = measured.a && measured.b && String(measured.a.names) === String(measured.b.names);
  const places = useMemo(
    () => Object.fromEntries(SIDES.map((side) => [side, placesOf(order, alike ? measured.a : measured[side])])),
    [order, measured, alike],
  );
  return html`<div class="stack">
    <div class="row row-end">
      <${Segmented}
        label="Vectors"
        options=${[
          { value: "c", title: "c = y + t" },
          { value: "y", title: "y, the class alone" },
        ]}
        value=${part}
        onChange=${(/** @type {string} */ value) => setQuery({ part: value === "c" ? null : value })}
      />
      <${Segmented}
        label="Order classes by"
        options=${ORDERS.map((each) => (alike && each.value === "likeness" ? { ...each, title: "likeness in the first" } : each))}
        value=${order}
        onChange=${(/** @type {string} */ value) => setQuery({ order: value === "class" ? null : value })}
      />
    </div>
    <div class="columns">
      ${SIDES.map((side) => {
        const name = side === "a" ? a : b;
        const conditions = query.get(`c${side}`) ?? (a === b ? query.get("ca") : null);
        return html`<${SideCard}
          key=${`${side} ${name} ${conditions}`}
          side=${side}
          name=${name}
          ready=${ready}
          query=${query}
          part=${part}
          conditions=${conditions}
          low=${low}
          order=${places[side]}
          pair=${pair}
          onPair=${setPair}
          measured=${measured[side]}
          onMeasured=${(/** @type {Measured | null} */ found) => setMeasured((before) => ({ ...before, [side]: found }))}
        />`;
      })}
    </div>
    ${measured.a && measured.b && html`<${Numbers} a=${measured.a} b=${measured.b} />`}
    ${measured.a && measured.b &&
    html`<div class="columns">
      <${Magnitudes} a=${measured.a} b=${measured.b} part=${part} query=${query} />
      ${measured.a.names.length < 2
        ? null
        : alike
        ? html`<${Difference} a=${measured.a} b=${measured.b} order=${places.a} pair=${pair} onPair=${setPair} />`
        : html`<${Card} title="Difference of cosines">
            <p class="muted">The two have vectors of other names, so that there are no pairs to subtract.</p>
          </${Card}>`}
    </div>`}
  </div>`;
}

/**
 * @param {string} order
 * @param {Measured | null} measured
 */
function placesOf(order, measured) {
  return measured ? placesBy(order, { values: measured.cosines, names: measured.names }) : [];
}

/**
 * The place of the time that is nearest to one.
 * @param {number[]} timesteps
 * @param {number} time
 */
function nearest(timesteps, time) {
  const far = timesteps.map((each) => Math.abs(each - time));
  return Math.max(0, far.indexOf(Math.min(...far)));
}

/** @param {any} props */
function SideCard({ side, name, conditions, ready, query, part, low, order, pair, onPair, measured, onMeasured }) {
  const model = useLoaded((signal) => getJson(`/models/${encodeURIComponent(name)}`, { signal }), [name]);
  const stored = useConditions(model.data);
  const takes = model.data && Object.keys(model.data.conditions ?? {}).length > 0;
  const address = href(`/ui/models/${encodeURIComponent(name)}`, { conditions: takes ? conditions : null });
  return html`<${Card} title=${side === "a" ? "First" : "Second"} aside=${html`<a href=${address}>explore ${name}</a>`}>
    <${Select}
      label="Model"
      options=${[...new Set([name, ...ready])].map((each) => ({ value: each, title: each }))}
      value=${name}
      onChange=${(/** @type {string} */ value) => {
        onMeasured(null);
        setQuery({ [side]: value, [`t${side}`]: null, [`c${side}`]: null });
      }}
    />
    ${model.error && html`<${ProblemNotice} error=${model.error} retry=${model.reload} />`}
    ${takes &&
    html`<${ConditionsField}
      stored=${stored}
      value=${conditions}
      onChange=${(/** @type {string | null} */ id) => {
        onMeasured(null);
        setQuery({ [`c${side}`]: id });
      }}
    />`}
    ${model.data && (!takes || conditions) &&
    html`<${SideVectors}
      ...${{ side, name, query, part, low, order, pair, onPair, measured, onMeasured }}
      conditions=${takes ? conditions : null}
    />`}
    ${takes && !conditions && html`<p class="muted">Choose conditions to measure it by.</p>`}
  </${Card}>`;
}

/** @param {any} props */
function SideVectors({ side, name, conditions, query, part, low, order, pair, onPair, measured, onMeasured }) {
  const asked = query.get(`t${side}`);
  const { data, error, reload } = useLoaded(
    async (signal) => {
      const loaded = await loadVectors(name, { timestep: asked === null ? null : Number(asked), conditions, signal });
      return { loaded, times: await loadTimes(name, loaded, signal) };
    },
    [name, conditions],
  );
  const [failed, setFailed] = useState(/** @type {unknown} */ (null));
  const [stale, setStale] = useState(false);
  const cosinesOf = useMemo(() => latestOf("cosine"), []);
  const index = data ? nearest(data.times.timesteps, asked === null ? data.loaded.timestep : Number(asked)) : 0;
  useEffect(() => {
    if (!data) return undefined;
    let current = true;
    const vectors = part === "y" ? data.loaded.y : conditionAt(data.loaded.y, data.times.t[index]);
    const title = `${name}, ${part === "y" ? "y" : `t = ${number(data.times.timesteps[index], 4)}`}`;
    setStale(true);
    cosinesOf({ vectors }).then(
      (cosines) => {
        if (!current || !cosines) return;
        const range = cosineRange(cosines, vectors.count);
        const summary = new Pruner(vectors).summary(null);
        setStale(false);
        onMeasured({ title, names: data.loaded.names, vectors, cosines, range, summary });
      },
      (problem) => current && setFailed(problem),
    );
    return () => {
      current = false;
    };
  }, [data, index, part]);
  const names = measured?.names ?? [];
  const says = (/** @type {number} */ i, /** @type {number} */ j) => fixed(measured.cosines[i * names.length + j], 4);
  return html`
    ${error && html`<${ProblemNotice} error=${error} retry=${reload} />`}
    ${failed && html`<${ProblemNotice} error=${failed} />`}
    ${data && part === "c" &&
    html`<${TimeField}
      timesteps=${data.times.timesteps}
      fraction=${data.times.fraction}
      index=${index}
      onChange=${(/** @type {number} */ to) => setQuery({ [`t${side}`]: data.times.timesteps[to] })}
    />`}
    ${!measured || order.length !== names.length
      ? !error && !failed && html`<${Loading}>Computing cosines</${Loading}>`
      : names.length < 2
      ? html`<p class="muted">One vector: there are no pairs.</p>`
      : html`<div class=${`stack-small ${stale ? "stale" : ""}`} aria-busy=${stale}>
            <${Heatmap}
              values=${measured.cosines}
              count=${names.length}
              order=${order}
              low=${low}
              high=${1}
              pair=${pair && Math.max(...pair) < names.length ? pair : null}
              label=${`Cosines of ${names.length} vectors of ${measured.title}, mean ${fixed(measured.range.mean, 4)}`}
              say=${(/** @type {number} */ i, /** @type {number} */ j) => `${names[i]} · ${names[j]}: ${says(i, j)}`}
              onPick=${(/** @type {number} */ i, /** @type {number} */ j) => {
                onPair([i, j]);
                announce(`${names[i]} and ${names[j]}: cosine ${says(i, j)}`);
              }}
            />
            <${Scale} low=${low} high=${1} />
          </div>
          <${DataTable}
            caption=${`the pairs of ${measured.title} that are most and least alike`}
            columns=${[{ title: "One" }, { title: "Other" }, { title: "Cosine", number: true }]}
            rows=${() => extremes(measured.cosines, names)}
          />`}
  `;
}

/** @param {{a: Measured, b: Measured}} props */
function Numbers({ a, b }) {
  /** @type {[string, (side: Measured) => number, number][]} */
  const rows = [
    ["Cosine, mean", (side) => side.range.mean, 4],
    ["Cosine, least", (side) => side.range.min, 4],
    ["Cosine, greatest", (side) => side.range.max, 4],
    ["nPR, mean", (side) => side.summary.npr, 4],
    ["Norm, mean", (side) => side.summary.norm, 3],
    ["Width d", (side) => side.vectors.dim, 0],
    ["Vectors", (side) => side.vectors.count, 0],
  ];
  return html`<${Card} title="Numbers">
    <${Table}
      caption="Statistics of both"
      hideCaption
      columns=${[{ title: "Measure" }, { title: a.title, number: true }, { title: b.title, number: true }, { title: "Second − first", number: true }]}
      rows=${rows.map(([title, value, digits]) => [
        title,
        fixed(value(a), digits),
        fixed(value(b), digits),
        fixed(value(b) - value(a), digits),
      ])}
    />
  </${Card}>`;
}

/** @param {{a: Measured, b: Measured, part: string, query: URLSearchParams}} props */
function Magnitudes({ a, b, part, query }) {
  const most = Math.min(a.names.length, b.names.length) - 1;
  const row = Math.min(most, Math.max(0, Number.parseInt(query.get("class") ?? "0", 10) || 0));
  const [first, second] = useMemo(() => [a, b].map(({ vectors }) => Array.from(rowOf(vectors, row), Math.abs).sort((x, y) => y - x)), [a, b, row]);
  const wide = Math.max(first.length, second.length);
  const [one, other] = toldApart([a.title, b.title], [1, 2]);
  return html`<${Card}
    title="Sorted magnitudes"
    aside=${html`<div class="inline-field"><${Select}
      label="Class"
      options=${a.names.slice(0, most + 1).map((name, index) => ({
        value: String(index),
        title: name === b.names[index] ? `${index} · ${name}` : `${index} · ${name} | ${b.names[index]}`,
      }))}
      value=${String(row)}
      onChange=${(/** @type {string} */ value) => setQuery({ class: value === "0" ? null : value })}
    /></div>`}
  >
    <${Chart}
      label=${`Sorted |${part}| of ${a.names[row]}${a.names[row] === b.names[row] ? "" : ` and ${b.names[row]}`}, the greatest first`}
      x=${Array.from({ length: wide }, (_, rank) => rank / (wide - 1 || 1))}
      series=${[
        { title: one, values: stretched(first, wide) },
        { title: other, values: stretched(second, wide), colour: "series-2" },
      ]}
      xAxis=${RANK_AXIS}
      yAxis=${{ ...SIZE_AXIS, title: `|${part}|` }}
      height=${320}
    />
  </${Card}>`;
}

const RANK_AXIS = { title: "share of components, by rank", format: (/** @type {number} */ share) => percent(share, 0) };
const SIZE_AXIS = { log: true, format: (/** @type {number} */ value) => number(value, 2) };

/**
 * Values at as many even places: widths may differ. A logarithmic axis has no place for 0.
 * @param {number[]} values
 * @param {number} length
 */
function stretched(values, length) {
  return Array.from({ length }, (_, place) => values[Math.round((place / (length - 1 || 1)) * (values.length - 1))] || null);
}

/** @param {{a: Measured, b: Measured, order: number[], pair: [number, number] | null, onPair: (pair: [number, number]) => void}} props */
function Difference({ a, b, order, pair, onPair }) {
  const { values, most } = useMemo(() => {
    const values = a.cosines.map((value, at) => Math.abs(value - b.cosines[at]));
    return { values, most: values.reduce((greatest, value) => Math.max(greatest, value), 0) };
  }, [a, b]);
  return html`<${Card} title="Difference of cosines" lead="How far the cosine of each pair is apart in the two, without sign.">
    <${Heatmap}
      values=${values}
      count=${a.names.length}
      order=${order}
      low=${0}
      high=${most}
      pair=${pair}
      label=${`Differences of the cosines of ${a.names.length} classes, at most ${number(most)}`}
      say=${(/** @type {number} */ i, /** @type {number} */ j) =>
        `${a.names[i]} · ${a.names[j]}: ${fixed(a.cosines[i * a.names.length + j], 4)} and ${fixed(b.cosines[i * a.names.length + j], 4)}`}
      onPick=${(/** @type {number} */ i, /** @type {number} */ j) => onPair([i, j])}
    />
    <${Scale} low=${0} high=${most} title="difference" />
    <${DataTable}
      caption="the pairs whose cosines differ most and least"
      columns=${["One", "Other", a.title, b.title, "Difference"].map((title, place) => ({ title, number: place > 1 }))}
      rows=${() => extremes(values, a.names, (at) => [fixed(a.cosines[at], 4), fixed(b.cosines[at], 4), fixed(values[at], 4)])}
    />
  </${Card}>`;
}
