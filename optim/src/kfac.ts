/** KFAC (Martens & Grosse 2015): the gradient divided by the damped eigenvalues of A ⊗ G. */

import { full, type Tensor, where, zeros } from '@otimes/core';
import {
  aBoolean,
  aNumber,
  checkArgument,
  checkOptions,
  nameOf,
  type OptionKinds,
  oneOf,
  readsLater,
  versionOf,
} from '@otimes/core/extend';
import { checkRange } from './check.ts';
import { outer, type Rotation, rotate } from './curvature/basis.ts';
import { replaced, type Scalar, times } from './curvature/scalar.ts';
import {
  type AnyModule,
  aNumberOrFalse,
  KRONECKER_OPTIONS,
  type KroneckerOptions,
  type Parameter,
} from './kronecker/options.ts';
import { KroneckerPreconditioner, type Proposal } from './kronecker/preconditioner.ts';
import type { BlockState } from './kronecker/state.ts';
import { SGD } from './sgd.ts';

export type KFACOptions = KroneckerOptions & {
  /** λ > 0, added to the curvature. Default 3e-3. */
  damping?: number;
  /**
   * 'eigen' (default): D̃ / (sG sAᵀ + λ). 'pi': (G + √λ/π I)⁻¹ D (A + π√λ I)⁻¹ with π² = (tr A / dim A) / (tr G / dim G)
   * (Martens & Grosse 2015, §6.3).
   */
  dampingSplit?: 'eigen' | 'pi';
  /** Of the update, heavy ball. Default 0. */
  momentum?: number;
  /** The update looks ahead along the momentum. Default false. */
  nesterov?: boolean;
  /**
   * κ > 0: updates shrink together by min(1, √(κ / Σ lr² ⟨update, D⟩)), lr being the block's (Ba et al. 2017). Default false,
   * none, and 3e-3 for EKFAC.
   */
  klClip?: number | false;
  /**
   * τ > 0: no step is longer than τ of the weights. Each block's update shrinks by min(1, τ max(‖[W b]‖, 0.1 √dOut) / (lr ‖update‖)),
   * lr being the block's, before klClip and momentum. Default 0.1, and false, none, for EKFAC.
   */
  trust?: number | false;
};

/** What each option must be. */
export const KFAC_OPTIONS: OptionKinds<KFACOptions> = {
  ...KRONECKER_OPTIONS,
  damping: aNumber,
  dampingSplit: oneOf('eigen', 'pi'),
  momentum: aNumber,
  nesterov: aBoolean,
  klClip: aNumberOrFalse,
  trust: aNumberOrFalse,
};

/** Of √dOut: the norm of weights that `trust` takes smaller ones for. */
const TRUSTED = 0.1;

function checkKfacOptions(name: string, o: KFACOptions): void {
  // Without damping a null direction of the factors would divide 0 by 0.
  checkAbove0(name, 'damping', o.damping);
  checkAbove0(name, 'klClip', o.klClip);
  checkAbove0(name, 'trust', o.trust);
  if (o.momentum !== undefined) checkRange(name, 'momentum', o.momentum, 0, 1);
  if (o.nesterov && !o.momentum) throw new RangeError(`${name}: nesterov needs a momentum above 0`);
}

function checkAbove0(name: string, option: string, value: number | false | undefined): void {
  if (value !== undefined && value !== false && !(value > 0))
    throw new RangeError(`${name}: expected ${option} > 0, got ${value}`);
}

/** Unclaimed parameters go to SGD with the same lr, and the same momentum, unless `rest` says otherwise. */
export class KFAC extends KroneckerPreconditioner {
  static readonly builtIn: string = 'KFAC';
  #damping: number;
  readonly dampingSplit: 'eigen' | 'pi';
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly klClip: number | false;
  readonly trust: number | false;
  readonly #damped = new WeakMap<Tensor, { damping: number; version: number; sum: Tensor }>();

  /** `lr` defaults to 0.01. */
  constructor(model: AnyModule, o: KFACOptions = {}, kinds: OptionKinds<object> = KFAC_OPTIONS) {
    // Before the base registers its hooks: a refused optimizer leaves none behind.
    checkOptions<object>(new.target.builtIn, o, kinds);
    checkKfacOptions(new.target.builtIn, o);
    const { damping = 3e-3, dampingSplit = 'eigen', momentum = 0, nesterov = false, klClip = false, trust = 0.1 } = o;
    super(model, o, { lr: 0.01, rest: (unclaimed: Parameter[], lr) => new SGD(unclaimed, { lr, momentum, nesterov }) });
    this.#damping = damping;
    this.dampingSplit = dampingSplit;
    this.momentum = momentum;
    this.nesterov = nesterov;
    this.klClip = klClip;
    this.trust = trust;
  }

  get damping(): number {
    return this.#damping;
  }

  /** λ > 0; from the next step on. */
  set damping(damping: number) {
    checkArgument(nameOf(this), 'damping', damping, aNumber);
    checkAbove0(nameOf(this), 'damping', damping);
    this.#damping = damping;
  }

  protected override readonly usesExampleSquares: boolean = false;
  protected override readonly usesBatch: boolean = false;

  protected override get slotNames(): readonly string[] {
    return this.momentum === 0 ? [] : ['momentum'];
  }

  /** The momentum is a sum of updates and turns as they do. */
  protected override refreshed(state: BlockState, rotation: Rotation | null): void {
    const momentum = state.slots.get('momentum');
    if (momentum !== undefined && rotation !== null) state.slots.set('momentum', rotate(momentum, rotation));
  }

  protected override direction(state: BlockState, D: Tensor): Tensor {
    return D.div(this.curvature(state, D));
  }

  protected override stepInBasis(state: BlockState, D: Tensor, weight: Tensor, lr: number, keep: number): boolean {
    if (this.momentum !== 0 || this.klClip !== false) return false;
    const curvature = this.curvature(state, D);
    if (this.trust === false) weight.addcdiv_(D, curvature, -lr, keep);
    else {
      const update = D.div(curvature);
      const trusted = this.#trusted(state, update, this.trust);
      if (typeof trusted === 'number') weight.addScaled_(update, -lr * trusted, keep);
      else weight.addScaled_(update.mul(trusted), -lr, keep);
    }
    return true;
  }

  /** The damped curvature in each coordinate of the basis, [dOut, dIn]. */
  protected curvature({ kfe }: BlockState, _D: Tensor): Tensor {
    const { sA, sG, host } = kfe!;
    if (this.dampingSplit === 'eigen') return this.damped(kfe!.eigenvalues());
    const root = Math.sqrt(this.damping);
    const ratio = Math.sqrt(host.sA.mean().item() / host.sG.mean().item());
    // A factor of zeros means a gradient of zeros, which every split maps to zero.
    const pi = ratio > 0 && ratio < Infinity ? ratio : 1;
    return outer(sG.add(root / pi), sA.add(pi * root));
  }

  /** curvature + λ, computed once for each that there is. */
  protected damped(curvature: Tensor): Tensor {
    const known = this.#damped.get(curvature);
    const version = versionOf(curvature);
    if (known?.damping === this.damping && known.version === version) return known.sum;
    const sum = curvature.add(this.damping).keep();
    this.#damped.set(curvature, { damping: this.damping, version, sum });
    return sum;
  }

  protected override get gain(): number {
    return 1 / (this.damping * (1 - this.momentum));
  }

  protected override dampingOf(state: BlockState): { lambda: number; mean: Scalar } | null {
    return { lambda: this.damping, mean: state.kfe!.host.eigenvalues().mean().item() };
  }

  protected override finish(proposals: readonly Proposal[]): void {
    if (this.trust !== false)
      for (const proposal of proposals) proposal.scale = this.#trusted(proposal.state, proposal.update, this.trust);
    if (this.klClip !== false) {
      const scale = this.#klScale(proposals, this.klClip);
      for (const proposal of proposals) {
        proposal.scale = times(proposal.scale, scale);
        proposal.state.klClip = typeof scale === 'number' ? scale : replaced(proposal.state.klClip, scale);
      }
    }
    if (this.momentum === 0) return;
    for (const proposal of proposals) {
      const { state, update, scale } = proposal;
      proposal.update = this.#withMomentum(state, scale === 1 ? update : update.mul(scale));
      proposal.scale = 1;
    }
  }

  /** What `trust` leaves of an update. */
  #trusted(state: BlockState, update: Tensor, trust: number): Scalar {
    const lr = this.lr * state.lrRatio;
    // A layer that is 0 has to move too.
    const least = trust * TRUSTED * Math.sqrt(state.block.dOut);
    const norm = update.norm();
    if (readsLater(norm)) {
      const length = norm.mul(lr);
      const limit = asTensor(state.norm(), length).mul(trust).maximum(least);
      state.trust = replaced(state.trust, where(length.gt(limit), limit.div(length), 1));
      return state.trust;
    }
    const length = lr * norm.item();
    // The norm of the weights is asked for where it counts.
    const limit = length > least ? Math.max(least, trust * Number(state.norm())) : least;
    state.trust = length > limit ? limit / length : 1;
    return state.trust;
  }

  /** Inner products are the same in every orthonormal basis. */
  #klScale(proposals: readonly Proposal[], kappa: number): Scalar {
    let inner = 0;
    let later: Tensor | null = null;
    for (const { state, update, scale, gradient } of proposals) {
      const product = dot(update, gradient);
      const length = times(scale, state.lrRatio);
      if (typeof length === 'number' && !readsLater(product)) inner += length ** 2 * product.item();
      else {
        const term = product.mul(length).mul(length);
        later = later === null ? term : later.add(term);
      }
    }
    if (later === null) return inner <= 0 ? 1 : Math.min(1, Math.sqrt(kappa / (this.lr ** 2 * inner)));
    const clipped = later
      .mul(this.lr ** 2)
      .reciprocal()
      .mul(kappa)
      .sqrt()
      .minimum(1);
    return where(later.le(0), 1, clipped);
  }

  #withMomentum(state: BlockState, update: Tensor): Tensor {
    let buffer = state.slots.get('momentum');
    if (buffer !== undefined) buffer.scale_(this.momentum).addScaled_(update, 1);
    else {
      // Where a check may have failed that nobody knows of yet, only what is written in place is safe from it.
      buffer = readsLater(update) ? zeros(update.shape, likeOf(update)).addScaled_(update, 1) : update.clone();
      state.slots.set('momentum', buffer);
    }
    return this.nesterov ? update.add(buffer.mul(this.momentum)) : buffer;
  }
}

/** Σ x ∘ y, in one pass; one element. */
const dot = (x: Tensor, y: Tensor): Tensor =>
  x
    .reshape([1, -1])
    .matmul(y.reshape([-1, 1]))
    .reshape([]);

const likeOf = ({ dtype, device }: Tensor) => ({ dtype, device });

const asTensor = (x: Scalar, like: Tensor): Tensor => (typeof x === 'number' ? full([], x, likeOf(like)) : x);
