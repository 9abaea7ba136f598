/** Conversion between dtypes. */

import { aDType, checkArgument } from '../check.ts';
import type { DType } from '../dtype.ts';
import { defineOp } from '../op.ts';
import type { Tensor } from '../tensor.ts';

/** Makes a new tensor, also where the dtype stays. */
export const castOp = defineOp<DType>({
  name: 'astype',
  shape: ([x], dtype) => ({ shape: x!.shape, dtype }),
  forward: (backend, [x], out) => backend.copy(x!, out),
  backward: (gy, { inputs }) => [cast(gy, inputs[0]!.dtype)],
});

/** `x` in another dtype; `x` itself if it has it already. */
export function cast(x: Tensor, dtype: DType): Tensor {
  if (x.dtype === dtype) return x;
  checkArgument('astype', 'dtype', dtype, aDType);
  return castOp([x], dtype);
}
