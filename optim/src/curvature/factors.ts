/**
 * The factors A and G and the second moments in a basis, from statistics in canonical form. Every 1/batch and 1/shared
 * of the Kronecker optimizers stands in this file and nowhere else.
 *
 * Notation: inputs a [B, T, dIn]; g [B, T, dOut], the gradient of ONE example's loss; D_b = Σ_t g_bt a_btᵀ is the
 * gradient matrix of example b, and D = 1/B Σ_b D_b that of the batch. B counts the examples of the loss: for the gradients of
 * 'sampled' and 'ggn' the rows of the model's output, for those of the loss itself the layer's own first axis.
 */

import { ShapeError, type Tensor, where } from '@otimes/core';
import { held, readsLater } from '@otimes/core/extend';
import type { Canonical, Sharing } from './block.ts';
import type { Side } from './side.ts';
import { type Basis, squaresOf, squaresWithin, sumOf } from './squares.ts';
import { type Examples, either, plus, Sums } from './sums.ts';
import { packUses } from './uses.ts';

/** Whether the user's loss is the mean over the batch or the sum. */
export type LossReduction = 'mean' | 'sum';

/**
 * One use of a layer in a backward pass. `gs` holds one output gradient as it arrived for each source: one for the
 * empirical and the sampled Fisher, one for each column of the loss Hessian's factor for the GGN.
 */
export type Sample = Pick<Canonical, 'a' | 'gramA' | 'inputs' | 'rows'> & { readonly gs: readonly Tensor[] };

/** A [dIn, dIn] and G [dOut, dOut], packed as their sides say. */
export type Factors = {
  readonly A: Tensor;
  readonly G: Tensor;
  /**
   * Whether G of 'reduce' vanished and G of 'expand' stands in its place. A bool tensor of one element where it was found on a
   * device that is read with await.
   */
  readonly expandedG: boolean | Tensor;
};

/** Below this ratio of traces G of 'reduce' counts as 0: Σ_t ∂L/∂k_t of an attention's key projection is, exactly. */
const VANISHED = 1e-8;

/** What a block's statistics are made for. */
type StatisticsOptions = {
  readonly sharing: Sharing;
  /** How the factors are packed. */
  readonly sideA: Side;
  readonly sideG: Side;
  readonly wantsFactors: boolean;
  /** Whether there are further uses, whose factors are packed beside the others. Default false. */
  readonly hasFurther?: boolean;
};

/**
 * One use of a layer, by its tap or a further one: in which backward pass, and in which call of the model (0 outside of any). `examples` is what that call
 * counts as, where it is not the layer's first axis: the rows of the model's output, for 'sampled' and 'ggn'.
 */
export type Use = {
  readonly pass: number;
  readonly call: number;
  readonly examples?: number | undefined;
  readonly isFurther?: boolean;
};

/**
 * Sums over the backward passes of one step; a pass that threw is forgotten. Passes are micro-batches of one batch: the
 * losses are to be scaled so that their sum is the loss of all examples. Calls of the model within one pass have examples
 * of their own, as if they were concatenated: the batch is all of them. Uses of a layer within one call are further shared
 * positions of the same examples.
 *
 * expand: A = 1/(BT) Σ_bt a aᵀ, G = 1/B Σ_bt g gᵀ (for T = 1 Martens & Grosse 2015, eq. 1). reduce: A = 1/B Σ_b ā āᵀ with
 * ā = mean_t a, G = 1/B Σ_b s sᵀ with s = Σ_t g (Eschenhagen et al. 2023, §3). Several gradients add up in G.
 */
export class Statistics {
  readonly #o: StatisticsOptions;
  /** Of passes that are running. */
  readonly #running = new Map<number, Sums>();
  /** Of passes that ended well. */
  #done: Sums | null = null;
  /** Examples of all processes, once these have told. */
  #whole: number | null = null;

  constructor(o: StatisticsOptions) {
    this.#o = o;
  }

  /** Examples of all passes; in a step of several processes those of all processes. */
  get batch(): number {
    return this.#whole ?? this.ownBatch;
  }

  /** Until the next pass. */
  set batch(ofAll: number) {
    this.#whole = ofAll;
  }

  /** Examples of all passes of this process. */
  get ownBatch(): number {
    return this.#done?.batch ?? 0;
  }

  /** What A is a mean over: examples, times their positions for 'expand'. */
  get rows(): number {
    return countedIn(this.#done) || this.furtherRows;
  }

  /** The same of further uses. */
  get furtherRows(): number {
    return countedIn(this.#done?.further ?? null);
  }

  /** Whether factors of further uses are packed beside the own ones. */
  get hasFurther(): boolean {
    return this.#o.hasFurther === true;
  }

  /** Whether G of 'reduce' vanished in all passes, and whether there is one of 'expand' to take its place. */
  get vanishing(): { readonly vanished: boolean; readonly expands: boolean } {
    const { vanished = true, expandedG = null } = this.#done ?? {};
    return { vanished, expands: expandedG !== null };
  }

  /** Whether a gradient came to a use in any pass; in others only the number of examples is known. */
  get isReached(): boolean {
    return this.#done?.isReached ?? false;
  }

  /** Whether no pass has left anything. */
  get isEmpty(): boolean {
    return this.#done === null && this.#running.size === 0;
  }

  /** Whether no pass is running. */
  get isIdle(): boolean {
    return this.#running.size === 0;
  }

  /** Whether samples were kept, for `exampleSquares`. */
  get hasSamples(): boolean {
    return this.#done !== null && (this.#done.samples.length > 0 || this.#done.squares !== null);
  }

  /** Whether all passes that ended were of empty batches, or of no position. */
  get isOfNoExample(): boolean {
    return this.#done !== null && (this.#done.batch === 0 || (this.#done.A !== null && this.#done.rows === 0));
  }

  /** Of the samples that were kept. */
  get bytes(): number {
    const kept = [this.#done, ...this.#running.values()].flatMap(sums => sums?.samples.flat() ?? []);
    return kept
      .flatMap(({ a, gs }) => [a, ...gs])
      .reduce((sum, x) => sum + x.size * (x.dtype === 'float64' ? 8 : 4), 0);
  }

  /** Whether this use is the first of its pass: then somebody has to say how that `ended`. */
  begins({ pass }: Use): boolean {
    return !this.#running.has(pass);
  }

  /** Counts a use of which its examples alone are needed. If not `isReached`, the gradient came to another layer of its call. */
  count({ pass, call, examples: counted }: Use, batch: number, label: string, isReached = true): Sums {
    let sums = this.#running.get(pass);
    if (sums === undefined) {
      sums = new Sums();
      this.#running.set(pass, sums);
    }
    sums.isReached ||= isReached;
    let examples = sums.calls.get(call);
    if (examples === undefined) {
      examples = { batch, samples: [], open: null };
      sums.calls.set(call, examples);
      sums.batch += counted ?? batch;
    } else if (examples.batch !== batch)
      throw new Error(
        `${label} was used for ${examples.batch} and for ${batch} examples in one backward pass; its uses must be of the ` +
          `same examples where ${
            call === 0
              ? 'the model was not called: a layer by itself, or a method besides forward, model.encode(x) say, is no call'
              : 'the model was called once'
          }. For several sets of examples, interior and boundary points say, call the whole model for each, or once on ` +
          'all of them (concat), or run backward() for each before the step',
      );
    sums.last = examples;
    return sums;
  }

  /** @param keeps whether the sample is to be there when `exampleSquares` is asked for */
  add(use: Use, sample: Sample, label: string, keeps: boolean): void {
    const sums = this.count(use, sample.gs[0]!.shape[0]!, label);
    const examples = sums.last!;
    if (keeps) {
      const copy = (x: Tensor) => held(x.clone());
      const { x, unfold, areIndices } = sample.inputs ?? { x: sample.a, unfold: null };
      examples.samples.push({ a: copy(x), unfold, areIndices, gs: sample.gs.map(copy), basis: null });
    }
    if (!this.#o.wantsFactors) return;
    if (use.isFurther) {
      sums.further ??= new Sums();
      this.#addExpanded(sums.further, sample, label);
    } else if (this.#o.sharing === 'reduce') this.#addReduced(sums, examples, sample);
    else this.#addExpanded(sums, sample, label);
  }

  /**
   * Keeps, for `exampleSquares`, rows of the use that came last in this pass, which somebody turned into a basis: a [B·T, dIn]
   * and g [B·T, dOut], which are the statistics' own from now on. False if this pass has had no use.
   */
  keepTurned(pass: number, a: Tensor, g: Tensor, basis: Basis): boolean {
    const last = this.#running.get(pass)?.last;
    if (!last) return false;
    const shaped = (x: Tensor) => x.reshape([last.batch, -1, x.shape[1]!]);
    last.samples.push({ a: shaped(a), unfold: null, gs: [shaped(g)], basis });
    return true;
  }

  /**
   * Ends a pass; of one that threw nothing stays.
   *
   * @param basis that of the next step, where it is known: of several passes squares in it are kept instead of samples
   */
  ended(pass: number, completed: boolean, basis: Basis | null = null): void {
    const sums = this.#running.get(pass);
    if (sums === undefined) return;
    this.#whole = null;
    this.#running.delete(pass);
    if (!completed) {
      sums.release();
      return;
    }
    for (const examples of sums.calls.values()) this.#close(sums, examples);
    sums.calls.clear();
    sums.last = null;
    if (this.#done === null) {
      this.#done = sums;
      return;
    }
    if (basis !== null) for (const one of [this.#done, sums]) one.reduce(basis);
    this.#merge(this.#done, sums);
  }

  #merge(into: Sums, sums: Sums): void {
    if (into.further !== null && sums.further !== null) this.#merge(into.further, sums.further);
    else into.further ??= sums.further;
    into.batch += sums.batch;
    into.isReached ||= sums.isReached;
    into.rows += sums.rows;
    into.vanished &&= sums.vanished;
    if (sums.remains !== null) into.remains = either(into.remains, sums.remains);
    into.samples.push(...sums.samples);
    if (sums.squares !== null) {
      const { sum, basis } = sums.squares;
      into.squares = { basis, sum: plus(into.squares && squaresWithin(into.squares, basis), sum) };
      if (into.squares.sum !== sum) sum.storage.release();
    }
    for (const name of ['A', 'G', 'expandedG', 'padding'] as const) {
      const term = sums[name];
      if (term === null) continue;
      if (into[name] === null) into[name] = term;
      else {
        into[name].addScaled_(term, 1);
        term.storage.release();
      }
    }
  }

  /** Gives back what was kept. */
  release(): void {
    for (const sums of this.#running.values()) sums.release();
    this.#running.clear();
    this.#done?.release();
  }

  #addExpanded(sums: Sums, sample: Sample, label: string): void {
    const { gs, gramA, rows } = sample;
    const [batch, shared] = gs[0]!.shape as [number, number];
    const { sideA } = this.#o;
    const A = gramA === undefined ? sideA.gram(sample.a) : checkedGram(label, sideA, gramA(sideA));
    sums.A = plus(sums.A, A);
    if (typeof rows === 'object') sums.padding = plus(sums.padding, rows.neg().add(batch * shared));
    sums.rows += typeof rows === 'number' ? rows : batch * shared;
    for (const g of gs) sums.G = plus(sums.G, this.#o.sideG.gram(g));
  }

  #addReduced(sums: Sums, examples: Examples, { a, gs, rows }: Sample): void {
    const [sumA, sumGs] = [held(a.sum(1)), gs.map(g => held(g.sum(1)))];
    // Positions whose gradients cancel: their G of 'expand' is kept in case there is nothing else.
    for (const [i, g] of gs.entries()) {
      const [whole, left] = [g.square().sum(), sumGs[i]!.square().sum()];
      if (readsLater(whole)) {
        sums.remains = either(sums.remains, left.gt(whole.mul(VANISHED)));
        sums.expandedG = plus(sums.expandedG, this.#o.sideG.gram(g));
        continue;
      }
      const size = whole.item();
      if (left.item() > VANISHED * size) sums.vanished = false;
      else if (size > 0) sums.expandedG = plus(sums.expandedG, this.#o.sideG.gram(g));
    }
    const { open } = examples;
    if (open === null) {
      const [batch, positions] = a.shape as [number, number];
      examples.open = { a: sumA, gs: sumGs, positions, examples: typeof rows === 'number' ? rows / positions : batch };
    } else {
      open.a.addScaled_(sumA, 1);
      for (const [i, s] of sumGs.entries()) open.gs[i]!.addScaled_(s, 1);
      open.positions += a.shape[1]!;
    }
  }

  /** No further positions come for these examples. */
  #close(sums: Sums, { samples, open }: Examples): void {
    if (samples.length > 0) sums.samples.push(samples);
    if (open === null) return;
    const { a, gs, positions } = open;
    sums.A = plus(sums.A, this.#o.sideA.gram(a.mul(1 / positions)));
    if (positions > 0) sums.rows += open.examples;
    for (const s of gs) sums.G = plus(sums.G, this.#o.sideG.gram(s));
  }

  /**
   * The factors of all passes together, of further uses packed beside them; `scale` is that of `gradientScale`. Null where none were collected.
   *
   * @param expands whether G of 'expand' stands in the place of that of 'reduce', where other processes have a say; by default
   * what these passes tell
   */
  factors(scale: number, expands: boolean | null = null): Factors | null {
    const own = this.#found(this.#done, scale, expands);
    if (!this.#o.hasFurther) return own;
    return packUses(own, this.#found(this.#done?.further ?? null, scale, false));
  }

  #found(sums: Sums | null, scale: number, expands: boolean | null): Factors | null {
    const {
      A = null,
      G = null,
      expandedG = null,
      vanished = false,
      remains = null,
      padding = null,
      rows = 0,
    } = sums ?? {};
    if (A === null || G === null) return null;
    const found = (G: Tensor, expandedG: boolean | Tensor): Factors => ({
      // Of padding alone A is 0, whatever it is divided by.
      A: padding === null ? A.mul(1 / Math.max(1, rows)) : A.div(padding.neg().add(rows).maximum(1)),
      G: G.mul(scale ** 2 / this.ownBatch),
      expandedG,
    });
    if (expands !== null) return found(expands ? (expandedG ?? G) : G, expands);
    if (expandedG === null) return found(G, false);
    if (remains !== null) return found(where(remains, G, expandedG), held(remains.logicalNot()));
    return vanished ? found(expandedG, true) : found(G, false);
  }

  /**
   * The second moments of the examples' gradients in a basis: s = 1/B Σ_b (UGᵀ D_b UA)², elementwise, [dOut, dIn]
   * (George et al. 2018, eq. 11). Null bases are identities.
   */
  exampleSquares(basis: Basis, scale: number): Tensor {
    if (!this.hasSamples) throw new Error('exampleSquares: no samples were kept');
    const { samples, squares } = this.#done!;
    const before = squares === null ? [] : [squaresWithin(squares, basis)];
    return sumOf([...before, ...samples.map(uses => squaresOf(uses, basis))]).mul(scale ** 2 / this.ownBatch);
  }
}

/**
 * What the output gradients of an empirical Fisher lack to be those of one example's loss: backward under a mean loss
 * delivers 1/batch of them.
 */
export function gradientScale(batch: number, reduction: LossReduction): number {
  return reduction === 'mean' ? batch : 1;
}

/** The gradient matrix of the mean loss, whichever loss was differentiated. */
export function meanGradient(D: Tensor, batch: number, reduction: LossReduction): Tensor {
  return reduction === 'mean' ? D : D.mul(1 / batch);
}

/** B D̃², as if examples were independent with mean 0: second moments from the batch's gradient alone. */
export function batchSquares(projected: Tensor, batch: number): Tensor {
  return projected.square().mul(batch);
}

/** Positions that are no padding; with such that a device has counted that must be one that is read at once. */
const countedIn = (sums: Sums | null): number =>
  sums === null ? 0 : sums.rows - (sums.padding === null || readsLater(sums.padding) ? 0 : sums.padding.item());

/** What a collector's `gramA` returned. */
function checkedGram(label: string, { shape, structure, n }: Side, A: Tensor): Tensor {
  if (String(A.shape) === String(shape)) return A;
  throw new ShapeError(
    `${label}: expected gramA(side) to return [${shape}], as side.gram(a) does for a side of ${n} coordinates of structure ` +
      `'${structure}', got [${A.shape}]`,
  );
}
