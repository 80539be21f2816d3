/** Long computations in a thread of their own: `compute("cosine", {vectors})`, `compute("overTime", {vectors, times})`. */

/** @type {Worker | null} */
let worker = null;
let last = 0;
/** @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
const waiting = new Map();

/**
 * The result of a task of widget/worker.js.
 * @param {"cosine" | "overTime"} task
 * @param {Record<string, unknown>} given
 * @returns {Promise<any>}
 */
export function compute(task, given) {
  if (worker === null) {
    worker = new Worker(new URL("../widget/worker.js", import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data }) => {
      waiting.get(data.id)?.resolve(data.result);
      waiting.delete(data.id);
    });
    worker.addEventListener("error", (event) => {
      const reason = event.message || "their thread did not start";
      for (const { reject } of waiting.values()) reject(new Error(`The statistics failed: ${reason}.`));
      waiting.clear();
      worker?.terminate();
      worker = null; // the next task has a new one
    });
  }
  const id = ++last;
  worker.postMessage({ id, task, ...given });
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

/**
 * A task of which only the latest is wanted: while one is computed, the last of those asked for meanwhile waits, and
 * the others are given up, with null as their result.
 * @param {"cosine" | "overTime"} task
 * @returns {(given: Record<string, unknown>) => Promise<any>}
 */
export function latestOf(task) {
  /** @type {{given: Record<string, unknown>, resolve: (result: any) => void, reject: (error: unknown) => void} | null} */
  let next = null;
  let busy = false;
  const run = async () => {
    busy = true;
    while (next) {
      const { given, resolve, reject } = next;
      next = null;
      await compute(task, given).then(resolve, reject);
    }
    busy = false;
  };
  return (given) =>
    new Promise((resolve, reject) => {
      next?.resolve(null);
      next = { given, resolve, reject };
      if (!busy) run();
    });
}
