/** Fields of forms that leave a value to its default when they are empty. */

import { html, useId, useState } from "../../lib/preact.js";
import { number } from "../../lib/format.js";

/**
 * A number, which may be left out.
 * @param {{label: string, value: number | null | undefined, fallback?: number | null, min?: number, max?: number,
 *   step?: number | "any", hint?: unknown, fault?: string | null, onChange: (value: number | undefined) => void}} props
 *   `fallback` is the default, shown where there is no value
 */
export function NumberField({ label, value, fallback, min, max, step = "any", hint, fault, onChange }) {
  const id = useId();
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  fault ??= outside(value, min ?? -Infinity, max ?? Infinity);
  /** @param {any} event */
  const onInput = (event) => {
    setTyped(event.target.value);
    onChange(event.target.value === "" ? undefined : event.target.valueAsNumber);
  };
  return html`<div class="field">
    <label for=${id}>${label}</label>
    <input
      id=${id}
      type="number"
      min=${min}
      max=${max}
      step=${step}
      value=${typed ?? value ?? ""}
      placeholder=${fallback ?? ""}
      aria-invalid=${fault ? "true" : undefined}
      aria-describedby=${hint || fault ? `${id}-hint` : undefined}
      onInput=${onInput}
      onBlur=${() => setTyped(null)}
    />
    <${Hint} id=${`${id}-hint`} hint=${hint} fault=${fault} />
  </div>`;
}

/**
 * What is wrong with a number, before the service is asked: null if nothing is.
 * @param {number | null | undefined} value
 * @param {number} least
 * @param {number} most
 */
export function outside(value, least, most) {
  if (value === null || value === undefined || (value >= least && value <= most)) return null;
  return `${number(value, 12)} is not within ${number(least, 12)} to ${number(most, 12)}.`;
}

/** @param {{id: string, hint?: unknown, fault?: string | null}} props */
export function Hint({ id, hint, fault }) {
  if (!hint && !fault) return null;
  return html`<div id=${id}>
    ${fault && html`<div class="fault">${fault}</div>`} ${hint && html`<div class="hint">${hint}</div>`}
  </div>`;
}

/**
 * A yes or no.
 * @param {{label: string, value: boolean, onChange: (value: boolean) => void, hint?: unknown}} props
 */
export function Check({ label, value, onChange, hint }) {
  const id = useId();
  return html`<div class="field">
    <label class="check">
      <input
        type="checkbox"
        checked=${value}
        aria-describedby=${hint ? id : undefined}
        onChange=${(/** @type {any} */ event) => onChange(event.target.checked)}
      />
      ${label}
    </label>
    <${Hint} id=${id} hint=${hint} />
  </div>`;
}

/**
 * At which steps to prune.
 * @param {{value: any, steps: number, fault: string | null, onChange: (value: any) => void}} props
 */
export function ScheduleFields({ value, steps, fault, onChange }) {
  const id = useId();
  const { when = "every", count = 1 } = value ?? {};
  return html`<div class="pair">
    <div class="field">
      <label for=${id}>Steps at which to prune</label>
      <select
        id=${id}
        onChange=${(/** @type {any} */ event) =>
          onChange(event.target.value === "every" ? undefined : { when: event.target.value, count })}
      >
        <option value="every" selected=${when === "every"}>every step</option>
        <option value="first" selected=${when === "first"}>the first steps</option>
        <option value="last" selected=${when === "last"}>the last steps</option>
      </select>
    </div>
    ${
      when !== "every" &&
      html`<${NumberField}
        label="How many steps"
        value=${count}
        min=${1}
        max=${steps}
        step=${1}
        fault=${fault}
        onChange=${(/** @type {number | undefined} */ given) => onChange({ when, count: given ?? 1 })}
      />`
    }
  </div>`;
}
