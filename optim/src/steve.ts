/**
 * STEVE, Stochastic Eigenbasis-adaptive Variance Estimation: Adam's moments in the Kronecker-factored eigenbasis of the
 * Fisher. Deviations from the paper's Algorithm 1, each with its reason in docs/math.md: bias correction is Adam's,
 * the counter starts at 1, and running averages, batch second moments and carried moments are the defaults.
 */

import { adamMoments, adamStep, type Tensor, zeros } from '@otimes/core';
import { Adam, checkBetas } from './adam.ts';
import { checkChoice, checkKnown, checkRange } from './check.ts';
import { type Rotation, rotate, rotateSquares } from './kronecker/kfe.ts';
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
   * Coordinates whose eigenvalue in A or G is at most this fraction of the largest are not updated. Default 1e-6 in
   * float32, 1e-14 in float64: what rounding leaves of a null direction.
   */
  nullTolerance?: number;
};

const STEVE_OPTIONS = {
  ...KRONECKER_OPTIONS,
  betas: true,
  eps: true,
  secondMoment: true,
  onRefresh: true,
  nesterov: true,
  nullTolerance: true,
} satisfies Record<keyof STEVEOptions, true>;

function checkSteveOptions(o: STEVEOptions): void {
  checkKnown('STEVE', o, STEVE_OPTIONS);
  if (o.betas !== undefined) checkBetas('STEVE', o.betas);
  if (o.eps !== undefined) checkRange('STEVE', 'eps', o.eps, 0, Infinity);
  if (o.nullTolerance !== undefined) checkRange('STEVE', 'nullTolerance', o.nullTolerance, 0, 1);
  checkChoice('STEVE', 'secondMoment', o.secondMoment, ['batch', 'example']);
  checkChoice('STEVE', 'onRefresh', o.onRefresh, ['carry', 'zero']);
}

/** Unclaimed parameters go to Adam with the same lr, betas and eps unless `rest` says otherwise. */
export class STEVE extends KroneckerPreconditioner {
  static override readonly name: string = 'STEVE';
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly onRefresh: 'carry' | 'zero';
  readonly nesterov: boolean;
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
    this.nullTolerance = o.nullTolerance ?? null;
  }

  protected override readonly usesExampleSquares: boolean;
  protected override readonly usesBatch = false;

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
    // In place, which leaves nothing to collect. What null directions of the new basis would get is rounding noise, as their
    // gradients are.
    m.copy_(this.#masked(state, rotate(m, rotation)));
    v.copy_(rotateSquares(v, rotation));
  }

  #masked({ kfe }: BlockState, x: Tensor): Tensor {
    return kfe!.maskNull(x, this.nullTolerance ?? (x.dtype === 'float32' ? 1e-6 : 1e-14));
  }

  /** Adam's constants at the block's next count. */
  #next(state: BlockState) {
    const [beta1, beta2] = this.betas;
    state.count++;
    const [correction1, correction2] = [1 - beta1 ** state.count, 1 - beta2 ** state.count];
    return { beta1, beta2, eps: this.eps, correction1, correction2 };
  }

  protected override direction(state: BlockState, gradient: Tensor): Tensor {
    const D = this.#masked(state, gradient);
    const second = this.usesExampleSquares ? this.exampleSquares(state) : null;
    const o = this.#next(state);
    const { beta1, correction1, correction2 } = o;
    const [m, v] = [state.slots.get('m')!, state.slots.get('v')!];
    const normalised = adamMoments(m, v, D, second, o);
    if (!this.nesterov) return normalised;
    // β₁ m̂ of the next step, with the current gradient in place of the unknown one (Dozat 2016).
    const ahead = m.mul(beta1 / (1 - beta1 ** (state.count + 1))).add(D.mul((1 - beta1) / correction1));
    return ahead.div(v.div(correction2).sqrt().add(this.eps));
  }

  protected override stepInBasis(state: BlockState, D: Tensor, weight: Tensor, lr: number, keep: number): boolean {
    if (this.nesterov || this.usesExampleSquares) return false;
    const [m, v] = [state.slots.get('m')!, state.slots.get('v')!];
    adamStep(weight, m, v, this.#masked(state, D), { ...this.#next(state), lr, keep });
    return true;
  }
}
