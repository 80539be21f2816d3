/**
 * The view of a notebook: the sorted magnitudes of a vector with a threshold that can be dragged, typed and moved by
 * keys, and what it removes. Python has the vectors and the threshold; see tailprune/widget/__init__.py.
 */

import { DARK, LIGHT } from "./colours.js";
import { Pruner, rowOf } from "./statistics.js";
import { thresholdView } from "./threshold.js";

/**
 * The traits of a widget, as anywidget has them.
 * @typedef {object} Model
 * @property {(name: string) => any} get
 * @property {(name: string, value: any) => void} set
 * @property {() => void} save_changes
 * @property {(event: string, callback: () => void) => void} on
 * @property {(event: string, callback: () => void) => void} off
 */

/** @param {number} value */
const percent = (value) => `${(100 * value).toFixed(1)} %`;

/**
 * @param {{model: Model, el: HTMLElement}} widget
 * @returns {() => void} what takes the view away
 */
function render({ model, el }) {
  const bytes = /** @type {DataView} */ (model.get("_values"));
  const data = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  const dim = /** @type {number} */ (model.get("_dim"));
  const pruner = new Pruner({ data, count: data.length / dim, dim });
  const whole = pruner.summary(null);
  const colours = isDark() ? DARK : LIGHT;

  const row = chooser("Vector", /** @type {string[]} */ (model.get("names")));
  const rule = chooser("Remove", ["below: the tail", "above: the head"]);
  const number = document.createElement("input");
  Object.assign(number, { type: "number", min: "0", step: "any" });
  number.setAttribute("aria-label", "Threshold, as a number");
  number.style.width = "7em";
  const controls = document.createElement("div");
  Object.assign(controls.style, { display: "flex", flexWrap: "wrap", gap: "0.5em 1.2em", marginBottom: "0.5em" });
  controls.append(row.label, rule.label, labelled("Threshold", number));
  const picture = document.createElement("div");
  const says = document.createElement("div");
  says.setAttribute("role", "status");
  el.replaceChildren(controls, picture, says);
  Object.assign(el.style, {
    background: colours.surface, color: colours.text, padding: "0.75em", maxWidth: "52em",
    font: "14px system-ui, sans-serif",
  });

  /** @param {number} threshold */
  const move = (threshold) => {
    model.set("threshold", threshold);
    draw();
  };
  const view = thresholdView(picture, { onChange: move, onDone: () => model.save_changes(), colours });

  function draw() {
    const threshold = /** @type {number} */ (model.get("threshold"));
    const index = /** @type {number} */ (model.get("row"));
    const side = /** @type {"tail" | "head"} */ (model.get("side"));
    /** @type {import("./statistics.js").Prune} */
    const prune = { rule: side, threshold, keep: 0, fill: "zero" };
    const removed = pruner.removed(index, prune);
    const all = pruner.summary(prune);
    const here = removed.reduce((sum, gone) => sum + gone, 0);
    const text = `${threshold}, removes ${here} of ${dim} components`;
    view.update({
      magnitudes: rowOf(pruner.vectors, index).map(Math.abs), removed, threshold, text, label: row.select.value,
    });
    says.textContent =
      `Removes ${here} of ${dim} components of this vector, ${percent(all.removed)} of all ${pruner.vectors.count} ` +
      `at this one time. nPR ${whole.npr.toFixed(3)}, then ${all.npr.toFixed(3)}` +
      (pruner.vectors.count > 1 ? `; cosine ${whole.cosine.toFixed(3)}, then ${all.cosine.toFixed(3)}.` : ".");
    row.select.selectedIndex = index;
    rule.select.selectedIndex = side === "tail" ? 0 : 1;
    if (document.activeElement !== number) number.value = String(threshold);
  }

  number.addEventListener("input", () => {
    if (number.value === "" || !(Number(number.value) >= 0)) return;
    move(Number(number.value));
    model.save_changes();
  });
  number.addEventListener("blur", draw);
  row.select.addEventListener("change", () => {
    model.set("row", row.select.selectedIndex);
    model.save_changes();
    draw();
  });
  rule.select.addEventListener("change", () => {
    model.set("side", rule.select.selectedIndex === 0 ? "tail" : "head");
    model.save_changes();
    draw();
  });
  const events = ["change:threshold", "change:row", "change:side"];
  for (const event of events) model.on(event, draw);
  draw();
  return () => {
    for (const event of events) model.off(event, draw);
    view.destroy();
  };
}

/** Whether the notebook is dark: JupyterLab and VS Code say so themselves. */
function isDark() {
  const { jpThemeLight, vscodeThemeKind } = document.body.dataset;
  if (jpThemeLight) return jpThemeLight === "false";
  if (vscodeThemeKind) return vscodeThemeKind.includes("dark");
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/**
 * @param {string} name
 * @param {string[]} choices
 */
function chooser(name, choices) {
  const select = document.createElement("select");
  select.append(...choices.map((choice) => new Option(choice)));
  return { select, label: labelled(name, select) };
}

/**
 * @param {string} name
 * @param {HTMLElement} control
 */
function labelled(name, control) {
  const label = document.createElement("label");
  label.append(`${name} `, control);
  return label;
}

export default { render };
