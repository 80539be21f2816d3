/** The key of whoever uses the pages, which this tab keeps until it is closed. */

import { signal } from "./preact.js";

const KEPT_AS = "tailprune-key";

/** The key; empty where none was needed so far. */
export const key = signal(sessionStorage.getItem(KEPT_AS) ?? "");

/** Whether a key is asked for: the first time, or since the service does not know the one that it was sent. */
export const asking = signal(/** @type {"" | "first" | "again"} */ (""));

/** @type {((entered: boolean) => void)[]} */
let waiting = [];

/**
 * Whether the person enters a key, other than one that the service has refused. All who ask meanwhile wait for the same.
 * @param {string} refused the key that was sent; empty for none
 * @returns {Promise<boolean>}
 */
export function entered(refused) {
  if (key.value !== refused) return Promise.resolve(true); // another request has asked for it already
  asking.value = refused ? "again" : "first";
  return new Promise((resolve) => waiting.push(resolve));
}

/**
 * Keep a key, or go on without one.
 * @param {string} given empty for none
 */
export function answer(given) {
  if (given) {
    sessionStorage.setItem(KEPT_AS, given);
    key.value = given;
  }
  asking.value = "";
  const told = waiting;
  waiting = [];
  for (const tell of told) tell(given !== "");
}

/** Forget the key: the next request asks for one. */
export function forget() {
  sessionStorage.removeItem(KEPT_AS);
  key.value = "";
}
