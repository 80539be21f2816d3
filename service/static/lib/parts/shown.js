/** What is only shown: the head of a view, cards, notices, marks, numbers with their names, progress. */

import { html, useId } from "../preact.js";
import { duration } from "../format.js";
import { Problem } from "../api.js";
import { Button, Copy } from "./controls.js";

/** @typedef {import("../preact.js").Children} Children */

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

/** A command at the end of what is said for people; only that is worth copying. */
const COMMAND = /(?:^|:\s)((?:tailprune|cat|curl|wget|hf|python3?|git|pip) [^]+)$/;
const LINK = /(https?:\/\/\S+[^\s.,;:])/;

/**
 * Which files are missing, and how to get them.
 * @param {{model: {missing: string[], obtain: string | null}}} props
 */
export function Missing({ model }) {
  const how = model.obtain ?? "";
  const command = COMMAND.exec(how)?.[1] ?? "";
  const words = how.slice(0, how.length - command.length);
  return html`<div class="stack-small">
    <div class="row"><${Badge} kind="warn">missing</${Badge}> <span class="small mono">${model.missing.join(", ")}</span></div>
    ${words && html`<p class="small">${words.split(LINK).map((each, place) => (place % 2 ? html`<a href=${each}>${each}</a>` : each))}</p>`}
    ${command && html`<${Copy} text=${command} label="Copy the command" />`}
  </div>`;
}

/**
 * A value before and after.
 * @param {{from: Children, to: Children}} props
 */
export function Becomes({ from, to }) {
  return html`${from} <span aria-hidden="true">→</span><span class="sr-only">becomes</span> ${to}`;
}
