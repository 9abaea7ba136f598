/** Operands over memory, and other layouts over the memory of an operand. */

import type { DType } from '../dtype.ts';
import { contiguousStrides, type Shape, sizeOf } from '../shape.ts';
import { allocate } from '../storage.ts';
import type { Backend, Operand } from './backend.ts';

/** Contiguous memory of a device, with any content. */
export function emptyOperand(device: Backend, dtype: DType, shape: Shape): Operand {
  const storage = allocate(device, dtype, sizeOf(shape));
  return { storage, dtype, shape, strides: contiguousStrides(shape), offset: 0 };
}

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
