/** A matrix of cosines as colours: hover, arrow keys and clicks name a pair. */

import { RAMP, rampIndex } from "./colours.js";

/**
 * @typedef {object} State
 * @property {Float32Array} values row by row
 * @property {number} count rows
 * @property {number[]} order which vector is at each place
 * @property {number} low the cosine of the darkest colour
 * @property {number} high the cosine of the lightest colour
 * @property {[number, number] | null} pair the vectors that are marked
 * @property {string} label what is shown, in words
 */

/**
 * A view in an element, until `destroy`.
 * @param {HTMLElement} element
 * @param {{onPick: (row: number, column: number) => void, onHover?: (row: number, column: number) => void,
 *   say: (row: number, column: number, value: number) => string}} options
 *   `onPick` is told a pair that was clicked or reached by keys, `onHover` one that is pointed at (-1 for none);
 *   `say` describes a pair
 */
export function heatmapView(element, { onPick, onHover = () => {}, say }) {
  const canvas = document.createElement("canvas");
  const tip = document.createElement("div");
  element.replaceChildren(canvas, tip);
  Object.assign(element.style, { position: "relative" });
  Object.assign(canvas.style, { width: "100%", aspectRatio: "1", display: "block", cursor: "crosshair" });
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-roledescription", "heatmap");
  tip.className = "tip";
  tip.hidden = true;
  const picture = document.createElement("canvas");

  /** @type {State} */
  let state = { values: new Float32Array(), count: 0, order: [], low: 0, high: 1, pair: null, label: "" };
  let painted = false;
  let frame = 0;

  function paint() {
    const { values, count, order, low, high } = state;
    picture.width = picture.height = count;
    const image = new ImageData(count, count);
    const pixels = new Uint32Array(image.data.buffer);
    const ramp = new Uint32Array(RAMP.buffer);
    for (let row = 0, at = 0; row < count; row++) {
      const start = order[row] * count;
      for (let column = 0; column < count; column++, at++) {
        const value = values[start + order[column]];
        pixels[at] = ramp[rampIndex(value, low, high)];
      }
    }
    picture.getContext("2d")?.putImageData(image, 0, 0);
    painted = true;
  }

  function draw() {
    frame = 0;
    const size = Math.round(element.clientWidth * (globalThis.devicePixelRatio || 1));
    if (!state.count || !size) return;
    if (!painted) paint();
    if (canvas.width !== size) canvas.width = canvas.height = size;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.imageSmoothingEnabled = size < state.count;
    context.drawImage(picture, 0, 0, size, size);
    if (state.pair) mark(context, size, state.pair);
    canvas.setAttribute("aria-label", state.label);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} size
   * @param {[number, number]} pair
   */
  function mark(context, size, pair) {
    const cell = size / state.count;
    const [y, x] = pair.map((vector) => (state.order.indexOf(vector) + 0.5) * cell);
    const reach = Math.max(cell / 2, 4 * (globalThis.devicePixelRatio || 1));
    for (const [wide, colour] of /** @type {const} */ ([[5, "#000000"], [2.5, "#ffffff"]])) {
      context.lineWidth = wide;
      context.strokeStyle = colour;
      context.strokeRect(x - reach, y - reach, 2 * reach, 2 * reach);
    }
  }

  const schedule = () => (frame ||= requestAnimationFrame(draw));

  /**
   * @param {PointerEvent | MouseEvent} event
   * @returns {[number, number] | null}
   */
  function pairAt(event) {
    const box = canvas.getBoundingClientRect();
    const place = [event.clientY - box.top, event.clientX - box.left].map((offset) =>
      Math.floor((offset / box.width) * state.count),
    );
    const [row, column] = place.map((at) => state.order[at]);
    return row === undefined || column === undefined ? null : [row, column];
  }

  /** @param {[number, number]} pair */
  function pick(pair) {
    state = { ...state, pair }; // the next key may come before the page has told it
    onPick(...pair);
  }

  canvas.addEventListener("pointermove", (event) => {
    const pair = pairAt(event);
    tip.hidden = pair === null;
    onHover(...(pair ?? /** @type {[number, number]} */ ([-1, -1])));
    if (!pair) return;
    const [row, column] = pair;
    tip.textContent = say(row, column, state.values[row * state.count + column]);
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    Object.assign(tip.style, {
      top: `${y < 60 ? y + 16 : y - 44}px`,
      left: x < box.width / 2 ? `${x + 12}px` : "auto",
      right: x < box.width / 2 ? "auto" : `${box.width - x + 12}px`,
    });
  });
  canvas.addEventListener("pointerleave", () => {
    tip.hidden = true;
    onHover(-1, -1);
  });
  canvas.addEventListener("click", (event) => {
    const pair = pairAt(event);
    if (pair) pick(pair);
  });
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!by || !state.count) return;
    event.preventDefault();
    const step = event.shiftKey ? 10 : 1;
    const places = (state.pair ?? [state.order[0], state.order[0]]).map((vector, axis) => {
      const place = state.order.indexOf(vector) + by[axis] * step;
      return state.order[Math.min(state.count - 1, Math.max(0, place))];
    });
    pick(/** @type {[number, number]} */ (places));
  });
  const resized = new ResizeObserver(schedule);
  resized.observe(element);

  return {
    /**
     * Show something else.
     * @param {Partial<State>} changes
     */
    update(changes) {
      const before = state;
      state = { ...state, ...changes };
      for (const name of /** @type {const} */ (["values", "order", "low", "high"])) {
        if (state[name] !== before[name]) painted = false;
      }
      schedule();
    },
    destroy() {
      cancelAnimationFrame(frame);
      resized.disconnect();
      element.replaceChildren();
    },
  };
}
