/** Loss scaling (Micikevicius et al. 2018, §3.2), as torch.amp.GradScaler: for products in f16, in which small gradients would vanish. */

import { full, noGrad, type StateDict, scope, type Tensor, unscoped, where, zeros } from '@otimes/core';
import {
  aBoolean,
  aCount,
  aNumber,
  aTensor,
  borrowGrad,
  canSkip,
  checkArgument,
  checkNone,
  checkOptions,
  inspect,
  type Kind,
  type OptionKinds,
  readsLater,
  skipIf,
  unscale,
} from '@otimes/core/extend';
import type { Optimizer } from './optimizer.ts';
import { StateReader, scalar } from './state-dict.ts';
import { isGuarded, noteJudged, scaledBy, trainedBy } from './trained.ts';

export type GradScalerOptions = {
  /** Default 65536. */
  initScale?: number;
  /** What the scale is multiplied by after `growthInterval` steps in a row without overflow, > 1; default 2. */
  growthFactor?: number;
  /** What it is multiplied by after an overflow, in (0, 1); default 0.5. */
  backoffFactor?: number;
  /** Default 2000. */
  growthInterval?: number;
  /** Default true; with false `scale` returns its argument and `step` only steps. */
  enabled?: boolean;
};

const between = (least: number, most: number): Kind => ({
  expected: most === Infinity ? `a finite number > ${least}` : `a number in (${least}, ${most})`,
  is: v => aNumber.is(v) && Number(v) > least && Number(v) < most,
  error: RangeError,
});
const OPTIONS: OptionKinds<GradScalerOptions> = {
  initScale: between(0, Infinity),
  growthFactor: between(1, Infinity),
  backoffFactor: between(0, 1),
  growthInterval: aCount,
  enabled: aBoolean,
};
const anOptimizer: Kind = {
  expected: 'an optimizer of this package, with step()',
  is: v => typeof v === 'object' && v !== null && trainedBy(v as Optimizer) !== undefined,
};

/** Where gradients are read with await, tensors there: nobody waits for them. */
type Numbers = { scale: number; growth: number };
type Tensors = { readonly scale: Tensor; readonly growth: Tensor };

/** Of an optimizer since the last `update`: whether gradients were not finite, where that is known; else 1 on the device, or 0. */
type Seen = { readonly found: boolean | Tensor; hasStepped: boolean };

/** Finite in float32. */
const LARGEST = 2 ** 127;
/** With Kronecker optimizers, whose factors are made of squares of scaled gradients: what float32 is left with for these is 2³². */
const LARGEST_SQUARED = 2 ** 48;

/**
 * Multiplies losses, and skips steps whose gradients overflowed for that; then the scale is halved. After many steps without, it is
 * doubled, up to 2^127, and up to 2^48 with KFAC and its kin, whose factors have its square.
 *
 *     scaler.scale(loss).backward();
 *     await scaler.step(optimizer);
 *     scaler.update();
 *
 * On a device that is read with await, as 'gpu', SGD, Adam and the other optimizers of single gradients skip there, and nothing waits: the host does not
 * know of it, so their count of steps, for Adam's correction of bias, goes on. Others, as STEVE and Muon, and those of the program, wait for
 * the answer: `step` returns a promise.
 */
export class GradScaler {
  readonly #o: Required<GradScalerOptions>;
  #state: Numbers | Tensors;
  readonly #seen = new Map<Optimizer, Seen>();

  constructor(o: GradScalerOptions = {}) {
    checkOptions('GradScaler', o, OPTIONS);
    const { initScale = 65536, growthFactor = 2, backoffFactor = 0.5, growthInterval = 2000, enabled = true } = o;
    this.#o = { initScale, growthFactor, backoffFactor, growthInterval, enabled };
    this.#state = { scale: initScale, growth: 0 };
  }

  get enabled(): boolean {
    return this.#o.enabled;
  }

  /** The loss, or any output that is to be differentiated, times the scale. */
  scale(loss: Tensor): Tensor {
    checkArgument('GradScaler.scale', 'loss', loss, aTensor);
    if (!this.enabled) return loss;
    return loss.mul(this.#on(loss).scale);
  }

  /** The scale where `x` is. */
  #on(x: Tensor): Numbers | Tensors {
    const state = this.#state;
    if (readsLater(x) && !isOnDevice(state)) {
      const value = (value: number) => unscoped(() => full([], value, { dtype: 'float32', device: x.device }).keep());
      this.#state = { scale: value(state.scale), growth: value(state.growth) };
    }
    return this.#state;
  }

  /**
   * Divides the gradients of an optimizer by the scale, in place, and looks whether they are finite. `step` does so itself; call it
   * before what is done with gradients in between, `clipGradNorm` say, which leaves alone those that overflowed: `step` skips them.
   */
  unscale_(optimizer: Optimizer): void {
    checkArgument('GradScaler.unscale_', 'optimizer', optimizer, anOptimizer);
    if (!this.enabled) return;
    if (this.#seen.has(optimizer))
      throw new Error(
        'GradScaler.unscale_: expected one call for an optimizer, before its step() and after the last update(); the gradients were ' +
          'divided by the scale already',
      );
    this.#unscaled(optimizer);
  }

  #unscaled(optimizer: Optimizer): Seen {
    // Each process would see overflows of its own.
    if (scaledBy(optimizer) === null)
      throw new Error(
        'GradScaler: expected an optimizer without a communicator of several processes, and not KBFGS, whose second pass is its own',
      );
    const parameters = new Set(trainedBy(optimizer));
    const gradients = [...parameters].map(borrowGrad).filter(g => g !== null);
    if (gradients.length === 0)
      throw new Error('GradScaler: expected gradients, got none: call scale(loss).backward() before');
    const { scale } = this.#on(gradients[0]!);
    const found = noGrad(() =>
      scope(() => (typeof scale === 'number' ? divided(gradients, scale) : unscaled(gradients, scale))),
    );
    const seen = { found, hasStepped: false };
    this.#seen.set(optimizer, seen);
    noteJudged(parameters, found);
    return seen;
  }

  /** The optimizer's step, unless its gradients are not finite. A promise where that has to be awaited, or the optimizer returns one. */
  step(optimizer: Optimizer): void | Promise<void> {
    checkArgument('GradScaler.step', 'optimizer', optimizer, anOptimizer);
    if (!this.enabled) return optimizer.step();
    const seen = this.#seen.get(optimizer) ?? this.#unscaled(optimizer);
    if (seen.hasStepped) throw new Error('GradScaler.step: expected update() after the last step() of this optimizer');
    seen.hasStepped = true;
    const { found } = seen;
    if (typeof found === 'boolean') return found ? undefined : this.#stepped(optimizer, this.#state.scale as number);
    if (!isGuarded(optimizer) || !canSkip(found)) return this.#later(optimizer, found);
    skipIf(found, found);
    try {
      // All of it is called at once; a promise only waits for a device that is far behind.
      return optimizer.step();
    } finally {
      skipIf(found, null);
    }
  }

  #stepped(optimizer: Optimizer, scale: number): void | Promise<void> {
    const settings = scaledBy(optimizer);
    const set = (value: number) => {
      if (settings) settings.lossScale = value;
    };
    const reset = () => set(1);
    set(scale);
    try {
      const done = optimizer.step();
      if (done === undefined) reset();
      return done?.finally(reset);
    } catch (error) {
      reset();
      throw error;
    }
  }

  async #later(optimizer: Optimizer, found: Tensor): Promise<void> {
    const [isBad, scale] = await Promise.all([found.number(), (this.#state as Tensors).scale.number()]);
    if (isBad === 0) await this.#stepped(optimizer, scale);
  }

  /** Halves or doubles the scale, if it is time. Once after the steps of all optimizers. */
  update(...none: readonly never[]): void {
    checkNone('GradScaler.update', none, 'the scale follows from the steps before');
    if (!this.enabled) return;
    const all = [...this.#seen.values()].map(({ found }) => found);
    if (all.length === 0) throw new Error('GradScaler.update: expected step() or unscale_() of an optimizer before it');
    const optimizers = [...this.#seen.keys()];
    for (const optimizer of optimizers) noteJudged(trainedBy(optimizer)!, null);
    this.#seen.clear();
    const largest = optimizers.some(one => scaledBy(one)) ? LARGEST_SQUARED : LARGEST;
    const { growthFactor, backoffFactor, growthInterval } = this.#o;
    const state = this.#state;
    if (!isOnDevice(state)) {
      const isBad = all.includes(true);
      const grows = !isBad && state.growth + 1 === growthInterval;
      state.growth = isBad || grows ? 0 : state.growth + 1;
      if (isBad) state.scale *= backoffFactor;
      else if (grows && state.scale * growthFactor <= largest) state.scale *= growthFactor;
      return;
    }
    const founds = all as Tensor[];
    noGrad(() =>
      scope(() => {
        const isBad = founds.reduce((x, y) => x.maximum(y)).gt(0);
        const grown = state.growth.add(1);
        const grows = grown.ge(growthInterval);
        const larger = state.scale.mul(growthFactor);
        const ifFinite = where(grows.logicalAnd(larger.le(largest)), larger, state.scale);
        state.scale.copy_(where(isBad, state.scale.mul(backoffFactor), ifFinite));
        state.growth.copy_(where(isBad.logicalOr(grows), 0, grown));
      }),
    );
    for (const found of founds) found.storage.release();
  }

  /** The scale; a promise where it has to be awaited. */
  getScale(): number | Promise<number> {
    const { scale } = this.#state;
    return typeof scale === 'number' ? scale : scale.number();
  }

  /** `scale`, and in `growth` how many steps in a row were without overflow. */
  stateDict(): StateDict {
    const { scale, growth } = this.#state;
    const saved = (x: number | Tensor) => (typeof x === 'number' ? scalar(x) : x.clone());
    return { scale: saved(scale), growth: saved(growth) };
  }

  loadStateDict(state: StateDict): void {
    const reader = new StateReader('GradScaler', state);
    const [scale, growth] = [reader.rate('scale'), reader.count('growth')];
    if (!reader.hasProblems && scale === 0) reader.problem('does not fit: scale expects a number > 0, got 0');
    reader.finish();
    this.#state = { scale, growth };
  }

  toString(): string {
    const { initScale, growthFactor, backoffFactor, growthInterval } = this.#o;
    return `GradScaler(initScale ${initScale}, growthFactor ${growthFactor}, backoffFactor ${backoffFactor}, growthInterval ${growthInterval})`;
  }

  [inspect](): string {
    return this.toString();
  }
}

const isOnDevice = (state: Numbers | Tensors): state is Tensors => typeof state.scale !== 'number';

/** Whether any is not finite. */
function divided(gradients: readonly Tensor[], scale: number): boolean {
  let isBad = false;
  for (const g of gradients) {
    g.scale_(1 / scale);
    // The norm may overflow where no element does.
    isBad ||= !Number.isFinite(g.norm().item()) && g.isFinite().logicalNot().astype('float32').max().item() === 1;
  }
  return isBad;
}

/** 1 if any is not finite, else 0. */
function unscaled(gradients: readonly Tensor[], scale: Tensor): Tensor {
  const found = unscoped(() => zeros([], { dtype: 'float32', device: scale.device }).keep());
  for (const g of gradients) unscale(g, scale, found);
  return found;
}
