/** Adagrad (Duchi et al. 2011), as torch.optim.Adagrad. */

import type { Tensor } from '@otimes/core';
import { checkRange } from '@otimes/core/extend';
import { GradientOptimizer, type ParameterState, type Parameters, withL2 } from './optimizer.ts';

export type AdagradOptions = {
  /** Default 1e-2. */
  lr?: number;
  /** The rate at step t is lr / (1 + (t−1) lrDecay); default 0. */
  lrDecay?: number;
  /** Of the L2 penalty added to the gradient; default 0. */
  weightDecay?: number;
  /** What the sum of squares starts at; default 0. */
  initialAccumulatorValue?: number;
  /** Added to the root; default 1e-10. */
  eps?: number;
};

type Options = Required<AdagradOptions>;
const DEFAULTS: Options = { lr: 1e-2, lrDecay: 0, weightDecay: 0, initialAccumulatorValue: 0, eps: 1e-10 };

function check(name: string, o: Options): void {
  checkRange(name, 'lrDecay', o.lrDecay, 0, Infinity);
  checkRange(name, 'weightDecay', o.weightDecay, 0, Infinity);
  checkRange(name, 'initialAccumulatorValue', o.initialAccumulatorValue, 0, Infinity);
  checkRange(name, 'eps', o.eps, 0, Infinity);
}

/** sum ← sum + g²;  p ← p − lr g / (√sum + ε). */
export class Adagrad extends GradientOptimizer<Options> {
  static readonly builtIn: string = 'Adagrad';

  constructor(parameters: Parameters<Options>, options: AdagradOptions = {}) {
    super(parameters, DEFAULTS, options, check);
  }

  protected override slotNames(): readonly string[] {
    return ['sum'];
  }

  protected override squareNames(): readonly string[] {
    return ['sum'];
  }

  protected override update(p: Tensor, gradient: Tensor, state: ParameterState, o: Options): void {
    const g = withL2(gradient, p, o.weightDecay);
    const sum = state.slot('sum', o.initialAccumulatorValue).addScaled_(g.square(), 1);
    p.addScaled_(g.div(sum.sqrt().add(o.eps)), -o.lr / (1 + (state.step - 1) * o.lrDecay));
  }
}
