/** Random shapes, values and layouts of tensors. All values are multiples of 1/64, so that float32 holds them exactly. */

import { type DType, full, type Shape, type Tensor, tensor } from '@otimes/core';
import fc from 'fast-check';

// --- shapes ---------------------------------------------------------------------------------------------------------

/** Ranks default to 0 … 3, lengths to 0 … 4. */
export type ShapeLimits = { minRank?: number; maxRank?: number; minLength?: number; maxLength?: number };

/** A length: now and then 0, sometimes 1, mostly more. */
export function length({ minLength = 0, maxLength = 4 }: ShapeLimits = {}): fc.Arbitrary<number> {
  const lengths = [0, 1, 1].filter(n => n >= minLength);
  for (let n = Math.max(2, minLength); n <= maxLength; n++) lengths.push(n, n, n);
  return fc.constantFrom(...lengths);
}

export function shape({ minRank = 0, maxRank = 3, ...lengths }: ShapeLimits = {}): fc.Arbitrary<number[]> {
  return fc.array(length(lengths), { minLength: minRank, maxLength: maxRank });
}

const flags = (count: number) => fc.array(fc.boolean(), { minLength: count, maxLength: count });

/** `count` shapes that broadcast together: each may lack leading axes of the result, and have axes of length 1. */
export function broadcasting(count: number, limits?: ShapeLimits): fc.Arbitrary<number[][]> {
  return shape(limits).chain(result => {
    const operand = fc
      .tuple(fc.nat(result.length), flags(result.length), fc.boolean())
      .map(([missing, thin, same]) => (same ? result : result.map((n, i) => (thin[i] ? 1 : n)).slice(missing)));
    return fc.array(operand, { minLength: count, maxLength: count });
  });
}

/** An axis of a tensor of rank ≥ 1, counted from the start or from the end. */
export const axis = (rank: number): fc.Arbitrary<number> => fc.integer({ min: -rank, max: rank - 1 });

/** Axes of a reduction: all (undefined), one, or several in any order. */
export function axes(rank: number): fc.Arbitrary<number | number[] | undefined> {
  if (rank === 0) return fc.constantFrom(undefined, []);
  const several = fc
    .tuple(fc.subarray(Array.from({ length: rank }, (_, i) => i)), fc.boolean())
    .map(([some, fromEnd]) => some.map(a => (fromEnd ? a - rank : a)).reverse());
  return fc.oneof(fc.constant(undefined), axis(rank), several);
}

// --- values ---------------------------------------------------------------------------------------------------------

/** Draws the values of an input of `size` elements; whole numbers for integer dtypes. */
export type Domain = (size: number, whole: boolean) => fc.Arbitrary<number[]>;

const each =
  (real: fc.Arbitrary<number>, whole: fc.Arbitrary<number>): Domain =>
  (size, integers) =>
    fc.array(integers ? whole : real, { minLength: size, maxLength: size, size: 'max' });

const in64ths = (min: number, max: number) => fc.integer({ min: min * 64, max: max * 64 }).map(k => k / 64);
const signed = (size: fc.Arbitrary<number>) => fc.tuple(size, fc.boolean()).map(([x, minus]) => (minus ? -x : x));

/** −2.5 … 2.5; whole −5 … 5. */
export const real: Domain = each(in64ths(-2.5, 2.5), fc.integer({ min: -5, max: 5 }));
/** 0.25 … 3; whole 1 … 5. */
export const positive: Domain = each(in64ths(0.25, 3), fc.integer({ min: 1, max: 5 }));
/** ±0.25 … ±3; whole ±1 … ±5. */
export const nonzero: Domain = each(signed(in64ths(0.25, 3)), signed(fc.integer({ min: 1, max: 5 })));
/** Multiples of ½ in −1 … 1, among which equal ones and zeros are frequent. */
export const coarse: Domain = each(fc.constantFrom(-1, -0.5, 0, 0.5, 1), fc.integer({ min: -1, max: 1 }));
/** Multiples of ¼ plus an offset: two inputs with different offsets are never equal, nor near a kink at another one. */
export const lattice = (offset: number): Domain =>
  each(
    fc.integer({ min: -8, max: 8 }).map(k => k / 4 + offset),
    fc.integer({ min: -5, max: 5 }),
  );
/** Values at least ¼ apart, in random order. */
export const distinct: Domain = (size, whole) => {
  const ranks = Array.from({ length: size }, (_, i) => i);
  return fc
    .shuffledSubarray(ranks, { minLength: size, maxLength: size })
    .map(order => order.map(k => (whole ? k - 3 : (2 * k - size) / 8)));
};
/** low … high−1, for indices and exponents. */
export const integers = (low: number, high: number): Domain =>
  each(fc.integer({ min: low, max: high - 1 }), fc.integer({ min: low, max: high - 1 }));
/** 0 and 1. */
export const bits: Domain = integers(0, 2);

// --- layouts --------------------------------------------------------------------------------------------------------

/** How a tensor lies in its storage: the order of its axes in memory, and for each axis step, gap before, repetition. */
export type Layout = { order: number[]; steps: number[]; gaps: number[]; repeated: boolean[] };

/** Any layout: transposed, with steps, backwards, with an offset, and (on request) with repeated elements. */
export function layout(rank: number, { repeated = false } = {}): fc.Arbitrary<Layout> {
  const all = Array.from({ length: rank }, (_, i) => i);
  const perAxis = <T>(of: fc.Arbitrary<T>) => fc.array(of, { minLength: rank, maxLength: rank });
  const plain: Layout = { order: all, steps: all.map(() => 1), gaps: all.map(() => 0), repeated: all.map(() => false) };
  const anyLayout = fc.record({
    order: fc.shuffledSubarray(all, { minLength: rank, maxLength: rank }),
    steps: perAxis(fc.constantFrom(1, 1, 2, -1, -2)),
    gaps: perAxis(fc.constantFrom(0, 0, 1)),
    repeated: perAxis(repeated ? fc.constantFrom(false, false, false, true) : fc.constant(false)),
  });
  return fc.oneof({ weight: 1, arbitrary: fc.constant(plain) }, { weight: 3, arbitrary: anyLayout });
}

/**
 * A tensor with these values (row-major) that lies in its storage as `how` says, between elements of 77 that nobody
 * should read. Along a repeated axis (stride 0) the first values stand for all.
 */
export function laidOut(
  values: readonly number[],
  shape: Shape,
  { order, steps, gaps, repeated }: Layout,
  dtype: DType = 'float64',
  device = 'cpu',
): Tensor {
  const repeats = shape.map((n, i) => repeated[i]! && n > 1);
  const thin = shape.map((n, i) => (repeats[i] ? 1 : n));
  const extents = thin.map((n, i) => (n === 0 ? 0 : (n - 1) * Math.abs(steps[i]!) + 1) + gaps[i]!);
  const room = full(
    order.map(i => extents[i]!),
    77,
    { dtype, device },
  );
  const view = room.permute(shape.map((_, i) => order.indexOf(i))).slice(
    ...thin.map((n, i) => {
      if (n === 0) return [0, 0] as const;
      return [steps[i]! > 0 ? gaps[i]! : -1 - gaps[i]!, null, steps[i]!] as const;
    }),
  );
  const first = tensor(values, { shape, dtype, device }).slice(...repeats.map(r => (r ? ([0, 1] as const) : null)));
  return view.copy_(first).expand(shape);
}
