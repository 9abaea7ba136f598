/** Adamax (Kingma & Ba 2015, Algorithm 2), as torch.optim.Adamax. */

import type { Tensor } from '@otimes/core';
import { checkMoments } from './adam.ts';
import { GradientOptimizer, type ParameterState, type Parameters, withL2 } from './optimizer.ts';

export type AdamaxOptions = {
  /** Default 2e-3. */
  lr?: number;
  /** β₁ of the average of the gradient, and β₂, the decay of its largest magnitude; default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the magnitude of the gradient; default 1e-8. */
  eps?: number;
  /** Of the L2 penalty added to the gradient; default 0. */
  weightDecay?: number;
};

type Options = Required<AdamaxOptions>;
const DEFAULTS: Options = { lr: 2e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0 };

/** m ← β₁ m + (1−β₁) g;  u ← max(β₂ u, |g| + ε);  p ← p − lr m̂ / u, m̂ without its bias to 0. */
export class Adamax extends GradientOptimizer<Options> {
  static readonly builtIn: string = 'Adamax';

  constructor(parameters: Parameters<Options>, options: AdamaxOptions = {}) {
    super(parameters, DEFAULTS, options, checkMoments);
  }

  protected override slotNames(): readonly string[] {
    return ['m', 'u'];
  }

  protected override squareNames(): readonly string[] {
    return ['u'];
  }

  protected override update(p: Tensor, gradient: Tensor, state: ParameterState, o: Options): void {
    const { lr, eps } = o;
    const [beta1, beta2] = o.betas;
    const g = withL2(gradient, p, o.weightDecay);
    const [m, u] = [state.slot('m'), state.slot('u')];
    m.addScaled_(g, 1 - beta1, beta1);
    u.copy_(u.mul(beta2).maximum(g.abs().add(eps)));
    p.addcdiv_(m, u, -lr / (1 - beta1 ** state.step));
  }
}
