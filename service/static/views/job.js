/** A job: how far it is, its result, its request, and its files. */

import { html, useEffect, useRef, useState } from "../lib/preact.js";
import { href } from "../lib/router.js";
import { cancel, isFinished, Problem, url } from "../lib/api.js";
import { ago, duration } from "../lib/format.js";
import { FORMS, formAddress, inShort, KIND_NAMES, KINDS, ranFor, useJob } from "../lib/jobs.js";
import { asJson, RequestText } from "../lib/request-text.js";
import { focusItem } from "../lib/focus.js";
import { useHealth } from "../lib/health.js";
import { hasNoWorker, LOOK_SECONDS, PHASES, standing, StartWorker } from "../lib/waits.js";
import {
  announce,
  Button,
  Card,
  Copy,
  Loading,
  Notice,
  PageHead,
  ProblemNotice,
  Progress,
  Status,
} from "../lib/parts.js";
import { PruneSampleResult } from "./job/prune-sample.js";
import { EditResult } from "./job/edit.js";
import { StudyResult } from "./job/study.js";
import { CompactResult, CompactTransformerResult } from "./job/compaction.js";
import { STATISTICS } from "./job/statistics.js";

/** @param {{params: {id: string}, query: URLSearchParams}} props */
export default function JobView({ params, query }) {
  const { job, error, live } = useJob(params.id);
  const status = useRef(/** @type {string | null} */ (null));
  useEffect(() => {
    if (status.current && job?.status !== status.current) announce(`The job has ${SAID[job.status] ?? "changed"}`);
    status.current = job?.status ?? null;
  }, [job?.status]);
  useEffect(() => {
    if (job) document.title = `${capital(KIND_NAMES[kindOf(job)])} of ${job.request.model}, ${job.id} · tailprune`;
  }, [job?.id]);
  if (error && isGone(error)) return html`<${Gone} id=${params.id} job=${job} error=${error} />`;
  if (!job) {
    return html`<${PageHead} title="Job" crumbs=${html`<${Crumbs} />`} />
      ${error ? html`<${ProblemNotice} error=${error} />` : html`<${Loading}>Loading the job</${Loading}>`}`;
  }
  return html`
    <${PageHead} title=${job.title} crumbs=${html`<${Crumbs} />`} lead=${html`<${Lead} job=${job} />`}>
      ${!isFinished(job.status) && html`<${Cancel} id=${job.id} />`}
      ${job.result?.variants && job.kind !== "edit" && html`<${Button} href=${href("/ui/compare", { a: job.id })}>Compare</${Button}>`}
      <${RunAgain} job=${job} />
    </${PageHead}>
    <div class="stack">
      ${error && html`<${ProblemNotice} error=${error} />`}
      <${Standing} job=${job} live=${live} />
      <${Result} job=${job} query=${query} />
      <div class="columns job-foot">
        <${Request} job=${job} />
        <${Files} job=${job} />
      </div>
    </div>
  `;
}

/** @param {{job: any}} props */
function RunAgain({ job }) {
  if (!FORMS.includes(job.kind)) return null;
  return html`<${Button} href=${formAddress(job.kind, job.request)}>Change and run again</${Button}>`;
}

/**
 * Whether a job is no more, as the service says: it was deleted, or its time is over.
 * @param {unknown} error
 */
function isGone(error) {
  return error instanceof Problem && (error.status === 404 || error.status === 410);
}

/**
 * A job that is no more, and where to go from there.
 * @param {{id: string, job: any, error: any}} props `job` as it was, if this page has seen it
 */
function Gone({ id, job, error }) {
  return html`<${PageHead} title=${job?.title ?? "Job"} crumbs=${html`<${Crumbs} />`}>
      ${job && html`<${RunAgain} job=${job} />`}
    </${PageHead}>
    <div class="stack">
      <${Notice} kind="warn" title=${job && error.status === 404 ? "This job is no more" : error.title} role="alert">
        <p>${capital(error.message)}.</p>
        <p>
          <a href=${href("/ui/jobs")}>Jobs that there are</a> · <a href=${href("/ui/new")}>New job</a>
        </p>
      </${Notice}>
      ${job && html`<${Request} job=${job} />`}
      ${!job && html`<p class="small muted mono">${id}</p>`}
    </div>`;
}

/** @param {{job: any}} props */
function Request({ job }) {
  return html`<${Card} title="Request" lead="As it ran, with its defaults filled in.">
    ${
      job.kind in KINDS
        ? html`<${RequestText} kind=${job.kind} body=${inShort(job.request)} />`
        : html`<${Copy} text=${asJson(inShort(job.request))} label="Copy the request as JSON" />`
    }
  </${Card}>`;
}

/**
 * @param {any} job
 * @returns {keyof typeof KIND_NAMES}
 */
function kindOf(job) {
  return job.kind;
}

function Crumbs() {
  return html`<a href=${href("/ui/jobs")}>Jobs</a>`;
}

/** @param {{job: any}} props */
function Lead({ job }) {
  const { model } = job.request;
  return html`<span class="row">
    <${Status} status=${job.status} />
    <span>
      ${KIND_NAMES[kindOf(job)]} ·${" "}
      ${
        OF_TRANSFORMERS.includes(job.kind) ? model : html`<a href=${href(`/ui/models/${encodeURIComponent(model)}`)}>${model}</a>`
      } · created ${ago(job.created)}
      ${job.finished && job.started && ` · ran ${duration(ranFor(job))}`}
    </span>
  </span>`;
}

/** @param {{id: string}} props */
function Cancel({ id }) {
  const [state, setState] = useState(/** @type {{asked?: boolean, goesOn?: boolean, error?: unknown}} */ ({}));
  const ask = async () => {
    if (state.asked) return; // it is not disabled, since it would lose the focus
    setState({ asked: true });
    try {
      const goesOn = await cancel(id);
      if (goesOn) setState({ asked: true, goesOn });
      announce(goesOn ? "The job goes on for others" : "The job was asked to stop");
    } catch (error) {
      setState({ error });
    }
  };
  return html`
    ${state.error && html`<${ProblemNotice} error=${state.error} />`}
    <${Button}
      kind="danger"
      onClick=${ask}
      aria-disabled=${state.asked ? "true" : undefined}
    >${state.goesOn ? "It goes on for others" : state.asked ? "Cancelling …" : "Cancel"}</${Button}>
  `;
}

const SAID = /** @type {Record<string, string>} */ ({
  running: "started",
  succeeded: "succeeded",
  failed: "failed",
  cancelled: "been cancelled",
});

/**
 * How far a job is, or why it has no result.
 * @param {{job: any, live: boolean}} props
 */
function Standing({ job, live }) {
  if (job.status === "failed") {
    const problem = job.problem ?? { title: "It failed", detail: "The service does not say why." };
    return html`<${Notice} kind="bad" title=${problem.title}>
      <p>${problem.detail}</p>
      ${
        problem.errors?.length > 0 &&
        html`<ul>
          ${problem.errors.map((/** @type {any} */ fault) => 
            html`<li><code>${fault.location}</code> ${fault.message}</li>`)}
        </ul>`
      }
    </${Notice}>`;
  }
  if (job.status === "cancelled") {
    return html`<${Notice} kind="warn" title="This job was cancelled">
      <p>It has no result.${FORMS.includes(job.kind) && " “Change and run again” makes a new one of the same request."}</p>
    </${Notice}>`;
  }
  if (isFinished(job.status)) return null;
  const { progress } = job;
  return html`<${Card} title="Progress">
    ${
      job.status === "queued"
        ? html`<${Queued} job=${job} />`
        : progress
          ? html`<${Progress}
              label=${capital(PHASES[progress.phase] ?? progress.phase ?? "Running")}
              done=${progress.done}
              total=${progress.total}
              unit=${progress.unit}
              eta=${progress.eta_seconds}
            />`
          : html`<${Loading}>Started</${Loading}>`
    }
    ${
      !live &&
      html`<p class="small" role="status">
        The connection to the service is lost. The job goes on without it, and this page comes back to it by itself.
      </p>`
    }
  </${Card}>`;
}

/** @param {{job: any}} props */
function Queued({ job }) {
  useHealth(LOOK_SECONDS);
  return html`<p>${capital(standing(job))}.</p>
    ${hasNoWorker() && html`<p class="small"><${StartWorker} /></p>`}`;
}

/** @param {string} text */
function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** @param {{job: any, query: URLSearchParams}} props */
function Result({ job, query }) {
  if (!job.result) return null;
  if (job.kind === "prune-sample") return html`<${PruneSampleResult} job=${job} query=${query} />`;
  if (job.kind === "edit") return html`<${EditResult} job=${job} />`;
  if (job.kind === "study") return html`<${StudyResult} job=${job} query=${query} />`;
  if (job.kind === "compact") return html`<${CompactResult} job=${job} />`;
  if (job.kind === "compact-transformer") return html`<${CompactTransformerResult} job=${job} />`;
  const Statistics = STATISTICS[job.kind];
  return Statistics ? html`<${Statistics} job=${job} />` : null;
}

/** @param {{job: any}} props */
function Files({ job }) {
  const files = Object.entries(job.links.artifacts ?? {});
  const [all, setAll] = useState(false);
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const showAll = () => {
    setAll(true);
    focusItem(list, FEW_FILES);
  };
  if (files.length === 0) return null;
  const shown = all ? files : files.slice(0, FEW_FILES);
  return html`<${Card} title="Files" lead=${`${files.length} ${files.length === 1 ? "file" : "files"} to download.`}>
    <ul class="files" ref=${list}>
      ${shown.map(([name, path]) => html`<li><a
        href=${url(/** @type {string} */ (path))}
        download=${name}
      >${name}</a></li>`)}
    </ul>
    ${
      shown.length < files.length &&
      html`<div><${Button} small onClick=${showAll}>Show all ${files.length}</${Button}></div>`
    }
  </${Card}>`;
}

const FEW_FILES = 12;
/** The kinds of jobs of large transformers, which have no page. */
const OF_TRANSFORMERS = [
  "anatomy",
  "compact-transformer",
  "figure-transformer",
  "metrics-transformer",
  "over-time-transformer",
];
