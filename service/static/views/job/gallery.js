/** What prune-sample made: pictures and sounds under each prune beside the unpruned ones, and the numbers of each. */

import { html, useEffect, useId, useMemo, useRef, useState } from "../../lib/preact.js";
import { setQuery } from "../../lib/router.js";
import { url } from "../../lib/api.js";
import { duration, fixed, number, percent } from "../../lib/format.js";
import { preload } from "../../lib/keyed.js";
import { Chart } from "../../lib/chart.js";
import { Button, Card, Dialog, Segmented, Select, SliderField, Stats, Table } from "../../lib/parts.js";
import { Difference } from "./difference.js";

/**
 * @typedef {import("../../lib/api.js").Schemas["Variant"]} Variant
 * @typedef {import("../../lib/api.js").Schemas["Image"]} Image
 * @typedef {{before: string | null, after: string}} Pair addresses of an unpruned sample and of the same pruned
 * @typedef {Pair & {caption: string, sounds: Pair | null}} Sample
 */

const FEW = 24;
const BLINK_MS = 700;
const MODES = [
  { value: "pair", title: "Side by side" },
  { value: "blink", title: "Blink" },
  { value: "difference", title: "Difference" },
  { value: "all", title: "All" },
];

/** @param {{job: any, query: URLSearchParams}} props */
export function PruneSampleResult({ job, query }) {
  const { variants, pictures, timing, engine } = job.result;
  const baseline = /** @type {Variant | null} */ (variants.find((/** @type {Variant} */ each) => !each.prune) ?? null);
  const prunes = /** @type {Variant[]} */ (variants.filter((/** @type {Variant} */ each) => each.prune));
  const shown = prunes.length > 0 ? prunes : [/** @type {Variant} */ (baseline)];
  const chosen = Math.max(
    0,
    shown.findIndex((each) => each.name === query.get("variant")),
  );
  const choose = (/** @type {number} */ index) => setQuery({ variant: shown[index]?.name });
  return html`
    <${Gallery}
      job=${job}
      baseline=${prunes.length > 0 ? baseline : null}
      shown=${shown}
      chosen=${chosen}
      choose=${choose}
      mode=${query.get("mode") ?? "pair"}
      note=${pictures.note}
    />
    <${Card}
      title="Numbers"
      lead="Removed is the mean over steps and samples. Drift compares with the unpruned samples from the same noise."
    >
      ${prunes.length > 0 && html`<${Numbers}
        prunes=${prunes}
        chosen=${chosen}
      /><${BySteps} variant=${prunes[chosen]} />`}
      <${Stats}
        small
        values=${[
          ["Sampling", duration(timing.sample), `${number(timing.samples_per_second)} samples a second`],
          ["Loading", duration(timing.load)],
          ["Pictures and files", duration(timing.decode)],
          ["Waiting", duration(timing.queue)],
          ["Device", engine.device, engine.dtype],
        ]}
      />
    </${Card}>
  `;
}

/** @param {{prunes: Variant[], chosen: number}} props */
function Numbers({ prunes, chosen }) {
  const some = prunes.find(({ removed }) => removed && removed.fraction > 0)?.removed;
  const dim = some ? Math.round(some.mean / some.fraction) : null;
  return html`<${Table}
    caption="What each prune removes, and what it does"
    hideCaption
    selected=${chosen}
    columns=${[
      { title: "Prune" },
      ...["Removed", `Components a step${dim ? `, of ${dim}` : ""}`, "nPR", "Cosine", "Drift", "PSNR, dB", "SSIM"].map(
        (title) => ({ title, number: true }),
      ),
    ]}
    rows=${prunes.map(({ name, removed, embedding, drift }) => [
      html`<span class="nowrap">${name}</span>`,
      percent(removed?.fraction),
      removed ? `${removed.min} to ${removed.max}` : "–",
      embedding ? `${fixed(embedding.npr_before, 4)} → ${fixed(embedding.npr_after, 4)}` : "–",
      embedding ? `${fixed(embedding.cosine_before, 4)} → ${fixed(embedding.cosine_after, 4)}` : "–",
      fixed(drift?.latent, 4),
      drift ? (drift.psnr === null && drift.latent === 0 ? "∞" : fixed(drift.psnr, 2)) : "–",
      fixed(drift?.ssim, 4),
    ])}
  />`;
}

/** @param {{variant: Variant}} props */
function BySteps({ variant: { name, removed } }) {
  if (!removed || removed.by_step.length < 2 || !(removed.fraction > 0)) return null;
  const dim = removed.mean / removed.fraction;
  return html`<${Chart}
    label=${`Removed at each step by ${name}`}
    x=${removed.by_step.map((_, step) => step + 1)}
    series=${[{ title: name, values: removed.by_step.map((each) => (100 * each) / dim), colour: "removed" }]}
    xAxis=${{ title: "sampling step" }}
    yAxis=${{ title: "removed, %", range: [0, 100] }}
    height=${220}
  />`;
}

/**
 * @param {{job: any, baseline: Variant | null, shown: Variant[], chosen: number, choose: (index: number) => void,
 *   mode: string, note: string | null}} props
 */
function Gallery({ job, baseline, shown, chosen, choose, mode, note }) {
  const variant = /** @type {Variant} */ (shown[chosen]);
  const samples = useMemo(() => samplesOf(job, baseline, variant), [job, variant]);
  const [all, setAll] = useState(false);
  const [enlarged, setEnlarged] = useState(/** @type {number | null} */ (null));
  const [gain, setGain] = useState(4);
  const [playing, setPlaying] = useState(() => !matchMedia("(prefers-reduced-motion: reduce)").matches);
  const unpruned = useBlink(mode === "blink", playing);
  const modes = baseline ? MODES : MODES.filter(({ value }) => value === "pair" || value === "all");
  const current = modes.some(({ value }) => value === mode) ? mode : "pair";
  const some = all ? samples : samples.slice(0, FEW);
  useEffect(() => {
    const names = [baseline, ...shown].flatMap(
      (each) => each?.images.slice(0, FEW).map(({ artifact }) => artifact) ?? [],
    );
    for (const name of names.slice(0, 400)) preload(address(job, name)); // so that the slider does not flicker
  }, [job.id]);

  return html`<${Card} title="Gallery" lead=${note ?? undefined}>
    <div class="gallery-tools">
      ${shown.length > 1 && html`<${VariantSlider} variants=${shown} chosen=${chosen} choose=${choose} />`}
      <div class="row row-end">
        <${Segmented}
          label="Show"
          options=${baseline ? modes : modes.map((each) => (each.value === "pair" ? { ...each, title: "One" } : each))}
          value=${current}
          onChange=${(/** @type {string} */ value) => setQuery({ mode: value === "pair" ? null : value })}
        />
        ${
          current === "blink" &&
          html`<${Button} small onClick=${() => setPlaying(!playing)}>
            ${playing ? "Stop blinking" : "Blink by itself"}
          </${Button}>
          <${Button} small onClick=${() => (setPlaying(false), unpruned.toggle())}>
            Show the ${unpruned.value ? "pruned" : "unpruned"}
          </${Button}>`
        }
      </div>
      ${
        current === "difference" &&
        html`<${SliderField}
          label="Differences multiplied by"
          value=${gain}
          min=${1}
          max=${32}
          step=${1}
          onChange=${setGain}
        />`
      }
    </div>
    ${
      current === "all"
        ? html`<${AllVariants}
            job=${job}
            baseline=${baseline}
            shown=${shown}
            chosen=${chosen}
            enlarge=${setEnlarged}
            choose=${choose}
            count=${all ? Infinity : FEW}
          />`
        : html`<ul class=${`gallery gallery-${current}`}>
            ${some.map(
              (sample, index) =>
                html`<li key=${sample.caption}>
                  <figure>
                    <${Pictures}
                      sample=${sample}
                      mode=${current}
                      unpruned=${unpruned.value}
                      gain=${gain}
                      variant=${variant.name}
                      enlarge=${() => setEnlarged(index)}
                    />
                    <figcaption>${sample.caption}</figcaption>
                    ${sample.sounds && html`<${Sounds} sample=${sample} />`}
                  </figure>
                </li>`,
            )}
          </ul>`
    }
    ${
      some.length < samples.length &&
      html`<div><${Button} small onClick=${() => setAll(true)}>Show all ${samples.length} samples</${Button}></div>`
    }
    ${
      enlarged !== null &&
      html`<${Enlarged}
        samples=${samples}
        place=${enlarged}
        setPlace=${setEnlarged}
        variants=${shown}
        chosen=${chosen}
        choose=${choose}
        onClose=${() => setEnlarged(null)}
      />`
    }
  </${Card}>`;
}

/**
 * Which prune is shown: a slider, and the same as a list.
 * @param {{variants: Variant[], chosen: number, choose: (index: number) => void}} props
 */
function VariantSlider({ variants, chosen, choose }) {
  const id = useId();
  const variant = /** @type {Variant} */ (variants[chosen]);
  const says = (/** @type {Variant} */ each) => `${each.name}, removes ${percent(each.removed?.fraction)}`;
  return html`<div class="variant-slider">
    <div class="field">
      <label for=${id}>Prune: <span class="number">${says(variant)}</span></label>
      <input
        id=${id}
        type="range"
        min="0"
        max=${variants.length - 1}
        step="1"
        value=${chosen}
        list=${`${id}-ticks`}
        aria-valuetext=${says(variant)}
        onInput=${(/** @type {any} */ event) => choose(event.target.valueAsNumber)}
      />
      <datalist id=${`${id}-ticks`}>${variants.map((_, index) => html`<option value=${index}></option>`)}</datalist>
    </div>
    <${Select}
      label="Or choose it"
      value=${variant.name}
      options=${variants.map((each) => ({ value: each.name, title: each.name }))}
      onChange=${(/** @type {string} */ name) => choose(variants.findIndex((each) => each.name === name))}
    />
  </div>`;
}

/**
 * @param {{sample: Sample, mode: string, unpruned: boolean, gain: number, variant: string, enlarge: () => void}} props
 */
function Pictures({ sample, mode, unpruned, gain, variant, enlarge }) {
  const { before, after, caption } = sample;
  if (mode === "difference" && before) {
    return html`<button type="button" class="picture" onClick=${enlarge} aria-label=${`Enlarge ${caption}`}>
      <${Difference} before=${before} after=${after} gain=${gain} />
    </button>`;
  }
  if (mode === "blink" && before) {
    return html`<button type="button" class="picture" onClick=${enlarge} aria-label=${`Enlarge ${caption}`}>
      <img src=${unpruned ? before : after} alt=${`${caption}, ${unpruned ? "unpruned" : variant}`} />
      <span class="picture-mark">${unpruned ? "unpruned" : "pruned"}</span>
    </button>`;
  }
  return html`<button type="button" class="picture picture-pair" onClick=${enlarge} aria-label=${`Enlarge ${caption}`}>
    ${before && html`<span><img
      src=${before}
      alt=${`${caption}, unpruned`}
    /><span class="picture-mark">unpruned</span></span>`}
    <span
      ><img
        src=${after}
        alt=${`${caption}, ${variant}`}
      />${before && html`<span class="picture-mark">pruned</span>`}</span
    >
  </button>`;
}

/** @param {{sample: Sample}} props */
function Sounds({ sample: { sounds, caption } }) {
  if (!sounds) return null;
  return html`<div class="sounds">
    ${
      sounds.before &&
      html`<div>
        <span class="small muted">unpruned</span
        ><audio controls preload="none" src=${sounds.before} aria-label=${`${caption}, unpruned`}></audio>
      </div>`
    }
    <div>
      <span class="small muted">pruned</span
      ><audio controls preload="none" src=${sounds.after} aria-label=${`${caption}, pruned`}></audio>
    </div>
  </div>`;
}

/**
 * Every prune as a row of its samples, the unpruned on top.
 * @param {{job: any, baseline: Variant | null, shown: Variant[], chosen: number, choose: (index: number) => void,
 *   enlarge: (place: number) => void, count: number}} props
 */
function AllVariants({ job, baseline, shown, chosen, choose, enlarge, count }) {
  const rows = baseline ? [baseline, ...shown] : shown;
  const head = /** @type {Variant} */ (rows[0]).images.slice(0, count);
  return html`<div
    class="table-wrap gallery-all"
    tabindex="0"
    role="region"
    aria-label="The samples under every prune"
  >
    <table>
      <caption class="sr-only">
        The samples under every prune
      </caption>
      <thead>
        <tr>
          <td></td>
          ${head.map((image) => html`<th scope="col">${captionOf(image)}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (each) =>
            html`<tr class=${each === shown[chosen] ? "selected" : ""}>
              <th scope="row">
                ${each.prune ? each.name : "unpruned"}<br /><span class="small muted"
                  >${each.removed ? percent(each.removed.fraction) : ""}</span
                >
              </th>
              ${each.images.slice(0, count).map(
                (image, place) =>
                  html`<td>
                    <button
                      type="button"
                      class="picture"
                      aria-label=${`Enlarge ${captionOf(image)}, ${each.prune ? each.name : "unpruned"}`}
                      onClick=${() => (each.prune && choose(shown.indexOf(each)), enlarge(place))}
                    >
                      <img src=${address(job, image.artifact)} alt="" loading="lazy" />
                    </button>
                  </td>`,
              )}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/**
 * @param {{samples: Sample[], place: number, setPlace: (place: number) => void, variants: Variant[], chosen: number,
 *   choose: (index: number) => void, onClose: () => void}} props
 */
function Enlarged({ samples, place, setPlace, variants, chosen, choose, onClose }) {
  const sample = /** @type {Sample} */ (samples[place]);
  const variant = /** @type {Variant} */ (variants[chosen]);
  return html`<${Dialog} title=${sample.caption} onClose=${onClose}>
    <div class="stack-small">
      <div class="enlarged">
        ${
          sample.before &&
          html`<figure>
            <img src=${sample.before} alt=${`${sample.caption}, unpruned`} />
            <figcaption>unpruned</figcaption>
          </figure>`
        }
        <figure><img
          src=${sample.after}
          alt=${`${sample.caption}, ${variant.name}`}
        /><figcaption>${variant.name}</figcaption></figure>
      </div>
      ${sample.sounds && html`<${Sounds} sample=${sample} />`}
      ${variants.length > 1 && html`<${VariantSlider} variants=${variants} chosen=${chosen} choose=${choose} />`}
      ${
        samples.length > 1 &&
        html`<div class="row">
        <${Button}
          small
          onClick=${() => setPlace((place + samples.length - 1) % samples.length)}
        >Previous sample</${Button}>
        <${Button} small onClick=${() => setPlace((place + 1) % samples.length)}>Next sample</${Button}>
        <span class="small muted number">${place + 1} of ${samples.length}</span>
      </div>`
      }
    </div>
  </${Dialog}>`;
}

/**
 * Whether blinking pictures show the unpruned sample now.
 * @param {boolean} on
 * @param {boolean} playing
 */
function useBlink(on, playing) {
  const [value, setValue] = useState(false);
  const toggle = useRef(() => setValue((now) => !now));
  useEffect(() => {
    if (!on || !playing) return undefined;
    const timer = setInterval(toggle.current, BLINK_MS);
    return () => clearInterval(timer);
  }, [on, playing]);
  return { value, toggle: toggle.current };
}

/**
 * @param {any} job
 * @param {Variant | null} baseline
 * @param {Variant} variant
 * @returns {Sample[]}
 */
function samplesOf(job, baseline, variant) {
  return variant.images.map((image, place) => {
    const before = baseline?.images[place];
    const [sound, whole] = [variant.sounds?.[place], baseline?.sounds?.[place]];
    return {
      caption: captionOf(image),
      before: before ? address(job, before.artifact) : null,
      after: address(job, image.artifact),
      sounds: sound
        ? { before: whole ? address(job, whole.artifact) : null, after: address(job, sound.artifact) }
        : null,
    };
  });
}

/** @param {Image} image */
function captionOf({ label, class_name: name, condition, sample }) {
  const what = name ?? (label === null ? `condition ${condition}` : `class ${label}`);
  return sample > 0 ? `${what}, sample ${sample + 1}` : what;
}

/**
 * @param {any} job
 * @param {string} artifact
 */
function address(job, artifact) {
  return url(job.links.artifacts[artifact]);
}
