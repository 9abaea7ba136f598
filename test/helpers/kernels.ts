/**
 * Kernels under test: one bench for each variant that runs here, on which every operand of a call lies between guards that
 * must stay as they were; and elements, layouts and distances to feed and judge them.
 */

import assert from 'node:assert/strict';
import { type DType, ReferenceBackend } from '@otimes/core';
import {
  attention,
  createKernels,
  type Element,
  type Exports,
  type Float,
  images,
  normalize,
  type PartExports,
  recurrent,
  resample,
  type Variant,
  variants,
} from '@otimes/kernels';
import fc from 'fast-check';
import type { Test } from 'tap';
import type { Operand } from '../../core/src/backends/backend.ts';
import { contiguousStrides, sizeOf } from '../../core/src/shape.ts';
import { Storage } from '../../core/src/storage.ts';
import { law } from './law.ts';

export const TYPES: readonly Element[] = ['f32', 'f64', 'i32', 'bool'];
export const FLOATS: readonly Float[] = ['f32', 'f64'];
export const NUMERIC = ['f32', 'f64', 'i32'] as const;
export const BYTES = { f32: 4, f64: 8, i32: 4, bool: 1 };
const DTYPE = { f32: 'float32', f64: 'float64', i32: 'int32', bool: 'bool' } as const;
/** Half a unit in the last place of 1. */
export const EPS = { f32: 2 ** -24, f64: 2 ** -53 };

export type Values = Float32Array | Float64Array | Int32Array | Uint8Array;
const arrayOf = { f32: Float32Array, f64: Float64Array, i32: Int32Array, bool: Uint8Array };
export const make = (type: Element, values: ArrayLike<number>): Values => new arrayOf[type](Array.from(values));
export const round = (type: Element, value: number): number => make(type, [value])[0]!;

// --- memory -----------------------------------------------------------------------------------------------------------

const GUARD = 64;
const SENTINEL = 0xa5;

/** Which families of kernels each test file is for. */
const FILES = {
  elementwise: (
    'neg abs sign square relu sqrt reciprocal floor ceil round exp expm1 log log1p sin cos tanh sigmoid erf gelu geluTanh ' +
    'not isNaN isFinite reluBackward tanhBackward sigmoidBackward geluBackward geluTanhBackward add sub mul div pow ' +
    'maximum minimum eq ne lt le gt ge and or where'
  ).split(' '),
  copy: 'copy fill moments adam sgd addScaled addcdiv scale indexSelect indexAdd gather scatterAdd'.split(' '),
  reduce: (
    'sum sumChannels norm max min argmax argmin softmax logSoftmax softmaxBackward logSoftmaxBackward crossEntropy ' +
    'crossEntropyBackward squaredError squaredErrorBackward layerNorm layerNormBackward layerNormWeights batchStats batchNorm batchNormBackward'
  ).split(' '),
  conv: 'convForward convInputGrad convWeightGrad convScratch unfold fold patchGram maxPoolIndex maxPoolGrad avgPool avgPoolGrad'.split(
    ' ',
  ),
  depthwise: ['depthwise', 'depthwiseScratch'],
  winograd: 'winogradForward winogradInputGrad winogradWeightGrad winogradScratch winogradUnits'.split(' '),
  attention: ['attention', 'attentionBackward'],
  resample: ['resample', 'resampleBackward'],
  recurrent: ['recur', 'recurBackward'],
  products: 'sgemm dgemm ssyrk dsyrk gemmScratch'.split(' '),
  // By convolutions, whose module imports them.
  imported: 'sproduct dproduct'.split(' '),
  check: 'firstOutside firstNotFinite'.split(' '),
};
const familyOf = (name: string): string => name.split('_')[0]!;

/** Kernels of one variant, and memory for a call's operands. */
export class Bench {
  readonly call: Exports &
    PartExports['images'] &
    PartExports['normalize'] &
    PartExports['attention'] &
    PartExports['resample'] &
    PartExports['recurrent'] &
    Record<string, (...x: number[]) => number | undefined>;
  readonly called = new Set<string>();
  readonly scratch: number;
  readonly #memory;
  #top = 0;
  #guards: number[] = [];
  #offset = 0;
  readonly #start: number;
  readonly #names: string[];

  constructor(variant: Variant) {
    const kernels = createKernels({ variant, memory: { initial: 2 ** 26 } })!;
    for (const part of [images, normalize, attention, resample, recurrent]) kernels.load(part);
    this.#memory = kernels.memory;
    this.scratch = kernels.scratch;
    this.#start = kernels.heap.pool.alloc(2 ** 25);
    this.#names = Object.keys(kernels.exports);
    const { called } = this;
    this.call = new Proxy(kernels.exports, {
      get(exports, name: string) {
        called.add(name);
        return Reflect.get(exports, name);
      },
    }) as typeof this.call;
  }

  /** The exports of the families that a test file is for and that it has not called. */
  uncalled(file: keyof typeof FILES): string[] {
    return this.#names.filter(name => FILES[file].includes(familyOf(name)) && !this.called.has(name));
  }

  /** The exports that no test file is for. */
  homeless(): string[] {
    const all = Object.values(FILES).flat();
    return this.#names.filter(name => !all.includes(familyOf(name)));
  }

  /** Runs `use` with fresh operands, `offset` elements behind a multiple of 64 bytes, and checks the guards. */
  with<T>(offset: number, use: () => T): T {
    [this.#top, this.#guards, this.#offset] = [this.#start, [], offset];
    const result = use();
    for (const at of this.#guards)
      for (let i = at; i < at + GUARD; i++)
        if (this.#memory.u8[i] !== SENTINEL)
          throw new Error(`a kernel wrote outside of its operands, at guard ${i - at}`);
    return result;
  }

  #guard(): void {
    this.#memory.u8.fill(SENTINEL, this.#top, this.#top + GUARD);
    this.#guards.push(this.#top);
    this.#top += GUARD;
  }

  /** The address of a copy of the values. */
  put(type: Element, values: ArrayLike<number>): number {
    this.#top = Math.ceil(this.#top / 64) * 64 + this.#offset * BYTES[type];
    this.#guard();
    const address = this.#top;
    this.view(type, address, values.length).set(Array.from(values));
    this.#top += values.length * BYTES[type];
    this.#guard();
    return address;
  }

  /** Memory for a result, not zero. */
  room(type: Element, length: number): number {
    return this.put(type, new Array(length).fill(77));
  }

  view(type: Element, address: number, length: number): Values {
    return new arrayOf[type](this.#memory.wasm.buffer, address, length);
  }

  read(type: Element, address: number, length: number): Values {
    return this.view(type, address, length).slice();
  }
}

const benches = variants().map(variant => ({ variant, bench: new Bench(variant) }));
assert.ok(benches.length > 0, 'no variant of the kernels runs here');

export type LawOfBoth = (title: string, holds: (bench: Bench) => void) => void;

/** Makes laws of both variants. */
export const lawsOfBoth =
  (t: Test): LawOfBoth =>
  (title, holds) => {
    for (const { variant, bench } of benches) law(t, `${variant}: ${title}`, () => holds(bench));
  };

export function check<T>(property: fc.IProperty<T>, numRuns = 40): void {
  fc.assert(property, { numRuns, seed: 7 });
}

// --- numbers ----------------------------------------------------------------------------------------------------------

export const SPECIAL = [
  0,
  -0,
  NaN,
  Infinity,
  -Infinity,
  1,
  -1,
  0.5,
  -0.5,
  1.5,
  2.5,
  -2.5,
  -3,
  1e-45,
  -1e-45,
  5e-324,
  1e-38,
];
export const EDGES = [
  ...SPECIAL,
  3.4e38,
  -3.4e38,
  1.7e308,
  -1.7e308,
  88.72284,
  -103.97208,
  709.783,
  -745.1332,
  -745.14,
  2 ** 24,
];
export const INTEGERS = [0, 1, -1, 2, -2, 7, 2 ** 31 - 1, -(2 ** 31), 65536, -65537];

export const element: { readonly [T in Element]: fc.Arbitrary<number> } = {
  f32: fc.oneof(fc.float({ min: -8, max: 8 }), fc.float(), fc.constantFrom(...SPECIAL)).map(Math.fround),
  f64: fc.oneof(fc.double({ min: -8, max: 8 }), fc.double(), fc.constantFrom(...SPECIAL)),
  i32: fc.oneof(fc.integer({ min: -9, max: 9 }), fc.integer(), fc.constantFrom(...INTEGERS)),
  bool: fc.integer({ min: 0, max: 1 }),
};
export const length = fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 33), fc.nat(70));
export const offset = fc.nat(5);

/** Seeded numbers in [−1, 1), thinned to what a float32 holds. */
export function noise(seed: number): () => number {
  let state = (seed + 1) * 2654435761;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.fround(state / 2 ** 31);
  };
}
export const randoms = (count: number, seed: number): number[] => Array.from({ length: count }, noise(seed));

const bits = new DataView(new ArrayBuffer(8));
/** The distance to the next larger number of the type. */
export function ulp(type: Float, x: number): number {
  const least = type === 'f32' ? -126 : -1022;
  bits.setFloat64(0, x);
  const exponent = ((bits.getUint16(0) >> 4) & 0x7ff) - 1023;
  return 2 ** (Math.max(exponent, least) - (type === 'f32' ? 23 : 52));
}

/** |actual − expected| in ulp of the expected; 0 where both are the same, ∞ where only one is NaN or infinite. */
export function ulps(type: Float, actual: number, expected: number): number {
  const rounded = round(type, expected);
  if (Object.is(actual, rounded)) return 0;
  // A result just below the overflow threshold may round to ∞, and one next to it to the largest number.
  if (!Number.isFinite(actual) || !Number.isFinite(rounded)) return Number.POSITIVE_INFINITY;
  if (actual === 0 && rounded === 0) return Number.POSITIVE_INFINITY;
  return Math.abs(actual - expected) / ulp(type, expected);
}

export function mustBe(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  assert.equal(actual.length, expected.length, what);
  for (let i = 0; i < actual.length; i++)
    if (!Object.is(actual[i], expected[i])) throw new Error(`${what}: at ${i} ${actual[i]}, expected ${expected[i]}`);
}

/** |actual − expected| ≤ bound(i), and both NaN or neither. */
export function mustBeWithin(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  bound: (i: number) => number,
  what: string,
): void {
  assert.equal(actual.length, expected.length, what);
  for (let i = 0; i < actual.length; i++) {
    const [x, y] = [actual[i]!, expected[i]!];
    if (Object.is(x, y) || x === y || Math.abs(x - y) <= bound(i)) continue;
    throw new Error(`${what}: at ${i} ${x}, expected ${y}, off by ${Math.abs(x - y) / bound(i)} × the bound`);
  }
}

// --- layouts ----------------------------------------------------------------------------------------------------------

/** How an operand lies: its strides, how many elements it spans and where it starts. */
export type Lay = { row: number; col: number; span: number; start: number };
export const LAYS: Record<string, (rows: number, cols: number) => Lay> = {
  dense: (r, c) => ({ row: c, col: 1, span: r * c, start: 0 }),
  row: (_, c) => ({ row: 0, col: 1, span: c, start: 0 }),
  column: r => ({ row: 1, col: 0, span: r, start: 0 }),
  scalar: () => ({ row: 0, col: 0, span: 1, start: 0 }),
  transposed: (r, c) => ({ row: 1, col: r, span: r * c, start: 0 }),
  gaps: (r, c) => ({ row: c + 3, col: 1, span: r * (c + 3), start: 0 }),
  thinned: (r, c) => ({ row: 2 * c, col: 2, span: 2 * r * c, start: 0 }),
  backwards: (r, c) => ({ row: c, col: -1, span: r * c, start: Math.max(0, c - 1) }),
};
export const lay = fc.constantFrom(...Object.keys(LAYS));
/** The elements that a lay reads, row-major. */
export function walked<T extends ArrayLike<number>>(
  values: T,
  { row, col, start }: Lay,
  rows: number,
  cols: number,
): number[] {
  const list: number[] = [];
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) list.push(values[start + i * row + j * col]!);
  return list;
}
export const matrix = fc.tuple(fc.oneof(fc.nat(4), fc.nat(9)), fc.oneof(fc.nat(9), fc.nat(40)), offset);

/** Seeded elements of a type, special ones among them. */
export function elements(type: Element, count: number, seed: number): Values {
  const next = noise(seed);
  const pick = type === 'i32' ? INTEGERS : SPECIAL;
  return make(
    type,
    Array.from({ length: count }, () => {
      const x = next();
      if (type === 'bool') return x < 0 ? 0 : 1;
      if (x > 0.6) return pick[Math.floor(next() * pick.length) & (pick.length - 1)] ?? 1;
      return type === 'i32' ? Math.floor(x * 10) : Math.round(x * 16) / 4;
    }),
  );
}

// --- the reference backend ----------------------------------------------------------------------------------------

export const reference = new ReferenceBackend('elsewhere');
/** Row-major values as an operand of the reference backend. */
export function operand(type: Element, values: ArrayLike<number>, shape: readonly number[]): Operand {
  const dtype: DType = DTYPE[type];
  const storage = new Storage(reference, dtype, make(type, values));
  return { storage, dtype, shape, strides: contiguousStrides(shape), offset: 0 };
}
export const blank = (type: Element, shape: readonly number[]): Operand =>
  operand(type, new Array(sizeOf(shape)).fill(0), shape);
