/** Fields: a choice among few or many, a time of sampling, a number by a slider. */

import { html, useId, useState } from "../preact.js";
import { number } from "../format.js";

/** @typedef {import("../preact.js").Children} Children */

/**
 * A choice among a few, all of which are seen.
 * @param {{label: string, options: {value: string, title: Children, disabled?: boolean}[], value: string,
 *   onChange: (value: string) => void, hideLabel?: boolean}} props
 */
export function Segmented({ label, options, value, onChange, hideLabel }) {
  const name = useId();
  return html`<fieldset>
    <legend class=${hideLabel ? "sr-only" : ""}>${label}</legend>
    <div class="segmented">
      ${options.map(
        (option) => html`<label>
          <input
            type="radio"
            name=${name}
            value=${option.value}
            checked=${option.value === value}
            disabled=${option.disabled}
            onChange=${() => onChange(option.value)}
          />
          <span>${option.title}</span>
        </label>`,
      )}
    </div>
  </fieldset>`;
}

/**
 * A choice among many.
 * @param {{label: string, options: {value: string, title: string}[], value: string,
 *   onChange: (value: string) => void, hint?: Children}} props
 */
export function Select({ label, options, value, onChange, hint }) {
  const id = useId();
  return html`<div class="field">
    <label for=${id}>${label}</label>
    <select
      id=${id}
      aria-describedby=${hint ? `${id}-hint` : undefined}
      onChange=${(/** @type {any} */ event) => onChange(event.target.value)}
    >
      ${options.map(
        (option) => html`<option value=${option.value} selected=${option.value === value}>${option.title}</option>`,
      )}
    </select>
    ${hint && html`<div class="hint" id=${`${id}-hint`}>${hint}</div>`}
  </div>`;
}

/**
 * A time of sampling by a slider, and by a field that takes the nearest of the times there are.
 * @param {{label?: string, timesteps: number[], fraction: number[], index: number, onChange: (index: number) => void}} props
 */
export function TimeField({ label = "Time t", timesteps, fraction, index, onChange }) {
  const id = useId();
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  const done = Math.round(100 * fraction[index]);
  /** @param {any} event */
  const onType = (event) => {
    const asked = event.target.valueAsNumber;
    setTyped(null);
    if (!Number.isFinite(asked)) return;
    const far = timesteps.map((time) => Math.abs(time - asked));
    onChange(far.indexOf(Math.min(...far)));
  };
  return html`<div class="field">
    <label for=${id}>${label}</label>
    <div class="slider">
      <input
        type="range"
        aria-label=${`${label}, slider, from the start of sampling to its end`}
        aria-valuetext=${`t = ${timesteps[index]}, ${done} % of sampling done`}
        min="0"
        max=${timesteps.length - 1}
        step="1"
        value=${index}
        disabled=${timesteps.length === 1}
        onInput=${(/** @type {any} */ event) => onChange(event.target.valueAsNumber)}
      />
      <input
        type="number"
        id=${id}
        step="any"
        value=${typed ?? timesteps[index]}
        aria-describedby=${`${id}-hint`}
        onInput=${(/** @type {any} */ event) => setTyped(event.target.value)}
        onChange=${onType}
      />
    </div>
    <div class="hint" id=${`${id}-hint`}>
      ${done} % of sampling done${timesteps.length > 1 &&
      `; ${timesteps.length} times from ${number(timesteps[0])} to ${number(timesteps.at(-1))}`}
    </div>
  </div>`;
}

/**
 * A number by a slider and by a field. A slider on a logarithmic scale has 0 at its left end.
 * @param {{label: string, value: number, min: number, max: number, step?: number, logarithmic?: boolean,
 *   onChange: (value: number) => void, hint?: Children, fault?: Children, text?: (value: number) => string}} props
 *   `text` says the value in words for screen readers
 */
export function SliderField({ label, value, min, max, step, logarithmic, onChange, hint, fault, text }) {
  const id = useId();
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  const low = logarithmic ? Math.max(min, max / 1e6) : min;
  const place = logarithmic ? (value <= low ? 0 : Math.log(value / low) / Math.log(max / low)) : value;
  /** @param {number} at */
  const valueAt = (at) => (at <= 0 ? min : Number((low * (max / low) ** at).toPrecision(3)));
  /** @param {any} event */
  const onType = (event) => {
    setTyped(event.target.value);
    const given = event.target.valueAsNumber;
    if (Number.isFinite(given) && given >= min) onChange(given);
  };
  return html`<div class="field">
    <label for=${id}>${label}</label>
    <div class="slider">
      <input
        type="range"
        aria-label=${`${label}, slider`}
        aria-valuetext=${text?.(value)}
        min=${logarithmic ? 0 : min}
        max=${logarithmic ? 1 : max}
        step=${logarithmic ? 0.002 : (step ?? "any")}
        value=${Math.min(logarithmic ? 1 : max, place)}
        onInput=${(/** @type {any} */ event) => {
          const at = event.target.valueAsNumber;
          onChange(logarithmic ? valueAt(at) : at);
        }}
      />
      <input
        type="number"
        id=${id}
        min=${min}
        step=${step ?? "any"}
        value=${typed ?? value}
        aria-invalid=${fault ? "true" : undefined}
        aria-describedby=${hint || fault ? `${id}-hint` : undefined}
        onInput=${onType}
        onBlur=${() => setTyped(null)}
      />
    </div>
    ${(hint || fault) &&
    html`<div id=${`${id}-hint`}>
      ${fault && html`<div class="fault">${fault}</div>`}
      ${hint && html`<div class="hint">${hint}</div>`}
    </div>`}
  </div>`;
}
