/** How far vectors are from each other, and how much they point the same way: functions of @otimes/core as modules. */

import { cosineSimilarity, pairwiseDistance, type Tensor } from '@otimes/core';
import { aBoolean, aNormOrder, anEps, anInteger, checkOptions } from '@otimes/core/extend';
import { Module } from './module.ts';

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
    return cosineSimilarity(x1, x2, this.dim, { eps: this.eps });
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
