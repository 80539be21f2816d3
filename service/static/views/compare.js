/** Two models, two times of one, or two jobs: cosines on one range of colours, magnitudes in one chart. */

import { html, useEffect, useMemo, useState } from "../lib/preact.js";
import { href, setQuery } from "../lib/router.js";
import { getJson } from "../lib/api.js";
import { useLoaded } from "../lib/load.js";
import { loadTimes, loadVectors } from "../lib/vectors.js";
import { compute } from "../lib/compute.js";
import { fixed, number, percent } from "../lib/format.js";
import { announce, Card, Loading, Notice, PageHead, ProblemNotice, Segmented, Select, Status, Table, TimeField } from "../lib/parts.js";
import { Heatmap, Scale } from "../lib/widgets.js";
import { Chart } from "../lib/chart.js";
import { conditionAt, cosineRange, orderByLikeness, Pruner, rowOf } from "../widget/statistics.js";

/** @typedef {"a" | "b"} Side */
/** @typedef {import("../widget/statistics.js").Vectors} Vectors */

/**
 * @typedef {object} Measured
 * @property {string} title
 * @property {string[]} names
 * @property {Vectors} vectors
 * @property {Float32Array} cosines
 * @property {{mean: number, min: number, max: number}} range
 * @property {import("../widget/statistics.js").Summary} summary
 */

const JOB = /^[0-9a-z]{26}$/;

/** @param {{query: URLSearchParams}} props */
export default function Compare({ query }) {
  const { data, error, reload } = useLoaded((signal) => getJson("/models", { signal }), []);
  /** @type {string[]} */
  const ready = (data?.models ?? []).filter((/** @type {any} */ each) => each.ready).map((/** @type {any} */ each) => each.name);
  const a = query.get("a") ?? ready[0];
  const b = query.get("b") ?? ready.find((name) => name !== a) ?? ready[0];
  const jobs = [a, b].map((each) => JOB.test(each ?? ""));
  return html`
    <${PageHead}
      title="Compare"
      lead="Two models, two times of one model, or two jobs. Colours mean the same on both sides."
    />
    ${error && html`<${ProblemNotice} error=${error} retry=${reload} />`}
    ${!data && !error && html`<${Loading}>Loading models</${Loading}>`}
    ${data && !a && html`<${Notice} kind="info" title="No model is ready">Models that are ready can be compared.</${Notice}>`}
    ${data && a && b && jobs.every((each) => !each) && html`<${Models} a=${a} b=${b} ready=${ready} query=${query} />`}
    ${data && a && b && jobs.every(Boolean) && html`<${Jobs} a=${a} b=${b} />`}
    ${data && jobs[0] !== jobs[1] && html`<${Notice} kind="warn" title="A job and a model">
      Choose two jobs or two models. <a href=${href("/ui/compare")}>Begin with two models</a>.
    </${Notice}>`}
  `;
}

/** @param {{a: string, b: string, ready: string[], query: URLSearchParams}} props */
function Models({ a, b, ready, query }) {
  const [measured, setMeasured] = useState(/** @type {Record<Side, Measured | null>} */ ({ a: null, b: null }));
  const order = query.get("order") ?? "class";
  const [pair, setPair] = useState(/** @type {[number, number] | null} */ (null));
  const least = [measured.a, measured.b].map((each) => each?.range.min ?? NaN).filter(Number.isFinite);
  const low = least.length > 0 ? Math.min(...least) : 0; // one vector has no pairs, and so no range
  const alike = measured.a && measured.b && String(measured.a.names) === String(measured.b.names);
  const places = useMemo(
    () => Object.fromEntries(["a", "b"].map((side) => [side, placesBy(order, measured[/** @type {Side} */ (side)], alike ? measured.a : null)])),
    [order, measured, alike],
  );
  return html`<div class="stack">
    <div class="row">
      <${Segmented}
        label="Order classes by"
        options=${[
          { value: "class", title: "class" },
          { value: "likeness", title: alike ? "likeness in the first" : "likeness" },
          { value: "name", title: "name" },
        ]}
        value=${order}
        onChange=${(/** @type {string} */ value) => setQuery({ order: value === "class" ? null : value })}
      />
    </div>
    <div class="columns">
      ${/** @type {Side[]} */ (["a", "b"]).map((side) => {
        const name = side === "a" ? a : b;
        return html`<${SideCard}
          key=${`${side} ${name}`}
          side=${side}
          name=${name}
          ready=${ready}
          query=${query}
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
      <${Magnitudes} a=${measured.a} b=${measured.b} query=${query} />
      ${alike
        ? html`<${Difference} a=${measured.a} b=${measured.b} order=${places.a} pair=${pair} onPair=${setPair} />`
        : html`<${Card} title="Difference of cosines">
            <p class="muted">The models have other classes, so that there are no pairs to subtract.</p>
          </${Card}>`}
    </div>`}
  </div>`;
}

/**
 * @param {string} order
 * @param {Measured | null} own
 * @param {Measured | null} first whose order both sides have
 */
function placesBy(order, own, first) {
  const by = first ?? own;
  if (!by) return [];
  const places = Array.from({ length: by.names.length }, (_, index) => index);
  if (order === "likeness") return orderByLikeness(by.cosines, by.names.length);
  return order === "name" ? places.sort((k, l) => by.names[k].localeCompare(by.names[l], "en", { numeric: true })) : places;
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
function SideCard({ side, name, ready, query, low, order, pair, onPair, measured, onMeasured }) {
  const asked = query.get(`t${side}`);
  const { data, error, reload } = useLoaded(
    async (signal) => {
      const loaded = await loadVectors(name, { timestep: asked === null ? null : Number(asked), signal });
      return { loaded, times: await loadTimes(name, loaded, signal) };
    },
    [name],
  );
  const [failed, setFailed] = useState(/** @type {unknown} */ (null));
  const index = data ? nearest(data.times.timesteps, asked === null ? data.loaded.timestep : Number(asked)) : 0;
  useEffect(() => {
    if (!data) return undefined;
    let current = true;
    const vectors = conditionAt(data.loaded.y, data.times.t[index]);
    const title = `${name}, t = ${number(data.times.timesteps[index], 4)}`;
    compute("cosine", { vectors })
      .then((cosines) => {
        const range = cosineRange(cosines, vectors.count);
        const summary = new Pruner(vectors).summary(null);
        if (current) onMeasured({ title, names: data.loaded.names, vectors, cosines, range, summary });
      })
      .catch((problem) => current && setFailed(problem));
    return () => {
      current = false;
    };
  }, [data, index]);
  const names = measured?.names ?? [];
  return html`<${Card} title=${side === "a" ? "First" : "Second"} aside=${html`<a href=${href(`/ui/models/${encodeURIComponent(name)}`)}>explore ${name}</a>`}>
    <${Select}
      label="Model"
      options=${[...new Set([name, ...ready])].map((each) => ({ value: each, title: each }))}
      value=${name}
      onChange=${(/** @type {string} */ value) => {
        onMeasured(null);
        setQuery({ [side]: value, [`t${side}`]: null });
      }}
    />
    ${error && html`<${ProblemNotice} error=${error} retry=${reload} />`}
    ${failed && html`<${ProblemNotice} error=${failed} />`}
    ${data &&
    html`<${TimeField}
      timesteps=${data.times.timesteps}
      fraction=${data.times.fraction}
      index=${index}
      onChange=${(/** @type {number} */ to) => setQuery({ [`t${side}`]: data.times.timesteps[to] })}
    />`}
    ${measured && order.length === names.length
      ? html`<${Heatmap}
            values=${measured.cosines}
            count=${names.length}
            order=${order}
            low=${low}
            high=${1}
            pair=${pair && Math.max(...pair) < names.length ? pair : null}
            label=${`Cosines of ${names.length} classes of ${measured.title}, mean ${fixed(measured.range.mean, 4)}`}
            say=${(/** @type {number} */ i, /** @type {number} */ j, /** @type {number} */ value) => `${names[i]} · ${names[j]}: ${fixed(value, 4)}`}
            onPick=${(/** @type {number} */ i, /** @type {number} */ j) => {
              onPair([i, j]);
              announce(`${names[i]} and ${names[j]}: cosine ${fixed(measured.cosines[i * names.length + j], 4)}`);
            }}
          />
          <${Scale} low=${low} high=${1} />`
      : !error && !failed && html`<${Loading}>Computing cosines</${Loading}>`}
  </${Card}>`;
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
    ["Classes", (side) => side.vectors.count, 0],
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

/** @param {{a: Measured, b: Measured, query: URLSearchParams}} props */
function Magnitudes({ a, b, query }) {
  const most = Math.min(a.names.length, b.names.length) - 1;
  const row = Math.min(most, Math.max(0, Number.parseInt(query.get("class") ?? "0", 10) || 0));
  const [first, second] = useMemo(() => [a, b].map(({ vectors }) => Array.from(rowOf(vectors, row), Math.abs).sort((x, y) => y - x)), [a, b, row]);
  const wide = Math.max(first.length, second.length);
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
      label=${`Sorted |c| of class ${row}, the greatest first`}
      x=${Array.from({ length: wide }, (_, rank) => rank / (wide - 1 || 1))}
      series=${[
        { title: a.title, values: stretched(first, wide) },
        { title: b.title, values: stretched(second, wide), colour: "series-2" },
      ]}
      xAxis=${RANK_AXIS}
      yAxis=${SIZE_AXIS}
      height=${320}
    />
  </${Card}>`;
}

const RANK_AXIS = { title: "share of components, the greatest first", format: (/** @type {number} */ share) => percent(share, 0) };
const SIZE_AXIS = { title: "|c|", log: true, format: (/** @type {number} */ value) => number(value, 2) };

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
  </${Card}>`;
}

/** @param {{a: string, b: string}} props */
function Jobs({ a, b }) {
  return html`<div class="columns">
    <${JobCard} key=${a} id=${a} />
    <${JobCard} key=${b} id=${b} />
  </div>`;
}

/** @param {{id: string}} props */
function JobCard({ id }) {
  const { data: job, error, reload } = useLoaded((signal) => getJson(`/jobs/${encodeURIComponent(id)}`, { signal }), [id]);
  if (error) return html`<${ProblemNotice} error=${error} retry=${reload} />`;
  if (!job) return html`<${Loading}>Loading the job</${Loading}>`;
  const picture = job.links.artifacts[job.result?.grid ?? job.result?.samples ?? ""];
  /** @type {any[]} */
  const variants = job.result?.variants ?? [];
  return html`<${Card}
    title=${html`<a href=${href(`/ui/jobs/${id}`)}>${job.title || job.kind}</a>`}
    aside=${html`<${Status} status=${job.status} />`}
  >
    ${picture
      ? html`<img class="comparison" src=${picture} alt=${`Samples of ${job.title}, a row for each variant`} />`
      : html`<p class="muted">It has no pictures.</p>`}
    ${job.kind === "prune-sample" &&
    html`<${Table}
      caption=${`Variants of ${job.title}`}
      hideCaption
      columns=${["Variant", "Removed", "Drift", "PSNR", "SSIM"].map((title, place) => ({ title, number: place > 0 }))}
      rows=${variants.map(({ name, removed, drift }) => [
        name,
        percent(removed?.fraction),
        number(drift?.latent),
        fixed(drift?.psnr, 1),
        fixed(drift?.ssim, 3),
      ])}
    />`}
  </${Card}>`;
}
