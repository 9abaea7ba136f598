/**
 * STEVE, Stochastic Eigenbasis-adaptive Variance Estimation: Adam's moments in the Kronecker-factored eigenbasis of the
 * Fisher. Deviations from the paper's Algorithm 1, each with its reason in docs/math.md: bias correction is Adam's,
 * the counter starts at 1, running averages, batch second moments and carried moments are the defaults, null directions get
 * rules of their own, and the step has the length of Adam's.
 */

import { aBoolean, aNumber, checkOptions, checkRange, type OptionKinds, oneOf } from '@otimes/core/extend';
import { Adam, checkBetas } from './adam.ts';
import { type AnyModule, KRONECKER_OPTIONS, type KroneckerOptions } from './kronecker/options.ts';
import { KroneckerPreconditioner } from './kronecker/preconditioner.ts';
import type { Kind } from './kronecker/rule.ts';
import { AdamRule } from './kronecker/rules/adam.ts';

export type STEVEOptions = KroneckerOptions & {
  /** β₁, β₂: decay of the first and second moment. Default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** ε, added to √v̂. Default 1e-8. */
  eps?: number;
  /** v averages D̃² ('batch', default) or mean_b (UGᵀ D_b UA)² ('example', which wants about ten times the lr). */
  secondMoment?: 'batch' | 'example';
  /** What happens to the moments when the basis changes: 'carry' (default) into the new one, or start at 'zero'. */
  onRefresh?: 'carry' | 'zero';
  /** The update looks ahead along the first moment, as NAdam's does. Default false. */
  nesterov?: boolean;
  /**
   * The step of each block is γ times as long: as long, in the norm, as Adam's step in parameter coordinates with the same
   * moments, so that learning rates mean what they mean to Adam. γ = ‖mₚ / (√vₚ + ε)‖ / ‖m̂ / (√v̂ + ε)‖ with mₚ = UG m̂ UAᵀ and
   * vₚ = (UG∘UG) v̂ (UA∘UA)ᵀ, measured after 1, 2, 4, 8, … updates and at refreshes. Default true.
   */
  graft?: boolean;
  /**
   * What becomes of directions that the factors' examples had no part in, where the division by √v̂ would bring rounding noise
   * to full length. 'noise' (default): a direction is null if s_j ≤ c ε n_j + 1e-14 max s, with n_j = Σ_k U_kj² A_kk (G alike), ε of
   * the dtype and c = 30 (√n from n = 900 on). On steps that refresh the basis its coordinates are left out; on others those with
   * |D̃_ij| ≤ 30 ε √(nG_i nA_j); and v is averaged over the null space. 'tolerance': coordinates whose eigenvalue in A or G is at
   * most `nullTolerance` times the largest are never updated. 'none': all are.
   */
  nullRule?: 'noise' | 'tolerance' | 'none';
  /** Of `nullRule: 'tolerance'` alone, in [0, 1). Default 1e-6 in float32, 1e-14 in float64. */
  nullTolerance?: number;
};

const STEVE_OPTIONS: OptionKinds<STEVEOptions> = {
  ...KRONECKER_OPTIONS,
  betas: {
    expected: 'two numbers such as [0.9, 0.999]',
    is: v => Array.isArray(v) && v.length === 2 && v.every(aNumber.is),
  },
  eps: aNumber,
  secondMoment: oneOf('batch', 'example'),
  onRefresh: oneOf('carry', 'zero'),
  nesterov: aBoolean,
  graft: aBoolean,
  nullRule: oneOf('noise', 'tolerance', 'none'),
  nullTolerance: aNumber,
};

function checkSteveOptions(o: STEVEOptions): void {
  checkOptions('STEVE', o, STEVE_OPTIONS);
  if (o.betas !== undefined) checkBetas('STEVE', o.betas);
  if (o.eps !== undefined) checkRange('STEVE', 'eps', o.eps, 0, Infinity);
  if (o.nullTolerance !== undefined) checkRange('STEVE', 'nullTolerance', o.nullTolerance, 0, 1);
  if (o.nullTolerance !== undefined && o.nullRule !== 'tolerance')
    throw new TypeError(
      `STEVE: nullTolerance needs nullRule: 'tolerance', got ${o.nullRule === undefined ? "the default, 'noise'" : `'${o.nullRule}'`}`,
    );
}

/** Unclaimed parameters go to Adam with the same lr, betas and eps unless `rest` says otherwise. */
export class STEVE extends KroneckerPreconditioner {
  static readonly builtIn: string = 'STEVE';
  readonly #rule: AdamRule;

  /** `lr` defaults to 0.01. */
  constructor(model: AnyModule, o: STEVEOptions = {}) {
    // Before the base registers its hooks: a refused optimizer leaves none behind.
    checkSteveOptions(o);
    const rule = new AdamRule(o);
    const { betas, eps } = rule;
    const rest: Kind['rest'] = (unclaimed, lr) => new Adam(unclaimed, { lr, betas, eps });
    super(model, o, { rule, lr: 0.01, rest, rareStatistics: true });
    this.#rule = rule;
  }

  get betas(): readonly [number, number] {
    return this.#rule.betas;
  }

  get eps(): number {
    return this.#rule.eps;
  }

  get onRefresh(): 'carry' | 'zero' {
    return this.#rule.onRefresh;
  }

  get nesterov(): boolean {
    return this.#rule.nesterov;
  }

  get graft(): boolean {
    return this.#rule.graft;
  }

  get nullRule(): 'noise' | 'tolerance' | 'none' {
    return this.#rule.nullRule;
  }

  get nullTolerance(): number | null {
    return this.#rule.nullTolerance;
  }
}
