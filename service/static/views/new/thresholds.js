/** Thresholds, each by a slider and a number. */

import { html } from "../../lib/preact.js";
import { number } from "../../lib/format.js";
import { Button, SliderField } from "../../lib/parts.js";
import { goes } from "../../lib/removal.js";

/** @typedef {import("../../lib/removal.js").Removal} Removal */

export const MOST_THRESHOLDS = 64;
const HIGHEST = 10;

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
