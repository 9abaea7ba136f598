/** EKFAC (George et al. 2018): KFAC with the eigenvalues replaced by second moments measured in the eigenbasis. */

import { aBoolean, checkOptions, type OptionKinds, oneOf } from '@otimes/core/extend';
import { KFAC, KFAC_OPTIONS, type KFACOptions } from './kfac.ts';
import type { AnyModule } from './kronecker/options.ts';
import { MeasuredRule } from './kronecker/rules/measured.ts';

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
    const all = { ...o, klClip: o.klClip ?? 3e-3, trust: o.trust ?? false };
    const rule = new MeasuredRule(all);
    super(model, all, { options: EKFAC_OPTIONS, rule });
    this.secondMoment = rule.secondMoment;
    this.averageNull = rule.averageNull;
  }
}
