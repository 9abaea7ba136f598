/** Adam's moments in the eigenbasis: STEVE's rule. */

import { adamMoments, adamStep, full, scope, type Tensor, unscoped, where, zeros } from '@otimes/core';
import { readsLater } from '@otimes/core/extend';
import { type Rotation, rotate, rotateSquares } from '../../curvature/basis.ts';
import type { NullSpace } from '../../curvature/nulls.ts';
import { type Scalar, scalarOf } from '../../curvature/scalar.ts';
import type { Rule, StepInfo } from '../rule.ts';
import type { BlockState } from '../state.ts';

/** As in `STEVEOptions`. */
export type AdamRuleOptions = {
  readonly betas?: readonly [number, number] | undefined;
  readonly eps?: number | undefined;
  readonly secondMoment?: 'batch' | 'example' | undefined;
  readonly onRefresh?: 'carry' | 'zero' | undefined;
  readonly nesterov?: boolean | undefined;
  readonly graft?: boolean | undefined;
  readonly nullRule?: 'noise' | 'tolerance' | 'none' | undefined;
  readonly nullTolerance?: number | undefined;
};

/** At refreshes γ is measured again once there were so many times as many updates as the last time: it settles. */
const REGRAFT = 1.25;

export class AdamRule implements Rule {
  static readonly builtIn: string = 'AdamRule';
  readonly slots: readonly string[] = ['m', 'v'];
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly secondMoment: 'batch' | 'example';
  readonly onRefresh: 'carry' | 'zero';
  readonly nesterov: boolean;
  readonly graft: boolean;
  readonly nullRule: 'noise' | 'tolerance' | 'none';
  readonly nullTolerance: number | null;

  constructor(o: AdamRuleOptions = {}) {
    this.betas = o.betas ?? [0.9, 0.999];
    this.eps = o.eps ?? 1e-8;
    this.secondMoment = o.secondMoment ?? 'batch';
    this.onRefresh = o.onRefresh ?? 'carry';
    this.nesterov = o.nesterov ?? false;
    this.graft = o.graft ?? true;
    this.nullRule = o.nullRule ?? 'noise';
    this.nullTolerance = o.nullTolerance ?? null;
  }

  needs(_state: BlockState, _step: StepInfo): 'squares' | 'nothing' {
    return this.secondMoment === 'example' ? 'squares' : 'nothing';
  }

  /** With what Nesterov and bias corrections add. */
  get gain(): number {
    return 10 / this.eps;
  }

  /** m ← RGᵀ m RA, v ← (RG∘RG)ᵀ v (RA∘RA) with RA = UA_oldᵀ UA_new and RG alike. */
  refreshed(state: BlockState, rotation: Rotation | null): void {
    const { block, slots, kfe } = state;
    const { dtype, device } = kfe!.sA;
    if (rotation === null || this.onRefresh === 'zero') {
      for (const name of this.slots) slots.set(name, zeros([block.dOut, block.dIn], { dtype, device }));
      state.count = 0;
      return;
    }
    const [m, v] = [slots.get('m')!, slots.get('v')!];
    const squares = rotateSquares(v, rotation);
    const first = this.#heard(state, rotate(m, rotation));
    const second = this.#nulls(state)?.average(squares) ?? squares;
    if (readsLater(m)) {
      // Where a check may have failed that nobody knows of yet, nothing is written in place, but the basis is new.
      slots.set('m', first).set('v', second);
    } else {
      // In place, which leaves nothing to collect.
      m.copy_(first);
      v.copy_(second);
    }
    if (this.graft && state.count >= REGRAFT * state.graftedAt) this.#measureGraft(state);
  }

  /** Of the rule 'noise'; null where no direction is null. */
  #nulls({ kfe }: BlockState): NullSpace | null {
    return this.nullRule === 'noise' ? kfe!.nullSpace : null;
  }

  nullsOf(state: BlockState): { readonly A: Scalar; readonly G: Scalar } | null {
    if (this.nullRule === 'noise') return this.#nulls(state)?.counts ?? { A: 0, G: 0 };
    if (this.nullRule === 'none') return null;
    const { sA, sG } = state.kfe!.host;
    const tolerance = this.#tolerance(sA);
    const count = (s: Tensor) => scalarOf(s.le(s.max().mul(tolerance)).astype('float32').sum());
    return { A: count(sA), G: count(sG) };
  }

  #tolerance({ dtype }: Tensor): number {
    return this.nullTolerance ?? (dtype === 'float32' ? 1e-6 : 1e-14);
  }

  /**
   * D̃ or a first moment without what the rule takes for rounding noise. With factors that have the current batch in them, all
   * of a null direction is. With older ones, from a step before or from the background, what came since may be real.
   */
  #heard(state: BlockState, x: Tensor): Tensor {
    // The state releases it at the next step.
    state.silent = unscoped(() => scope(() => this.#silent(state, x)));
    return state.silent === null ? x : where(state.silent, 0, x);
  }

  /** A mask of its own, or null for nothing. */
  #silent(state: BlockState, x: Tensor): Tensor | null {
    if (this.nullRule === 'tolerance') return state.kfe!.aliveAbove(this.#tolerance(x))?.logicalNot() ?? null;
    const nulls = this.#nulls(state);
    return (state.isFresh ? nulls?.mask() : nulls?.noise(x)) ?? null;
  }

  /** Adam's constants at the block's next count. */
  #next(state: BlockState) {
    state.count++;
    return this.#constants(state);
  }

  #constants({ count }: BlockState) {
    const [beta1, beta2] = this.betas;
    return { beta1, beta2, eps: this.eps, correction1: 1 - beta1 ** count, correction2: 1 - beta2 ** count };
  }

  /** Whether the block's next update is its 1st, 2nd, 4th, 8th, …, and γ is to be measured after it. */
  #graftsNext({ count }: BlockState): boolean {
    return this.graft && Number.isInteger(Math.log2(count + 1));
  }

  /** γ of the moments as they are. It stays what it was where one of the norms is 0 or not finite. */
  #measureGraft(state: BlockState): void {
    const [m, v] = [state.slots.get('m')!, state.slots.get('v')!];
    // By the kernel of the step itself, with moments that stay: in the identity basis γ is 1, bit for bit.
    const o = { ...this.#constants(state), beta1: 1, beta2: 1 };
    const length = (m: Tensor, v: Tensor) => adamMoments(m, v, m, v, o).norm();
    const { kfe } = state;
    const [inWeights, inBasis] = [length(kfe!.unproject(m), kfe!.unprojectSquares(v)), length(m, v)];
    state.graftedAt = state.count;
    if (readsLater(inBasis)) {
      const graft = inWeights.div(inBasis);
      const before = state.graft;
      const after = where(graft.gt(0).logicalAnd(graft.isFinite()), graft, before);
      if (typeof before !== 'number') before.copy_(after);
      else state.graft = full([], before, { dtype: m.dtype, device: m.device }).keep().copy_(after);
      return;
    }
    const graft = inWeights.item() / inBasis.item();
    if (graft > 0 && graft < Infinity) state.graft = graft;
  }

  direction(state: BlockState, gradient: Tensor, _step: StepInfo): Tensor {
    const D = this.#heard(state, gradient);
    const examples = this.secondMoment === 'example' ? squaresOf(state) : null;
    const second = this.#nulls(state)?.average(examples ?? D.square()) ?? examples;
    const grafts = this.#graftsNext(state);
    const o = this.#next(state);
    const { beta1, correction1, correction2 } = o;
    const [m, v] = [state.slots.get('m')!, state.slots.get('v')!];
    const normalised = adamMoments(m, v, D, second, o);
    if (grafts) this.#measureGraft(state);
    if (!this.nesterov) return normalised;
    // β₁ m̂ of the next step, with the current gradient in place of the unknown one (Dozat 2016).
    const ahead = m.mul(beta1 / (1 - beta1 ** (state.count + 1))).add(D.mul((1 - beta1) / correction1));
    return ahead.div(v.div(correction2).sqrt().add(this.eps));
  }

  stepInBasis(state: BlockState, D: Tensor, weight: Tensor, lr: number, keep: number): boolean {
    const { graft } = state;
    if (this.nesterov || this.secondMoment === 'example' || this.#nulls(state) !== null || this.#graftsNext(state))
      return false;
    // The kernel takes numbers.
    if (typeof graft !== 'number') return false;
    const [m, v] = [state.slots.get('m')!, state.slots.get('v')!];
    adamStep(weight, m, v, this.#heard(state, D), { ...this.#next(state), lr: lr * graft, keep });
    return true;
  }
}

/** The examples' second moments, which a step that asks for them has. */
function squaresOf({ squares, label }: BlockState): Tensor {
  if (squares === null) throw new Error(`${label} collected no second moments in this step`);
  return squares;
}
