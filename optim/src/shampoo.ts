/**
 * Shampoo (Gupta, Koren & Singer 2018, "Shampoo: Preconditioned stochastic tensor optimization", https://arxiv.org/abs/1802.09568), with
 * the grafting of Anil et al. 2020 (https://arxiv.org/abs/2002.09018).
 */

import { adamMoments, type Tensor } from '@otimes/core';
import { aNumber, checkOptions, checkRange, type OptionKinds, oneOf } from '@otimes/core/extend';
import { AdamW } from './adam.ts';
import { checkShare } from './check.ts';
import type { AnyModule } from './kronecker/options.ts';
import type { Direction, HostWork, MatrixStep } from './matrix/direction.ts';
import {
  announcer,
  averaged,
  checkFactorOptions,
  checkPositive,
  type FactorOptions,
  listed,
  momentOf,
  named,
  powers,
  type Side,
  type Slots,
  sidesIn,
  sidesOf,
  squares,
  structureOf,
  twoNumbers,
} from './matrix/factors.ts';
import { MatrixOptimizer } from './matrix/optimizer.ts';
import { MATRIX_OPTIONS, type MatrixOptions } from './matrix/options.ts';

export type ShampooOptions = MatrixOptions &
  FactorOptions & {
    /** Default 1e-3, which is for grafting to Adam; without, 0.1 say. */
    lr?: number;
    /** μ: b ← μ b + update, and the matrix goes along b. In [0, 1); default 0.9. */
    momentum?: number;
    /** The share of the old factors that stays. 1, the default: they are sums, as in AdaGrad; below: averages without their bias to 0. */
    beta?: number;
    /** Added to the eigenvalues of both factors, above 0; default 1e-4. */
    eps?: number;
    /**
     * The power of each factor where both sides have one; where one has, it gets twice that. Below 0; default −1/4, as in the paper.
     * With −1/2 the update is that of covariances that factor.
     */
    exponent?: number;
    /**
     * The method of whose step each update gets the length, in the Frobenius norm: Adam's m̂ / (√v̂ + ε) ('adam', the default),
     * D / (√v + ε) ('rmsprop') or the gradient ('sgd'). 'none', as in the first paper: then take `refreshEvery: 1`, since directions that
     * come up between two refreshes are divided by powers of ε alone.
     */
    grafting?: 'none' | 'sgd' | 'rmsprop' | 'adam';
    /** β₁ and β₂ of 'adam' and, β₂, of 'rmsprop'; default [0.9, 0.999]. */
    graftBetas?: readonly [number, number];
    /** ε of 'adam' and 'rmsprop', above 0; default 1e-8. */
    graftEps?: number;
  };

const OPTIONS: OptionKinds<ShampooOptions> = {
  ...MATRIX_OPTIONS,
  refreshEvery: aNumber,
  maxFactorDim: aNumber,
  momentum: aNumber,
  beta: aNumber,
  eps: aNumber,
  exponent: aNumber,
  grafting: oneOf('none', 'sgd', 'rmsprop', 'adam'),
  graftBetas: twoNumbers,
  graftEps: aNumber,
};

const LR = 1e-3;
/** Of the default rest. */
const EPS = 1e-8;
/** Below every norm of a gradient that moves anything. */
const TINY = 1e-30;

/**
 * For the matrix of a weight with gradient D [rows, columns]:
 *
 *     L ← β L + D Dᵀ,  R ← β R + Dᵀ D                     with β = 1; below 1 both terms are those of an average
 *     U = (L + ε I)^p D (R + ε I)^p,  p = −1/4             the powers are computed anew every `refreshEvery` steps, the first included
 *     U ← U ‖graft‖ / ‖U‖                                  unless `grafting` is 'none'
 *     b ← μ b + U,  W ← (1 − lr · weightDecay) W − lr b
 */
export class Shampoo extends MatrixOptimizer {
  static readonly builtIn: string = 'Shampoo';
  readonly momentum: number;
  readonly beta: number;
  readonly eps: number;
  readonly exponent: number;
  readonly grafting: 'none' | 'sgd' | 'rmsprop' | 'adam';
  readonly graftBetas: readonly [number, number];
  readonly graftEps: number;
  readonly refreshEvery: number;
  readonly #announce: ReturnType<typeof announcer>;

  /** `rest` defaults to AdamW without weight decay, with the same lr where `grafting` is 'adam' or 'rmsprop', else with 1e-3. */
  constructor(model: AnyModule, o: ShampooOptions = {}) {
    const name = new.target.builtIn;
    checkOptions<ShampooOptions>(name, o, OPTIONS);
    const { momentum = 0.9, beta = 1, eps = 1e-4, exponent = -1 / 4 } = o;
    const { grafting = 'adam', graftBetas = [0.9, 0.999], graftEps = 1e-8 } = o;
    const { maxFactorDim, refreshEvery } = checkFactorOptions(name, o);
    const { lr = LR } = o;
    const isScaled = grafting === 'adam' || grafting === 'rmsprop';
    checkRange(name, 'momentum', momentum, 0, 1);
    checkShare(name, 'beta', beta);
    checkPositive(name, 'eps', eps);
    if (!(exponent < 0 && exponent > -Infinity))
      throw new RangeError(`${name}: expected exponent below 0, such as -1/4, got ${exponent}`);
    for (const [i, decay] of graftBetas.entries()) checkRange(name, `graftBetas[${i}]`, decay, 0, 1);
    checkPositive(name, 'graftEps', graftEps);
    const sides = (rows: number, columns: number) => sidesOf(rows, columns, maxFactorDim);
    super(model, o, {
      ...{ lr: LR, counts: true },
      rest: unclaimed => new AdamW(unclaimed, { lr: isScaled ? lr : LR, eps: EPS, weightDecay: 0 }),
      restGain: 1 / EPS,
      squares: ['v'],
      structure: (rows, columns) => structureOf(sides(rows, columns)),
      slots: (rows, columns) => ({
        ...squares(sides(rows, columns), rows, columns, ['', 'P']),
        ...(momentum > 0 && { b: [rows, columns] }),
        ...(grafting === 'adam' && { m: [rows, columns] }),
        ...(isScaled && { v: [rows, columns] }),
      }),
    });
    this.momentum = momentum;
    this.beta = beta;
    this.eps = eps;
    this.exponent = exponent;
    this.grafting = grafting;
    this.graftBetas = graftBetas;
    this.graftEps = graftEps;
    this.refreshEvery = refreshEvery;
    this.#announce = announcer(name);
  }

  /** Those of a matrix depend on its shape. */
  protected override get slotNames(): readonly string[] {
    return [];
  }

  protected override hostWork(g: Tensor, slots: readonly Tensor[], step: MatrixStep): HostWork | null {
    const sides = sidesIn(step);
    if (step.steps % this.refreshEvery !== 0 || sides.length === 0) return null;
    const factors = this.#factors(g, named(step, slots), step);
    const bias = this.beta === 1 ? 1 : 1 - this.beta ** (step.steps + 1);
    const exponent = (2 / sides.length) * this.exponent;
    this.#announce(step.path, Object.values(factors));
    return powers(
      sides.map(side => factors[side]!.div(bias)),
      this.eps,
      exponent,
    );
  }

  protected override direction(
    g: Tensor,
    slots: readonly Tensor[],
    step: MatrixStep,
    solved: readonly Tensor[],
  ): Direction {
    const before = named(step, slots);
    const anew = Object.fromEntries(solved.map((P, i) => [`P${sidesIn(step)[i]}`, P]));
    const { PL, PR } = { ...before, ...anew };
    const left = PL === undefined ? g : PL.matmul(g);
    const plain = PR === undefined ? left : left.matmul(PR);
    const { U, ...moments } = this.#grafted(plain, g, before, step.steps + 1);
    const b = before.b === undefined ? U : before.b.mul(this.momentum).addScaled_(U, 1);
    const now = { ...this.#factors(g, before, step), ...anew, ...moments, b };
    return { update: b, slots: listed(step, before, now) };
  }

  /** L and R with this gradient. */
  #factors(g: Tensor, before: Slots, step: MatrixStep): Slots {
    const { beta } = this;
    const of = (side: Side) => averaged(before[side]!, beta, momentOf(side, g), beta === 1 ? 1 : 1 - beta);
    return Object.fromEntries(sidesIn(step).map(side => [side, of(side)]));
  }

  /** The update as long as that of another method, and the new moments of that. `t` counts from 1. */
  #grafted(U: Tensor, g: Tensor, { m, v }: Slots, t: number): Slots & { readonly U: Tensor } {
    const [beta1, beta2] = this.graftBetas;
    const as = (other: Tensor) => U.mul(other.norm().div(U.norm().maximum(TINY)));
    switch (this.grafting) {
      case 'none':
        return { U };
      case 'sgd':
        return { U: as(g) };
      case 'rmsprop': {
        const now = v!.mul(beta2).addScaled_(g.square(), 1 - beta2);
        return { U: as(g.div(now.sqrt().add(this.graftEps))), v: now };
      }
      case 'adam': {
        const [first, second] = [m!.clone(), v!.clone()];
        const corrections = { correction1: 1 - beta1 ** t, correction2: 1 - beta2 ** t };
        const adam = adamMoments(first, second, g, null, { beta1, beta2, eps: this.graftEps, ...corrections });
        return { U: as(adam), m: first, v: second };
      }
    }
  }
}
