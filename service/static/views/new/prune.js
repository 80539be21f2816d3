/** Which components go: the rule of prune-sample. */

import { html } from "../../lib/preact.js";
import { Button, Card, Segmented } from "../../lib/parts.js";
import { NumberField, ScheduleFields } from "./fields.js";
import { Thresholds, useRemoval } from "./thresholds.js";

const RULES = [
  { value: "tail", title: "below a threshold" },
  { value: "head", title: "above a threshold" },
  { value: "keep", title: "all but the k most varied" },
];

/** @param {import("../new.js").Form} props */
export function PruneFields({ request, change, model, fault }) {
  const { threshold, keep, side, fill, schedule } = request;
  const none = threshold === undefined && keep === undefined;
  const rule = none ? "none" : keep !== undefined ? "keep" : (side ?? "tail");
  const values = threshold === undefined ? null : [threshold].flat();
  const removal = useRemoval(model, values, { ...request, labels: request.labels ?? model.defaults.labels });
  /** @param {string} chosen */
  const choose = (chosen) => {
    if (chosen === "none")
      change({
        threshold: undefined,
        keep: undefined,
        side: undefined,
        by: undefined,
        fill: undefined,
        schedule: undefined,
      });
    else if (chosen === "keep")
      change({ threshold: undefined, side: undefined, fill: undefined, keep: [Math.round(model.condition_dim / 2)] });
    else
      change({
        keep: undefined,
        by: undefined,
        fill: undefined,
        threshold: values ?? [0.05],
        side: chosen === "tail" ? undefined : chosen,
      });
  };
  return html`<${Card} title="Prune" lead="Which components of the condition vector go, while it is sampled.">
    <${Segmented}
      label="Remove components"
      options=${model.compacted ? [{ value: "none", title: "none more" }, ...RULES] : RULES}
      value=${rule}
      onChange=${choose}
    />
    ${values && html`<${Thresholds}
      values=${values}
      most=${model.limits.variants}
      removal=${removal}
      fault=${fault}
      field="threshold"
      onChange=${(/** @type {number[]} */ given) => change({ threshold: given })}
    />`}
    ${
      keep !== undefined &&
      html`<${Counts}
        values=${[keep].flat()}
        width=${model.condition_dim}
        most=${model.limits.variants}
        fault=${fault}
        onChange=${(/** @type {number[]} */ given) => change({ keep: given })}
      />`
    }
    ${
      !none &&
      html`<div class="pair">
          <${Segmented}
            label="In their place"
            options=${[
              { value: "zero", title: "zero" },
              { value: "mean", title: "the mean over classes" },
            ]}
            value=${fill ?? (rule === "keep" ? "mean" : "zero")}
            onChange=${(/** @type {string} */ given) =>
              change({ fill: given === (rule === "keep" ? "mean" : "zero") ? undefined : given })}
          />
        </div>
        ${fault("fill") && html`<div class="field"><div class="fault">${fault("fill")}</div></div>`}
        <${ScheduleFields}
          value=${schedule}
          steps=${request.steps ?? model.defaults.steps}
          fault=${fault("schedule")}
          onChange=${(/** @type {any} */ given) => change({ schedule: given })}
        />`
    }
  </${Card}>`;
}

/**
 * How many components to keep: a number for each prune.
 * @param {{values: number[], width: number, most: number, fault: (field: string) => string | null,
 *   onChange: (values: number[]) => void}} props `width` of the condition; `most` prunes
 */
function Counts({ values, width, most, fault, onChange }) {
  const whole = values.every((_, index) => !fault(`keep.${index}`)) ? fault("keep") : null;
  const next = Math.max(1, Math.round(Math.min(...values) / 2));
  return html`<div class="stack-small">
    ${values.map(
      (value, index) =>
        html`<div class="threshold">
          <${NumberField}
            label=${values.length === 1 ? `Components to keep, of ${width}` : `Components to keep, ${index + 1}`}
            value=${value}
            min=${1}
            max=${width}
            step=${1}
            fault=${fault(`keep.${index}`) ?? (index === 0 ? whole : null)}
            onChange=${(/** @type {number | undefined} */ given) =>
              onChange(values.map((each, place) => (place === index ? (given ?? 1) : each)))}
          />
          ${
            values.length > 1 &&
            html`<${Button}
              small
              aria-label=${`Leave out ${value} components`}
              onClick=${() => onChange(values.filter((_, place) => place !== index))}
            >Remove</${Button}>`
          }
        </div>`,
    )}
    ${values.length < most && html`<div><${Button} small onClick=${() => onChange([...values, next])}>Keep another number</${Button}></div>`}
  </div>`;
}
