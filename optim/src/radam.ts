/** RAdam: Adam whose step is rectified while the variance of its second moment is large (Liu et al. 2020), as torch.optim.RAdam. */

import type { Tensor } from '@otimes/core';
import { checkMoments } from './adam.ts';
import { GradientOptimizer, type ParameterState, type Parameters, withL2 } from './optimizer.ts';

export type RAdamOptions = {
  /** Default 1e-3. */
  lr?: number;
  /** β₁ and β₂, the decay of the averages of the gradient and of its square; default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the root; default 1e-8. */
  eps?: number;
  /** Of the L2 penalty added to the gradient; default 0. */
  weightDecay?: number;
};

type Options = Required<RAdamOptions>;
const DEFAULTS: Options = { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0 };

/**
 * The factor of Adam's step at step t (Algorithm 2): √[(ρₜ−4)(ρₜ−2)ρ∞ / ((ρ∞−4)(ρ∞−2)ρₜ)] with ρ∞ = 2/(1−β₂) − 1 and
 * ρₜ = ρ∞ − 2 t β₂ᵗ / (1−β₂ᵗ); null for ρₜ ≤ 5, where the step is that of momentum alone.
 */
function rectification(beta2: number, t: number): number | null {
  const most = 2 / (1 - beta2) - 1;
  const now = most - (2 * t * beta2 ** t) / (1 - beta2 ** t);
  return now > 5 ? Math.sqrt(((now - 4) * (now - 2) * most) / ((most - 4) * (most - 2) * now)) : null;
}

/** p ← p − lr m̂ r √(1−β₂ᵗ) / (√v + ε) with the `rectification` r where there is one, else p ← p − lr m̂. */
export class RAdam extends GradientOptimizer<Options> {
  static readonly builtIn: string = 'RAdam';

  constructor(parameters: Parameters<Options>, options: RAdamOptions = {}) {
    super(parameters, DEFAULTS, options, checkMoments);
  }

  protected override slotNames(): readonly string[] {
    return ['m', 'v'];
  }

  protected override squareNames(): readonly string[] {
    return ['v'];
  }

  protected override update(p: Tensor, gradient: Tensor, state: ParameterState, o: Options): void {
    const { lr, eps } = o;
    const [beta1, beta2] = o.betas;
    const t = state.step;
    const g = withL2(gradient, p, o.weightDecay);
    const [m, v] = [state.slot('m'), state.slot('v')];
    m.addScaled_(g, 1 - beta1, beta1);
    v.addScaled_(g.square(), 1 - beta2, beta2);
    const rate = lr / (1 - beta1 ** t);
    const r = rectification(beta2, t);
    if (r === null) p.addScaled_(m, -rate);
    else p.addcdiv_(m, v.sqrt().add(eps), -rate * r * Math.sqrt(1 - beta2 ** t));
  }
}
