/** What is sampled: classes by name or number, or uploaded conditions. */

import { html, useId, useState } from "../../lib/preact.js";
import { getJson } from "../../lib/api.js";
import { useLoaded } from "../../lib/load.js";
import { announce, Button, Card, Select } from "../../lib/parts.js";
import { Hint, NumberField } from "./fields.js";

/** @param {import("../new.js").Form & {every?: boolean, single?: boolean}} props `every`: all classes by default */
export function SubjectFields({ request, change, model, fault, every, single }) {
  return html`<${Card} title=${model.classes === null ? "Conditions" : "Classes"}>
    ${
      model.classes === null
        ? html`<${Conditions} request=${request} change=${change} model=${model} fault=${fault} />`
        : html`<${Classes} request=${request} change=${change} model=${model} fault=${fault} every=${every} />`
    }
    ${
      !single &&
      html`<div class="pair">
        <${NumberField}
          label=${model.classes === null ? "Samples of each condition" : "Samples of each class"}
          value=${request.samples_per_label}
          fallback=${model.defaults.samples_per_label}
          min=${1}
          step=${1}
          fault=${fault("samples_per_label")}
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

/** @param {import("../new.js").Form & {every?: boolean | undefined}} props */
function Classes({ request, change, model, fault, every }) {
  const id = useId();
  const [typed, setTyped] = useState("");
  const [wrong, setWrong] = useState(/** @type {string | null} */ (null));
  const standard = every ? null : model.defaults.labels;
  const chosen = /** @type {(number | string)[] | null} */ (request.labels ?? standard);
  const nameOf = (/** @type {number | string} */ label) =>
    typeof label === "number" ? (model.class_names[label] ?? `class ${label}`) : label;
  const add = () => {
    const label = labelOf(typed, model);
    if (label === null) {
      setWrong(
        typed.trim() ? `${model.name} has no class “${typed.trim()}”; there are 0 to ${model.classes - 1}` : null,
      );
      return;
    }
    setTyped("");
    setWrong(null);
    if (!request.labels?.includes(label)) change({ labels: [...(request.labels ?? []), label] });
    announce(`${nameOf(label)} added`);
  };
  const problem = wrong ?? fault("labels");
  return html`
    <div class="field">
      <label for=${id}>Add a class, by name or number</label>
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
        hint=${request.labels
          ? undefined
          : chosen
            ? "The model’s own choice, until you add a class."
            : `All ${model.classes} classes, until you add one.`}
      />
    </div>
    ${
      chosen &&
      html`<ul class="chips" aria-label="Chosen classes">
        ${chosen.map(
          (label) =>
            html`<li class="chip">
              <span>${nameOf(label)}</span
              >${typeof label === "number" && html`<span class="muted number small">${label}</span>`}
              <button
                type="button"
                aria-label=${`Remove ${nameOf(label)}`}
                onClick=${() => {
                  const left = chosen.filter((each) => each !== label);
                  change({ labels: left.length > 0 ? left : undefined });
                }}
              >
                ×
              </button>
            </li>`,
        )}
        ${request.labels && html`<li><${Button}
          small
          kind="quiet"
          onClick=${() => change({ labels: undefined })}
        >Back to the default</${Button}></li>`}
      </ul>`
    }
  `;
}

/**
 * The number of a class by what was typed.
 * @param {string} typed
 * @param {any} model
 */
function labelOf(typed, model) {
  const text = typed.trim();
  if (/^\d+$/.test(text) && Number(text) < model.classes) return Number(text);
  const index = model.class_names.findIndex((/** @type {string} */ name) => name.toLowerCase() === text.toLowerCase());
  return index >= 0 ? index : null;
}

/** @param {import("../new.js").Form} props */
function Conditions({ request, change, fault }) {
  const { data } = useLoaded((signal) => getJson("/conditions", { signal }), []);
  const id = useId();
  const stored = data?.conditions ?? [];
  return html`
    <${Select}
      label="Uploaded conditions"
      value=${request.conditions ?? ""}
      options=${[
        { value: "", title: stored.length > 0 ? "choose one" : "none are uploaded" },
        ...stored.map((/** @type {any} */ each) => ({ value: each.id, title: `${each.id} (${each.count})` })),
      ]}
      onChange=${(/** @type {string} */ given) => change({ conditions: given || undefined, rows: undefined })}
      hint="POST /conditions uploads a file of them."
    />
    ${fault("conditions") && html`<div class="field"><div class="fault">${fault("conditions")}</div></div>`}
    <div class="field">
      <label for=${id}>Rows of the file</label>
      <input
        id=${id}
        type="text"
        inputmode="numeric"
        placeholder="all"
        value=${(request.rows ?? []).join(", ")}
        aria-invalid=${fault("rows") ? "true" : undefined}
        aria-describedby=${`${id}-hint`}
        onChange=${(/** @type {any} */ event) => {
          const rows = (event.target.value.match(/\d+/g) ?? []).map(Number);
          change({ rows: rows.length > 0 ? rows : undefined });
        }}
      />
      <${Hint} id=${`${id}-hint`} fault=${fault("rows")} hint="Numbers from 0, such as 0, 3, 7." />
    </div>
  `;
}
