/** Whether the service answers, and the workers that it has. */

import { signal, useEffect } from "./preact.js";
import { getJson } from "./api.js";

/** @typedef {import("./api.js").Schemas["Ready"]} Ready */

/** What is known of it: null until it has answered, or where it did not, with the reason. */
export const health = signal(/** @type {{ready: Ready | null, error: unknown}} */ ({ ready: null, error: null }));

let asking = false;

/**
 * Ask for it now and every so many seconds, while the page is seen.
 * @param {number | null} seconds null where it is of no interest
 */
export function useHealth(seconds) {
  useEffect(() => {
    if (seconds === null) return undefined;
    look();
    const timer = setInterval(() => document.hidden || look(), seconds * 1000);
    return () => clearInterval(timer);
  }, [seconds]);
}

/** Ask for it now, unless it is being asked. */
export async function look() {
  if (asking) return;
  asking = true;
  try {
    health.value = { ready: await getJson("/health/ready"), error: null };
  } catch (error) {
    health.value = { ready: null, error };
  } finally {
    asking = false;
  }
}
