/** The service over HTTP: JSON and tensors, problems as errors, jobs that are waited for, and events. */

import { PREFIX } from "./router.js";
import { parseSafetensors } from "../widget/safetensors.js";

/** @typedef {import("./contract").components["schemas"]} Schemas */
/** @typedef {import("../widget/safetensors.js").Tensor} Tensor */
/** @typedef {{location: string, message: string}} Fault */

const WAIT_SECONDS = 20;
/** Longer waits are asked for again, so that a lost connection is noticed. */
const FINISHED = ["succeeded", "failed", "cancelled"];

/** A problem that the service reports (RFC 9457), or that it cannot be reached. */
export class Problem extends Error {
  /**
   * @param {{type?: string, title?: string, status?: number, detail?: string, errors?: Fault[]}} problem
   */
  constructor(problem) {
    super(problem.detail ?? problem.title ?? "The service answered with an error.");
    this.type = (problem.type ?? "").replace("urn:tailprune:problem:", "");
    this.title = problem.title ?? "Error";
    this.status = problem.status ?? 0;
    this.errors = problem.errors ?? [];
  }
}

/**
 * @typedef {object} Options
 * @property {string} [method]
 * @property {unknown} [body] sent as JSON
 * @property {string} [accept]
 * @property {number} [wait] seconds that the service may wait for the job
 * @property {string} [key] an `Idempotency-Key`
 * @property {AbortSignal} [signal]
 */

/**
 * A response of the service that is not an error. Raises Problem.
 * @param {string} path as links have it, with the prefix; or without it, such as "/models"
 * @param {Options} [options]
 */
export async function request(path, { method = "GET", body, accept = "application/json", wait, key, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: accept };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (wait) headers.Prefer = `wait=${Math.round(wait)}`;
  if (key) headers["Idempotency-Key"] = key;
  let answer;
  try {
    answer = await fetch(url(path), {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal ?? null,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({
      type: "unreachable",
      title: "The service cannot be reached",
      detail: "The service does not answer. It may be restarting, or the connection is lost.",
    });
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ title: answer.statusText, status: answer.status }));
  throw new Problem(problem);
}

/**
 * A path with the prefix, once.
 * @param {string} path
 */
export function url(path) {
  return PREFIX && (path === PREFIX || path.startsWith(`${PREFIX}/`)) ? path : PREFIX + path;
}

/**
 * JSON of the service. Raises Problem.
 * @template [T=any]
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<T>}
 */
export async function getJson(path, options) {
  const answer = await request(path, options);
  return answer.status === 204 ? /** @type {any} */ (null) : answer.json();
}

/**
 * What a job computes, as soon as it has: a 202 is asked again until it is a 200. Raises Problem.
 * @param {string} path such as "/metrics/shapes-sit?part=y"
 * @param {Options & {onJob?: (job: any) => void}} [options] `onJob` is told the job while it is under way
 */
export async function whenDone(path, { onJob, ...options } = {}) {
  for (;;) {
    const answer = await request(path, { wait: WAIT_SECONDS, ...options });
    if (answer.status !== 202) return answer;
    onJob?.(await answer.json());
  }
}

/**
 * JSON that a job computes. Raises Problem.
 * @template [T=any]
 * @param {string} path
 * @param {Options & {onJob?: (job: any) => void}} [options]
 * @returns {Promise<T>}
 */
export async function computed(path, options) {
  return (await whenDone(path, options)).json();
}

/**
 * The tensors of a safetensors file that a job computes. Raises Problem.
 * @param {string} path
 * @param {Options & {onJob?: (job: any) => void}} [options]
 * @returns {Promise<Record<string, Tensor>>}
 */
export async function tensors(path, options) {
  const answer = await whenDone(path, { accept: "application/octet-stream", ...options });
  return parseSafetensors(await answer.arrayBuffer());
}

/**
 * Post a request that starts a job; the job, which may have finished. Raises Problem.
 * @param {string} path
 * @param {unknown} body
 * @param {Options} [options]
 */
export function post(path, body, options) {
  return getJson(path, { key: crypto.randomUUID?.(), ...options, method: "POST", body });
}

/**
 * Cancel a job. Raises Problem.
 * @param {string} id
 */
export function cancel(id) {
  return getJson(`/jobs/${encodeURIComponent(id)}`, { method: "DELETE" });
}

/** @param {string} status */
export function isFinished(status) {
  return FINISHED.includes(status);
}

/**
 * Follow server-sent events until `stop` is called, over interruptions too.
 *
 * `EventSource` comes back by itself after a lost connection, and goes on after the last event. But it gives up where
 * it is answered by an error, as it may be while the service restarts: then it is made anew, and tells events again.
 * @param {string} path
 * @param {Record<string, (data: any) => void>} handlers by event
 * @param {(live: boolean) => void} [onState] told whether the connection is there
 * @returns {() => void} stop
 */
export function follow(path, handlers, onState = () => {}) {
  /** @type {EventSource | null} */
  let source = null;
  let timer = 0;
  let delay = 500;

  const open = () => {
    source = new EventSource(url(path));
    source.onopen = () => {
      delay = 500;
      onState(true);
    };
    source.onerror = () => {
      onState(false);
      if (source?.readyState !== EventSource.CLOSED) return;
      timer = window.setTimeout(open, delay);
      delay = Math.min(delay * 2, 10_000);
    };
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => {
        if (event instanceof MessageEvent) handle(JSON.parse(event.data)); // `open` is an event of the browser too
      });
    }
  };
  open();
  return () => {
    clearTimeout(timer);
    source?.close();
  };
}
