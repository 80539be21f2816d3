/** The condition vectors of a model: y of every class and t of many times, read once; the rest is computed here. */

import { getJson, tensors, url } from "./api.js";
import { href } from "./router.js";

/** @typedef {import("./contract").components["schemas"]["ModelView"]} ModelView */
/** @typedef {import("../widget/statistics.js").Vectors} Vectors */

/**
 * @typedef {object} Loaded
 * @property {ModelView} model
 * @property {Vectors} y
 * @property {string | null} conditions the uploaded conditions that the rows are of; null where they are classes
 * @property {number[]} numbers of the rows: of classes, or of rows of the conditions
 * @property {string[]} names of the rows
 * @property {number} timestep the time of `t`
 * @property {Float32Array} t
 */

/**
 * @typedef {object} Times
 * @property {number[]} timesteps in the order of sampling
 * @property {number[]} fraction how much of sampling is done at each
 * @property {Float32Array[]} t
 * @property {number} extra the place of a time that is not one of the even steps; -1 if there is none
 */

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
    names: numbers.map((label) => (file.labels ? (model.class_names[label] ?? `class ${label}`) : `condition ${label}`)),
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
  const { first, last, whole } = model.times;
  const even = Array.from({ length: POINTS }, (_, point) => {
    const time = first + ((last - first) * point) / (POINTS - 1);
    return whole ? Math.round(time) : Number(time.toFixed(6));
  });
  const timesteps = [...new Set([...even, timestep])].sort((a, b) => (first < last ? a - b : b - a));
  const file = await tensors(address(name, { part: "t", timestep: timesteps }), signal && { signal });
  const data = /** @type {Float32Array} */ (file.t.data);
  return {
    timesteps,
    fraction: timesteps.map((time) => (time - first) / (last - first)),
    extra: even.includes(timestep) ? -1 : timesteps.indexOf(timestep),
    t: timesteps.map((_, point) => data.subarray(point * y.dim, (point + 1) * y.dim)),
  };
}

/**
 * @param {string} name
 * @param {Record<string, unknown>} query
 */
function address(name, query) {
  return url(href(`/metrics/${encodeURIComponent(name)}/vectors`, query));
}
