/** What is sampled: classes by name or number, or uploaded conditions. */

import { html, useId, useState } from "../../lib/preact.js";
import { ConditionsField } from "../../lib/conditions.js";
import { count } from "../../lib/format.js";
import { announce, Button, Card } from "../../lib/parts.js";
import { Hint, NumberField } from "./fields.js";
import { perSubject } from "./estimate.js";

/**
 * @param {import("../new.js").Form & {every?: boolean, single?: boolean, standard?: number[]}} props `every`: all classes
 *   by default; `standard`: these by default
 */
export function SubjectFields({ request, change, model, fault, stored, subjects, every, single, standard }) {
  const what = model.classes === null ? "condition" : "class";
  const variant = standard ? "strength" : "prune";
  const most = every ? model.limits.study_samples : model.limits.samples;
  const all = subjects === null ? null : subjects * perSubject(model, request);
  const many = subjects === 1 ? what : model.classes === null ? "conditions" : "classes";
  return html`<${Card} title=${model.classes === null ? "Conditions" : "Classes"}>
    ${
      model.classes === null
        ? html`<${Conditions} ...${{ request, change, fault, stored }} />`
        : html`<${ClassesField}
            ...${{ request, change, model, fault }}
            field="labels"
            title="Add a class, by name or number"
            standard=${standard ?? (every ? null : model.defaults.labels)}
            hint=${
              standard
                ? "Those that the edit leads away from, until you add one."
                : every || !model.defaults.labels
                  ? `All ${model.classes} classes, until you add one.`
                  : "The model’s own choice, until you add a class."
            }
          />`
    }
    ${
      !single &&
      html`<div class="pair">
        <${NumberField}
          label=${`Samples of each ${what}`}
          value=${request.samples_per_label}
          fallback=${model.defaults.samples_per_label}
          min=${1}
          step=${1}
          fault=${
            fault("samples_per_label") ??
            (all !== null && all > most ? `${count(all)} samples are more than the ${count(most)} that a job can have.` : null)
          }
          hint=${
            all === null ? `At most ${count(most)} samples by each ${variant}.` : `${count(subjects)} ${many}: ${count(all)} ${all === 1 ? "sample" : "samples"} by each ${variant}, of at most ${count(most)}.`
          }
          onChange=${(/** @type {number | undefined} */ given) => change({ samples_per_label: given })}
        />
        <${NumberField}
          label="Seed of the noise"
          value=${request.seed}
          fallback=${0}
          min=${0}
          step=${1}
          hint="Equal seeds give equal noise."
          fault=${fault("seed")}
          onChange=${(/** @type {number | undefined} */ given) => change({ seed: given })}
        />
      </div>`
    }
  </${Card}>`;
}

/**
 * Classes by name or number.
 * @param {Pick<import("../new.js").Form, "request" | "change" | "model" | "fault"> & {field: string, title: string,
 *   standard?: (number | string)[] | null, hint?: string}} props `standard`: those of a field that is left out; a field
 *   without them has at least one
 */
export function ClassesField({ request, change, model, fault, field, title, standard, hint }) {
  const id = useId();
  const [typed, setTyped] = useState("");
  const [wrong, setWrong] = useState(/** @type {string | null} */ (null));
  const own = /** @type {(number | string)[] | undefined} */ (request[field]);
  const chosen = own ?? standard ?? null;
  const nameOf = (/** @type {number | string} */ label) =>
    typeof label === "number" ? (model.class_names[label] ?? `class ${label}`) : label;
  const add = () => {
    const text = typed.trim();
    const [label, ...more] = labelsOf(text, model);
    if (label === undefined || more.length > 0) {
      if (label !== undefined) setWrong(`“${text}” is the name of the classes ${[label, ...more].join(", ")}; give a number`);
      else setWrong(text ? `${model.name} has no class “${text}”; there are 0 to ${model.classes - 1}` : null);
      return;
    }
    setTyped("");
    setWrong(null);
    if (!own?.includes(label)) change({ [field]: [...(own ?? []), label] });
    announce(`${nameOf(label)} added`);
  };
  const problem = wrong ?? fault(field);
  return html`
    <div class="field">
      <label for=${id}>${title}</label>
      <div class="add">
        <input
          id=${id}
          type="text"
          list=${`${id}-names`}
          value=${typed}
          autocomplete="off"
          aria-invalid=${problem ? "true" : undefined}
          aria-describedby=${`${id}-hint`}
          onInput=${(/** @type {any} */ event) => setTyped(event.target.value)}
          onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === "Enter" && (event.preventDefault(), add())}
        />
        <${Button} onClick=${add}>Add</${Button}>
      </div>
      <datalist id=${`${id}-names`}>
        ${model.class_names.map(
          (/** @type {string} */ name, /** @type {number} */ index) => html`<option value=${name}>${index}</option>`,
        )}
      </datalist>
      <${Hint}
        id=${`${id}-hint`}
        fault=${problem}
        hint=${own ? undefined : hint}
      />
    </div>
    ${
      chosen &&
      html`<ul class="chips" aria-label=${standard === undefined ? `Chosen: ${title}` : "Chosen classes"}>
        ${chosen.map(
          (label) =>
            html`<li class="chip">
              <span>${nameOf(label)}</span
              >${typeof label === "number" && html`<span class="muted number small">${label}</span>`}
              ${
                (standard !== undefined || chosen.length > 1) &&
                html`<button
                  type="button"
                  aria-label=${`Remove ${nameOf(label)}`}
                  onClick=${() => {
                    const left = chosen.filter((each) => each !== label);
                    change({ [field]: left.length > 0 ? left : undefined });
                  }}
                >
                  ×
                </button>`
              }
            </li>`,
        )}
        ${own && standard !== undefined && html`<li><${Button}
          small
          kind="quiet"
          onClick=${() => change({ [field]: undefined })}
        >Back to the default</${Button}></li>`}
      </ul>`
    }
  `;
}

/**
 * The numbers of the classes that were meant: several may have one name.
 * @param {string} text
 * @param {any} model
 * @returns {number[]}
 */
function labelsOf(text, model) {
  if (/^\d+$/.test(text) && Number(text) < model.classes) return [Number(text)];
  return model.class_names.flatMap((/** @type {string} */ name, /** @type {number} */ index) =>
    name.toLowerCase() === text.toLowerCase() ? [index] : [],
  );
}

/** @param {Pick<import("../new.js").Form, "request" | "change" | "fault" | "stored">} props */
function Conditions({ request, change, fault, stored }) {
  return html`
    <${ConditionsField}
      stored=${stored}
      value=${request.conditions}
      onChange=${(/** @type {string | null} */ given) => change({ conditions: given ?? undefined, rows: undefined })}
    />
    ${fault("conditions") && html`<div class="field"><div class="fault">${fault("conditions")}</div></div>`}
    <${RowsField} ...${{ request, change, fault }} field="rows" title="Rows of the file" placeholder="all" />
  `;
}

/**
 * Rows of the conditions, by number.
 * @param {Pick<import("../new.js").Form, "request" | "change" | "fault"> & {field: string, title: string,
 *   placeholder?: string}} props `placeholder`: what a field that is left out has
 */
export function RowsField({ request, change, fault, field, title, placeholder }) {
  const id = useId();
  return html`<div class="field">
    <label for=${id}>${title}</label>
    <input
      id=${id}
      type="text"
      inputmode="numeric"
      placeholder=${placeholder ?? ""}
      value=${(request[field] ?? []).join(", ")}
      aria-invalid=${fault(field) ? "true" : undefined}
      aria-describedby=${`${id}-hint`}
      onChange=${(/** @type {any} */ event) => {
        const rows = (event.target.value.match(/\d+/g) ?? []).map(Number);
        if (rows.length > 0 || placeholder) change({ [field]: rows.length > 0 ? rows : undefined });
      }}
    />
    <${Hint} id=${`${id}-hint`} fault=${fault(field)} hint="Numbers from 0, such as 0, 3, 7." />
  </div>`;
}
