/** Losses of distributions: Kullback–Leibler divergence, and the negative log-likelihood of counts and of normal numbers. */

import { describe, owningIntermediates, ShapeError, sameShape, type Tensor, where } from '@otimes/core';
import { aBoolean, anEps, aTensor, checkArgument, oneOf } from '@otimes/core/extend';
import { checkElements, checkFloating, checkLoss, checkSame, REDUCTION, type Reduction, reduce } from './reduction.ts';

/**
 * The divergence Σ p (log p − log q) of target p from log q, element by element, with 0 log 0 = 0.
 *
 * @param logQ log-probabilities, of `logSoftmax` say
 * @param target probabilities p of the same shape; with logTarget their logarithms
 * @param o reduction: 'mean' (default) over all elements, as in PyTorch; 'batchmean' divides by the length of axis 0, which is the
 * divergence of distributions [batch, classes]; 'sum'; 'none'. logTarget: default false
 */
export function klDivLoss(
  logQ: Tensor,
  target: Tensor,
  o: { reduction?: Reduction | 'batchmean'; logTarget?: boolean } = {},
): Tensor {
  const kinds = { reduction: oneOf('mean', 'batchmean', 'sum', 'none'), logTarget: aBoolean };
  checkLoss('klDivLoss', logQ, target, o, kinds, 'logQ');
  checkSame('klDivLoss', logQ, target);
  checkFloating('klDivLoss', 'log-probabilities', logQ);
  const { reduction, logTarget = false } = o;
  if (reduction === 'batchmean' && logQ.rank === 0)
    throw new ShapeError(`klDivLoss: expected a batch on axis 0 for 'batchmean', got ${describe(logQ)}`);
  return owningIntermediates(() => {
    const none = logTarget ? target.eq(-Infinity) : target.eq(0);
    const p = where(none, logTarget ? 0 : 1, target);
    // Where p is 0 the term is, and its gradient by log q too.
    const terms = where(none, 0, logTarget ? p.exp().mul(p.sub(logQ)) : p.mul(p.log().sub(logQ)));
    return reduction === 'batchmean' ? terms.sum().div(logQ.shape[0]!) : reduce(terms, reduction);
  });
}

/**
 * The negative log-likelihood of counts t under a Poisson distribution, without its constant log t!.
 *
 * @param x the logarithm of the rate, or with logInput false the rate
 * @param o logInput: default true, eˣ − t x; else x − t log(x + eps), with eps 1e-8 by default. full (default false) adds Stirling's
 * approximation of log t!, t log t − t + ½ log 2πt, where t > 1
 */
export function poissonNllLoss(
  x: Tensor,
  target: Tensor,
  o: { reduction?: Reduction; logInput?: boolean; full?: boolean; eps?: number } = {},
): Tensor {
  const kinds = { ...REDUCTION, logInput: aBoolean, full: aBoolean, eps: anEps };
  checkLoss('poissonNllLoss', x, target, o, kinds, 'x');
  checkSame('poissonNllLoss', x, target);
  checkFloating('poissonNllLoss', 'rates', x);
  const { reduction, logInput = true, full = false, eps = 1e-8 } = o;
  return owningIntermediates(() => {
    const t = target.astype(x.dtype);
    const losses = logInput ? x.exp().sub(t.mul(x)) : x.sub(t.mul(x.add(eps).log()));
    return reduce(full ? losses.add(stirling(t)) : losses, reduction);
  });
}

function stirling(t: Tensor): Tensor {
  const large = t.gt(1);
  const n = where(large, t, 1);
  return where(
    large,
    n
      .mul(n.log())
      .sub(n)
      .add(
        n
          .mul(2 * Math.PI)
          .log()
          .mul(0.5),
      ),
    0,
  );
}

/**
 * ½ (log v + (x − t)² / v), the negative log-likelihood of t under a normal distribution of mean x and variance v (Nix & Weigend 1994).
 *
 * @param variance v ≥ 0: the shape of x, or without its last axis, or that with length 1
 * @param o eps: the least v, default 1e-6; the gradient passes as if v had not been changed. full (default false) adds ½ log 2π
 * @throws RangeError for a v below 0 or NaN; on a device that is read with await, the next read rejects
 */
export function gaussianNllLoss(
  x: Tensor,
  target: Tensor,
  variance: Tensor,
  o: { reduction?: Reduction; full?: boolean; eps?: number } = {},
): Tensor {
  checkLoss('gaussianNllLoss', x, target, o, { ...REDUCTION, full: aBoolean, eps: anEps }, 'x');
  checkArgument('gaussianNllLoss', 'variance', variance, aTensor);
  checkSame('gaussianNllLoss', x, target);
  checkFloating('gaussianNllLoss', 'means', x);
  checkFloating('gaussianNllLoss', 'variances', variance);
  const { reduction, full = false, eps = 1e-6 } = o;
  const rows = x.shape.slice(0, -1);
  const isRow = x.rank > 0 && sameShape(variance.shape, rows);
  if (!sameShape(variance.shape, x.shape) && !isRow && !(x.rank > 0 && sameShape(variance.shape, [...rows, 1])))
    throw new ShapeError(
      `gaussianNllLoss: expected a variance like ${describe(x)}, with or without a last axis of length 1, got ${describe(variance)}`,
    );
  return owningIntermediates(() => {
    checkElements('gaussianNllLoss', variance.ge(0), 'variances ≥ 0');
    const given = isRow && !sameShape(variance.shape, x.shape) ? variance.unsqueeze(-1) : variance;
    const v = given.add(given.detach().neg().add(eps).relu());
    const losses = v.log().add(x.sub(target).square().div(v)).mul(0.5);
    return reduce(full ? losses.add(0.5 * Math.log(2 * Math.PI)) : losses, reduction);
  });
}
