/** A model: how parallel its condition vectors are, and which of their components matter. */

import { html, useEffect, useState } from "../lib/preact.js";
import { href, navigate } from "../lib/router.js";
import { formAddress } from "../lib/jobs.js";
import { getJson } from "../lib/api.js";
import { useLoaded } from "../lib/load.js";
import { loadRun, loadTimes, loadVectors } from "../lib/vectors.js";
import { ConditionsField, useConditions } from "../lib/conditions.js";
import { Exploration } from "../lib/exploration.js";
import { count, fixed, number } from "../lib/format.js";
import { Button, Card, Loading, Missing, PageHead, Progress, ProblemNotice, Segmented, Select, Stats, TimeField } from "../lib/parts.js";
import { ThresholdCard } from "../lib/threshold-card.js";
import { CosineCard, PairCard } from "../lib/cosine-card.js";
import { DistributionCard, SamplingCard } from "../lib/distribution-card.js";
import { ModulationCard } from "./model/modulation.js";
import { TrainingCard } from "./model/training.js";

/** @param {{params: {name: string}, query: URLSearchParams}} props */
export default function Model({ params: { name }, query }) {
  const [job, setJob] = useState(/** @type {any} */ (null));
  const asked = query.get("t");
  const { data, error, reload } = useLoaded(
    async (signal) => {
      const timestep = asked !== null && Number.isFinite(Number(asked)) ? Number(asked) : null;
      const loaded = await loadVectors(name, { timestep, conditions: query.get("conditions"), onJob: setJob, signal });
      return new Exploration(loaded, query);
    },
    [name],
  );
  // One heading for all that is shown here in turn: it has the focus after a navigation.
  return html`
    <${PageHead}
      title=${name}
      crumbs=${html`<a href=${href("/ui/")}>Models</a>`}
      lead=${data && `${data.model.title} · ${data.model.source}`}
    >
      ${data && html`<${CompareLink} exploration=${data} />`}
      ${data && html`<${SampleLink} exploration=${data} />`}
    </${PageHead}>
    ${error
      ? html`<${NotLoaded} name=${name} error=${error} retry=${reload} />`
      : data
        ? html`<${Explored} name=${name} exploration=${data} />`
        : job?.progress
          ? html`<${Progress} label="Reading the condition vectors" ...${job.progress} />`
          : html`<${Loading}>Reading the condition vectors</${Loading}>`}
  `;
}

/** @param {{name: string, exploration: Exploration}} props */
function Explored({ name, exploration }) {
  useEffect(() => exploration.start(), [exploration]);
  useEffect(() => {
    const abort = new AbortController();
    const { loaded } = exploration;
    Promise.all([
      loadTimes(name, loaded, abort.signal).then((times) => exploration.takeTimes(times)),
      loadRun(name, loaded, abort.signal).then((run) => (exploration.run.value = run)),
    ]).catch((error) => abort.signal.aborted || (exploration.failed.value = error));
    return () => abort.abort();
  }, [exploration]);
  return html`<div class="stack">
    ${exploration.failed.value && html`<${ProblemNotice} error=${exploration.failed.value} />`}
    <${Facts} exploration=${exploration} />
    <${Controls} exploration=${exploration} />
    <div class="columns">
      <${ThresholdCard} exploration=${exploration} />
      <${CosineCard} exploration=${exploration} />
    </div>
    <${PairCard} exploration=${exploration} />
    <div class="columns">
      <${SamplingCard} exploration=${exploration} />
      <${DistributionCard} exploration=${exploration} />
    </div>
    ${prunable(exploration.model) && html`<${ModulationCard} exploration=${exploration} />`}
    ${exploration.model.links.training && html`<${TrainingCard} path=${exploration.model.links.training} />`}
  </div>`;
}

/**
 * Whether what prunes of a model change is measured: a compacted one has other modulations.
 * @param {any} model
 */
function prunable(model) {
  return model.ready && !model.compacted;
}

/**
 * The way to the same vectors beside those of another model.
 * @param {{exploration: Exploration}} props
 */
function CompareLink({ exploration }) {
  const { model, loaded, part, timestep, row } = exploration;
  const address = href("/ui/compare", {
    a: model.name,
    ca: loaded.conditions,
    part: part.value === "c" ? null : part.value,
    ta: part.value === "c" ? timestep.value : null,
    class: row.value || null,
  });
  return html`<${Button} href=${address}>Compare</${Button}>`;
}

/**
 * The way to a job with the prune that is shown.
 * @param {{exploration: Exploration}} props
 */
function SampleLink({ exploration }) {
  const { model, loaded, prune, chosenFill, row } = exploration;
  const { rule, threshold, keep } = prune.value;
  const subject = [loaded.numbers[row.value]];
  const address = formAddress("prune-sample", {
    model: model.name,
    ...(rule === "keep" ? { keep: [keep] } : { threshold: [threshold], side: rule === "head" ? "head" : null }),
    fill: chosenFill.value,
    ...(loaded.conditions === null ? { labels: subject } : { conditions: loaded.conditions, rows: subject }),
  });
  return html`<${Button} kind="primary" href=${address}>
    Sample ${rule === "keep" ? `keeping ${keep}` : "at this threshold"}
  </${Button}>`;
}

/** @param {{exploration: Exploration}} props */
function Facts({ exploration }) {
  const { model, loaded, before, cosines, part, timestep } = exploration;
  const { npr, norm, cosine } = before.value;
  const where = part.value === "y" ? "of y" : `of c at t = ${number(timestep.value, 4)}`;
  return html`<section class="card" aria-label="In short">
    <${Stats}
      values=${[
        ["Family", model.family, model.size],
        loaded.conditions === null ? ["Classes", count(loaded.y.count)] : ["Conditions", count(loaded.y.count), "rows of the file"],
        ["Width d", count(loaded.y.dim), "components"],
        ["Cosine", html`<span data-number="cosine">${fixed(cosine, 4)}</span>`, `mean of pairs, ${where}`],
        ["nPR", html`<span data-number="npr">${fixed(npr, 4)}</span>`, `${number(npr * loaded.y.dim)} components' worth`],
        ["Norm", html`<span data-number="norm">${fixed(norm, 3)}</span>`, "mean |c|₂"],
        ["Parameters", model.parameters === null ? "–" : count(model.parameters), model.licence],
      ]}
    />
    ${cosines.value === null && html`<span class="sr-only">Computing cosines</span>`}
  </section>`;
}

/** @param {{exploration: Exploration}} props */
function Controls({ exploration }) {
  const { part, times, moment, row, names, loaded, model } = exploration;
  const stored = useConditions(model);
  const { timesteps, fraction } = times.value;
  return html`<section class="card controls" aria-label="What is shown">
    <${Segmented}
      label="Vectors"
      options=${[
        { value: "c", title: "c = y + t" },
        { value: "y", title: "y, the class alone" },
      ]}
      value=${part.value}
      onChange=${(/** @type {string} */ value) => (part.value = value)}
    />
    <${Select}
      label=${loaded.conditions === null ? "Class" : "Condition"}
      options=${names.map((name, index) => ({
        value: String(index),
        title: loaded.conditions === null ? `${loaded.numbers[index]} · ${name}` : name,
      }))}
      value=${String(row.value)}
      onChange=${(/** @type {string} */ value) => (row.value = Number(value))}
    />
    ${loaded.conditions !== null &&
    html`<${ConditionsField}
      stored=${stored}
      value=${loaded.conditions}
      onChange=${(/** @type {string | null} */ id) => id && navigate(href(`/ui/models/${encodeURIComponent(model.name)}`, { conditions: id }))}
    />`}
    ${part.value === "c" &&
    html`<${TimeField}
      timesteps=${timesteps}
      fraction=${fraction}
      index=${moment.value}
      onChange=${(/** @type {number} */ index) => (moment.value = index)}
    />`}
  </section>`;
}

/**
 * Why there is nothing to see, and what can be done: files may be missing, or conditions have to be named.
 * @param {{name: string, error: any, retry: () => void}} props
 */
function NotLoaded({ name, error, retry }) {
  const known = error.type !== "unknown-model";
  const { data: model } = useLoaded(
    (signal) => (known ? getJson(`/models/${encodeURIComponent(name)}`, { signal }) : Promise.resolve(null)),
    [name],
  );
  const stored = useConditions(model);
  if (model?.ready && model.classes === null) {
    return html`<${Card} title="This model takes conditions in place of classes" lead=${error.message}>
      <${ConditionsField}
        stored=${stored}
        value=${null}
        onChange=${(/** @type {string | null} */ id) => id && navigate(href(`/ui/models/${encodeURIComponent(name)}`, { conditions: id }))}
      />
    </${Card}>`;
  }
  return html`<div class="stack">
    <${ProblemNotice} error=${error} retry=${retry} />
    ${model && !model.ready && html`<${Missing} model=${model} />`}
  </div>`;
}
