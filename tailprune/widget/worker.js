/** What takes too long for the thread that draws: the cosines of all pairs, and statistics over all times. */

import { conditionAt, cosineMatrix, MagnitudeCounts, Pruner } from "./statistics.js";

/** @typedef {import("./statistics.js").Vectors} Vectors */

/**
 * @typedef {object} OverTime
 * @property {number[]} npr
 * @property {number[]} cosine
 * @property {number[]} norm
 * @property {Uint32Array[]} counts of magnitudes, as MagnitudeCounts has them, by time
 */

addEventListener("message", (event) => {
  const { id, task, vectors, times } = event.data;
  if (task === "cosine") {
    const matrix = cosineMatrix(vectors);
    postMessage({ id, result: matrix }, { transfer: [matrix.buffer] });
  } else {
    const result = overTime(vectors, times);
    postMessage({ id, result }, { transfer: result.counts.map((counts) => counts.buffer) });
  }
});

/**
 * @param {Vectors} y
 * @param {Float32Array[]} times the part t of each time
 * @returns {OverTime}
 */
function overTime(y, times) {
  /** @type {OverTime} */
  const found = { npr: [], cosine: [], norm: [], counts: [] };
  for (const t of times) {
    const c = conditionAt(y, t);
    const { npr, cosine, norm } = new Pruner(c).summary(null);
    const counts = new MagnitudeCounts();
    counts.add(c.data);
    found.npr.push(npr);
    found.cosine.push(cosine);
    found.norm.push(norm);
    found.counts.push(counts.counts);
  }
  return found;
}
