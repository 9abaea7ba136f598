/** Windows that slide over the planes of images [N, C, H, W]: where they stand, and how many fit. */

import { type Kind, received } from './check.ts';
import { ShapeError } from './errors.ts';

/** Rows and columns. */
export type Pair = readonly [rows: number, columns: number];

/** `kernel` taps, `dilation` apart, at every `stride`-th position of a plane with `padding` zeros on each side. */
export type Window = {
  readonly kernel: Pair;
  readonly stride: Pair;
  readonly padding: Pair;
  readonly dilation: Pair;
};

/** Each in positions, one number or [rows, columns]: `stride` and `dilation` default to 1, `padding` to 0. */
export type WindowOptions = { stride?: number | Pair; padding?: number | Pair; dilation?: number | Pair };

/** The most that a pair may say: a plane with such padding, and a stride beyond, are positions that int32 holds. */
const MOST = 2 ** 29;

/** A number for both, or the pair itself. Throws unless both are integers from `least` to 2²⁹. */
export function pairOf(op: string, name: string, value: number | Pair, least: number): Pair {
  const pair: Pair = typeof value === 'number' ? [value, value] : value;
  const most = Array.isArray(pair) && pair.some(n => n > MOST) ? ' and ≤ 2²⁹' : '';
  if (!Array.isArray(pair) || pair.length !== 2 || most !== '' || !pair.every(n => Number.isInteger(n) && n >= least))
    throw new RangeError(
      `${op}: expected ${name} to be an integer ≥ ${least}${most} or a pair of them, got ${received(value)}`,
    );
  return [pair[0], pair[1]];
}

/** Whether it is sound is for `pairOf` to say. */
const aPair: Kind = { expected: 'an integer or a pair of them', is: v => typeof v === 'number' || Array.isArray(v) };
/** The kinds of WindowOptions. */
export const WINDOW = { stride: aPair, padding: aPair, dilation: aPair };

export function windowOf(op: string, kernel: number | Pair, o: WindowOptions): Window {
  return {
    kernel: pairOf(op, 'kernel', kernel, 1),
    stride: pairOf(op, 'stride', o.stride ?? 1, 1),
    padding: pairOf(op, 'padding', o.padding ?? 0, 0),
    dilation: pairOf(op, 'dilation', o.dilation ?? 1, 1),
  };
}

/** How many windows fit into a plane: ⌊(size + 2·padding − dilation·(kernel−1) − 1) / stride⌋ + 1, at least one. */
export function windowsIn(op: string, plane: Pair, { kernel, stride, padding, dilation }: Window): Pair {
  const along = (axis: 0 | 1) => {
    const span = dilation[axis] * (kernel[axis] - 1) + 1;
    const room = plane[axis] + 2 * padding[axis];
    if (span > room)
      throw new ShapeError(
        `${op}: a kernel ${kernel.join('×')} with dilation ${dilation.join('×')} does not fit into a plane ` +
          `${plane.join('×')} with padding ${padding.join('×')}: ${span} ${axis === 0 ? 'rows' : 'columns'} in ${room}`,
      );
    return Math.floor((room - span) / stride[axis]) + 1;
  };
  return [along(0), along(1)];
}
