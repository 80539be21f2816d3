/** Requests of one kind made of those of another, and a study's prunes as the form has them. */

const SAMPLED = [
  "labels", "conditions", "rows", "samples_per_label", "seed", "sampler", "steps", "guidance_scale",
  "guidance_interval", "guidance_power", "guided_channels", "timestep_shift", "diffusion", "last_step", "precision",
];

/** The fields, besides its prunes, of a request of each kind. @type {Record<string, string[]>} */
const FIELDS = {
  "prune-sample": SAMPLED,
  study: SAMPLED,
  compact: ["labels", "conditions", "rows", "sampler", "steps", "timestep_shift"],
};

/**
 * What prunes of different kinds of requests have in common.
 * @typedef {{threshold?: number[], keep?: number[], side?: string, fill?: string, schedule?: any}} Common
 */

/**
 * The fields of a request that others kinds may take; those of another kind, that it has not, stay as they were.
 * @param {Record<string, unknown>} before
 * @param {string} kind
 * @param {Record<string, unknown>} body
 */
export function remembered(before, kind, body) {
  return { ...before, ...Object.fromEntries(FIELDS[kind].map((name) => [name, body[name]])) };
}

/**
 * A request of a kind, of the fields that were remembered and of prunes.
 * @param {string} kind
 * @param {Record<string, any>} fields
 * @param {Common} prunes
 */
export function requestWith(kind, fields, prunes) {
  const given = Object.fromEntries(FIELDS[kind].map((name) => [name, fields[name]]));
  if (kind === "study" && given.precision === "auto") delete given.precision; // each worker would choose for itself
  if (kind === "compact" && given.sampler === "dopri5") delete given.sampler; // it chooses its times
  const { threshold, keep, side, fill, schedule } = prunes;
  if (kind === "prune-sample") return { ...given, threshold, keep, side, fill, schedule };
  if (kind === "compact") return { ...given, threshold: threshold?.[0], keep: keep?.[0], side, fill };
  const several = (/** @type {any} */ value) => (value === undefined ? undefined : [value]);
  return {
    ...given,
    grid: threshold && { thresholds: threshold, sides: several(side), fills: several(fill), schedules: several(schedule) },
    prunes: keep?.map((count) => ({ keep: count, fill, schedule })),
  };
}

/**
 * The prunes of a request, as far as other kinds can have them.
 * @param {string} kind
 * @param {any} body
 * @returns {Common}
 */
export function prunesIn(kind, body) {
  if (kind !== "study") {
    const { threshold, keep, side, fill, schedule, by } = body;
    const kept = by === "directions" ? undefined : keep;
    return { threshold: listOf(threshold), keep: listOf(kept), side, fill, schedule };
  }
  if (body.grid) {
    const { thresholds, sides, fills, schedules } = body.grid;
    return { threshold: thresholds, side: sides?.[0], fill: fills?.[0], schedule: schedules?.[0] };
  }
  const kept = (body.prunes ?? []).filter((/** @type {any} */ each) => each.keep !== undefined);
  if (kept.length === 0) return {};
  return { keep: kept.map((/** @type {any} */ each) => each.keep), fill: kept[0].fill, schedule: kept[0].schedule };
}

/** @param {number | number[] | undefined} value */
function listOf(value) {
  return value === undefined ? undefined : [value].flat();
}

/**
 * A study's request as its form has it: with one grid, and besides it prunes that are no grid.
 * @param {any} request
 */
export function withOneGrid(request) {
  const { grid, prunes, ...rest } = request;
  const several = Array.isArray(grid) ? grid : [];
  if (several.length === 0 && grid) return request;
  const all = [...(prunes ?? []), ...several.flatMap(ofGrid)];
  if (all.length === 0) return rest;
  const found = gridOf(all);
  return found ? { ...rest, grid: found } : { ...rest, prunes: all };
}

/** @param {any} grid */
function ofGrid({ thresholds, sides = ["tail"], fills = ["zero"], schedules = [undefined] }) {
  return sides.flatMap((/** @type {string} */ side) =>
    fills.flatMap((/** @type {string} */ fill) =>
      schedules.flatMap((/** @type {any} */ schedule) =>
        thresholds.map((/** @type {number} */ threshold) => ({ threshold, side, fill, schedule })),
      ),
    ),
  );
}

/**
 * The grid of which prunes are all combinations; null if they are of none.
 * @param {any[]} prunes
 */
function gridOf(prunes) {
  if (prunes.some(({ threshold }) => threshold === undefined)) return null;
  const thresholds = distinct(prunes, ({ threshold }) => threshold);
  const sides = distinct(prunes, ({ side }) => side ?? "tail");
  const fills = distinct(prunes, ({ fill }) => fill ?? "zero");
  const schedules = distinct(prunes, ({ schedule }) => JSON.stringify(schedule ?? EVERY)).map((text) => JSON.parse(text));
  const all = distinct(prunes, (each) =>
    JSON.stringify([each.threshold, each.side ?? "tail", each.fill ?? "zero", each.schedule ?? EVERY]),
  );
  if (all.length !== thresholds.length * sides.length * fills.length * schedules.length) return null;
  const unless = (/** @type {any[]} */ values, /** @type {string} */ usual) =>
    JSON.stringify(values) === usual ? undefined : values;
  return {
    thresholds,
    sides: unless(sides, '["tail"]'),
    fills: unless(fills, '["zero"]'),
    schedules: unless(schedules, JSON.stringify([EVERY])),
  };
}

const EVERY = { when: "every" };

/**
 * @template T
 * @param {any[]} values
 * @param {(value: any) => T} of
 */
function distinct(values, of) {
  return [...new Set(values.map(of))];
}
