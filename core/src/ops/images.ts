/** What convolution and pooling take. */

import { isFloat } from '../dtype.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { checkTensors, type Tensor } from '../tensor.ts';

/** Throws unless `x` is a floating [N, C, H, W]. */
export function checkImages(op: string, x: Tensor): void {
  checkTensors(op, x);
  if (x.shape.length !== 4) throw new ShapeError(`${op}: expected an input [N, C, H, W], got ${describe(x)}`);
  if (!isFloat(x.dtype)) throw new DTypeError(`${op}: expected a floating tensor, got ${describe(x)}`);
}
