/**
 * SOAP (Vyas et al. 2025, "SOAP: Improving and stabilizing Shampoo using Adam", https://arxiv.org/abs/2409.11321): Adam in slowly
 * changing bases of eigenvectors of Shampoo's factors, in the order of the authors' code.
 */

import { adamMoments, type Tensor } from '@otimes/core';
import { aBoolean, aNumber, checkOptions, checkRange, type OptionKinds } from '@otimes/core/extend';
import { AdamW, checkBetas } from './adam.ts';
import type { AnyModule } from './kronecker/options.ts';
import type { Direction, HostWork, MatrixStep } from './matrix/direction.ts';
import {
  announcer,
  averaged,
  checkFactorOptions,
  checkPositive,
  eigenbases,
  type FactorOptions,
  listed,
  momentOf,
  named,
  powerSteps,
  rootMeanSquare,
  type Side,
  type Slots,
  sidesIn,
  sidesOf,
  squares,
  structureOf,
  turned,
  turnedBack,
  twoNumbers,
} from './matrix/factors.ts';
import { MatrixOptimizer } from './matrix/optimizer.ts';
import { MATRIX_OPTIONS, type MatrixOptions } from './matrix/options.ts';

export type SOAPOptions = MatrixOptions &
  FactorOptions & {
    /** Default 3e-3. */
    lr?: number;
    /** β₁ and β₂ of Adam; default [0.95, 0.95]. */
    betas?: readonly [number, number];
    /** The share of the old factors that stays, in [0, 1); β₂ where it is negative, as by default, −1. */
    shampooBeta?: number;
    /** Added to √v, above 0; default 1e-8. */
    eps?: number;
    /** Decoupled, after the update: matrices shrink by lr · weightDecay. Default 0.01. */
    weightDecay?: number;
    /** Divide each update by its root mean square; default false. */
    normalizeGrads?: boolean;
    /** Only the smaller side of a matrix has a basis, of a square one the rows; default false. */
    oneSided?: boolean;
  };

const OPTIONS: OptionKinds<SOAPOptions> = {
  ...MATRIX_OPTIONS,
  refreshEvery: aNumber,
  maxFactorDim: aNumber,
  betas: twoNumbers,
  shampooBeta: aNumber,
  eps: aNumber,
  normalizeGrads: aBoolean,
  oneSided: aBoolean,
};

/**
 * For the matrix of a weight with gradient D [rows, columns], L of its rows and R of its columns with bases QL and QR:
 *
 *     m ← β₁ m + (1−β₁) D̃,  v ← β₂ v + (1−β₂) D̃²,  D̃ = QLᵀ D QR
 *     W ← (1 − lr · weightDecay) (W − lr · c QL (m / (√v + ε)) QRᵀ),  c = √(1−β₂ᵗ) / (1−β₁ᵗ)
 *     L ← β L + (1−β) D Dᵀ,  R ← β R + (1−β) Dᵀ D
 *
 * and every `refreshEvery` of these steps, for both, Q ← the Q of qr(L Q), its columns in descending order of diag(Qᵀ L Q); v follows
 * that order, and m turns into the new basis. **The first step moves no matrix**: it makes the factors of its gradient and takes their
 * eigenvectors, so that no gradient is seen in a basis that was made of it. The rest optimizer does step then.
 */
export class SOAP extends MatrixOptimizer {
  static readonly builtIn: string = 'SOAP';
  readonly betas: readonly [number, number];
  readonly shampooBeta: number;
  readonly eps: number;
  readonly normalizeGrads: boolean;
  readonly refreshEvery: number;
  readonly #announce: ReturnType<typeof announcer>;

  /** `rest` defaults to AdamW with the same lr, betas, eps and weightDecay. */
  constructor(model: AnyModule, o: SOAPOptions = {}) {
    const name = new.target.builtIn;
    checkOptions<SOAPOptions>(name, o, OPTIONS);
    const { betas = [0.95, 0.95], shampooBeta = -1, eps = 1e-8, normalizeGrads = false, oneSided = false } = o;
    const { maxFactorDim, refreshEvery } = checkFactorOptions(name, o);
    checkBetas(name, betas);
    checkRange(name, 'shampooBeta', shampooBeta, -Infinity, 1);
    checkPositive(name, 'eps', eps);
    const sides = (rows: number, columns: number) => sidesOf(rows, columns, maxFactorDim, oneSided);
    const { lr = 3e-3, weightDecay = 0.01 } = o;
    super(model, o, {
      ...{ lr: 3e-3, weightDecay: 0.01, decaysLast: true, counts: true },
      rest: unclaimed => new AdamW(unclaimed, { lr, betas, eps, weightDecay }),
      restGain: 1 / eps,
      squares: ['v'],
      structure: (rows, columns) => structureOf(sides(rows, columns)),
      slots: (rows, columns) => ({
        m: [rows, columns],
        v: [rows, columns],
        ...squares(sides(rows, columns), rows, columns, ['', 'Q']),
      }),
    });
    this.betas = betas;
    this.shampooBeta = shampooBeta < 0 ? betas[1] : shampooBeta;
    this.eps = eps;
    this.normalizeGrads = normalizeGrads;
    this.refreshEvery = refreshEvery;
    this.#announce = announcer(name);
  }

  /** Those of a matrix depend on its shape. */
  protected override get slotNames(): readonly string[] {
    return [];
  }

  protected override hostWork(g: Tensor, slots: readonly Tensor[], step: MatrixStep): HostWork | null {
    const before = named(step, slots);
    if (step.steps === 0) {
      const factors = Object.values(this.#factors(g, before, step));
      this.#announce(step.path, factors);
      return eigenbases(factors);
    }
    if (!this.#refreshes(step)) return null;
    const now = this.#factors(g, before, step);
    return powerSteps(sidesIn(step).map(side => [now[side]!, before[`Q${side}`]!]));
  }

  protected override direction(
    g: Tensor,
    slots: readonly Tensor[],
    step: MatrixStep,
    solved: readonly Tensor[],
  ): Direction {
    const before = named(step, slots);
    const factors = this.#factors(g, before, step);
    const sides = sidesIn(step);
    if (step.steps === 0) {
      const bases = Object.fromEntries(sides.map((side, i) => [`Q${side}`, solved[i]!]));
      return { update: null, slots: listed(step, before, { ...factors, ...bases }) };
    }
    const [m, v] = [before.m!.clone(), before.v!.clone()];
    const update = this.#update(g, before, m, v, step.steps);
    const now = this.#refreshes(step) ? refreshed(before, m, v, sides, solved) : { m, v };
    return { update, slots: listed(step, before, { ...factors, ...now }) };
  }

  /** Every so many steps that move the matrix. */
  #refreshes({ steps }: MatrixStep): boolean {
    return steps % this.refreshEvery === 0;
  }

  /** L and R with this gradient. */
  #factors(g: Tensor, before: Slots, step: MatrixStep): Slots {
    const of = (side: Side) => averaged(before[side]!, this.shampooBeta, momentOf(side, g));
    return Object.fromEntries(sidesIn(step).map(side => [side, of(side)]));
  }

  /** Updates m and v in place; `t` counts from 1. */
  #update(g: Tensor, bases: Slots, m: Tensor, v: Tensor, t: number): Tensor {
    const [beta1, beta2] = this.betas;
    const [correction1, correction2] = [1 - beta1 ** t, 1 - beta2 ** t];
    // Authors add ε to √v, and not to √(v / correction₂) as Adam does.
    const eps = this.eps / Math.sqrt(correction2);
    const turnedMoments = adamMoments(m, v, turned(g, bases), null, { beta1, beta2, eps, correction1, correction2 });
    const update = turnedBack(turnedMoments, bases);
    if (!this.normalizeGrads) return update;
    const correction = Math.sqrt(correction2) / correction1;
    // The root mean square of the update without the correction, which stays.
    return update.div(rootMeanSquare(update).div(correction).add(TINY));
  }
}

/** As the authors have it. */
const TINY = 1e-30;

/** The new bases, m turned into them, and v in the new order. */
function refreshed(before: Slots, m: Tensor, v: Tensor, sides: readonly Side[], solved: readonly Tensor[]): Slots {
  const bases = Object.fromEntries(sides.map((side, i) => [`Q${side}`, solved[2 * i]!]));
  const sorted = sides.reduce((x, side, i) => x.indexSelect(side === 'L' ? 0 : 1, solved[2 * i + 1]!), v);
  return { ...bases, m: turned(turnedBack(m, before), bases), v: sorted };
}
