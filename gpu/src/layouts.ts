/** Layouts as kernels take them. */

import type { Operand } from '@otimes/core';

export type Layout = Pick<Operand, 'shape' | 'strides' | 'offset'>;

export const sizeOf = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

export function contiguousStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i]!;
  }
  return strides;
}

export function isContiguous({ shape, strides }: Layout): boolean {
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== step) return false;
    step *= shape[i]!;
  }
  return true;
}

/** The strides of operands broadcast to `shape`, with axes joined along which all go on evenly; axes of length 1 are left out. */
export function joined(
  shape: readonly number[],
  operands: readonly Layout[],
): { shape: number[]; strides: number[][] } {
  const lengths: number[] = [];
  const strides: number[][] = operands.map(() => []);
  for (let axis = 0; axis < shape.length; axis++) {
    if (shape[axis] === 1) continue;
    const own = operands.map(x => {
      const at = axis - shape.length + x.shape.length;
      return at < 0 || x.shape[at] === 1 ? 0 : x.strides[at]!;
    });
    const last = lengths.length - 1;
    if (last >= 0 && own.every((s, k) => strides[k]![last] === s * shape[axis]!)) {
      lengths[last]! *= shape[axis]!;
      own.forEach((s, k) => {
        strides[k]![last] = s;
      });
    } else {
      lengths.push(shape[axis]!);
      own.forEach((s, k) => {
        strides[k]!.push(s);
      });
    }
  }
  return { shape: lengths, strides };
}

/** `values` with `fill` in front, to n entries. */
export function led(values: readonly number[], n: number, fill: number): number[] {
  if (values.length > n)
    throw new RangeError(`gpu: expected operands of at most ${n} axes that do not join, got ${values.length}`);
  return [...new Array<number>(n - values.length).fill(fill), ...values];
}
