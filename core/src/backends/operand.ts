/** Other layouts over the memory of an operand. */

import { contiguousStrides, type Shape } from '../shape.ts';
import type { Operand } from './backend.ts';

/** The same storage seen with another layout. */
export function withLayout(
  { storage, dtype, offset: start }: Operand,
  shape: Shape,
  strides: readonly number[] = contiguousStrides(shape),
  offset: number = start,
): Operand {
  return { storage, dtype, shape, strides, offset };
}

/** A matrix [M, N] as [N, M]. */
export function transposed(x: Operand): Operand {
  return withLayout(x, [x.shape[1]!, x.shape[0]!], [x.strides[1]!, x.strides[0]!]);
}

/** A bias [O] as it broadcasts to images [N, O, H, W]. */
export function perChannel(bias: Operand): Operand {
  return withLayout(bias, [bias.shape[0]!, 1, 1], [bias.strides[0]!, 0, 0]);
}
