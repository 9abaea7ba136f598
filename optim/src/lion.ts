/** Lion: the sign of an interpolated momentum (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", Algorithm 2). */

import type { Tensor } from '@otimes/core';
import { checkRange } from '@otimes/core/extend';
import { checkBetas } from './adam.ts';
import { GradientOptimizer, type ParameterState, type Parameters } from './optimizer.ts';

export type LionOptions = {
  /** Default 1e-4; each element moves by it, so a third to a tenth of AdamW's is usual. */
  lr?: number;
  /** β₁ of what the sign is taken of, and β₂, the decay of the momentum; default [0.9, 0.99]. */
  betas?: readonly [number, number];
  /** lr times this is taken off; default 0. */
  weightDecay?: number;
};

type Options = Required<LionOptions>;
const DEFAULTS: Options = { lr: 1e-4, betas: [0.9, 0.99], weightDecay: 0 };

function check(name: string, o: Options): void {
  checkBetas(name, o.betas);
  checkRange(name, 'weightDecay', o.weightDecay, 0, Infinity);
}

/** p ← (1 − lr · weightDecay) p − lr sign(β₁ m + (1−β₁) g);  m ← β₂ m + (1−β₂) g. */
export class Lion extends GradientOptimizer<Options> {
  static readonly builtIn: string = 'Lion';

  constructor(parameters: Parameters<Options>, options: LionOptions = {}) {
    super(parameters, DEFAULTS, options, check);
  }

  protected override slotNames(): readonly string[] {
    return ['m'];
  }

  protected override update(p: Tensor, g: Tensor, state: ParameterState, o: Options): void {
    const [beta1, beta2] = o.betas;
    const m = state.slot('m');
    const direction = m
      .mul(beta1)
      .add(g.mul(1 - beta1))
      .sign();
    p.addScaled_(direction, -o.lr, 1 - o.lr * o.weightDecay);
    m.addScaled_(g, 1 - beta2, beta2);
  }
}
