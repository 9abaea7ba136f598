/** What all losses share: their arguments, and how the losses of single elements become one. */

import { DTypeError, describe, ShapeError, sameShape, type Tensor } from '@otimes/core';
import { aTensor, checkArgument, checkFinite, checkOptions, type OptionKinds, oneOf } from '@otimes/core/extend';

/** The mean of all losses (default of most), their sum, or each for itself. */
export type Reduction = 'mean' | 'sum' | 'none';

export const REDUCTION = { reduction: oneOf('mean', 'sum', 'none') };

export function checkLoss<O extends object>(
  op: string,
  x: Tensor,
  target: Tensor,
  o: O | undefined,
  kinds: OptionKinds<O>,
  name = 'prediction',
): void {
  checkArgument(op, name, x, aTensor);
  checkArgument(op, 'target', target, aTensor);
  checkOptions(op, o, kinds);
}

export function checkSame(name: string, x: Tensor, target: Tensor): void {
  if (!sameShape(x.shape, target.shape))
    throw new ShapeError(`${name}: expected a target like ${describe(x)}, got ${describe(target)}`);
}

/** Losses as one. The mean is the sum over `count` where that is given. */
export function reduce(x: Tensor, reduction: Reduction = 'mean', count?: Tensor): Tensor {
  if (reduction === 'none') return x;
  if (reduction === 'sum') return x.sum();
  return count === undefined ? x.mean() : x.sum().div(count);
}

/** A weight in the dtype of x, broadcast to its shape; throws if that is another one. */
export function fitted(op: string, name: string, weight: Tensor, x: Tensor): Tensor {
  const lead = x.rank - weight.rank;
  if (lead < 0 || weight.shape.some((n, i) => n !== 1 && n !== x.shape[lead + i]))
    throw new ShapeError(`${op}: expected a ${name} that broadcasts to ${describe(x)}, got ${describe(weight)}`);
  return weight.astype(x.dtype).expand(x.shape);
}

/** Throws unless the losses are asked of floating numbers. */
export function checkFloating(op: string, name: string, x: Tensor): void {
  if (!x.dtype.startsWith('float')) throw new DTypeError(`${op}: expected floating ${name}, got ${describe(x)}`);
}

/** Throws for an element where `holds` is false; on a device that is read with await, the next read rejects. */
export function checkElements(op: string, holds: Tensor, expected: string): void {
  // 1/1, and 1/0 where it is false.
  checkFinite(
    holds.detach().astype('float32').reciprocal(),
    i => new RangeError(`${op}: expected ${expected}, got another value at position ${i}`),
  );
}

/** The labels of two classes that margins are about. */
export function checkSigns(op: string, y: Tensor): void {
  checkElements(op, y.abs().eq(1), 'targets −1 or 1; labels 0 and 1 become y.mul(2).sub(1)');
}
