/**
 * K-BFGS (Goldfarb, Ren & Bahamou 2020, "Practical quasi-Newton methods for training deep neural networks"): the inverses of KFAC's
 * factors by BFGS, from a second pass over each batch. What is implemented, and which choices are this library's: docs/math.md.
 */

import {
  aNumber,
  checkArgument,
  checkNone,
  checkOptions,
  checkRange,
  nameOf,
  type OptionKinds,
  readsLater,
} from '@otimes/core/extend';
import { conv2dCollector } from './curvature/collectors/conv2d.ts';
import { linearCollector } from './curvature/collectors/linear.ts';
import { coordinates } from './curvature/decompose/none.ts';
import { checkModel } from './curvature/model.ts';
import { type AnyModule, KRONECKER_OPTIONS, type KroneckerOptions } from './kronecker/options.ts';
import type { Overrides } from './kronecker/overrides.ts';
import { KroneckerPreconditioner } from './kronecker/preconditioner.ts';
import { QuasiNewtonRule } from './kronecker/rules/quasi-newton.ts';
import type { BlockState } from './kronecker/state.ts';
import { SGD } from './sgd.ts';
import { noteScaled } from './trained.ts';

/** What `overrides` may say of a block. */
export type KBFGSOverride = { lr?: number; skip?: boolean };

export type KBFGSOptions = Pick<KroneckerOptions, 'weightDecay' | 'lossReduction' | 'rest'> & {
  /** α. Default 0.3. */
  lr?: number;
  /** β of the gradient: m ← β m + (1 − β) D. Default 0.9. */
  momentum?: number;
  /** λ > 0, of which √λ is added to A, and to the curvature of the outputs. Default 0.3. */
  damping?: number;
  /** μ₁ in (0, 1), of Powell's damping. Default 0.2. */
  mu1?: number;
  /** β of the running averages of A and of the pairs. Default 0.9. */
  factorDecay?: number;
  /** `lr`, or `skip` which leaves a layer to `rest`, by the path of a layer or of a module above it. */
  overrides?: Overrides<KBFGSOverride>;
};

const { lr, weightDecay, lossReduction, rest, overrides, factorDecay } = KRONECKER_OPTIONS;
const KBFGS_OPTIONS: OptionKinds<KBFGSOptions> = {
  ...{ lr, weightDecay, lossReduction, rest, overrides, factorDecay },
  momentum: aNumber,
  damping: aNumber,
  mu1: aNumber,
};
const OVERRIDE: OptionKinds<KBFGSOverride> = {
  lr: aNumber,
  skip: { expected: 'true or false', is: v => typeof v === 'boolean' },
};
const COLLECTORS = [linearCollector, conv2dCollector];

function checkKbfgsOptions(o: KBFGSOptions): void {
  checkOptions('KBFGS', o, KBFGS_OPTIONS);
  if (o.momentum !== undefined) checkRange('KBFGS', 'momentum', o.momentum, 0, 1);
  checkAbove0('KBFGS', 'damping', o.damping);
  if (o.mu1 !== undefined && !(o.mu1 > 0 && o.mu1 < 1))
    throw new RangeError(`KBFGS: expected mu1 in (0, 1), got ${o.mu1}`);
  for (const [path, own] of Object.entries(o.overrides ?? {}))
    if (own !== undefined) checkOptions(`KBFGS: overrides['${path}']`, own, OVERRIDE);
}

function checkAbove0(name: string, option: string, value: number | undefined): void {
  if (value !== undefined && !(value > 0 && value < Infinity))
    throw new RangeError(`${name}: expected ${option} > 0, got ${value}`);
}

/** Layers whose blocks have no bias, or share a weight: they go to the rest. Throws where no others are there. */
function skipped(model: AnyModule): Record<string, KBFGSOverride> {
  const all: Record<string, KBFGSOverride> = {};
  let count = 0;
  for (const [path, module] of model.namedModules())
    for (const collector of COLLECTORS)
      for (const block of collector.collect(module, path, { sharing: undefined }) ?? [])
        if (block.hasBias !== true || block.dOut !== block.parameters[0]!.shape[0]) all[block.path] = { skip: true };
        else count++;
  if (count === 0)
    throw new Error(
      'KBFGS: the model has no Linear, and no Conv2d in one group, whose weight and bias are trained, so the rest optimizer would ' +
        'train everything: use that alone, SGD say',
    );
  return all;
}

/**
 * The update of a Linear or Conv2d is H_g m H_a, with H_a ≈ (A + √λ)⁻¹ and H_g the inverse Hessian of the loss by the layer's outputs, of which each
 * batch tells one direction: by a second pass over it, after the step.
 *
 *     const pass = () => { optimizer.zeroGrad(); const loss = …; loss.backward(); return loss; };
 *     const loss = pass();
 *     optimizer.step();
 *     pass();
 *     optimizer.correct();
 *
 * Both passes must see the same, so without dropout. `step` leaves gradients null, so that those of the second pass come alone. Layers
 * without a bias, groups of a convolution and all other parameters go to `rest`: SGD with the same lr and momentum, unless it says otherwise. For devices whose values are read at once, and one
 * process; not with a `GradScaler`.
 */
export class KBFGS extends KroneckerPreconditioner {
  static readonly builtIn: string = 'KBFGS';
  readonly #rule: QuasiNewtonRule;
  readonly #states: readonly BlockState[];

  constructor(model: AnyModule, o: KBFGSOptions = {}) {
    // Before the base registers its hooks: a refused optimizer leaves none behind.
    checkKbfgsOptions(o);
    checkModel('KBFGS', model);
    const later = [...model.namedParameters()].find(([, p]) => readsLater(p));
    if (later !== undefined)
      throw new TypeError(
        `KBFGS: needs values at once, and '${later[0]}' is on '${later[1].device}', which is read with await`,
      );
    const { momentum = 0.9, damping = 0.3, mu1 = 0.2, factorDecay = 0.9, lossReduction = 'mean' } = o;
    const rule = new QuasiNewtonRule({ momentum, damping, mu1, factorDecay, lossReduction });
    const own = skipped(model);
    for (const [path, skip] of Object.entries(own)) own[path] = { ...o.overrides?.[path], ...skip };
    const shared: KroneckerOptions = {
      ...{ ...o, factorDecay, refreshEvery: 1, structure: 'exact', collectors: COLLECTORS },
      overrides: { ...o.overrides, ...own },
    };
    super(model, shared, {
      rule,
      fixedBasis: coordinates,
      lr: 0.3,
      rest: (unclaimed, lr) => new SGD(unclaimed, { lr, momentum }),
    });
    // Nobody would divide the gradients of a second pass.
    noteScaled(this, null);
    this.#rule = rule;
    const blocks = this.describe().filter(({ collector }) => collector !== 'rest');
    this.#states = blocks.map(({ path }) => this.inspect(path));
  }

  /** Whether the last step waits for `correct`. */
  get wantsCorrection(): boolean {
    return this.#rule.pending !== null;
  }

  /** As `KroneckerPreconditioner.step`, and sets gradients to null. Throws where the last step waits for `correct`. */
  override step(...none: readonly never[]): void | Promise<void> {
    if (this.wantsCorrection)
      throw new Error(
        `KBFGS: step ${this.steps - 1} waits for its correction: after step() run the same batch forward and backward again, and call correct()`,
      );
    super.step(...none);
    this.#rule.pending = this.steps;
    this.zeroGrad();
  }

  /**
   * After a second forward and backward pass over the batch of the last step: lets H_g follow, and sets gradients to null. Throws without a step before, where a layer that
   * it changed has no gradient, and a RangeError where numbers are not finite; then nothing has changed.
   */
  correct(...none: readonly never[]): void {
    checkNone('KBFGS.correct', none, 'call it after loss.backward()');
    if (!this.wantsCorrection)
      throw new Error(
        'KBFGS.correct: no step waits for it: call it once after each step(), and a second pass over its batch',
      );
    this.#rule.correct(nameOf(this), this.#states);
    this.zeroGrad();
  }

  get damping(): number {
    return this.#rule.lambda;
  }

  /** λ > 0; from the next step on. */
  set damping(damping: number) {
    checkArgument(nameOf(this), 'damping', damping, aNumber);
    checkAbove0(nameOf(this), 'damping', damping);
    this.checkNoStepOpen('setting damping');
    this.#rule.lambda = damping;
  }

  get momentum(): number {
    return this.#rule.momentum;
  }

  get mu1(): number {
    return this.#rule.mu1;
  }
}
