/** What prune-sample made: a gallery, and the numbers of each prune. */

import { html } from "../../lib/preact.js";
import { setQuery } from "../../lib/router.js";
import { duration, fixed, number, percent, precision } from "../../lib/format.js";
import { Chart } from "../../lib/chart.js";
import { Becomes, Card, Stats, Table } from "../../lib/parts.js";
import { Gallery } from "./gallery.js";

/** @typedef {import("../../lib/api.js").Schemas["Variant"]} Variant */

/** @param {{job: any, query: URLSearchParams}} props */
export function PruneSampleResult({ job, query }) {
  const { variants, pictures, timing, engine } = job.result;
  const baseline = /** @type {Variant | null} */ (variants.find((/** @type {Variant} */ each) => !each.prune) ?? null);
  const prunes = /** @type {Variant[]} */ (variants.filter((/** @type {Variant} */ each) => each.prune));
  const shown = prunes.length > 0 ? prunes : [/** @type {Variant} */ (baseline)];
  const chosen = Math.max(
    0,
    shown.findIndex((each) => each.name === query.get("variant")),
  );
  const choose = (/** @type {number} */ index) => setQuery({ variant: shown[index]?.name });
  return html`
    <${Gallery}
      job=${job}
      baseline=${prunes.length > 0 ? baseline : null}
      shown=${shown}
      chosen=${chosen}
      choose=${choose}
      mode=${query.get("mode") ?? "pair"}
      note=${pictures.note}
    />
    <${Card}
      title="Numbers"
      lead="Removed is the mean over steps and samples. Drift compares with the unpruned samples from the same noise."
    >
      ${prunes.length > 0 && html`<${Numbers}
        prunes=${prunes}
        chosen=${chosen}
      /><${BySteps} variant=${prunes[chosen]} />`}
      <${Stats}
        small
        values=${[
          ["Sampling", duration(timing.sample), `${number(timing.samples_per_second)} samples a second`],
          ["Loading", duration(timing.load)],
          ["Pictures and files", duration(timing.decode)],
          ["Waiting", duration(timing.queue)],
          ["Device", engine.device, precision(engine)],
        ]}
      />
    </${Card}>
  `;
}

/** @param {{prunes: Variant[], chosen: number}} props */
function Numbers({ prunes, chosen }) {
  const some = prunes.find(({ removed }) => removed && removed.fraction > 0)?.removed;
  const dim = some ? Math.round(some.mean / some.fraction) : null;
  return html`<${Table}
    caption="What each prune removes, and what it does"
    hideCaption
    selected=${chosen}
    columns=${[
      { title: "Prune" },
      ...["Removed", `Components a step${dim ? `, of ${dim}` : ""}`, "nPR", "Cosine", "Drift", "PSNR, dB", "SSIM"].map(
        (title) => ({ title, number: true }),
      ),
    ]}
    rows=${prunes.map(({ name, removed, embedding, drift }) => [
      html`<span class="nowrap">${name}</span>`,
      percent(removed?.fraction),
      removed ? `${removed.min} to ${removed.max}` : "–",
      embedding ? html`<${Becomes} from=${fixed(embedding.npr_before, 4)} to=${fixed(embedding.npr_after, 4)} />` : "–",
      embedding ? html`<${Becomes} from=${fixed(embedding.cosine_before, 4)} to=${fixed(embedding.cosine_after, 4)} />` : "–",
      fixed(drift?.latent, 4),
      drift ? (drift.psnr === null && drift.latent === 0 ? "∞" : fixed(drift.psnr, 2)) : "–",
      fixed(drift?.ssim, 4),
    ])}
  />`;
}

/** @param {{variant: Variant}} props */
function BySteps({ variant: { name, removed } }) {
  if (!removed || removed.by_step.length < 2 || !(removed.fraction > 0)) return null;
  const dim = removed.mean / removed.fraction;
  return html`<${Chart}
    label=${`Removed at each step by ${name}`}
    x=${removed.by_step.map((_, step) => step)}
    series=${[{ title: name, values: removed.by_step.map((each) => (100 * each) / dim), colour: "removed" }]}
    xAxis=${{ title: "sampling step, counted from 0" }}
    yAxis=${{ title: "removed, %", range: [0, 100] }}
    height=${220}
  />`;
}
