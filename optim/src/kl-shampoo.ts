/**
 * KL-Shampoo (Lin et al. 2025, "Understanding and improving Shampoo and SOAP via Kullback–Leibler minimization",
 * https://arxiv.org/abs/2509.03378): Shampoo with power −1/2, whose factors are each estimated over the inverse of the other, in the order
 * of the authors' code (https://github.com/yorkerlin/KL-Methods).
 */

import type { Tensor } from '@otimes/core';
import { aBoolean, aNumber, checkOptions, type OptionKinds } from '@otimes/core/extend';
import type { AnyModule } from './kronecker/options.ts';
import type { Direction, MatrixStep } from './matrix/direction.ts';
import { EIGENBASIS_OPTIONS, EigenbasisOptimizer, type EigenbasisOptions, TINY } from './matrix/eigenbasis.ts';
import {
  averaged,
  checkPositive,
  listed,
  momentOf,
  named,
  rootMeanSquare,
  type Side,
  type Slots,
  sidesIn,
  squares,
  turned,
  turnedBack,
} from './matrix/factors.ts';

export type KLShampooOptions = EigenbasisOptions & {
  /** β₁ of the momentum, and β₂ of factors and eigenvalues; default [0.9, 0.98]. `shampooBeta` is that of the eigenvalues too. */
  betas?: readonly [number, number];
  /** Added to √(λL λR), above 0; default 1e-8. */
  eps?: number;
  /** The eigenvalues at the start, above 0; default 0.1. */
  initFactor?: number;
  /**
   * Eigenvalues of a side of n coordinates are at least 1 / max(10, min(n, 4000))², as in the authors' code. Default true. False: at
   * least 1e-30.
   */
  clamping?: boolean;
};

const OPTIONS: OptionKinds<KLShampooOptions> = { ...EIGENBASIS_OPTIONS, initFactor: aNumber, clamping: aBoolean };

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
export class KLShampoo extends EigenbasisOptimizer {
  static readonly builtIn: string = 'KLShampoo';
  readonly initFactor: number;
  readonly clamping: boolean;

  /** `rest` defaults to AdamW with the same lr, betas, eps and weightDecay. */
  constructor(model: AnyModule, o: KLShampooOptions = {}) {
    const name = new.target.builtIn;
    checkOptions<KLShampooOptions>(name, o, OPTIONS);
    const { initFactor = 0.1, clamping = true } = o;
    checkPositive(name, 'initFactor', initFactor);
    super(model, o, {
      ...{ name, betas: [0.9, 0.98], oneSided: false, sorts: false, squares: ['sL', 'sR'] },
      slots: (rows, columns, sides) => ({
        ...{ m: [rows, columns], ...squares(sides, rows, columns, ['', 'Q']) },
        ...Object.fromEntries(sides.map(side => [`s${side}`, [side === 'L' ? rows : columns]])),
      }),
    });
    this.initFactor = initFactor;
    this.clamping = clamping;
  }

  protected override direction(
    g: Tensor,
    slots: readonly Tensor[],
    step: MatrixStep,
    solved: readonly Tensor[],
  ): Direction {
    const before = named(step, slots);
    const half = halves(g, before, step);
    const factors = this.factors(g, before, step, half);
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

  protected override factors(g: Tensor, before: Slots, step: MatrixStep, half = halves(g, before, step)): Slots {
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
