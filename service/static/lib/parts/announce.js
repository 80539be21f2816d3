/** What screen readers are told of changes that they would not notice. */

import { signal } from "../preact.js";

const LEAST_MS = 1000;
const AGAIN = "\u00a0";

/** What a screen reader is told; `announce` sets it. */
export const announced = signal("");

let next = "";
let said = 0;
let timer = 0;

/**
 * Tell screen readers something: at once, but at most once a second, and then the latest of what was asked for.
 * @param {string} text the same text is told again
 */
export function announce(text) {
  next = text;
  if (timer) return;
  timer = window.setTimeout(say, Math.max(0, said + LEAST_MS - Date.now()));
}

function say() {
  timer = 0;
  said = Date.now();
  announced.value = next === announced.value ? next + AGAIN : next; // what is not changed is not told
}
