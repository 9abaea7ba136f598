/** Losses. `reduction` 'mean' (default) averages over the batch, 'sum' adds up. */

import {
  checkIndex,
  DTypeError,
  describe,
  labelCrossEntropy,
  owningIntermediates,
  promote,
  ShapeError,
  sameShape,
  squaredError,
  Tensor,
} from '@otimes/core';
import {
  aNumber,
  aTensor,
  checkArgument,
  checkOptions,
  defineBuiltIn,
  type OptionKinds,
  oneOf,
} from '@otimes/core/extend';

export type Reduction = 'mean' | 'sum';

const REDUCTION = { reduction: oneOf('mean', 'sum') };
const CROSS_ENTROPY = { ...REDUCTION, labelSmoothing: aNumber };

function checkLoss<O extends object>(
  op: string,
  x: Tensor,
  target: Tensor,
  o: O | undefined,
  kinds: OptionKinds<O>,
): void {
  if (!(x instanceof Tensor)) checkArgument(op, op === 'mseLoss' ? 'prediction' : 'logits', x, aTensor);
  if (!(target instanceof Tensor)) checkArgument(op, 'target', target, aTensor);
  checkOptions(op, o, kinds);
}

/**
 * Softmax cross-entropy −Σ_c p_c log softmax(logits)_c, averaged over the batch and any further axes.
 *
 * @param logits [batch, classes, …], the classes on axis 1 as in PyTorch
 * @param targets int32 labels [batch, …], or probabilities of the shape and dtype of the logits
 * @param o labelSmoothing ε (default 0): the target becomes (1−ε)·target + ε/classes
 * @throws RangeError for a label out of range, with its position; on a device that is read with await, the next read rejects
 */
export function crossEntropy(
  logits: Tensor,
  targets: Tensor,
  o?: { reduction?: Reduction; labelSmoothing?: number },
): Tensor {
  checkLoss('crossEntropy', logits, targets, o, CROSS_ENTROPY);
  const { reduction = 'mean', labelSmoothing = 0 } = o ?? {};
  if (logits.rank < 2 || logits.size === 0)
    throw new ShapeError(`crossEntropy: expected logits [batch, classes, …], got ${describe(logits)}`);
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
    throw new RangeError(`crossEntropy: expected 0 ≤ labelSmoothing ≤ 1, got ${labelSmoothing}`);
  const classes = logits.shape[1]!;
  if (labelSmoothing === 0 && logits.rank === 2 && targets.rank === 1)
    return owningIntermediates(() => hardCrossEntropy(logits, targets, reduction));
  return owningIntermediates(() => {
    const logP = logits.logSoftmax(1);
    const fit = logP.rank === targets.rank ? expectProbabilities : expectLabels;
    const likelihood = fit(logP, targets);
    const smooth = labelSmoothing === 0 ? likelihood : mix(likelihood, logP.sum(1), labelSmoothing, classes);
    return reduce(smooth.neg(), reduction);
  });
}

/** Σ_c p_c log P_c, [batch, …]. */
function expectProbabilities(logP: Tensor, p: Tensor): Tensor {
  if (!sameShape(p.shape, logP.shape) || !p.dtype.startsWith('float'))
    throw new ShapeError(`crossEntropy: expected probabilities like the logits, ${describe(logP)}, got ${describe(p)}`);
  return logP.mul(p).sum(1);
}

/** Labels [batch] for logits [batch, classes], as one kernel. */
function hardCrossEntropy(logits: Tensor, labels: Tensor, reduction: Reduction): Tensor {
  const floating = logits.dtype.startsWith('float') ? logits : logits.astype('float32');
  return labelCrossEntropy(floating, labels, scaleOf(reduction, labels.size));
}

const LAST_AXIS = '; the classes stand on axis 1: flatten to [batch, classes], or permute the last axis to there';

/** log P at the labels, [batch, …]. */
function expectLabels(logP: Tensor, labels: Tensor): Tensor {
  const shape = logP.shape.filter((_, i) => i !== 1);
  if (!sameShape(labels.shape, shape))
    throw new ShapeError(
      `crossEntropy: expected labels int32[${shape.join(',')}] for logits ${describe(logP)}, got ${describe(labels)}` +
        (sameShape(labels.shape, logP.shape.slice(0, -1)) ? LAST_AXIS : ''),
    );
  if (labels.dtype !== 'int32')
    throw new DTypeError(
      `crossEntropy: expected labels int32[${shape.join(',')}], got ${describe(labels)}; y.astype('int32') converts them`,
    );
  checkIndex('crossEntropy', labels, logP.shape[1]!, 'label');
  return logP.gather(1, labels.unsqueeze(1)).squeeze(1);
}

function mix(likelihood: Tensor, sumOfAll: Tensor, epsilon: number, classes: number): Tensor {
  return likelihood.mul(1 - epsilon).add(sumOfAll.mul(epsilon / classes));
}

function reduce(x: Tensor, reduction: Reduction): Tensor {
  return scaleOf(reduction, 0) === 1 ? x.sum() : x.mean();
}

/** The factor of a sum over `count` losses. */
function scaleOf(reduction: Reduction, count: number): number {
  return reduction === 'mean' ? 1 / count : 1;
}

function checkSame(name: string, x: Tensor, target: Tensor): void {
  if (!sameShape(x.shape, target.shape))
    throw new ShapeError(`${name}: expected a target like ${describe(x)}, got ${describe(target)}`);
}

/** (prediction − target)², averaged over all elements. */
export function mseLoss(prediction: Tensor, target: Tensor, o?: { reduction?: Reduction }): Tensor {
  checkLoss('mseLoss', prediction, target, o, REDUCTION);
  const { reduction = 'mean' } = o ?? {};
  checkSame('mseLoss', prediction, target);
  const scale = scaleOf(reduction, prediction.size);
  // Integers become float32, in which squares do not overflow.
  const dtype = promote(promote(prediction.dtype, target.dtype), 'float32');
  if (prediction.dtype === dtype && target.dtype === dtype) return squaredError(prediction, target, scale);
  return owningIntermediates(() => squaredError(prediction.astype(dtype), target.astype(dtype), scale));
}

/** log(1 + eˣ) = max(x, 0) + log(1 + e^−|x|). A separate operation, because the derivatives of max and |·| are wrong at 0. */
const softplus = /* @__PURE__ */ defineBuiltIn<null>({
  name: 'softplus',
  shape([x]) {
    if (!x!.dtype.startsWith('float'))
      throw new DTypeError(`bceWithLogits: expected floating logits, got ${describe(x!)}`);
    return { shape: x!.shape, dtype: x!.dtype };
  },
  forward(backend, [x], out) {
    const value = x!.detach();
    backend.binary('add', value.relu(), value.abs().neg().exp().log1p(), out);
  },
  backward: (gy, node) => [gy.mul(node.input(0).sigmoid())],
});

/**
 * −t log σ(x) − (1−t) log(1−σ(x)) for logits x and targets t, averaged over all elements; never overflows. Targets are
 * probabilities; values outside [0, 1] are not refused, as in PyTorch, and the loss may then be below 0.
 */
export function bceWithLogits(logits: Tensor, target: Tensor, o?: { reduction?: Reduction }): Tensor {
  checkLoss('bceWithLogits', logits, target, o, REDUCTION);
  const { reduction = 'mean' } = o ?? {};
  checkSame('bceWithLogits', logits, target);
  return owningIntermediates(() => reduce(softplus([logits], null).sub(logits.mul(target)), reduction));
}
