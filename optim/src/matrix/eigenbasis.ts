/**
 * The base of SOAP and KL-Shampoo, which step in bases of eigenvectors of their factors: what both take as options, and when the host has
 * to compute which bases.
 */

import type { Tensor } from '@otimes/core';
import { aBoolean, aNumber, checkRange, type OptionKinds } from '@otimes/core/extend';
import { AdamW, checkBetas } from '../adam.ts';
import type { AnyModule } from '../kronecker/options.ts';
import type { HostWork, MatrixStep } from './direction.ts';
import {
  announcer,
  checkFactorOptions,
  checkPositive,
  eigenbases,
  type FactorOptions,
  named,
  powerSteps,
  type Side,
  type Slots,
  sidesIn,
  sidesOf,
  structureOf,
  twoNumbers,
} from './factors.ts';
import { MatrixOptimizer } from './optimizer.ts';
import { MATRIX_OPTIONS, type MatrixOptions } from './options.ts';

export type EigenbasisOptions = MatrixOptions &
  FactorOptions & {
    /** Default 3e-3. */
    lr?: number;
    /** The share of the old factors that stays, in [0, 1); β₂ where it is negative, as by default, −1. */
    shampooBeta?: number;
    /** Decoupled, after the update: matrices shrink by lr · weightDecay. Default 0.01. */
    weightDecay?: number;
    /** Divide each update by its root mean square; default false. */
    normalizeGrads?: boolean;
  };

/** Those that each of both describes itself. */
type Described = { betas?: readonly [number, number]; eps?: number };

/** What each option must be, for the table of an optimizer that has these and its own. */
export const EIGENBASIS_OPTIONS: OptionKinds<EigenbasisOptions & Described> = {
  ...MATRIX_OPTIONS,
  refreshEvery: aNumber,
  maxFactorDim: aNumber,
  betas: twoNumbers,
  shampooBeta: aNumber,
  eps: aNumber,
  normalizeGrads: aBoolean,
};

/** What makes one of them another than the other. */
export type EigenbasisKind = {
  readonly name: string;
  /** The default. */
  readonly betas: readonly [number, number];
  readonly oneSided: boolean;
  /** Whether the columns of a new basis are in descending order of their eigenvalues, which then are behind it in what is solved. */
  readonly sorts: boolean;
  /** The shapes of the slots of a matrix, of which `sides` have factors L and R and bases QL and QR. */
  readonly slots: (
    rows: number,
    columns: number,
    sides: readonly Side[],
  ) => Readonly<Record<string, readonly number[]>>;
  /** Of these, those of averages of squares. */
  readonly squares: readonly string[];
};

/** Added to a root mean square, as the authors have it. */
export const TINY = 1e-30;

export abstract class EigenbasisOptimizer extends MatrixOptimizer {
  readonly betas: readonly [number, number];
  readonly shampooBeta: number;
  readonly eps: number;
  readonly normalizeGrads: boolean;
  readonly refreshEvery: number;
  readonly #sorts: boolean;
  readonly #announce: ReturnType<typeof announcer>;

  /** Ranges are checked here, names and kinds of options before. */
  constructor(model: AnyModule, o: EigenbasisOptions & Described, kind: EigenbasisKind) {
    const { name, oneSided, sorts } = kind;
    const { betas = kind.betas, shampooBeta = -1, eps = 1e-8, normalizeGrads = false } = o;
    const { lr = 3e-3, weightDecay = 0.01 } = o;
    const { maxFactorDim, refreshEvery } = checkFactorOptions(name, o);
    checkBetas(name, betas);
    checkRange(name, 'shampooBeta', shampooBeta, -Infinity, 1);
    checkPositive(name, 'eps', eps);
    const sides = (rows: number, columns: number) => sidesOf(rows, columns, maxFactorDim, oneSided);
    super(model, o, {
      ...{ lr: 3e-3, weightDecay: 0.01, decaysLast: true, counts: true },
      rest: unclaimed => new AdamW(unclaimed, { lr, betas, eps, weightDecay }),
      restGain: 1 / eps,
      squares: kind.squares,
      structure: (rows, columns) => structureOf(sides(rows, columns)),
      slots: (rows, columns) => kind.slots(rows, columns, sides(rows, columns)),
    });
    this.betas = betas;
    this.shampooBeta = shampooBeta < 0 ? betas[1] : shampooBeta;
    this.eps = eps;
    this.normalizeGrads = normalizeGrads;
    this.refreshEvery = refreshEvery;
    this.#sorts = sorts;
    this.#announce = announcer(name);
  }

  /** Those of a matrix depend on its shape. */
  protected override get slotNames(): readonly string[] {
    return [];
  }

  /** L and R with this gradient. */
  protected abstract factors(g: Tensor, before: Slots, step: MatrixStep): Slots;

  /** Every so many steps that move the matrix. */
  protected refreshes({ steps }: MatrixStep): boolean {
    return steps % this.refreshEvery === 0;
  }

  /** The first bases are eigenvectors of the first factors, the others follow from those before. */
  protected override hostWork(g: Tensor, slots: readonly Tensor[], step: MatrixStep): HostWork | null {
    if (!this.refreshes(step)) return null;
    const before = named(step, slots);
    const factors = this.factors(g, before, step);
    const sides = sidesIn(step);
    if (step.steps > 0)
      return powerSteps(
        sides.map(side => [factors[side]!, before[`Q${side}`]!]),
        this.#sorts,
      );
    const all = sides.map(side => factors[side]!);
    this.#announce(step.path, all);
    return eigenbases(all);
  }
}
