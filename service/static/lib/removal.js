/** What prunes remove and change over a whole run, as the service computes it without sampling. */

import { html, useEffect, useState } from "./preact.js";
import { computed, Problem } from "./api.js";
import { href } from "./router.js";
import { fixed, percent } from "./format.js";
import { ruleOf, valuesOf } from "./prunes.js";

const PAUSE_MS = 350;

/**
 * What a prune removes over a whole run, without sampling.
 * @typedef {import("./api.js").Schemas["PruneRemoval"]} Removal
 */

/** @param {Removal} removal */
export function goes({ removed, embedding, modulation }) {
  const count = removed.min === removed.max ? removed.min : `${removed.min} to ${removed.max}`;
  const changes = modulation && html`, changes the modulations by <strong>${percent(modulation.error)}</strong>`;
  return html`removes <strong>${percent(removed.fraction)}</strong> over the run (${count} components a step), nPR ${fixed(embedding.npr_before, 4)} → ${fixed(embedding.npr_after, 4)}${changes}`;
}

/**
 * What each prune of a request removes; null where it is not known, or not yet.
 * @param {any} model
 * @param {any} request with its rule, all else that a prune says, and how it is sampled
 * @returns {(Removal | null)[] | null}
 */
export function useRemoval(model, request) {
  const { side, by, of, fill, schedule, blocks, sampler, steps, timestep_shift, guidance_scale, labels, conditions, rows } = request;
  const rule = ruleOf(request);
  const values = valuesOf(request);
  const run = steps ?? model.defaults.steps;
  const given = values.filter((each) => rule && isValid(rule, each, model.condition_dim, run));
  const subjects = model.classes !== null || conditions !== undefined;
  const fits = (schedule?.steps ?? []).every((/** @type {number} */ step) => step < run) && (schedule?.count ?? 1) <= run;
  const usable = model.ready && !model.compacted && subjects && given.length > 0 && within(steps, model.limits.steps) && fits;
  const address = usable
    ? href(`/metrics/${encodeURIComponent(model.name)}/removal`, {
        [/** @type {string} */ (rule)]: rule === "threshold_by_step" ? given[0].map(orNone) : [...new Set(given)],
        side,
        by,
        of,
        fill,
        when: schedule?.when,
        count: schedule?.count,
        step: schedule?.steps,
        block: blocks,
        sampler,
        steps,
        timestep_shift,
        guidance_scale,
        label: labels,
        conditions,
        row: rows,
      })
    : null;
  const [known, setKnown] = useState(
    /** @type {{address: string | null, prunes: Removal[]}} */ ({ address: null, prunes: [] }),
  );
  useEffect(() => {
    if (!address) return undefined;
    const abort = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const { prunes } = await computed(address, { signal: abort.signal });
        setKnown({ address, prunes });
      } catch (error) {
        if (!abort.signal.aborted && !(error instanceof Problem)) throw error;
        if (!abort.signal.aborted) setKnown({ address, prunes: [] }); // the form works without it
      }
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [address]);
  if (!address || known.address !== address) return null;
  const order = [...new Set(given)]; // that of the answer
  return values.map((each) => known.prunes[order.indexOf(each)] ?? null);
}

/** @param {number | null} threshold */
function orNone(threshold) {
  return threshold ?? "none";
}

/**
 * Whether the service takes a value of a rule.
 * @param {string} rule
 * @param {any} value
 * @param {number} width of the condition
 * @param {number} steps of the run
 */
function isValid(rule, value, width, steps) {
  if (rule === "threshold_by_step")
    return value.length === steps && value.some((/** @type {number | null} */ each) => each !== null);
  if (rule === "keep") return Number.isInteger(value) && value >= 1 && value <= width;
  return Number.isFinite(value) && (rule === "threshold" ? value >= 0 : value > 0 && value < 1);
}

/**
 * Whether a number of steps is allowed.
 * @param {number | undefined} steps
 * @param {number} most
 */
function within(steps, most) {
  return steps === undefined || (steps >= 2 && steps <= most);
}
