/**
 * STEVE, Stochastic Eigenbasis-adaptive Variance Estimation: Adam's moments in the Kronecker-factored eigenbasis of the
 * Fisher. Deviations from the paper's Algorithm 1, each with its reason in docs/math.md: bias correction is Adam's,
 * the counter starts at 1, running averages, batch second moments and carried moments are the defaults, null directions get
 * rules of their own, and the step has the length of Adam's.
 */

import { adamMoments, adamStep, full, scope, type Tensor, unscoped, where, zeros } from '@otimes/core';
import { aBoolean, aNumber, checkOptions, type OptionKinds, oneOf, readsLater } from '@otimes/core/extend';
import { Adam, checkBetas } from './adam.ts';
import { checkRange } from './check.ts';
import { type Rotation, rotate, rotateSquares } from './curvature/basis.ts';
import type { NullSpace } from './curvature/nulls.ts';
import { type AnyModule, KRONECKER_OPTIONS, type KroneckerOptions, type Parameter } from './kronecker/options.ts';
import { KroneckerPreconditioner } from './kronecker/preconditioner.ts';
import type { BlockState } from './kronecker/state.ts';

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

/** At refreshes γ is measured again once there were so many times as many updates as the last time: it settles. */
const REGRAFT = 1.25;

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
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly onRefresh: 'carry' | 'zero';
  readonly nesterov: boolean;
  readonly graft: boolean;
  readonly nullRule: 'noise' | 'tolerance' | 'none';
  readonly nullTolerance: number | null;

  /** `lr` defaults to 0.01. */
  constructor(model: AnyModule, o: STEVEOptions = {}) {
    // Before the base registers its hooks: a refused optimizer leaves none behind.
    checkSteveOptions(o);
    const { betas = [0.9, 0.999], eps = 1e-8 } = o;
    super(model, o, { lr: 0.01, rest: (unclaimed: Parameter[], lr) => new Adam(unclaimed, { lr, betas, eps }) });
    this.betas = betas;
    this.eps = eps;
    this.usesExampleSquares = o.secondMoment === 'example';
    this.onRefresh = o.onRefresh ?? 'carry';
    this.nesterov = o.nesterov ?? false;
    this.graft = o.graft ?? true;
    this.nullRule = o.nullRule ?? 'noise';
    this.nullTolerance = o.nullTolerance ?? null;
  }

  protected override readonly usesExampleSquares: boolean;
  protected override readonly usesBatch = false;

  /** With what Nesterov and bias corrections add. */
  protected override get gain(): number {
    return 10 / this.eps;
  }

  protected override get slotNames(): readonly string[] {
    return ['m', 'v'];
  }

  /** m ← RGᵀ m RA, v ← (RG∘RG)ᵀ v (RA∘RA) with RA = UA_oldᵀ UA_new and RG alike. */
  protected override refreshed(state: BlockState, rotation: Rotation | null): void {
    const { block, slots, kfe } = state;
    const { dtype, device } = kfe!.sA;
    if (rotation === null || this.onRefresh === 'zero') {
      for (const name of this.slotNames) slots.set(name, zeros([block.dOut, block.dIn], { dtype, device }));
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

  protected override nullsOf(state: BlockState): { A: number; G: number } | null {
    if (this.nullRule === 'noise') return this.#nulls(state)?.counts ?? { A: 0, G: 0 };
    if (this.nullRule === 'none') return null;
    const { sA, sG } = state.kfe!.host;
    const tolerance = this.#tolerance(sA);
    const count = (s: Tensor) => s.le(s.max().mul(tolerance)).astype('float32').sum().item();
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
    return (state.isFresh ? nulls?.mask.clone() : nulls?.noise(x)) ?? null;
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

  protected override direction(state: BlockState, gradient: Tensor): Tensor {
    const D = this.#heard(state, gradient);
    const examples = this.usesExampleSquares ? this.exampleSquares(state) : null;
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

  protected override stepInBasis(state: BlockState, D: Tensor, weight: Tensor, lr: number, keep: number): boolean {
    const { graft } = state;
    if (this.nesterov || this.usesExampleSquares || this.#nulls(state) !== null || this.#graftsNext(state))
      return false;
    // The kernel takes numbers.
    if (typeof graft !== 'number') return false;
    const [m, v] = [state.slots.get('m')!, state.slots.get('v')!];
    adamStep(weight, m, v, this.#heard(state, D), { ...this.#next(state), lr: lr * graft, keep });
    return true;
  }
}
