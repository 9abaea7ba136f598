/**
 * What a convolution sees, as a table in the GPU's memory: an entry for each term (channel, tap) and one for each place. The
 * element of term k that a place q sees is that at base(q) + offset(k), or 0 where the tap is outside of the image: so
 * kernels neither divide nor know of stride, padding and dilation.
 */

import type { Pair, TypedArray, Window } from '@otimes/core';
import { type Context, regionOf } from './context.ts';
import type { Memory } from './launch.ts';
import type { GpuRegion } from './pool.ts';

export type Look = {
  /** Rows and columns of the planes that are seen, and their number. */
  readonly image: Pair;
  readonly channels: number;
  readonly taps: Pair;
  /** Rows and columns from one tap to the next. */
  readonly apart: Pair;
  readonly places: Pair;
  /** Where the first tap of place (i, j) is: from + step · (i, j). */
  readonly from: Pair;
  readonly step: Pair;
  /** Where the result of place (i, j) is in its plane: start + i · row + j · column. */
  readonly result: { readonly start: number; readonly row: number; readonly column: number };
  /** Where the weight of term (channel, i, j) is, from the first of its row. */
  readonly weight: { readonly start: number; readonly channel: number; readonly row: number; readonly column: number };
};

export type Table = {
  readonly memory: Memory;
  /** Entries of terms, and where those of places begin. */
  readonly terms: number;
  readonly places: number;
  readonly q0: number;
  /** Whether a word has a bit for each tap: then what is outside is found by one operation. */
  readonly masked: boolean;
};

/** Entries of nothing behind the others, the most that the step of a tile may read beyond. */
const PAD = 64;
/** No plane has so many rows. */
const OUTSIDE = 2 ** 30;
/** Tables that are kept. */
const MOST = 256;
const known = new WeakMap<Context, Map<string, GpuRegion>>();

/** The table of `look`, made once for each kind of convolution. */
export function tableOf(c: Context, look: Look): Table {
  const masked = isMasked(look);
  const [terms, places] = sizesOf(look);
  const memory = kept(c, JSON.stringify(look), () => entriesOf(look, masked));
  return { memory, terms, places, q0: terms + PAD, masked };
}

/**
 * One table for several classes of positions. It begins with two entries for each: columns, terms and places of the class, and where its terms and
 * places begin. `terms` are those of all classes, and `places` their mean.
 */
export function classesOf(c: Context, looks: readonly Look[], images: number): Table {
  const masked = looks.every(isMasked);
  const memory = kept(c, `${images} ${JSON.stringify(looks)}`, () => {
    const parts = looks.map(look => entriesOf(look, masked));
    const head = new Int32Array(8 * looks.length);
    let at = 2 * looks.length;
    for (const [i, look] of looks.entries()) {
      const [terms, places] = sizesOf(look);
      head.set([images * places, terms, places, 0, at, at + terms + PAD], 8 * i);
      at += parts[i]!.length / 4;
    }
    const words = new Int32Array(4 * at);
    let start = 0;
    for (const part of [head, ...parts]) {
      words.set(part, start);
      start += part.length;
    }
    return words;
  });
  return { memory, terms: 0, places: 0, q0: 0, masked };
}

const isMasked = ({ taps }: Look) => taps[0] * taps[1] <= 32;
/** Terms and places. */
export const sizesOf = ({ channels, taps, places }: Look): [number, number] => [
  channels * taps[0] * taps[1],
  places[0] * places[1],
];

function kept(c: Context, key: string, make: () => Int32Array): Memory {
  let tables = known.get(c);
  if (tables === undefined || tables.size === MOST) {
    tables = new Map();
    known.set(c, tables);
  }
  let region = tables.get(key);
  if (region === undefined) {
    region = storeIdle(c, make());
    tables.set(key, region);
  }
  return region.memory;
}

function storeIdle(c: Context, words: TypedArray): GpuRegion {
  const region = regionOf(c, words.length, true);
  c.commands.write(region.memory, words);
  return region;
}

/** Four words an entry. Terms: offset, bit of the tap or its row, column, place of the weight; places: base, bits or row, column, place of the result. */
function entriesOf(look: Look, masked: boolean): Int32Array {
  const [terms, places] = sizesOf(look);
  const { image, taps, apart, from, step, result, weight } = look;
  const [h, w] = image;
  const words = new Int32Array(4 * (terms + places + 2 * PAD));
  const put = (entry: number, ...values: number[]) => words.set(values, 4 * entry);
  const outside = masked ? 0 : OUTSIDE;
  for (let k = 0; k < terms + PAD; k++) {
    if (k >= terms) {
      put(k, 0, outside, 0, 0);
      continue;
    }
    const [j, rest] = [k % taps[1], Math.floor(k / taps[1])];
    const [i, channel] = [rest % taps[0], Math.floor(rest / taps[0])];
    const [row, column] = [i * apart[0], j * apart[1]];
    const at = channel * h * w + row * w + column;
    const of = weight.start + channel * weight.channel + i * weight.row + j * weight.column;
    if (masked) put(k, at, 1 << (i * taps[1] + j), 0, of);
    else put(k, at, row, column, of);
  }
  const inside = (first: number, axis: 0 | 1) => {
    let bits = 0;
    for (let i = 0; i < taps[axis]; i++) {
      const at = first + i * apart[axis];
      if (at >= 0 && at < image[axis]) bits |= 1 << i;
    }
    return bits;
  };
  const rowBits = masked ? Array.from({ length: look.places[0] }, (_, i) => inside(from[0] + i * step[0], 0)) : [];
  const columnBits = masked ? Array.from({ length: look.places[1] }, (_, j) => inside(from[1] + j * step[1], 1)) : [];
  for (let q = 0; q < places + PAD; q++) {
    const entry = terms + PAD + q;
    if (q >= places) {
      put(entry, 0, outside, 0, 0);
      continue;
    }
    const [i, j] = [Math.floor(q / look.places[1]), q % look.places[1]];
    const [row, column] = [from[0] + i * step[0], from[1] + j * step[1]];
    const at = row * w + column;
    const to = result.start + i * result.row + j * result.column;
    let bits = 0;
    if (masked) for (let a = 0; a < taps[0]; a++) if ((rowBits[i]! >> a) & 1) bits |= columnBits[j]! << (a * taps[1]);
    if (masked) put(entry, at, bits, 0, to);
    else put(entry, at, row, column, to);
  }
  return words;
}

type Places = Pair;

/** A convolution forward: places of y see x. */
export function forwardLook(image: Pair, channels: number, places: Places, window: Window): Look {
  const { kernel, stride, padding, dilation } = window;
  return {
    ...{ image, channels, taps: kernel, apart: dilation, places, step: stride },
    from: [-padding[0], -padding[1]],
    result: { start: 0, row: places[1], column: 1 },
    weight: { start: 0, channel: kernel[0] * kernel[1], row: kernel[1], column: 1 },
  };
}

/** One axis of an input's gradient: positions y of a class (y + padding ≡ rest modulo stride) see gy at the same taps, in a row. */
function classOf(rest: number, axis: 0 | 1, length: number, { kernel, stride, padding, dilation }: Window) {
  const [k, s, p, d] = [kernel[axis], stride[axis], padding[axis], dilation[axis]];
  const u = Math.ceil(Math.max(0, p - rest) / s);
  const first = s * u + rest - p;
  const count = Math.max(0, Math.ceil((length - first) / s));
  const all = Array.from({ length: k }, (_, i) => i).filter(i => (i * d - rest) % s === 0);
  const tap = all[0] ?? 0;
  const tapStep = all.length > 1 ? all[1]! - tap : 1;
  return { first, count, taps: all.length, tap, tapStep, apart: -(tapStep * d) / s, from: u + (rest - tap * d) / s };
}

/**
 * An input's gradient: positions of x see gy, and with a stride each of stride² classes of positions sees other taps. Classes that
 * have no positions are left out; `taps` of a class may be 0.
 */
export function inputLooks(image: Pair, places: Places, outputs: number, share: number, window: Window): Look[] {
  const { kernel, stride } = window;
  const looks: Look[] = [];
  for (let ry = 0; ry < stride[0]; ry++) {
    const y = classOf(ry, 0, image[0], window);
    if (y.count === 0) continue;
    for (let rx = 0; rx < stride[1]; rx++) {
      const x = classOf(rx, 1, image[1], window);
      if (x.count === 0) continue;
      looks.push({
        image: places,
        channels: outputs,
        taps: [y.taps, x.taps],
        apart: [y.apart, x.apart],
        places: [y.count, x.count],
        from: [y.from, x.from],
        step: [1, 1],
        result: { start: y.first * image[1] + x.first, row: stride[0] * image[1], column: stride[1] },
        weight: {
          start: y.tap * kernel[1] + x.tap,
          channel: share * kernel[0] * kernel[1],
          row: y.tapStep * kernel[1],
          column: x.tapStep,
        },
      });
    }
  }
  return looks;
}
