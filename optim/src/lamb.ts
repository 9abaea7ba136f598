/** LAMB: Adam's direction with a trust ratio for each parameter, for large batches (You et al. 2020, Algorithm 2). */

import { type Tensor, where } from '@otimes/core';
import { checkMoments } from './adam.ts';
import { GradientOptimizer, type ParameterState, type Parameters } from './optimizer.ts';

export type LambOptions = {
  /** Default 1e-3. */
  lr?: number;
  /** β₁ and β₂, the decay of the averages of the gradient and of its square; default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the root; default 1e-6. */
  eps?: number;
  /** λ: this times the parameter is part of the direction; default 1e-2. */
  weightDecay?: number;
};

type Options = Required<LambOptions>;
const DEFAULTS: Options = { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-6, weightDecay: 1e-2 };

/** u = m̂ / (√v̂ + ε) + λ p;  p ← p − lr (‖p‖ / ‖u‖) u, with a ratio of 1 where one of the norms is 0. */
export class Lamb extends GradientOptimizer<Options> {
  static readonly builtIn: string = 'Lamb';

  constructor(parameters: Parameters<Options>, options: LambOptions = {}) {
    super(parameters, DEFAULTS, options, checkMoments);
  }

  protected override slotNames(): readonly string[] {
    return ['m', 'v'];
  }

  protected override squareNames(): readonly string[] {
    return ['v'];
  }

  protected override update(p: Tensor, g: Tensor, state: ParameterState, o: Options): void {
    const [beta1, beta2] = o.betas;
    const [m, v] = [state.slot('m'), state.slot('v')];
    m.addScaled_(g, 1 - beta1, beta1);
    v.addScaled_(g.square(), 1 - beta2, beta2);
    const root = v
      .div(1 - beta2 ** state.step)
      .sqrt()
      .add(o.eps);
    const u = m
      .div(1 - beta1 ** state.step)
      .div(root)
      .add(p.mul(o.weightDecay));
    const [ofP, ofU] = [p.detach().norm(), u.norm()];
    const counts = ofP.gt(0).logicalAnd(ofU.gt(0));
    const ratio = where(counts, ofP.div(where(counts, ofU, 1)), 1);
    p.addScaled_(u.mul(ratio), -o.lr);
  }
}
