/** Division by the damped eigenvalues of A ⊗ G: KFAC's rule. */

import { full, type Tensor, where, zeros } from '@otimes/core';
import { readsLater, versionOf } from '@otimes/core/extend';
import { outer, type Rotation, rotate } from '../../curvature/basis.ts';
import { replaced, type Scalar, scalarOf, times } from '../../curvature/scalar.ts';
import { type DampingControl, isControl } from '../adaptive.ts';
import type { Proposal, Rule, RuleNumbers, StepInfo } from '../rule.ts';
import type { BlockState } from '../state.ts';

/** As in `KFACOptions`. */
export type DampedOptions = {
  readonly damping?: number | DampingControl | undefined;
  readonly dampingSplit?: 'eigen' | 'pi' | undefined;
  readonly momentum?: number | undefined;
  readonly nesterov?: boolean | undefined;
  readonly klClip?: number | false | undefined;
  readonly trust?: number | false | undefined;
};

/** Of √dOut: the norm of weights that `trust` takes smaller ones for. */
const TRUSTED = 0.1;

export class DampedRule implements Rule {
  static readonly builtIn: string = 'DampedRule';
  /** λ; from the next step on. */
  damping: number;
  /** What changes λ, from losses that `tell` hears of; null for nothing. */
  readonly control: DampingControl | null;
  readonly dampingSplit: 'eigen' | 'pi';
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly klClip: number | false;
  readonly trust: number | false;
  #measured: { readonly index: number; readonly decrease: Scalar } | null = null;
  #ratio: number | null = null;
  readonly #damped = new WeakMap<Tensor, { damping: number; version: number; sum: Tensor }>();

  constructor(o: DampedOptions = {}) {
    const { damping = 3e-3 } = o;
    this.control = isControl(damping) ? damping : null;
    this.damping = isControl(damping) ? damping.start : damping;
    this.dampingSplit = o.dampingSplit ?? 'eigen';
    this.momentum = o.momentum ?? 0;
    this.nesterov = o.nesterov ?? false;
    this.klClip = o.klClip ?? false;
    this.trust = o.trust ?? 0.1;
  }

  get slots(): readonly string[] {
    return this.momentum === 0 ? [] : ['momentum'];
  }

  needs(_state: BlockState, _step: StepInfo): 'squares' | 'batch' | 'nothing' {
    return 'nothing';
  }

  /** The momentum is a sum of updates and turns as they do. */
  refreshed(state: BlockState, rotation: Rotation | null): void {
    const momentum = state.slots.get('momentum');
    if (momentum !== undefined && rotation !== null) state.slots.set('momentum', rotate(momentum, rotation));
  }

  direction(state: BlockState, D: Tensor, step: StepInfo): Tensor {
    this.measure(state, D, step);
    return D.div(this.curvature(state));
  }

  stepInBasis(state: BlockState, D: Tensor, weight: Tensor, lr: number, keep: number, step: StepInfo): boolean {
    if (this.momentum !== 0 || this.klClip !== false || this.measures(step)) return false;
    this.measure(state, D, step);
    const curvature = this.curvature(state);
    if (this.trust === false) weight.addcdiv_(D, curvature, -lr, keep);
    else {
      const update = D.div(curvature);
      const trusted = this.#trusted(state, update, this.trust, step);
      if (typeof trusted === 'number') weight.addScaled_(update, -lr * trusted, keep);
      else weight.addScaled_(update.mul(trusted), -lr, keep);
    }
    return true;
  }

  /** Updates what the curvature is made of, once in each step of a block, before `curvature`. */
  protected measure(_state: BlockState, _D: Tensor, _step: StepInfo): void {}

  /** The damped curvature in each coordinate of the basis, [dOut, dIn]. */
  protected curvature({ kfe }: BlockState): Tensor {
    const { sA, sG, host } = kfe!;
    if (this.dampingSplit === 'eigen') return this.damped(kfe!.eigenvalues());
    const root = Math.sqrt(this.damping);
    if (readsLater(host.sA)) {
      const ratio = sA.mean().div(sG.mean()).sqrt();
      const pi = where(ratio.gt(0).logicalAnd(ratio.isFinite()), ratio, 1);
      return outer(sG.add(pi.reciprocal().mul(root)), sA.add(pi.mul(root)));
    }
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

  get gain(): number {
    return 1 / (this.damping * (1 - this.momentum));
  }

  dampingOf(state: BlockState): { readonly lambda: number; readonly mean: Scalar } {
    return { lambda: this.damping, mean: scalarOf(state.kfe!.host.eigenvalues().mean()) };
  }

  /** Whether the control asks for losses after this step. */
  measures({ index }: Pick<StepInfo, 'index'>): boolean {
    return this.control !== null && index % this.control.every === 0;
  }

  /** The last step whose losses nobody has told yet: which one, and by how much its quadratic model of the mean loss falls. */
  get untold(): { readonly index: number; readonly decrease: Scalar } | null {
    return this.#measured;
  }

  /** ρ of the last losses that were told; null before. */
  get ratio(): number | null {
    return this.#ratio;
  }

  /**
   * Takes the change of the loss in the step that was measured.
   *
   * @param name the optimizer's, for messages
   * @param decrease that of the model, as it is in `untold`, read
   */
  tell(name: string, fallen: number, decrease: number): void {
    // Along a step on which the model rises it says nothing about the loss.
    if (this.control === null || !(decrease > 0)) {
      this.#measured = null;
      return;
    }
    const ratio = Number.isFinite(fallen) ? fallen / decrease : -Infinity;
    const next: unknown = this.control.next(this.damping, ratio);
    if (!(typeof next === 'number' && next > 0 && next < Infinity))
      throw new RangeError(`${name}: expected next() of damping to return a finite number > 0, got ${String(next)}`);
    // Nothing before this: where next() throws, the loss can be told again.
    this.#measured = null;
    this.#ratio = ratio;
    this.damping = next;
  }

  get numbers(): RuleNumbers | null {
    if (this.control === null) return null;
    return {
      // A decrease of 0 says nothing, as none does.
      get: () => ({
        damping: this.damping,
        measured: this.#measured?.index ?? 0,
        decrease: this.#measured?.decrease ?? 0,
      }),
      problem: ({ damping, measured }) => {
        if (!(damping! > 0)) return `rule.damping expects a number > 0, got ${damping}`;
        return Number.isInteger(measured) ? null : `rule.measured expects an integer, got ${measured}`;
      },
      set: ({ damping, measured, decrease }) => {
        this.damping = damping!;
        this.#measured = decrease! > 0 ? { index: measured!, decrease: decrease! } : null;
        this.#ratio = null;
      },
    };
  }

  together(proposals: readonly Proposal[], step: StepInfo): void {
    this.#shorten(proposals, step);
    if (this.measures(step)) this.#predict(proposals, step);
  }

  /** The undamped curvature in each coordinate of the basis, [dOut, dIn], of which the quadratic model is made. */
  protected undamped({ kfe }: BlockState): Tensor {
    return kfe!.eigenvalues();
  }

  /**
   * By how much the model L + ⟨D, δ⟩ + ½ ⟨δ, Λ∘δ⟩ falls along the step δ = −lr · scale · update of all blocks. Without λ, unlike M of
   * Martens & Grosse: of a quadratic with this curvature it is what the loss falls by.
   */
  #predict(proposals: readonly Proposal[], { lr, index }: StepInfo): void {
    let sum: Scalar = 0;
    for (const { state, gradient, update, scale } of proposals) {
      const length = times(scale, lr * state.lrRatio);
      const [slope, bend] = [dot(gradient, update), dot(update, this.undamped(state).mul(update))].map(scalarOf);
      sum = plus(sum, plus(times(length, slope!), times(times(times(length, length), bend!), -0.5)));
    }
    const decrease = typeof sum === 'number' ? sum : replaced(this.#measured?.decrease ?? null, sum);
    this.#measured = typeof decrease === 'number' && !(decrease > 0) ? null : { index, decrease };
  }

  #shorten(proposals: readonly Proposal[], step: StepInfo): void {
    if (this.trust !== false)
      for (const proposal of proposals)
        proposal.scale = this.#trusted(proposal.state, proposal.update, this.trust, step);
    if (this.klClip !== false) {
      const scale = this.#klScale(proposals, this.klClip, step);
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
  #trusted(state: BlockState, update: Tensor, trust: number, step: StepInfo): Scalar {
    const lr = step.lr * state.lrRatio;
    // A layer that is 0 has to move too.
    const least = trust * TRUSTED * Math.sqrt(state.block.dOut);
    const norm = update.norm();
    if (readsLater(norm)) {
      const limit = asTensor(state.norm(), norm).mul(trust).maximum(least);
      // In this order a large lr overflows nothing.
      state.trust = replaced(state.trust, limit.div(norm).div(lr).minimum(1));
      return state.trust;
    }
    const length = lr * norm.item();
    // The norm of the weights is asked for where it counts.
    const limit = length > least ? Math.max(least, trust * Number(state.norm())) : least;
    state.trust = length > limit ? limit / length : 1;
    return state.trust;
  }

  /** Inner products are the same in every orthonormal basis. */
  #klScale(proposals: readonly Proposal[], kappa: number, { lr }: StepInfo): Scalar {
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
    if (later === null) return inner <= 0 ? 1 : Math.min(1, Math.sqrt(kappa / (lr ** 2 * inner)));
    // In this order a large lr overflows nothing.
    const clipped = later.reciprocal().mul(kappa).sqrt().div(lr).minimum(1);
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

const plus = (x: Scalar, y: Scalar): Scalar => {
  if (typeof x !== 'number') return x.add(y);
  return typeof y === 'number' ? x + y : y.add(x);
};

const likeOf = ({ dtype, device }: Tensor) => ({ dtype, device });

const asTensor = (x: Scalar, like: Tensor): Tensor => (typeof x === 'number' ? full([], x, likeOf(like)) : x);
