/** A request as text to copy: for curl, for Python, and as JSON. */

import { html } from "./preact.js";
import { url } from "./api.js";
import { KINDS } from "./jobs.js";
import { Copy, Tabs } from "./parts.js";

/**
 * @param {{kind: import("./jobs.js").Kind, body: Record<string, unknown>}} props
 */
export function RequestText({ kind, body }) {
  const json = asJson(body);
  return html`<${Tabs}
    label="The request as"
    tabs=${[
      { id: "json", title: "JSON", content: () => html`<${Copy} text=${json} label="Copy the request as JSON" />` },
      {
        id: "curl",
        title: "curl",
        content: () => html`<${Copy} text=${asCurl(kind, body)} label="Copy the command" />`,
      },
      {
        id: "python",
        title: "Python",
        content: () => html`<${Copy} text=${asPython(kind, body)} label="Copy the code" />`,
      },
    ]}
  />`;
}

/**
 * Indented JSON, with lists of numbers and words in one line each.
 * @param {unknown} value
 * @param {string} [indent]
 * @returns {string}
 */
export function asJson(value, indent = "") {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    if (value.every((each) => each === null || typeof each !== "object"))
      return `[${value.map((each) => asJson(each)).join(", ")}]`;
    return `[\n${value.map((each) => inner + asJson(each, inner)).join(",\n")}\n${indent}]`;
  }
  const items = Object.entries(value).map(([name, each]) => `${inner}${JSON.stringify(name)}: ${asJson(each, inner)}`);
  return items.length > 0 ? `{\n${items.join(",\n")}\n${indent}}` : "{}";
}

/**
 * @param {import("./jobs.js").Kind} kind
 * @param {Record<string, unknown>} body
 */
export function asCurl(kind, body) {
  const data = JSON.stringify(body).replaceAll("'", "'\\''");
  return `curl ${location.origin}${url(KINDS[kind].path)} \\
  -H 'Content-Type: application/json' \\
  -d '${data}'`;
}

/**
 * @param {import("./jobs.js").Kind} kind
 * @param {Record<string, unknown>} body
 */
export function asPython(kind, { model, ...fields }) {
  const given = Object.entries(fields).map(([name, value]) => `        ${name}=${python(value)},\n`);
  return `from tailprune_client import Client

with Client(${python(location.origin + url(""))}) as client:
    job = client.${KINDS[kind].method}(
        ${python(model)},
${given.join("")}    )
    print(job.wait().result)
`;
}

/**
 * A value of JSON as Python writes it.
 * @param {unknown} value
 * @returns {string}
 */
function python(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const items = Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${python(each)}`);
  return `{${items.join(", ")}}`;
}
