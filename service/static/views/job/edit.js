/** What edit made: a row of samples for each strength, and what the classifier sees in them. */

import { html } from "../../lib/preact.js";
import { duration, fixed, number, percent, precision } from "../../lib/format.js";
import { Chart } from "../../lib/chart.js";
import { Card, Scrolling, Stats, Table } from "../../lib/parts.js";
import { address, captionsOf } from "./gallery.js";

/**
 * @typedef {import("../../lib/api.js").Schemas["EditResult"]} Edited
 * @typedef {import("../../lib/api.js").Schemas["EditVariant"]} Variant
 * @typedef {import("../../lib/api.js").Schemas["EditedImage"]} Image
 */

/** @param {{job: any}} props */
export function EditResult({ job }) {
  const result = /** @type {Edited} */ (job.result);
  const { variants, classifier, moved, pictures, timing, engine } = result;
  return html`
    <${Card}
      title="Samples by strength"
      lead=${
        pictures.note ??
        (classifier
          ? `Under each picture is the class that ${classifier} sees in it, and its probability.`
          : "The model has no classifier that would say what the pictures show.")
      }
    >
      <${Rows} job=${job} variants=${variants} target=${job.request.target} />
    </${Card}>
    <${Card} title="Numbers" lead=${leadOf(result)}>
      <${Numbers} variants=${variants} classifier=${classifier} target=${job.request.target} />
      ${classifier && variants.length > 1 && html`<${Probabilities} variants=${variants} />`}
      <${Stats}
        small
        values=${[
          ["Moved", percent(moved), "of the difference, by its norm"],
          ["Sampling", duration(timing.sample), `${number(timing.samples_per_second)} samples a second`],
          ["Pictures and files", duration(timing.decode)],
          ["Device", engine.device, precision(engine)],
        ]}
      />
    </${Card}>
  `;
}

/** @param {Edited} result */
function leadOf({ variants, classifier }) {
  const drifts = variants.some(({ drift }) => drift) ? "Drift compares with strength 0, from the same noise." : "";
  return `${classifier ? "Probabilities are means over the samples. " : ""}${drifts}`;
}

/**
 * Every strength as a row of its samples.
 * @param {{job: any, variants: Variant[], target: number[]}} props
 */
function Rows({ job, variants, target }) {
  const captions = captionsOf(/** @type {Variant} */ (variants[0]).images);
  return html`<${Scrolling} class="gallery-all" label="The samples by strength">
    <table>
      <caption class="sr-only">The samples by strength</caption>
      <thead>
        <tr>
          <td></td>
          ${captions.map((caption) => html`<th scope="col">${caption}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${variants.map(
          (variant) =>
            html`<tr>
              <th scope="row" class="number">${number(variant.edit.strength ?? 1)}</th>
              ${variant.images.map(
                (image, place) =>
                  html`<td>
                    <img
                      src=${address(job, image.artifact)}
                      alt=${`${captions[place]}, ${variant.name}`}
                      loading="lazy"
                    />
                    <${Seen} image=${image} target=${target} />
                    ${variant.sounds?.[place] &&
                    html`<audio
                      controls
                      preload="none"
                      src=${address(job, /** @type {any} */ (variant.sounds[place]).artifact)}
                      aria-label=${`${captions[place]}, ${variant.name}`}
                    ></audio>`}
                  </td>`,
              )}
            </tr>`,
        )}
      </tbody>
    </table>
  </${Scrolling}>`;
}

/** @param {{image: Image, target: number[]}} props */
function Seen({ image: { verdict }, target }) {
  if (!verdict) return null;
  const name = verdict.class_name ?? `class ${verdict.label}`;
  return html`<div class=${`small ${target.includes(verdict.label) ? "reached" : "muted"}`}>
    ${name} <span class="number">${percent(verdict.probability, 0)}</span>
  </div>`;
}

/** @param {{variants: Variant[], classifier: string | null, target: number[]}} props */
function Numbers({ variants, classifier, target }) {
  const seen = classifier ? ["Seen as the target", "Probability of the source", "Probability of the target"] : [];
  return html`<${Table}
    caption="What each strength does"
    hideCaption
    columns=${[{ title: "Edit" }, ...[...seen, "Drift", "PSNR, dB", "SSIM"].map((title) => ({ title, number: true }))]}
    rows=${variants.map(({ name, images, source, target: towards, drift }) => [
      html`<span class="nowrap">${name}</span>`,
      ...(classifier
        ? [
            `${images.filter(({ verdict }) => verdict && target.includes(verdict.label)).length} of ${images.length}`,
            percent(source ?? 0),
            percent(towards ?? 0),
          ]
        : []),
      fixed(drift?.latent, 4),
      drift ? fixed(drift.psnr, 2) : "–",
      fixed(drift?.ssim, 4),
    ])}
  />`;
}

/** @param {{variants: Variant[]}} props */
function Probabilities({ variants }) {
  const rising = [...variants].sort((a, b) => (a.edit.strength ?? 1) - (b.edit.strength ?? 1));
  const of = (/** @type {"source" | "target"} */ end) => rising.map((each) => 100 * (each[end] ?? 0));
  return html`<${Chart}
    label="The probability of the source and of the target by strength"
    x=${rising.map(({ edit }) => edit.strength ?? 1)}
    series=${[
      { title: "source", values: of("source") },
      { title: "target", values: of("target") },
    ]}
    xAxis=${{ title: "strength" }}
    yAxis=${{ title: "probability, %", range: [0, 100] }}
    height=${220}
  />`;
}
