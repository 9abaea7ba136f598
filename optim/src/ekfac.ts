/** EKFAC (George et al. 2018): KFAC with the eigenvalues replaced by second moments measured in the eigenbasis. */

import type { Tensor } from '@otimes/core';
import { aBoolean, checkOptions, type OptionKinds, oneOf } from '@otimes/core/extend';
import type { Rotation } from './curvature/basis.ts';
import { batchSquares } from './curvature/factors.ts';
import type { NullSpace } from './curvature/nulls.ts';
import { type Scalar, scalarOf } from './curvature/scalar.ts';
import { KFAC, KFAC_OPTIONS, type KFACOptions } from './kfac.ts';
import type { AnyModule } from './kronecker/options.ts';
import type { BlockState } from './kronecker/state.ts';

export type EKFACOptions = Omit<KFACOptions, 'dampingSplit'> & {
  /** s = mean_b (UGᵀ D_b UA)² ('example', default), or B (UGᵀ D UA)² ('batch'), which costs nothing more. */
  secondMoment?: 'example' | 'batch';
  /**
   * S and what enters it become their mean over A's null directions, row by row, and over G's, column by column: within such a
   * space the eigenvectors are arbitrary, and single measurements would be so too. Null as in STEVE's `nullRule: 'noise'`.
   * Default true.
   */
  averageNull?: boolean;
};

const { dampingSplit: _, ...SHARED } = KFAC_OPTIONS;
const EKFAC_OPTIONS: OptionKinds<EKFACOptions> = {
  ...SHARED,
  secondMoment: oneOf('example', 'batch'),
  averageNull: aBoolean,
};

/** S ← sG sAᵀ at a refresh, then S ← αS + (1−α)s on every step, that one too; the update is D̃ / (S + λ). */
export class EKFAC extends KFAC {
  static override readonly builtIn: string = 'EKFAC';
  readonly secondMoment: 'example' | 'batch';
  readonly averageNull: boolean;

  /** `lr` defaults to 0.01. */
  constructor(model: AnyModule, o: EKFACOptions = {}) {
    checkOptions<EKFACOptions>(new.target.builtIn, o, EKFAC_OPTIONS);
    super(model, { ...o, klClip: o.klClip ?? 3e-3, trust: o.trust ?? false }, EKFAC_OPTIONS);
    this.averageNull = o.averageNull ?? true;
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
    const eigenvalues = state.kfe!.eigenvalues();
    state.slots.set('S', this.#nulls(state)?.average(eigenvalues) ?? eigenvalues.clone());
  }

  #nulls({ kfe }: BlockState): NullSpace | null {
    return this.averageNull ? kfe!.nullSpace : null;
  }

  protected override nullsOf(state: BlockState): { A: number; G: number } | null {
    return this.averageNull ? (this.#nulls(state)?.counts ?? { A: 0, G: 0 }) : null;
  }

  protected override curvature(state: BlockState, D: Tensor): Tensor {
    const S = state.slots.get('S')!;
    const s = this.#secondMoments(state, D);
    const alpha = this.factorDecay;
    if (s !== null) S.addScaled_(this.#nulls(state)?.average(s) ?? s, 1 - alpha, alpha);
    return this.damped(S);
  }

  /** Null on steps that measure none. */
  #secondMoments(state: BlockState, D: Tensor): Tensor | null {
    if (!this.usesExampleSquares) return batchSquares(D, state.statistics!.batch);
    return state.statistics?.hasSamples ? this.exampleSquares(state) : null;
  }

  protected override dampingOf(state: BlockState): { lambda: number; mean: Scalar } | null {
    return { lambda: this.damping, mean: scalarOf(state.slots.get('S')!.mean()) };
  }
}
