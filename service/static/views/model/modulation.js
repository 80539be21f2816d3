/** What prunes change in the modulations, without sampling: at the threshold that is set, and by the share removed. */

import { html, useState } from "../../lib/preact.js";
import { href } from "../../lib/router.js";
import { computed } from "../../lib/api.js";
import { useLoaded } from "../../lib/load.js";
import { number, percent } from "../../lib/format.js";
import { Button, Card, Loading, ProblemNotice, Stats } from "../../lib/parts.js";
import { Chart } from "../../lib/chart.js";
import { useRemoval } from "../../lib/removal.js";

const SHARE_AXIS = { title: "components removed, %" };
const ERROR_AXIS = { title: "modulation error", log: true, format: number };

/** @typedef {import("../../lib/api.js").Schemas} Schemas */

/** @param {{exploration: import("../../lib/exploration.js").Exploration}} props */
export function ModulationCard({ exploration }) {
  const { model, loaded, rule, tau, fill } = exploration;
  const [asked, setAsked] = useState(false);
  const byThreshold = rule.value !== "keep";
  const conditions = loaded.conditions ?? undefined;
  const removal = useRemoval(model, {
    threshold: byThreshold ? [tau.value] : undefined,
    side: rule.value === "head" ? "head" : undefined,
    fill: fill.value === "mean" ? "mean" : undefined,
    labels: conditions === undefined ? model.defaults.labels : undefined,
    conditions,
  });
  const now = removal?.[0]?.modulation;
  return html`<${Card}
    title="What a prune changes in the modulations"
    lead="How much all shifts, scales and gates of a run change, relative to theirs. Nothing is sampled."
  >
    ${
      now &&
      html`<${Stats}
          values=${[
            ["Modulation error", percent(now.error), `at ${number(tau.value)}, over the run`],
            ["Largest", percent(now.largest), "of one vector"],
            ...(now.bound === null ? [] : [["Bound", percent(now.bound), "of any vector"]]),
          ]}
        />`
    }
    ${
      byThreshold
        ? html`<p class="small muted">
            At the threshold and fill that are set above, of ${conditions === undefined ? "the model’s default labels" : "all conditions"}.
          </p>`
        : html`<p class="small muted">Set a threshold above to see its error.</p>`
    }
    ${
      asked
        ? html`<${ByShare} name=${model.name} conditions=${conditions} />`
        : html`<div><${Button} onClick=${() => setAsked(true)}>Compare rules by the share removed</${Button}></div>`
    }
  </${Card}>`;
}

/** @param {{name: string, conditions: string | undefined}} props */
function ByShare({ name, conditions }) {
  const path = href(`/metrics/${encodeURIComponent(name)}/figures/error`, { conditions });
  const { data, error, reload } = useLoaded((signal) => computed(path, { signal, accept: "application/json" }), [path]);
  if (error) return html`<${ProblemNotice} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading}>Measuring the rules</${Loading}>`;
  const { removed, lines } = /** @type {Schemas["ErrorNumbers"]} */ (data.data);
  return html`<${Chart}
      label="The modulation error of each rule by the share removed"
      x=${removed.map((each) => 100 * each)}
      series=${lines.map(({ rule, errors }) => ({ title: rule, values: errors }))}
      xAxis=${SHARE_AXIS}
      yAxis=${ERROR_AXIS}
    />
    <p class="small muted">
      A rule removes the components with the least of what it names first, and fills them with what it names second.
    </p>`;
}
