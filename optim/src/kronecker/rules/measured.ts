/** Division by second moments of the gradient, measured in the eigenbasis, and damped: EKFAC's rule. */

import type { Tensor } from '@otimes/core';
import { outer, type Rotation } from '../../curvature/basis.ts';
import { batchSquares } from '../../curvature/factors.ts';
import type { NullSpace } from '../../curvature/nulls.ts';
import { type Scalar, scalarOf } from '../../curvature/scalar.ts';
import type { StepInfo } from '../rule.ts';
import type { BlockState } from '../state.ts';
import { type DampedOptions, DampedRule } from './damped.ts';

/** As in `EKFACOptions`. */
export type MeasuredOptions = Omit<DampedOptions, 'dampingSplit'> & {
  readonly secondMoment?: 'example' | 'batch' | undefined;
  readonly averageNull?: boolean | undefined;
};

/** S ← sG sAᵀ at a refresh, then S ← αS + (1−α)s on every step, that one too; the update is D̃ / (S + λ). */
export class MeasuredRule extends DampedRule {
  static override readonly builtIn: string = 'MeasuredRule';
  readonly secondMoment: 'example' | 'batch';
  readonly averageNull: boolean;

  constructor(o: MeasuredOptions = {}) {
    super(o);
    this.secondMoment = o.secondMoment ?? 'example';
    this.averageNull = o.averageNull ?? true;
  }

  override get slots(): readonly string[] {
    return [...super.slots, 'S'];
  }

  override needs(state: BlockState, step: StepInfo): 'squares' | 'batch' | 'nothing' {
    if (this.secondMoment === 'batch') return 'batch';
    return step.isStatisticsStep || step.isRefreshStep(state) ? 'squares' : 'nothing';
  }

  override refreshed(state: BlockState, rotation: Rotation | null): void {
    super.refreshed(state, rotation);
    // Made anew: those that the basis remembers are of the block's size.
    const eigenvalues = outer(state.kfe!.sG, state.kfe!.sA);
    state.slots.set('S', this.#nulls(state)?.average(eigenvalues) ?? eigenvalues);
  }

  #nulls({ kfe }: BlockState): NullSpace | null {
    return this.averageNull ? kfe!.nullSpace : null;
  }

  nullsOf(state: BlockState): { readonly A: Scalar; readonly G: Scalar } | null {
    return this.averageNull ? (this.#nulls(state)?.counts ?? { A: 0, G: 0 }) : null;
  }

  protected override measure(state: BlockState, D: Tensor, { factorDecay }: StepInfo): void {
    const s = this.secondMoment === 'batch' ? batchSquares(D, state.statistics!.batch) : state.squares;
    // Null on steps that measure none.
    if (s === null) return;
    const S = state.slots.get('S')!;
    S.addScaled_(this.#nulls(state)?.average(s) ?? s, 1 - factorDecay, factorDecay);
  }

  protected override curvature(state: BlockState): Tensor {
    return this.damped(this.undamped(state));
  }

  protected override undamped(state: BlockState): Tensor {
    return state.slots.get('S')!;
  }

  override dampingOf(state: BlockState): { readonly lambda: number; readonly mean: Scalar } {
    return { lambda: this.damping, mean: scalarOf(state.slots.get('S')!.mean()) };
  }
}
