/**
 * The sorted magnitudes of one vector, with a threshold that can be dragged: what is removed is hatched.
 *
 * The threshold is a slider for keys and screen readers too. With a finger it is moved by its grip alone, so that the
 * page still scrolls where the picture is touched.
 */

import { LIGHT, sharpContext } from "./colours.js";

/**
 * @typedef {object} State
 * @property {ArrayLike<number>} magnitudes |c| of each component
 * @property {Uint8Array} removed 1 where a component is removed
 * @property {number | null} threshold none is shown for null
 * @property {string} text what the threshold does, in words: "0.038, removes 56.3 %"
 * @property {string} label of what the magnitudes are
 */

const HEIGHT = 300;
const LEFT = 52;
const RIGHT = 20;
const TOP = 14;
const BOTTOM = 34;
const GRIP = 26;
const DECADES = 6; // at most so many below the greatest magnitude
const FINE = 1.02;
const COARSE = 1.25;

/**
 * A view in an element, until `destroy`.
 * @param {HTMLElement} element
 * @param {{onChange: (threshold: number) => void, onDone?: () => void, colours?: import("./colours.js").Colours}} options
 *   `onChange` is told each threshold while it moves, `onDone` that it rests
 */
export function thresholdView(element, { onChange, onDone = () => {}, colours = LIGHT }) {
  const canvas = document.createElement("canvas");
  const grip = document.createElement("div");
  const tip = document.createElement("div");
  element.replaceChildren(canvas, grip, tip);
  Object.assign(element.style, { position: "relative", userSelect: "none" });
  Object.assign(canvas.style, { width: "100%", display: "block", cursor: "ns-resize" });
  canvas.setAttribute("role", "img");
  Object.assign(grip.style, {
    position: "absolute", width: `${GRIP}px`, height: `${GRIP}px`, borderRadius: "50%", cursor: "ns-resize",
    touchAction: "none", boxSizing: "border-box", border: "3px solid", boxShadow: "0 1px 4px #0005",
  });
  grip.tabIndex = 0;
  grip.setAttribute("role", "slider");
  grip.setAttribute("aria-orientation", "vertical");
  grip.setAttribute("aria-label", "Threshold");
  tip.className = "tip";
  tip.hidden = true;

  /** @type {State} */
  let state = { magnitudes: [], removed: new Uint8Array(), threshold: null, text: "", label: "" };
  /** @type {number[]} */
  let order = []; // components, the greatest magnitude first
  let [low, high] = [1e-3, 1];
  let width = 0;
  let frame = 0;
  let dragging = false;

  const plot = () => ({ wide: width - LEFT - RIGHT, high: HEIGHT - TOP - BOTTOM });
  /** @param {number} value */
  const yOf = (value) => {
    const share = Math.log(Math.max(value, low) / low) / Math.log(high / low);
    return TOP + plot().high * (1 - Math.min(1, share));
  };
  /** @param {number} y */
  const valueAt = (y) => {
    const share = Math.min(1, Math.max(0, 1 - (y - TOP) / plot().high));
    return Number((low * (high / low) ** share).toPrecision(3));
  };

  function draw() {
    frame = 0;
    width = element.clientWidth;
    if (width < LEFT + RIGHT + 10) return;
    const context = sharpContext(canvas, width, HEIGHT);
    const { wide, high: tall } = plot();
    const floor = TOP + tall;
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (let power = Math.ceil(Math.log10(low)); power <= Math.log10(high); power++) {
      const y = Math.round(yOf(10 ** power)) + 0.5;
      context.fillStyle = colours.grid;
      context.fillRect(LEFT, y - 0.5, wide, 1);
      context.fillStyle = colours.muted;
      context.fillText(power < -3 ? `1e${power}` : String(Number((10 ** power).toPrecision(1))), LEFT - 8, y);
    }
    const step = wide / (order.length || 1);
    const hatch = hatching(context, colours.removed);
    for (const gone of [0, 1]) {
      context.fillStyle = gone ? hatch : colours.kept;
      order.forEach((k, rank) => {
        if (state.removed[k] !== gone) return;
        const y = Math.min(floor - 1, yOf(state.magnitudes[k]));
        context.fillRect(LEFT + rank * step, y, Math.max(step > 4 ? step - 1 : step, 0.6), floor - y);
        if (gone) {
          context.fillStyle = colours.removed; // an edge, so that a removed component is seen to have a height
          context.fillRect(LEFT + rank * step, y, Math.max(step > 4 ? step - 1 : step, 0.6), 1.5);
          context.fillStyle = hatch;
        }
      });
    }
    context.fillStyle = colours.muted;
    context.textAlign = "left";
    context.fillText("|c|", 4, TOP);
    context.textAlign = "center";
    context.fillText(`${order.length} components, the greatest first`, LEFT + wide / 2, HEIGHT - 12);
    drawThreshold(context, wide);
    canvas.setAttribute("aria-label", `${state.label}: sorted magnitudes. ${state.text}`);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} wide
   */
  function drawThreshold(context, wide) {
    grip.hidden = state.threshold === null;
    grip.style.display = grip.hidden ? "none" : "block";
    if (state.threshold === null) return;
    const y = yOf(state.threshold);
    context.strokeStyle = colours.text;
    context.lineWidth = 1.5;
    context.setLineDash([6, 4]);
    context.beginPath();
    context.moveTo(LEFT, y);
    context.lineTo(LEFT + wide, y);
    context.stroke();
    context.setLineDash([]);
    const text = `τ = ${state.threshold}`;
    context.font = "600 13px system-ui, sans-serif";
    context.textAlign = "right";
    const above = y > TOP + 22;
    const wideText = context.measureText(text).width;
    context.fillStyle = colours.surface;
    context.globalAlpha = 0.85;
    context.fillRect(LEFT + wide - GRIP - wideText - 6, above ? y - 21 : y + 4, wideText + 8, 18);
    context.globalAlpha = 1;
    context.fillStyle = colours.text;
    context.fillText(text, LEFT + wide - GRIP - 2, above ? y - 11 : y + 13);
    Object.assign(grip.style, {
      top: `${y - GRIP / 2}px`, left: `${LEFT + wide - GRIP / 2}px`,
      background: colours.surface, borderColor: colours.text,
    });
    const [least, most] = [low, high].map((end) => Number(end.toPrecision(3)));
    grip.setAttribute("aria-valuemin", String(least));
    grip.setAttribute("aria-valuemax", String(most));
    grip.setAttribute("aria-valuenow", String(Math.min(most, Math.max(least, state.threshold)))); // the text has the value
    grip.setAttribute("aria-valuetext", state.text);
  }

  const schedule = () => (frame ||= requestAnimationFrame(draw));

  /** @param {PointerEvent} event */
  const move = (event) => onChange(valueAt(event.clientY - canvas.getBoundingClientRect().top));

  /** @param {PointerEvent} event */
  function onDown(event) {
    if (state.threshold === null || event.button !== 0) return;
    if (event.currentTarget === canvas && event.pointerType !== "mouse") return;
    dragging = true;
    /** @type {Element} */ (event.currentTarget).setPointerCapture(event.pointerId);
    event.preventDefault();
    grip.focus({ preventScroll: true });
    move(event);
  }

  /** @param {PointerEvent} event */
  function onMove(event) {
    if (dragging) move(event);
    else if (event.currentTarget === canvas) point(event);
  }

  function onUp() {
    if (dragging) onDone();
    dragging = false;
  }

  /** @param {PointerEvent} event */
  function point(event) {
    const box = canvas.getBoundingClientRect();
    const rank = Math.floor(((event.clientX - box.left - LEFT) / plot().wide) * order.length);
    const k = order[rank];
    tip.hidden = k === undefined;
    if (k === undefined) return;
    const size = state.magnitudes[k];
    tip.textContent = `component ${k}: |c| = ${Number(size.toPrecision(3))}, ${state.removed[k] ? "removed" : "kept"}`;
    const x = event.clientX - box.left;
    Object.assign(tip.style, {
      top: `${Math.max(0, event.clientY - box.top - 40)}px`,
      left: x < width / 2 ? `${x + 12}px` : "auto",
      right: x < width / 2 ? "auto" : `${width - x + 12}px`,
    });
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const now = Math.min(high, Math.max(low, state.threshold ?? low));
    const to = {
      ArrowUp: now * FINE, ArrowRight: now * FINE, ArrowDown: now / FINE, ArrowLeft: now / FINE,
      PageUp: now * COARSE, PageDown: now / COARSE, Home: low, End: high,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const threshold = Number(Math.min(high, Math.max(low, to)).toPrecision(3));
    state = { ...state, threshold }; // the next key may come before the page has told it
    onChange(threshold);
    onDone();
  }

  for (const target of /** @type {HTMLElement[]} */ ([canvas, grip])) {
    target.addEventListener("pointerdown", onDown);
    target.addEventListener("pointermove", onMove);
    target.addEventListener("pointerup", onUp);
    target.addEventListener("pointercancel", onUp);
  }
  canvas.addEventListener("pointerleave", () => (tip.hidden = true));
  grip.addEventListener("keydown", onKey);
  const resized = new ResizeObserver(schedule);
  resized.observe(element);

  return {
    /**
     * Show something else.
     * @param {Partial<State> & {colours?: import("./colours.js").Colours}} changes
     */
    update({ colours: others, ...changes }) {
      if (others) colours = others;
      const before = state;
      state = { ...state, ...changes };
      const { magnitudes } = state;
      if (magnitudes !== before.magnitudes) {
        order = Array.from({ length: magnitudes.length }, (_, k) => k);
        order.sort((a, b) => magnitudes[b] - magnitudes[a]);
        const greatest = magnitudes[order[0] ?? 0] || 1;
        const least = magnitudes[order.at(-1) ?? 0] || 0;
        high = 10 ** (Math.ceil(Math.log10(greatest) * 4) / 4);
        low = Math.max(10 ** Math.floor(Math.log10(least || high / 10 ** DECADES)), high / 10 ** DECADES);
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

/**
 * Diagonal lines, which are told from a plain area without colour.
 * @param {CanvasRenderingContext2D} context
 * @param {string} colour
 */
function hatching(context, colour) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d"));
  pen.globalAlpha = 0.18;
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 6, 6);
  pen.globalAlpha = 1;
  pen.strokeStyle = colour;
  pen.lineWidth = 1.2;
  pen.beginPath();
  for (const start of [-6, 0, 6]) {
    pen.moveTo(start, 6);
    pen.lineTo(start + 6, 0);
  }
  pen.stroke();
  return /** @type {CanvasPattern} */ (context.createPattern(tile, "repeat"));
}
