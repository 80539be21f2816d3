/** The models: a card each, with what it measures, or with what is missing and how to get it. */

import { html, useEffect, useMemo, useRef, useState } from "../lib/preact.js";
import { href, setQuery } from "../lib/router.js";
import { computed, getJson, tensors, url } from "../lib/api.js";
import { useLoaded } from "../lib/load.js";
import { count, fixed, number } from "../lib/format.js";
import { Badge, Button, Card, Loading, Missing, PageHead, ProblemNotice, Segmented, Stats } from "../lib/parts.js";
import { colour, colours } from "../lib/theme.js";
import { sharpContext } from "../widget/colours.js";
import { AnatomyTable } from "./job/statistics.js";

/** @typedef {import("../lib/contract").components["schemas"]["ModelSummary"]} ModelSummary */
/** @typedef {import("../lib/contract").components["schemas"]["TransformerSummary"]} TransformerSummary */

/** @param {{query: URLSearchParams}} props */
export default function Models({ query }) {
  const { data, error, reload } = useLoaded((signal) => getJson("/models", { signal }), []);
  const shown = query.get("show") ?? "all";
  const text = (query.get("find") ?? "").toLowerCase();
  /** @type {ModelSummary[]} */
  const models = data?.models ?? [];
  /** @type {TransformerSummary[]} */
  const transformers = data?.transformers ?? [];
  const isFound = (/** @type {ModelSummary | TransformerSummary} */ model, /** @type {string} */ family) =>
    (shown === "all" || model.ready === (shown === "ready")) &&
    [model.name, model.title, family].some((each) => each.toLowerCase().includes(text));
  const found = models.filter((model) => isFound(model, model.family));
  const foundTransformers = transformers.filter((model) => isFound(model, TRANSFORMER));
  const total = models.length + transformers.length;
  const ready = [...models, ...transformers].filter((model) => model.ready).length;
  return html`
    <${PageHead}
      title="Models"
      lead="How parallel the condition vectors of each model are, and how few of their components carry them."
    />
    ${error && html`<${ProblemNotice} error=${error} retry=${reload} />`}
    ${!data && !error && html`<${Loading}>Loading models</${Loading}>`}
    ${data &&
    html`<div class="stack">
      <div class="row row-end">
        <div class="field find">
          <label for="find">Find</label>
          <input
            id="find"
            type="search"
            placeholder="name or family"
            value=${query.get("find") ?? ""}
            onInput=${(/** @type {any} */ event) => setQuery({ find: event.target.value })}
          />
        </div>
        <${Segmented}
          label="Show"
          options=${[
            { value: "all", title: `all ${total}` },
            { value: "ready", title: `ready ${ready}` },
            { value: "missing", title: `missing ${total - ready}` },
          ]}
          value=${shown}
          onChange=${(/** @type {string} */ value) => setQuery({ show: value === "all" ? null : value })}
        />
      </div>
      <div class="grid">
        ${[true, false].map((ready) => [
          ...found
            .filter((model) => model.ready === ready)
            .map((model) => html`<${ModelCard} key=${model.name} model=${model} />`),
          ...foundTransformers
            .filter((model) => model.ready === ready)
            .map((model) => html`<${TransformerCard} key=${model.name} model=${model} />`),
        ])}
      </div>
      ${found.length + foundTransformers.length === 0 && html`<p class="empty" role="status">No model is called that.</p>`}
    </div>`}
  `;
}

/** @param {{model: ModelSummary}} props */
function ModelCard({ model }) {
  return html`<${Card}
    title=${html`<a href=${href(`/ui/models/${encodeURIComponent(model.name)}`)}>${model.name}</a>`}
    aside=${html`<${Badge} kind=${model.ready ? "good" : "warn"}>${model.ready ? "ready" : "missing"}</${Badge}>`}
    lead=${model.title}
  >
    <div class="row small">
      <${Badge} plain>${model.family}</${Badge}>
      ${model.size && html`<${Badge} plain>${model.size}</${Badge}>`}
      ${model.parameters !== null && html`<span class="muted number">${count(model.parameters)} parameters</span>`}
      ${model.compacted && html`<${Badge} plain>compacted from ${model.compacted.model}</${Badge}>`}
    </div>
    ${model.ready
      ? html`<${Measured} model=${model} />`
      : html`<details>
          <summary>What is missing, and how to get it</summary>
          <${Missing} model=${model} />
        </details>`}
  </${Card}>`;
}

const TRANSFORMER = "large transformer";

/**
 * A large transformer, whose anatomy is computed when it is asked for: it reads some thousand rows of its weights.
 * @param {{model: TransformerSummary}} props
 */
function TransformerCard({ model }) {
  const [asked, setAsked] = useState(false);
  const { data, error, loading, reload } = useLoaded(
    async (signal) => (asked ? computed(model.links.anatomy, { signal }) : null),
    [model.name, asked],
  );
  const busy = asked && loading;
  const ask = () => (asked ? reload() : setAsked(true));
  return html`<${Card}
    title=${model.name}
    aside=${html`<${Badge} kind=${model.ready ? "good" : "warn"}>${model.ready ? "ready" : "missing"}</${Badge}>`}
    lead=${model.title}
    class=${data ? "whole-row" : ""}
  >
    <div class="row small"><${Badge} plain>${TRANSFORMER}</${Badge}></div>
    ${!model.ready && html`<details>
      <summary>What is missing, and how to get it</summary>
      <${Missing} model=${model} />
    </details>`}
    ${error && !busy && html`<${ProblemNotice} error=${error} />`}
    ${data && html`<div class="columns">
      <div class="stack"><${AnatomyTable} result=${data} /></div>
      ${data.ranks && html`<div class="stack-small"><${Ranks} path=${model.links.rank} /></div>`}
    </div>`}
    ${busy && !data && html`<${Loading}>Measuring AdaLN</${Loading}>`}
    ${model.ready && html`<div class="row">
      <${Button} small aria-busy=${busy} aria-disabled=${busy ? "true" : undefined} onClick=${() => !busy && ask()}>
        ${error ? "Try again: anatomy" : "Anatomy"}<span class="sr-only"> of ${model.name}</span>
      </${Button}>
    </div>`}
    ${model.ready && html`<p class="small"><a href=${url(model.links.anatomy)}>Its anatomy as JSON</a></p>`}
  </${Card}>`;
}

/**
 * The figure of the errors by the rank. Its caption is with its numbers.
 * @param {{path: string}} props
 */
function Ranks({ path }) {
  const { data, error, reload } = useLoaded((signal) => computed(path, { signal, accept: "application/json" }), [path]);
  if (error) return html`<${ProblemNotice} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading}>Drawing the errors by the rank</${Loading}>`;
  return html`<img class="paper" src=${url(path)} alt=${data.caption} />
    <p class="small"><a href=${url(path)}>The errors by the rank, in full size</a></p>`;
}

/**
 * The statistics of a model, asked for once its card is seen.
 * @param {{model: ModelSummary}} props
 */
function Measured({ model }) {
  const takes = Object.keys(model.conditions ?? {});
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => entries.some((each) => each.isIntersecting) && setSeen(true));
    observer.observe(/** @type {HTMLElement} */ (box.current));
    return () => observer.disconnect();
  }, []);
  const { data, error } = useLoaded(
    async (signal) => {
      if (!seen || takes.length > 0) return null;
      const [statistics, file] = await Promise.all([
        computed(model.links.metrics, { signal }),
        tensors(url(href(`/metrics/${encodeURIComponent(model.name)}/vectors`, { label: 0 })), { signal }),
      ]);
      return { statistics, vector: file.c.data };
    },
    [model.name, seen],
  );
  return html`<div ref=${box} class="stack-small measured">
    ${takes.length > 0
      ? html`<p class="small muted">
          It takes ${takes.join(" and ")} in place of classes: its page measures uploaded conditions.
        </p>`
      : error
      ? html`<p class="small muted">${/** @type {Error} */ (error).message}</p>`
      : html`<${Sparkline} vector=${data?.vector} />
          <${Stats}
            small
            values=${[
              ["Classes", count(data?.statistics.count)],
              ["Width d", count(data?.statistics.dim)],
              ["nPR", fixed(data?.statistics.npr, 4)],
              ["Cosine", fixed(data?.statistics.cosine?.mean, 4)],
            ]}
          />`}
    <div class="row">
      <${Button} small href=${href(`/ui/models/${encodeURIComponent(model.name)}`)}>Explore<span class="sr-only"> ${model.name}</span></${Button}>
      <${Button} small kind="quiet" href=${href("/ui/new", { model: model.name })}>
        New job<span class="sr-only"> of ${model.name}</span>
      </${Button}>
    </div>
  </div>`;
}

const HEIGHT = 56;
const DECADES = 5;

/**
 * Sorted magnitudes of one class, on a logarithmic scale.
 * @param {{vector: ArrayLike<number> | undefined}} props
 */
function Sparkline({ vector }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const sizes = useMemo(() => vector && Float32Array.from(vector, Math.abs).sort().reverse(), [vector]);
  const theme = colours.value;
  useEffect(() => {
    const element = /** @type {HTMLCanvasElement} */ (canvas.current);
    const width = element.parentElement?.clientWidth ?? 0;
    const context = sharpContext(element, width, HEIGHT);
    if (!sizes) return;
    context.fillStyle = colour("kept");
    const step = width / sizes.length;
    sizes.forEach((size, rank) => {
      const high = HEIGHT * Math.min(1, Math.max(0.02, 1 + Math.log10(size / sizes[0]) / DECADES));
      context.fillRect(rank * step, HEIGHT - high, Math.max(0.7, step - (step > 2.5 ? 0.8 : 0)), high);
    });
  }, [sizes, theme]);
  const label =
    sizes &&
    `Sorted |c| of class 0: ${number(sizes[0])} the greatest, ${number(sizes[sizes.length >> 1])} in the middle, ` +
      `${number(sizes.at(-1))} the least, down over ${sizes.length} components`;
  return html`<canvas class="sparkline" ref=${canvas} role="img" aria-label=${label || "Sorted |c|, being read"}></canvas>`;
}
