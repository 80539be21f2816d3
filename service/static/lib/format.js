/** Numbers, shares and times as the pages show them. */

/**
 * A number with so many significant digits, without trailing zeros: 0.0381, 12, 1.2e-7.
 * @param {number | null | undefined} value
 * @param {number} [digits]
 */
export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e9) return value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("-", "−");
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return value.toLocaleString("en", { maximumFractionDigits: Math.min(decimals, 12) }).replace("-", "−");
}

/**
 * A number with a fixed number of decimals.
 * @param {number | null | undefined} value
 * @param {number} decimals
 */
export function fixed(value, decimals) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(decimals).replace("-", "−");
}

/**
 * A share of 1 in per cent: 56.5 %.
 * @param {number | null | undefined} share
 * @param {number} [decimals]
 */
export function percent(share, decimals = 1) {
  return share === null || share === undefined || Number.isNaN(share) ? "–" : `${(100 * share).toFixed(decimals)} %`;
}

/**
 * A whole number with separators: 1,297,200.
 * @param {number | null | undefined} value
 */
export function count(value) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : value.toLocaleString("en");
}

/**
 * A number of bytes: 4.6 MB.
 * @param {number} bytes
 */
export function bytes(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = bytes > 0 ? Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3)) : 0;
  return `${number(bytes / 1000 ** power, 3)} ${units[power]}`;
}

/**
 * The precision of a result, and in bfloat16 on a CPU how fast that is there.
 * @param {import("./api.js").Schemas["Engine"]} engine
 */
export function precision({ dtype, bfloat16_speed: speed }) {
  return speed === null || speed === undefined ? dtype : `${dtype}, ${number(speed, 2)} times float32's speed`;
}

/**
 * A length of time: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min.
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/**
 * How long ago a time was, or the day: "12 s ago", "3 min ago", "28 Nov, 14:05".
 * @param {string} time as the service writes it
 * @param {number} [now] in milliseconds
 */
export function ago(time, now = Date.now()) {
  const seconds = Math.max(0, (now - Date.parse(time)) / 1000);
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(time).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

/**
 * Names, those that several have with their numbers: "crane (134)", "crane (517)".
 * @param {string[]} names
 * @param {number[]} numbers
 */
export function toldApart(names, numbers) {
  /** @type {Map<string, number>} */
  const times = new Map();
  for (const name of names) times.set(name, (times.get(name) ?? 0) + 1);
  return names.map((name, index) => (/** @type {number} */ (times.get(name)) > 1 ? `${name} (${numbers[index]})` : name));
}
