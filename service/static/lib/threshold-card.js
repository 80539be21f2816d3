/** The threshold: sorted |c| of a class, what goes, and what that does to nPR and cosine. */

import { html } from "./preact.js";
import { fixed, number, percent } from "./format.js";
import { announce, Becomes, Card, DataTable, Scrolling, Segmented, SliderField } from "./parts.js";
import { Threshold } from "./widgets.js";

/** @typedef {import("./exploration.js").Exploration} Exploration */

/** @param {{exploration: Exploration}} props */
export function ThresholdCard({ exploration }) {
  const { names, row, rule, dim, part } = exploration;
  return html`<${Card}
    title=${`What a ${rule.value === "keep" ? "rule" : "threshold"} removes`}
    lead=${`Sorted |${part.value}| of ${names[row.value]}. Drag the line, use the slider, or type a number.`}
  >
    <${Picture} exploration=${exploration} />
    <${Magnitudes} exploration=${exploration} />
    <${Rule} exploration=${exploration} />
    <${Effects} exploration=${exploration} />
    <p class="small muted">
      nPR is (Σ|c|)² / Σc² divided by d = ${dim}: the share of components that carry a vector. A threshold acts on every
      vector at every time, and |c| changes over sampling, so the share over the run, of the model’s own sampler and
      steps, is another than at one time.
    </p>
  </${Card}>`;
}

/** @param {{exploration: Exploration}} props */
function Picture({ exploration }) {
  const { magnitudes, rowRemoved, rowShare, rule, tau, names, row, part } = exploration;
  const text = rule.value === "keep" ? "" : `${tau.value}, removes ${percent(rowShare.value)} of ${names[row.value]}`;
  return html`<${Threshold}
    magnitudes=${magnitudes.value}
    removed=${rowRemoved.value}
    threshold=${rule.value === "keep" ? null : tau.value}
    text=${text}
    label=${`|${part.value}| of ${names[row.value]}`}
    onChange=${(/** @type {number} */ value) => exploration.move(value)}
    onDone=${() => announce(text)}
  />`;
}

/** @param {{exploration: Exploration}} props */
function Magnitudes({ exploration: { magnitudes, rowRemoved, names, row, part } }) {
  return html`<${DataTable}
    caption=${`sorted |${part.value}| of ${names[row.value]}`}
    columns=${["Rank", "Component", `|${part.value}|`, "Pruned"].map((title, place) => ({ title, number: place < 3 }))}
    rows=${() =>
      Array.from(magnitudes.value, (size, k) => ({ size, k }))
        .sort((a, b) => b.size - a.size)
        .map(({ size, k }, rank) => [rank + 1, k, number(size, 4), rowRemoved.value[k] ? "removed" : "kept"])}
  />`;
}

/** @param {{exploration: Exploration}} props */
function Rule({ exploration }) {
  const { rule, tau, keep, fill, chosenFill, dim, before } = exploration;
  const most = Number((before.value.norm || 1).toPrecision(2));
  return html`<div class="stack-small">
    ${rule.value === "keep"
      ? html`<${SliderField}
          label="Components to keep"
          value=${keep.value}
          min=${1}
          max=${dim}
          step=${1}
          onChange=${(/** @type {number} */ value) => (keep.value = Math.min(dim, Math.max(1, Math.round(value))))}
        />`
      : html`<${SliderField}
          label="Threshold τ"
          value=${tau.value}
          min=${0}
          max=${most}
          logarithmic
          onChange=${(/** @type {number} */ value) => exploration.move(value)}
        />`}
    <div class="row row-end">
      <${Segmented}
        label="Remove"
        options=${[
          { value: "tail", title: "below τ" },
          { value: "head", title: "above τ" },
          { value: "keep", title: "all but k" },
        ]}
        value=${rule.value}
        onChange=${(/** @type {any} */ value) => (rule.value = value)}
      />
      <${Segmented}
        label="Fill with"
        options=${[
          { value: "zero", title: "zero" },
          { value: "mean", title: "mean of classes" },
        ]}
        value=${fill.value}
        onChange=${(/** @type {any} */ value) => {
          const usual = rule.value === "keep" ? "mean" : "zero";
          chosenFill.value = value === usual ? null : value;
        }}
      />
    </div>
  </div>`;
}

/** @param {{exploration: Exploration}} props */
function Effects({ exploration }) {
  const { names, row, rowShare, rowNpr, before, after, removedOverRun, part, run, timestep, loaded } = exploration;
  const here = part.value === "c" ? `at t = ${number(timestep.value, 4)}` : "of y";
  /** @param {number} from @param {number} to */
  const change = (from, to) => html`<${Becomes} from=${fixed(from, 3)} to=${fixed(to, 3)} />`;
  const all = loaded.conditions === null ? "All classes" : "All conditions";
  return html`<${Scrolling} label="What the prune does">
    <table class="effects">
      <caption class="sr-only">What the prune does</caption>
      <thead>
        <tr><td></td><th scope="col" class="number">removed</th><th scope="col" class="number">nPR</th><th scope="col" class="number">cosine</th></tr>
      </thead>
      <tbody>
        <tr>
          <th scope="row">${names[row.value]}, ${here}</th>
          <td class="number" data-number="removed-row">${percent(rowShare.value)}</td>
          <td class="number">${change(rowNpr.value.before, rowNpr.value.after)}</td>
          <td class="number muted">–</td>
        </tr>
        <tr>
          <th scope="row">${all}, ${here}</th>
          <td class="number" data-number="removed-here">${percent(after.value.removed)}</td>
          <td class="number" data-number="npr-after">${change(before.value.npr, after.value.npr)}</td>
          <td class="number" data-number="cosine-after">${change(before.value.cosine, after.value.cosine)}</td>
        </tr>
        ${part.value === "c" &&
        html`<tr>
          <th scope="row">${all}, over ${run.value?.name ?? "the run"}</th>
          <td class="number" data-number="removed-run"><strong>${percent(removedOverRun.value)}</strong></td>
          <td class="number muted" colspan="2">see “Over sampling”</td>
        </tr>`}
      </tbody>
    </table>
  </${Scrolling}>`;
}
