/** A layer that no collector knows, and its collector: the bilinear map y_o = uᵀ W_o v. */

import { type Generator, randn, type Tensor } from '@otimes/core';
import { borrowGrad } from '@otimes/core/extend';
import { Module, Parameter } from '@otimes/nn';
import type { Collector } from '@otimes/optim';

/** u ⊗ v of the pairs x [batch, 2, d]: all products of an element of u and one of v, [batch, d²]. */
export const products = (x: Tensor): Tensor => {
  const [u, v] = [x.slice(null, 0), x.slice(null, 1)];
  return u.unsqueeze(2).mul(v.unsqueeze(1)).flatten(1);
};

/** Pairs [batch, 2, d] → [batch, dOut]. */
export class Bilinear extends Module {
  /** [dOut, d²]: row o is W_o, row by row. */
  weight: Parameter;

  constructor(d: number, dOut: number, { rng }: { rng: Generator }) {
    super();
    this.weight = new Parameter(randn([dOut, d * d], { rng }).mul(1 / d));
  }

  override forward(x: Tensor): Tensor {
    return products(x).matmul(this.weight.transpose());
  }
}

/** The weight is multiplied with u ⊗ v, so that is its `a`; there are no positions that share it. */
export const bilinearCollector: Collector = {
  name: 'bilinear',
  collect(module, path, { sharing = 'expand' }) {
    if (!(module instanceof Bilinear)) return null;
    const { weight } = module;
    if (!weight.requiresGrad) return [];
    const [dOut, dIn] = weight.shape as [number, number];
    return [
      {
        collector: 'bilinear',
        path,
        sharing,
        tap: module,
        parameters: [weight],
        dOut,
        dIn,
        canonical: (x, gy) => ({ a: products(x).unsqueeze(1), g: gy.unsqueeze(1) }),
        gradient: () => borrowGrad(weight),
        add: (update, scale) => void weight.addScaled_(update, scale),
      },
    ];
  },
};
