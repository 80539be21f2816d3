/** The jobs, newest first, live over one connection; and the workers that do them. */

import { html, useEffect, useRef, useState } from "../lib/preact.js";
import { href, setQuery } from "../lib/router.js";
import { cancel, follow, getJson, isFinished } from "../lib/api.js";
import { ago, count, duration, number } from "../lib/format.js";
import { KIND_NAMES, ranFor } from "../lib/jobs.js";
import { useLoaded } from "../lib/load.js";
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

/** @typedef {import("../lib/api.js").Schemas["JobSummary"]} Summary */

const PAGE = 25;
const STATUSES = ["queued", "running", "succeeded", "failed", "cancelled"];
const SECOND = 1000;

/** @param {{query: URLSearchParams}} props */
export default function Jobs({ query }) {
  const chosen = { status: query.get("status") ?? "", kind: query.get("kind") ?? "", model: query.get("model") ?? "" };
  const cursor = query.get("cursor") ?? "";
  const { list, error, live, busy } = useJobs(chosen, cursor);
  const { data: models } = useLoaded((signal) => getJson("/models", { signal }), []);
  const names = [...new Set([...(models?.models ?? []).map((/** @type {any} */ each) => each.name), chosen.model])];
  return html`
    <${PageHead} title="Jobs" lead="What this service does, and did.">
      <${Button} kind="primary" href=${href("/ui/new")}>New job</${Button}>
    </${PageHead}>
    <div class="stack">
      <${Workers} changed=${busy} />
      <${Card}
        title=${cursor ? "Earlier jobs" : "Latest jobs"}
        aside=${!cursor &&
        html`<${Badge} kind=${live ? "live" : "warn"}>${live ? "live" : "connecting"}</${Badge}>`}
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
            values=${Object.keys(KIND_NAMES)}
            titles=${KIND_NAMES}
            name="kind"
          />
          <${Filter} label="Model" value=${chosen.model} values=${names.filter(Boolean)} name="model" />
        </form>
        ${error && html`<${ProblemNotice} error=${error} />`}
        ${!list && !error && html`<${Loading}>Loading jobs</${Loading}>`}
        ${
          list &&
          (list.jobs.length === 0
            ? html`<p class="empty">
                No jobs ${chosen.status || chosen.kind || chosen.model ? "of this kind" : "yet"}.
              </p>`
            : html`<ul class="jobs">
                ${list.jobs.map((/** @type {Summary} */ job) => html`<${Row} key=${job.id} job=${job} />`)}
              </ul>`)
        }
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

/** @param {{label: string, value: string, values: string[], titles?: Record<string, string>, name: string}} props */
function Filter({ label, value, values, titles, name }) {
  return html`<${Select}
    label=${label}
    value=${value}
    options=${[{ value: "", title: "any" }, ...values.map((each) => ({ value: each, title: titles?.[each] ?? each }))]}
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

/** @param {{changed: number}} props */
function Workers({ changed }) {
  const { data, error } = useLoaded((signal) => getJson("/health/ready", { signal }), [changed]);
  if (error && !data) return html`<${ProblemNotice} error=${error} />`;
  if (!data) return null;
  if (data.workers.length === 0) {
    return html`<${Notice} kind="warn" title="No worker is alive">
      <p>Jobs wait until one is: <code>celery --app workers.app worker</code>.</p>
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

/**
 * A page of jobs that match; the first page changes as jobs do.
 *
 * It is loaded at once, and again when the service begins to tell of changes, so that nothing is missed in between.
 * @param {{status: string, kind: string, model: string}} chosen
 * @param {string} cursor
 */
function useJobs(chosen, cursor) {
  const [state, setState] = useState(
    /** @type {{list: any, error: unknown, live: boolean, busy: number}} */ ({
      list: null,
      error: null,
      live: false,
      busy: 0,
    }),
  );
  const timer = useRef(0);
  useEffect(() => {
    const abort = new AbortController();
    const matches = (/** @type {Summary} */ job) =>
      (!chosen.status || job.status === chosen.status) &&
      (!chosen.kind || job.kind === chosen.kind) &&
      (!chosen.model || job.model === chosen.model);
    let latest = 0;
    const load = () => {
      const mine = ++latest;
      getJson(href("/jobs", { ...chosen, cursor, limit: PAGE }), { signal: abort.signal }).then(
        (list) => mine === latest && setState((before) => ({ ...before, list, error: null })),
        (error) => abort.signal.aborted || setState((before) => ({ ...before, error })),
      );
    };
    const busier = () => {
      if (timer.current) return; // workers are and places in queues are asked for at most once a second
      timer.current = window.setTimeout(() => {
        timer.current = 0;
        setState((before) => {
          // the places of those that wait have changed
          if (before.list?.jobs.some((/** @type {Summary} */ { status }) => status === "queued")) load();
          return { ...before, busy: before.busy + 1 };
        });
      }, SECOND);
    };
    /** @param {(jobs: Summary[]) => Summary[]} change */
    const update = (change) =>
      setState((before) =>
        before.list ? { ...before, list: { ...before.list, jobs: change(before.list.jobs) } } : before,
      );
    setState((before) => ({ ...before, list: null }));
    load();
    const stop = follow(
      "/events",
      {
        open: load,
        job: (/** @type {Summary} */ job) => {
          busier();
          update((jobs) => {
            const known = jobs.some(({ id }) => id === job.id);
            if (!matches(job)) return jobs.filter(({ id }) => id !== job.id);
            if (known) return jobs.map((each) => (each.id === job.id ? job : each));
            return cursor ? jobs : [job, ...jobs];
          });
        },
        progress: ({ id, progress }) =>
          update((jobs) => jobs.map((each) => (each.id === id ? { ...each, progress } : each))),
        deleted: ({ id }) => update((jobs) => jobs.filter((each) => each.id !== id)),
      },
      (live) => setState((before) => ({ ...before, live })),
    );
    return () => {
      abort.abort();
      clearTimeout(timer.current);
      timer.current = 0;
      stop();
    };
  }, [chosen.status, chosen.kind, chosen.model, cursor]);
  return state;
}
