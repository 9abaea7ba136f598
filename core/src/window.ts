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
  return tupleOf<Pair>(op, name, value, least, 2);
}

/** Rows and columns of what stands for each axis, the last of which are those. */
export const lastTwo = (all: readonly number[]): Pair => [all.at(-2)!, all.at(-1)!];

const TUPLES = ['', 'an array of one', 'a pair of them', 'three of them'];

/** A number for each of 1 to 3 axes, or an array with one for each. Throws unless all are integers from `least` to 2²⁹. */
export function tupleOf<Sizes extends readonly number[]>(
  op: string,
  name: string,
  value: number | Sizes,
  least: number,
  axes: number,
): Sizes {
  const all: readonly number[] = typeof value === 'number' ? new Array<number>(axes).fill(value) : value;
  const most = Array.isArray(all) && all.some(n => n > MOST) ? ' and ≤ 2²⁹' : '';
  if (!Array.isArray(all) || all.length !== axes || most !== '' || !all.every(n => Number.isInteger(n) && n >= least))
    throw new RangeError(
      `${op}: expected ${name} to be an integer ≥ ${least}${most} or ${TUPLES[axes]}, got ${received(value)}`,
    );
  return [...all] as readonly number[] as Sizes;
}

/** Whether it is sound is for `pairOf` to say. */
const isTuple = (v: unknown) => typeof v === 'number' || Array.isArray(v);
const aPair: Kind = { expected: 'an integer or a pair of them', is: isTuple };
/** An integer, or one for each of 1 to 3 axes. */
export const aTuple = (axes: number): Kind => ({ expected: `an integer or ${TUPLES[axes]}`, is: isTuple });
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
export function windowsIn(op: string, plane: Pair, window: Window): Pair {
  return lastTwo(placesIn(op, plane, window));
}

/** A window along 1 to 3 axes. */
export type Windows = { readonly [Key in keyof Window]: readonly number[] };

/** The same along each of 1 to 3 axes, the last of which are those of a plane. */
export function placesIn(
  op: string,
  sizes: readonly number[],
  { kernel, stride, padding, dilation }: Windows,
): number[] {
  return sizes.map((size, axis) => {
    const span = dilation[axis]! * (kernel[axis]! - 1) + 1;
    const room = size + 2 * padding[axis]!;
    if (span > room) {
      const [where, what] = [
        ['a row', 'a plane', 'a volume'][sizes.length - 1],
        ['columns', 'rows', 'slices'][sizes.length - 1 - axis],
      ];
      throw new ShapeError(
        `${op}: a kernel ${kernel.join('×')} with dilation ${dilation.join('×')} does not fit into ${where} ` +
          `${sizes.join('×')} with padding ${padding.join('×')}: ${span} ${what} in ${room}`,
      );
    }
    return Math.floor((room - span) / stride[axis]!) + 1;
  });
}
