/** Colours that a canvas draws with: the map of the heatmap, and those of a theme. */

/**
 * @typedef {object} Colours
 * @property {string} kept
 * @property {string} removed
 * @property {string} text
 * @property {string} muted
 * @property {string} grid
 * @property {string} surface
 * @property {string} accent
 */

/** Okabe and Ito's, on white. @type {Colours} */
export const LIGHT = {
  kept: "#0072b2",
  removed: "#c2410c",
  text: "#17202b",
  muted: "#566273",
  grid: "#e3e7ed",
  surface: "#ffffff",
  accent: "#00649f",
};

/** The same for a dark page. @type {Colours} */
export const DARK = {
  kept: "#56a9e4",
  removed: "#f59a5d",
  text: "#e7ecf2",
  muted: "#9eabbb",
  grid: "#232d39",
  surface: "#151c26",
  accent: "#6cb9f0",
};

// viridis, at ten places; even in lightness, so that it reads the same without colour
const VIRIDIS = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37],
];

/** 256 colours of viridis, as the bytes of RGBA. */
export const RAMP = new Uint8ClampedArray(256 * 4);
for (let index = 0; index < 256; index++) {
  const place = (index / 255) * (VIRIDIS.length - 1);
  const low = VIRIDIS[Math.floor(place)];
  const high = VIRIDIS[Math.ceil(place)];
  for (let channel = 0; channel < 3; channel++) {
    const [from, to] = [low[channel], high[channel]];
    RAMP[index * 4 + channel] = from + (place % 1) * (to - from);
  }
  RAMP[index * 4 + 3] = 255;
}

/**
 * The place of a value in RAMP.
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
export function rampIndex(value, low, high) {
  return Math.min(255, Math.max(0, Math.round(((value - low) / (high - low || 1)) * 255)));
}

/**
 * The drawing context of a canvas that is as sharp as the screen is, cleared.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width in CSS pixels
 * @param {number} height
 */
export function sharpContext(canvas, width, height) {
  const ratio = globalThis.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide) canvas.width = wide;
  if (canvas.height !== high) canvas.height = high;
  canvas.style.height = `${height}px`;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
