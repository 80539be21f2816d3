/** The rule of a prune: which components go, what takes their place, at which steps, and which blocks see it. */

import { html } from "../../lib/preact.js";
import { Button, Segmented, Select } from "../../lib/parts.js";
import { RULES, ruleOf, valuesOf } from "../../lib/prunes.js";
import { ListField, NumberField, ParsedField, ScheduleFields } from "./fields.js";
import { goes } from "../../lib/removal.js";
import { MOST_THRESHOLDS, Thresholds } from "./thresholds.js";

/** @typedef {import("../../lib/removal.js").Removal} Removal */

const TYPICAL = { threshold: [0.05], remove_fraction: [0.5], keep_fraction: [0.5] };

const BY_THRESHOLD = [
  { value: "threshold", title: "a threshold" },
  { value: "threshold_by_step", title: "a threshold for each step" },
  { value: "remove_fraction", title: "the share that goes" },
];
const BY_NUMBER = [
  { value: "keep", title: "a number that stays" },
  { value: "keep_fraction", title: "the share that stays" },
];
const RANKINGS = [
  { value: "variance", title: "variance over the classes" },
  { value: "deviation", title: "deviation from the mean" },
  { value: "magnitude", title: "magnitude" },
];

/** @param {{prune: any, change: (changes: Record<string, unknown>) => void, model: any, steps: number, most: number,
 *   removal: (Removal | null)[] | null, fault: (field: string) => string | null, optional?: boolean}} props
 *   `most` prunes; `optional`: whether it may be none
 */
export function RuleFields({ prune, change, model, steps, most, removal, fault, optional }) {
  const { side, by, of, fill, schedule, blocks } = prune;
  const rule = ruleOf(prune);
  const keeps = rule === "keep" || rule === "keep_fraction";
  const what = rule === null ? "none" : keeps ? "keep" : (side ?? "tail");
  const values = valuesOf(prune);
  const dim = model.condition_dim;
  const usual = keeps ? "mean" : "zero";
  const faults = ["side", "by", "of", "fill"].map(fault).filter(Boolean);
  /** @param {string | null} chosen @param {Record<string, unknown>} [rest] */
  const start = (chosen, rest = {}) => {
    const initial = {
      ...TYPICAL,
      keep: [Math.round(dim / 2)],
      threshold_by_step: Array(steps).fill(rule === "threshold" ? values[0] : 0.05),
    };
    const cleared = Object.fromEntries(RULES.map((name) => [name, undefined]));
    change({ ...cleared, ...(chosen && { [chosen]: /** @type {any} */ (initial)[chosen] }), ...rest });
  };
  /** @param {string} chosen */
  const choose = (chosen) => {
    const nothing = { side: undefined, by: undefined, of: undefined, fill: undefined };
    if (chosen === "none") start(null, { ...nothing, schedule: undefined, blocks: undefined });
    else if (chosen === "keep") start("keep", nothing);
    else if (rule === null || keeps) start("threshold", { ...nothing, side: chosen === "tail" ? undefined : chosen });
    else change({ side: chosen === "tail" ? undefined : chosen });
  };
  const set = (/** @type {any[]} */ given) => change({ [/** @type {string} */ (rule)]: given });
  return html`<${Segmented}
      label="Remove components"
      options=${[
        ...(optional ? [{ value: "none", title: "none more" }] : []),
        { value: "tail", title: "below a threshold" },
        { value: "head", title: "above a threshold" },
        { value: "keep", title: "all but some" },
      ]}
      value=${what}
      onChange=${choose}
    />
    ${
      rule !== null &&
      html`<div class="pair">
        <${Select}
          label="Given by"
          value=${rule}
          options=${keeps ? BY_NUMBER : BY_THRESHOLD}
          onChange=${(/** @type {string} */ given) =>
            start(given, given === "threshold_by_step" ? { schedule: undefined } : {})}
        />
        ${
          keeps &&
          html`<${Select}
            label="Ranked by"
            value=${by ?? "variance"}
            options=${RANKINGS}
            onChange=${(/** @type {string} */ given) => change({ by: given === "variance" ? undefined : given, of: undefined })}
          />`
        }
      </div>`
    }
    ${rule === "threshold" && html`<${Thresholds}
      values=${values}
      most=${most}
      removal=${removal}
      fault=${fault}
      field="threshold"
      onChange=${set}
    />`}
    ${
      rule === "threshold_by_step" &&
      html`<${ParsedField}
        label="Threshold of each step"
        text=${inTurn(values[0])}
        parse=${thresholdsIn}
        wrong="This is no list such as 0.05 x25, none x25."
        rows=${2}
        hint=${html`${`${steps} steps, the first at pure noise; x25 repeats one, none leaves a step as it is.`}
        ${removal?.[0] && html`<br />${goes(removal[0])}`}`}
        fault=${fault("threshold_by_step") ?? (values[0].length === steps ? null : `${values[0].length} of ${steps} steps have a threshold or none.`)}
        onChange=${(/** @type {any} */ given) => given && set(given)}
      />`
    }
    ${
      rule !== null &&
      !rule.startsWith("threshold") &&
      html`<${Numbers} rule=${rule} values=${values} width=${dim} most=${most} removal=${removal} fault=${fault} onChange=${set} />`
    }
    ${
      rule !== null &&
      html`${
          (!keeps || by === "magnitude") &&
          html`<${Segmented}
            label="Whose magnitudes count"
            options=${[
              { value: "c", title: "those of c" },
              { value: "read", title: "of what blocks read, SiLU(c)" },
            ]}
            value=${of ?? "c"}
            onChange=${(/** @type {string} */ given) => change({ of: given === "c" ? undefined : given })}
          />`
        }
        <${Segmented}
          label="In their place"
          options=${[
            { value: "zero", title: "zero" },
            { value: "mean", title: "the mean over classes" },
          ]}
          value=${fill ?? usual}
          onChange=${(/** @type {string} */ given) => change({ fill: given === usual ? undefined : given })}
        />
        ${faults.length > 0 && html`<div class="field"><div class="fault">${faults.join("; ")}</div></div>`}
        ${
          rule !== "threshold_by_step" &&
          html`<${ScheduleFields}
            value=${schedule}
            steps=${steps}
            fault=${fault("schedule")}
            onChange=${(/** @type {any} */ given) => change({ schedule: given })}
          />`
        }
        <${ListField}
          label="Blocks that see it"
          value=${blocks}
          words=${["final"]}
          placeholder="all"
          hint=${`By number${model.depth ? `, 0 to ${model.depth - 1}` : " from 0"}, and final, the final layer; the others see c as it is.`}
          fault=${fault("blocks")}
          onChange=${(/** @type {any} */ given) => change({ blocks: given })}
        />`
    }`;
}

const LISTS = /** @type {Record<string, {label: string, one: string, another: string, next: (least: number) => number}>} */ ({
  keep: {
    label: "Components to keep",
    one: "components",
    another: "Keep another number",
    next: (least) => Math.max(1, Math.round(least / 2)),
  },
  keep_fraction: {
    label: "Share to keep",
    one: "of the components",
    another: "Keep another share",
    next: (least) => Number((least / 2).toPrecision(2)),
  },
  remove_fraction: {
    label: "Share to remove",
    one: "of the components",
    another: "Remove another share",
    next: (least) => Number((least / 2).toPrecision(2)),
  },
});

/**
 * Numbers of components, or shares of them: one for each prune.
 * @param {{rule: string, field?: string, values: number[], width: number, most?: number, removal: (Removal | null)[] | null,
 *   fault: (field: string) => string | null, onChange: (values: number[]) => void}} props
 *   `rule`: of which they are; `field`: in which they are sent; `width` of the condition; `most` prunes
 */
export function Numbers({ rule, field = rule, values, width, most = MOST_THRESHOLDS, removal, fault, onChange }) {
  const { label, one, another, next } = LISTS[rule];
  const share = rule !== "keep";
  const whole = values.every((_, index) => !fault(`${field}.${index}`)) ? fault(field) : null;
  const of = share ? "from 0 to 1" : `of ${width}`;
  return html`<div class="stack-small">
    ${values.map(
      (value, index) =>
        html`<div class="threshold">
          <${NumberField}
            label=${values.length === 1 ? `${label}, ${of}` : `${label}, ${index + 1}`}
            value=${value}
            min=${share ? 0.01 : 1}
            max=${share ? 0.99 : width}
            step=${share ? "any" : 1}
            fault=${fault(`${field}.${index}`) ?? (index === 0 ? whole : null)}
            hint=${removal?.[index] ? goes(/** @type {Removal} */ (removal[index])) : undefined}
            onChange=${(/** @type {number | undefined} */ given) =>
              onChange(values.map((each, place) => (place === index ? (given ?? (share ? 0.5 : 1)) : each)))}
          />
          ${
            values.length > 1 &&
            html`<${Button}
              small
              aria-label=${`Leave out ${value} ${one}`}
              onClick=${() => onChange(values.filter((_, place) => place !== index))}
            >Remove</${Button}>`
          }
        </div>`,
    )}
    ${values.length < most && html`<div><${Button} small onClick=${() => onChange([...values, next(Math.min(...values))])}>${another}</${Button}></div>`}
  </div>`;
}

/**
 * Thresholds by step as text, those that are the same in turn once: `0.05 x25, none x25`.
 * @param {(number | null)[]} thresholds
 */
export function inTurn(thresholds) {
  const runs = /** @type {[number | null, number][]} */ ([]);
  for (const each of thresholds) {
    const last = runs.at(-1);
    if (last && last[0] === each) last[1] += 1;
    else runs.push([each, 1]);
  }
  return runs.map(([each, times]) => `${each ?? "none"}${times > 1 ? ` x${times}` : ""}`).join(", ");
}

/**
 * The thresholds by step of a text; undefined for an empty one, null for what is no such list.
 * @param {string} text
 */
export function thresholdsIn(text) {
  const found = /** @type {(number | null)[]} */ ([]);
  for (const part of text.split(",").map((each) => each.trim()).filter(Boolean)) {
    const [, value, times = "1"] = /^(none|\d*\.?\d+(?:e-?\d+)?)(?:\s*[x×]\s*(\d{1,4}))?$/i.exec(part) ?? [];
    if (value === undefined) return null;
    found.push(...Array(Number(times)).fill(value === "none" ? null : Number(value)));
  }
  return found.length > 0 ? found : undefined;
}
