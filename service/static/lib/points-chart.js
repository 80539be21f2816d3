/** Points with intervals, which can be pointed at and reached by keys: an SVG, so that each point is an element. */

import { html, useEffect, useId, useRef, useState } from "./preact.js";
import { number } from "./format.js";

/**
 * @typedef {object} Point
 * @property {number} key
 * @property {string} series points of one series are joined by a line
 * @property {number} x
 * @property {number} y
 * @property {number | null} low
 * @property {number | null} high
 * @property {boolean} hollow
 * @property {string} text what it is, in words
 */

const SHAPES = ["circle", "square", "triangle", "diamond"];
const HEIGHT = 320;
const EDGE = { left: 78, right: 16, top: 14, bottom: 46 };
const SIZE = 6;

/**
 * @param {{label: string, points: Point[], xTitle: string, yTitle: string, yText?: (at: number) => string,
 *   xRange: [number, number], yBounds: [number | null, number | null], level?: {at: number, title: string} | null,
 *   chosen: number | null,
 *   onChoose: (key: number) => void}} props `yBounds` no value exceeds; `level` is a value of y to compare with
 */
export function PointsChart({
  label,
  points,
  xTitle,
  yTitle,
  yText = number,
  xRange,
  yBounds,
  level,
  chosen,
  onChoose,
}) {
  const id = useId();
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [width, setWidth] = useState(640);
  useEffect(() => {
    const element = /** @type {HTMLElement} */ (box.current);
    const resized = new ResizeObserver(() => setWidth(Math.max(240, element.clientWidth)));
    resized.observe(element);
    return () => resized.disconnect();
  }, []);
  const sorted = [...points].sort((a, b) => a.x - b.x || a.key - b.key);
  const series = [...new Set(points.map((point) => point.series))].sort((a, b) => rank(a) - rank(b));
  const [low, high, step] = span(
    points.flatMap(({ y, low, high }) => [y, low ?? y, high ?? y]),
    yBounds,
  );
  const xAt = (/** @type {number} */ x) =>
    EDGE.left + ((width - EDGE.left - EDGE.right) * (x - xRange[0])) / (xRange[1] - xRange[0]);
  const yAt = (/** @type {number} */ y) =>
    HEIGHT - EDGE.bottom - ((HEIGHT - EDGE.top - EDGE.bottom) * (y - low)) / (high - low);
  const ticks = Array.from({ length: Math.floor((high - low) / step + 1.001) }, (_, index) => low + index * step);
  const xTicks = [0, 0.2, 0.4, 0.6, 0.8, 1].map((share) => xRange[0] + share * (xRange[1] - xRange[0]));
  const current = sorted.find(({ key }) => key === chosen) ?? null;
  const stop = current ?? sorted[0];

  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    const now = sorted.findIndex(({ key }) => key === stop?.key);
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: sorted.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = sorted[Math.min(sorted.length - 1, Math.max(0, to))];
    if (!next) return;
    onChoose(next.key);
    /** @type {SVGElement | null | undefined} */ (box.current?.querySelector(`[data-key="${next.key}"]`))?.focus();
  };
  const shapeOf = (/** @type {string} */ name) => shapeAt(series.indexOf(name));
  const toneOf = (/** @type {string} */ name) => `series-${(series.indexOf(name) % 4) + 1}`;

  return html`<div class="points" ref=${box}>
    <ul class="legend">
      ${series.map(
        (name) =>
          html`<li class=${toneOf(name)}>
            <svg width="16" height="16" aria-hidden="true"><${Mark} shape=${shapeOf(name)} x=${8} y=${8} /></svg
            >${name}
          </li>`,
      )}
    </ul>
    <svg
      width=${width}
      height=${HEIGHT}
      role="group"
      aria-label=${`${label}. Arrow keys go from point to point.`}
      onKeyDown=${onKey}
    >
      <g class="chart-grid" aria-hidden="true">
        ${ticks.map(
          (at) =>
            html`<line x1=${EDGE.left} x2=${width - EDGE.right} y1=${yAt(at)} y2=${yAt(at)} />
              <text x=${EDGE.left - 8} y=${yAt(at) + 4} text-anchor="end">${yText(at)}</text>`,
        )}
        ${xTicks.map(
          (at) =>
            html`<line x1=${xAt(at)} x2=${xAt(at)} y1=${EDGE.top} y2=${HEIGHT - EDGE.bottom} />
              <text x=${xAt(at)} y=${HEIGHT - EDGE.bottom + 18} text-anchor="middle">${number(at)}</text>`,
        )}
        <text class="chart-title" x=${(EDGE.left + width - EDGE.right) / 2} y=${HEIGHT - 6} text-anchor="middle">
          ${xTitle}
        </text>
        <text class="chart-title" transform=${`translate(14 ${(EDGE.top + HEIGHT - EDGE.bottom) / 2}) rotate(-90)`} text-anchor="middle">
          ${yTitle}
        </text>
      </g>
      ${
        level &&
        html`<g class="chart-level" aria-hidden="true">
          <line x1=${EDGE.left} x2=${width - EDGE.right} y1=${yAt(level.at)} y2=${yAt(level.at)} />
        </g>`
      }
      ${series.map((name) => {
        const line = sorted.filter((point) => point.series === name);
        if (line.length < 2 || rank(name) > 0) return null;
        return html`<polyline
          class=${`chart-line ${toneOf(name)}`}
          aria-hidden="true"
          points=${line.map(({ x, y }) => `${xAt(x)},${yAt(y)}`).join(" ")}
        />`;
      })}
      ${sorted.map(
        (point) =>
          html`<g
            key=${point.key}
            data-key=${point.key}
            class=${namesOf([toneOf(point.series), point.hollow && "hollow", point === current && "chosen"])}
            role="img"
            aria-label=${point.text}
            tabindex=${point === stop ? 0 : -1}
            onFocus=${() => onChoose(point.key)}
            onPointerEnter=${() => onChoose(point.key)}
          >
            <circle class="chart-target" cx=${xAt(point.x)} cy=${yAt(point.y)} r="14" />
            ${
              point.low !== null &&
              point.high !== null &&
              html`<path
                class="chart-interval"
                d=${whiskers(xAt(point.x), yAt(point.low), yAt(point.high))}
              />`
            }
            <${Mark} shape=${shapeOf(point.series)} x=${xAt(point.x)} y=${yAt(point.y)} />
          </g>`,
      )}
    </svg>
    <p class="chart-says small number" id=${id}>
      ${current?.text ?? `Point at a mark, or reach it by Tab and the arrow keys: it says what it is.`}
    </p>
  </div>`;
}

/** @param {{shape: string | undefined, x: number, y: number}} props */
function Mark({ shape, x, y }) {
  if (shape === "square")
    return html`<rect class="mark" x=${x - SIZE} y=${y - SIZE} width=${2 * SIZE} height=${2 * SIZE} />`;
  if (shape === "triangle")
    return html`<path class="mark" d=${`M${x} ${y - SIZE - 1}l${SIZE + 1} ${2 * SIZE}h${-2 * SIZE - 2}z`} />`;
  if (shape === "diamond")
    return html`<path
      class="mark"
      d=${`M${x} ${y - SIZE - 2}l${SIZE + 2} ${SIZE + 2}l${-SIZE - 2} ${SIZE + 2}l${-SIZE - 2} ${-SIZE - 2}z`}
    />`;
  return html`<circle class="mark" cx=${x} cy=${y} r=${SIZE} />`;
}

/** @param {number} x @param {number} low @param {number} high */
function whiskers(x, low, high) {
  return `M${x} ${low}V${high}m-4 0h8M${x - 4} ${low}h8`;
}

/** @param {(string | false)[]} given */
function namesOf(given) {
  return ["chart-point", ...given.filter(Boolean)].join(" ");
}

/**
 * The mark of a series: of many, no two have shape and colour in common.
 * @param {number} index
 */
function shapeAt(index) {
  return SHAPES[(index + Math.floor(index / SHAPES.length)) % SHAPES.length];
}

/**
 * What is joined by a line comes first, then trials of a search, then what is not pruned.
 * @param {string} series
 */
function rank(series) {
  return series.endsWith("unpruned") ? 2 : series.endsWith("search") ? 1 : 0;
}

/**
 * A range of round ends around values, and the step of its ticks.
 * @param {number[]} values
 * @param {[number | null, number | null]} bounds that no value can exceed
 * @returns {[number, number, number]}
 */
function span(values, [least, greatest]) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const size = high - low || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(size / 4));
  const step = power * ([1, 2, 2.5, 5, 10].find((each) => each * power >= size / 4) ?? 10);
  const first = Math.floor(low / step - 0.05) * step;
  const last = Math.ceil(high / step + 0.05) * step;
  return [Math.max(first, least ?? first), Math.min(last, greatest ?? last), step];
}
