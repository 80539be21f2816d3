/** Requests of one kind made of those of another, and a study's prunes as the form has them. */

import { inShort } from "../../lib/jobs.js";
import { RULES, ruleOf, valuesOf } from "../../lib/prunes.js";

const SAMPLED = [
  "labels", "conditions", "rows", "samples_per_label", "seed", "sampler", "steps", "guidance_scale",
  "guidance_interval", "guidance_power", "guided_channels", "modulation", "timestep_shift", "diffusion", "last_step", "precision",
];

/** What else a prune says. */
const BESIDE = ["side", "by", "of", "fill", "schedule", "blocks"];

/** The fields, besides its prunes, of a request of each kind. @type {Record<string, string[]>} */
const FIELDS = {
  "prune-sample": SAMPLED,
  edit: SAMPLED,
  study: SAMPLED,
  compact: ["labels", "conditions", "rows", "sampler", "steps", "timestep_shift"],
};

/**
 * What prunes of different kinds of requests have in common: a rule, of which lists are several prunes, and the rest.
 * @typedef {Record<string, any>} Common
 */

/**
 * The single prunes of fields whose rule may have several values.
 * @param {Common} prunes
 */
export function eachOf(prunes) {
  const rule = /** @type {string} */ (ruleOf(prunes));
  return valuesOf(prunes).map((value) => inShort({ [rule]: value, ...picked(prunes, BESIDE) }));
}

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
  if (kind === "prune-sample") return { ...given, ...prunes };
  if (kind === "edit") return { ...given, schedule: prunes.schedule };
  if (kind === "compact") return { ...given, ...compactable(prunes) };
  if (!isOfGrid(prunes)) return { ...given, prunes: prunes && ruleOf(prunes) ? eachOf(prunes) : undefined };
  const several = (/** @type {any} */ value) => (value === undefined ? undefined : [value]);
  const { threshold, remove_fraction, side, of, fill, schedule } = prunes;
  const grid = {
    thresholds: threshold, remove_fractions: remove_fraction,
    sides: several(side), of: several(of), fills: several(fill), schedules: several(schedule),
  };
  return { ...given, grid };
}

/**
 * The one prune of a compaction, which removes by a threshold on c, or keeps the components that vary most.
 * @param {Common} prunes
 */
function compactable({ threshold, keep, side, by, of, fill }) {
  if (keep && (by ?? "variance") === "variance") return { keep: keep[0], fill };
  return threshold && of !== "read" ? { threshold: threshold[0], side, fill } : {};
}

/**
 * The prunes of a request, as far as other kinds can have them.
 * @param {string} kind
 * @param {any} body
 * @returns {Common}
 */
export function prunesIn(kind, body) {
  if (kind === "study") return body.grid ? ofAxes(body.grid) : alike(body.prunes ?? []);
  const { by, keep, fill, ...rest } = picked(body, [...RULES, ...BESIDE]);
  const found = {
    ...rest,
    keep: by === "directions" ? undefined : keep,
    by: by === "directions" || by === "prediction" ? undefined : by, // which compactions alone have, as they have refit
    fill: fill === "refit" ? undefined : fill,
  };
  const rule = ruleOf(found);
  return rule && rule !== "threshold_by_step" ? { ...found, [rule]: valuesOf(found) } : found;
}

/**
 * The first way to prune of a grid.
 * @param {any} grid
 */
function ofAxes({ thresholds, remove_fractions, sides, of, fills, schedules }) {
  const rule = thresholds ? { threshold: thresholds } : { remove_fraction: remove_fractions };
  return { ...rule, side: sides?.[0], of: of?.[0], fill: fills?.[0], schedule: schedules?.[0] };
}

/**
 * Of a list of prunes, those that differ from the first in the value of its rule alone.
 * @param {any[]} prunes
 */
function alike(prunes) {
  const rule = prunes.length > 0 ? ruleOf(prunes[0]) : null;
  if (!rule) return {};
  const rest = picked(prunes[0], BESIDE);
  if (rule === "threshold_by_step") return { [rule]: prunes[0][rule], ...rest };
  const same = prunes.filter((each) => ruleOf(each) === rule && JSON.stringify(picked(each, BESIDE)) === JSON.stringify(rest));
  return { [rule]: same.map((each) => each[rule]), ...rest };
}

/**
 * Whether a grid can have a prune.
 * @param {any} prune
 */
function isOfGrid(prune) {
  const rule = ruleOf(prune);
  return (rule === "threshold" || rule === "remove_fraction") && !prune.blocks;
}

/**
 * Some fields of an object.
 * @param {any} object
 * @param {string[]} names
 * @returns {Record<string, any>}
 */
function picked(object, names) {
  return Object.fromEntries(names.map((name) => [name, object[name]]));
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
  const others = all.filter((each) => !isOfGrid(each));
  const gridded = all.filter(isOfGrid);
  const found = gridded.length > 1 || others.length === 0 ? gridOf(gridded) : null;
  const left = found ? others : all;
  return { ...rest, ...(found && { grid: found }), ...(left.length > 0 && { prunes: left }) };
}

/** @param {any} grid */
function ofGrid({ thresholds = [], remove_fractions = [], sides = ["tail"], of = ["c"], fills = ["zero"], schedules = [undefined] }) {
  const rules = [
    ...thresholds.map((/** @type {number} */ threshold) => ({ threshold })),
    ...remove_fractions.map((/** @type {number} */ share) => ({ remove_fraction: share })),
  ];
  return sides.flatMap((/** @type {string} */ side) =>
    of.flatMap((/** @type {string} */ each) =>
      fills.flatMap((/** @type {string} */ fill) =>
        schedules.flatMap((/** @type {any} */ schedule) =>
          rules.map((/** @type {any} */ rule) => ({ ...rule, side, of: each, fill, schedule })),
        ),
      ),
    ),
  );
}

/** The axes of a grid besides its thresholds and shares: the name of each, and what a prune has by default. */
const AXES = /** @type {[string, string, any][]} */ ([
  ["sides", "side", "tail"],
  ["of", "of", "c"],
  ["fills", "fill", "zero"],
  ["schedules", "schedule", { when: "every" }],
]);

/**
 * The grid of which prunes are all combinations; null if they are of none.
 * @param {any[]} prunes
 */
function gridOf(prunes) {
  const thresholds = distinct(prunes.map(({ threshold }) => threshold ?? null)).filter((each) => each !== null);
  const shares = distinct(prunes.map((each) => each.remove_fraction ?? null)).filter((each) => each !== null);
  const axes = AXES.map(([name, field, usual]) => ({ name, usual, values: distinct(prunes.map((each) => each[field] ?? usual)) }));
  const of = (/** @type {any} */ prune) => [prune.threshold ?? null, prune.remove_fraction ?? null, ...AXES.map(([, field, usual]) => prune[field] ?? usual)];
  const combinations = axes.reduce((product, { values }) => product * values.length, thresholds.length + shares.length);
  if (prunes.length === 0 || distinct(prunes.map(of)).length !== combinations) return null;
  const unusual = axes.filter(({ values, usual }) => JSON.stringify(values) !== JSON.stringify([usual]));
  return {
    ...(thresholds.length > 0 && { thresholds }),
    ...(shares.length > 0 && { remove_fractions: shares }),
    ...Object.fromEntries(unusual.map(({ name, values }) => [name, values])),
  };
}

/**
 * Values as they are in JSON, each once.
 * @param {any[]} values
 * @returns {any[]}
 */
function distinct(values) {
  return [...new Set(values.map((each) => JSON.stringify(each)))].map((text) => JSON.parse(text));
}
