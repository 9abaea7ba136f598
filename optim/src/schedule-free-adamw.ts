/** Schedule-free AdamW (Defazio et al. 2024, "The Road Less Scheduled", Algorithm 1): an average in the place of a schedule. */

import { noGrad, type StateDict, type Tensor, unscoped } from '@otimes/core';
import { checkNone, checkRange, nameOf, onFailure } from '@otimes/core/extend';
import { checkMoments } from './adam.ts';
import { GradientOptimizer, type ParameterState, type Parameters } from './optimizer.ts';
import { anAmount, checkNumbers } from './state-dict.ts';

export type ScheduleFreeOptions = {
  /** Default 2.5e-3. */
  lr?: number;
  /** β₁, how near the weights of the gradient are to the average, above 0; and β₂, the decay of the average of squares; default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the root; default 1e-8. */
  eps?: number;
  /** λ: this times the weights is part of the direction; default 0. */
  weightDecay?: number;
  /** The rate grows from lr / warmupSteps to lr over so many steps; default 0. */
  warmupSteps?: number;
  /** Step t counts as tʳ in the average; default 0. */
  r?: number;
  /** It also counts as the largest rate so far to this power; default 2. */
  weightLrPower?: number;
};

type Options = Required<ScheduleFreeOptions>;
const DEFAULTS: Options = {
  lr: 2.5e-3,
  betas: [0.9, 0.999],
  eps: 1e-8,
  weightDecay: 0,
  warmupSteps: 0,
  r: 0,
  weightLrPower: 2,
};

function check(name: string, o: Options): void {
  if (o.betas[0] === 0) throw new RangeError(`${name}: expected betas[0] above 0, got 0`);
  checkMoments(name, o);
  checkRange(name, 'warmupSteps', o.warmupSteps, 0, Infinity);
  checkRange(name, 'r', o.r, 0, Infinity);
  checkRange(name, 'weightLrPower', o.weightLrPower, 0, Infinity);
}

/**
 * Three sequences: z moves by Adam's steps, x is the weighted average of z, and gradients are those at y = (1−β₁) z + β₁ x:
 *
 *     z ← z − lr d,  d = g / (√v̂ + ε) + λ y;   x ← (1−c) x + c z
 *
 * The model has y while it is trained, and x, which is what is worth saving and measuring, between `eval()` and `train()`:
 *
 *     optimizer.eval(); measure(model); optimizer.train();
 *
 * A step in between throws. No schedule is needed; the learning rate may be larger than AdamW's. With lr 0 a step does nothing.
 */
export class ScheduleFreeAdamW extends GradientOptimizer<Options> {
  static readonly builtIn: string = 'ScheduleFreeAdamW';

  constructor(parameters: Parameters<Options>, options: ScheduleFreeOptions = {}) {
    super(parameters, DEFAULTS, options, check);
  }

  protected override slotNames(): readonly string[] {
    return ['z', 'v'];
  }

  protected override squareNames(): readonly string[] {
    return ['v'];
  }

  protected override numberNames(): readonly string[] {
    return ['weightSum', 'largestLr', 'averaged'];
  }

  override prepareState(state: StateDict): () => void {
    const take = super.prepareState(state);
    const averaged = { expected: '0 or 1', is: (x: number) => x === 0 || x === 1 };
    checkNumbers(nameOf(this), state, { weightSum: anAmount, largestLr: anAmount, averaged });
    return take;
  }

  override step(...none: readonly never[]): void | Promise<void> {
    let averaged = false;
    this.eachState((_, { numbers }) => {
      averaged ||= numbers.get('averaged') === 1;
    });
    if (averaged)
      throw new Error(
        'ScheduleFreeAdamW: the model has the averaged weights, since eval(); call train() before a step',
      );
    return super.step(...none);
  }

  protected override update(p: Tensor, g: Tensor, state: ParameterState, o: Options): void {
    const [beta1, beta2] = o.betas;
    const t = state.step;
    const [z, v] = [state.slot('z'), state.slot('v')];
    const { numbers } = state;
    if (t === 1) z.copy_(p.detach());
    const lr = o.lr * (t < o.warmupSteps ? t / o.warmupSteps : 1);
    const largest = Math.max(lr, numbers.get('largestLr') ?? 0);
    const weight = t ** o.r * largest ** o.weightLrPower;
    const sum = (numbers.get('weightSum') ?? 0) + weight;
    numbers.set('averaged', 0);
    numbers.set('largestLr', largest);
    numbers.set('weightSum', sum);
    v.addScaled_(g.square(), 1 - beta2, beta2);
    if (lr === 0) return;
    const c = sum === 0 ? 0 : weight / sum;
    const root = v
      .div(1 - beta2 ** t)
      .sqrt()
      .add(o.eps);
    const d = o.weightDecay === 0 ? g.div(root) : g.div(root).add(p.mul(o.weightDecay));
    // y = (1−β₁) z + β₁ x of the new z and x, from y and the old z.
    p.addScaled_(z, c, 1 - c);
    p.addScaled_(d, lr * (beta1 * (1 - c) - 1));
    z.addScaled_(d, -lr);
  }

  /** Puts the averaged weights x into the model, to measure or save it. Nothing happens where they are there. */
  eval(...none: readonly never[]): void {
    if (none.length > 0) checkNone('ScheduleFreeAdamW.eval', none, 'train() goes back');
    this.#show(1, ([beta1]) => 1 - 1 / beta1);
  }

  /** Puts the weights y, at which the gradient is taken, back into the model. */
  train(...none: readonly never[]): void {
    if (none.length > 0) checkNone('ScheduleFreeAdamW.train', none, 'eval() is the other way');
    this.#show(0, ([beta1]) => 1 - beta1);
  }

  /** p ← p + weight (z − p) where the model has the other ones. */
  #show(averaged: 0 | 1, weightOf: (betas: readonly [number, number]) => number): void {
    unscoped(() =>
      noGrad(() =>
        this.eachState((p, { slots, numbers }, { betas }) => {
          const [z, before] = [slots.get('z'), numbers.get('averaged')];
          if (z === undefined || before === undefined || before === averaged) return;
          const weight = weightOf(betas);
          p.addScaled_(z, weight, 1 - weight);
          numbers.set('averaged', averaged);
          // After a check that failed nothing of this was written.
          onFailure(p, () => numbers.set('averaged', before));
        }),
      ),
    );
  }
}
