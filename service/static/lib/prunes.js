/** Prunes as requests and results have them: their rule, and what they are called. */

/** The fields that say what is removed: a prune has one of them. */
export const RULES = ["threshold", "threshold_by_step", "remove_fraction", "keep", "keep_fraction"];

/**
 * The field that says what a prune removes; null for none.
 * @param {any} prune
 * @returns {string | null}
 */
export function ruleOf(prune) {
  return RULES.find((name) => prune[name] !== undefined && prune[name] !== null) ?? null;
}

/**
 * The values of a prune's rule, each of which makes a prune.
 * @param {any} prune
 * @returns {any[]}
 */
export function valuesOf(prune) {
  const rule = ruleOf(prune);
  if (!rule) return [];
  return rule === "threshold_by_step" ? [prune[rule]] : [prune[rule]].flat();
}

/**
 * A prune in words, as its variant is called.
 * @param {any} prune
 */
export function nameOf(prune) {
  const { threshold, threshold_by_step, remove_fraction, keep, keep_fraction, side = "tail", by = "variance", of, fill, schedule, blocks } = prune;
  const keeps = keep !== undefined || keep_fraction !== undefined;
  const given = (threshold_by_step ?? []).filter((/** @type {number | null} */ each) => each !== null);
  const rule = keeps
    ? `keep ${keep ?? keep_fraction}${by === "variance" ? "" : ` by ${by}`}`
    : remove_fraction !== undefined
      ? `remove ${remove_fraction}${side === "head" ? " of the head" : ""}`
      : `${side} ${threshold ?? `${Math.min(...given)} to ${Math.max(...given)} by step`}`;
  const read = of === "read" && (!keeps || by === "magnitude") ? " of SiLU(c)" : "";
  const unusual = fill && fill !== (keeps ? "mean" : "zero") ? fill : null;
  return [rule + read, inSteps(schedule), inBlocks(blocks), unusual].filter(Boolean).join(", ");
}

/** @param {any} schedule */
function inSteps(schedule) {
  if (!schedule || schedule.when === "every") return null;
  if (schedule.steps) return `steps ${inRuns(schedule.steps)}`;
  const count = schedule.count ?? 1;
  return `${schedule.when} ${count === 1 ? "step" : `${count} steps`}`;
}

/**
 * What a prune has in common with others that differ in their threshold, share or number alone.
 * @param {any} prune
 */
export function wayOf({ threshold_by_step, keep, keep_fraction, side = "tail", by, of, fill, schedule, blocks }) {
  const keeps = (keep ?? keep_fraction ?? null) !== null;
  const rule = keeps ? `by ${by}` : `${side}${threshold_by_step ? " by step" : ""}`;
  const read = of === "read" && (!keeps || by === "magnitude") ? " of SiLU(c)" : "";
  return [rule + read, fill === "mean" && "mean", inSteps(schedule), inBlocks(blocks)].filter(Boolean).join(", ");
}

/** @param {(number | string)[] | null | undefined} blocks */
function inBlocks(blocks) {
  return blocks ? `blocks ${inRuns(blocks)}` : null;
}

/**
 * Numbers, in their order, and words as text: `0-3, 7, final`.
 * @param {(number | string)[]} values
 */
export function inRuns(values) {
  const numbers = /** @type {number[]} */ (values.filter((each) => typeof each === "number")).sort((a, b) => a - b);
  const runs = /** @type {number[][]} */ ([]);
  for (const number of numbers) {
    const last = runs.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else runs.push([number, number]);
  }
  const words = values.filter((each) => typeof each !== "number");
  return [...runs.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)), ...words].join(", ");
}
