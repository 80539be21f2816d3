/** Tables, and the numbers of a chart as one. */

import { html, useEffect, useRef, useState } from "../preact.js";

/** @typedef {import("../preact.js").Children} Children */

/**
 * What scrolls by itself where it is larger than its place. Only then has it a name and is it reached by Tab, so that
 * arrow keys scroll it.
 * @param {{label: string, class?: string, children?: Children}} props
 */
export function Scrolling({ label, class: name = "", children }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [scrolls, setScrolls] = useState(false);
  useEffect(() => {
    const element = /** @type {HTMLElement} */ (box.current);
    const measure = () =>
      setScrolls(element.scrollWidth > element.clientWidth || element.scrollHeight > element.clientHeight);
    const observer = new ResizeObserver(measure);
    for (const each of [element, ...element.children]) observer.observe(each);
    return () => observer.disconnect();
  }, []);
  const reached = scrolls ? { tabindex: 0, role: "region", "aria-label": label } : {};
  return html`<div class=${`table-wrap ${name}`} ref=${box} ...${reached}>${children}</div>`;
}

/**
 * A table; it scrolls by itself where it is wider than the page.
 * @param {{caption: string, columns: {title: Children, number?: boolean}[], rows: Children[][], hideCaption?: boolean,
 *   selected?: number}} props the first cell of a row names it
 */
export function Table({ caption, columns, rows, hideCaption, selected }) {
  return html`<${Scrolling} label=${caption}>
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
  </${Scrolling}>`;
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
