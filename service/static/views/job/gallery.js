/** Pictures and sounds under each prune beside the unpruned ones. */

import { html, useEffect, useId, useMemo, useRef, useState } from "../../lib/preact.js";
import { setQuery } from "../../lib/router.js";
import { url } from "../../lib/api.js";
import { percent, toldApart } from "../../lib/format.js";
import { focusItem } from "../../lib/focus.js";
import { preload } from "../../lib/keyed.js";
import { Button, Card, Dialog, Scrolling, Segmented, Select, SliderField } from "../../lib/parts.js";
import { Pictures, Sounds } from "./pictures.js";

/**
 * @typedef {import("../../lib/api.js").Schemas["Variant"]} Variant
 * @typedef {import("../../lib/api.js").Schemas["Image"]} Image
 * @typedef {import("./pictures.js").Sample} Sample
 */

const FEW = 24;
const BLINK_MS = 700;
const MODES = [
  { value: "pair", title: "Side by side" },
  { value: "blink", title: "Blink" },
  { value: "difference", title: "Difference" },
  { value: "all", title: "All" },
];

/**
 * @param {{job: any, baseline: Variant | null, shown: Variant[], chosen: number, choose: (index: number) => void,
 *   mode: string, note: string | null}} props
 */
export function Gallery({ job, baseline, shown, chosen, choose, mode, note }) {
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
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    // the prunes beside this one, of what is seen, so that the slider does not flicker
    const seen = [...(list.current?.children ?? [])].map((each) => isSeen(each));
    for (const beside of [shown[chosen - 1], shown[chosen + 1]]) {
      beside?.images.forEach(({ artifact }, place) => {
        if (seen[place]) preload(address(job, artifact));
      });
    }
  }, [job.id, chosen, current]);
  const showAll = () => {
    setAll(true);
    focusItem(list, FEW);
  };

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
        : html`<ul class=${`gallery gallery-${current}`} ref=${list}>
            ${some.map(
              (sample, index) =>
                html`<li key=${index}>
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
      html`<div><${Button} small onClick=${showAll}>Show all ${samples.length} samples</${Button}></div>`
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

/** @param {Element} element */
function isSeen(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

/**
 * Every prune as a row of its samples, the unpruned on top.
 * @param {{job: any, baseline: Variant | null, shown: Variant[], chosen: number, choose: (index: number) => void,
 *   enlarge: (place: number) => void, count: number}} props
 */
function AllVariants({ job, baseline, shown, chosen, choose, enlarge, count }) {
  const rows = baseline ? [baseline, ...shown] : shown;
  const captions = captionsOf(/** @type {Variant} */ (rows[0]).images).slice(0, count);
  return html`<${Scrolling} class="gallery-all" label="The samples under every prune">
    <table>
      <caption class="sr-only">
        The samples under every prune
      </caption>
      <thead>
        <tr>
          <td></td>
          ${captions.map((caption) => html`<th scope="col">${caption}</th>`)}
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
                      onClick=${() => (each.prune && choose(shown.indexOf(each)), enlarge(place))}
                    >
                      <span class="sr-only">Enlarge</span>
                      <img
                        src=${address(job, image.artifact)}
                        alt=${`${captions[place]}, ${each.prune ? each.name : "unpruned"}`}
                        loading="lazy"
                      />
                    </button>
                  </td>`,
              )}
            </tr>`,
        )}
      </tbody>
    </table>
  </${Scrolling}>`;
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
  const captions = captionsOf(variant.images);
  return variant.images.map((image, place) => {
    const before = baseline?.images[place];
    const [sound, whole] = [variant.sounds?.[place], baseline?.sounds?.[place]];
    return {
      caption: captions[place] ?? "",
      before: before ? address(job, before.artifact) : null,
      after: address(job, image.artifact),
      sounds: sound
        ? { before: whole ? address(job, whole.artifact) : null, after: address(job, sound.artifact) }
        : null,
    };
  });
}

/**
 * What each picture is of.
 * @param {Image[]} images
 */
export function captionsOf(images) {
  /** @type {Map<number, string>} */
  const named = new Map();
  for (const image of images) {
    const { label, class_name: name, condition } = image;
    named.set(numberOf(image), name ?? (label === null ? `condition ${condition}` : `class ${label}`));
  }
  const numbers = [...named.keys()];
  const names = toldApart([...named.values()], numbers);
  return images.map((image) => {
    const name = names[numbers.indexOf(numberOf(image))] ?? "";
    return image.sample > 0 ? `${name}, sample ${image.sample + 1}` : name;
  });
}

/** @param {Image} image */
function numberOf({ label, condition }) {
  return label ?? condition ?? 0;
}

/**
 * @param {any} job
 * @param {string} artifact
 */
export function address(job, artifact) {
  return url(job.links.artifacts[artifact]);
}
