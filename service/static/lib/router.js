/** Addresses: which view is shown, with the values of its query, which can be shared and come back with "back". */

import { signal } from "./preact.js";

const FILE = new URL(import.meta.url).pathname;

/** The prefix under which a proxy publishes the service: "" or "/tailprune". */
export const PREFIX = FILE.slice(0, FILE.lastIndexOf("/ui/static/"));

/**
 * @typedef {object} Place
 * @property {string} path after the prefix, such as "/ui/models/shapes-sit"
 * @property {URLSearchParams} query
 * @property {number} visit counts navigations; changes of the query alone leave it as it is
 */

/** @returns {Omit<Place, "visit">} */
function here() {
  return { path: location.pathname.slice(PREFIX.length), query: new URLSearchParams(location.search) };
}

/** Where the page is. */
export const place = signal(/** @type {Place} */ ({ ...here(), visit: 0 }));

/**
 * The address of a page.
 * @param {string} path such as "/ui/jobs"
 * @param {Record<string, unknown>} [query] values of undefined, null and "" are left out; a list is repeated
 */
export function href(path, query = {}) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== undefined && each !== null && each !== "") given.append(name, String(each));
    }
  }
  const text = given.toString();
  return `${PREFIX}${path}${text && `?${text}`}`;
}

/**
 * Go to another page.
 * @param {string} address as `href` makes it
 */
export function navigate(address) {
  history.pushState(null, "", address);
  place.value = { ...here(), visit: place.value.visit + 1 };
}

let pending = 0;

/**
 * Change some values of the query, without a new entry in the history, and show the view with them.
 * @param {Record<string, unknown>} changes undefined, null and "" remove a value
 */
export function setQuery(changes) {
  remember(changes);
  place.value = { ...place.value };
}

/**
 * The same for a view that has what it shows in signals: the address alone changes.
 * @param {Record<string, unknown>} changes
 */
export function remember(changes) {
  const query = new URLSearchParams(place.peek().query);
  for (const [name, value] of Object.entries(changes)) {
    query.delete(name);
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== undefined && each !== null && each !== "") query.append(name, String(each));
    }
  }
  place.peek().query = query;
  clearTimeout(pending);
  pending = window.setTimeout(writeAddress, 150); // sliders move often, and browsers refuse 100 changes in 30 seconds
}

function writeAddress() {
  pending = 0;
  const { path, query } = place.peek();
  const text = query.toString();
  history.replaceState(null, "", `${PREFIX}${path}${text && `?${text}`}`);
}

/** Follow links within the pages without loading a document, and the buttons "back" and "forward". */
export function listen() {
  addEventListener("popstate", () => {
    const [now, before] = [here(), place.peek()];
    if (now.path === before.path && `${now.query}` === `${before.query}`) return; // a place within the page, as #main
    place.value = { ...now, visit: before.visit + 1 };
  });
  addEventListener("pagehide", () => pending && writeAddress());
  document.addEventListener("click", (event) => {
    const link = /** @type {Element} */ (event.target).closest?.("a[href]");
    if (!(link instanceof HTMLAnchorElement) || event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || link.target || link.download) return;
    if (link.origin !== location.origin || !link.pathname.startsWith(`${PREFIX}/ui/`) || link.hash) return;
    event.preventDefault();
    if (pending) writeAddress();
    navigate(link.pathname + link.search);
  });
}
