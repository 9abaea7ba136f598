/** EKFAC (George et al. 2018): KFAC with the eigenvalues replaced by second moments measured in the eigenbasis. */

import type { Tensor } from '@otimes/core';
import { checkChoice } from './check.ts';
import { KFAC, KFAC_OPTIONS, type KFACOptions } from './kfac.ts';
import { batchSquares } from './kronecker/factors.ts';
import type { Rotation } from './kronecker/kfe.ts';
import type { AnyModule } from './kronecker/options.ts';
import type { BlockState } from './kronecker/state.ts';

export type EKFACOptions = Omit<KFACOptions, 'dampingSplit'> & {
  /** s = mean_b (UGᵀ D_b UA)² ('example', default), or B (UGᵀ D UA)² ('batch'), which costs nothing more. */
  secondMoment?: 'example' | 'batch';
};

const { dampingSplit: _, ...SHARED } = KFAC_OPTIONS;
const EKFAC_OPTIONS = { ...SHARED, secondMoment: true } satisfies Record<keyof EKFACOptions, true>;

/** S ← sG sAᵀ at a refresh, then S ← αS + (1−α)s on every step, that one too; the update is D̃ / (S + λ). */
export class EKFAC extends KFAC {
  static override readonly name: string = 'EKFAC';
  readonly secondMoment: 'example' | 'batch';

  /** `lr` defaults to 0.01. */
  constructor(model: AnyModule, o: EKFACOptions = {}) {
    checkChoice(new.target.name, 'secondMoment', o.secondMoment, ['example', 'batch']);
    super(model, o, EKFAC_OPTIONS);
    this.secondMoment = o.secondMoment ?? 'example';
    this.usesExampleSquares = this.secondMoment === 'example';
    this.usesBatch = this.secondMoment === 'batch';
  }

  protected override readonly usesExampleSquares: boolean;

  protected override readonly usesBatch: boolean;

  protected override get slotNames(): readonly string[] {
    return [...super.slotNames, 'S'];
  }

  protected override needsExampleSquares(state: BlockState): boolean {
    return this.usesExampleSquares && (this.isStatisticsStep || this.isRefreshStep(state));
  }

  protected override refreshed(state: BlockState, rotation: Rotation | null): void {
    super.refreshed(state, rotation);
    state.slots.set('S', state.kfe!.eigenvalues().clone());
  }

  protected override curvature(state: BlockState, D: Tensor): Tensor {
    const S = state.slots.get('S')!;
    const s = this.#secondMoments(state, D);
    const alpha = this.factorDecay;
    if (s !== null) S.addScaled_(s, 1 - alpha, alpha);
    return this.damped(S);
  }

  /** Null on steps that measure none. */
  #secondMoments(state: BlockState, D: Tensor): Tensor | null {
    if (!this.usesExampleSquares) return batchSquares(D, state.statistics!.batch);
    return state.statistics?.hasSamples ? this.exampleSquares(state) : null;
  }

  protected override dampingOf(state: BlockState): { lambda: number; mean: number } | null {
    return { lambda: this.damping, mean: state.slots.get('S')!.mean().item() };
  }
}
