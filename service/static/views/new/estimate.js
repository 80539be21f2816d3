/** How long a job takes, by how fast earlier jobs of the model were. */

import { getJson } from "../../lib/api.js";
import { href } from "../../lib/router.js";
import { useLoaded } from "../../lib/load.js";

const LOOKED_AT = 3;

/**
 * @param {string} kind
 * @param {any} model
 * @param {any} request
 * @returns {{samples: number, steps: number, seconds: number | null, jobs: number} | null} null if it cannot be told
 */
export function useEstimate(kind, model, request) {
  const { data: rates } = useLoaded((signal) => ratesOf(model.name, signal), [model.name]);
  if (kind === "compact" || !rates) return null;
  const { samples, steps } = workOf(kind, model, request);
  if (!(samples > 0 && steps > 0)) return null;
  const guided = (request.guidance_scale ?? model.defaults.guidance_scale) > 1;
  const alike = rates.filter((each) => each.guided === guided);
  if (alike.length === 0) return { samples, steps, seconds: null, jobs: 0 };
  const rate = alike.map((each) => each.rate).sort((a, b) => a - b)[Math.floor(alike.length / 2)] ?? NaN;
  return { samples, steps, seconds: (samples * steps) / rate, jobs: alike.length };
}

/**
 * How many samples a request makes, over all prunes, and of how many steps.
 * @param {string} kind
 * @param {any} model
 * @param {any} request
 */
export function workOf(kind, model, request) {
  const every = kind === "study" ? model.classes : model.defaults.labels?.length;
  const subjects = request.rows?.length ?? request.labels?.length ?? every ?? 1;
  const each = request.samples_per_label ?? model.defaults.samples_per_label;
  const steps = request.steps ?? model.defaults.steps;
  if (kind === "study") return { samples: subjects * each * (1 + prunesOf(request)), steps };
  const prunes = [request.threshold ?? request.keep ?? []].flat().length;
  return { samples: subjects * each * (prunes + (request.compare === false ? 0 : 1)), steps };
}

/** @param {any} request */
function prunesOf({ prunes = [], grid, search }) {
  const grids = [grid ?? []].flat();
  const combinations = grids.map(
    ({ thresholds = [], sides = ["tail"], schedules = [1], fills = ["zero"] }) =>
      thresholds.length * sides.length * schedules.length * fills.length,
  );
  return (
    (prunes ?? []).length + combinations.reduce((sum, each) => sum + each, 0) + (search ? (search.trials ?? 7) : 0)
  );
}

/**
 * Steps of one sample a second, in the latest jobs of a model.
 * @param {string} name
 * @param {AbortSignal} signal
 */
async function ratesOf(name, signal) {
  const query = { model: name, kind: "prune-sample", status: "succeeded", limit: LOOKED_AT };
  const { jobs } = await getJson(href("/jobs", query), { signal });
  const views = await Promise.all(
    jobs.map((/** @type {any} */ job) => getJson(`/jobs/${job.id}`, { signal }).catch(() => null)), // it may be gone
  );
  return views
    .filter((view) => view?.result)
    .map(({ request, result }) => ({
      rate: result.timing.samples_per_second * request.steps,
      guided: request.guidance_scale > 1,
    }));
}
