/** The service over HTTP: JSON and tensors, problems as errors, jobs that are waited for, and events. */

import { entered, key as ownKey } from "./key.js";
import { PREFIX } from "./router.js";
import { parseSafetensors } from "../widget/safetensors.js";

/** @typedef {import("./contract").components["schemas"]} Schemas */
/** @typedef {import("../widget/safetensors.js").Tensor} Tensor */
/** @typedef {{location: string, message: string}} Fault */

const WAIT_SECONDS = 20;
/** Longer waits are asked for again, so that a lost connection is noticed. */
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;
/** Pauses before a lost stream is asked for again. */
const GONE = [401, 403, 404, 410];
/** What is answered where a stream does not come back. */
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
  if (wait) headers.Prefer = `wait=${Math.round(wait)}`;
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

/**
 * Follow server-sent events until `stop` is called, over interruptions too: after one it goes on behind the last event
 * that has an id. By `fetch`, since an `EventSource` cannot send a key.
 * @param {string} path
 * @param {Record<string, (data: any) => void>} handlers by event
 * @param {(live: boolean) => void} [onState] told whether the connection is there
 * @returns {() => void} stop
 */
export function follow(path, handlers, onState = () => {}) {
  const abort = new AbortController();
  let delay = FIRST_DELAY_MS;
  let last = "";

  const listen = async () => {
    const answer = await request(path, { accept: "text/event-stream", after: last, signal: abort.signal });
    if (answer.status === 204 || !answer.body) return true; // there is nothing more
    delay = FIRST_DELAY_MS;
    onState(true);
    for await (const { event, data, id } of eventsOf(answer.body)) {
      if (id !== undefined) last = id;
      if (data) handlers[event]?.(JSON.parse(data));
    }
    return false;
  };
  const run = async () => {
    while (!abort.signal.aborted) {
      try {
        if (await listen()) return;
      } catch (error) {
        if (error instanceof Problem && GONE.includes(error.status)) return onState(false);
      }
      if (abort.signal.aborted) return;
      onState(false);
      await new Promise((resolve) => setTimeout(resolve, delay));
      delay = Math.min(delay * 2, LONGEST_DELAY_MS);
    }
  };
  run();
  return () => abort.abort();
}

/**
 * The events of a stream, as the HTML standard (9.2.6) has it; lines end as the service ends them.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<{event: string, data: string, id: string | undefined}>}
 */
async function* eventsOf(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const blocks = text.split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const found = { event: "message", data: "", id: /** @type {string | undefined} */ (undefined) };
      for (const line of block.split("\n")) {
        const [, field, content = ""] = /^(event|data|id)(?:: ?(.*))?$/.exec(line) ?? [];
        if (field === "data") found.data += found.data ? `\n${content}` : content;
        else if (field === "event" || field === "id") found[field] = content;
      }
      yield found;
    }
  }
}
