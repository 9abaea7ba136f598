/**
 * KL-Shampoo (Lin et al. 2025, "Understanding and improving Shampoo and SOAP via Kullback–Leibler minimization",
 * https://arxiv.org/abs/2509.03378): Shampoo with power −1/2, whose factors are each estimated over the inverse of the other, in the order
 * of the authors' code (https://github.com/yorkerlin/KL-Methods).
 */

import type { Tensor } from '@otimes/core';
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

export type KLShampooOptions = MatrixOptions &
  FactorOptions & {
    /** Default 3e-3. */
    lr?: number;
    /** β₁ of the momentum, and β₂ of factors and eigenvalues; default [0.9, 0.98]. */
    betas?: readonly [number, number];
    /** The share of old factors and eigenvalues that stays, in [0, 1); β₂ where it is negative, as by default, −1. */
    shampooBeta?: number;
    /** Added to √(λL λR), above 0; default 1e-8. */
    eps?: number;
    /** Decoupled, after the update: matrices shrink by lr · weightDecay. Default 0.01. */
    weightDecay?: number;
    /** Divide each update by its root mean square; default false. */
    normalizeGrads?: boolean;
    /** The eigenvalues at the start, above 0; default 0.1. */
    initFactor?: number;
    /**
     * Eigenvalues of a side of n coordinates are at least 1 / max(10, min(n, 4000))², as in the authors' code. Default true. False: at
     * least 1e-30.
     */
    clamping?: boolean;
  };

const OPTIONS: OptionKinds<KLShampooOptions> = {
  ...MATRIX_OPTIONS,
  refreshEvery: aNumber,
  maxFactorDim: aNumber,
  betas: twoNumbers,
  shampooBeta: aNumber,
  eps: aNumber,
  normalizeGrads: aBoolean,
  initFactor: aNumber,
  clamping: aBoolean,
};

const TINY = 1e-30;

/**
 * For the matrix of a weight with gradient D [rows, columns], L of its rows and R of its columns with bases QL and QR, in which they
 * have the eigenvalues λL and λR:
 *
 *     m ← β₁ m + (1−β₁) D
 *     W ← (1 − lr · weightDecay) (W − lr QL (QLᵀ m QR / (√(λL λRᵀ) + ε)) QRᵀ)
 *     L ← β L + (1−β) D R⁻¹ Dᵀ / columns,  R⁻¹ = QR diag(1/λR) QRᵀ;  R alike, of Dᵀ L⁻¹ D / rows with the old L
 *     λL ← β λL + (1−β) diag(QLᵀ D R⁻¹ Dᵀ QL) / columns;  λR alike
 *
 * and every `refreshEvery` of these steps Q ← the Q of qr(L Q). **The first step moves no matrix**: it makes L = (1−β) D Dᵀ / columns and
 * R alike, and takes their eigenvectors; λ is `initFactor` then. The rest optimizer does step. Where one side alone has a factor the
 * other's is I.
 */
export class KLShampoo extends MatrixOptimizer {
  static readonly builtIn: string = 'KLShampoo';
  readonly betas: readonly [number, number];
  readonly shampooBeta: number;
  readonly eps: number;
  readonly normalizeGrads: boolean;
  readonly initFactor: number;
  readonly clamping: boolean;
  readonly refreshEvery: number;
  readonly #announce: ReturnType<typeof announcer>;

  /** `rest` defaults to AdamW with the same lr, betas, eps and weightDecay. */
  constructor(model: AnyModule, o: KLShampooOptions = {}) {
    const name = new.target.builtIn;
    checkOptions<KLShampooOptions>(name, o, OPTIONS);
    const { betas = [0.9, 0.98], shampooBeta = -1, eps = 1e-8, normalizeGrads = false } = o;
    const { initFactor = 0.1, clamping = true, lr = 3e-3, weightDecay = 0.01 } = o;
    const { maxFactorDim, refreshEvery } = checkFactorOptions(name, o);
    checkBetas(name, betas);
    checkRange(name, 'shampooBeta', shampooBeta, -Infinity, 1);
    checkPositive(name, 'eps', eps);
    checkPositive(name, 'initFactor', initFactor);
    const sides = (rows: number, columns: number) => sidesOf(rows, columns, maxFactorDim);
    super(model, o, {
      ...{ lr: 3e-3, weightDecay: 0.01, decaysLast: true, counts: true },
      rest: unclaimed => new AdamW(unclaimed, { lr, betas, eps, weightDecay }),
      restGain: 1 / eps,
      squares: ['sL', 'sR'],
      structure: (rows, columns) => structureOf(sides(rows, columns)),
      slots: (rows, columns) => ({
        ...{ m: [rows, columns], ...squares(sides(rows, columns), rows, columns, ['', 'Q']) },
        ...Object.fromEntries(sides(rows, columns).map(side => [`s${side}`, [side === 'L' ? rows : columns]])),
      }),
    });
    this.betas = betas;
    this.shampooBeta = shampooBeta < 0 ? betas[1] : shampooBeta;
    this.eps = eps;
    this.normalizeGrads = normalizeGrads;
    this.initFactor = initFactor;
    this.clamping = clamping;
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
    if (step.steps % this.refreshEvery !== 0) return null;
    const now = this.#factors(g, before, step);
    return powerSteps(
      sidesIn(step).map(side => [now[side]!, before[`Q${side}`]!]),
      false,
    );
  }

  protected override direction(
    g: Tensor,
    slots: readonly Tensor[],
    step: MatrixStep,
    solved: readonly Tensor[],
  ): Direction {
    const before = named(step, slots);
    const half = halves(g, before, step);
    const factors = this.#factors(g, before, step, half);
    const sides = sidesIn(step);
    const bases = Object.fromEntries(solved.map((Q, i) => [`Q${sides[i]}`, Q]));
    if (step.steps === 0) {
      const initial = sides.map(side => [`s${side}`, before[`s${side}`]!.add(this.initFactor)] as const);
      return { update: null, slots: listed(step, before, { ...factors, ...bases, ...Object.fromEntries(initial) }) };
    }
    const m = averaged(before.m!, this.betas[0], g);
    const update = turnedBack(this.#scaled(turned(m, before), before), before);
    const scaled = this.normalizeGrads ? update.div(rootMeanSquare(update).add(TINY)) : update;
    return {
      update: scaled,
      slots: listed(step, before, { m, ...factors, ...bases, ...this.#eigenvalues(half, before, step) }),
    };
  }

  /** L and R with this gradient. */
  #factors(g: Tensor, before: Slots, step: MatrixStep, half = halves(g, before, step)): Slots {
    const of = (side: Side) => {
      const s = before[side === 'L' ? 'sR' : 'sL'];
      const isOver = s !== undefined && step.steps > 0;
      // D QR λR^-½, whose product with its transpose is D R⁻¹ Dᵀ.
      const over = !isOver ? half[side] : half[side].div(side === 'L' ? s.sqrt() : s.sqrt().unsqueeze(1));
      const M = momentOf(side, over).mul(1 / (side === 'L' ? step.columns : step.rows));
      return averaged(before[side]!, this.shampooBeta, M);
    };
    return Object.fromEntries(sidesIn(step).map(side => [side, of(side)]));
  }

  /** X / (√(λL λRᵀ) + ε), where a side without a factor has λ = 1. */
  #scaled(X: Tensor, { sL, sR }: Slots): Tensor {
    const rows = sL?.sqrt().unsqueeze(1) ?? null;
    const columns = sR?.sqrt() ?? null;
    const root = rows !== null && columns !== null ? rows.mul(columns) : (rows ?? columns);
    return root === null ? X.div(1 + this.eps) : X.div(root.add(this.eps));
  }

  /** λL and λR with this gradient. */
  #eigenvalues(half: Halves, before: Slots, step: MatrixStep): Slots {
    const { QL, sL, sR } = before;
    const squared = (QL === undefined ? half.L : QL.transpose().matmul(half.L)).square();
    const of = (side: Side) => {
      const [s, other] = side === 'L' ? [sL!, sR] : [sR!, sL?.unsqueeze(1)];
      const diagonal = (other === undefined ? squared : squared.div(other)).mean(side === 'L' ? 1 : 0);
      const n = side === 'L' ? step.rows : step.columns;
      const least = this.clamping ? 1 / Math.max(10, Math.min(n, LARGEST_ROOT)) ** 2 : TINY;
      return averaged(s, this.shampooBeta, diagonal).maximum(least);
    };
    return Object.fromEntries(sidesIn(step).map(side => [`s${side}`, of(side)]));
  }
}

/** Of inverse roots of eigenvalues. */
const LARGEST_ROOT = 4000;

/** D QR, and QLᵀ D. */
type Halves = { readonly L: Tensor; readonly R: Tensor };

/** Before there are bases, and of sides without one, D. */
function halves(D: Tensor, { QL, QR }: Slots, { steps }: MatrixStep): Halves {
  if (steps === 0) return { L: D, R: D };
  return { L: QR === undefined ? D : D.matmul(QR), R: QL === undefined ? D : QL.transpose().matmul(D) };
}
