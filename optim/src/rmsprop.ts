/** RMSprop (Tieleman & Hinton 2012; centred: Graves 2013, arXiv 1308.0850, eq. 38–45), as torch.optim.RMSprop. */

import type { Tensor } from '@otimes/core';
import { checkRange } from '@otimes/core/extend';
import { GradientOptimizer, type ParameterState, type Parameters, withL2 } from './optimizer.ts';

export type RMSpropOptions = {
  /** Default 1e-2. */
  lr?: number;
  /** Decay of the running averages; default 0.99. */
  alpha?: number;
  /** Added to the root; default 1e-8. */
  eps?: number;
  /** Of the L2 penalty added to the gradient; default 0. */
  weightDecay?: number;
  /** The share of the last direction that is kept; default 0. */
  momentum?: number;
  /** Divide by the standard deviation instead of the root mean square; default false. */
  centered?: boolean;
};

type Options = Required<RMSpropOptions>;
const DEFAULTS: Options = { lr: 1e-2, alpha: 0.99, eps: 1e-8, weightDecay: 0, momentum: 0, centered: false };

function check(name: string, o: Options): void {
  checkRange(name, 'alpha', o.alpha, 0, 1);
  checkRange(name, 'eps', o.eps, 0, Infinity);
  checkRange(name, 'weightDecay', o.weightDecay, 0, Infinity);
  checkRange(name, 'momentum', o.momentum, 0, Infinity);
}

/** v ← α v + (1−α) g²;  p ← p − lr g / (√v + ε), where `centered` takes v − m² for v, m the average of g. */
export class RMSprop extends GradientOptimizer<Options> {
  static readonly builtIn: string = 'RMSprop';

  constructor(parameters: Parameters<Options>, options: RMSpropOptions = {}) {
    super(parameters, DEFAULTS, options, check);
  }

  protected override slotNames(o: Options): readonly string[] {
    return ['v', ...(o.centered ? ['m'] : []), ...(o.momentum === 0 ? [] : ['buf'])];
  }

  protected override squareNames(): readonly string[] {
    return ['v'];
  }

  protected override update(p: Tensor, gradient: Tensor, state: ParameterState, o: Options): void {
    const g = withL2(gradient, p, o.weightDecay);
    const average = (name: string, x: Tensor) =>
      state
        .slot(name)
        .scale_(o.alpha)
        .addScaled_(x, 1 - o.alpha);
    const v = average('v', g.square());
    // Rounding can take the difference below 0, where torch's root is NaN.
    const variance = o.centered ? v.sub(average('m', g).square()).relu() : v;
    const direction = g.div(variance.sqrt().add(o.eps));
    if (o.momentum === 0) p.addScaled_(direction, -o.lr);
    else p.addScaled_(state.slot('buf').scale_(o.momentum).addScaled_(direction, 1), -o.lr);
  }
}
