/** A page of the list of jobs, which changes as jobs do. */

import { useEffect, useState } from "../../lib/preact.js";
import { getJson } from "../../lib/api.js";
import { follow } from "../../lib/events.js";
import { look } from "../../lib/health.js";
import { href } from "../../lib/router.js";

/** @typedef {import("../../lib/api.js").Schemas["JobList"]} List */
/** @typedef {List["jobs"][number]} Summary */
/** @typedef {{status: string, kinds: string[], model: string}} Chosen what jobs are shown; empty for any */

export const PAGE = 25;
/** Places in queues and workers are asked for at most so often. */
const LEAST_MS = 1000;

/**
 * A page of jobs that match.
 *
 * It is loaded at once, and again when the service begins to tell of changes, so that nothing is missed in between. Where
 * it cannot tell, the page is loaded again at each try.
 * @param {Chosen} chosen
 * @param {string} cursor of the page; empty for the first
 */
export function useJobs(chosen, cursor) {
  const [state, setState] = useState(
    /** @type {{list: List | null, error: unknown, live: boolean}} */ ({ list: null, error: null, live: false }),
  );
  useEffect(() => {
    const abort = new AbortController();
    let timer = 0;
    let latest = 0;
    const load = () => {
      const mine = ++latest;
      const query = { status: chosen.status, kind: chosen.kinds, model: chosen.model, cursor, limit: PAGE };
      getJson(href("/jobs", query), { signal: abort.signal }).then(
        (list) => mine === latest && setState((before) => ({ ...before, list, error: null })),
        (error) => abort.signal.aborted || setState((before) => ({ ...before, error })),
      );
    };
    let stale = false;
    /** @param {boolean} anew whether the page is loaded, too */
    const soon = (anew) => {
      stale ||= anew;
      timer ||= window.setTimeout(() => {
        timer = 0;
        look();
        if (stale) load();
        stale = false;
      }, LEAST_MS);
    };
    /** @param {(list: List) => List} change */
    const update = (change) =>
      setState((before) => {
        if (!before.list) return before;
        const list = change(before.list);
        const waits = list.jobs.some(({ status }) => status === "queued"); // whose places have changed
        soon(waits || (list.jobs.length < PAGE && list.next_cursor !== null));
        return { ...before, list };
      });
    setState((before) => ({ ...before, list: null }));
    load();
    look();
    const stop = follow(
      "/events",
      {
        open: load,
        job: (/** @type {Summary} */ job) => update((list) => withJob(list, job, chosen, cursor)),
        progress: ({ id, progress }) =>
          setState((before) => ({
            ...before,
            list: before.list && {
              ...before.list,
              jobs: before.list.jobs.map((each) => (each.id === id ? { ...each, progress } : each)),
            },
          })),
        deleted: ({ id }) => update((list) => ({ ...list, jobs: list.jobs.filter((each) => each.id !== id) })),
      },
      (live) => {
        setState((before) => ({ ...before, live }));
        if (!live) load();
      },
    );
    return () => {
      abort.abort();
      clearTimeout(timer);
      stop();
    };
  }, [chosen.status, chosen.kinds.join(), chosen.model, cursor]);
  return state;
}

/**
 * A page with a job as it is now: the newest first, no more than a page holds, and those beyond on the next.
 * @param {List} list
 * @param {Summary} job
 * @param {Chosen} chosen
 * @param {string} cursor
 * @returns {List}
 */
function withJob(list, job, { status, kinds, model }, cursor) {
  const matches =
    (!status || job.status === status) &&
    (kinds.length === 0 || kinds.includes(job.kind)) &&
    (!model || job.model === model);
  const others = list.jobs.filter(({ id }) => id !== job.id);
  const beyond = list.next_cursor && job.id < list.next_cursor; // it is on a later page
  if (!matches || beyond || (cursor && job.id >= cursor)) return { ...list, jobs: others };
  const jobs = [...others, job].sort((a, b) => (a.id < b.id ? 1 : -1)); // ids sort by time
  if (jobs.length <= PAGE) return { ...list, jobs };
  return { jobs: jobs.slice(0, PAGE), next_cursor: jobs[PAGE - 1]?.id ?? null };
}
