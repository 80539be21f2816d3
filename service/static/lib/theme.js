/** The theme: the system's, or the one that the switch chose; and its colours for canvases. */

import { effect, signal } from "./preact.js";

/** @typedef {"auto" | "light" | "dark"} Theme */

const KEY = "tailprune.theme"; // theme.js reads it before the first paint

function stored() {
  try {
    const theme = localStorage.getItem(KEY);
    return theme === "light" || theme === "dark" ? theme : "auto";
  } catch {
    return "auto"; // storage may be forbidden
  }
}

/** The chosen theme. */
export const theme = signal(/** @type {Theme} */ (stored()));

const system = matchMedia("(prefers-color-scheme: dark)");

/** Counts changes of colours: what draws on a canvas reads it, and draws again. */
export const colours = signal(0);
system.addEventListener("change", () => (colours.value += 1));

effect(() => {
  const chosen = theme.value;
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  try {
    if (chosen === "auto") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, chosen);
  } catch {
    // then it lasts until the page is left
  }
  colours.value = colours.peek() + 1;
});

const probe = document.createElement("span");
probe.hidden = true;

/**
 * A colour of style.css, as canvases take it: `colour("accent")`.
 * @param {string} name
 */
export function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}
