/** What a smaller model keeps, and the times that it covers. */

import { html } from "../../lib/preact.js";
import { count } from "../../lib/format.js";
import { Card, Segmented, Select } from "../../lib/parts.js";
import { Check, NumberField } from "./fields.js";
import { Thresholds } from "./thresholds.js";

/** @param {import("../new.js").Form} props */
export function CompactFields({ request, change, model, fault }) {
  const { threshold, keep, by, side, of, fill, guided } = request;
  const rule = keep !== undefined ? (by ?? (fill === "refit" ? "prediction" : "variance")) : (side ?? "tail");
  /** @param {string} chosen */
  const choose = (chosen) => {
    if (chosen === "tail" || chosen === "head")
      change({
        keep: undefined,
        by: undefined,
        fill: undefined,
        threshold: threshold ?? 0.05,
        side: chosen === "tail" ? undefined : chosen,
      });
    else
      change({
        threshold: undefined,
        side: undefined,
        of: undefined,
        fill: undefined,
        keep: keep ?? Math.round(model.condition_dim / 4),
        by: chosen === "variance" ? undefined : chosen,
      });
  };
  /** @type {string[]} */
  const samplers = model.samplers.filter((/** @type {string} */ each) => each !== "dopri5"); // it chooses its times
  const standard = keep === undefined ? "zero" : "mean";
  return html`<${Card} title="What stays" lead="AdaLN of the new model reads fewer columns of the condition.">
      <${Segmented}
        label="Remove"
        options=${[
          { value: "tail", title: "below a threshold" },
          { value: "head", title: "above a threshold" },
          { value: "variance", title: "all but the k most varied" },
          { value: "prediction", title: "all but k that predict the rest" },
          { value: "directions", title: "all but k directions" },
        ]}
        value=${rule}
        onChange=${choose}
      />
      ${threshold !== undefined && html`<${Thresholds}
        values=${[threshold]}
        most=${1}
        removal=${null}
        fault=${fault}
        field="threshold"
        onChange=${(/** @type {number[]} */ given) => change({ threshold: given[0] })}
      />
      <${Segmented}
        label="Magnitudes of"
        options=${[
          { value: "c", title: "c" },
          { value: "read", title: "what the blocks read, SiLU(c)" },
        ]}
        value=${of ?? "c"}
        onChange=${(/** @type {string} */ given) => change({ of: given === "c" ? undefined : given })}
      />`}
      ${
        keep !== undefined &&
        html`<${NumberField}
          label=${rule === "directions" ? "Directions to keep" : `Components to keep, of ${model.condition_dim}`}
          value=${keep}
          min=${1}
          max=${model.condition_dim}
          step=${1}
          fault=${fault("keep")}
          onChange=${(/** @type {number | undefined} */ given) => change({ keep: given })}
        />`
      }
      ${
        rule !== "directions" &&
        rule !== "prediction" &&
        html`<${Segmented}
          label="In their place"
          options=${[
            { value: "zero", title: "zero" },
            { value: "mean", title: "the mean over classes" },
            { value: "refit", title: "predicted from what stays" },
          ]}
          value=${fill ?? standard}
          onChange=${(/** @type {string} */ given) =>
            change({
              fill: given === standard ? undefined : given,
              by: rule === "variance" && given === "refit" ? "variance" : undefined, // else it would be the prediction
            })}
        />`
      }
      ${fault("fill") && html`<div class="field"><div class="fault">${fault("fill")}</div></div>`}
    </${Card}>
    <${Card} title="Times" lead="It is made for the times of this sampler.">
      <div class="pair">
        <${Select}
          label="Sampler"
          value=${request.sampler ?? model.defaults.sampler}
          options=${samplers.map((each) => ({ value: each, title: each }))}
          onChange=${(/** @type {string} */ given) =>
            change({ sampler: given === model.defaults.sampler ? undefined : given })}
        />
        <${NumberField}
          label="Steps"
          value=${request.steps}
          fallback=${model.defaults.steps}
          min=${2}
          max=${model.limits.steps}
          step=${1}
          hint=${`2 to ${count(model.limits.steps)}.`}
          fault=${fault("steps")}
          onChange=${(/** @type {any} */ steps) => change({ steps })}
        />
      </div>
      ${model.null_condition && html`<${Check}
        label="Cover guided sampling"
        value=${guided !== false}
        onChange=${(/** @type {boolean} */ on) => change({ guided: on ? undefined : false })}
      />`}
    </${Card}>`;
}
