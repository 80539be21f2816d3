/** What a study tries: a grid of prunes, and a search. */

import { html, useState } from "../../lib/preact.js";
import { Button, Card, Select } from "../../lib/parts.js";
import { inShort } from "../../lib/jobs.js";
import { nameOf, ruleOf, valuesOf } from "../../lib/prunes.js";
import { Check, NumberField, ScheduleFields } from "./fields.js";
import { prunesOf } from "./estimate.js";
import { eachOf } from "./requests.js";
import { Numbers, RuleFields } from "./rule.js";
import { useRemoval } from "../../lib/removal.js";
import { MOST_THRESHOLDS, Thresholds } from "./thresholds.js";

const EVERY = { when: "every" };
/** @type {import("../../lib/api.js").Schemas["StudyRequest"]["measures"] & string[]} */
const MEASURES = [
  "fid", "kid", "inception-score", "precision", "recall", "accuracy", "clip-score", "drift", "psnr", "ssim", "lpips",
];
/** The axes of a grid that have few values, the usual one first. */
const CHOICES = [
  {
    title: "Remove what is",
    axis: "sides",
    options: [
      { value: "tail", title: "below (tail)" },
      { value: "head", title: "above (head)" },
    ],
  },
  {
    title: "By the magnitudes",
    axis: "of",
    options: [
      { value: "c", title: "of c" },
      { value: "read", title: "of SiLU(c)" },
    ],
  },
  {
    title: "In their place",
    axis: "fills",
    options: [
      { value: "zero", title: "zero" },
      { value: "mean", title: "the mean" },
    ],
  },
];
const BUDGETS = /** @type {Record<string, number>} */ ({ drift: 0.1, accuracy: 0.02, fid: 1, "modulation-error": 0.1 });
const HINTS = /** @type {Record<string, string>} */ ({
  drift: "The largest drift.",
  "modulation-error": "The largest modulation error.",
});

/** @param {import("../new.js").Form} props */
export function StudyFields({ request, change, model, fault }) {
  const { grid, search, prunes } = request;
  const { thresholds, remove_fractions, sides = ["tail"], of = ["c"], fills = ["zero"], schedules = [EVERY] } = grid ?? {};
  // a threshold that is tried in more than one way removes more than one share
  const one = grid && [sides, of, fills, schedules].every((/** @type {any[]} */ axis) => axis.length === 1);
  const way = one ? { side: sides[0], of: of[0], fill: fills[0], schedule: schedules[0] } : {};
  const removal = useRemoval(model, { ...request, ...way, threshold: one ? thresholds : undefined });
  const steps = request.steps ?? model.defaults.steps;
  const tried = prunesOf(request);
  const most = model.limits.study_variants;
  /** @param {string} name @param {any} value an axis of a grid that has nothing left is no grid */
  const set = (name, value) => {
    const next = inShort({ ...grid, [name]: value });
    change({ grid: next.thresholds || next.remove_fractions ? next : undefined });
  };
  return html`<${Card} title="Prunes to try" lead=${`Each is scored against the same noise, unpruned. A study has at most ${most}.`}>
      ${tried > most && html`<div class="field"><div class="fault">${tried} prunes are more than the ${most} of one study.</div></div>`}
      <${Prunes} prunes=${prunes ?? []} model=${model} steps=${steps} fault=${fault} change=${change} />
      <div class="pair">
        <${Check}
          label="Thresholds"
          value=${Boolean(thresholds)}
          onChange=${(/** @type {boolean} */ on) => set("thresholds", on ? [0.02, 0.05, 0.1] : undefined)}
        />
        <${Check}
          label="Shares to remove"
          value=${Boolean(remove_fractions)}
          onChange=${(/** @type {boolean} */ on) => set("remove_fractions", on ? [0.25, 0.5, 0.75] : undefined)}
        />
      </div>
      ${thresholds && html`<${Thresholds}
        values=${thresholds}
        removal=${removal}
        fault=${fault}
        field="grid.thresholds"
        onChange=${(/** @type {number[]} */ given) => set("thresholds", given)}
      />`}
      ${remove_fractions && html`<${Numbers}
        rule="remove_fraction"
        field="grid.remove_fractions"
        values=${remove_fractions}
        width=${model.condition_dim}
        removal=${null}
        fault=${fault}
        onChange=${(/** @type {number[]} */ given) => set("remove_fractions", given)}
      />`}
      ${
        grid &&
        html`<div class="pair">
          ${CHOICES.map(
            ({ title, axis, options }) => html`<${Axis}
              title=${title}
              options=${options}
              chosen=${grid[axis] ?? [options[0].value]}
              onChange=${(/** @type {string[] | undefined} */ given) => set(axis, given)}
            />`,
          )}
        </div>`
      }
      ${grid && html`<${Schedules}
        values=${schedules}
        steps=${steps}
        fault=${fault}
        onChange=${(/** @type {any[]} */ given) => set("schedules", given.length === 1 && given[0].when === "every" ? undefined : given)}
      />`}
      ${fault("grid") && !grid && html`<div class="field"><div class="fault">${fault("grid")}</div></div>`}
    </${Card}>
    <${Card} title="Search" lead="The largest threshold that stays within a budget.">
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
              { value: "modulation-error", title: "modulation error (samples nothing)" },
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
            hint=${HINTS[search.measure] ?? "How much worse than unpruned."}
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
            label="Whose magnitudes count"
            value=${search.of ?? "c"}
            options=${CHOICES[1].options}
            onChange=${(/** @type {string} */ of) => change({ search: { ...search, of: of === "c" ? undefined : of } })}
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
 * Which of the values of an axis a grid has: at least one, and by default the first.
 * @param {{title: string, options: {value: string, title: string}[], chosen: string[],
 *   onChange: (values: string[] | undefined) => void}} props
 */
function Axis({ title, options, chosen, onChange }) {
  /** @param {string} value @param {boolean} on */
  const toggle = (value, on) => {
    const next = on ? [...new Set([...chosen, value])] : chosen.filter((each) => each !== value);
    if (next.length > 0) onChange(next.length === 1 && next[0] === options[0].value ? undefined : next);
  };
  return html`<fieldset>
    <legend>${title}</legend>
    <div class="row">
      ${options.map(
        ({ value, title: each }) => html`<${Check}
          label=${each}
          value=${chosen.includes(value)}
          onChange=${(/** @type {boolean} */ on) => toggle(value, on)}
        />`,
      )}
    </div>
  </fieldset>`;
}

/**
 * Prunes that are no grid: each can be changed and left out, and others be added, of any rule.
 * @param {{prunes: any[], model: any, steps: number, fault: (field: string) => string | null,
 *   change: (changes: any) => void}} props
 */
function Prunes({ prunes, model, steps, fault, change }) {
  const usual = { keep: [Math.round(model.condition_dim / 4)] };
  const [draft, setDraft] = useState(/** @type {any} */ (usual));
  const [changed, setChanged] = useState(/** @type {number | null} */ (null));
  const [open, setOpen] = useState(false);
  const set = (/** @type {any[]} */ given) => change({ prunes: given.length > 0 ? given : undefined });
  /** @param {number} index */
  const edit = (index) => {
    const rule = /** @type {string} */ (ruleOf(prunes[index]));
    setDraft({ ...prunes[index], ...(rule !== "threshold_by_step" && { [rule]: valuesOf(prunes[index]) }) });
    setChanged(index);
    setOpen(true);
  };
  const add = () => {
    set(changed === null ? [...prunes, ...eachOf(draft)] : prunes.toSpliced(changed, 1, ...eachOf(draft)));
    setChanged(null);
    setDraft(usual);
  };
  return html`
    ${
      prunes.length > 0 &&
      html`<ul class="chips" aria-label="Prunes">
        ${prunes.map(
          (prune, index) => html`<li class="chip">
            <button type="button" class="chip-name" aria-label=${`Change ${nameOf(prune)}`} onClick=${() => edit(index)}>
              ${nameOf(prune)}
            </button>
            <button
              type="button"
              aria-label=${`Leave out ${nameOf(prune)}`}
              onClick=${() => {
                set(prunes.filter((_, place) => place !== index));
                setChanged(null);
              }}
            >×</button>
          </li>`,
        )}
      </ul>`
    }
    <details open=${open} onToggle=${(/** @type {any} */ event) => setOpen(event.currentTarget.open)}>
      <summary>${changed === null ? "Add a prune of any kind" : `Change ${nameOf(prunes[changed])}`}</summary>
      <div class="stack-small draft">
        <${RuleFields}
          prune=${draft}
          change=${(/** @type {any} */ changes) => setDraft((/** @type {any} */ before) => ({ ...before, ...changes }))}
          model=${model}
          steps=${steps}
          most=${MOST_THRESHOLDS}
          removal=${null}
          fault=${() => null}
        />
        <div><${Button} onClick=${add}>${changed === null ? "Add the prune" : "Change the prune"}</${Button}></div>
      </div>
    </details>
    ${fault("prunes") && html`<div class="field"><div class="fault">${fault("prunes")}</div></div>`}
  `;
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
