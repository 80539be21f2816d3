/** How a model is sampled. */

import { html } from "../../lib/preact.js";
import { count } from "../../lib/format.js";
import { Card, Select, SliderField } from "../../lib/parts.js";
import { Check, NumberField, outside } from "./fields.js";

const MANY_STEPS = 250;
const STRONG = 10;

/** @param {import("../new.js").Form & {compare?: boolean}} props `compare`: whether it can be left out */
export function SamplingFields({ request, change, model, fault, compare }) {
  const { defaults } = model;
  const sampler = request.sampler ?? defaults.sampler;
  const unless = (/** @type {unknown} */ given, /** @type {unknown} */ standard) =>
    given === standard ? undefined : given;
  return html`<${Card} title="Sampling" lead="Fields that are left empty take the model’s own defaults.">
    <${Select}
      label="Sampler"
      value=${sampler}
      options=${model.samplers.map((/** @type {string} */ each) => ({
        value: each,
        title: each === defaults.sampler ? `${each} (default)` : each,
      }))}
      onChange=${(/** @type {string} */ given) =>
        change({
          sampler: unless(given, defaults.sampler),
          timestep_shift: undefined,
          diffusion: undefined,
          last_step: undefined,
        })}
    />
    ${fault("sampler") && html`<div class="field"><div class="fault">${fault("sampler")}</div></div>`}
    <${SliderField}
      label="Steps"
      value=${request.steps ?? defaults.steps}
      min=${2}
      max=${Math.min(MANY_STEPS, model.limits.steps)}
      step=${1}
      hint=${`2 to ${count(model.limits.steps)}.`}
      fault=${fault("steps") ?? outside(request.steps, 2, model.limits.steps)}
      onChange=${(/** @type {number} */ given) => change({ steps: unless(given, defaults.steps) })}
    />
    <${SliderField}
      label="Guidance scale"
      value=${request.guidance_scale ?? defaults.guidance_scale}
      min=${1}
      max=${STRONG}
      step=${0.1}
      hint="1 is unguided."
      fault=${fault("guidance_scale")}
      onChange=${(/** @type {number} */ given) => change({ guidance_scale: unless(given, defaults.guidance_scale) })}
    />
    ${compare && html`<${Check}
      label="Sample unpruned too, and compare"
      value=${request.compare !== false}
      onChange=${(/** @type {boolean} */ given) => change({ compare: given ? undefined : false })}
    />`}
    <details>
      <summary>More settings</summary>
      <div class="stack-small">
        <div class="pair">
          <${NumberField}
            label="Guidance power"
            value=${request.guidance_power}
            fallback=${defaults.guidance_power}
            fault=${fault("guidance_power")}
            onChange=${(/** @type {any} */ given) => change({ guidance_power: given })}
            hint="Of the power-cosine schedule; empty for a constant scale."
          />
          <${NumberField}
            label="Modulation guidance"
            value=${request.modulation?.weight}
            fallback=${0}
            min=${-16}
            max=${16}
            fault=${fault("modulation")}
            onChange=${(/** @type {number | undefined} */ given) =>
              change({ modulation: given === undefined ? undefined : { ...request.modulation, weight: given } })}
            hint="How far each condition is moved away from the null condition; 0 is not at all."
          />
          ${
            ["euler", "heun"].includes(sampler) &&
            html`<${NumberField}
              label="Timestep shift"
              value=${request.timestep_shift}
              fallback=${defaults.timestep_shift}
              fault=${fault("timestep_shift")}
              onChange=${(/** @type {any} */ given) => change({ timestep_shift: given })}
              hint="1 is no shift."
            />`
          }
        </div>
        ${
          sampler === "sde" &&
          html`<div class="pair">
            <${Select}
              label="Diffusion"
              value=${request.diffusion ?? "sigma"}
              options=${["sigma", "linear"].map((value) => ({ value, title: value }))}
              onChange=${(/** @type {string} */ given) => change({ diffusion: unless(given, "sigma") })}
            />
            <${Select}
              label="Last step"
              value=${request.last_step ?? "mean"}
              options=${["mean", "tweedie"].map((value) => ({ value, title: value }))}
              onChange=${(/** @type {string} */ given) => change({ last_step: unless(given, "mean") })}
            />
          </div>`
        }
        <${Select}
          label="Precision"
          value=${request.precision ?? "float32"}
          options=${["float32", "bfloat16", ...(compare ? ["auto"] : [])].map((value) => ({ value, title: value }))}
          onChange=${(/** @type {string} */ given) => change({ precision: unless(given, "float32") })}
        />
      </div>
    </details>
  </${Card}>`;
}
