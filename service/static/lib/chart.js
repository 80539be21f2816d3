/** Line and bar charts, drawn by uPlot, with their numbers in a table. */

import UPlot from "../vendor/uplot.js";
import { html, useEffect, useRef } from "./preact.js";
import { DataTable } from "./parts.js";
import { number } from "./format.js";
import { colour, colours } from "./theme.js";

/**
 * @typedef {object} Series
 * @property {string} title
 * @property {(number | null)[]} values
 * @property {string} [colour] a token of style.css; by default the next of four
 * @property {number[]} [dash] so that lines differ by more than colour
 * @property {"line" | "bars" | "points"} [kind]
 * @property {[(number | null)[], (number | null)[]]} [band] lower and upper ends of intervals
 */

/**
 * @typedef {object} Axis
 * @property {string} title
 * @property {boolean} [log]
 * @property {[number, number]} [range]
 * @property {(value: number) => string} [format]
 */

const DASHES = [undefined, [8, 4], [2, 3], [10, 3, 2, 3]];
const STYLES = ["solid", "dashed", "dotted", "dashed"]; // of the same lines in the legend
/** Distances of ticks on an axis of steps, of which there is no half. */
const WHOLE = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((each) => each * 10 ** power)).flat();
const TOKENS = ["series-1", "series-2", "series-3", "series-4"];

/**
 * A chart.
 * @param {{label: string, x: number[], series: Series[], xAxis: Axis, yAxis: Axis, height?: number,
 *   marks?: {at: number, title: string}[], onPick?: (index: number) => void}} props
 *   `label` says what the chart shows, for those who do not see it; `marks` are vertical lines
 */
export function Chart({ label, x, series, xAxis, yAxis, height = 260, marks = [], onPick }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const chart = useRef(/** @type {any} */ (null));
  const now = useRef(/** @type {any} */ ({}));
  now.current = { marks, onPick };
  const theme = colours.value;
  const whole = !xAxis.log && x.every(Number.isInteger);
  const shape = JSON.stringify([series.map((each) => [each.title, each.kind, each.colour]), xAxis, yAxis, height, whole]);
  const data = [x, ...series.map((each) => each.values)];

  useEffect(() => {
    const element = /** @type {HTMLElement} */ (box.current);
    chart.current = new UPlot(
      /** @type {any} */ (options({ series, xAxis, yAxis, height, whole, width: element.clientWidth || 300, now })),
      /** @type {any} */ (data),
      element,
    );
    chart.current.root.querySelector(".u-legend")?.setAttribute("role", "presentation");
    const resized = new ResizeObserver(() => chart.current?.setSize({ width: element.clientWidth || 300, height }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      chart.current.destroy();
      chart.current = null;
    };
  }, [shape, theme]);
  useEffect(() => {
    chart.current?.setData(data);
  }, [x, ...series.map((each) => each.values), JSON.stringify(marks)]);

  const show = xAxis.format ?? number;
  const columns = [xAxis.title, ...series.map((each) => each.title)].map((title) => ({ title, number: true }));
  return html`<div class="stack-small">
    <div class="chart" role="img" aria-label=${label} ref=${box}></div>
    <${DataTable}
      caption=${label}
      columns=${columns}
      rows=${() =>
        x.map((at, index) => [show(at), ...series.map((each) => (yAxis.format ?? number)(each.values[index] ?? NaN))])}
    />
  </div>`;
}

/** @param {any} given */
function options({ series, xAxis, yAxis, height, whole, width, now }) {
  const axis = {
    stroke: colour("muted"),
    grid: { stroke: colour("grid"), width: 1 },
    ticks: { stroke: colour("grid"), width: 1 },
    font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
    labelSize: 22,
  };
  /** @param {Axis} which */
  const ticks = (which) => ({
    label: which.title,
    values: (/** @type {any} */ plot, /** @type {(number | null)[]} */ values) => {
      const sparse = which.log && plot.width < 60 * values.filter(isPowerOfTen).length; // then every second label
      return values.map((value) =>
        value === null || (sparse && Math.round(Math.log10(value)) % 2) ? "" : (which.format ?? number)(value),
      );
    },
  });
  return {
    width,
    height,
    padding: [10, 22, 0, 0],
    cursor: { drag: { x: false, y: false }, points: { size: 8 } },
    legend: {
      live: true,
      markers: { width: 2, dash: (/** @type {unknown} */ _, /** @type {number} */ index) => STYLES[(index + 3) % 4] },
    },
    scales: {
      x: { time: false, ...(xAxis.log ? { distr: 3 } : {}), ...(xAxis.range ? { range: xAxis.range } : {}) },
      y: { ...(yAxis.log ? { distr: 3 } : {}), ...(yAxis.range ? { range: yAxis.range } : {}) },
    },
    axes: [
      { ...axis, ...ticks(xAxis), space: 60, ...(whole && { incrs: WHOLE }) },
      { ...axis, ...ticks(yAxis), size: 58 },
    ],
    series: [
      { label: xAxis.title.split(",")[0], value: (/** @type {unknown} */ _, /** @type {number} */ at) => (xAxis.format ?? number)(at) },
      ...series.map((/** @type {Series} */ each, /** @type {number} */ index) => {
        const stroke = colour(each.colour ?? TOKENS[index % 4]);
        return {
          label: each.title,
          stroke,
          width: 2,
          dash: each.dash ?? DASHES[index % 4],
          points: { show: each.kind === "points", size: 8 },
          value: (/** @type {unknown} */ _, /** @type {number | null} */ value) => (yAxis.format ?? number)(value ?? NaN),
          ...(each.kind === "bars"
            ? { paths: UPlot.paths.bars?.({ size: [0.95, 64], align: 1 }), fill: stroke, width: 0, dash: undefined }
            : {}),
        };
      }),
    ],
    hooks: {
      draw: [(/** @type {any} */ plot) => drawMarks(plot, now.current.marks)],
      ready: [
        (/** @type {any} */ plot) =>
          plot.over.addEventListener("click", () => {
            if (plot.cursor.idx !== null) now.current.onPick?.(plot.cursor.idx);
          }),
      ],
    },
  };
}

/** @param {number | null} value */
function isPowerOfTen(value) {
  return value !== null && Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-9;
}

/**
 * @param {any} plot
 * @param {{at: number, title: string}[]} marks
 */
function drawMarks(plot, marks) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio || 1;
  for (const { at, title } of marks) {
    const x = Math.round(plot.valToPos(at, "x", true));
    if (!Number.isFinite(x) || x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("text");
    ctx.lineWidth = 1.5 * ratio;
    ctx.setLineDash([5 * ratio, 4 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.font = `600 ${12 * ratio}px system-ui, sans-serif`;
    const right = x > bbox.left + bbox.width / 2;
    ctx.textAlign = right ? "right" : "left";
    ctx.fillText(title, x + (right ? -6 : 6) * ratio, bbox.top + 14 * ratio);
    ctx.restore();
  }
}
