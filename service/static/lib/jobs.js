/** Jobs: followed until they have finished, posted, and written as requests. */

import { useEffect, useState } from "./preact.js";
import { getJson, isFinished, Problem } from "./api.js";
import { follow } from "./events.js";
import { href } from "./router.js";

/** @typedef {import("./contract").components["schemas"]} Schemas */
/** @typedef {Schemas["AnyJob"]} Job */
/** @typedef {NonNullable<Job["progress"]>} Progress */

/** The kinds of jobs that can be posted, with their paths and names. */
export const KINDS = /** @type {const} */ ({
  "prune-sample": { path: "/prune-sample", title: "Prune and sample", method: "prune_sample" },
  edit: { path: "/edit", title: "Edit", method: "edit" },
  study: { path: "/studies", title: "Study", method: "study" },
  compact: { path: "/compact", title: "Compact", method: "compact" },
  "compact-transformer": { path: "/compact", title: "Compact a large transformer", method: "compact" },
  extract: { path: "/extract", title: "Extract vectors", method: "extract" },
});
/** @typedef {keyof typeof KINDS} Kind */

/** The kinds that have a form. */
export const FORMS = /** @type {const} */ (["prune-sample", "edit", "study", "compact"]);

/** @type {Record<Job["kind"], string>} */
export const KIND_NAMES = {
  "prune-sample": "prune and sample",
  edit: "edit",
  study: "study",
  compact: "compact",
  "compact-transformer": "compact a large transformer",
  extract: "extract",
  register: "add a model",
  metrics: "metrics",
  cosine: "cosines",
  "over-time": "over time",
  removal: "removal",
  attribution: "attribution",
  anatomy: "anatomy",
  figure: "figure",
  "figure-transformer": "figure of a large transformer",
  "metrics-transformer": "metrics of a large transformer",
  "over-time-transformer": "a large transformer over time",
};

/** After how long the service is asked again, where it did not answer, and how a job stands that waits in its queue. */
const AGAIN_MS = 1000;

/**
 * @typedef {object} Followed
 * @property {any} job null until it is loaded
 * @property {unknown} error why it could not be loaded; of a job that was, why it is no more
 * @property {boolean} live whether the service answers
 */

/**
 * A job, kept up to date by its events until it has finished.
 *
 * An event of its status or of new scores is a reason to load it again; one of its progress has all there is to know.
 * Its place in its queue has no events, so it is loaded again while it waits. Where the service does not answer, it is
 * asked again until it does; where it says that the job is no more, that is the end.
 * @param {string} id
 * @returns {Followed}
 */
export function useJob(id) {
  const [state, setState] = useState(/** @type {Followed} */ ({ job: null, error: null, live: true }));
  useEffect(() => {
    const path = `/jobs/${encodeURIComponent(id)}`;
    const abort = new AbortController();
    let timer = 0;
    let loading = false;
    let stale = false;
    /** @type {(() => void) | null} */
    let unfollow = null;

    const again = () => {
      clearTimeout(timer);
      timer = window.setTimeout(() => (document.hidden ? again() : load()), AGAIN_MS);
    };
    const load = async () => {
      stale = loading; // what is under way may be older than the event that asks for this
      if (loading) return;
      loading = true;
      try {
        const job = await getJson(path, { signal: abort.signal });
        const over = isFinished(job.status);
        setState({ job, error: null, live: true });
        if (over) unfollow?.();
        else unfollow ??= follow(path + "/events", { status: load, result: load, progress: onProgress }, onState);
        if (job.status === "queued") again();
      } catch (error) {
        if (abort.signal.aborted) return;
        if (isPassing(error)) {
          setState((before) => ({ ...before, live: false }));
          again();
        } else {
          unfollow?.();
          setState((before) => ({ ...before, error }));
        }
      } finally {
        loading = false;
      }
      if (stale) load();
    };
    /** @param {boolean} live */
    const onState = (live) => live || load(); // events that are refused are no lost connection; the job may be no more
    /** @param {Progress} progress */
    const onProgress = (progress) =>
      setState((before) =>
        before.job && !isFinished(before.job.status) ? { ...before, job: { ...before.job, progress } } : before,
      );
    const onVisibility = () => document.hidden || load(); // much may have happened, to a finished job too
    document.addEventListener("visibilitychange", onVisibility);
    load();
    return () => {
      document.removeEventListener("visibilitychange", onVisibility);
      abort.abort();
      clearTimeout(timer);
      unfollow?.();
    };
  }, [id]);
  return state;
}

/**
 * Whether a problem passes by itself: the service is away, or busy.
 * @param {unknown} error
 */
function isPassing(error) {
  return error instanceof Problem && (error.status === 0 || error.status === 429 || error.status >= 500);
}

/**
 * A request without what says nothing: fields that are null or undefined, and the schedule of every step.
 * @param {any} value
 * @returns {any}
 */
export function inShort(value) {
  if (Array.isArray(value)) return value.map(inShort);
  if (value === null || typeof value !== "object") return value;
  if (value.when === "every") return { when: "every" };
  const given = Object.entries(value).filter(
    ([name, each]) => each !== null && each !== undefined && !(name === "schedule" && each.when === "every"),
  );
  return Object.fromEntries(given.map(([name, each]) => [name, inShort(each)]));
}

/**
 * The address of the form of a new job that begins with a request.
 * @param {typeof FORMS[number]} kind
 * @param {any} request
 */
export function formAddress(kind, request) {
  const { model, threshold, ...rest } = inShort(request);
  return href("/ui/new", { kind, model, threshold, request: JSON.stringify(rest) });
}

/**
 * How long a job ran, or has run so far, in seconds; null while it is queued.
 * @param {{started?: string | null, finished?: string | null}} job
 * @param {number} [now] in milliseconds
 */
export function ranFor({ started, finished }, now = Date.now()) {
  return started ? Math.max(0, ((finished ? Date.parse(finished) : now) - Date.parse(started)) / 1000) : null;
}
