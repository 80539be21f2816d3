/** The views of tailprune/widget in templates: the threshold, the heatmap and its scale. */

import { html, useEffect, useLayoutEffect, useRef } from "./preact.js";
import { thresholdView } from "../widget/threshold.js";
import { heatmapView } from "../widget/heatmap.js";
import { RAMP } from "../widget/colours.js";
import { fixed } from "./format.js";
import { colour, colours } from "./theme.js";

function palette() {
  const names = /** @type {const} */ (["kept", "removed", "text", "muted", "grid", "surface", "accent"]);
  return /** @type {import("../widget/colours.js").Colours} */ (Object.fromEntries(names.map((name) => [name, colour(name)])));
}

/**
 * A view that lives in an element, told of changes.
 * @param {(element: HTMLElement, now: {current: any}) => {update: (changes: any) => void, destroy: () => void}} make
 * @param {any} callbacks the latest of which are called
 * @param {any} state
 */
function useView(make, callbacks, state) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const view = useRef(/** @type {ReturnType<typeof make> | null} */ (null));
  const now = useRef(callbacks);
  now.current = callbacks;
  useLayoutEffect(() => {
    view.current = make(/** @type {HTMLElement} */ (box.current), now);
    return () => view.current?.destroy();
  }, []);
  // At once: told after the next frame, a view would fall back behind keys that were pressed meanwhile.
  useLayoutEffect(() => view.current?.update(state), Object.values(state));
  return box;
}

/**
 * The sorted magnitudes of one vector, with a threshold to drag.
 * @param {{magnitudes: ArrayLike<number>, removed: Uint8Array, threshold: number | null, text: string, label: string,
 *   onChange: (threshold: number) => void, onDone?: () => void}} props
 */
export function Threshold({ onChange, onDone, ...state }) {
  const theme = colours.value;
  const palettes = useRef(/** @type {{theme: number, colours: any} | null} */ (null));
  if (palettes.current?.theme !== theme) palettes.current = { theme, colours: palette() };
  const box = useView(
    (element, now) =>
      thresholdView(element, {
        onChange: (value) => now.current.onChange(value),
        onDone: () => now.current.onDone?.(),
      }),
    { onChange, onDone },
    { ...state, colours: palettes.current.colours },
  );
  return html`<div class="canvas-box" ref=${box}></div>`;
}

/**
 * A matrix of cosines.
 * @param {Partial<import("../widget/heatmap.js").State> & {onPick: (row: number, column: number) => void,
 *   say: (row: number, column: number, value: number) => string}} props
 */
export function Heatmap({ onPick, say, ...state }) {
  const box = useView(
    (element, now) =>
      heatmapView(element, {
        onPick: (row, column) => now.current.onPick(row, column),
        say: (row, column, value) => now.current.say(row, column, value),
      }),
    { onPick, say },
    state,
  );
  return html`<div class="canvas-box" ref=${box}></div>`;
}

/**
 * What the colours of a heatmap mean.
 * @param {{low: number, high: number, title?: string}} props
 */
export function Scale({ low, high, title = "cosine" }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  useEffect(() => {
    canvas.current?.getContext("2d")?.putImageData(new ImageData(RAMP, 256, 1), 0, 0);
  }, []);
  return html`<div class="row small muted number scale">
    <span>${fixed(low, 3)}</span>
    <canvas class="ramp" ref=${canvas} width="256" height="1" aria-hidden="true"></canvas>
    <span>${fixed(high, 3)}</span>
    <span class="sr-only">${title} from dark to light</span>
  </div>`;
}
