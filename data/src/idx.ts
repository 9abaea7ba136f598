/**
 * IDX, the format of MNIST and similar sets (yann.lecun.com/exdb/mnist): two zero bytes, one for the type, one for the number
 * of axes, the lengths as 32-bit integers, and the elements; all big-endian. Also gzip, in which such files often come.
 */

import { DTypeError, FormatError, type Tensor, tensor } from '@otimes/core';
import {
  aBoolean,
  aDevice,
  aNumber,
  anInstance,
  aTensor,
  checkArgument,
  checkOptions,
  oneOf,
} from '@otimes/core/extend';

/** The type of the elements of a file. */
export type IdxType = 'uint8' | 'int8' | 'int16' | 'int32' | 'float32' | 'float64';

type Codec = {
  readonly code: number;
  readonly bytes: number;
  /** The dtype of a tensor of such elements. */
  readonly dtype: 'int32' | 'float32' | 'float64';
  readonly get: (view: DataView, at: number) => number;
  readonly set: (view: DataView, at: number, value: number) => void;
};

const CODECS: Record<IdxType, Codec> = {
  uint8: { code: 8, bytes: 1, dtype: 'int32', get: (v, at) => v.getUint8(at), set: (v, at, x) => v.setUint8(at, x) },
  int8: { code: 9, bytes: 1, dtype: 'int32', get: (v, at) => v.getInt8(at), set: (v, at, x) => v.setInt8(at, x) },
  int16: { code: 11, bytes: 2, dtype: 'int32', get: (v, at) => v.getInt16(at), set: (v, at, x) => v.setInt16(at, x) },
  int32: { code: 12, bytes: 4, dtype: 'int32', get: (v, at) => v.getInt32(at), set: (v, at, x) => v.setInt32(at, x) },
  float32: {
    code: 13,
    bytes: 4,
    dtype: 'float32',
    get: (v, at) => v.getFloat32(at),
    set: (v, at, x) => v.setFloat32(at, x),
  },
  float64: {
    code: 14,
    bytes: 8,
    dtype: 'float64',
    get: (v, at) => v.getFloat64(at),
    set: (v, at, x) => v.setFloat64(at, x),
  },
};

export type IdxOptions = {
  /** Bytes 0 … 255 as float32 0 … 1; for files of uint8 alone. Defaults to false. */
  normalize?: boolean;
  /** Reads no more than so many entries of the first axis; defaults to all. */
  limit?: number;
  /** Where the tensor is; defaults to 'cpu'. */
  device?: string;
};

const aUint8Array = anInstance(Uint8Array, 'a Uint8Array', v =>
  v instanceof ArrayBuffer ? 'new Uint8Array(buffer) is one' : '',
);

/** The tensor in an IDX file. Integers of every width, unsigned bytes too, become int32. */
export function parseIdx(bytes: Uint8Array, o: IdxOptions = {}): Tensor {
  checkArgument('parseIdx', 'bytes', bytes, aUint8Array);
  checkOptions('parseIdx', o, { normalize: aBoolean, limit: aNumber, device: aDevice });
  const { normalize = false, limit, device = 'cpu' } = o;
  const { type, codec, view, shape, start, size: all } = idxHeader(bytes);
  if (normalize && type !== 'uint8')
    throw new DTypeError(`parseIdx: normalize takes uint8 elements, the file has ${type}`);
  let size = all;
  if (limit !== undefined && shape.length > 0) {
    if (!Number.isInteger(limit) || limit < 1)
      throw new RangeError(`parseIdx: expected a limit of 1 or more, got ${limit}`);
    if (limit < shape[0]!) {
      size = (size / shape[0]!) * limit;
      shape[0] = limit;
    }
  }
  return tensor(elements(view, start, size, codec, normalize), { shape, device });
}

/** What the header of an IDX file says, once the file's length fits it. */
export function idxHeader(bytes: Uint8Array): {
  type: IdxType;
  codec: Codec;
  view: DataView;
  shape: number[];
  /** Where the elements begin, in bytes. */
  start: number;
  /** The number of elements. */
  size: number;
} {
  if (bytes.length < 4) throw new FormatError(`parseIdx: expected at least 4 bytes of header, got ${bytes.length}`);
  if (bytes[0] !== 0 || bytes[1] !== 0)
    throw new FormatError(`parseIdx: a file begins with two zero bytes, this one with ${bytes[0]} and ${bytes[1]}`);
  const type = (Object.keys(CODECS) as IdxType[]).find(name => CODECS[name].code === bytes[2]);
  if (type === undefined)
    throw new FormatError(`parseIdx: no element type has the code ${bytes[2]}; expected 8, 9, 11, 12, 13 or 14`);
  const codec = CODECS[type];
  const rank = bytes[3]!;
  const start = 4 + 4 * rank;
  if (bytes.length < start)
    throw new FormatError(`parseIdx: the lengths of ${rank} axes end at byte ${start}, the file at ${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const shape = Array.from({ length: rank }, (_, axis) => view.getInt32(4 + 4 * axis));
  let size = 1;
  for (const length of shape) {
    if (length < 0) throw new FormatError(`parseIdx: negative length in [${shape.join(',')}]`);
    if (length > 0) size *= length;
    if (!Number.isSafeInteger(size)) throw new FormatError(`parseIdx: [${shape.join(',')}] is more than 2⁵³ elements`);
  }
  if (shape.includes(0)) size = 0;
  const got = bytes.length - start;
  if (got !== size * codec.bytes)
    throw new FormatError(
      `parseIdx: ${type}[${shape.join(',')}] takes ${size * codec.bytes} bytes, ` +
        `the file has ${got}: it is ${got < size * codec.bytes ? 'truncated' : 'too long'}`,
    );
  return { type, codec, view, shape, start, size };
}

function elements(view: DataView, start: number, size: number, { bytes, dtype, get }: Codec, normalize: boolean) {
  const out =
    normalize || dtype === 'float32'
      ? new Float32Array(size)
      : new (dtype === 'int32' ? Int32Array : Float64Array)(size);
  for (let i = 0; i < size; i++) out[i] = normalize ? get(view, start + i) / 255 : get(view, start + i * bytes);
  return out;
}

/**
 * An IDX file with the elements of `x`. `type` defaults to that of the tensor's own dtype, and for bool to uint8.
 * Throws a RangeError at an element that the type cannot hold exactly. Of a tensor on a device that is read with await:
 * `writeIdx(await x.cpu())`.
 */
export function writeIdx(x: Tensor, o: { type?: IdxType } = {}): Uint8Array {
  checkArgument('writeIdx', 'x', x, aTensor);
  checkOptions('writeIdx', o, { type: oneOf(...Object.keys(CODECS)) });
  const type = o.type ?? (x.dtype === 'bool' ? 'uint8' : x.dtype);
  const { code, bytes, get, set } = CODECS[type];
  if (x.rank > 255 || x.shape.some(length => length > 2147483647))
    throw new RangeError(`writeIdx: IDX holds 255 axes of at most 2³¹ − 1 entries, got [${x.shape.join(',')}]`);
  const data = x.dataSync();
  const start = 4 + 4 * x.rank;
  const out = new Uint8Array(start + data.length * bytes);
  out.set([0, 0, code, x.rank]);
  const view = new DataView(out.buffer);
  x.shape.forEach((length, axis) => {
    view.setInt32(4 + 4 * axis, length);
  });
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!;
    set(view, start + i * bytes, value);
    const written = get(view, start + i * bytes);
    if (written !== value && !(Number.isNaN(written) && Number.isNaN(value)))
      throw new RangeError(`writeIdx: element ${i} is ${value}, which ${type} cannot hold`);
  }
  return out;
}

/**
 * The content of a gzip file, in browsers and in Node. A broken file, or more than `limit` bytes inside (defaults to 2³⁰), is
 * a FormatError.
 */
export async function gunzip(bytes: Uint8Array, o: { limit?: number } = {}): Promise<Uint8Array> {
  checkArgument('gunzip', 'bytes', bytes, aUint8Array);
  checkOptions('gunzip', o, { limit: aNumber });
  const { limit = 2 ** 30 } = o;
  const stream = new DecompressionStream('gzip');
  const writer = stream.writable.getWriter();
  const fed = writer.write(bytes).then(() => writer.close());
  // The reader sees the same failure.
  fed.catch(() => {});
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = stream.readable.getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      chunks.push(part.value);
      size += part.value.length;
      if (size > limit) break;
    }
  } catch (cause) {
    throw new FormatError(`gunzip: not a whole gzip file: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
  if (size > limit) {
    reader.cancel().catch(() => {});
    throw new FormatError(`gunzip: the file holds more than ${limit} bytes`);
  }
  const out = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}
