/** What prune-sample prunes: its rule, and what each of its prunes removes. */

import { html } from "../../lib/preact.js";
import { Card } from "../../lib/parts.js";
import { RuleFields } from "./rule.js";
import { useRemoval } from "../../lib/removal.js";

/** @param {import("../new.js").Form} props */
export function PruneFields({ request, change, model, fault }) {
  const removal = useRemoval(model, { ...request, labels: request.labels ?? model.defaults.labels });
  return html`<${Card} title="Prune" lead="Which components of the condition vector go, while it is sampled.">
    <${RuleFields}
      prune=${request}
      change=${change}
      model=${model}
      steps=${request.steps ?? model.defaults.steps}
      most=${model.limits.variants}
      removal=${removal}
      fault=${fault}
      optional=${Boolean(model.compacted)}
    />
  </${Card}>`;
}
