/** A new job: a form made from the model, and the request that it writes. */

import { html, useEffect, useMemo, useRef, useState } from "../lib/preact.js";
import { href, navigate, setQuery } from "../lib/router.js";
import { getJson, post, Problem } from "../lib/api.js";
import { count, duration } from "../lib/format.js";
import { FORMS, inShort, KINDS } from "../lib/jobs.js";
import { useLoaded } from "../lib/load.js";
import { ruleOf } from "../lib/prunes.js";
import { RequestText } from "../lib/request-text.js";
import { Button, Card, Loading, Notice, PageHead, ProblemNotice, Segmented, Select } from "../lib/parts.js";
import { useConditions } from "../lib/conditions.js";
import { useEstimate } from "./new/estimate.js";
import { prunesIn, remembered, requestWith, withOneGrid } from "./new/requests.js";
import { PruneFields } from "./new/prune.js";
import { SubjectFields } from "./new/subjects.js";
import { SamplingFields } from "./new/sampling.js";
import { StudyFields } from "./new/study.js";
import { CompactFields } from "./new/compact.js";
import { EditFields } from "./new/edit.js";

/**
 * What the fields of a form share.
 * @typedef {object} Form
 * @property {any} request
 * @property {(changes: Record<string, unknown>) => void} change a field of undefined has its default
 * @property {any} model
 * @property {(field: string) => string | null} fault what the service says of a field
 * @property {import("../lib/conditions.js").Stored[] | null} stored the conditions that the model takes, if it takes them
 * @property {number | null} subjects how many classes or conditions are sampled; null if they are not chosen yet
 */

/** @typedef {typeof FORMS[number]} Posted */

const TYPICAL_THRESHOLD = 0.05;
/** @param {{query: URLSearchParams}} props */
export default function New({ query }) {
  const { data: models, error, reload } = useLoaded((signal) => getJson("/models", { signal }), []);
  const name = query.get("model") ?? models?.models.find((/** @type {any} */ each) => each.ready)?.name ?? null;
  const model = useLoaded((signal) => (name ? getJson(`/models/${encodeURIComponent(name)}`, { signal }) : Promise.resolve(null)), [name]);
  const fields = useRef(/** @type {Record<string, unknown>} */ ({})); // what other kinds of jobs may take over
  const given = query.get("kind");
  const kind = /** @type {Posted} */ (FORMS.find((each) => each === given) ?? "prune-sample");
  const problem = error ?? model.error;
  const ready = model.data?.name === name ? model.data : null;
  return html`
    <${PageHead} title="New job" lead="The form writes the request: copy it, or start the job here." />
    ${problem && html`<${ProblemNotice} error=${problem} retry=${error ? reload : model.reload} />`}
    ${!ready && !problem && html`<${Loading}>Loading the model</${Loading}>`}
    ${
      models &&
      ready &&
      html`<${Filled}
        key=${`${kind} ${name}`}
        kind=${kind}
        model=${ready}
        models=${models.models}
        query=${query}
        fields=${fields}
      />`
    }
  `;
}

/**
 * The request that an address has.
 * @param {Posted} kind
 * @param {any} model
 * @param {URLSearchParams} query
 */
function requestOf(kind, model, query) {
  let rest = {};
  try {
    const parsed = JSON.parse(query.get("request") ?? "{}");
    if (parsed && typeof parsed === "object" && !Array.isArray(parsed)) rest = parsed;
  } catch {
    // an address that was cut off is a form with its defaults
  }
  const thresholds = query
    .getAll("threshold")
    .map(Number)
    .filter((each) => Number.isFinite(each));
  // the model comes first, whatever the address has
  let request = /** @type {any} */ (Object.assign({ model: null }, rest, { model: model.name }));
  if (kind === "study") {
    request = withOneGrid(request);
    if (thresholds.length > 0) request.grid = { thresholds };
    else if (!request.grid && !request.prunes && !request.search) request.grid = { thresholds: [0.02, 0.05, 0.1] };
  } else if (kind === "compact") {
    if (thresholds.length > 0) request.threshold = thresholds[0];
    else if (request.keep === undefined) request.threshold = TYPICAL_THRESHOLD;
  } else if (kind === "edit") {
    const [from, to] = model.defaults.labels ?? [0, 1];
    if (request.source === undefined) request.source = [from];
    if (request.target === undefined) request.target = [to ?? (from === 0 ? 1 : 0)];
  } else if (thresholds.length > 0) request.threshold = thresholds;
  else if (!ruleOf(request) && !model.compacted) request.threshold = [TYPICAL_THRESHOLD];
  return request;
}

/**
 * @param {{kind: Posted, model: any, models: any[], query: URLSearchParams, fields: {current: Record<string, unknown>}}} props
 */
function Filled({ kind, model, models, query, fields: shared }) {
  const [request, setRequest] = useState(() => requestOf(kind, model, query));
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const [posting, setPosting] = useState(false);
  const form = useRef(/** @type {HTMLFormElement | null} */ (null));
  const body = useMemo(() => inShort(request), [request]);
  useEffect(() => {
    const { model: name, threshold, ...rest } = body;
    const text = JSON.stringify(rest);
    setQuery({
      kind: kind === "prune-sample" ? null : kind,
      model: name,
      threshold,
      request: text === "{}" ? null : text,
    });
  }, [body]);
  useEffect(() => {
    if (problem)
      /** @type {HTMLElement | null | undefined} */ (form.current?.querySelector('[aria-invalid="true"]'))?.focus();
  }, [problem]);

  const stored = useConditions(model);
  const subjects = subjectsOf(kind, model, request, stored);
  const faults = problem instanceof Problem ? problem.errors : [];
  const fields = /** @type {Form} */ ({
    request,
    model,
    stored,
    subjects,
    change: (changes) => setRequest((/** @type {any} */ before) => ({ ...before, ...changes })),
    fault: (field) => {
      const found = faults.filter(
        ({ location }) => location === `body.${field}` || location.startsWith(`body.${field}.`),
      );
      return found.length > 0 ? found.map(({ message }) => message).join("; ") : null;
    },
  });
  /** @param {Event} event */
  const send = async (event) => {
    event.preventDefault();
    setPosting(true);
    try {
      const job = await post(KINDS[kind].path, body);
      navigate(href(`/ui/jobs/${job.id}`));
    } catch (error) {
      setProblem(error);
      setPosting(false);
    }
  };
  /** @param {string} other */
  const goTo = (other) => {
    shared.current = remembered(shared.current, kind, body);
    const { threshold, ...rest } = inShort(requestWith(other, shared.current, prunesIn(kind, body)));
    const text = JSON.stringify(rest);
    setQuery({ kind: other === "prune-sample" ? null : other, threshold, request: text === "{}" ? null : text });
  };

  const content = {
    "prune-sample": () =>
      html`<${PruneFields} ...${fields} />
        <${SubjectFields} ...${fields} />
        <${SamplingFields} ...${fields} compare />`,
    edit: () =>
      html`<${EditFields} ...${fields} />
        <${SubjectFields} ...${fields} standard=${request.source} />
        <${SamplingFields} ...${fields} />`,
    study: () =>
      html`<${StudyFields} ...${fields} />
        <${SubjectFields} ...${fields} every />
        <${SamplingFields} ...${fields} />`,
    compact: () => html`<${CompactFields} ...${fields} /><${SubjectFields} ...${fields} every single />`,
  }[kind]();
  return html`<form class="new-job" ref=${form} onSubmit=${send} noValidate aria-label="The request">
    <div class="stack">
      <${Card} title="Job">
        <${Segmented}
          label="What to do"
          options=${FORMS.map((each) => ({ value: each, title: KINDS[each].title }))}
          value=${kind}
          onChange=${goTo}
        />
        <${Select}
          label="Model"
          value=${model.name}
          options=${models.map(({ name, title, ready }) => ({
            value: name,
            title: ready ? `${name}: ${title}` : `${name} (files are missing)`,
          }))}
          onChange=${(/** @type {string} */ name) => setQuery({ model: name, request: null })}
        />
        ${
          !model.ready &&
          html`<${Notice}
            kind="warn"
            title="Files of this model are missing"
          ><p>${model.obtain ?? model.missing.join(", ")}</p></${Notice}>`
        }
      </${Card}>
      ${content}
    </div>
    <div class="stack new-aside">
      <${Card} title="Request">
        <${RequestText} kind=${kind} body=${body} />
        <${Estimated} kind=${kind} model=${model} request=${request} subjects=${subjects} />
        ${problem && html`<${ProblemNotice} error=${problem} />`}
        <${Button}
          kind="primary"
          type="submit"
          disabled=${posting}
        >${posting ? "Starting …" : "Start the job"}</${Button}>
      </${Card}>
    </div>
  </form>`;
}

/**
 * How many classes or conditions a request is of; null if it takes conditions and they are not known.
 * @param {Posted} kind
 * @param {any} model
 * @param {any} request
 * @param {import("../lib/conditions.js").Stored[] | null} stored
 */
function subjectsOf(kind, model, request, stored) {
  if (model.classes === null) {
    const given = request.rows ?? (kind === "edit" ? request.source : undefined);
    return given?.length ?? stored?.find(({ id }) => id === request.conditions)?.count ?? null;
  }
  if (kind === "edit") return (request.labels ?? request.source)?.length ?? null;
  return request.labels?.length ?? (kind === "prune-sample" ? model.defaults.labels?.length : model.classes) ?? null;
}

/** @param {{kind: Posted, model: any, request: any, subjects: number | null}} props */
function Estimated({ kind, model, request, subjects }) {
  const estimate = useEstimate(kind, model, request, subjects);
  if (!estimate) {
    return model.classes === null && subjects === null
      ? html`<p class="small estimate muted">Choose conditions: how long it takes depends on how many there are.</p>`
      : null;
  }
  const { samples, steps, seconds, jobs, of, scored } = estimate;
  const several = `${jobs} ${of === "study" ? "studies" : `${of}s`}`;
  return html`<p class="small estimate">
    <span>${samples === null ? `The times of ${count(steps)} steps:` : `${count(samples)} samples of ${count(steps)} steps:`}</span>${" "}
    ${
      seconds === null
        ? html`<span class="muted">no earlier ${of} of this model says how long that takes.</span>`
        : html`<strong>about ${duration(Math.max(1, seconds))}</strong>${" "}
            <span class="muted"
              >by the speed of the last ${jobs === 1 ? of : several} of this model${
                scored ? "" : ", and their scores besides"
              }, once a worker is free</span
            >`
    }
  </p>`;
}
