/** The condition vectors of a model: y of every class and t of many times, read once; the rest is computed here. */

import { computed, getJson, tensors, url } from "./api.js";
import { toldApart } from "./format.js";
import { href } from "./router.js";

/** @typedef {import("./contract").components["schemas"]["ModelView"]} ModelView */
/** @typedef {import("../widget/statistics.js").Vectors} Vectors */

/**
 * @typedef {object} Loaded
 * @property {ModelView} model
 * @property {Vectors} y
 * @property {string | null} conditions the uploaded conditions that the rows are of; null where they are classes
 * @property {number[]} numbers of the rows: of classes, or of rows of the conditions
 * @property {string[]} names of the rows, no two of them alike
 * @property {number} timestep the time of `t`
 * @property {Float32Array} t
 */

/**
 * @typedef {object} Times
 * @property {number[]} timesteps in the order of sampling
 * @property {number[]} fraction how much of sampling is done at each
 * @property {Float32Array[]} t
 */

/** @typedef {{name: string, timesteps: number[]}} Run the times of the steps of a sampler, and what they are in words */

const POINTS = 51;

/**
 * A model's vectors at one time: where sampling starts, or at `timestep`. Raises Problem.
 * @param {string} name
 * @param {{timestep?: number | null, conditions?: string | null, onJob?: (job: any) => void, signal?: AbortSignal}} options
 * @returns {Promise<Loaded>}
 */
export async function loadVectors(name, { timestep, conditions, ...options }) {
  const query = { part: ["y", "t"], timestep, conditions };
  const [model, file] = await Promise.all([
    getJson(`/models/${encodeURIComponent(name)}`, options.signal && { signal: options.signal }),
    tensors(address(name, query), options),
  ]);
  const [count = 0, dim = 0] = file.y.shape;
  const numbers = Array.from(/** @type {BigInt64Array} */ ((file.labels ?? file.conditions).data), Number);
  return {
    model,
    y: { data: /** @type {Float32Array} */ (file.y.data), count, dim },
    conditions: file.labels ? null : (conditions ?? null),
    numbers,
    names: toldApart(
      numbers.map((label) => (file.labels ? (model.class_names[label] ?? `class ${label}`) : `condition ${label}`)),
      numbers,
    ),
    timestep: timestep ?? Number(Number(file.timesteps.data[0]).toPrecision(6)), // the file has it as float32
    t: /** @type {Float32Array} */ (file.t.data),
  };
}

/**
 * The part t at even steps over all of sampling, and at the time that is shown. Raises Problem.
 * @param {string} name
 * @param {Loaded} loaded
 * @param {AbortSignal} [signal]
 * @returns {Promise<Times>}
 */
export async function loadTimes(name, { model, timestep, y }, signal) {
  const { first, last } = model.times;
  const even = evenTimes(model);
  const timesteps = [...new Set([...even, timestep])].sort((a, b) => (first < last ? a - b : b - a));
  const file = await tensors(address(name, { part: "t", timestep: timesteps }), signal && { signal });
  const data = /** @type {Float32Array} */ (file.t.data);
  return {
    timesteps,
    fraction: timesteps.map((time) => (time - first) / (last - first)),
    t: timesteps.map((_, point) => data.subarray(point * y.dim, (point + 1) * y.dim)),
  };
}

/** @param {ModelView} model */
function evenTimes({ times: { first, last, whole } }) {
  return Array.from({ length: POINTS }, (_, point) => {
    const time = first + ((last - first) * point) / (POINTS - 1);
    return whole ? Math.round(time) : Number(time.toFixed(6));
  });
}

/**
 * The steps of a run by the model's defaults: its sampler may take more of them at one end. Raises Problem.
 * @param {string} name
 * @param {Loaded} loaded
 * @param {AbortSignal} [signal]
 * @returns {Promise<Run>}
 */
export async function loadRun(name, { conditions, numbers, model }, signal) {
  if (model.compacted) return { name: `${POINTS} even times`, timesteps: evenTimes(model) }; // some cannot be pruned again
  const one = conditions === null ? { label: numbers[0] } : { conditions, row: numbers[0] }; // the steps are those of all
  const path = href(`/metrics/${encodeURIComponent(name)}/removal`, { threshold: 0, ...one });
  const { sampler, timesteps } = await computed(url(path), signal && { signal });
  return { name: `the ${timesteps.length} steps of ${sampler}`, timesteps };
}

/**
 * @param {string} name
 * @param {Record<string, unknown>} query
 */
function address(name, query) {
  return url(href(`/metrics/${encodeURIComponent(name)}/vectors`, query));
}
