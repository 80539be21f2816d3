/** Parts that views share: buttons, cards, notices, tabs, dialogs, fields, tables, progress. */

import { html, signal, useEffect, useId, useRef, useState } from "./preact.js";
import { duration, number } from "./format.js";
import { Problem } from "./api.js";

/** @typedef {import("./preact.js").Children} Children */

/** What a screen reader is told next; `announce` sets it. */
export const announced = signal("");

let pause = 0;

/**
 * Tell screen readers something, at most once a second, the latest of all.
 * @param {string} text
 */
export function announce(text) {
  clearTimeout(pause);
  pause = window.setTimeout(() => (announced.value = text), 600);
}

/**
 * The head of a view: its heading, a line about it, and what can be done.
 * @param {{title: Children, crumbs?: Children, lead?: Children, children?: Children}} props
 */
export function PageHead({ title, crumbs, lead, children }) {
  return html`<div class="page-head">
    <div>
      ${crumbs && html`<nav class="crumbs" aria-label="Where this page is">${crumbs}</nav>`}
      <h1 tabindex="-1">${title}</h1>
      ${lead && html`<p>${lead}</p>`}
    </div>
    ${children && html`<div class="row">${children}</div>`}
  </div>`;
}

/**
 * A part of a view with a heading of its own.
 * @param {{title: Children, lead?: Children, aside?: Children, class?: string, children?: Children}} props
 */
export function Card({ title, lead, aside, class: name = "", children }) {
  const id = useId();
  return html`<section class=${`card ${name}`} aria-labelledby=${id}>
    <div class="card-head">
      <h2 id=${id}>${title}</h2>
      ${aside}
      ${lead && html`<p>${lead}</p>`}
    </div>
    ${children}
  </section>`;
}

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
 * A remark that stands out.
 * @param {{kind?: "bad" | "warn" | "info", title?: Children, children?: Children, role?: string}} props
 */
export function Notice({ kind, title, children, role }) {
  return html`<div class=${`notice ${kind ? `notice-${kind}` : ""}`} role=${role}>
    ${title && html`<strong>${title}</strong>`}
    <div>${children}</div>
  </div>`;
}

/**
 * An error, as the service reports it, with what it says of each field.
 * @param {{error: unknown, retry?: () => void}} props
 */
export function ProblemNotice({ error, retry }) {
  const problem = error instanceof Problem ? error : null;
  const title = problem ? problem.title : "This page has a bug";
  const text = error instanceof Error ? error.message : String(error);
  return html`<${Notice} kind="bad" title=${title} role="alert">
    <p>${text}</p>
    ${problem && problem.errors.length > 0 &&
    html`<ul>
      ${problem.errors.map((fault) => html`<li><code>${fault.location}</code> ${fault.message}</li>`)}
    </ul>`}
    ${retry && html`<p><${Button} small onClick=${retry}>Try again</${Button}></p>`}
  </${Notice}>`;
}

/**
 * What is shown until something is there.
 * @param {{children?: Children}} props
 */
export function Loading({ children = "Loading" }) {
  return html`<p class="loading" role="status">${children} …</p>`;
}

/**
 * A short mark: its colour is never all that it says.
 * @param {{kind?: "good" | "bad" | "warn" | "live", plain?: boolean, children?: Children}} props
 */
export function Badge({ kind, plain, children }) {
  const name = ["badge", kind && `badge-${kind}`, plain && "badge-plain"].filter(Boolean).join(" ");
  return html`<span class=${name}>${children}</span>`;
}

const STATUS = /** @type {const} */ ({
  queued: "warn",
  running: "live",
  succeeded: "good",
  failed: "bad",
  cancelled: undefined,
});

/**
 * The status of a job.
 * @param {{status: keyof typeof STATUS}} props
 */
export function Status({ status }) {
  return html`<${Badge} kind=${STATUS[status]}>${status}</${Badge}>`;
}

/**
 * Numbers with their names.
 * @param {{values: [Children, Children, Children?][], small?: boolean}} props name, value, and what is said below it
 */
export function Stats({ values, small }) {
  return html`<dl class=${`stats ${small ? "stats-small" : ""}`}>
    ${values.map(
      ([name, value, note]) => html`<div><dt>${name}</dt><dd>${value}${note && html`<small>${note}</small>`}</dd></div>`,
    )}
  </dl>`;
}

/**
 * How far something is.
 * @param {{label: string, done: number, total: number, unit?: string, phase?: string | null, eta?: number | null}} props
 */
export function Progress({ label, done, total, unit, phase, eta }) {
  const id = useId();
  const text = [phase, `${done} of ${total} ${unit ?? ""}`, eta ? `${duration(eta)} left` : ""].filter(Boolean);
  return html`<div class="progress">
    <div class="row-between small">
      <span id=${id}>${label}</span>
      <span class="number muted">${text.join(" · ")}</span>
    </div>
    <progress aria-labelledby=${id} max=${total || 1} value=${done}></progress>
  </div>`;
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
 * A choice among a few, all of which are seen.
 * @param {{label: string, options: {value: string, title: Children, disabled?: boolean}[], value: string,
 *   onChange: (value: string) => void, hideLabel?: boolean}} props
 */
export function Segmented({ label, options, value, onChange, hideLabel }) {
  const name = useId();
  return html`<fieldset>
    <legend class=${hideLabel ? "sr-only" : ""}>${label}</legend>
    <div class="segmented">
      ${options.map(
        (option) => html`<label>
          <input
            type="radio"
            name=${name}
            value=${option.value}
            checked=${option.value === value}
            disabled=${option.disabled}
            onChange=${() => onChange(option.value)}
          />
          <span>${option.title}</span>
        </label>`,
      )}
    </div>
  </fieldset>`;
}

/**
 * A choice among many.
 * @param {{label: string, options: {value: string, title: string}[], value: string,
 *   onChange: (value: string) => void, hint?: Children}} props
 */
export function Select({ label, options, value, onChange, hint }) {
  const id = useId();
  return html`<div class="field">
    <label for=${id}>${label}</label>
    <select
      id=${id}
      aria-describedby=${hint ? `${id}-hint` : undefined}
      onChange=${(/** @type {any} */ event) => onChange(event.target.value)}
    >
      ${options.map(
        (option) => html`<option value=${option.value} selected=${option.value === value}>${option.title}</option>`,
      )}
    </select>
    ${hint && html`<div class="hint" id=${`${id}-hint`}>${hint}</div>`}
  </div>`;
}

/**
 * A time of sampling by a slider, and by a field that takes the nearest of the times there are.
 * @param {{label?: string, timesteps: number[], fraction: number[], index: number, onChange: (index: number) => void}} props
 */
export function TimeField({ label = "Time t", timesteps, fraction, index, onChange }) {
  const id = useId();
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  const done = Math.round(100 * fraction[index]);
  /** @param {any} event */
  const onType = (event) => {
    const asked = event.target.valueAsNumber;
    setTyped(null);
    if (!Number.isFinite(asked)) return;
    const far = timesteps.map((time) => Math.abs(time - asked));
    onChange(far.indexOf(Math.min(...far)));
  };
  return html`<div class="field">
    <label for=${id}>${label}</label>
    <div class="slider">
      <input
        type="range"
        aria-label=${`${label}, slider, from the start of sampling to its end`}
        aria-valuetext=${`t = ${timesteps[index]}, ${done} % of sampling done`}
        min="0"
        max=${timesteps.length - 1}
        step="1"
        value=${index}
        disabled=${timesteps.length === 1}
        onInput=${(/** @type {any} */ event) => onChange(event.target.valueAsNumber)}
      />
      <input
        type="number"
        id=${id}
        step="any"
        value=${typed ?? timesteps[index]}
        aria-describedby=${`${id}-hint`}
        onInput=${(/** @type {any} */ event) => setTyped(event.target.value)}
        onChange=${onType}
      />
    </div>
    <div class="hint" id=${`${id}-hint`}>
      ${done} % of sampling done${timesteps.length > 1 &&
      `; ${timesteps.length} times from ${number(timesteps[0])} to ${number(timesteps.at(-1))}`}
    </div>
  </div>`;
}

/**
 * A number by a slider and by a field. A slider on a logarithmic scale has 0 at its left end.
 * @param {{label: string, value: number, min: number, max: number, step?: number, logarithmic?: boolean,
 *   onChange: (value: number) => void, hint?: Children, fault?: Children, text?: (value: number) => string}} props
 *   `text` says the value in words for screen readers
 */
export function SliderField({ label, value, min, max, step, logarithmic, onChange, hint, fault, text }) {
  const id = useId();
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  const low = logarithmic ? Math.max(min, max / 1e6) : min;
  const place = logarithmic ? (value <= low ? 0 : Math.log(value / low) / Math.log(max / low)) : value;
  /** @param {number} at */
  const valueAt = (at) => (at <= 0 ? min : Number((low * (max / low) ** at).toPrecision(3)));
  /** @param {any} event */
  const onType = (event) => {
    setTyped(event.target.value);
    const given = event.target.valueAsNumber;
    if (Number.isFinite(given) && given >= min) onChange(given);
  };
  return html`<div class="field">
    <label for=${id}>${label}</label>
    <div class="slider">
      <input
        type="range"
        aria-label=${`${label}, slider`}
        aria-valuetext=${text?.(value)}
        min=${logarithmic ? 0 : min}
        max=${logarithmic ? 1 : max}
        step=${logarithmic ? 0.002 : (step ?? "any")}
        value=${Math.min(logarithmic ? 1 : max, place)}
        onInput=${(/** @type {any} */ event) => {
          const at = event.target.valueAsNumber;
          onChange(logarithmic ? valueAt(at) : at);
        }}
      />
      <input
        type="number"
        id=${id}
        min=${min}
        step=${step ?? "any"}
        value=${typed ?? value}
        aria-invalid=${fault ? "true" : undefined}
        aria-describedby=${hint || fault ? `${id}-hint` : undefined}
        onInput=${onType}
        onBlur=${() => setTyped(null)}
      />
    </div>
    ${(hint || fault) &&
    html`<div id=${`${id}-hint`}>
      ${fault && html`<div class="fault">${fault}</div>`}
      ${hint && html`<div class="hint">${hint}</div>`}
    </div>`}
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
 * @param {{title: Children, onClose: () => void, wide?: boolean, children?: Children}} props
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

/**
 * A table; it scrolls by itself where it is wider than the page.
 * @param {{caption: string, columns: {title: Children, number?: boolean}[], rows: Children[][], hideCaption?: boolean,
 *   selected?: number}} props the first cell of a row names it
 */
export function Table({ caption, columns, rows, hideCaption, selected }) {
  return html`<div class="table-wrap" tabindex="0" role="region" aria-label=${caption}>
    <table>
      <caption class=${hideCaption ? "sr-only" : ""}>${caption}</caption>
      <thead>
        <tr>${columns.map((column) => html`<th scope="col" class=${column.number ? "number" : ""}>${column.title}</th>`)}</tr>
      </thead>
      <tbody>
        ${rows.map(
          (row, index) => html`<tr class=${index === selected ? "selected" : ""}>
            ${row.map((cell, place) =>
              place === 0
                ? html`<th scope="row" class=${columns[0]?.number ? "number" : ""}>${cell}</th>`
                : html`<td class=${columns[place]?.number ? "number" : ""}>${cell}</td>`,
            )}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/**
 * The numbers of a chart, which are made when they are asked for.
 * @param {{caption: string, columns: {title: Children, number?: boolean}[], rows: () => Children[][]}} props
 */
export function DataTable({ caption, columns, rows }) {
  const [open, setOpen] = useState(false);
  return html`<details onToggle=${(/** @type {any} */ event) => setOpen(event.target.open)}>
    <summary>Data: ${caption}</summary>
    ${open && html`<${Table} caption=${caption} columns=${columns} rows=${rows()} hideCaption />`}
  </details>`;
}

/**
 * Which files are missing, and how to get them.
 * @param {{model: {missing: string[], obtain: string | null}}} props
 */
export function Missing({ model }) {
  return html`<div class="stack-small">
    <div class="row"><${Badge} kind="warn">missing</${Badge}> <span class="small mono">${model.missing.join(", ")}</span></div>
    ${model.obtain && html`<${Copy} text=${model.obtain} label="Copy how to get it" />`}
  </div>`;
}
