/** What compactions made: the whole model beside the small one, and a large transformer with its errors. */

import { html } from "../../lib/preact.js";
import { href } from "../../lib/router.js";
import { url } from "../../lib/api.js";
import { bytes, count, duration, fixed, number, percent } from "../../lib/format.js";
import { Becomes, Button, Card, Scrolling, Stats, Table } from "../../lib/parts.js";

/** @typedef {import("../../lib/api.js").Schemas["CompactResult"]} Compacted */

/** @param {{job: any}} props */
export function CompactResult({ job }) {
  const result = /** @type {Compacted} */ (job.result);
  const { model, compacted, compared, covered, timing } = result;
  const { drift, sampler, steps, guidance_scale: scale } = compared;
  const guided = covered.guided ? "with guidance" : "without guidance";
  const subjects = covered.labels ? `${covered.labels.length} classes` : `${covered.conditions} conditions`;
  return html`
    <${Card}
      title="The small model"
      lead=${`AdaLN reads ${result.width} columns in place of ${result.components}: it keeps ${result.kept} ${
        result.by === "directions" ? "principal directions" : "components"
      }${result.fill === "refit" ? ", from which the others are predicted" : ""}${result.time_columns ? ` and ${result.time_columns} more for the mean over time` : ""}.`}
    >
      <p class="new-model"><code>${compacted.name}</code></p>
      <div class="row">
        <${Button} kind="primary" href=${href("/ui/new", { model: compacted.name })}>Sample it</${Button}>
        <${Button} href=${href(`/ui/models/${compacted.name}`)}>Look at it</${Button}>
        <${Button} href=${href("/ui/compare", { a: model.name, b: compacted.name })}>Compare both</${Button}>
        <${Button} href=${url(job.links.artifacts[result.checkpoint])} download=${result.checkpoint}>
          Download (${bytes(result.bytes.after)})
        </${Button}>
      </div>
      <div class="bars">
        <${Shrunk} title="AdaLN parameters" ...${result.adaln_parameters} text=${count} />
        <${Shrunk} title="Parameters" ...${result.parameters} text=${count} />
        <${Shrunk} title="Checkpoint" ...${result.bytes} text=${bytes} />
      </div>
    </${Card}>
    <${Card}
      title="Whole beside small"
      lead=${`${compared.samples} samples from the same noise, the whole model's on top: ${sampler}, ${steps} steps,
        guidance scale ${number(scale)}.`}
    >
      <${Scrolling} class="bare" label="Samples of both models">
        <img
          class="paper whole"
          src=${url(job.links.artifacts[result.samples])}
          alt=${`Samples of ${model.name} in the upper row, of ${compacted.name} in the lower`}
        />
      </${Scrolling}>
      <${Stats}
        values=${[
          ["Drift", fixed(drift.latent, 4), "of the latents"],
          ["PSNR", drift.psnr === null ? (drift.latent === 0 ? "∞" : "–") : `${fixed(drift.psnr, 2)} dB`],
          ["SSIM", fixed(drift.ssim, 4)],
          ...(result.bias_error === null || result.bias_error === undefined
            ? []
            : [["Error of the mean", number(result.bias_error), "of what it adds to the blocks"]]),
        ]}
      />
      <${Table}
        caption="The whole model and the small one"
        hideCaption
        columns=${[{ title: "Size of" }, ...[model.name, "Small", "Saved"].map((title) => ({ title, number: true }))]}
        rows=${[
          [
            "Columns that AdaLN reads",
            count(result.components),
            count(result.width),
            saved({ before: result.components, after: result.width }),
          ],
          [
            "Parameters of AdaLN",
            count(result.adaln_parameters.before),
            count(result.adaln_parameters.after),
            saved(result.adaln_parameters),
          ],
          ["Parameters", count(result.parameters.before), count(result.parameters.after), saved(result.parameters)],
          ["Checkpoint", bytes(result.bytes.before), bytes(result.bytes.after), saved(result.bytes)],
        ]}
      />
      <p class="small muted">
        ${`Covers ${covered.timesteps.length} times and ${subjects}, ${guided}. `}
        Compacting took ${duration(timing.compact)}, the comparison ${duration(timing.compare)}.
      </p>
    </${Card}>
  `;
}

/** @param {{job: any}} props */
export function CompactTransformerResult({ job }) {
  const result = /** @type {import("../../lib/api.js").Schemas["CompactTransformerResult"]} */ (job.result);
  const { error_between: between, text_error: ofTexts, notes } = result;
  return html`<${Card}
    title="The small model"
    lead=${`AdaLN reads ${count(result.rank)} directions of SiLU(c). Covered: ${result.covers}.`}
    aside=${result.name}
  >
    <div class="bars">
      <${Shrunk} title="AdaLN parameters" ...${result.adaln_parameters} text=${count} />
      <${Shrunk} title="Parameters" ...${result.parameters} text=${count} />
      <${Shrunk} title="Weights" ...${result.bytes} text=${bytes} />
    </div>
    <${Stats}
      values=${[
        ["Error", number(result.error), "of shifts, scales and gates"],
        ["At worst", number(result.worst_error), "of what is covered"],
        ["In between", between === null ? "not measured" : number(between), "halfway between covered times"],
        ...(ofTexts === null || ofTexts === undefined
          ? []
          : [["One text for all", number(ofTexts), "more, of the pooled texts"]]),
      ]}
    />
    ${notes?.map((note) => html`<p class="small">${note}</p>`)}
    <p class="small muted">
      ${`AdaLN is stored in ${result.dtype}. The files below are a folder that tailprune.load_transformer and diffusers `}
      ${`load. Compacting took ${duration(result.timing.compact)}, storing ${duration(result.timing.store)}.`}
    </p>
  </${Card}>`;
}

/** @param {{before: number, after: number}} change */
function saved({ before, after }) {
  return percent(1 - after / before);
}

/**
 * A size before and after.
 * @param {{title: string, before: number, after: number, text: (value: number) => string}} props
 */
function Shrunk({ title, before, after, text }) {
  return html`<div>
    <div class="row-between small">
      <span>${title}</span
      ><span class="muted number"><${Becomes} from=${text(before)} to=${text(after)} />, ${saved({ before, after })} less</span>
    </div>
    <div class="bar" aria-hidden="true"><div style=${{ width: `${(100 * after) / before}%` }}></div></div>
  </div>`;
}
