/** What a study tries: a grid of prunes, and a search. */

import { html } from "../../lib/preact.js";
import { Card, Notice, Select } from "../../lib/parts.js";
import { Check, NumberField } from "./fields.js";
import { Thresholds, useRemoval } from "./thresholds.js";

const BUDGETS = /** @type {Record<string, number>} */ ({ drift: 0.1, accuracy: 0.02, fid: 1 });

/** @param {import("../new.js").Form} props */
export function StudyFields({ request, change, model, fault }) {
  const { grid, search, prunes } = request;
  const single = grid && !Array.isArray(grid) ? grid : null;
  const { sides = ["tail"], fills = ["zero"], schedules = [] } = single ?? {};
  // a threshold that is tried in more than one way removes more than one share
  const one = single && sides.length === 1 && fills.length === 1 && schedules.length <= 1;
  const removal = useRemoval(model, one ? single.thresholds : null, {
    ...request,
    side: sides[0],
    fill: fills[0],
    schedule: schedules[0],
  });
  const has = (/** @type {string} */ name, /** @type {string} */ value, /** @type {string} */ standard) =>
    (single?.[name] ?? [standard]).includes(value);
  /** @param {string} name @param {string} value @param {boolean} on @param {string} standard */
  const toggle = (name, value, on, standard) => {
    const now = /** @type {string[]} */ (single[name] ?? [standard]);
    const next = on ? [...new Set([...now, value])] : now.filter((each) => each !== value);
    if (next.length > 0)
      change({ grid: { ...single, [name]: next.length === 1 && next[0] === standard ? undefined : next } });
  };
  return html`<${Card} title="Prunes to try" lead="Each is scored against the same noise, unpruned.">
      ${
        prunes?.length > 0 &&
        html`<${Notice}><p>${prunes.length} prunes of the earlier request are tried too; see the request. <button
          type="button"
          class="button button-small"
          onClick=${() => change({ prunes: undefined, grid: grid ?? { thresholds: [0.05] } })}
        >Leave them out</button></p></${Notice}>`
      }
      <${Check}
        label="Thresholds"
        value=${Boolean(grid)}
        onChange=${(/** @type {boolean} */ on) => change({ grid: on ? { thresholds: [0.02, 0.05, 0.1] } : undefined })}
      />
      ${
        single &&
        html`<${Thresholds}
            values=${single.thresholds}
            removal=${removal}
            fault=${fault}
            field="grid.thresholds"
            onChange=${(/** @type {number[]} */ thresholds) => change({ grid: { ...single, thresholds } })}
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
      ${Array.isArray(grid) &&
      html`<${Notice}><p>${grid.length} grids of the earlier request; see the request.</p></${Notice}>`}
      ${fault("grid") && !single && html`<div class="field"><div class="fault">${fault("grid")}</div></div>`}
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
        </div>`
      }
      ${fault("search.measure") && html`<div class="field"><div class="fault">${fault("search.measure")}</div></div>`}
    </${Card}>`;
}
