/** Losses that are 0 beyond a margin. Targets of two classes are −1 and 1. */

import { arange, checkIndex, describe, owningIntermediates, ShapeError, type Tensor, where } from '@otimes/core';
import { aNumber, aTensor, checkArgument, type Kind } from '@otimes/core/extend';
import { checkFloating, checkLoss, checkSame, checkSigns, REDUCTION, type Reduction, reduce } from './reduction.ts';

const MARGIN = { ...REDUCTION, margin: aNumber };

type MarginOptions = {
  reduction?: Reduction;
  /** In the unit of the prediction. */
  margin?: number;
};

/**
 * max(0, margin − y x) for y = ±1, averaged over all elements: the loss of support vector machines (Cortes & Vapnik 1995). Margin 1.
 *
 * @throws RangeError for a target that is not −1 or 1; on a device that is read with await, the next read rejects
 */
export function hingeLoss(x: Tensor, target: Tensor, o: MarginOptions = {}): Tensor {
  checkLoss('hingeLoss', x, target, o, MARGIN, 'x');
  checkSame('hingeLoss', x, target);
  checkFloating('hingeLoss', 'predictions', x);
  return owningIntermediates(() => {
    checkSigns('hingeLoss', target);
    return reduce(
      x
        .mul(target)
        .neg()
        .add(o.margin ?? 1)
        .clamp(0),
      o.reduction,
    );
  });
}

/** x where y = 1, max(0, margin − x) where y = −1, for distances x, averaged over all elements. Margin 1. Throws as `hingeLoss`. */
export function hingeEmbeddingLoss(x: Tensor, target: Tensor, o: MarginOptions = {}): Tensor {
  checkLoss('hingeEmbeddingLoss', x, target, o, MARGIN, 'x');
  checkSame('hingeEmbeddingLoss', x, target);
  checkFloating('hingeEmbeddingLoss', 'distances', x);
  return owningIntermediates(() => {
    checkSigns('hingeEmbeddingLoss', target);
    return reduce(
      where(
        target.eq(1),
        x,
        x
          .neg()
          .add(o.margin ?? 1)
          .clamp(0),
      ),
      o.reduction,
    );
  });
}

/** max(0, margin − y (x1 − x2)): y = 1 wants x1 to be larger, −1 x2. Averaged over all elements. Margin 0. Throws as `hingeLoss`. */
export function marginRankingLoss(x1: Tensor, x2: Tensor, target: Tensor, o: MarginOptions = {}): Tensor {
  checkLoss('marginRankingLoss', x1, target, o, MARGIN, 'x1');
  checkArgument('marginRankingLoss', 'x2', x2, aTensor);
  checkSame('marginRankingLoss', x1, x2);
  checkSame('marginRankingLoss', x1, target);
  checkFloating('marginRankingLoss', 'scores', x1);
  return owningIntermediates(() => {
    checkSigns('marginRankingLoss', target);
    return reduce(
      x1
        .sub(x2)
        .mul(target)
        .neg()
        .add(o.margin ?? 0)
        .clamp(0),
      o.reduction,
    );
  });
}

const anExponent: Kind = { expected: '1 or 2', is: v => v === 1 || v === 2, error: RangeError };

/**
 * Σ_{i ≠ y} w_y max(0, margin − x_y + x_i)^p / classes, averaged over the batch.
 *
 * @param x scores [batch, classes]
 * @param labels int32 [batch]
 * @param o p: 1 (default) or 2; margin: default 1; weight: w [classes], default ones
 */
export function multiMarginLoss(
  x: Tensor,
  labels: Tensor,
  o: MarginOptions & { p?: 1 | 2; weight?: Tensor } = {},
): Tensor {
  checkLoss('multiMarginLoss', x, labels, o, { ...MARGIN, p: anExponent, weight: aTensor }, 'x');
  checkFloating('multiMarginLoss', 'scores', x);
  const { reduction, p = 1, margin = 1, weight } = o;
  const [batch, classes] = x.shape;
  if (x.rank !== 2 || x.size === 0)
    throw new ShapeError(`multiMarginLoss: expected scores [batch, classes], got ${describe(x)}`);
  if (labels.rank !== 1 || labels.shape[0] !== batch)
    throw new ShapeError(`multiMarginLoss: expected labels int32[${batch}], got ${describe(labels)}`);
  if (weight !== undefined && (weight.rank !== 1 || weight.shape[0] !== classes))
    throw new ShapeError(`multiMarginLoss: expected a weight [${classes}], got ${describe(weight)}`);
  checkIndex('multiMarginLoss', labels, classes!, 'label');
  return owningIntermediates(() => {
    const column = labels.unsqueeze(1);
    const over = x.sub(x.gather(1, column)).add(margin).relu();
    const own = arange(0, classes!, 1, { device: x.device }).eq(column);
    const losses = where(own, 0, p === 1 ? over : over.square())
      .sum(1)
      .div(classes!);
    return reduce(weight === undefined ? losses : losses.mul(weight.astype(x.dtype).indexSelect(0, labels)), reduction);
  });
}
