/** What is waited for: a worker, the jobs before one, or a job that computes. */

import { html, useEffect } from "./preact.js";
import { waiting } from "./api.js";
import { percent } from "./format.js";
import { health, useHealth } from "./health.js";
import { href } from "./router.js";
import { announce, Notice } from "./parts.js";

/** How often the service is asked for its workers while a job waits for one. */
export const LOOK_SECONDS = 3;
const MOST = 3;

/** How a worker is started, where there is none. */
export function StartWorker() {
  return html`Start one beside the service: <code>celery --app workers.app worker --pool threads --concurrency 1</code>;
    or run all of it by <code>tailprune serve</code>.`;
}

/** Whether the service is known to have no worker. */
export function hasNoWorker() {
  return health.value.ready?.workers.length === 0;
}

/**
 * What a job waits for, or how far it is.
 * @param {{status: string, queue_position?: number | null, progress?: any}} job
 */
export function standing({ status, queue_position: place, progress }) {
  if (status === "running") {
    const { phase, done, total } = progress ?? {};
    const what = PHASES[phase] ?? phase ?? "computing";
    return total ? `${what}, ${percent(done / total, 0)}` : what;
  }
  const before = place && place > 1 ? `${place - 1} ${place === 2 ? "job" : "jobs"} before it` : "";
  if (hasNoWorker()) return `waiting for a worker: none is running${before && `; ${before}`}`;
  if (before) return `waiting: ${before}`;
  return `waiting for a worker${place ? ": it is the next" : ""}`;
}

/** What the phases of jobs are called where their names say too little. @type {Record<string, string>} */
export const PHASES = { loading: "loading the model", drawing: "drawing pictures" };

/** What this page waits for; nothing while it waits for no job. */
export function Waits() {
  const jobs = [...new Map([...waiting.value.values()].map((job) => [job.id, job])).values()];
  const queued = jobs.some(({ status }) => status === "queued");
  useHealth(queued ? LOOK_SECONDS : null);
  const none = queued && hasNoWorker();
  const title = none ? "No worker is running" : "Waiting for what is computed";
  useEffect(() => {
    if (jobs.length > 0) announce(title);
  }, [jobs.length > 0, title]);
  if (jobs.length === 0) return null;
  return html`<section class="waits" aria-label="What this page waits for">
    <${Notice} kind=${none ? "warn" : "info"} title=${title}>
      ${none && html`<p class="small"><${StartWorker} /></p>`}
      <ul class="small">
        ${jobs.slice(0, MOST).map(
          (job) => html`<li key=${job.id}>
            <a href=${href(`/ui/jobs/${job.id}`)}>${job.title}</a>: ${standing(job)}
          </li>`,
        )}
        ${jobs.length > MOST && html`<li>and ${jobs.length - MOST} more</li>`}
      </ul>
    </${Notice}>
  </section>`;
}
