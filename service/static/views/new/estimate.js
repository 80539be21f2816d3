/** How much work a request is, and how long it takes by how fast earlier jobs of the model were. */

import { getJson } from "../../lib/api.js";
import { ranFor } from "../../lib/jobs.js";
import { href } from "../../lib/router.js";
import { useLoaded } from "../../lib/load.js";
import { valuesOf } from "../../lib/prunes.js";
import { STRENGTHS } from "./edit.js";

const LOOKED_AT = 3;
/** How often a sampler evaluates the network in a step, other than once; null where it chooses that itself. */
const EVALUATIONS = /** @type {Record<string, number | null>} */ ({ heun: 2, dopri5: null });

/**
 * @typedef {object} Estimate
 * @property {number | null} samples over all prunes; null of a compaction, which makes none
 * @property {number} steps
 * @property {number | null} seconds null if no earlier job says it
 * @property {number} jobs how many earlier jobs say it
 * @property {string} of what these were
 * @property {boolean} scored whether scoring is part of `seconds`, of a study
 */

/**
 * @param {string} kind
 * @param {any} model
 * @param {any} request
 * @param {number | null} subjects how many classes or conditions
 * @returns {Estimate | null} null if it cannot be told
 */
export function useEstimate(kind, model, request, subjects) {
  const { data: earlier } = useLoaded((signal) => earlierOf(kind, model, signal), [kind, model.name]);
  if (!earlier) return null;
  const steps = request.steps ?? model.defaults.steps;
  if (kind === "compact") {
    const spent = earlier.map(({ view }) => ranFor(view)).filter((seconds) => seconds !== null);
    return { samples: null, steps, seconds: median(spent), jobs: spent.length, of: "compaction", scored: true };
  }
  const samples = subjects === null ? 0 : subjects * variantsOf(kind, request) * perSubject(model, request);
  if (!(samples > 0 && steps > 0)) return null;
  const asked = workOf(model, request);
  const alike = earlier
    .map((each) => ({ ...each, work: workOf(model, each.view.request) }))
    .filter(({ work }) => work.guided === asked.guided && (asked.each === null ? work.sampler === asked.sampler : work.each !== null));
  const studies = alike.filter(({ view }) => view.kind === "study");
  const used = kind === "study" && studies.length > 0 ? studies : alike.filter(({ view }) => view.kind !== "study");
  const rates = used.map(({ view, work }) => samplesASecond(view) * view.request.steps * (work.each ?? 1));
  const rate = median(rates.filter((each) => each > 0));
  const seconds = rate === null ? null : (samples * steps * (asked.each ?? 1)) / rate;
  return {
    samples, steps, seconds, jobs: rates.length,
    of: used === studies && used.length > 0 ? "study" : "job",
    scored: kind !== "study" || used === studies,
  };
}

/**
 * How many samples of each class or condition, by each prune.
 * @param {any} model
 * @param {any} request
 */
export function perSubject(model, request) {
  return request.samples_per_label ?? model.defaults.samples_per_label;
}

/**
 * How many prunes a request has, with the unpruned; how many strengths an edit has.
 * @param {string} kind
 * @param {any} request
 */
function variantsOf(kind, request) {
  if (kind === "study") return samplesNothing(request) ? 0 : 1 + prunesOf(request);
  if (kind === "edit") return [request.strength ?? STRENGTHS].flat().length;
  return valuesOf(request).length + (request.compare === false ? 0 : 1);
}

/**
 * Whether a study is a search by modulation error alone.
 * @param {any} request
 */
function samplesNothing(request) {
  return request.search?.measure === "modulation-error" && prunesOf(request) === 0;
}

/**
 * How many prunes a study samples.
 * @param {any} request
 */
export function prunesOf({ prunes, grid, search }) {
  const { thresholds = [], remove_fractions = [], sides = ["tail"], of = ["c"], schedules = [1], fills = ["zero"] } = grid ?? {};
  const rules = thresholds.length + remove_fractions.length;
  const combinations = rules * sides.length * of.length * schedules.length * fills.length;
  return (prunes ?? []).length + combinations + (search && search.measure !== "modulation-error" ? (search.trials ?? 7) : 0);
}

/**
 * What a step of a sample costs, besides the model: evaluations of the network, which guidance doubles.
 * @param {any} model
 * @param {any} request
 */
function workOf({ defaults }, request) {
  const sampler = request.sampler ?? defaults.sampler;
  const each = sampler in EVALUATIONS ? EVALUATIONS[sampler] : 1;
  return { sampler, each, guided: (request.guidance_scale ?? defaults.guidance_scale) > 1 };
}

/**
 * How many samples a job made in a second; a study with its scoring.
 * @param {any} view
 */
function samplesASecond(view) {
  if (view.kind !== "study") return view.result.timing.samples_per_second;
  const samples = view.result.variants.reduce((/** @type {number} */ sum, /** @type {any} */ each) => sum + each.samples, 0);
  return samples / (ranFor(view) || Infinity);
}

/** @param {number[]} values */
function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? null;
}

/**
 * The latest jobs of a model that say how long one of this kind takes.
 * @param {string} kind
 * @param {any} model
 * @param {AbortSignal} signal
 * @returns {Promise<{view: any}[]>}
 */
async function earlierOf(kind, model, signal) {
  const kinds = kind === "study" || kind === "edit" ? [kind, "prune-sample"] : [kind];
  const pages = await Promise.all(
    kinds.map((each) =>
      getJson(href("/jobs", { model: model.name, kind: each, status: "succeeded", limit: LOOKED_AT }), { signal }),
    ),
  );
  const views = await Promise.all(
    pages.flatMap(({ jobs }) =>
      jobs.map((/** @type {any} */ job) => getJson(`/jobs/${job.id}`, { signal }).catch(() => null)), // it may be gone
    ),
  );
  return views.filter((view) => view?.result).map((view) => ({ view }));
}
