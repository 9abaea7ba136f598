/**
 * The safetensors format (github.com/huggingface/safetensors): eight bytes with the length of a JSON header, the header
 * with dtype, shape and place of each tensor, and the elements, row-major and little-endian. Files interchange with
 * PyTorch's; what is written here is byte for byte what the Rust library writes. A file is not trusted: whatever its
 * header claims is checked before memory is allocated, and each violation is a FormatError that names it.
 *
 * NOTE: typed arrays have the byte order of the machine, and every engine that runs this code is little-endian.
 */

import { checkArgument, isPlainObject, type Kind, received } from './check.ts';
import { fromArray } from './create.ts';
import { allocateArray, bytesPerElement, type DType, type TypedArray } from './dtype.ts';
import { FormatError } from './errors.ts';
import { type Shape, sizeOf } from './shape.ts';
import { isTensor, type Tensor } from './tensor.ts';
import { readsLater } from './values.ts';

/** Tensors by name; the names are PyTorch's dotted keys. */
export type StateDict = Record<string, Tensor>;

/** In bytes; the limit of the Rust library. */
const MAX_HEADER = 100_000_000;

/** What each dtype is called in a file, in the order in which a file holds them: larger alignment first. */
const WRITTEN: Record<DType, { name: string; order: number }> = {
  float64: { name: 'F64', order: 0 },
  float32: { name: 'F32', order: 1 },
  int32: { name: 'I32', order: 2 },
  bool: { name: 'BOOL', order: 3 },
};

const someNamed: Kind = {
  expected: 'an object of tensors by name',
  is: v => isPlainObject(v) && Object.values(v).every(isTensor),
  hint: v => {
    const [name, value] = Object.entries(isPlainObject(v) ? v : {}).find(([, one]) => !isTensor(one)) ?? [];
    if (name === undefined) return '';
    const remedy = isPlainObject(value) ? `flatten it, to names such as '${name}.weight'` : 'make it a tensor(…)';
    return `'${name}' is ${received(value)}: ${remedy}`;
  },
};

const someBytes: Kind = {
  expected: 'a Uint8Array',
  is: v => v instanceof Uint8Array,
  hint: v => (typeof v === 'string' ? "load of '@otimes/core/node' reads a file" : ''),
};

/**
 * A copy of each tensor on 'cpu', outside of the graph, under the same names: what `saveSafetensors` takes. From every device;
 * all of them as they are at the call. Rejects with the error of a check that failed on a device that is read with await.
 */
export async function readStateDict(state: StateDict): Promise<StateDict> {
  checkArgument('readStateDict', 'state', state, someNamed);
  // All reads are asked for before the first is awaited.
  const copies = Object.entries(state).map(async ([name, x]) => [name, await x.cpu()] as const);
  return Object.fromEntries(await Promise.all(copies));
}

/**
 * The bytes of a safetensors file with these tensors and free-form `metadata`, which defaults to none. Of tensors on a device that
 * is read with await: `saveSafetensors(await readStateDict(tensors))`.
 */
export function saveSafetensors(tensors: StateDict, metadata?: Record<string, string>): Uint8Array {
  checkArgument('safetensors', 'tensors', tensors, someNamed);
  const names = Object.keys(tensors).sort(
    (a, b) => WRITTEN[tensors[a]!.dtype].order - WRITTEN[tensors[b]!.dtype].order || byCodePoint(a, b),
  );
  // NOTE: the header is put together by hand because an object would move names such as '0' to its front.
  const fields: string[] = [];
  if (metadata !== undefined) fields.push(`"__metadata__":${JSON.stringify(checkedMetadata(metadata))}`);
  let end = 0;
  for (const name of names) {
    if (name === '__metadata__') throw new FormatError("safetensors: no tensor can have the name '__metadata__'");
    if (/\p{Surrogate}/u.test(name))
      throw new FormatError(`safetensors: the name ${quoted(name)} is not valid Unicode`);
    const { dtype, shape } = tensors[name]!;
    const begin = end;
    end += sizeOf(shape) * bytesPerElement(dtype);
    const entry = { dtype: WRITTEN[dtype].name, shape, data_offsets: [begin, end] };
    fields.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  }
  const header = new TextEncoder().encode(`{${fields.join(',')}}`);
  const padded = Math.ceil(header.length / 8) * 8;
  if (padded > MAX_HEADER)
    throw new FormatError(`safetensors: the header would have ${padded} bytes, the format allows ${MAX_HEADER}`);
  const bytes = new Uint8Array(8 + padded + end);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.fill(0x20, 8, 8 + padded);
  bytes.set(header, 8);
  let at = 8 + padded;
  for (const name of names) {
    const x = tensors[name]!;
    if (readsLater(x))
      throw new TypeError(
        `safetensors: ${quoted(name)} is on '${x.device}', which is read with await; give await readStateDict(tensors)`,
      );
    const data = x.dataSync();
    const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    // Whoever writes to a bool tensor's memory may leave other bytes than 0 and 1.
    bytes.set(x.dtype === 'bool' ? raw.map(byte => Number(byte !== 0)) : raw, at);
    at += data.byteLength;
  }
  return bytes;
}

/** By code point, the order of UTF-8 bytes; `<` compares UTF-16 units, which differs beyond U+FFFF. */
function byCodePoint(a: string, b: string): number {
  for (let i = 0; i < a.length && i < b.length; i++)
    if (a.charCodeAt(i) !== b.charCodeAt(i)) return a.codePointAt(i)! - b.codePointAt(i)!;
  return a.length - b.length;
}

/** The tensors of a safetensors file, as new tensors on the CPU. F16 and BF16 become float32, narrower integers int32,
 * all exactly; I64, U64 and U32 become int32 where every value fits. */
export function loadSafetensors(bytes: Uint8Array): StateDict {
  const { entries, data } = parse(bytes);
  // NOTE: fromEntries defines properties, so that a tensor named '__proto__' is one like any other.
  return Object.fromEntries(
    entries.map(({ name, reader, shape, begin, end }) => {
      return [name, fromArray(reader.read(data.subarray(begin, end), name), shape)];
    }),
  );
}

/** The free-form metadata of a safetensors file; empty where it has none. */
export function safetensorsMetadata(bytes: Uint8Array): Record<string, string> {
  return parse(bytes).metadata;
}

/** How elements of one dtype are read from exactly their bytes; `name` is for errors. */
type Reader = { readonly bytes: number; readonly read: (data: Uint8Array, name: string) => TypedArray };

/** The elements as they lie in the file. The bytes are copied, so they need not be aligned. */
function same(dtype: DType): Reader {
  const bytes = bytesPerElement(dtype);
  const read = (data: Uint8Array): TypedArray => {
    const out = allocateArray(dtype, data.length / bytes);
    new Uint8Array(out.buffer).set(data);
    return out;
  };
  return { bytes, read };
}

const bool: Reader = {
  bytes: 1,
  read(data, name) {
    const wrong = data.findIndex(byte => byte > 1);
    if (wrong >= 0)
      throw new FormatError(
        `safetensors: the BOOL tensor ${quoted(name)} holds ${data[wrong]} at element ${wrong}, expected 0 or 1`,
      );
    return new Uint8Array(data);
  },
};

/** Integers, as int32. */
function integers(bytes: number, get: (view: DataView, at: number) => number | bigint): Reader {
  const read = (data: Uint8Array, name: string): TypedArray => {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const out = new Int32Array(data.length / bytes);
    for (let i = 0; i < out.length; i++) {
      const value = get(view, i * bytes);
      if (value < -2147483648 || value > 2147483647)
        throw new FormatError(`safetensors: tensor ${quoted(name)} holds ${value} at element ${i}, int32 cannot`);
      out[i] = Number(value);
    }
    return out;
  };
  return { bytes, read };
}

/** 16-bit floats, as float32 with the bits that `widen` gives. */
function halves(widen: (bits: number) => number): Reader {
  const read = (data: Uint8Array): TypedArray => {
    const out = new Float32Array(data.length / 2);
    const bits = new Uint32Array(out.buffer);
    for (let i = 0; i < out.length; i++) bits[i] = widen(data[2 * i]! | (data[2 * i + 1]! << 8));
    return out;
  };
  return { bytes: 2, read };
}

/** float32 bits of IEEE 754 binary16 bits: sign 1, exponent 5, fraction 10. */
function fromHalf(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return sign | 0x7f800000 | (fraction << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  // Subnormal: the leading bit of the fraction, at position 31 − clz, becomes the implicit one.
  const shift = Math.clz32(fraction) - 21;
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 1023) << 13);
}

const READERS = new Map<string, Reader>([
  ['F64', same('float64')],
  ['F32', same('float32')],
  ['F16', halves(fromHalf)],
  ['BF16', halves(bits => bits << 16)],
  ['U64', integers(8, (view, at) => view.getBigUint64(at, true))],
  ['I64', integers(8, (view, at) => view.getBigInt64(at, true))],
  ['U32', integers(4, (view, at) => view.getUint32(at, true))],
  ['I32', same('int32')],
  ['U16', integers(2, (view, at) => view.getUint16(at, true))],
  ['I16', integers(2, (view, at) => view.getInt16(at, true))],
  ['U8', integers(1, (view, at) => view.getUint8(at))],
  ['I8', integers(1, (view, at) => view.getInt8(at))],
  ['BOOL', bool],
]);

/** One tensor of a file: its elements are bytes `begin` … `end`−1 of the data. */
type Entry = { name: string; reader: Reader; shape: Shape; begin: number; end: number };
type File = { entries: readonly Entry[]; metadata: Record<string, string>; data: Uint8Array };

function parse(bytes: Uint8Array): File {
  const header = headerOf(bytes);
  const data = bytes.subarray(8 + header.bytes);
  const fields = header.fields.filter(([name]) => name !== '__metadata__');
  const entries = fields.map(([name, value]) => entryOf(name, value));
  checkLayout(entries, data.length);
  const [, metadata] = header.fields.find(([name]) => name === '__metadata__') ?? [];
  return { entries, metadata: metadata === undefined ? {} : checkedMetadata(metadata), data };
}

function headerOf(bytes: Uint8Array): { bytes: number; fields: readonly (readonly [string, unknown])[] } {
  checkArgument('safetensors', 'bytes', bytes, someBytes);
  if (bytes.length < 8)
    throw new FormatError(`safetensors: expected at least 8 bytes for the header's length, got ${bytes.length}`);
  const length = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  if (length > MAX_HEADER)
    throw new FormatError(`safetensors: a header of ${length} bytes is beyond the limit of ${MAX_HEADER}`);
  if (8n + length > bytes.length)
    throw new FormatError(
      `safetensors: the header has ${length} bytes, the file ends after ${bytes.length - 8} of them`,
    );
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(8, 8 + Number(length)));
  } catch (cause) {
    throw new FormatError('safetensors: the header is not UTF-8', { cause });
  }
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(`safetensors: the header is not JSON: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
  if (!isObject(header)) throw new FormatError(`safetensors: the header must be a JSON object, got ${kind(header)}`);
  // The format allows padding behind the object, none before it.
  if (!text.startsWith('{'))
    throw new FormatError(
      `safetensors: the header must be a JSON object from its first byte on, got ${JSON.stringify(text[0])} before it`,
    );
  checkUniqueKeys(text);
  return { bytes: Number(length), fields: Object.entries(header) };
}

/** Throws if an object names a key twice, of which JSON.parse keeps the last in silence. `json` is valid JSON. */
function checkUniqueKeys(json: string): void {
  const open: (Set<string> | null)[] = [];
  for (let i = 0; i < json.length; i++) {
    const character = json[i];
    if (character === '{') open.push(new Set());
    else if (character === '[') open.push(null);
    else if (character === '}' || character === ']') open.pop();
    else if (character === '"') {
      const start = i;
      for (i++; json[i] !== '"'; i++) if (json[i] === '\\') i++;
      let after = i + 1;
      while (' \t\n\r'.includes(json[after] ?? '.')) after++;
      if (json[after] !== ':') continue;
      const key = JSON.parse(json.slice(start, i + 1)) as string;
      const keys = open.at(-1)!;
      if (keys!.has(key)) throw new FormatError(`safetensors: the header has the key ${quoted(key)} twice`);
      keys!.add(key);
    }
  }
}

function entryOf(name: string, value: unknown): Entry {
  const fail = (what: string): never => {
    throw new FormatError(`safetensors: tensor ${quoted(name)}: ${what}`);
  };
  if (!isObject(value)) return fail(`expected an object, got ${kind(value)}`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string') return fail(`expected a dtype, got ${kind(dtype)}`);
  const reader = READERS.get(dtype);
  if (reader === undefined) return fail(`no dtype ${quoted(dtype)}; expected ${[...READERS.keys()].join(', ')}`);
  if (!Array.isArray(shape) || !shape.every(isCount))
    return fail(`expected a shape of integers ≥ 0, got ${kind(shape)}`);
  // Lengths of 0 aside, so that no product of them is beyond what strides can be computed with.
  if (!isCount(sizeOf(shape.filter(length => length > 0)))) return fail(`a shape of more than 2⁵³ elements`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount))
    return fail(`expected data_offsets of two integers ≥ 0, got ${kind(offsets)}`);
  const [begin, end] = offsets as [number, number];
  if (begin > end) return fail(`data_offsets are reversed: ${begin} … ${end}`);
  const expected = sizeOf(shape) * reader.bytes;
  if (end - begin !== expected)
    return fail(`${dtype}[${shape.join(',')}] takes ${expected} bytes, data_offsets span ${end - begin}`);
  return { name, reader, shape, begin, end };
}

/** Throws unless the entries cover `length` bytes without gap or overlap. */
function checkLayout(entries: readonly Entry[], length: number): void {
  let covered = 0;
  for (const { name, begin, end } of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (end > length)
      throw new FormatError(`safetensors: tensor ${quoted(name)} ends at byte ${end}, the data at ${length}`);
    if (begin !== covered)
      throw new FormatError(
        `safetensors: ${begin < covered ? 'an overlap' : 'a gap'} before tensor ${quoted(name)}: ` +
          `it begins at byte ${begin}, the tensors before it end at ${covered}`,
      );
    covered = end;
  }
  if (covered !== length)
    throw new FormatError(`safetensors: ${length - covered} bytes after the last tensor belong to none`);
}

function checkedMetadata(value: unknown): Record<string, string> {
  if (!isPlainObject(value))
    throw new FormatError(`safetensors: __metadata__ must be an object, got ${received(value)}`);
  const entries = Object.entries(value).map(([key, text]) => {
    if (typeof text !== 'string')
      throw new FormatError(`safetensors: __metadata__ ${quoted(key)} must be a string, got ${received(text)}`);
    return [key, text] as const;
  });
  return Object.fromEntries(entries);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0 && !Object.is(value, -0);
}

/** A value of a header as errors show it; shallow, since a hostile one can be nested deeper than the stack. */
function kind(value: unknown): string {
  if (Array.isArray(value)) return `[${value.slice(0, 8).map(scalar).join(',')}${value.length > 8 ? ',…' : ''}]`;
  return scalar(value);
}

function scalar(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object';
  return quoted(JSON.stringify(value), '');
}

function quoted(text: string, mark = "'"): string {
  return `${mark}${text.length > 80 ? `${text.slice(0, 80)}…` : text}${mark}`;
}
