/** How far vectors are from each other, and how much they point the same way. */

import { describe, owningIntermediates, ShapeError, type Tensor } from '@otimes/core';
import { aBoolean, anInteger, aTensor, checkArgument, checkOptions, type Kind } from '@otimes/core/extend';
import { anEps } from './check.ts';
import { Module } from './module.ts';

export const aNormOrder: Kind = {
  expected: 'a number above 0, or Infinity',
  is: v => typeof v === 'number' && v > 0,
  error: RangeError,
};

function checkPair(op: string, x1: Tensor, x2: Tensor): void {
  checkArgument(op, 'x1', x1, aTensor);
  checkArgument(op, 'x2', x2, aTensor);
  for (const x of [x1, x2])
    if (x.rank === 0 || !x.dtype.startsWith('float'))
      throw new ShapeError(`${op}: expected floating vectors [..., dim], got ${describe(x)}`);
}

/**
 * x1·x2 / (max(‖x1‖, eps) max(‖x2‖, eps)) along an axis of tensors that broadcast.
 *
 * @param o dim: default 1, as in PyTorch; eps: default 1e-8
 */
export function cosineSimilarity(x1: Tensor, x2: Tensor, o: { dim?: number; eps?: number } = {}): Tensor {
  checkOptions('cosineSimilarity', o, { dim: anInteger, eps: anEps });
  checkPair('cosineSimilarity', x1, x2);
  const { dim = 1, eps = 1e-8 } = o;
  return owningIntermediates(() => {
    const length = (x: Tensor) => x.norm(dim).clamp(eps);
    return x1
      .mul(x2)
      .sum(dim)
      .div(length(x1).mul(length(x2)));
  });
}

/** (Σ |x|^p)^(1/p) along the last axis. */
function lengthOf(x: Tensor, p: number, keepdim: boolean): Tensor {
  if (p === 2) return x.norm(-1, { keepdim });
  if (p === 1) return x.abs().sum(-1, { keepdim });
  if (p === Infinity) return x.abs().max(-1, { keepdim });
  return x
    .abs()
    .pow(p)
    .sum(-1, { keepdim })
    .pow(1 / p);
}

/**
 * The p-norm of x1 − x2 + eps along the last axis, for tensors [..., dim] that broadcast.
 *
 * @param o p: default 2, and Infinity is the largest magnitude; eps: default 1e-6; keepdim: default false
 */
export function pairwiseDistance(
  x1: Tensor,
  x2: Tensor,
  o: { p?: number; eps?: number; keepdim?: boolean } = {},
): Tensor {
  checkOptions('pairwiseDistance', o, { p: aNormOrder, eps: anEps, keepdim: aBoolean });
  checkPair('pairwiseDistance', x1, x2);
  const { p = 2, eps = 1e-6, keepdim = false } = o;
  return owningIntermediates(() => lengthOf(x1.sub(x2).add(eps), p, keepdim));
}

/** `cosineSimilarity` as a module. */
export class CosineSimilarity extends Module<[x1: Tensor, x2: Tensor]> {
  static readonly builtIn: string = 'CosineSimilarity';
  readonly dim: number;
  readonly eps: number;

  /** @param o dim: default 1; eps: default 1e-8 */
  constructor(o: { dim?: number; eps?: number } = {}) {
    super();
    checkOptions('CosineSimilarity', o, { dim: anInteger, eps: anEps });
    this.dim = o.dim ?? 1;
    this.eps = o.eps ?? 1e-8;
  }

  override forward(x1: Tensor, x2: Tensor): Tensor {
    return cosineSimilarity(x1, x2, { dim: this.dim, eps: this.eps });
  }
}

/** `pairwiseDistance` as a module. */
export class PairwiseDistance extends Module<[x1: Tensor, x2: Tensor]> {
  static readonly builtIn: string = 'PairwiseDistance';
  readonly p: number;
  readonly eps: number;
  readonly keepdim: boolean;

  /** @param o p: default 2; eps: default 1e-6; keepdim: default false */
  constructor(o: { p?: number; eps?: number; keepdim?: boolean } = {}) {
    super();
    checkOptions('PairwiseDistance', o, { p: aNormOrder, eps: anEps, keepdim: aBoolean });
    this.p = o.p ?? 2;
    this.eps = o.eps ?? 1e-6;
    this.keepdim = o.keepdim ?? false;
  }

  override forward(x1: Tensor, x2: Tensor): Tensor {
    return pairwiseDistance(x1, x2, { p: this.p, eps: this.eps, keepdim: this.keepdim });
  }
}
