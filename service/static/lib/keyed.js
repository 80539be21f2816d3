/**
 * What a browser fetches by itself, for a service that has keys: pictures, sounds and downloads are fetched with the key,
 * and then shown from memory. Without a key they stay as they are.
 */

import { h, html, options, useEffect, useState } from "./preact.js";
import { request, url } from "./api.js";
import { answer, asking, key } from "./key.js";
import { PREFIX } from "./router.js";
import { Button, Dialog } from "./parts.js";

const MOST_BYTES = 128 * 2 ** 20;
/** Of pictures and sounds that are kept, the latest. */
const FETCHED = ["img", "audio"];
const SOON_MS = 60_000;

/** @type {Map<string, Promise<{address: string, size: number}>>} */
const kept = new Map();
let bytes = 0;

/**
 * An address from which a browser can show a file of the service by itself. Raises Problem.
 * @param {string} address
 * @returns {Promise<string>}
 */
export async function source(address) {
  if (!needsKey(address)) return address;
  let found = kept.get(address);
  if (!found) {
    found = fetched(address);
    found.then(drop, () => kept.delete(address));
  }
  kept.delete(address);
  kept.set(address, found); // the last is the latest
  return (await found).address;
}

/**
 * Have a picture ready before it is shown.
 * @param {string} address
 */
export function preload(address) {
  if (needsKey(address)) source(address).catch(() => {}); // where it is shown, that says what is wrong
  else new Image().src = address;
}

/** @param {string} address */
function needsKey(address) {
  return key.value !== "" && address.startsWith(`${PREFIX}/jobs/`);
}

/** @param {string} address */
async function fetched(address) {
  const blob = await (await request(address, { accept: "*/*" })).blob();
  return { address: URL.createObjectURL(blob), size: blob.size };
}

/** @param {{size: number}} added */
async function drop({ size }) {
  bytes += size;
  for (const [address, each] of kept) {
    if (bytes <= MOST_BYTES || kept.size === 1) break;
    kept.delete(address);
    const old = await each;
    bytes -= old.size;
    URL.revokeObjectURL(old.address);
  }
}

/** @param {{element: string, src: string, [attribute: string]: unknown}} props */
function Keyed({ element, src, ...rest }) {
  const [shown, setShown] = useState(/** @type {string | undefined} */ (undefined));
  useEffect(() => {
    let current = true;
    source(src).then(
      (address) => current && setShown(address),
      () => current && setShown(src), // which the browser shows as broken
    );
    return () => {
      current = false;
    };
  }, [src]);
  return h(element, { ...rest, src: shown });
}

/** Have every picture, sound and download of the pages fetched with the key, where there is one. */
export function install() {
  const before = options.vnode;
  options.vnode = (node) => {
    const { type, props } = /** @type {{type: any, props: any}} */ (node);
    if (FETCHED.includes(type) && needsKey(props.src ?? "")) {
      node.props = /** @type {any} */ ({ ...props, element: type });
      node.type = /** @type {any} */ (Keyed);
    }
    before?.(node);
  };
  addEventListener("click", (event) => {
    const link = /** @type {HTMLElement} */ (event.target).closest?.("a[download]");
    if (!(link instanceof HTMLAnchorElement) || !needsKey(link.pathname) || event.defaultPrevented) return;
    event.preventDefault();
    fetched(link.pathname).then(({ address }) => {
      const saved = document.createElement("a");
      saved.href = address;
      saved.download = link.download;
      saved.click();
      setTimeout(() => URL.revokeObjectURL(address), SOON_MS);
    }, () => location.assign(url(link.pathname))); // which shows what is wrong
  });
}

/** Asks for a key while one is needed. */
export function KeyDialog() {
  if (!asking.value) return null;
  /** @param {any} event */
  const take = (event) => {
    event.preventDefault();
    answer(String(new FormData(event.target).get("key") ?? "").trim());
  };
  return html`<${Dialog} title="This service needs a key" onClose=${() => answer("")}>
    <form class="stack-small" onSubmit=${take}>
      ${asking.value === "again" && html`<p role="alert">The service does not know the key that it was sent.</p>`}
      <div class="field">
        <label for="key">Key</label>
        <input id="key" name="key" type="password" autocomplete="off" spellcheck="false" required autofocus />
        <div class="hint">Whoever runs the service makes one with <code>tailprune keys add</code>. This tab keeps it until it is closed.</div>
      </div>
      <div class="row"><${Button} kind="primary" type="submit">Use it</${Button}></div>
    </form>
  </${Dialog}>`;
}
