/** What an edit moves: from which classes to which, what of the difference, and how far. */

import { html, useId, useState } from "../../lib/preact.js";
import { number } from "../../lib/format.js";
import { Card, Segmented } from "../../lib/parts.js";
import { Hint, NumberField, ScheduleFields } from "./fields.js";
import { ClassesField, RowsField } from "./subjects.js";

/** The strengths that an edit has where none are given. */
export const STRENGTHS = [0, 0.25, 0.5, 0.75, 1];

/** @param {import("../new.js").Form} props */
export function EditFields(props) {
  const { request, change, model, fault } = props;
  const { components, directions, schedule } = request;
  const moved = components !== undefined ? "components" : directions !== undefined ? "directions" : "all";
  const classes = model.classes !== null;
  const End = classes ? ClassesField : RowsField;
  return html`<${Card}
    title="Edit"
    lead=${`The condition of a sample is moved by the difference of two means: of the ${classes ? "classes" : "rows"} it
      leads towards, and of those it leads away from.`}
  >
    <${End} ...${props} field="source" title=${classes ? "Lead away from a class" : "Lead away from the rows"} />
    <${End} ...${props} field="target" title=${classes ? "Lead towards a class" : "Lead towards the rows"} />
    <${Strengths}
      values=${request.strength === undefined ? undefined : [request.strength].flat()}
      fault=${fault("strength")}
      onChange=${(/** @type {number[] | undefined} */ given) => change({ strength: given })}
    />
    <${Segmented}
      label="Move"
      options=${[
        { value: "all", title: "all components" },
        { value: "components", title: "k components", disabled: Boolean(model.compacted) },
        { value: "directions", title: "k directions", disabled: Boolean(model.compacted) },
      ]}
      value=${moved}
      onChange=${(/** @type {string} */ chosen) =>
        change({
          components: chosen === "components" ? 16 : undefined,
          directions: chosen === "directions" ? 16 : undefined,
        })}
    />
    ${
      moved !== "all" &&
      html`<${NumberField}
        label=${moved === "components" ? `Components to move, of ${model.condition_dim}` : "Directions to move along"}
        value=${request[moved]}
        min=${1}
        max=${model.condition_dim}
        step=${1}
        hint=${
          moved === "components"
            ? "Those whose change matters most to the blocks."
            : "Principal directions of the classes: those in which the difference leads furthest."
        }
        fault=${fault(moved)}
        onChange=${(/** @type {number | undefined} */ given) => change({ [moved]: given ?? 1 })}
      />`
    }
    <${ScheduleFields}
      label="Steps at which to edit"
      value=${schedule}
      steps=${request.steps ?? model.defaults.steps}
      fault=${fault("schedule")}
      onChange=${(/** @type {any} */ given) => change({ schedule: given })}
    />
  </${Card}>`;
}

/** @param {{values: number[] | undefined, fault: string | null, onChange: (values: number[] | undefined) => void}} props */
function Strengths({ values, fault, onChange }) {
  const id = useId();
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  /** @param {any} event */
  const onInput = (event) => {
    setTyped(event.target.value);
    const given = (event.target.value.match(/-?\d*\.?\d+/g) ?? []).map(Number);
    const each = [...new Set(given)];
    onChange(each.length > 0 ? each : undefined);
  };
  return html`<div class="field">
    <label for=${id}>Strengths, a row each</label>
    <input
      id=${id}
      type="text"
      placeholder=${STRENGTHS.join(", ")}
      value=${typed ?? (values ?? []).map((each) => number(each)).join(", ")}
      aria-invalid=${fault ? "true" : undefined}
      aria-describedby=${`${id}-hint`}
      onInput=${onInput}
      onBlur=${() => setTyped(null)}
    />
    <${Hint}
      id=${`${id}-hint`}
      fault=${fault}
      hint="0 is unedited and 1 all the way; more, or negative ones, lead beyond and away."
    />
  </div>`;
}
