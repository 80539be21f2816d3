/**
 * What the view of a model shows: choices that its address has, and what follows from them.
 *
 * Everything is a signal, so that while a threshold is dragged only what depends on it is drawn again.
 */

import { batch, computed, effect, signal } from "./preact.js";
import { remember } from "./router.js";
import { compute, latestOf } from "./compute.js";
import { conditionAt, MagnitudeCounts, npr, Pruner, rowOf } from "../widget/statistics.js";

/** @typedef {import("../widget/statistics.js").Prune} Prune */
/** @typedef {import("../widget/statistics.js").Vectors} Vectors */
/** @typedef {import("./vectors.js").Loaded} Loaded */
/** @typedef {import("./vectors.js").Times} Times */
/** @typedef {import("./vectors.js").Run} Run */
/** @typedef {{npr: number[], cosine: number[], norm: number[], counts: MagnitudeCounts[]}} OverTime */

const RULES = ["tail", "head", "keep"];

export class Exploration {
  /**
   * @param {Loaded} loaded
   * @param {URLSearchParams} query
   */
  constructor(loaded, query) {
    const { y, names, model } = loaded;
    this.loaded = loaded;
    this.names = names;
    this.dim = y.dim;
    /** @type {import("./preact.js").Signal<Times>} */
    this.times = signal({ timesteps: [loaded.timestep], fraction: [fractionOf(loaded)], t: [loaded.t] });
    this.moment = signal(0);
    this.part = signal(query.get("part") === "y" ? "y" : "c");
    this.row = signal(clamp(Number(query.get("class") ?? 0), 0, y.count - 1));
    const rule = query.get("rule") ?? "";
    this.rule = signal(/** @type {Prune["rule"]} */ (RULES.includes(rule) ? rule : "tail"));
    this.keep = signal(clamp(Number(query.get("keep") ?? Math.ceil(y.dim / 4)), 1, y.dim));
    const fill = query.get("fill");
    this.chosenFill = signal(/** @type {Prune["fill"] | null} */ (fill === "zero" || fill === "mean" ? fill : null));
    this.order = signal(query.get("order") ?? "class");
    const pair = (query.get("pair") ?? "").split(",").map(Number);
    this.pair = signal(
      /** @type {[number, number] | null} */ (
        pair.length === 2 && pair.every((at) => Number.isInteger(at) && at >= 0 && at < y.count) ? pair : null
      ),
    );

    this.vectors = computed(() =>
      this.part.value === "y" ? y : conditionAt(y, this.times.value.t[this.moment.value] ?? loaded.t),
    );
    this.pruner = computed(() => new Pruner(this.vectors.value));
    this.timestep = computed(() => this.times.value.timesteps[this.moment.value] ?? loaded.timestep);
    this.counts = computed(() => {
      const counts = new MagnitudeCounts();
      counts.add(this.vectors.value.data);
      return counts;
    });
    const given = Number(query.get("tau") ?? NaN);
    this.tau = signal(given >= 0 ? given : usualThreshold(this.vectors.value));

    this.fill = computed(() => this.chosenFill.value ?? (this.rule.value === "keep" ? "mean" : "zero"));
    this.prune = computed(
      /** @returns {Prune} */ () => ({
        rule: this.rule.value,
        threshold: this.tau.value,
        keep: this.keep.value,
        fill: this.fill.value,
      }),
    );
    this.before = computed(() => this.pruner.value.summary(null));
    this.after = computed(() => this.pruner.value.summary(this.prune.value));
    this.magnitudes = computed(() => rowOf(this.vectors.value, this.row.value).map(Math.abs));
    this.rowRemoved = computed(() => this.pruner.value.removed(this.row.value, this.prune.value));
    this.rowNpr = computed(() => ({
      before: npr(rowOf(this.vectors.value, this.row.value)),
      after: npr(this.pruner.value.pruned(this.row.value, this.prune.value)),
    }));
    this.rowShare = computed(() => this.rowRemoved.value.reduce((sum, gone) => sum + gone, 0) / y.dim);

    /** @type {import("./preact.js").Signal<OverTime | null>} */
    this.overTime = signal(null);
    /** The share that is removed at each time; null until the times are there. */
    this.removedOverTime = computed(() => {
      const { overTime, prune } = this;
      if (!overTime.value) return null;
      const { rule, threshold, keep } = prune.value;
      if (rule === "keep") return overTime.value.counts.map(() => 1 - keep / y.dim);
      return overTime.value.counts.map((counts) => (rule === "tail" ? counts.share(threshold) : 1 - counts.share(threshold)));
    });
    /** @type {import("./preact.js").Signal<Run | null>} */
    this.run = signal(null);
    /** The share that is removed over the steps of the run, between the times that were read. */
    this.removedOverRun = computed(() => {
      const { removedOverTime, times, run } = this;
      if (!removedOverTime.value || !run.value) return null;
      const shares = removedOverTime.value;
      const at = run.value.timesteps.map((time) => between(times.value.timesteps, shares, time));
      return at.reduce((sum, share) => sum + share, 0) / at.length;
    });

    /** Cosines of all pairs of the vectors beside them, which are earlier ones while those of `vectors` are computed. */
    this.cosines = signal(/** @type {{values: Float32Array, count: number, of: Vectors} | null} */ (null));
    this.stale = computed(() => this.cosines.value !== null && this.cosines.value.of !== this.vectors.value);
    /** Why something could not be computed. */
    this.failed = signal(/** @type {unknown} */ (null));
    this.model = model;
  }

  /** Compute what takes long, and write choices to the address; until the function that it returns is called. */
  start() {
    const cosinesOf = latestOf("cosine");
    const stops = [
      effect(() => {
        const vectors = this.vectors.value;
        cosinesOf({ vectors }).then(
          (values) => {
            if (values) this.cosines.value = { values, count: vectors.count, of: vectors };
          },
          (error) => (this.failed.value = error),
        );
      }),
      effect(() => {
        remember({
          part: this.part.value === "c" ? null : this.part.value,
          t: this.part.value === "c" ? this.timestep.value : null,
          class: this.row.value,
          rule: this.rule.value === "tail" ? null : this.rule.value,
          tau: this.rule.value === "keep" ? null : this.tau.value,
          keep: this.rule.value === "keep" ? this.keep.value : null,
          fill: this.chosenFill.value,
          order: this.order.value === "class" ? null : this.order.value,
          pair: this.pair.value?.join(","),
        });
      }),
    ];
    return () => stops.forEach((stop) => stop());
  }

  /**
   * Take in the part t of many times.
   * @param {Times} times
   */
  async takeTimes(times) {
    const shown = this.timestep.peek();
    batch(() => {
      this.times.value = times;
      this.moment.value = Math.max(0, times.timesteps.indexOf(shown));
    });
    const found = await compute("overTime", { vectors: this.loaded.y, times: times.t });
    const counts = found.counts.map((/** @type {Uint32Array} */ each) => new MagnitudeCounts(each));
    this.overTime.value = { ...found, counts };
  }

  /** The threshold moves at most once a frame, with the latest of what was asked for. @param {number} value */
  move(value) {
    if (this.asked === undefined) {
      requestAnimationFrame(() => {
        this.tau.value = /** @type {number} */ (this.asked);
        this.asked = undefined;
      });
    }
    /** @type {number | undefined} */
    this.asked = value;
  }
}

/**
 * A value at a time between two at which there are values, which are sorted either way.
 * @param {number[]} timesteps
 * @param {number[]} values
 * @param {number} time
 */
function between(timesteps, values, time) {
  const rising = timesteps[0] <= timesteps[timesteps.length - 1];
  const next = timesteps.findIndex((each) => (rising ? each >= time : each <= time));
  if (next < 0) return values[values.length - 1];
  if (next === 0) return values[0];
  const share = (time - timesteps[next - 1]) / (timesteps[next] - timesteps[next - 1]);
  return values[next - 1] + share * (values[next] - values[next - 1]);
}

/** @param {Loaded} loaded */
function fractionOf({ model, timestep }) {
  return (timestep - model.times.first) / (model.times.last - model.times.first);
}

/**
 * A threshold to begin with, which removes about half, in two digits.
 * @param {Vectors} vectors
 */
function usualThreshold({ data }) {
  const step = Math.max(1, Math.floor(data.length / 20_000)); // a sample is enough
  const sizes = data.filter((_, index) => index % step === 0).map(Math.abs).sort();
  return Number((sizes[sizes.length >> 1] ?? 0).toPrecision(2));
}

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
function clamp(value, low, high) {
  return Number.isInteger(value) ? Math.min(high, Math.max(low, value)) : low;
}
