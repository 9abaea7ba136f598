/** Losses of numbers: squares, magnitudes, and what lies between the two. */

import { DTypeError, describe, owningIntermediates, promote, squaredError, type Tensor } from '@otimes/core';
import type { Kind } from '@otimes/core/extend';
import { checkLoss, checkSame, REDUCTION, type Reduction, reduce } from './reduction.ts';

/** (prediction − target)², averaged over all elements. */
export function mseLoss(prediction: Tensor, target: Tensor, o: { reduction?: Reduction } = {}): Tensor {
  checkLoss('mseLoss', prediction, target, o, REDUCTION);
  const { reduction = 'mean' } = o;
  checkSame('mseLoss', prediction, target);
  // Integers become float32, in which squares do not overflow.
  const dtype = promote(promote(prediction.dtype, target.dtype), 'float32');
  if (reduction === 'none')
    return owningIntermediates(() => prediction.astype(dtype).sub(target.astype(dtype)).square());
  const scale = reduction === 'mean' ? 1 / prediction.size : 1;
  if (prediction.dtype === dtype && target.dtype === dtype) return squaredError(prediction, target, scale);
  return owningIntermediates(() => squaredError(prediction.astype(dtype), target.astype(dtype), scale));
}

/** prediction − target; integers become float32. */
function difference(op: string, prediction: Tensor, target: Tensor): Tensor {
  checkSame(op, prediction, target);
  if (prediction.dtype === 'bool' || target.dtype === 'bool')
    throw new DTypeError(`${op}: expected numbers, got ${describe(prediction)} and ${describe(target)}`);
  return prediction.astype(promote(prediction.dtype, 'float32')).sub(target);
}

/** |prediction − target|, averaged over all elements. The gradient where both are equal is 0. */
export function l1Loss(prediction: Tensor, target: Tensor, o: { reduction?: Reduction } = {}): Tensor {
  checkLoss('l1Loss', prediction, target, o, REDUCTION);
  return owningIntermediates(() => reduce(difference('l1Loss', prediction, target).abs(), o.reduction));
}

const aBeta: Kind = {
  expected: 'a number ≥ 0',
  is: v => typeof v === 'number' && v >= 0 && v < Infinity,
  error: RangeError,
};
const aDelta: Kind = {
  expected: 'a number above 0',
  is: v => typeof v === 'number' && v > 0 && v < Infinity,
  error: RangeError,
};

/** ½ d² for |d| ≤ δ, and δ (|d| − ½ δ) beyond. */
function huber(d: Tensor, delta: number): Tensor {
  const size = d.abs();
  const inner = size.clamp(0, delta);
  return inner.mul(size.sub(inner.mul(0.5)));
}

/**
 * ½ d²/β for |d| < β, else |d| − ½ β, with d = prediction − target (Girshick 2015, eq. 3), averaged over all elements; β 0 is `l1Loss`.
 *
 * @param o beta: β, in the unit of the prediction, default 1
 */
export function smoothL1Loss(
  prediction: Tensor,
  target: Tensor,
  o: { reduction?: Reduction; beta?: number } = {},
): Tensor {
  checkLoss('smoothL1Loss', prediction, target, o, { ...REDUCTION, beta: aBeta });
  const { beta = 1, reduction } = o;
  return owningIntermediates(() => {
    const d = difference('smoothL1Loss', prediction, target);
    return reduce(beta === 0 ? d.abs() : huber(d, beta).div(beta), reduction);
  });
}

/**
 * ½ d² for |d| ≤ δ, else δ (|d| − ½ δ), with d = prediction − target (Huber 1964), averaged over all elements.
 *
 * @param o delta: δ, in the unit of the prediction, default 1
 */
export function huberLoss(
  prediction: Tensor,
  target: Tensor,
  o: { reduction?: Reduction; delta?: number } = {},
): Tensor {
  checkLoss('huberLoss', prediction, target, o, { ...REDUCTION, delta: aDelta });
  return owningIntermediates(() =>
    reduce(huber(difference('huberLoss', prediction, target), o.delta ?? 1), o.reduction),
  );
}
