/** Losses of vectors that are to be near to each other or far apart. */

import {
  describe,
  owningIntermediates,
  pairwiseDistance,
  ShapeError,
  sameShape,
  type Tensor,
  where,
} from '@otimes/core';
import { aBoolean, aNormOrder, aNumber, anEps, aTensor, checkArgument } from '@otimes/core/extend';
import { checkFloating, checkLoss, checkSame, checkSigns, REDUCTION, type Reduction, reduce } from './reduction.ts';

/**
 * 1 − cos(x1, x2) where y = 1, max(0, cos(x1, x2) − margin) where y = −1, averaged over the batch.
 *
 * @param x1 [batch, dim] or [dim], as x2
 * @param target [batch] or a scalar, −1 or 1
 * @param o margin: default 0
 * @throws RangeError for a target that is not −1 or 1; on a device that is read with await, the next read rejects
 */
export function cosineEmbeddingLoss(
  x1: Tensor,
  x2: Tensor,
  target: Tensor,
  o: { reduction?: Reduction; margin?: number } = {},
): Tensor {
  checkLoss('cosineEmbeddingLoss', x1, target, o, { ...REDUCTION, margin: aNumber }, 'x1');
  checkArgument('cosineEmbeddingLoss', 'x2', x2, aTensor);
  checkSame('cosineEmbeddingLoss', x1, x2);
  checkFloating('cosineEmbeddingLoss', 'vectors', x1);
  if ((x1.rank !== 1 && x1.rank !== 2) || !sameShape(target.shape, x1.shape.slice(0, -1)))
    throw new ShapeError(
      `cosineEmbeddingLoss: expected vectors [batch, dim] and targets [batch], got ${describe(x1)} and ${describe(target)}`,
    );
  return owningIntermediates(() => {
    checkSigns('cosineEmbeddingLoss', target);
    const energy = (x: Tensor) => x.square().sum(-1).add(1e-12);
    const cos = x1
      .mul(x2)
      .sum(-1)
      .div(energy(x1).mul(energy(x2)).sqrt());
    return reduce(where(target.eq(1), cos.neg().add(1), cos.sub(o.margin ?? 0).clamp(0)), o.reduction);
  });
}

/**
 * max(0, d(anchor, positive) − d(anchor, negative) + margin), with d the p-norm of `pairwiseDistance`, averaged over all but the last axis
 * (Balntas et al. 2016).
 *
 * @param anchor [..., dim], as positive and negative
 * @param o margin: default 1; p: default 2; eps: default 1e-6; swap (default false): d(positive, negative) takes the place of
 * d(anchor, negative) where it is smaller
 */
export function tripletMarginLoss(
  anchor: Tensor,
  positive: Tensor,
  negative: Tensor,
  o: { reduction?: Reduction; margin?: number; p?: number; eps?: number; swap?: boolean } = {},
): Tensor {
  const kinds = { ...REDUCTION, margin: aNumber, p: aNormOrder, eps: anEps, swap: aBoolean };
  checkLoss('tripletMarginLoss', anchor, positive, o, kinds, 'anchor');
  checkArgument('tripletMarginLoss', 'negative', negative, aTensor);
  checkSame('tripletMarginLoss', anchor, positive);
  checkSame('tripletMarginLoss', anchor, negative);
  const { reduction, margin = 1, p = 2, eps = 1e-6, swap = false } = o;
  return owningIntermediates(() => {
    const distance = (a: Tensor, b: Tensor) => pairwiseDistance(a, b, { p, eps });
    const far = distance(anchor, negative);
    const near = distance(anchor, positive).sub(swap ? far.minimum(distance(positive, negative)) : far);
    return reduce(near.add(margin).clamp(0), reduction);
  });
}
