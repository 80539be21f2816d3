/** The jobs, newest first, live over one connection; and the workers that do them. */

import { html, useEffect, useState } from "../lib/preact.js";
import { href, setQuery } from "../lib/router.js";
import { cancel, getJson, isFinished } from "../lib/api.js";
import { ago, count, duration, number } from "../lib/format.js";
import { FORMS, KIND_NAMES, ranFor } from "../lib/jobs.js";
import { health } from "../lib/health.js";
import { useLoaded } from "../lib/load.js";
import { StartWorker } from "../lib/waits.js";
import {
  Badge,
  Button,
  Card,
  Loading,
  Notice,
  PageHead,
  ProblemNotice,
  Progress,
  Select,
  Status,
} from "../lib/parts.js";
import { useJobs } from "./jobs/live.js";

/** @typedef {import("./jobs/live.js").Summary} Summary */

const STATUSES = ["queued", "running", "succeeded", "failed", "cancelled"];
/** The kinds that somebody asked for; pages compute the others for themselves. */
const ASKED = [...FORMS, "register"];
/** In an address: every kind, also those that pages compute for themselves. */
const ALL = "all";
const SECOND = 1000;

/** @param {{query: URLSearchParams}} props */
export default function Jobs({ query }) {
  const chosen = { status: query.get("status") ?? "", kind: query.get("kind") ?? "", model: query.get("model") ?? "" };
  const cursor = query.get("cursor") ?? "";
  const kinds = chosen.kind === ALL ? [] : chosen.kind ? [chosen.kind] : ASKED;
  const { list, error, live } = useJobs({ status: chosen.status, kinds, model: chosen.model }, cursor);
  const { data: models } = useLoaded((signal) => getJson("/models", { signal }), []);
  const names = [...new Set([...(models?.models ?? []).map((/** @type {any} */ each) => each.name), chosen.model])];
  return html`
    <${PageHead} title="Jobs" lead="What this service does, and did.">
      <${Button} kind="primary" href=${href("/ui/new")}>New job</${Button}>
    </${PageHead}>
    <div class="stack">
      <${Workers} />
      <${Card}
        title=${cursor ? "Earlier jobs" : "Latest jobs"}
        aside=${!cursor &&
        html`<${Badge} kind=${live ? "live" : "warn"}>${live ? "live" : "not live"}</${Badge}>`}
      >
        <form
          class="filters"
          role="search"
          aria-label="Which jobs are shown"
          onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}
        >
          <${Filter} label="Status" value=${chosen.status} values=${STATUSES} name="status" />
          <${Filter}
            label="Kind"
            value=${chosen.kind}
            any="samples, studies, models"
            values=${[ALL, ...Object.keys(KIND_NAMES)]}
            titles=${{ [ALL]: "all, with statistics and figures", ...KIND_NAMES }}
            name="kind"
          />
          <${Filter} label="Model" value=${chosen.model} values=${names.filter(Boolean)} name="model" />
        </form>
        ${error && html`<${ProblemNotice} error=${error} />`}
        ${!list && !error && html`<${Loading}>Loading jobs</${Loading}>`}
        ${
          list &&
          (list.jobs.length === 0
            ? html`<p class="empty" key="none">
                No jobs ${chosen.status || chosen.kind || chosen.model ? "of this kind" : "yet"}.
              </p>`
            : html`<ul class="jobs" key="jobs">
                ${list.jobs.map((/** @type {Summary} */ job) => html`<${Row} key=${job.id} job=${job} />`)}
              </ul>`)
        }
        ${!chosen.kind &&
        html`<p class="small muted" key="others">
          Statistics and figures, which pages compute for themselves, are not among them:${" "}
          <a href=${href("/ui/jobs", { ...chosen, kind: ALL })}>show all jobs</a>.
        </p>`}
        ${
          list &&
          (cursor || list.next_cursor) &&
          html`<nav class="row" aria-label="Pages of jobs">
            ${cursor && html`<${Button} small href=${href("/ui/jobs", chosen)}>Newest</${Button}>`}
            ${list.next_cursor && html`<${Button}
              small
              href=${href("/ui/jobs", { ...chosen, cursor: list.next_cursor })}
            >Older</${Button}>`}
          </nav>`
        }
      </${Card}>
    </div>
  `;
}

/**
 * @param {{label: string, value: string, any?: string, values: string[], titles?: Record<string, string>,
 *   name: string}} props
 */
function Filter({ label, value, any = "any", values, titles, name }) {
  return html`<${Select}
    label=${label}
    value=${value}
    options=${[{ value: "", title: any }, ...values.map((each) => ({ value: each, title: titles?.[each] ?? each }))]}
    onChange=${(/** @type {string} */ given) => setQuery({ [name]: given, cursor: null })}
  />`;
}

/** @param {{job: Summary}} props */
function Row({ job }) {
  const now = useSeconds(!isFinished(job.status));
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const { progress } = job;
  const ran = ranFor(job, now);
  return html`<li>
    <div class="job-line">
      <${Status} status=${job.status} />
      <a href=${href(`/ui/jobs/${job.id}`)}>${job.title}</a>
      ${
        !isFinished(job.status) &&
        html`<${Button}
          small
          kind="danger"
          aria-label=${`Cancel ${job.title}`}
          onClick=${() => cancel(job.id).then(() => setProblem(null), setProblem)}
        >Cancel</${Button}>`
      }
    </div>
    <div class="small muted">
      ${KIND_NAMES[job.kind]} · ${job.model} · ${ago(job.created, now)}
      ${ran !== null && ` · ${job.finished ? "ran" : "runs for"} ${duration(ran)}`}
      ${job.queue_position &&
      ` · ${job.queue_position === 1 ? "the next" : `number ${job.queue_position}`} of its queue`}
      ${
        (job.thresholds?.length ?? 0) > 1 &&
        ` · thresholds ${job.thresholds
          ?.slice(0, 6)
          .map((each) => number(each))
          .join(", ")}${(job.thresholds?.length ?? 0) > 6 ? " …" : ""}`
      }
    </div>
    ${
      job.status === "running" &&
      progress &&
      html`<${Progress}
        label=${progress.phase ?? "running"}
        done=${progress.done}
        total=${progress.total}
        unit=${progress.unit}
        eta=${progress.eta_seconds}
      />`
    }
    ${job.problem && html`<div class="small job-problem">${job.problem.title}: ${job.problem.detail}</div>`}
    ${problem && html`<${ProblemNotice} error=${problem} />`}
  </li>`;
}

/**
 * The time, which goes on every second while something changes with it.
 * @param {boolean} going
 */
function useSeconds(going) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    setNow(Date.now());
    const timer = setInterval(() => document.hidden || setNow(Date.now()), going ? SECOND : 30 * SECOND);
    return () => clearInterval(timer);
  }, [going]);
  return now;
}

function Workers() {
  const { ready: data, error } = health.value;
  if (error && !data) return html`<${ProblemNotice} error=${error} />`;
  if (!data) return null;
  if (data.workers.length === 0) {
    return html`<${Notice} kind="warn" title="No worker is running">
      <p>Jobs wait until one is. <${StartWorker} /></p>
    </${Notice}>`;
  }
  return html`<section class="workers" aria-label="Workers">
    <span><strong class="number">${count(data.running)}</strong> running</span>
    <span><strong class="number">${count(data.queued)}</strong> queued</span>
    <span>
      <strong class="number">${count(data.workers.length)}</strong>
      ${data.workers.length === 1 ? " worker:" : " workers:"}
    </span>
    ${data.workers.map((/** @type {any} */ worker) => 
      html`<span class="mono small">${worker.name} (${worker.device})</span>`)}
  </section>`;
}
