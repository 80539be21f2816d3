/** Server-sent events, followed while the page is seen. */

import { Problem, request } from "./api.js";

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;
/** Pauses before a lost stream is asked for again. */
const GONE = [401, 403, 404, 410];
/** What is answered where a stream does not come back. */

/**
 * Follow server-sent events until `stop` is called, over interruptions too: after one it goes on behind the last event
 * that has an id. By `fetch`, since an `EventSource` cannot send a key. A page that is hidden has no connection, since
 * browsers have six for all pages of a service, and a seventh page would load nothing.
 * @param {string} path
 * @param {Record<string, (data: any) => void>} handlers by event
 * @param {(live: boolean) => void} [onState] told when the connection is there, and each time that it is lost or refused
 * @returns {() => void} stop
 */
export function follow(path, handlers, onState = () => {}) {
  let abort = new AbortController();
  let delay = FIRST_DELAY_MS;
  let last = "";

  /** @param {AbortSignal} signal */
  const listen = async (signal) => {
    const answer = await request(path, { accept: "text/event-stream", after: last, signal });
    if (answer.status === 204 || !answer.body) return true; // there is nothing more
    delay = FIRST_DELAY_MS;
    onState(true);
    for await (const { event, data, id } of eventsOf(answer.body)) {
      if (id !== undefined) last = id;
      if (data) handlers[event]?.(JSON.parse(data));
    }
    return false;
  };
  /** @param {AbortSignal} signal */
  const run = async (signal) => {
    while (!signal.aborted) {
      try {
        if (await listen(signal)) return;
      } catch (error) {
        if (error instanceof Problem && GONE.includes(error.status)) return onState(false);
      }
      if (signal.aborted) return;
      onState(false); // who is told may stop all this
      await new Promise((resolve) => setTimeout(resolve, delay));
      delay = Math.min(delay * 2, LONGEST_DELAY_MS);
    }
  };
  const onVisibility = () => {
    abort.abort();
    if (document.hidden) return;
    abort = new AbortController();
    run(abort.signal);
  };
  document.addEventListener("visibilitychange", onVisibility);
  onVisibility();
  return () => {
    document.removeEventListener("visibilitychange", onVisibility);
    abort.abort();
  };
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
