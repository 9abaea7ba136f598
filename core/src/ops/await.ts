/** Values that decide what an operation returns: read at once, or with await where the device is read so. */

import type { TypedArray } from '../dtype.ts';
import type { Tensor } from '../tensor.ts';
import { readsLater } from '../values.ts';

/** The elements of `x`, in row-major order. A TypeError that names the form with await, where `x` can only be read so. */
export function readNow(op: string, x: Tensor): TypedArray {
  if (readsLater(x))
    throw new TypeError(
      `${op}: its result depends on values, and tensors on '${x.device}' are read with await: await ${op}Async(…)`,
    );
  return x.dataSync();
}
