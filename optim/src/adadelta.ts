/** Adadelta (Zeiler 2012, Algorithm 1), as torch.optim.Adadelta. */

import type { Tensor } from '@otimes/core';
import { checkRange } from '@otimes/core/extend';
import { checkShare } from './check.ts';
import { GradientOptimizer, type ParameterState, type Parameters, withL2 } from './optimizer.ts';

export type AdadeltaOptions = {
  /** What the update is multiplied by; default 1. */
  lr?: number;
  /** ρ, the decay of the averages of squares of gradients and of updates; default 0.9. */
  rho?: number;
  /** Added to both averages under the root; default 1e-6. */
  eps?: number;
  /** Of the L2 penalty added to the gradient; default 0. */
  weightDecay?: number;
};

type Options = Required<AdadeltaOptions>;
const DEFAULTS: Options = { lr: 1, rho: 0.9, eps: 1e-6, weightDecay: 0 };

function check(name: string, o: Options): void {
  checkShare(name, 'rho', o.rho);
  checkRange(name, 'eps', o.eps, 0, Infinity);
  checkRange(name, 'weightDecay', o.weightDecay, 0, Infinity);
}

/** v ← ρ v + (1−ρ) g²;  Δ = g √(u + ε) / √(v + ε);  u ← ρ u + (1−ρ) Δ²;  p ← p − lr Δ. */
export class Adadelta extends GradientOptimizer<Options> {
  static readonly builtIn: string = 'Adadelta';

  constructor(parameters: Parameters<Options>, options: AdadeltaOptions = {}) {
    super(parameters, DEFAULTS, options, check);
  }

  protected override slotNames(): readonly string[] {
    return ['v', 'u'];
  }

  protected override squareNames(): readonly string[] {
    return ['v', 'u'];
  }

  protected override update(p: Tensor, gradient: Tensor, state: ParameterState, o: Options): void {
    const { lr, rho, eps } = o;
    const g = withL2(gradient, p, o.weightDecay);
    const [v, u] = [state.slot('v'), state.slot('u')];
    v.addScaled_(g.square(), 1 - rho, rho);
    const delta = g.mul(u.add(eps).sqrt().div(v.add(eps).sqrt()));
    u.addScaled_(delta.square(), 1 - rho, rho);
    p.addScaled_(delta, -lr);
  }
}
