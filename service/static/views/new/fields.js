/** Fields of forms that leave a value to its default when they are empty. */

import { html, useId, useState } from "../../lib/preact.js";
import { number } from "../../lib/format.js";
import { inRuns } from "../../lib/prunes.js";

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
 * Whole numbers as text: `0-3, 7`, and words that may stand among them.
 * @param {{label: string, value: (number | string)[] | undefined, words?: string[], placeholder?: string, hint?: unknown,
 *   fault?: string | null, onChange: (value: (number | string)[] | undefined) => void}} props
 */
export function ListField({ label, value, words = [], placeholder, hint, fault, onChange }) {
  const example = ["0-3", "7", ...words].join(", ");
  return html`<${ParsedField}
    label=${label}
    text=${value ? inRuns(value) : ""}
    parse=${(/** @type {string} */ text) => numbersIn(text, words)}
    wrong=${`This is no list such as ${example}.`}
    placeholder=${placeholder}
    hint=${hint}
    fault=${fault}
    onChange=${onChange}
  />`;
}

/**
 * Text that stands for a value, which changes with it as far as the text can be read.
 * @param {{label: string, text: string, parse: (text: string) => any, wrong: string, placeholder?: string, rows?: number,
 *   hint?: unknown, fault?: string | null, onChange: (value: any) => void}} props
 *   `parse` returns null for text that it cannot read; `rows` makes it a field of several lines
 */
export function ParsedField({ label, text, parse, wrong, placeholder, rows, hint, fault, onChange }) {
  const id = useId();
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  const said = typed !== null && parse(typed) === null ? wrong : fault;
  const properties = {
    id,
    value: typed ?? text,
    placeholder,
    autocomplete: "off",
    spellcheck: false,
    "aria-invalid": said ? "true" : undefined,
    "aria-describedby": hint || said ? `${id}-hint` : undefined,
    onInput: (/** @type {any} */ event) => {
      setTyped(event.target.value);
      const found = parse(event.target.value);
      if (found !== null) onChange(found);
    },
    onBlur: () => typed !== null && parse(typed) !== null && setTyped(null),
  };
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${rows ? html`<textarea rows=${rows} ...${properties}></textarea>` : html`<input type="text" ...${properties} />`}
    <${Hint} id=${`${id}-hint`} hint=${hint} fault=${said} />
  </div>`;
}

/**
 * The numbers and words of a text; undefined for an empty one, null for what is no such list.
 * @param {string} text
 * @param {string[]} words
 */
export function numbersIn(text, words) {
  const parts = text.split(/[\s,]+/).filter(Boolean);
  const found = /** @type {(number | string)[]} */ ([]);
  for (const part of parts) {
    const range = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part);
    if (words.includes(part)) found.push(part);
    else if (!range) return null;
    else for (let at = Number(range[1]); at <= Number(range[2] ?? range[1]); at++) found.push(at);
  }
  return found.length > 0 ? [...new Set(found)] : undefined;
}

/**
 * At which steps to prune, or to edit.
 * @param {{label?: string, value: any, steps: number, fault: string | null, onChange: (value: any) => void}} props
 */
export function ScheduleFields({ label = "Steps at which to prune", value, steps, fault, onChange }) {
  const id = useId();
  const { when = "every", count = 1, steps: at } = value ?? {};
  /** @param {string} chosen */
  const choose = (chosen) => {
    if (chosen === "every") onChange(undefined);
    else onChange(chosen === "at" ? { when: "at", steps: at ?? [0] } : { when: chosen, count });
  };
  return html`<div class="pair">
    <div class="field">
      <label for=${id}>${label}</label>
      <select id=${id} onChange=${(/** @type {any} */ event) => choose(event.target.value)}>
        <option value="every" selected=${when === "every"}>every step</option>
        <option value="first" selected=${when === "first"}>the first steps</option>
        <option value="last" selected=${when === "last"}>the last steps</option>
        <option value="at" selected=${when === "at"}>any steps</option>
      </select>
    </div>
    ${
      (when === "first" || when === "last") &&
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
    ${
      when === "at" &&
      html`<${ListField}
        label="Which steps"
        value=${at}
        hint=${`0, at pure noise, to ${steps - 1}: 0-3, 7.`}
        fault=${fault ?? outside(Math.max(...(at ?? [0])), 0, steps - 1)}
        onChange=${(/** @type {number[] | undefined} */ given) => given && onChange({ when, steps: given })}
      />`
    }
  </div>`;
}
