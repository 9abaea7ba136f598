/** KFAC (Martens & Grosse 2015): the gradient divided by the damped eigenvalues of A ⊗ G. */

import {
  aBoolean,
  aCount,
  aNumber,
  checkArgument,
  checkOptions,
  checkRange,
  nameOf,
  type OptionKinds,
  oneOf,
} from '@otimes/core/extend';
import { aDamping, type DampingControl, isControl } from './kronecker/adaptive.ts';
import { type AnyModule, aNumberOrFalse, KRONECKER_OPTIONS, type KroneckerOptions } from './kronecker/options.ts';
import { KroneckerPreconditioner } from './kronecker/preconditioner.ts';
import { DampedRule } from './kronecker/rules/damped.ts';
import { SGD } from './sgd.ts';

export type KFACOptions = KroneckerOptions & {
  /** λ > 0, added to the curvature; or `adaptiveDamping()`, which changes it by losses that `observeLoss` is told. Default 3e-3. */
  damping?: number | DampingControl;
  /**
   * 'eigen' (default): D̃ / (sG sAᵀ + λ). 'pi': (G + √λ/π I)⁻¹ D (A + π√λ I)⁻¹ with π² = (tr A / dim A) / (tr G / dim G)
   * (Martens & Grosse 2015, §6.3).
   */
  dampingSplit?: 'eigen' | 'pi';
  /** Of the update, heavy ball. Default 0. */
  momentum?: number;
  /** The update looks ahead along the momentum. Default false. */
  nesterov?: boolean;
  /**
   * κ > 0: updates shrink together by min(1, √(κ / Σ lr² ⟨update, D⟩)), lr being the block's (Ba et al. 2017). Default false,
   * none, and 3e-3 for EKFAC.
   */
  klClip?: number | false;
  /**
   * τ > 0: no step is longer than τ of the weights. Each block's update shrinks by min(1, τ max(‖[W b]‖, 0.1 √dOut) / (lr ‖update‖)),
   * lr being the block's, before klClip and momentum. Default 0.1, and false, none, for EKFAC.
   */
  trust?: number | false;
};

/** What each option must be. */
export const KFAC_OPTIONS: OptionKinds<KFACOptions> = {
  ...KRONECKER_OPTIONS,
  damping: aDamping,
  dampingSplit: oneOf('eigen', 'pi'),
  momentum: aNumber,
  nesterov: aBoolean,
  klClip: aNumberOrFalse,
  trust: aNumberOrFalse,
};

function checkKfacOptions(name: string, o: KFACOptions): void {
  // Without damping a null direction of the factors would divide 0 by 0.
  const control = isControl(o.damping) ? o.damping : null;
  if (control !== null) {
    checkArgument(name, 'every of damping', control.every, aCount);
    checkArgument(name, 'start of damping', control.start, aNumber);
  }
  checkAbove0(name, control === null ? 'damping' : 'start of damping', control?.start ?? Number(o.damping ?? 1));
  checkAbove0(name, 'klClip', o.klClip);
  checkAbove0(name, 'trust', o.trust);
  if (o.momentum !== undefined) checkRange(name, 'momentum', o.momentum, 0, 1);
  if (o.nesterov && !o.momentum) throw new RangeError(`${name}: nesterov needs a momentum above 0`);
}

function checkAbove0(name: string, option: string, value: number | false | undefined): void {
  if (value !== undefined && value !== false && !(value > 0))
    throw new RangeError(`${name}: expected ${option} > 0, got ${value}`);
}

/** Unclaimed parameters go to SGD with the same lr, and the same momentum, unless `rest` says otherwise. */
export class KFAC extends KroneckerPreconditioner {
  static readonly builtIn: string = 'KFAC';
  readonly #rule: DampedRule;

  /** `lr` defaults to 0.01. `kind` is a variant's, EKFAC's say. */
  constructor(
    model: AnyModule,
    o: KFACOptions = {},
    kind: { readonly options: OptionKinds<object>; readonly rule: DampedRule } | null = null,
  ) {
    // Before the base registers its hooks: a refused optimizer leaves none behind.
    checkOptions<object>(new.target.builtIn, o, kind?.options ?? KFAC_OPTIONS);
    checkKfacOptions(new.target.builtIn, o);
    const rule = kind?.rule ?? new DampedRule(o);
    const { momentum, nesterov } = rule;
    super(model, o, { rule, lr: 0.01, rest: (unclaimed, lr) => new SGD(unclaimed, { lr, momentum, nesterov }) });
    this.#rule = rule;
  }

  get damping(): number {
    return this.#rule.damping;
  }

  /** λ > 0; from the next step on. */
  set damping(damping: number) {
    checkArgument(nameOf(this), 'damping', damping, aNumber);
    checkAbove0(nameOf(this), 'damping', damping);
    this.checkNoStepOpen('setting damping');
    this.#rule.damping = damping;
  }

  /** Whether the last step is one after which `observeLoss` is to be called; never with a `damping` that is a number. */
  get wantsLoss(): boolean {
    return this.#rule.untold !== null;
  }

  /** ρ, what the loss fell by over what was predicted, when `observeLoss` was last called; null before. */
  get reductionRatio(): number | null {
    return this.#rule.ratio;
  }

  /**
   * With `damping: adaptiveDamping()`, after each step for which `wantsLoss` and before the next such step: the loss of the step's
   * batch with the parameters before and after it, both the mean over the batch. λ then changes by
   *
   *     ρ = (before − after) / −(⟨D, δ⟩ + ½ ⟨δ, F δ⟩)
   *
   * δ is the step of the blocks as it was made, and F the factors, or EKFAC's S, without λ. What the rest optimizer and `weightDecay`
   * change is in the losses and not in the model. A loss `after` that is not finite counts as ρ = −∞. Where values are read with
   * await, it returns a promise.
   *
   * @throws Error where no loss is wanted, or a step waits; RangeError for a `before` that is not finite
   */
  observeLoss(before: number, after: number): void | Promise<void> {
    const name = nameOf(this);
    const where = `${name}.observeLoss`;
    checkArgument(where, 'before', before, aNumber);
    checkArgument(where, 'after', after, { expected: 'a number', is: v => typeof v === 'number' });
    if (!Number.isFinite(before)) throw new RangeError(`${where}: expected before to be finite, got ${before}`);
    this.checkNoStepOpen('observeLoss()');
    const rule = this.#rule;
    const { untold } = rule;
    if (untold === null)
      throw new Error(
        rule.control === null
          ? `${where}: damping is a number here, which no loss changes: give damping: adaptiveDamping()`
          : `${where}: no loss is wanted: call it once after a step for which wantsLoss is true`,
      );
    const { decrease } = untold;
    if (typeof decrease === 'number') return rule.tell(name, before - after, decrease);
    return decrease.number().then(predicted => {
      if (rule.untold === untold) rule.tell(name, before - after, predicted);
    });
  }

  /** As `KroneckerPreconditioner.step`. Throws where losses are wanted again before those of the step that wanted them were told. */
  override step(...none: readonly never[]): void | Promise<void> {
    const { untold } = this.#rule;
    if (untold !== null && untold.index < this.steps && this.#rule.measures({ index: this.steps }))
      throw new Error(
        `${nameOf(this)}: step ${this.steps} wants losses, and nobody has told those of step ${untold.index}: after a step for which ` +
          'wantsLoss is true call observeLoss(before, after)',
      );
    return super.step(...none);
  }

  get dampingSplit(): 'eigen' | 'pi' {
    return this.#rule.dampingSplit;
  }

  get momentum(): number {
    return this.#rule.momentum;
  }

  get nesterov(): boolean {
    return this.#rule.nesterov;
  }

  get klClip(): number | false {
    return this.#rule.klClip;
  }

  get trust(): number | false {
    return this.#rule.trust;
  }
}
