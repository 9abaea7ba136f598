/**
 * SOAP (Vyas et al. 2025, "SOAP: Improving and stabilizing Shampoo using Adam", https://arxiv.org/abs/2409.11321): Adam in slowly
 * changing bases of eigenvectors of Shampoo's factors, in the order of the authors' code.
 */

import { adamMoments, type Tensor } from '@otimes/core';
import { aBoolean, checkOptions, type OptionKinds } from '@otimes/core/extend';
import type { AnyModule } from './kronecker/options.ts';
import type { Direction, MatrixStep } from './matrix/direction.ts';
import { EIGENBASIS_OPTIONS, EigenbasisOptimizer, type EigenbasisOptions, TINY } from './matrix/eigenbasis.ts';
import {
  averaged,
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

export type SOAPOptions = EigenbasisOptions & {
  /** β₁ and β₂ of Adam; default [0.95, 0.95]. */
  betas?: readonly [number, number];
  /** Added to √v, above 0; default 1e-8. */
  eps?: number;
  /** Only the smaller side of a matrix has a basis, of a square one the rows; default false. */
  oneSided?: boolean;
};

const OPTIONS: OptionKinds<SOAPOptions> = { ...EIGENBASIS_OPTIONS, oneSided: aBoolean };

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
export class SOAP extends EigenbasisOptimizer {
  static readonly builtIn: string = 'SOAP';

  /** `rest` defaults to AdamW with the same lr, betas, eps and weightDecay. */
  constructor(model: AnyModule, o: SOAPOptions = {}) {
    const name = new.target.builtIn;
    checkOptions<SOAPOptions>(name, o, OPTIONS);
    super(model, o, {
      ...{ name, betas: [0.95, 0.95], oneSided: o.oneSided ?? false, sorts: true, squares: ['v'] },
      slots: (rows, columns, sides) => ({
        m: [rows, columns],
        v: [rows, columns],
        ...squares(sides, rows, columns, ['', 'Q']),
      }),
    });
  }

  protected override direction(
    g: Tensor,
    slots: readonly Tensor[],
    step: MatrixStep,
    solved: readonly Tensor[],
  ): Direction {
    const before = named(step, slots);
    const factors = this.factors(g, before, step);
    const sides = sidesIn(step);
    if (step.steps === 0) {
      const bases = Object.fromEntries(sides.map((side, i) => [`Q${side}`, solved[i]!]));
      return { update: null, slots: listed(step, before, { ...factors, ...bases }) };
    }
    const [m, v] = [before.m!.clone(), before.v!.clone()];
    const update = this.#update(g, before, m, v, step.steps);
    const now = this.refreshes(step) ? refreshed(before, m, v, sides, solved) : { m, v };
    return { update, slots: listed(step, before, { ...factors, ...now }) };
  }

  protected override factors(g: Tensor, before: Slots, step: MatrixStep): Slots {
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

/** The new bases, m turned into them, and v in the new order. */
function refreshed(before: Slots, m: Tensor, v: Tensor, sides: readonly Side[], solved: readonly Tensor[]): Slots {
  const bases = Object.fromEntries(sides.map((side, i) => [`Q${side}`, solved[2 * i]!]));
  const sorted = sides.reduce((x, side, i) => x.indexSelect(side === 'L' ? 0 : 1, solved[2 * i + 1]!), v);
  return { ...bases, m: turned(turnedBack(m, before), bases), v: sorted };
}
