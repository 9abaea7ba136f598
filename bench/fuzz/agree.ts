/**
 * When two devices agree about the result of one operation on the same bits. Shape and dtype are always equal, and so are
 * integers and booleans. Of floats:
 *
 * | operations | rule |
 * |---|---|
 * | `EXACT`: copies, comparisons, choices, one rounded arithmetic step | equal bits (any NaN is any NaN) |
 * | `ELEMENTWISE`: functions of each element | within 4 units in the last place (float32; 16 in float64) |
 * | others | the same, or within what rounding of the operands explains |
 *
 * What rounding explains is measured: the operation runs in float64 on the reference with every float operand moved by a
 * relative 2⁻²⁰ at random, four times; the largest change of the result, brought to the dtype's ε, times `SLACK`, is allowed, and as much of what may cancel inside.
 * NaN must meet NaN, and an infinity itself, unless a finite operand is beyond `LARGE`, where partial sums may leave
 * the range of the dtype in one order and not in another. Below the smallest normal number only that number counts.
 */

import type { DType } from '@otimes/core';

export const EPS = { float32: 2 ** -23, float64: 2 ** -52 };
export const LARGE = { float32: 1e12, float64: 1e100 };
export const SLACK = 64;
export const NUDGE = 2 ** -20;
const SMALLEST = { float32: 2 ** -126, float64: 2 ** -1022 };
const ULPS = { float32: 4, float64: 16 };

const EXACT_NAMES =
  'neg; abs; sign; floor; ceil; round; square; reciprocal; sqrt; relu; clamp; clamp from below; isNaN; isFinite; logicalNot; ' +
  'add a number; sub a number; mul by a fraction; div by a number; maximum with a number; pow of 0; pow of 1; pow of 2; ' +
  'add; sub; mul; div; maximum; minimum; eq; ne; lt; le; gt; ge; logicalAnd; logicalOr; where; max; min; any; all; argmax; ' +
  'argmin; reshape; reshape with one length open; permute; transpose; expand; squeeze; unsqueeze; flatten; slice; narrow; ' +
  'contiguous; clone; pad; concat; stack; gather; indexSelect; oneHot; astype float64; astype float32; astype int32; ' +
  'astype bool; maxPool2d; unfold; relu: the gradient; copy_; through an ndarray; through another device; through arrays';
export const EXACT: ReadonlySet<string> = new Set(EXACT_NAMES.split('; '));

/** Functions of each element: a few units in the last place, whatever the others are. */
export const ELEMENTWISE: ReadonlySet<string> = new Set(
  'exp; expm1; log; log1p; sin; cos; tanh; sigmoid; erf; pow; pow of 3; pow of ½; pow of −1.5'.split('; '),
);
/** Right wherever their result is in range. */
export const RANGED: ReadonlySet<string> = new Set(['mean', 'norm']);

export type Values = { readonly shape: readonly number[]; readonly dtype: DType; readonly data: ArrayLike<number> };

export const sameBits = (a: ArrayLike<number>, b: ArrayLike<number>): boolean => {
  for (let i = 0; i < a.length; i++) if (!Object.is(a[i], b[i])) return false;
  return a.length === b.length;
};

/** Whether a finite value is beyond what sums of products may take. */
export function isExtreme({ dtype, data }: Values): boolean {
  if (dtype !== 'float32' && dtype !== 'float64') return false;
  for (let i = 0; i < data.length; i++) {
    const size = Math.abs(data[i]!);
    if (size > LARGE[dtype] || (size !== 0 && size < 1 / LARGE[dtype])) return true;
  }
  return false;
}

/**
 * How `actual` differs from `expected`, or null. `allowed` measures what rounding explains for each element, and is asked
 * only where the difference is more than a few units in the last place.
 */
export function disagreement(
  actual: Values,
  expected: Values,
  { exact, extreme, allowed }: { exact: boolean; extreme: boolean; allowed: () => ArrayLike<number> | null },
): string | null {
  if (actual.dtype !== expected.dtype || actual.shape.join() !== expected.shape.join())
    return `${actual.dtype}[${actual.shape}], expected ${expected.dtype}[${expected.shape}]`;
  if (sameBits(actual.data, expected.data)) return null;
  const { dtype } = expected;
  const floats = dtype === 'float32' || dtype === 'float64';
  let explained: ArrayLike<number> | null | undefined;
  for (let i = 0; i < expected.data.length; i++) {
    const [x, y] = [actual.data[i]!, expected.data[i]!];
    if (Object.is(x, y)) continue;
    const words = `element ${i} is ${Object.is(x, -0) ? '-0' : x}, expected ${Object.is(y, -0) ? '-0' : y}`;
    if (!floats || exact) return words;
    if (x === y) continue;
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      if (extreme) continue;
      return words;
    }
    const off = Math.abs(x - y);
    if (off <= ULPS[dtype] * EPS[dtype] * Math.abs(y) || off <= SMALLEST[dtype]) continue;
    if (extreme && !(Math.abs(y) < LARGE[dtype] && Math.abs(x) < LARGE[dtype])) continue;
    explained ??= allowed();
    const room = explained?.[i] ?? 0;
    if (off <= room || Number.isNaN(room) || room === Number.POSITIVE_INFINITY) continue;
    return `${words}, where rounding explains ${room.toExponential(2)}`;
  }
  return null;
}
