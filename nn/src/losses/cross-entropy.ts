/** Losses of classes: cross-entropy of logits, and the negative log-likelihood of log-probabilities. */

import {
  checkIndex,
  DTypeError,
  describe,
  labelCrossEntropy,
  owningIntermediates,
  ShapeError,
  sameShape,
  type Tensor,
  where,
} from '@otimes/core';
import { aNumber, anInteger, aTensor } from '@otimes/core/extend';
import { checkLoss, REDUCTION, type Reduction, reduce } from './reduction.ts';

export type ClassLossOptions = {
  /** 'mean' (default): over the batch and any further axes, each weighed by the weight of its label; 'sum'; 'none': [batch, …]. */
  reduction?: Reduction;
  /** [classes], by which the terms of each class are multiplied; default ones. */
  weight?: Tensor;
  /**
   * Positions with this label count for nothing: neither in the sum nor in what the mean divides by. Default: there is none, and a
   * label out of range is an error (PyTorch skips −100). The mean of nothing is NaN.
   */
  ignoreIndex?: number;
};

const OPTIONS = { ...REDUCTION, weight: aTensor, ignoreIndex: anInteger };

/**
 * Softmax cross-entropy −Σ_c w_c p_c log softmax(logits)_c, averaged over the batch and any further axes. With labels the mean
 * divides by Σ w of the labels, with probabilities by their number, as in PyTorch.
 *
 * @param logits [batch, classes, …], the classes on axis 1 as in PyTorch
 * @param targets int32 labels [batch, …], or probabilities of the shape and dtype of the logits
 * @param o labelSmoothing ε (default 0): the target becomes (1−ε)·target + ε/classes; ignoreIndex is for labels
 * @throws RangeError for a label out of range, with its position; on a device that is read with await, the next read rejects
 */
export function crossEntropy(
  logits: Tensor,
  targets: Tensor,
  o: ClassLossOptions & { labelSmoothing?: number } = {},
): Tensor {
  checkLoss('crossEntropy', logits, targets, o, { ...OPTIONS, labelSmoothing: aNumber }, 'logits');
  const { reduction = 'mean', labelSmoothing = 0, weight, ignoreIndex } = o;
  if (logits.rank < 2 || logits.size === 0)
    throw new ShapeError(`crossEntropy: expected logits [batch, classes, …], got ${describe(logits)}`);
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
    throw new RangeError(`crossEntropy: expected 0 ≤ labelSmoothing ≤ 1, got ${labelSmoothing}`);
  const isPlain = labelSmoothing === 0 && (weight ?? ignoreIndex) === undefined && reduction !== 'none';
  return owningIntermediates(() =>
    isPlain && logits.rank === 2 && targets.rank === 1
      ? labelCrossEntropy(
          logits.dtype.startsWith('float') ? logits : logits.astype('float32'),
          targets,
          reduction === 'mean' ? 1 / targets.size : 1,
        )
      : logits.rank === targets.rank
        ? probabilityLoss(logits.logSoftmax(1), targets, o)
        : labelLoss('crossEntropy', logits.logSoftmax(1), targets, o),
  );
}

/**
 * Negative log-likelihood −w_y logP_y of labels y, averaged as `crossEntropy` is, which is this of `logits.logSoftmax(1)`.
 *
 * @param logP [batch, classes, …], or [classes] with one label
 * @param labels int32 [batch, …]
 * @throws RangeError for a label out of range, as `crossEntropy`
 */
export function nllLoss(logP: Tensor, labels: Tensor, o: ClassLossOptions = {}): Tensor {
  checkLoss('nllLoss', logP, labels, o, OPTIONS, 'logP');
  if (logP.rank < 2 || !logP.dtype.startsWith('float'))
    throw new ShapeError(
      `nllLoss: expected floating log-probabilities [batch, classes, …], got ${describe(logP)}; the classes stand on axis 1`,
    );
  return owningIntermediates(() => labelLoss('nllLoss', logP, labels, o));
}

type MixedOptions = ClassLossOptions & { labelSmoothing?: number };

/** log P [batch, classes, …] times the weights of the classes. */
function weighed(op: string, logP: Tensor, { weight }: ClassLossOptions): Tensor {
  if (weight === undefined) return logP;
  const classes = logP.shape[1]!;
  if (!sameShape(weight.shape, [classes]))
    throw new ShapeError(
      `${op}: expected a weight [${classes}], one for each class on axis 1, got ${describe(weight)}`,
    );
  return logP.mul(weight.astype(logP.dtype).reshape([classes, ...logP.shape.slice(2).fill(1)]));
}

/** −(1−ε) times what the target says, and −ε times the mean of all classes. */
function smoothed(likelihood: Tensor, all: Tensor, { labelSmoothing: epsilon = 0 }: MixedOptions): Tensor {
  return (epsilon === 0 ? likelihood : likelihood.mul(1 - epsilon).add(all.sum(1).mul(epsilon / all.shape[1]!))).neg();
}

/** −Σ_c w_c p_c log P_c. */
function probabilityLoss(logP: Tensor, p: Tensor, o: MixedOptions): Tensor {
  if (!sameShape(p.shape, logP.shape) || !p.dtype.startsWith('float'))
    throw new ShapeError(`crossEntropy: expected probabilities like the logits, ${describe(logP)}, got ${describe(p)}`);
  if (o.ignoreIndex !== undefined)
    throw new TypeError(
      'crossEntropy: expected labels beside ignoreIndex, got probabilities; a row of zeros counts as loss 0',
    );
  const all = weighed('crossEntropy', logP, o);
  return reduce(smoothed(all.mul(p).sum(1), all, o), o.reduction);
}

const LAST_AXIS = '; the classes stand on axis 1: flatten to [batch, classes], or permute the last axis to there';

/** −w_y log P_y of labels y [batch, …]. */
function labelLoss(op: string, logP: Tensor, labels: Tensor, o: MixedOptions): Tensor {
  const shape = logP.shape.filter((_, i) => i !== 1);
  const expected = `${op}: expected labels int32[${shape}]`;
  if (!sameShape(labels.shape, shape))
    throw new ShapeError(
      `${expected} for classes on axis 1 of ${describe(logP)}, got ${describe(labels)}` +
        (sameShape(labels.shape, logP.shape.slice(0, -1)) ? LAST_AXIS : ''),
    );
  if (labels.dtype !== 'int32')
    throw new DTypeError(`${expected}, got ${describe(labels)}; y.astype('int32') converts them`);
  const { reduction, weight, ignoreIndex } = o;
  const ignored = ignoreIndex === undefined ? null : labels.eq(ignoreIndex);
  const index = ignored === null ? labels : where(ignored, 0, labels);
  checkIndex(op, index, logP.shape[1]!, 'label');
  const all = weighed(op, logP, o);
  const losses = smoothed(all.gather(1, index.unsqueeze(1)).squeeze(1), all, o);
  const weights = weight?.astype(logP.dtype).indexSelect(0, index.reshape(-1)).reshape(shape);
  if (ignored === null) return reduce(losses, reduction, weights?.sum());
  return reduce(where(ignored, 0, losses), reduction, where(ignored, 0, weights ?? 1, logP).sum());
}
