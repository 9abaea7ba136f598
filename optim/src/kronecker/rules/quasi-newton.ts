/** Inverses of A and G by BFGS: K-BFGS's rule (Goldfarb, Ren & Bahamou 2020, Algorithm 4). Values are read at once. */

import { concat, eye, type Tensor, tensor, zeros } from '@otimes/core';
import { inverse } from '@otimes/linalg';
import { gradientScale, type LossReduction, meanGradient } from '../../curvature/factors.ts';
import { inOwnScope } from '../../curvature/own-scope.ts';
import { largest, notFinite } from '../finite.ts';
import type { Rule, RuleNumbers, StepInfo } from '../rule.ts';
import type { BlockState } from '../state.ts';

/** As in `KBFGSOptions`. */
export type QuasiNewtonOptions = {
  readonly damping: number;
  readonly momentum: number;
  readonly mu1: number;
  readonly factorDecay: number;
  readonly lossReduction: LossReduction;
};

/** So many roundings off is 0: a mean gradient below that share of the gradients of single positions. */
const NOISE: Readonly<Record<string, number>> = { float32: 2 ** (10 - 23), float64: 2 ** (10 - 52) };

/**
 * Slots Ha [dIn, dIn] ≈ (A + √λ)⁻¹, Hg [dOut, dOut], the means h of the outputs and g of their gradients in the last step's first pass, running means
 * s and y of how the second pass changes them, [dOut, 1] each, and the momentum of the gradient. Blocks have a bias: so the last column
 * of A is the mean input, and that of D the mean gradient.
 */
export class QuasiNewtonRule implements Rule {
  static readonly builtIn: string = 'QuasiNewtonRule';
  /** λ; from the next step on. */
  lambda: number;
  readonly momentum: number;
  readonly mu1: number;
  readonly gain = Infinity;
  /** Updates of blocks so far in the step that waits for its second pass; null where none waits. */
  pending: number | null = null;
  /** That of the last step. */
  #decay: number;
  readonly #reduction: LossReduction;
  /** Examples of the last step's first pass; of a loaded state nobody knows. */
  readonly #examples = new Map<BlockState, number>();

  constructor(o: QuasiNewtonOptions) {
    this.lambda = o.damping;
    this.momentum = o.momentum;
    this.mu1 = o.mu1;
    this.#decay = o.factorDecay;
    this.#reduction = o.lossReduction;
  }

  get slots(): readonly string[] {
    return ['Ha', 'Hg', 'h', 'g', 's', 'y', ...(this.momentum === 0 ? [] : ['momentum'])];
  }

  shapeOf(slot: string, { sizes: [dOut, dIn] }: BlockState): readonly number[] {
    if (slot === 'momentum') return [dOut, dIn];
    return { Ha: [dIn, dIn], Hg: [dOut, dOut] }[slot] ?? [dOut, 1];
  }

  /** λ of A and of G. */
  get #damping(): number {
    return Math.sqrt(this.lambda);
  }

  get numbers(): RuleNumbers {
    return {
      get: () => ({ pending: this.pending ?? -1 }),
      problem: ({ pending }) =>
        Number.isInteger(pending) && pending! >= -1 ? null : `rule.pending expects an integer ≥ -1, got ${pending}`,
      set: ({ pending }) => {
        this.pending = pending! < 0 ? null : pending!;
        this.#examples.clear();
      },
    };
  }

  needs(): 'batch' {
    return 'batch';
  }

  refreshed(): void {}

  /** The update is that of the old inverses, as in the paper; Ha follows A after it. */
  direction(state: BlockState, D: Tensor, { index, factorDecay }: StepInfo): Tensor {
    const { slots } = state;
    this.#decay = factorDecay;
    if (!slots.has('Ha')) this.#begin(state, D);
    const slot = (name: string) => slots.get(name)!;
    const [Ha, Hg] = [slot('Ha'), slot('Hg')];
    const m = this.momentum === 0 ? D : slot('momentum').addScaled_(D, 1 - this.momentum, this.momentum);
    const update = Hg.matmul(m).matmul(Ha);
    const a = lastColumn(state.statistics!.factors(1)!.A);
    slot('h').copy_(weightOf(state).matmul(a));
    slot('g').copy_(lastColumn(D));
    this.#examples.set(state, state.statistics!.ownBatch);
    const s = Ha.matmul(a);
    follow(Ha, s, state.A!.matmul(s).add(s.mul(this.#damping)));
    state.count = index + 1;
    return update;
  }

  #begin({ slots, sizes: [dOut, dIn], A }: BlockState, D: Tensor): void {
    const o = { dtype: D.dtype, device: D.device };
    const damped = A!.add(eye(dIn, o).mul(this.#damping)).to('cpu').astype('float64');
    slots.set('Ha', tensor(inverse(damped.ndarray())).astype(D.dtype).to(D.device).clone());
    slots.set('Hg', eye(dOut, o));
    for (const name of ['h', 'g', 's', 'y']) slots.set(name, zeros([dOut, 1], o));
    if (this.momentum !== 0) slots.set('momentum', zeros([dOut, dIn], o));
  }

  /**
   * Lets Hg follow what a second pass over the batch has left in these blocks, of which those count that the last step has changed. What throws
   * has changed nothing.
   *
   * @param name the optimizer's, for messages
   */
  correct(name: string, states: readonly BlockState[]): void {
    inOwnScope(() => {
      const found = states
        .filter(({ count }) => count === this.pending)
        .map(state => this.#corrected(name, state))
        .filter(one => one !== null);
      for (const { slots, H, s, y } of found)
        for (const [slot, value] of Object.entries({ Hg: H, s, y })) slots.get(slot)!.copy_(value);
    });
    this.pending = null;
  }

  #corrected(name: string, state: BlockState) {
    const { slots, statistics, label } = state;
    const raw = state.block.gradient();
    const examples = statistics?.ownBatch ?? 0;
    const sample = statistics?.factors(gradientScale(examples, this.#reduction)) ?? null;
    if (raw === null || sample === null)
      throw new Error(
        `${name}: ${label} was changed by the last step and has no gradient now: correct() comes after a second forward and ` +
          'backward pass over the batch of the step',
      );
    const before = this.#examples.get(state) ?? examples;
    if (examples !== before)
      throw new Error(
        `${name}: ${label} saw ${examples} examples in the pass before correct(), and ${before} in the pass before step(): both are to be ` +
          'of the same batch',
      );
    const D = meanGradient(raw, statistics!.batch, this.#reduction);
    // Their change would be noise, and by Powell's rule H follows that alone.
    if (isNoise([slots.get('g')!, lastColumn(D)], state.sideG.diagonal(sample.G).sum().item(), D.dtype)) return null;
    const change = (slot: string, was: string, now: Tensor) =>
      slots
        .get(slot)!
        .mul(this.#decay)
        .add(now.sub(slots.get(was)!).mul(1 - this.#decay));
    const s = change('s', 'h', weightOf(state).matmul(lastColumn(sample.A)));
    const y = change('y', 'g', lastColumn(D));
    const H = slots.get('Hg')!.clone();
    follow(H, ...this.#damped(H, s, y));
    const size = Math.max(...[H, s, y].map(largest));
    if (!Number.isFinite(size)) throw notFinite(name, 'pair of a second pass', label);
    return { slots, H, s, y };
  }

  /** Double damping: s ← θ s + (1 − θ) H y so that sᵀy ≥ μ₁ yᵀHy (Powell's, on H), then y ← y + √λ s (Levenberg and Marquardt's). */
  #damped(H: Tensor, s: Tensor, y: Tensor): [s: Tensor, y: Tensor] {
    const Hy = H.matmul(y);
    const [sy, yHy] = [dot(s, y), dot(y, Hy)];
    const theta = sy < this.mu1 * yHy ? ((1 - this.mu1) * yHy) / (yHy - sy) : 1;
    const mixed = theta === 1 ? s : s.mul(theta).add(Hy.mul(1 - theta));
    return [mixed, y.add(mixed.mul(this.#damping))];
  }
}

/** H ← (1 − ρ s yᵀ) H (1 − ρ y sᵀ) + ρ s sᵀ with ρ = 1 / sᵀy: then H y = s. Where nothing has moved there is nothing to follow. */
function follow(H: Tensor, s: Tensor, y: Tensor): void {
  const sy = dot(s, y);
  if (sy === 0) return;
  const Hy = H.matmul(y);
  const yHy = dot(y, Hy);
  // So that H stays symmetric to the last bit.
  const unit = s.div(Math.sqrt(sy));
  const crossed = Hy.div(Math.sqrt(sy)).matmul(unit.transpose());
  H.addScaled_(unit.matmul(unit.transpose()), 1 + yHy / sy);
  H.addScaled_(crossed.add(crossed.transpose()), -1);
}

const dot = (x: Tensor, y: Tensor): number => x.mul(y).sum().item();

/** Whether these mean gradients vanish beside those of single positions, whose squares have this sum in the mean. */
const isNoise = (means: readonly Tensor[], size: number, dtype: string): boolean =>
  means.every(g => dot(g, g) < NOISE[dtype]! ** 2 * size);

const lastColumn = (M: Tensor): Tensor => M.narrow(1, M.shape[1]! - 1, 1);

/** [W | b] of a block of one weight and its bias. */
function weightOf({ block: { parameters, dOut } }: BlockState): Tensor {
  const [weight, bias] = parameters.map(p => p.detach().reshape([dOut, -1]));
  return concat([weight!, bias!.astype(weight!.dtype)], 1);
}
