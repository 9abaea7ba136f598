/** Adam (Kingma & Ba 2015, Algorithm 1) and AdamW (Loshchilov & Hutter 2019), as in torch.optim. */

import { adamMoments, adamStep, type Tensor } from '@otimes/core';
import { checkRange } from '@otimes/core/extend';
import { GradientOptimizer, type ParameterState, type Parameters, withL2 } from './optimizer.ts';

export type AdamOptions = {
  /** Default 1e-3. */
  lr?: number;
  /** β₁ and β₂, the decay of the averages of the gradient and of its square; default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the root; default 1e-8. */
  eps?: number;
  /** Adam: of the L2 penalty added to the gradient, default 0. AdamW: lr times this is taken off, default 1e-2. */
  weightDecay?: number;
  /** Divide by the largest v so far (Reddi et al. 2018); default false. */
  amsgrad?: boolean;
};

type Options = Required<AdamOptions>;
const DEFAULTS: Options = { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0, amsgrad: false };

/** Throws unless both lie in [0, 1). */
export function checkBetas(name: string, betas: readonly [number, number]): void {
  checkRange(name, 'betas[0]', betas[0], 0, 1);
  checkRange(name, 'betas[1]', betas[1], 0, 1);
}

/** Throws for decays, eps or weightDecay out of range. */
export function checkMoments(name: string, o: Pick<Options, 'betas' | 'eps' | 'weightDecay'>): void {
  checkBetas(name, o.betas);
  checkRange(name, 'eps', o.eps, 0, Infinity);
  checkRange(name, 'weightDecay', o.weightDecay, 0, Infinity);
}

/** Updates the moments by `g`, then p ← keep p − lr m̂ / (√v̂ + ε). */
function step(p: Tensor, g: Tensor, state: ParameterState, o: Options & { lr: number }, keep: number): void {
  const { lr, betas, eps, amsgrad } = o;
  const [m, v] = [state.slot('m'), state.slot('v')];
  const [beta1, beta2] = betas;
  const correction1 = 1 - beta1 ** state.step;
  const correction2 = 1 - beta2 ** state.step;
  if (!amsgrad && p.isContiguous) {
    adamStep(p, m, v, g, { beta1, beta2, eps, correction1, correction2, lr, keep });
    return;
  }
  let direction = adamMoments(m, v, g, null, { beta1, beta2, eps, correction1, correction2 });
  if (amsgrad) {
    const vMax = state.slot('vMax');
    vMax.copy_(vMax.maximum(v));
    direction = m.div(correction1).div(vMax.div(correction2).sqrt().add(eps));
  }
  if (keep !== 1) p.scale_(keep);
  p.addScaled_(direction, -lr);
}

const slotNames = ({ amsgrad }: Options): readonly string[] => (amsgrad ? ['m', 'v', 'vMax'] : ['m', 'v']);

/** m ← β₁ m + (1−β₁) g;  v ← β₂ v + (1−β₂) g²;  p ← p − lr m̂ / (√v̂ + ε), m̂ and v̂ without their bias to 0. */
export class Adam extends GradientOptimizer<Options> {
  static readonly builtIn: string = 'Adam';

  constructor(parameters: Parameters<Options>, options: AdamOptions = {}) {
    super(parameters, DEFAULTS, options, checkMoments);
  }

  protected override slotNames(o: Options): readonly string[] {
    return slotNames(o);
  }

  protected override squareNames(): readonly string[] {
    return ['v', 'vMax'];
  }

  protected override update(p: Tensor, g: Tensor, state: ParameterState, o: Options): void {
    step(p, withL2(g, p, o.weightDecay), state, o, 1);
  }
}

/** p ← (1 − lr · weightDecay) p, then Adam without the penalty. */
export class AdamW extends GradientOptimizer<Options> {
  static readonly builtIn: string = 'AdamW';

  constructor(parameters: Parameters<Options>, options: AdamOptions = {}) {
    super(parameters, { ...DEFAULTS, weightDecay: 1e-2 }, options, checkMoments);
  }

  protected override slotNames(o: Options): readonly string[] {
    return slotNames(o);
  }

  protected override squareNames(): readonly string[] {
    return ['v', 'vMax'];
  }

  protected override update(p: Tensor, g: Tensor, state: ParameterState, o: Options): void {
    step(p, g, state, o, 1 - o.lr * o.weightDecay);
  }
}
