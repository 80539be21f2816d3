/** The difference of two pictures, multiplied so that it is seen. */

import { html, useEffect, useRef, useState } from "../../lib/preact.js";
import { percent } from "../../lib/format.js";
import { source } from "../../lib/keyed.js";
import { useSeen } from "../../lib/load.js";

/**
 * |after - before| of each channel, and its mean over the picture; computed once it is about to be seen.
 * @param {{caption: string, before: string, after: string, gain: number}} props addresses; the factor by which it is
 *   multiplied
 */
export function Difference({ caption, before, after, gain }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const [pixels, setPixels] = useState(/** @type {ImageData | null} */ (null));
  const seen = useSeen(canvas);
  useEffect(() => {
    if (!seen) return undefined;
    let current = true;
    Promise.all([read(before), read(after)]).then(
      ([first, second]) => current && setPixels(difference(first, second)),
      () => current && setPixels(null),
    );
    return () => {
      current = false;
    };
  }, [before, after, seen]);
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!canvas.current || !context || !pixels) return;
    canvas.current.width = pixels.width;
    canvas.current.height = pixels.height;
    const shown = new ImageData(pixels.width, pixels.height);
    for (let at = 0; at < pixels.data.length; at += 4) {
      for (let channel = 0; channel < 3; channel += 1) {
        shown.data[at + channel] = gain * /** @type {number} */ (pixels.data[at + channel]); // clamped to 255
      }
      shown.data[at + 3] = 255;
    }
    context.putImageData(shown, 0, 0);
  }, [pixels, gain]);
  const says = pixels ? `mean ${percent(mean(pixels), 2)}` : "";
  return html`<canvas
      ref=${canvas}
      width="128"
      height="128"
      role="img"
      aria-label=${`${caption}, difference, ${says}`}
    ></canvas>
    <span class="picture-mark number" aria-hidden="true">${says}</span>`;
}

/**
 * The pixels of a picture.
 * @param {string} address
 */
async function read(address) {
  const picture = new Image();
  picture.src = await source(address);
  await picture.decode();
  const canvas = new OffscreenCanvas(picture.naturalWidth, picture.naturalHeight);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (
    canvas.getContext("2d", { willReadFrequently: true })
  );
  context.drawImage(picture, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/**
 * @param {ImageData} first
 * @param {ImageData} second
 */
function difference(first, second) {
  const shown = new ImageData(first.width, first.height);
  for (let at = 0; at < first.data.length; at += 1) {
    shown.data[at] = Math.abs((first.data[at] ?? 0) - (second.data[at] ?? 0));
  }
  return shown;
}

/**
 * The mean over pixels and channels, as a share of the range of a channel.
 * @param {ImageData} pixels
 */
function mean({ data }) {
  let sum = 0;
  for (let at = 0; at < data.length; at += 1) if (at % 4 < 3) sum += data[at] ?? 0;
  return sum / (255 * 0.75 * data.length);
}
