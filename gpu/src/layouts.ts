/** Layouts as kernels take them. */

import type { Operand } from '@otimes/core';
import { mergedAxes, pathTo } from '@otimes/core/extend';

type Layout = Pick<Operand, 'shape' | 'strides' | 'offset'>;

/** The axes of a walk over `shape`, and along them the strides of operands that are broadcast to it. */
export const joined = (shape: readonly number[], operands: readonly Layout[]) =>
  mergedAxes(
    shape,
    operands.map(x => pathTo(x, shape)),
  );

/** `values` with `fill` in front, to n entries. */
export function led(values: readonly number[], n: number, fill: number): number[] {
  if (values.length > n)
    throw new RangeError(`gpu: expected operands of at most ${n} axes that do not join, got ${values.length}`);
  return [...new Array<number>(n - values.length).fill(fill), ...values];
}
