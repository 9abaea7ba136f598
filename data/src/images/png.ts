/**
 * PNG by fast-png: greyscale, colours and palettes of 1 … 16 bits a sample, checksums checked. Alpha is left out as Pillow's
 * `convert('RGB')` leaves it out, and 16 bits become the nearest 8.
 *
 * NOTE: fast-png takes samples for 0 that a whole zlib stream lacks in the last row. So where the last byte is 0, the stream is looked at again.
 */

import { FormatError } from '@otimes/core';
import { checkSize, grey, type Picture } from './pixels.ts';

/** What this needs of fast-png's result: samples of depths below 8 are packed into bytes, each row from a new byte on. */
type Decoded = {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array | Uint8ClampedArray | Uint16Array;
  readonly depth: number;
  readonly channels: number;
  readonly palette?: readonly (readonly number[])[];
};

export type PngDecode = (bytes: Uint8Array, o: { checkCrc: boolean }) => Decoded;

/** Of PNG's types of colour, the one that means indices into a palette. */
const INDEXED = 3;

/** Where the header, which is the first chunk, has its fields. */
const HEADER = { start: 8, width: 16, height: 20, depth: 24, color: 25, interlaced: 28, end: 33 };

/** The type of chunks with pixels, 'IDAT' as a number. */
const IDAT = 0x49444154;

/** The passes of an interlaced PNG: the first column and row, and the steps between columns and rows. */
const ADAM7 = [
  ...([
    [0, 0, 8, 8],
    [4, 0, 8, 8],
    [0, 4, 4, 8],
    [2, 0, 4, 4],
    [0, 2, 2, 4],
    [1, 0, 2, 2],
    [0, 1, 1, 2],
  ] as const),
];

/** The length of what a zlib stream, in parts, unpacks to. */
export type UnpackedLength = (parts: readonly Uint8Array[]) => number;

export function pngPicture(
  decode: PngDecode,
  unpackedLength: UnpackedLength,
  bytes: Uint8Array,
  channels: 1 | 3,
  file: string,
): Picture {
  if (bytes.length < HEADER.end) throw new FormatError(`${file}: not a whole PNG: it ends in its header`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const [width, height] = [view.getUint32(HEADER.width), view.getUint32(HEADER.height)];
  checkSize(file, width, height);
  const [depth, color] = [bytes[HEADER.depth]!, bytes[HEADER.color]!];
  if (bytes[HEADER.interlaced] !== 0 && depth < 8)
    throw new FormatError(`${file}: an interlaced PNG of ${depth} bits a sample; save it without interlacing`);
  let decoded: Decoded;
  try {
    decoded = decode(bytes, { checkCrc: true });
  } catch (cause) {
    throw new FormatError(`${file}: not a whole PNG: ${reason(cause)}`, { cause });
  }
  if (decoded.width !== width || decoded.height !== height || decoded.depth !== depth)
    throw new FormatError(`${file}: not a whole PNG: it has more than one header`);
  checkWhole(decoded, bytes, view, unpackedLength, file);
  const samples = eightBit(decoded, color === INDEXED);
  return color === INDEXED
    ? colors(samples, decoded, channels, file)
    : planes(samples, decoded.channels, width, height, channels);
}

/** Throws if the data of a PNG, of which all chunks are there, end within the last row. */
function checkWhole(
  { data, width, height, depth, channels }: Decoded,
  bytes: Uint8Array,
  view: DataView,
  unpackedLength: UnpackedLength,
  file: string,
): void {
  const interlaced = bytes[HEADER.interlaced] !== 0;
  // Rows that begin are there; of an interlaced picture the last one need not end in the last pixel.
  if (!interlaced && (data.at(-1)! & 255) !== 0) return;
  const parts: Uint8Array[] = [];
  for (let at = HEADER.start; at + 8 <= bytes.length; at += 12 + view.getUint32(at))
    if (view.getUint32(at + 4) === IDAT) parts.push(bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
  const passes = interlaced ? ADAM7 : [[0, 0, 1, 1] as const];
  let expected = 0;
  for (const [x, y, across, down] of passes) {
    const [columns, rows] = [Math.ceil((width - x) / across), Math.ceil((height - y) / down)];
    if (columns > 0 && rows > 0) expected += rows * (1 + Math.ceil((columns * channels * depth) / 8));
  }
  let got: number;
  try {
    got = unpackedLength(parts);
  } catch (cause) {
    throw new FormatError(`${file}: not a whole PNG: ${reason(cause)}`, { cause });
  }
  if (got < expected)
    throw new FormatError(`${file}: not a whole PNG: its pixels take ${expected} bytes, it has ${got}`);
}

/** What went wrong, in the words of the file rather than of the decoder. */
function reason(cause: unknown): string {
  const { message } = cause instanceof Error ? cause : { message: String(cause) };
  const inner = cause instanceof Error && cause.cause instanceof Error ? ` ${cause.cause.message}` : '';
  return /outside the bounds/.test(message) ? 'it ends in the middle of a chunk' : `${message}${inner}`;
}

/** One byte a sample: indices as they are, others scaled to 0 … 255. */
function eightBit({ data, depth, width, height, channels }: Decoded, indexed: boolean): Uint8Array | Uint8ClampedArray {
  if (depth === 8) return data as Uint8Array;
  const row = width * channels;
  const out = new Uint8Array(row * height);
  // The nearest of 0 … 255 to v / 65535 · 255, which is v / 257.
  if (depth === 16) for (let i = 0; i < out.length; i++) out[i] = (data[i]! + 128) / 257;
  else {
    const rowBytes = Math.ceil((row * depth) / 8);
    const most = 2 ** depth - 1;
    const scale = indexed ? 1 : 255 / most;
    for (let y = 0; y < height; y++)
      for (let x = 0; x < row; x++) {
        const bit = x * depth;
        out[y * row + x] = ((data[y * rowBytes + (bit >> 3)]! >> (8 - depth - (bit & 7))) & most) * scale;
      }
  }
  return out;
}

function colors(indices: ArrayLike<number>, { palette = [], width, height }: Decoded, channels: 1 | 3, file: string) {
  const size = width * height;
  const data = new Uint8Array(channels * size);
  for (let i = 0; i < size; i++) {
    const color = palette[indices[i]!];
    if (color === undefined)
      throw new FormatError(`${file}: pixel ${i} has the colour ${indices[i]} of a palette of ${palette.length}`);
    const [r = 0, g = 0, b = 0] = color;
    if (channels === 1) data[i] = grey(r, g, b);
    else {
      data[i] = r;
      data[size + i] = g;
      data[2 * size + i] = b;
    }
  }
  return { data, channels, height, width };
}

/** Samples [h, w, from] to planes; `from` is 1 grey, 2 grey and alpha, 3 colours, 4 colours and alpha. */
function planes(samples: ArrayLike<number>, from: number, width: number, height: number, channels: 1 | 3): Picture {
  const size = width * height;
  const data = new Uint8Array(channels * size);
  if (from < 3)
    for (let c = 0; c < channels; c++) for (let i = 0; i < size; i++) data[c * size + i] = samples[i * from]!;
  else if (channels === 3)
    for (let c = 0; c < 3; c++) for (let i = 0; i < size; i++) data[c * size + i] = samples[i * from + c]!;
  else for (let i = 0, k = 0; i < size; i++, k += from) data[i] = grey(samples[k]!, samples[k + 1]!, samples[k + 2]!);
  return { data, channels, height, width };
}
