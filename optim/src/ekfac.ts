/** EKFAC (George et al. 2018): KFAC with the eigenvalues replaced by second moments measured in the eigenbasis. */

import type { Tensor } from '@otimes/core';
import { checkChoice } from './check.ts';
import { KFAC, KFAC_OPTIONS, type KFACOptions } from './kfac.ts';
import { batchSquares } from './kronecker/factors.ts';
import type { Kfe } from './kronecker/kfe.ts';
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
  readonly secondMoment: 'example' | 'batch';

  /** `lr` defaults to 0.01. */
  constructor(model: AnyModule, o: EKFACOptions = {}) {
    checkChoice(new.target.name, 'secondMoment', o.secondMoment, ['example', 'batch']);
    super(model, o, EKFAC_OPTIONS);
    this.secondMoment = o.secondMoment ?? 'example';
    this.usesExampleSquares = this.secondMoment === 'example';
  }

  protected override readonly usesExampleSquares: boolean;

  protected override get slotNames(): readonly string[] {
    return [...super.slotNames, 'S'];
  }

  protected override refreshed(state: BlockState, _before: Kfe | null): void {
    state.slots.set('S', state.kfe!.eigenvalues());
  }

  protected override curvature(state: BlockState, basis: Kfe, projected: Tensor): Tensor {
    const { batch, squares } = state.pending!;
    const s = this.usesExampleSquares ? squares(basis) : batchSquares(projected, batch);
    const alpha = this.factorDecay;
    const S = state.slots
      .get('S')!
      .scale_(alpha)
      .addScaled_(s, 1 - alpha);
    return S.add(this.damping);
  }
}
