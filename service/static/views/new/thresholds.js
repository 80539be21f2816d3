/** Thresholds, each by a slider and a number, and what each removes. */

import { html, useEffect, useState } from "../../lib/preact.js";
import { computed, Problem } from "../../lib/api.js";
import { href } from "../../lib/router.js";
import { fixed, number, percent } from "../../lib/format.js";
import { Button, SliderField } from "../../lib/parts.js";

const HIGHEST = 10;
const PAUSE_MS = 350;

/**
 * @param {{values: number[], most?: number, removal: (Removal | null)[] | null,
 *   fault: (field: string) => string | null, field: string, onChange: (values: number[]) => void}} props
 */
export function Thresholds({ values, most = 64, removal, fault, field, onChange }) {
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
function goes({ removed, embedding }) {
  return html`removes <strong>${percent(removed.fraction)}</strong> over the run (${removed.min} to ${removed.max}${" "}
    components a step), nPR ${fixed(embedding.npr_before, 4)} → ${fixed(embedding.npr_after, 4)}`;
}

/**
 * What each threshold removes; null where it is not known, or not yet.
 * @param {any} model
 * @param {number[] | null} thresholds
 * @param {any} request with the settings that matter: sampler, steps, shift, guidance, labels, side, fill, schedule
 * @returns {(Removal | null)[] | null}
 */
export function useRemoval(model, thresholds, request) {
  const { side, fill, schedule, sampler, steps, timestep_shift, guidance_scale, labels, conditions, rows } = request;
  const given = (thresholds ?? []).filter((each) => Number.isFinite(each) && each >= 0);
  const subjects = model.classes !== null || conditions !== undefined;
  const usable = model.ready && !model.compacted && subjects && given.length > 0 && within(steps, model.limits.steps);
  const address = usable
    ? href(`/metrics/${encodeURIComponent(model.name)}/removal`, {
        threshold: [...new Set(given)],
        side,
        fill,
        when: schedule?.when,
        count: schedule?.count,
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
    /** @type {{address: string | null, by: Map<number, Removal>}} */ ({ address: null, by: new Map() }),
  );
  useEffect(() => {
    if (!address) return undefined;
    const abort = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const { prunes } = await computed(address, { signal: abort.signal });
        setKnown({ address, by: new Map(prunes.map((/** @type {any} */ each) => [each.prune.threshold, each])) });
      } catch (error) {
        if (!abort.signal.aborted && !(error instanceof Problem)) throw error;
        if (!abort.signal.aborted) setKnown({ address, by: new Map() }); // the form works without it
      }
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [address]);
  if (known.address !== address) return null;
  return (thresholds ?? []).map((each) => known.by.get(each) ?? null);
}

/**
 * Whether a number of steps is allowed.
 * @param {number | undefined} steps
 * @param {number} most
 */
function within(steps, most) {
  return steps === undefined || (steps >= 2 && steps <= most);
}
