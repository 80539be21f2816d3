/** Conditions that were uploaded, to be chosen for a model that takes them in place of labels. */

import { html } from "./preact.js";
import { getJson } from "./api.js";
import { count } from "./format.js";
import { useLoaded } from "./load.js";
import { Select } from "./parts.js";

/** @typedef {import("./contract").components["schemas"]["StoredConditions"]} Stored */

/**
 * The uploaded conditions that a model takes, the latest first; null until they are loaded, or if it takes none.
 * @param {{family: string, conditions: Record<string, number[]> | null} | null} model
 * @returns {Stored[] | null}
 */
export function useConditions(model) {
  const family = model && Object.keys(model.conditions ?? {}).length > 0 ? model.family : null;
  const { data } = useLoaded((signal) => (family ? getJson("/conditions", { signal }) : Promise.resolve(null)), [family]);
  return data?.conditions.filter((/** @type {Stored} */ each) => each.family === family) ?? null;
}

/**
 * @param {{stored: Stored[] | null, value: string | null | undefined, onChange: (id: string | null) => void}} props
 */
export function ConditionsField({ stored, value, onChange }) {
  const known = (stored ?? []).some(({ id }) => id === value);
  return html`<${Select}
    label="Uploaded conditions"
    value=${value ?? ""}
    options=${[
      ...(value ? [] : [{ value: "", title: stored?.length === 0 ? "none are uploaded" : "choose" }]),
      ...(value && !known ? [{ value, title: shortly(value) }] : []),
      ...(stored ?? []).map((each) => ({ value: each.id, title: described(each) })),
    ]}
    onChange=${(/** @type {string} */ given) => onChange(given || null)}
    hint="POST /conditions uploads a file of them."
  />`;
}

/** @param {Stored} stored */
function described({ id, count: rows, uploaded }) {
  const day = new Date(uploaded).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
  return `${shortly(id)}, ${count(rows)} ${rows === 1 ? "row" : "rows"}, ${day}`;
}

/** @param {string} id */
function shortly(id) {
  return `${id.slice(0, 12)}…`;
}
