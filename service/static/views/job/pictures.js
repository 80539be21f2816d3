/** A sample: its pictures, unpruned and pruned, and its sounds. */

import { html } from "../../lib/preact.js";
import { Difference } from "./difference.js";

/**
 * @typedef {{before: string | null, after: string}} Pair addresses of an unpruned sample and of the same pruned
 * @typedef {Pair & {caption: string, sounds: Pair | null}} Sample
 */

/**
 * The pictures of a sample, as a button that enlarges them: its name is what they show, and how much they differ.
 * @param {{sample: Sample, mode: string, unpruned: boolean, gain: number, variant: string, enlarge: () => void}} props
 */
export function Pictures({ sample, mode, unpruned, gain, variant, enlarge }) {
  const { before, after, caption } = sample;
  const enlarges = html`<span class="sr-only">Enlarge</span>`;
  if (mode === "difference" && before) {
    return html`<button type="button" class="picture" onClick=${enlarge}>
      ${enlarges} <${Difference} caption=${caption} before=${before} after=${after} gain=${gain} />
    </button>`;
  }
  if (mode === "blink" && before) {
    const mark = unpruned ? "unpruned" : "pruned";
    return html`<button type="button" class="picture" onClick=${enlarge}>
      ${enlarges} <${Picture} src=${unpruned ? before : after} alt=${`${caption}, ${unpruned ? mark : variant}`} mark=${mark} />
    </button>`;
  }
  return html`<button type="button" class="picture picture-pair" onClick=${enlarge}>
    ${enlarges}
    ${before && html`<span><${Picture} src=${before} alt=${`${caption}, unpruned`} mark="unpruned" /></span>`}${" "}
    <span><${Picture} src=${after} alt=${`${caption}, ${variant}`} mark=${before && "pruned"} /></span>
  </button>`;
}

/**
 * A picture that is fetched once it is about to be seen.
 * @param {{src: string, alt: string, mark: string | null}} props
 */
function Picture({ src, alt, mark }) {
  return html`<img src=${src} alt=${alt} loading="lazy" />
    ${mark && html`<span class="picture-mark" aria-hidden="true">${mark}</span>`}`;
}

/** @param {{sample: Sample}} props */
export function Sounds({ sample: { sounds, caption } }) {
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
