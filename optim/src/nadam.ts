/** NAdam: Adam with Nesterov's momentum (Dozat 2016), as torch.optim.NAdam, and NAdamW, which decays weights as AdamW does. */

import { adamMoments, type StateDict, type Tensor } from '@otimes/core';
import { checkRange, nameOf } from '@otimes/core/extend';
import { checkMoments } from './adam.ts';
import { GradientOptimizer, type ParameterState, type Parameters, withL2 } from './optimizer.ts';
import { checkNumbers } from './state-dict.ts';

export type NAdamOptions = {
  /** Default 2e-3. */
  lr?: number;
  /** β₁ and β₂, the decay of the averages of the gradient and of its square; default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the root; default 1e-8. */
  eps?: number;
  /** Of the L2 penalty added to the gradient; default 0. With `decoupledWeightDecay` lr times this is taken off. */
  weightDecay?: number;
  /** ψ, how fast the momentum grows to β₁: μₜ = β₁ (1 − ½ · 0.96^(ψ t)); default 4e-3. */
  momentumDecay?: number;
  /** Weights decay by lr · weightDecay before the step, in the place of the penalty (Loshchilov & Hutter 2019); default false. */
  decoupledWeightDecay?: boolean;
};

/** As NAdam's. `weightDecay` has default 1e-2, and lr times it is taken off. */
export type NAdamWOptions = Omit<NAdamOptions, 'decoupledWeightDecay'>;

type OptionsW = Required<NAdamWOptions>;
type Options = Required<NAdamOptions>;
const DEFAULTS: OptionsW = { lr: 2e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0, momentumDecay: 4e-3 };

function check(name: string, o: OptionsW): void {
  checkMoments(name, o);
  checkRange(name, 'momentumDecay', o.momentumDecay, 0, Infinity);
}

/** Updates the moments by `g`, then p ← keep p − lr [(1−μₜ) g / (1−Πₜ) + μₜ₊₁ m / (1−Πₜ₊₁)] / (√v̂ + ε). */
function step(p: Tensor, g: Tensor, state: ParameterState, o: OptionsW, keep: number): void {
  const [beta1, beta2] = o.betas;
  const mu = (t: number) => beta1 * (1 - 0.5 * 0.96 ** (t * o.momentumDecay));
  const [now, next] = [mu(state.step), mu(state.step + 1)];
  const product = (state.numbers.get('muProduct') ?? 1) * now;
  state.numbers.set('muProduct', product);

  // With a correction of 1 − Πₜ₊₁ for m this is the momentum's part of the direction.
  const [m, v] = [state.slot('m'), state.slot('v')];
  const correction2 = 1 - beta2 ** state.step;
  const moments = { beta1, beta2, eps: o.eps, correction1: 1 - product * next, correction2 };
  const momentum = adamMoments(m, v, g, null, moments);
  const lookAhead = g.div(v.div(correction2).sqrt().add(o.eps));
  p.addScaled_(lookAhead, (-o.lr * (1 - now)) / (1 - product), keep);
  p.addScaled_(momentum, -o.lr * next);
}

/** What NAdam and NAdamW have in common: their state. */
abstract class Nesterov<O extends OptionsW> extends GradientOptimizer<O> {
  protected override slotNames(): readonly string[] {
    return ['m', 'v'];
  }

  protected override numberNames(): readonly string[] {
    return ['muProduct'];
  }

  protected override squareNames(): readonly string[] {
    return ['v'];
  }

  override prepareState(state: StateDict): () => void {
    const take = super.prepareState(state);
    checkNumbers(nameOf(this), state, { muProduct: { expected: 'one number in [0, 1)', is: x => x >= 0 && x < 1 } });
    return take;
  }
}

/** p ← p − lr [(1−μₜ) g / (1−Πₜ) + μₜ₊₁ m / (1−Πₜ₊₁)] / (√v̂ + ε), where Πₜ = μ₁ ⋯ μₜ and m, v̂ are Adam's. */
export class NAdam extends Nesterov<Options> {
  static readonly builtIn: string = 'NAdam';

  constructor(parameters: Parameters<Options>, options: NAdamOptions = {}) {
    super(parameters, { ...DEFAULTS, decoupledWeightDecay: false }, options, check);
  }

  protected override update(p: Tensor, g: Tensor, state: ParameterState, o: Options): void {
    if (o.decoupledWeightDecay) step(p, g, state, o, 1 - o.lr * o.weightDecay);
    else step(p, withL2(g, p, o.weightDecay), state, o, 1);
  }
}

/** p ← (1 − lr · weightDecay) p, then NAdam without the penalty: NAdam with `decoupledWeightDecay`. */
export class NAdamW extends Nesterov<OptionsW> {
  static readonly builtIn: string = 'NAdamW';

  constructor(parameters: Parameters<OptionsW>, options: NAdamWOptions = {}) {
    super(parameters, { ...DEFAULTS, weightDecay: 1e-2 }, options, check);
  }

  protected override update(p: Tensor, g: Tensor, state: ParameterState, o: OptionsW): void {
    step(p, g, state, o, 1 - o.lr * o.weightDecay);
  }
}
