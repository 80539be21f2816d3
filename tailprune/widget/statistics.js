/**
 * Statistics of condition vectors, by the definitions of tailprune/statistics.py and tailprune/pruning.py.
 *
 *     cosine   mean over pairs i != j of  v_i . v_j / (|v_i| |v_j|)
 *     PR(v)    (sum_k |v_k|)^2 / sum_k v_k^2, and nPR = PR / d
 *     tail     removes where |c_k| < tau; head where |c_k| > tau; keep all but the k that vary most over the classes
 */

/**
 * @typedef {object} Vectors
 * @property {Float32Array} data row by row
 * @property {number} count rows
 * @property {number} dim components of each
 */

/**
 * @typedef {object} Prune
 * @property {"tail" | "head" | "keep"} rule
 * @property {number} threshold of tail and head
 * @property {number} keep how many components stay
 * @property {"zero" | "mean"} fill
 */

/**
 * @typedef {object} Summary
 * @property {number} removed the share of the components that a prune removes
 * @property {number} npr the mean over the vectors
 * @property {number} norm the mean over the vectors
 * @property {number} cosine the mean over all pairs; NaN for a single vector
 */

/**
 * c = y + t at one time.
 * @param {Vectors} y
 * @param {Float32Array} t
 * @returns {Vectors}
 */
export function conditionAt(y, t) {
  const { count, dim } = y;
  const data = new Float32Array(count * dim);
  for (let row = 0, at = 0; row < count; row++) {
    for (let k = 0; k < dim; k++, at++) data[at] = y.data[at] + t[k];
  }
  return { data, count, dim };
}

/**
 * @param {Vectors} vectors
 * @param {number} row
 */
export function rowOf(vectors, row) {
  return vectors.data.subarray(row * vectors.dim, (row + 1) * vectors.dim);
}

/**
 * nPR of one vector, from 1 / d to 1; 0 for a vector of zeros.
 * @param {ArrayLike<number>} vector
 */
export function npr(vector) {
  let sum = 0;
  let squares = 0;
  for (let k = 0; k < vector.length; k++) {
    const value = Math.abs(vector[k]);
    sum += value;
    squares += value * value;
  }
  return squares > 0 ? (sum * sum) / squares / vector.length : 0;
}

/**
 * The mean of each component, and the variance of SiLU(c), over the vectors.
 * @param {Vectors} vectors
 */
export function population({ data, count, dim }) {
  const mean = new Float64Array(dim);
  const silu = new Float64Array(dim);
  const squares = new Float64Array(dim);
  for (let row = 0, at = 0; row < count; row++) {
    for (let k = 0; k < dim; k++, at++) {
      const value = data[at];
      const active = value / (1 + Math.exp(-value));
      mean[k] += value / count;
      silu[k] += active / count;
      squares[k] += (active * active) / count;
    }
  }
  return { mean, variation: squares.map((square, k) => square - silu[k] ** 2) };
}

/**
 * Which components a prune by `keep` removes, of all vectors alike: 1 where it does.
 * @param {ArrayLike<number>} variation
 * @param {number} keep
 */
export function removedByKeep(variation, keep) {
  const order = Array.from({ length: variation.length }, (_, k) => k);
  order.sort((a, b) => variation[b] - variation[a]);
  const removed = new Uint8Array(variation.length).fill(1);
  for (const k of order.slice(0, keep)) removed[k] = 0;
  return removed;
}

/** Vectors that are pruned again and again, as while a threshold is dragged; each takes N x d steps. */
export class Pruner {
  /** @param {Vectors} vectors */
  constructor(vectors) {
    this.vectors = vectors;
    /** @type {ReturnType<typeof population> | null} */
    this.population = null;
    /** @type {{keep: number, removed: Uint8Array} | null} */
    this.kept = null;
    this.edited = new Float64Array(vectors.dim);
  }

  /**
   * What a prune removes of one vector: 1 where it does.
   * @param {number} row
   * @param {Prune} prune
   */
  removed(row, prune) {
    if (prune.rule === "keep") return this.#removedByKeep(prune.keep);
    const threshold = Math.fround(prune.threshold); // a component is a float32, and 0.1 is another number in those
    const removed = new Uint8Array(this.vectors.dim);
    rowOf(this.vectors, row).forEach((value, k) => {
      const size = Math.abs(value);
      removed[k] = (prune.rule === "tail" ? size < threshold : size > threshold) ? 1 : 0;
    });
    return removed;
  }

  /**
   * One pruned vector.
   * @param {number} row
   * @param {Prune} prune
   */
  pruned(row, prune) {
    const removed = this.removed(row, prune);
    const fill = prune.fill === "mean" ? this.#population().mean : null;
    return rowOf(this.vectors, row).map((value, k) => (removed[k] ? (fill ? fill[k] : 0) : value));
  }

  /**
   * All vectors under a prune; as they are, without one.
   * @param {Prune | null} prune
   * @returns {Summary}
   */
  summary(prune) {
    const { data, count, dim } = this.vectors;
    const fill = prune?.fill === "mean" ? this.#population().mean : null;
    const removedAlike = prune?.rule === "keep" ? this.#removedByKeep(prune.keep) : null;
    const threshold = prune && !removedAlike ? Math.fround(prune.threshold) : 0;
    const tail = prune?.rule === "tail";
    const head = prune?.rule === "head";
    const edited = this.edited;
    const units = new Float64Array(dim);
    let gone = 0;
    let ratios = 0;
    let norms = 0;
    let ones = 0;
    for (let row = 0; row < count; row++) {
      const start = row * dim;
      let sum = 0;
      let squares = 0;
      for (let k = 0; k < dim; k++) {
        let value = data[start + k];
        let size = value < 0 ? -value : value;
        if ((tail && size < threshold) || (head && size > threshold) || (removedAlike !== null && removedAlike[k] === 1)) {
          gone++;
          value = fill === null ? 0 : fill[k];
          size = value < 0 ? -value : value;
        }
        edited[k] = value;
        sum += size;
        squares += value * value;
      }
      if (squares > 0) {
        const norm = Math.sqrt(squares);
        ratios += (sum * sum) / squares;
        norms += norm;
        ones += 1;
        for (let k = 0; k < dim; k++) units[k] += edited[k] / norm;
      }
    }
    let together = 0;
    for (let k = 0; k < dim; k++) together += units[k] ** 2;
    const cosine = count > 1 ? Math.min(1, Math.max(-1, (together - ones) / (count * (count - 1)))) : NaN;
    return { removed: gone / (count * dim), npr: ratios / count / dim, norm: norms / count, cosine };
  }

  #population() {
    this.population ??= population(this.vectors);
    return this.population;
  }

  /** @param {number} keep */
  #removedByKeep(keep) {
    if (this.kept?.keep !== keep) this.kept = { keep, removed: removedByKeep(this.#population().variation, keep) };
    return this.kept.removed;
  }
}

/**
 * The cosine of every pair, row by row; a vector of zeros has cosine 0 with every other.
 * @param {Vectors} vectors
 */
export function cosineMatrix({ data, count, dim }) {
  const unit = new Float32Array(data.length);
  for (let row = 0; row < count; row++) {
    let squares = 0;
    for (let k = row * dim; k < (row + 1) * dim; k++) squares += data[k] ** 2;
    const norm = Math.sqrt(squares) || 1;
    for (let k = row * dim; k < (row + 1) * dim; k++) unit[k] = data[k] / norm;
  }
  const matrix = new Float32Array(count * count);
  for (let i = 0; i < count; i++) {
    for (let j = i; j < count; j++) {
      let a = i * dim;
      let b = j * dim;
      let one = 0;
      let two = 0;
      const stop = a + dim - 1;
      while (a < stop) {
        one += unit[a++] * unit[b++];
        two += unit[a++] * unit[b++];
      }
      if (a === stop) one += unit[a] * unit[b];
      matrix[i * count + j] = matrix[j * count + i] = Math.min(1, one + two);
    }
  }
  return matrix;
}

/**
 * Mean, least and greatest cosine of distinct vectors; NaN for a single one.
 * @param {Float32Array} matrix
 * @param {number} count
 */
export function cosineRange(matrix, count) {
  let sum = 0;
  let min = count > 1 ? Infinity : NaN;
  let max = count > 1 ? -Infinity : NaN;
  for (let i = 0; i < count; i++) {
    for (let j = i + 1; j < count; j++) {
      const value = matrix[i * count + j];
      sum += value;
      if (value < min) min = value;
      if (value > max) max = value;
    }
  }
  return { mean: count > 1 ? sum / ((count * (count - 1)) / 2) : NaN, min, max };
}

/**
 * An order in which vectors that are alike are neighbours: from the two that are most alike, always the next nearest.
 * @param {Float32Array} matrix cosines
 * @param {number} count
 */
export function orderByLikeness(matrix, count) {
  if (count === 0) return [];
  let first = 0;
  let best = -Infinity;
  for (let i = 0; i < count; i++) {
    for (let j = i + 1; j < count; j++) {
      const value = matrix[i * count + j];
      if (value > best) [best, first] = [value, i];
    }
  }
  const order = [first];
  const left = new Set(Array.from({ length: count }, (_, index) => index));
  left.delete(first);
  while (left.size) {
    const last = /** @type {number} */ (order.at(-1));
    let next = -1;
    let nearest = -Infinity;
    for (const other of left) {
      const value = matrix[last * count + other];
      if (value > nearest) [nearest, next] = [value, other];
    }
    order.push(next);
    left.delete(next);
  }
  return order;
}

const FIRST_EXPONENT = 127 - 24; // of 2 ** -24; smaller magnitudes are in the first bin
const OCTAVES = 32;
const STEPS = 1024; // bins in each octave: a bin is at most 0.1 % wide
const SHIFT = 13;

/** How many magnitudes are below any threshold, of however many: counts by the leading bits of float32. */
export class MagnitudeCounts {
  /** @param {Uint32Array} [counts] of another, which may come from another thread */
  constructor(counts = new Uint32Array(OCTAVES * STEPS + 1)) {
    this.counts = counts;
    this.total = counts.reduce((sum, each) => sum + each, 0);
    /** @type {Float64Array | null} */
    this.below = null;
  }

  /** @param {Float32Array} values */
  add(values) {
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    const counts = this.counts;
    const least = FIRST_EXPONENT * STEPS;
    const most = OCTAVES * STEPS;
    for (let index = 0; index < bits.length; index++) {
      const bin = ((bits[index] & 0x7fffffff) >>> SHIFT) - least;
      counts[bin < 0 ? 0 : bin > most ? most : bin]++;
    }
    this.total += values.length;
    this.below = null;
  }

  /**
   * The share of magnitudes below a threshold, by linear interpolation within a bin.
   * @param {number} threshold
   */
  share(threshold) {
    if (!this.total || threshold <= 0) return 0;
    if (this.below === null) {
      this.below = new Float64Array(this.counts.length + 1);
      for (let bin = 0; bin < this.counts.length; bin++) {
        this.below[bin + 1] = this.below[bin] + this.counts[bin];
      }
    }
    const octave = Math.floor(Math.log2(threshold));
    const at = (octave + 127 - FIRST_EXPONENT) * STEPS + (threshold / 2 ** octave - 1) * STEPS;
    if (at <= 0) return 0;
    const bin = Math.min(this.counts.length - 1, Math.floor(at));
    const within = Math.min(1, at - bin);
    return (this.below[bin] + within * this.counts[bin]) / this.total;
  }
}

/**
 * A histogram of magnitudes in bins evenly spaced in log10; the first bin has smaller ones too, the last larger ones.
 * @param {Float32Array} values
 * @param {number} [low] exponent of 10 at which the first bin begins
 * @param {number} [high] exponent of 10 at which the last bin ends
 * @param {number} [binsADecade]
 */
export function magnitudeHistogram(values, low = -5, high = 2, binsADecade = 10) {
  const bins = (high - low) * binsADecade;
  const counts = new Array(bins).fill(0);
  for (let index = 0; index < values.length; index++) {
    const place = (Math.log10(Math.abs(values[index])) - low) * binsADecade;
    counts[place > 0 ? Math.min(bins - 1, Math.floor(place)) : 0]++;
  }
  return { edges: Array.from({ length: bins + 1 }, (_, bin) => 10 ** (low + bin / binsADecade)), counts };
}

/**
 * The variance of each component over the vectors.
 * @param {Vectors} vectors
 */
export function variance({ data, count, dim }) {
  const mean = new Float64Array(dim);
  const spread = new Float64Array(dim);
  for (let at = 0; at < data.length; at++) mean[at % dim] += data[at] / count;
  for (let at = 0; at < data.length; at++) {
    spread[at % dim] += (data[at] - mean[at % dim]) ** 2 / count;
  }
  return spread;
}
