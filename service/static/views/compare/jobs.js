/** Two jobs: their samples with the difference of their pictures, or the scores of two studies on the same axes. */

import { html, useState } from "../../lib/preact.js";
import { href, setQuery } from "../../lib/router.js";
import { getJson, url } from "../../lib/api.js";
import { useLoaded } from "../../lib/load.js";
import { ago, fixed, number, percent } from "../../lib/format.js";
import { Card, Loading, Notice, ProblemNotice, Select, SliderField, Status, Table } from "../../lib/parts.js";
import { Difference } from "../job/difference.js";
import { Studies } from "./studies.js";

/**
 * @typedef {import("../../lib/api.js").Schemas["Variant"]} Variant
 * @typedef {import("../../lib/api.js").Schemas["Image"]} Image
 */

const KINDS = ["prune-sample", "study"];
const LISTED = 100;
const FEW = 24;

/** @param {{a: string | null, b: string | null, query: URLSearchParams}} props */
export function Jobs({ a, b, query }) {
  const listed = useLoaded(
    (signal) =>
      Promise.all(KINDS.map((kind) => getJson(href("/jobs", { kind, status: "succeeded", limit: LISTED }), { signal }))),
    [],
  );
  const first = useJobOf(a);
  const second = useJobOf(b);
  /** @type {any[]} */
  const jobs = (listed.data ?? []).flatMap((page) => page.jobs);
  const [one, other] = [first.data, second.data];
  const kinds = new Set([one, other].filter(Boolean).map(({ kind }) => kind));
  return html`
    ${listed.error && html`<${ProblemNotice} error=${listed.error} retry=${listed.reload} />`}
    <${Card} title="What is compared">
      <div class="pair">
        <${Choice} label="First job" side="a" id=${a} jobs=${jobs} loaded=${one} />
        <${Choice} label="Second job" side="b" id=${b} jobs=${one ? jobs.filter(({ kind }) => kind === one.kind) : jobs} loaded=${other} />
      </div>
      ${listed.data && jobs.length === 0 && html`<p class="muted">No job has made samples, and no study has scores, yet.</p>`}
    </${Card}>
    ${[first, second].map(({ error, reload }) => error && html`<${ProblemNotice} error=${error} retry=${reload} />`)}
    ${a && b && (!one || !other) && !first.error && !second.error && html`<${Loading}>Loading the jobs</${Loading}>`}
    ${kinds.size > 1
      ? html`<${Notice} kind="warn" title="Samples and a study">Two jobs that sample can be compared, or two studies.</${Notice}>`
      : one && other && (one.kind === "study"
        ? html`<${Studies} a=${one} b=${other} query=${query} />`
        : html`<${Samples} a=${one} b=${other} query=${query} />`)}
  `;
}

/** @param {string | null} id */
function useJobOf(id) {
  return useLoaded((signal) => (id ? getJson(`/jobs/${encodeURIComponent(id)}`, { signal }) : Promise.resolve(null)), [id]);
}

/**
 * @param {{label: string, side: string, id: string | null, jobs: any[], loaded: any}} props
 */
function Choice({ label, side, id, jobs, loaded }) {
  const known = jobs.some((job) => job.id === id);
  return html`<${Select}
    label=${label}
    value=${id ?? ""}
    options=${[
      ...(id ? [] : [{ value: "", title: "choose" }]),
      ...(id && !known ? [{ value: id, title: loaded ? described(loaded) : id }] : []),
      ...jobs.map((job) => ({ value: job.id, title: described(job) })),
    ]}
    onChange=${(/** @type {string} */ given) => setQuery({ what: "jobs", [side]: given, [`v${side}`]: null })}
  />`;
}

/** @param {any} job */
function described({ title, kind, created }) {
  return `${title || kind}, ${ago(created)}`;
}

/** @param {{a: any, b: any, query: URLSearchParams}} props */
function Samples({ a, b, query }) {
  return html`<div class="columns">
      <${JobCard} job=${a} place="First" />
      <${JobCard} job=${b} place="Second" />
    </div>
    <${Pictures} a=${a} b=${b} query=${query} />`;
}

/** @param {{job: any, place: string}} props */
function JobCard({ job, place }) {
  const picture = job.links.artifacts[job.result?.grid ?? ""];
  /** @type {Variant[]} */
  const variants = job.result?.variants ?? [];
  return html`<${Card}
    title=${html`${place}: <a href=${href(`/ui/jobs/${job.id}`)}>${job.title || job.kind}</a>`}
    aside=${html`<${Status} status=${job.status} />`}
  >
    ${picture
      ? html`<img class="comparison" src=${url(picture)} alt=${`Samples of ${job.title}, a row for each variant`} />`
      : html`<p class="muted">It has no pictures.</p>`}
    ${variants.length > 0 && html`<${Table}
      caption=${`Variants of ${job.title}`}
      hideCaption
      columns=${["Variant", "Removed", "Drift", "PSNR", "SSIM"].map((title, index) => ({ title, number: index > 0 }))}
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

/** @param {{a: any, b: any, query: URLSearchParams}} props */
function Pictures({ a, b, query }) {
  const [gain, setGain] = useState(4);
  if (!a.result || !b.result) return null;
  const faults = unlike(a.request, b.request);
  const sides = [
    { side: "va", label: "Prune of the first", job: a },
    { side: "vb", label: "Prune of the second", job: b },
  ].map((each) => ({ ...each, variant: variantOf(each.job, query.get(each.side)) }));
  const [first, second] = sides;
  return html`<${Card}
    title="Difference of the pictures"
    lead="The first, the second, and how far each channel is apart, multiplied. Both began with the same noise."
  >
    ${faults.length > 0
      ? html`<${Notice} kind="warn" title="Their pictures cannot be subtracted">
          <p>Samples are of the same noise only where the seed and what is sampled are the same. These have:</p>
          <ul>${faults.map((fault) => html`<li>${fault}</li>`)}</ul>
        </${Notice}>`
      : html`<div class="pair">
            ${sides.map(
              ({ side, label, job, variant }) => html`<${Select}
                label=${label}
                value=${variant.name}
                options=${job.result.variants.map((/** @type {Variant} */ each) => ({ value: each.name, title: each.name }))}
                onChange=${(/** @type {string} */ name) => setQuery({ [side]: name })}
              />`,
            )}
          </div>
          <${SliderField} label="Differences multiplied by" value=${gain} min=${1} max=${32} step=${1} onChange=${setGain} />
          <ul class="gallery gallery-compared">
            ${first.variant.images.slice(0, FEW).map((/** @type {Image} */ image, /** @type {number} */ place) => {
              const [before, after] = sides.map(({ job, variant }) => url(job.links.artifacts[variant.images[place].artifact]));
              const caption = captionOf(image);
              return html`<li key=${caption}>
                <figure>
                  <div class="compared">
                    <span><img src=${before} alt=${`${caption}, first`} /></span>
                    <span><img src=${after} alt=${`${caption}, second`} /></span>
                    <span><${Difference} caption=${caption} before=${before} after=${after} gain=${gain} /></span>
                  </div>
                  <figcaption>${caption}</figcaption>
                </figure>
              </li>`;
            })}
          </ul>
          ${second.variant.images.length > FEW && html`<p class="small muted">The first ${FEW} of ${second.variant.images.length}.</p>`}`}
  </${Card}>`;
}

/**
 * The variant of this name, or the first prune.
 * @param {any} job
 * @param {string | null} name
 * @returns {Variant}
 */
function variantOf(job, name) {
  /** @type {Variant[]} */
  const variants = job.result.variants;
  return variants.find((each) => each.name === name) ?? variants.find((each) => each.prune) ?? variants[0];
}

/**
 * In what two requests differ, of that on which the noise of their samples depends.
 * @param {any} one
 * @param {any} other
 */
function unlike(one, other) {
  const subjects = one.conditions || other.conditions ? ["conditions", "rows"] : ["labels"];
  return ["seed", ...subjects, "samples_per_label"]
    .filter((field) => String(one[field]) !== String(other[field]))
    .map((field) => `${field.replaceAll("_", " ")}: ${shortly(one[field])} and ${shortly(other[field])}`);
}

/** @param {unknown} value */
function shortly(value) {
  const text = Array.isArray(value) ? value.join(", ") : String(value ?? "none");
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

/** @param {Image} image */
function captionOf({ label, class_name: name, condition, sample }) {
  const what = name ?? (label === null ? `condition ${condition}` : `class ${label}`);
  return sample > 0 ? `${what}, sample ${sample + 1}` : what;
}
