/** Losses of two classes: binary cross-entropy of probabilities and of logits. */

import { owningIntermediates, softplus, type Tensor } from '@otimes/core';
import { aTensor, defineBuiltIn } from '@otimes/core/extend';
import {
  checkElements,
  checkFloating,
  checkLoss,
  checkSame,
  fitted,
  REDUCTION,
  type Reduction,
  reduce,
} from './reduction.ts';

/** log(1 + eˣ) for x of any size. */
const logOnePlusExp = (x: Tensor) => softplus(x, { threshold: Infinity });

/**
 * −t log σ(x) − (1−t) log(1−σ(x)) for logits x and targets t, averaged over all elements; never overflows. Targets are
 * probabilities; values outside [0, 1] are not refused, as in PyTorch, and the loss may then be below 0.
 *
 * @param o weight: by which elements are multiplied, broadcast to the logits; the mean still divides by their number. posWeight: by
 * which the term of t alone is multiplied, broadcast likewise: [classes] for logits [batch, classes]. Default both ones
 */
export function bceWithLogits(
  logits: Tensor,
  target: Tensor,
  o: { reduction?: Reduction; weight?: Tensor; posWeight?: Tensor } = {},
): Tensor {
  checkLoss('bceWithLogits', logits, target, o, { ...REDUCTION, weight: aTensor, posWeight: aTensor }, 'logits');
  checkSame('bceWithLogits', logits, target);
  checkFloating('bceWithLogits', 'logits', logits);
  const { reduction, weight, posWeight } = o;
  return owningIntermediates(() => {
    const losses =
      posWeight === undefined
        ? logOnePlusExp(logits).sub(logits.mul(target))
        : // (1−t) x + (1 + (w−1) t) log(1 + e^−x)
          logOnePlusExp(logits.neg())
            .mul(fitted('bceWithLogits', 'posWeight', posWeight, logits).sub(1).mul(target).add(1))
            .add(logits.mul(target.mul(-1).add(1)));
    return reduce(
      weight === undefined ? losses : losses.mul(fitted('bceWithLogits', 'weight', weight, logits)),
      reduction,
    );
  });
}

/** −t max(log p, −100) − (1−t) max(log(1−p), −100), with PyTorch's gradient (p−t) / max(p (1−p), 1e−12) by p. */
const binaryEntropy = /* @__PURE__ */ defineBuiltIn<null>({
  name: 'bceLoss',
  shape: ([p]) => ({ shape: p!.shape, dtype: p!.dtype }),
  forward(backend, [p, t], out) {
    const [likelihood, target] = [logOdds(p!.detach()), t!.detach()];
    backend.binary('sub', target.sub(1).mul(likelihood.no), target.mul(likelihood.yes), out);
  },
  backward(gy, node) {
    const [p, t] = [node.input(0), node.input(1)];
    const { yes, no } = logOdds(p);
    const variance = p.mul(p.neg().add(1)).clamp(LEAST_VARIANCE);
    return [node.needs(0) ? gy.mul(p.sub(t)).div(variance) : null, node.needs(1) ? gy.mul(no.sub(yes)) : null];
  },
});

/** 1e−12 as PyTorch has it, in float32. */
const LEAST_VARIANCE = Math.fround(1e-12);

const logOdds = (p: Tensor) => ({ yes: p.log().clamp(-100), no: p.neg().log1p().clamp(-100) });

/**
 * −t log p − (1−t) log(1−p) for probabilities p and targets t, averaged over all elements. Logarithms are at least −100, as in PyTorch.
 * `bceWithLogits` is more accurate where p comes out of a sigmoid.
 *
 * @param o weight: by which elements are multiplied, broadcast to p; the mean still divides by their number
 * @throws RangeError for a p outside [0, 1] or NaN; on a device that is read with await, the next read rejects
 */
export function bceLoss(p: Tensor, target: Tensor, o: { reduction?: Reduction; weight?: Tensor } = {}): Tensor {
  checkLoss('bceLoss', p, target, o, { ...REDUCTION, weight: aTensor }, 'p');
  checkSame('bceLoss', p, target);
  checkFloating('bceLoss', 'probabilities', p);
  return owningIntermediates(() => {
    checkElements('bceLoss', p.ge(0).logicalAnd(p.le(1)), 'probabilities in [0, 1]');
    const losses = binaryEntropy([p, target.astype(p.dtype)], null);
    return reduce(o.weight === undefined ? losses : losses.mul(fitted('bceLoss', 'weight', o.weight, p)), o.reduction);
  });
}
