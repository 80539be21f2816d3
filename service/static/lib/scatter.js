/** Points with names, coloured by a value; the chosen one is a ring with its name. */

import { html, useState } from "./preact.js";
import { fixed } from "./format.js";
import { Scale } from "./widgets.js";
import { RAMP, rampIndex } from "../widget/colours.js";

const SIZE = 400;
const MARGIN = 14;

/**
 * @param {{label: string, x: number[], y: number[], names: string[], values: number[] | null, chosen: number,
 *   onPick: (index: number) => void}} props
 */
export function Scatter({ label, x, y, names, values, chosen, onPick }) {
  const [pointed, setPointed] = useState(-1);
  const others = (values ?? []).filter((_, index) => index !== chosen);
  const [low, high] = [Math.min(...others), Math.max(...others)];
  const place = placer(x, y);
  const shown = pointed >= 0 ? pointed : chosen;
  const [left, top] = place(shown);
  return html`<div class="stack-small">
    <svg class="scatter" viewBox=${`0 0 ${SIZE} ${SIZE}`} role="img" aria-label=${label} onMouseLeave=${() => setPointed(-1)}>
      ${x.map((_, index) => {
        const [cx, cy] = place(index);
        return html`<circle
          cx=${cx}
          cy=${cy}
          r=${index === chosen ? 8 : 5}
          fill=${values ? ramp(values[index], low, high) : "var(--kept)"}
          class=${index === chosen ? "chosen" : ""}
          onMouseEnter=${() => setPointed(index)}
          onClick=${() => onPick(index)}
        />`;
      })}
      <text x=${left} y=${top - 13} text-anchor=${left > 0.75 * SIZE ? "end" : left < 0.25 * SIZE ? "start" : "middle"}>
        ${names[shown]}${values && shown !== chosen ? ` · ${fixed(values[shown], 4)}` : ""}
      </text>
    </svg>
    ${values && html`<${Scale} low=${low} high=${high} title=${`cosine to ${names[chosen]}`} />`}
  </div>`;
}

/**
 * @param {number[]} x
 * @param {number[]} y
 * @returns {(index: number) => [number, number]}
 */
function placer(x, y) {
  const [left, right, low, high] = [Math.min(...x), Math.max(...x), Math.min(...y), Math.max(...y)];
  const scale = (SIZE - 2 * MARGIN) / (Math.max(right - left, high - low) || 1);
  const [midX, midY] = [(left + right) / 2, (low + high) / 2];
  return (index) => [SIZE / 2 + (x[index] - midX) * scale, SIZE / 2 - (y[index] - midY) * scale];
}

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
function ramp(value, low, high) {
  const at = rampIndex(value, low, high) * 4;
  return `rgb(${RAMP[at]} ${RAMP[at + 1]} ${RAMP[at + 2]})`;
}
