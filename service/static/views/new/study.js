/** What a study tries: a grid of prunes, and a search. */

import { html, useState } from "../../lib/preact.js";
import { Button, Card, Select } from "../../lib/parts.js";
import { Check, NumberField, ScheduleFields } from "./fields.js";
import { prunesOf } from "./estimate.js";
import { Thresholds, useRemoval } from "./thresholds.js";

const EVERY = { when: "every" };
/** @type {import("../../lib/api.js").Schemas["StudyRequest"]["measures"] & string[]} */
const MEASURES = [
  "fid", "kid", "inception-score", "precision", "recall", "accuracy", "clip-score", "drift", "psnr", "ssim", "lpips",
];
const BUDGETS = /** @type {Record<string, number>} */ ({ drift: 0.1, accuracy: 0.02, fid: 1 });

/** @param {import("../new.js").Form} props */
export function StudyFields({ request, change, model, fault }) {
  const { grid, search, prunes } = request;
  const { sides = ["tail"], fills = ["zero"], schedules = [EVERY] } = grid ?? {};
  // a threshold that is tried in more than one way removes more than one share
  const one = grid && sides.length === 1 && fills.length === 1 && schedules.length === 1;
  const removal = useRemoval(model, one ? grid.thresholds : null, {
    ...request,
    side: sides[0],
    fill: fills[0],
    schedule: schedules[0],
  });
  const tried = prunesOf(request);
  const most = model.limits.study_variants;
  const has = (/** @type {string} */ name, /** @type {string} */ value, /** @type {string} */ standard) =>
    (grid?.[name] ?? [standard]).includes(value);
  /** @param {string} name @param {string} value @param {boolean} on @param {string} standard */
  const toggle = (name, value, on, standard) => {
    const now = /** @type {string[]} */ (grid[name] ?? [standard]);
    const next = on ? [...new Set([...now, value])] : now.filter((each) => each !== value);
    if (next.length > 0)
      change({ grid: { ...grid, [name]: next.length === 1 && next[0] === standard ? undefined : next } });
  };
  return html`<${Card} title="Prunes to try" lead=${`Each is scored against the same noise, unpruned. A study has at most ${most}.`}>
      ${tried > most && html`<div class="field"><div class="fault">${tried} prunes are more than the ${most} of one study.</div></div>`}
      <${Prunes} prunes=${prunes ?? []} model=${model} fault=${fault} change=${change} />
      <${Check}
        label="Thresholds"
        value=${Boolean(grid)}
        onChange=${(/** @type {boolean} */ on) => change({ grid: on ? { thresholds: [0.02, 0.05, 0.1] } : undefined })}
      />
      ${
        grid &&
        html`<${Thresholds}
            values=${grid.thresholds}
            removal=${removal}
            fault=${fault}
            field="grid.thresholds"
            onChange=${(/** @type {number[]} */ thresholds) => change({ grid: { ...grid, thresholds } })}
          />
          <div class="pair">
            <fieldset>
              <legend>Remove what is</legend>
              <div class="row">
                <${Check}
                  label="below (tail)"
                  value=${has("sides", "tail", "tail")}
                  onChange=${(/** @type {boolean} */ on) => toggle("sides", "tail", on, "tail")}
                />
                <${Check}
                  label="above (head)"
                  value=${has("sides", "head", "tail")}
                  onChange=${(/** @type {boolean} */ on) => toggle("sides", "head", on, "tail")}
                />
              </div>
            </fieldset>
            <fieldset>
              <legend>In their place</legend>
              <div class="row">
                <${Check}
                  label="zero"
                  value=${has("fills", "zero", "zero")}
                  onChange=${(/** @type {boolean} */ on) => toggle("fills", "zero", on, "zero")}
                />
                <${Check}
                  label="the mean"
                  value=${has("fills", "mean", "zero")}
                  onChange=${(/** @type {boolean} */ on) => toggle("fills", "mean", on, "zero")}
                />
              </div>
            </fieldset>
          </div>`
      }
      ${grid && html`<${Schedules}
        values=${schedules}
        steps=${request.steps ?? model.defaults.steps}
        fault=${fault}
        onChange=${(/** @type {any[]} */ given) =>
          change({ grid: { ...grid, schedules: given.length === 1 && given[0].when === "every" ? undefined : given } })}
      />`}
      ${fault("grid") && !grid && html`<div class="field"><div class="fault">${fault("grid")}</div></div>`}
    </${Card}>
    <${Card} title="Search" lead="The largest threshold whose samples stay within a budget.">
      <${Check}
        label="Search for a threshold"
        value=${Boolean(search)}
        onChange=${(/** @type {boolean} */ on) =>
          change({ search: on ? { measure: "drift", budget: BUDGETS.drift } : undefined })}
      />
      ${
        search &&
        html`<div class="pair">
          <${Select}
            label="Measure"
            value=${search.measure}
            options=${[
              { value: "drift", title: "drift" },
              { value: "accuracy", title: "class accuracy" },
              { value: "fid", title: "Fréchet distance" },
            ]}
            onChange=${(/** @type {string} */ measure) =>
              change({ search: { ...search, measure, budget: BUDGETS[measure] } })}
          />
          <${NumberField}
            label="Budget"
            value=${search.budget}
            min=${0}
            fault=${fault("search.budget")}
            onChange=${(/** @type {any} */ budget) => change({ search: { ...search, budget } })}
            hint=${search.measure === "drift" ? "The largest drift." : "How much worse than unpruned."}
          />
          <${NumberField}
            label="Trials"
            value=${search.trials}
            fallback=${7}
            min=${1}
            max=${16}
            step=${1}
            fault=${fault("search.trials")}
            onChange=${(/** @type {any} */ trials) => change({ search: { ...search, trials } })}
          />
          <${Select}
            label="In their place"
            value=${search.fill ?? "zero"}
            options=${[{ value: "zero", title: "zero" }, { value: "mean", title: "the mean" }]}
            onChange=${(/** @type {string} */ fill) => change({ search: { ...search, fill: fill === "zero" ? undefined : fill } })}
          />
        </div>
        <${ScheduleFields}
          value=${search.schedule}
          steps=${request.steps ?? model.defaults.steps}
          fault=${fault("search.schedule")}
          onChange=${(/** @type {any} */ schedule) => change({ search: { ...search, schedule } })}
        />`
      }
      ${fault("search.measure") && html`<div class="field"><div class="fault">${fault("search.measure")}</div></div>`}
    </${Card}>
    <${Measures} measures=${request.measures} fault=${fault} onChange=${(/** @type {string[] | undefined} */ measures) => change({ measures })} />`;
}

/**
 * Prunes that are no grid: each can be left out, and one by a number of components be added.
 * @param {{prunes: any[], model: any, fault: (field: string) => string | null, change: (changes: any) => void}} props
 */
function Prunes({ prunes, model, fault, change }) {
  const [keep, setKeep] = useState(/** @type {number | undefined} */ (Math.round(model.condition_dim / 4)));
  const set = (/** @type {any[]} */ given) => change({ prunes: given.length > 0 ? given : undefined });
  return html`
    ${
      prunes.length > 0 &&
      html`<ul class="chips" aria-label="Prunes">
        ${prunes.map(
          (prune, index) => html`<li class="chip">
            <span>${nameOf(prune)}</span>
            <button
              type="button"
              aria-label=${`Leave out ${nameOf(prune)}`}
              onClick=${() => set(prunes.filter((_, place) => place !== index))}
            >×</button>
          </li>`,
        )}
      </ul>`
    }
    <div class="add add-end">
      <${NumberField}
        label=${`A prune that keeps so many of ${model.condition_dim} components`}
        value=${keep}
        min=${1}
        max=${model.condition_dim}
        step=${1}
        onChange=${setKeep}
      />
      <${Button} onClick=${() => keep && set([...prunes, { keep }])}>Add the prune</${Button}>
    </div>
    ${fault("prunes") && html`<div class="field"><div class="fault">${fault("prunes")}</div></div>`}
  `;
}

/** @param {any} prune */
function nameOf({ threshold, keep, side = "tail", fill, schedule }) {
  const rule = keep === undefined ? `${side} ${threshold}` : `keep ${keep}`;
  const steps = !schedule || schedule.when === "every" ? "" : `, ${schedule.when} ${schedule.count ?? 1} steps`;
  return `${rule}${fill ? `, ${fill}` : ""}${steps}`;
}

/**
 * The schedules of a grid.
 * @param {{values: any[], steps: number, fault: (field: string) => string | null, onChange: (values: any[]) => void}} props
 */
function Schedules({ values, steps, fault, onChange }) {
  return html`<div class="stack-small">
    ${values.map(
      (value, index) => html`<div class="threshold">
        <${ScheduleFields}
          value=${value}
          steps=${steps}
          fault=${fault(`grid.schedules.${index}`)}
          onChange=${(/** @type {any} */ given) => onChange(values.map((each, place) => (place === index ? (given ?? EVERY) : each)))}
        />
        ${values.length > 1 && html`<${Button}
          small
          aria-label=${`Remove schedule ${index + 1}`}
          onClick=${() => onChange(values.filter((_, place) => place !== index))}
        >Remove</${Button}>`}
      </div>`,
    )}
    <div><${Button} small onClick=${() => onChange([...values, { when: "first", count: Math.max(1, Math.floor(steps / 2)) }])}>
      Try other steps too
    </${Button}></div>
  </div>`;
}

/** @param {{measures: string[] | undefined, fault: (field: string) => string | null, onChange: (measures: string[] | undefined) => void}} props */
function Measures({ measures, fault, onChange }) {
  const toggle = (/** @type {string} */ name, /** @type {boolean} */ on) => {
    const next = MEASURES.filter((each) => (each === name ? on : measures?.includes(each)));
    onChange(next.length > 0 ? next : undefined);
  };
  return html`<${Card} title="Measures" lead=${measures ? "Those that are chosen." : "All that the model can be scored by, until one is chosen."}>
    <fieldset>
      <legend class="sr-only">Measures</legend>
      <div class="row">
        ${MEASURES.map(
          (name) => html`<${Check}
            label=${name}
            value=${measures?.includes(name) ?? false}
            onChange=${(/** @type {boolean} */ on) => toggle(name, on)}
          />`,
        )}
      </div>
    </fieldset>
    ${fault("measures") && html`<div class="field"><div class="fault">${fault("measures")}</div></div>`}
  </${Card}>`;
}
