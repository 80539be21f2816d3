/** Reads safetensors files: tensors in the browser as the service stores them. */

/**
 * @typedef {object} Tensor
 * @property {number[]} shape
 * @property {Float32Array | Float64Array | BigInt64Array | Int32Array} data
 */

/**
 * The tensors of a file, by name; half-precision floats become float32.
 * @param {ArrayBuffer} buffer
 * @returns {Record<string, Tensor>}
 */
export function parseSafetensors(buffer) {
  const view = new DataView(buffer);
  const length = Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  /** @type {Record<string, Tensor>} */
  const tensors = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [start, stop] = entry.data_offsets;
    const bytes = buffer.slice(8 + length + start, 8 + length + stop); // a copy is aligned as arrays need it
    tensors[name] = { shape: entry.shape, data: read(entry.dtype, bytes) };
  }
  return tensors;
}

/**
 * @param {string} dtype
 * @param {ArrayBuffer} bytes
 */
function read(dtype, bytes) {
  switch (dtype) {
    case "F32":
      return new Float32Array(bytes);
    case "F64":
      return new Float64Array(bytes);
    case "I64":
      return new BigInt64Array(bytes);
    case "I32":
      return new Int32Array(bytes);
    case "F16":
      return Float32Array.from(new Uint16Array(bytes), halfToFloat);
    case "BF16":
      return new Float32Array(Uint32Array.from(new Uint16Array(bytes), (bits) => bits << 16).buffer);
    default:
      throw new Error(`tensors of ${dtype} are not read; F32, F64, F16, BF16, I64 and I32 are`);
  }
}

/** @param {number} bits */
function halfToFloat(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * 2 ** -14 * (fraction / 1024);
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * 2 ** (exponent - 15) * (1 + fraction / 1024);
}
