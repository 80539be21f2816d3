/** Thresholds, each by a slider and a number, and what prunes remove. */

import { html, useEffect, useState } from "../../lib/preact.js";
import { computed, Problem } from "../../lib/api.js";
import { href } from "../../lib/router.js";
import { fixed, number, percent } from "../../lib/format.js";
import { Button, SliderField } from "../../lib/parts.js";
import { ruleOf, valuesOf } from "../../lib/prunes.js";

export const MOST_THRESHOLDS = 64;
const HIGHEST = 10;
const PAUSE_MS = 350;

/**
 * @param {{values: number[], most?: number, removal: (Removal | null)[] | null,
 *   fault: (field: string) => string | null, field: string, onChange: (values: number[]) => void}} props
 */
export function Thresholds({ values, most = MOST_THRESHOLDS, removal, fault, field, onChange }) {
  const whole = values.every((_, index) => !fault(`${field}.${index}`)) ? fault(field) : null;
  /** @param {number} index @param {number} value */
  const set = (index, value) => onChange(values.map((each, place) => (place === index ? value : each)));
  const add = () => {
    const last = Math.max(...values, 0);
    onChange([...values, last > 0 ? Number((last * 2).toPrecision(2)) : 0.05]);
  };
  return html`<div class="stack-small">
    ${values.map(
      (value, index) =>
        html`<div class="threshold">
          <${SliderField}
            label=${values.length === 1 ? "Threshold" : `Threshold ${index + 1}`}
            value=${value}
            min=${0}
            max=${HIGHEST}
            logarithmic
            fault=${fault(`${field}.${index}`) ?? (index === 0 ? whole : null)}
            hint=${removal?.[index] ? goes(/** @type {Removal} */ (removal[index])) : undefined}
            text=${(/** @type {number} */ at) => number(at)}
            onChange=${(/** @type {number} */ given) => set(index, given)}
          />
          ${
            values.length > 1 &&
            html`<${Button}
          small
          aria-label=${`Remove threshold ${index + 1}`}
          onClick=${() => onChange(values.filter((_, place) => place !== index))}
        >Remove</${Button}>`
          }
        </div>`,
    )}
    ${values.length < most && html`<div><${Button} small onClick=${add}>Add a threshold</${Button}></div>`}
  </div>`;
}

/**
 * What a prune removes over a whole run, without sampling.
 * @typedef {import("../../lib/api.js").Schemas["PruneRemoval"]} Removal
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
