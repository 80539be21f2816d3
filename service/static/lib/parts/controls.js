/** What acts: buttons, tabs, text to copy, dialogs. */

import { html, useEffect, useId, useRef, useState } from "../preact.js";
import { announce } from "./announce.js";

/** @typedef {import("../preact.js").Children} Children */

/**
 * A button, or with `href` a link that looks like one.
 * @param {{kind?: "primary" | "danger" | "quiet", small?: boolean, href?: string, children?: Children,
 *   [attribute: string]: unknown}} props
 */
export function Button({ kind, small, children, ...rest }) {
  const name = ["button", kind && `button-${kind}`, small && "button-small"].filter(Boolean).join(" ");
  return rest.href
    ? html`<a class=${name} ...${rest}>${children}</a>`
    : html`<button type="button" class=${name} ...${rest}>${children}</button>`;
}

/**
 * Tabs, of which one panel is shown: arrow keys change it.
 * @param {{label: string, tabs: {id: string, title: Children, content: () => Children}[], chosen?: string,
 *   onChoose?: (id: string) => void}} props
 */
export function Tabs({ label, tabs, chosen, onChoose }) {
  const id = useId();
  const [own, setOwn] = useState(tabs[0]?.id);
  const current = tabs.find((tab) => tab.id === (chosen ?? own)) ?? tabs[0];
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  /** @param {number} index */
  const choose = (index) => {
    const tab = tabs[(index + tabs.length) % tabs.length];
    if (!tab) return;
    setOwn(tab.id);
    onChoose?.(tab.id);
    /** @type {HTMLElement | undefined} */ (list.current?.children[tabs.indexOf(tab)])?.focus();
  };
  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    const now = tabs.findIndex((tab) => tab.id === current?.id);
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(to);
  };
  return html`<div class="stack-small">
    <div class="tabs" role="tablist" aria-label=${label} ref=${list} onKeyDown=${onKey}>
      ${tabs.map(
        (tab, index) => html`<button
          type="button"
          role="tab"
          id=${`${id}-${tab.id}`}
          aria-selected=${tab.id === current?.id}
          aria-controls=${`${id}-panel`}
          tabindex=${tab.id === current?.id ? 0 : -1}
          onClick=${() => choose(index)}
        >${tab.title}</button>`,
      )}
    </div>
    <div role="tabpanel" id=${`${id}-panel`} aria-labelledby=${`${id}-${current?.id}`} tabindex="0">
      ${current?.content()}
    </div>
  </div>`;
}

/**
 * Text to copy: a command, or a request.
 * @param {{text: string, label?: string}} props
 */
export function Copy({ text, label = "Copy" }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    announce("Copied");
    setTimeout(() => setCopied(false), 2000);
  };
  return html`<div class="copy">
    <pre tabindex="0" role="region" aria-label=${label}><code>${text}</code></pre>
    ${navigator.clipboard && html`<${Button} small onClick=${copy} aria-label=${copied ? "Copied" : label}>
      ${copied ? "Copied" : "Copy"}
    </${Button}>`}
  </div>`;
}

/**
 * A dialog over the page; Escape closes it, and the focus goes back to where it was.
 * @param {{title: Children, onClose: () => void, children?: Children}} props
 */
export function Dialog({ title, onClose, children }) {
  const id = useId();
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => dialog.current?.showModal(), []);
  return html`<dialog ref=${dialog} aria-labelledby=${id} onClose=${onClose}>
    <div class="dialog-head">
      <h2 id=${id}>${title}</h2>
      <${Button} small onClick=${() => dialog.current?.close()}>Close</${Button}>
    </div>
    ${children}
  </dialog>`;
}
