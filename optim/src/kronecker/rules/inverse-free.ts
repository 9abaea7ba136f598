/** Factors of inverses that follow A and G by products alone: SINGD's rule (Lin et al. 2024, Figure 4). */

import { eye, gram, ones, scope, type Tensor, zeros } from '@otimes/core';
import { precisely, readsLater, versionOf } from '@otimes/core/extend';
import type { Side } from '../../curvature/side.ts';
import type { Rule, StepInfo } from '../rule.ts';
import type { BlockState } from '../state.ts';

/** As in `SINGDOptions`. */
export type InverseFreeOptions = {
  readonly damping: number;
  readonly lrCov: number;
  readonly alpha1: number;
  readonly momentum: number;
  readonly adaptive: boolean;
  readonly normalizeLrCov: boolean;
};

/** K Kᵀ and C Cᵀ of a block, made from these versions of K and C, and at least how many times the gradient's norm an update has. */
type Inverses = {
  readonly K: Tensor;
  readonly C: Tensor;
  readonly versions: readonly [number, number];
  readonly KK: Tensor;
  readonly CC: Tensor;
  readonly gain: number;
};

/** Slots K [dIn, dIn] and C [dOut, dOut] with their momenta mK and mC, packed as the sides say: A⁻¹ ≈ K Kᵀ and G⁻¹ ≈ C Cᵀ. */
export class InverseFreeRule implements Rule {
  static readonly builtIn: string = 'InverseFreeRule';
  /** λ; from the next step on. Not called damping, which processes do not compare. */
  dampingLambda: number;
  lrCov: number;
  /** Whether the next step may change K and C. */
  follows = true;
  readonly alpha1: number;
  readonly momentum: number;
  readonly adaptive: boolean;
  readonly normalizeLrCov: boolean;
  readonly #inverses = new Map<BlockState, Inverses>();

  constructor(o: InverseFreeOptions) {
    this.dampingLambda = o.damping;
    this.lrCov = o.lrCov;
    this.alpha1 = o.alpha1;
    this.momentum = o.momentum;
    this.adaptive = o.adaptive;
    this.normalizeLrCov = o.normalizeLrCov;
  }

  get slots(): readonly string[] {
    return [...['K', 'C'], ...(this.alpha1 === 0 ? [] : ['mK', 'mC']), ...(this.momentum === 0 ? [] : ['momentum'])];
  }

  shapeOf(slot: string, { sideA, sideG, sizes }: BlockState): readonly number[] {
    if (slot === 'momentum') return sizes;
    return slot.endsWith('K') ? sideA.shape : sideG.shape;
  }

  /** Of the norm. Nobody knows it of a step that changes K and C. */
  get gain(): number {
    if (this.follows) return Infinity;
    const gains = Array.from(this.#inverses, ([state, known]) => (isOf(known, state) ? known.gain : Infinity));
    return Math.max(0, ...gains) / (1 - this.momentum);
  }

  needs(): 'nothing' {
    return 'nothing';
  }

  /** The basis is that of the parameters, once and for all. */
  refreshed(): void {}

  direction(state: BlockState, D: Tensor, step: StepInfo): Tensor {
    const { slots } = state;
    const isFirst = !slots.has('K');
    if (isFirst) this.#begin(state, D);
    if (isFirst || step.isRefreshStep(state)) scope(() => precisely(() => this.#follow(state)));
    const update = scope(() =>
      precisely(() => (readsLater(D) ? byFactors(state, D) : byInverses(state, D, this.#inversesOf(state)))),
    );
    return this.momentum === 0 ? update : slots.get('momentum')!.addScaled_(update, 1, this.momentum);
  }

  /** K = C = 1, and momenta of 0: all of them written in place from here on. */
  #begin({ slots, sideA, sideG, sizes }: BlockState, D: Tensor): void {
    slots.set('K', one(sideA, D));
    slots.set('C', one(sideG, D));
    const { dtype, device } = D;
    const zero = (shape: readonly number[]) => zeros(shape, { dtype, device });
    if (this.alpha1 !== 0) slots.set('mK', zero(sideA.shape)).set('mC', zero(sideG.shape));
    if (this.momentum !== 0) slots.set('momentum', zero(sizes));
  }

  /** m ← α₁ m + ½ (tr(H') / n' · H + λ tr(K'ᵀK') / n' · KᵀK − 1), K ← K (1 − β₁ m), where ' is the other side; both at once. */
  #follow({ slots, A, G, sideA, sideG }: BlockState): void {
    const of = (side: Side, factor: Tensor, name: 'K' | 'C') => {
      const K = slots.get(name)!;
      const H = transposedTimes(side, K, transposedTimes(side, factor, K));
      return { side, name, K, H, KK: squared(side, K, K => K), one: one(side, K) };
    };
    const [ofA, ofG] = [of(sideA, A!, 'K'), of(sideG, G!, 'C')];
    const steps = [
      [ofA, ofG],
      [ofG, ofA],
    ].map(([own, other]) => {
      const { H, KK } = own!;
      const mean = (M: Tensor) => other!.side.diagonal(M).mean();
      const [curvature, damping] = this.adaptive ? [H.mul(mean(other!.H)), KK.mul(mean(other!.KK))] : [H, KK];
      const scale = this.normalizeLrCov ? (1 - this.alpha1) / 2 : 0.5;
      return { ...own!, step: curvature.add(damping.mul(this.dampingLambda)).sub(own!.one).mul(scale) };
    });
    for (const { side, name, K, step } of steps) {
      const m = this.alpha1 === 0 ? step : slots.get(`m${name}`)!.addScaled_(step, 1, this.alpha1);
      const turned = product(side, K, m);
      const change = this.normalizeLrCov ? turned.div(m.abs().max().maximum(1)) : turned;
      K.addScaled_(change, -this.lrCov);
    }
  }

  /** Made once for each K and C that there are. Not where values are read with await: of a step that fails later nothing may stay. */
  #inversesOf(state: BlockState): Inverses {
    const [K, C] = [state.slots.get('K')!, state.slots.get('C')!];
    const known = this.#inverses.get(state);
    if (known !== undefined && isOf(known, state)) return known;
    known?.KK.storage.release();
    known?.CC.storage.release();
    const [KK, CC] = [grown(state.sideA, K).keep(), grown(state.sideG, C).keep()];
    const square = (side: Side, M: Tensor) => side.diagonal(M).sum().item();
    const gain = square(state.sideA, KK) * square(state.sideG, CC);
    const made = { K, C, versions: [versionOf(K), versionOf(C)], KK, CC, gain } as const;
    this.#inverses.set(state, made);
    return made;
  }
}

/** Whether nobody has changed K and C since. */
const isOf = ({ K, C, versions }: Inverses, { slots }: BlockState): boolean =>
  slots.get('K') === K && slots.get('C') === C && versionOf(K) === versions[0] && versionOf(C) === versions[1];

/** C Cᵀ D K Kᵀ. */
function byFactors({ slots, sideA, sideG }: BlockState, D: Tensor): Tensor {
  const [K, C] = [slots.get('K')!, slots.get('C')!];
  const left = sideG.turns ? sideG.turnColumnsBack(sideG.turnColumns(D, C), C) : scaledRows(D, C.square());
  return sideA.turns ? sideA.turnBack(sideA.turn(left, K), K) : left.mul(K.square());
}

/** The same. */
function byInverses({ sideA, sideG }: BlockState, D: Tensor, { KK, CC }: Inverses): Tensor {
  const left = sideG.turns ? sideG.turnColumns(D, CC) : scaledRows(D, CC);
  return sideA.turns ? sideA.turn(left, KK) : left.mul(KK);
}

/** By a number for each row, or one for all. */
const scaledRows = (D: Tensor, by: Tensor): Tensor => D.mul(by.reshape([-1, 1]));

/** The identity, as a side packs it. */
function one(side: Side, { dtype, device }: Tensor): Tensor {
  const o = { dtype, device };
  return side.turns ? side.pack(side.orders.map(n => eye(n, o))) : ones(side.shape, o);
}

/** Xᵀ Y. */
const transposedTimes = (side: Side, X: Tensor, Y: Tensor): Tensor => (side.turns ? side.rotation(X, Y) : X.mul(Y));

/** X Y. */
function product(side: Side, X: Tensor, Y: Tensor): Tensor {
  if (!side.turns) return X.mul(Y);
  const right = side.matrices(Y);
  return scope(() => side.pack(side.matrices(X).map((one, i) => one.matmul(right[i]!))));
}

/** XᵀX, of X = `of` each matrix of K: by a kernel that computes half of it. */
function squared(side: Side, K: Tensor, of: (one: Tensor) => Tensor): Tensor {
  if (!side.turns) return K.square();
  return scope(() => side.pack(side.matrices(K).map(one => gram(of(one)))));
}

/** K Kᵀ. */
const grown = (side: Side, K: Tensor): Tensor => squared(side, K, one => one.transpose());
