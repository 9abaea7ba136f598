/**
 * PNG by fast-png: greyscale, colours and palettes of 1 … 16 bits a sample, checksums checked. Alpha is left out as Pillow's
 * `convert('RGB')` leaves it out, and 16 bits become the nearest 8.
 *
 * NOTE: fast-png takes samples for 0 that a whole zlib stream lacks in the last row, which no encoder and no cut in a file brings about.
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
const HEADER = { width: 16, height: 20, depth: 24, color: 25, interlaced: 28, end: 33 };

export function pngPicture(decode: PngDecode, bytes: Uint8Array, channels: 1 | 3, file: string): Picture {
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
  const samples = eightBit(decoded, color === INDEXED);
  return color === INDEXED
    ? colors(samples, decoded, channels, file)
    : planes(samples, decoded.channels, width, height, channels);
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
