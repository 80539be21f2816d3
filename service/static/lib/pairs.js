/** Pairs of vectors: in which order a heatmap has them, and which are most and least alike. */

import { fixed } from "./format.js";
import { orderByLikeness } from "../widget/statistics.js";

const MOST_ROWS = 50;

export const ORDERS = [
  { value: "class", title: "class" },
  { value: "likeness", title: "likeness" },
  { value: "name", title: "name" },
];

/**
 * Which vector is at each place.
 * @param {string} order one of ORDERS
 * @param {{values: Float32Array, names: string[]}} cosines
 */
export function placesBy(order, { values, names }) {
  if (order === "likeness") return orderByLikeness(values, names.length);
  const places = Array.from({ length: names.length }, (_, index) => index);
  return order === "name" ? places.sort((k, l) => names[k].localeCompare(names[l], "en", { numeric: true })) : places;
}

/**
 * The rows of a table of pairs: all of them, or of many the greatest and the least.
 * @param {Float32Array} values by which they are sorted, the greatest first
 * @param {string[]} names
 * @param {(at: number) => string[]} [cells] what a row has of the pair at this place of `values`
 */
export function extremes(values, names, cells = (at) => [fixed(values[at], 4)]) {
  const size = names.length;
  const pairs = [];
  for (let i = 0; i < size; i++) for (let j = i + 1; j < size; j++) pairs.push(i * size + j);
  pairs.sort((a, b) => values[b] - values[a]);
  const shown = pairs.length > 2 * MOST_ROWS ? [...pairs.slice(0, MOST_ROWS), ...pairs.slice(-MOST_ROWS)] : pairs;
  return shown.map((at) => [names[Math.floor(at / size)], names[at % size], ...cells(at)]);
}
