/** The service over HTTP: JSON and tensors, problems as errors, and jobs that are waited for. */

import { entered, key as ownKey } from "./key.js";
import { signal } from "./preact.js";
import { PREFIX } from "./router.js";
import { parseSafetensors } from "../widget/safetensors.js";

/** @typedef {import("./contract").components["schemas"]} Schemas */
/** @typedef {import("../widget/safetensors.js").Tensor} Tensor */
/** @typedef {{location: string, message: string}} Fault */

/** How long the first request for what a job computes may wait: most are done by then. */
const WAIT_SECONDS = 2;
/** How long a page waits before it asks again; meanwhile it holds none of the six connections of a browser. */
const PAUSE_MS = 1000;
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
 * @property {string} [after] the event after which a stream of events goes on
 * @property {AbortSignal} [signal]
 */

/**
 * A response of the service that is not an error. Where it needs a key, whoever uses the page is asked for one. Raises
 * Problem.
 * @param {string} path as links have it, with the prefix; or without it, such as "/models"
 * @param {Options} [options]
 */
export async function request(path, { method = "GET", body, accept = "application/json", wait, key, after, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: accept };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (wait !== undefined) headers.Prefer = `wait=${Math.round(wait)}`;
  if (key) headers["Idempotency-Key"] = key;
  if (after) headers["Last-Event-ID"] = after;
  for (;;) {
    const sent = ownKey.value;
    if (sent) headers.Authorization = `Bearer ${sent}`;
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
    if (answer.status === 401 && (await entered(sent)) && !signal?.aborted) continue;
    const problem = await answer.json().catch(() => ({ title: answer.statusText, status: answer.status }));
    throw new Problem(problem);
  }
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
 * The jobs that this page waits for, as they were when the service was asked last, by who waits.
 * @type {import("./preact.js").Signal<Map<symbol, any>>}
 */
export const waiting = signal(new Map());

/**
 * What a job computes, as soon as it has: a 202 is asked again until it is a 200. Raises Problem.
 * @param {string} path such as "/metrics/shapes-sit?part=y"
 * @param {Options & {onJob?: (job: any) => void}} [options] `onJob` is told the job while it is under way
 */
export async function whenDone(path, { onJob, ...options } = {}) {
  const who = Symbol(path);
  let wait = WAIT_SECONDS;
  try {
    for (;;) {
      const answer = await request(path, { wait, ...options });
      if (answer.status !== 202) return answer;
      const job = await answer.json();
      waiting.value = new Map(waiting.value).set(who, job);
      onJob?.(job);
      await pause(PAUSE_MS, options.signal);
      wait = 0;
    }
  } finally {
    if (waiting.value.has(who)) {
      const others = new Map(waiting.value);
      others.delete(who);
      waiting.value = others;
    }
  }
}

/**
 * Wait. Raises the reason of `signal` as soon as that is aborted.
 * @param {number} milliseconds
 * @param {AbortSignal} [signal]
 */
function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve(null);
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
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
 * Cancel a job; whether it goes on, for others who asked for it. Raises Problem.
 * @param {string} id
 */
export async function cancel(id) {
  const answer = await request(`/jobs/${encodeURIComponent(id)}`, { method: "DELETE" });
  return answer.status === 200 && !isFinished((await answer.json()).status);
}

/** @param {string} status */
export function isFinished(status) {
  return FINISHED.includes(status);
}
