/**
 * KroneckerPreconditioner: the one base of KFAC, EKFAC and STEVE. It collects statistics through the blocks' hooks,
 * keeps running averages of the factors, decomposes them every so many steps, and walks through a step so that nothing
 * is changed before everything is known to be sound. What to do with a gradient in the eigenbasis is the subclass's.
 */

import {
  backwardPass,
  Generator,
  type Handle,
  noGrad,
  type StateDict,
  scope,
  type Tensor,
  unscoped,
  withSecondThread,
} from '@otimes/core';
import {
  aBoolean,
  aCount,
  anInstance,
  borrowGrad,
  checkArgument,
  checkTrained,
  nameOf,
  onBackwardEnd,
  readsLater,
} from '@otimes/core/extend';
import { type AnyModule, Module, type Parameter } from '@otimes/nn';
import { checkLr, checkNone, checkParameters, checkRange } from '../check.ts';
import { defaultEigensolver, diagonal, type Kfe, type Rotation, rotate } from '../curvature/basis.ts';
import { checkClaims, type Descriptions, describeClaims } from '../curvature/claims.ts';
import { collectBlocks, defaultCollectors } from '../curvature/collector.ts';
import { checkBasis, checkFactorSize, Decomposer, namingMemory } from '../curvature/decompose/here.ts';
import { startDecomposition } from '../curvature/decompose/worker.ts';
import {
  type Factors,
  gradientScale,
  type LossReduction,
  meanGradient,
  type Sample,
  Statistics,
  type Use,
} from '../curvature/factors.ts';
import type { Arrival, RefreshJob } from '../curvature/refresh.ts';
import { type BasisGradient, basisGradient, isFromAffine } from '../curvature/routes/affine.ts';
import { cheapestRoute, type Route } from '../curvature/routes/route.ts';
import { substituteForwards } from '../curvature/routes/substitute.ts';
import type { Scalar } from '../curvature/scalar.ts';
import { capture, type Need } from '../curvature/sources/activations.ts';
import { Optimizer } from '../optimizer.ts';
import { isOrdinary, isOrdinaryStep, Journal, largest, magnitude } from './journal.ts';
import { checkKroneckerOptions, checkLag, isAtOrBelow, type KroneckerOptions, optionsAt } from './options.ts';
import { type Report, reportOf, Stopwatch } from './report.ts';
import { checkRest, stepSynchronously } from './rest.ts';
import { load, save } from './save.ts';
import { BlockState } from './state.ts';
import { Unstepped } from './unstepped.ts';
import { Watchman } from './watchman.ts';

/** A step of `scale` times `update` that a subclass proposes for a block, in the coordinates of its basis, [dOut, dIn]. */
export type Proposal = { readonly state: BlockState; readonly gradient: Tensor; update: Tensor; scale: Scalar };

/** A block with a gradient: in the basis it was computed in, or in parameter coordinates. */
type Active = {
  readonly state: BlockState;
  readonly inBasis: BasisGradient | null;
  readonly raw: Tensor;
  /** At least the largest magnitude in it. */
  readonly size: number;
  /** The running averages with this step's factors in them; null where it has none. */
  readonly averages: Factors | null;
};

/** What a step is about to do to a block: nothing of it has happened yet. */
type Plan = Active & {
  /** The basis of the step. */
  readonly basis: Kfe;
  /** A decomposition that begins with it. */
  readonly job: RefreshJob | null;
  /** `exampleSquares` in `basis`, if the step asks for them. */
  readonly squares: Tensor | null;
  /** Whether nothing can overflow. */
  readonly isOrdinary: boolean;
};

export abstract class KroneckerPreconditioner extends Optimizer {
  readonly refresh: 'sync' | 'background';
  readonly refreshLag: number | null;
  readonly stagger: boolean;
  readonly #route: Route | 'auto';
  readonly #name: string;
  readonly #model: AnyModule;
  /** Whether this is a class of the library itself. */
  readonly #isOurs = Object.hasOwn(this.constructor, 'builtIn');
  readonly #lossReduction: LossReduction;
  readonly #fisherIsLoss: boolean;
  readonly #decomposer: Decomposer;
  /** `exampleSquares` of the step that is running. */
  readonly #squares = new Map<BlockState, Tensor>();
  readonly #rng: Generator;
  readonly #unclaimed: readonly Parameter[];
  readonly #rest: Optimizer | null;
  readonly #restRatio: number;
  readonly #restIsOurs: boolean;
  #restWasOrdinary = true;
  readonly #parameterPaths: ReadonlyMap<Parameter, string>;
  readonly #trainable: readonly Parameter[];
  readonly #watchman: Watchman;
  readonly #unstepped: Unstepped;
  readonly #handles: readonly Handle[];
  readonly #watch = new Stopwatch();
  readonly #refreshes = { done: 0, failed: 0, lastError: null as string | null };
  #states: BlockState[];
  #lr: number;
  #weightDecay: number;
  #refreshEvery: number;
  #factorDecay: number;
  #factorEvery: number;
  #steps = 0;
  #observes = false;
  #detached = false;

  constructor(
    model: AnyModule,
    o: KroneckerOptions,
    defaults: { lr: number; rest: (unclaimed: Parameter[], lr: number) => Optimizer },
  ) {
    super();
    const name = nameOf(this);
    this.#name = name;
    checkArgument(name, 'model', model, aModel);
    checkKroneckerOptions(name, o);
    this.#model = model;
    this.#lr = o.lr ?? defaults.lr;
    this.#weightDecay = o.weightDecay ?? 0;
    this.#refreshEvery = o.refreshEvery ?? 10;
    this.#factorDecay = o.factorDecay ?? 0.9;
    this.#factorEvery = o.factorEvery ?? 1;
    this.refresh = o.refresh ?? 'sync';
    this.refreshLag = o.refreshLag ?? null;
    this.stagger = o.stagger ?? false;
    this.#route = o.route ?? 'auto';
    this.#lossReduction = o.lossReduction ?? 'mean';
    this.#fisherIsLoss = (o.fisher ?? 'empirical') === 'empirical';
    this.#decomposer = new Decomposer(name, o.eigensolver ?? defaultEigensolver, this.refreshEvery);
    this.#rng = o.rng ?? new Generator(0);

    this.#watchman = new Watchman(name, model);
    this.#unstepped = new Unstepped(name);
    const trainable = [...model.namedParameters()].filter(([, p]) => p.requiresGrad);
    checkParameters(
      name,
      trainable.map(([, p]) => p),
    );
    this.#parameterPaths = new Map(trainable.map(([path, p]) => [p, path]));
    this.#trainable = [...this.#parameterPaths.keys()];
    const overrides = o.overrides ?? {};
    const all = collectBlocks(name, model, o.collectors ?? defaultCollectors, { sharing: o.sharing });
    for (const key of Object.keys(overrides))
      if (!all.some(({ path }) => isAtOrBelow(path, key)))
        throw new Error(
          `${name}: overrides: there is no block at or below '${key}', only ${all.map(({ path }) => `'${path}'`).join(', ')}`,
        );
    const blocks = all.filter(({ path }) => !optionsAt(overrides, path).skip);
    checkClaims(name, model, blocks);
    const claimed = new Set(blocks.flatMap(block => block.parameters));
    for (const { path, parameters } of all)
      if (optionsAt(overrides, path).skip && parameters.some(p => claimed.has(p)))
        throw new Error(
          `${name}: overrides: '${path}' cannot be skipped alone, because other blocks share its parameters: skip the layer`,
        );
    this.#states = blocks.map(block => {
      const { lr, sharing } = optionsAt(overrides, block.path);
      if (lr !== undefined && lr !== 0 && this.#lr === 0)
        throw new RangeError(`${name}: a block cannot have lr ${lr} beside an optimizer's lr of 0`);
      const lrRatio = lr === undefined || this.#lr === 0 ? 1 : lr / this.#lr;
      const maxFactorDim = o.maxFactorDim ?? Infinity;
      const state = new BlockState(block, { sharing, lrRatio, maxFactorDim });
      if (!state.identityA) checkFactorSize(name, state.label, 'A', block.dIn);
      if (!state.identityG) checkFactorSize(name, state.label, 'G', block.dOut);
      return state;
    });
    this.#unclaimed = trainable.map(([, p]) => p).filter(p => !claimed.has(p));
    this.#restIsOurs = o.rest === undefined;
    const makeRest = o.rest ?? ((parameters: Parameter[]) => defaults.rest(parameters, this.#lr));
    const unclaimed = this.#unclaimed;
    this.#rest =
      unclaimed.length === 0 ? null : checkRest(name, makeRest([...unclaimed]), unclaimed, this.#parameterPaths);
    this.#restRatio = this.#rest === null || this.#lr === 0 ? 1 : this.#rest.lr / this.#lr;

    const options = {
      fisher: o.fisher ?? 'empirical',
      loss: o.loss,
      lossReduction: this.#lossReduction,
      rng: this.#rng,
    };
    // First what may be refused: then no hook is left behind.
    const substitutes = substituteForwards(
      blocks.map(({ layer }) => layer),
      index => this.#states[index]!,
      index => (a, g) => this.#keepTurned(this.#states[index]!, a, g),
    );
    const hooks = capture(model, blocks, options, {
      need: index => this.#need(this.#states[index]!),
      consume: (index, use, batch, sample, output) =>
        this.#watch.time('statistics', () => this.#consume(index, use, batch, sample, output)),
    });
    this.#handles = [hooks, ...substitutes];
  }

  /** True if `direction` asks for `exampleSquares`, on the steps that `needsExampleSquares` names. */
  protected abstract readonly usesExampleSquares: boolean;
  /** True if `direction` asks for the number of examples. */
  protected abstract readonly usesBatch: boolean;
  /** Names of the tensors [dOut, dIn] that a subclass keeps in `state.slots` from a block's first step on. */
  protected abstract get slotNames(): readonly string[];
  /** Called after a block's basis changed; `rotation` leads from the old one, null at the first time. */
  protected abstract refreshed(state: BlockState, rotation: Rotation | null): void;
  /** The update for the block's gradient D̃ [dOut, dIn] of the mean loss, both in the coordinates of `state.kfe`. */
  protected abstract direction(state: BlockState, D: Tensor): Tensor;
  /** A last word on all blocks' updates together (clipping, momentum). */
  protected finish(_proposals: readonly Proposal[]): void {}
  /** Does the step of `direction` on a weight in the basis at once, W̃ ← keep W̃ − lr · direction, if it can. */
  protected stepInBasis(_state: BlockState, _D: Tensor, _weight: Tensor, _lr: number, _keep: number): boolean {
    return false;
  }
  /**
   * By how much an element of an update may exceed the largest of the gradient: 1/λ or 1/ε, say. Where that is at most 1e15 and
   * nothing is enormous, a step cannot overflow and keeps no copies. Default Infinity: nobody knows.
   */
  protected get gain(): number {
    return Infinity;
  }
  /** λ and the mean curvature that it is added to, for reports. */
  protected dampingOf(_state: BlockState): { lambda: number; mean: Scalar } | null {
    return null;
  }

  /** How many directions of A and of G a block's optimizer takes for null, for reports; null where it does not ask. */
  protected nullsOf(_state: BlockState): { readonly A: number; readonly G: number } | null {
    return null;
  }

  override get lr(): number {
    return this.#lr;
  }

  /** Sets the rest optimizer's learning rate too, in the proportion it had at the start. */
  override set lr(lr: number) {
    checkLr(this.#name, lr);
    this.#lr = lr;
    if (this.#rest !== null) this.#rest.lr = lr * this.#restRatio;
  }

  get weightDecay(): number {
    return this.#weightDecay;
  }

  /** Finite and ≥ 0; from the next step on. */
  set weightDecay(weightDecay: number) {
    checkRange(this.#name, 'weightDecay', weightDecay, 0, Infinity);
    this.#weightDecay = weightDecay;
  }

  get refreshEvery(): number {
    return this.#refreshEvery;
  }

  /** An integer ≥ 1, and at least `refreshLag`; from the next step on. */
  set refreshEvery(refreshEvery: number) {
    checkArgument(this.#name, 'refreshEvery', refreshEvery, aCount);
    if (this.refreshLag !== null) checkLag(this.#name, this.refreshLag, refreshEvery);
    this.#refreshEvery = refreshEvery;
  }

  get factorDecay(): number {
    return this.#factorDecay;
  }

  /** In [0, 1); from the next step on. */
  set factorDecay(factorDecay: number) {
    checkRange(this.#name, 'factorDecay', factorDecay, 0, 1);
    this.#factorDecay = factorDecay;
  }

  get factorEvery(): number {
    return this.#factorEvery;
  }

  /** An integer ≥ 1; from the next step on. */
  set factorEvery(factorEvery: number) {
    checkArgument(this.#name, 'factorEvery', factorEvery, aCount);
    this.#factorEvery = factorEvery;
  }

  /** Steps made so far. */
  get steps(): number {
    return this.#steps;
  }

  /**
   * Removes the hooks from the model and writes all parameters. Call it before another Kronecker optimizer takes over;
   * `step` throws after it.
   */
  detach(): void {
    for (const state of this.#states) state.settle();
    for (const handle of this.#handles) handle.remove();
    this.#detached = true;
  }

  override zeroGrad(...none: readonly never[]): void {
    checkNone(`${this.#name}.zeroGrad`, none, 'gradients become null');
    for (const p of this.#parameterPaths.keys()) p.grad = null;
    this.#watchman.zeroGrad();
    this.#unstepped.reset();
    for (const state of this.#states) state.dropStatistics();
  }

  // --- forward and backward ---------------------------------------------------------------------------------------------

  /** Whether a block's basis is due at this step. Staggered blocks share the period evenly. */
  #isDue(state: BlockState): boolean {
    if (state.kfe === null) return true;
    const offset = this.stagger
      ? Math.floor((this.#states.indexOf(state) * this.refreshEvery) / this.#states.length)
      : 0;
    return (this.#steps - offset) % this.refreshEvery === 0;
  }

  /** Every so many steps, when a refresh needs them, and for a block that backward reaches for the first time. */
  #collectsFactors(state: BlockState): boolean {
    const due = this.factorDecay > 0 && this.#steps % this.factorEvery === 0;
    return due || this.#isDue(state) || state.A === null;
  }

  /** Whether this step updates what comes from statistics. */
  protected get isStatisticsStep(): boolean {
    return this.#steps % this.factorEvery === 0;
  }

  /** Whether this step decomposes the block's factors. */
  protected isRefreshStep(state: BlockState): boolean {
    return this.#isDue(state);
  }

  /** Whether `direction` will ask for the examples' squares of a block in this step. */
  protected needsExampleSquares(_state: BlockState): boolean {
    return this.usesExampleSquares;
  }

  #need(state: BlockState): Need {
    if (this.#collectsFactors(state) || this.needsExampleSquares(state)) return 'samples';
    return this.usesBatch || this.#lossReduction === 'sum' ? 'batch' : 'nothing';
  }

  /** Runs inside backward: turns activations into statistics, so that none outlives the pass needlessly. */
  #consume(index: number, use: Use, batch: number, sample: Sample | null, output: Tensor): void {
    const state = this.#states[index]!;
    // Gradients that were set to null were given up, and what was collected with them too.
    if (state.statistics?.isIdle && state.block.parameters.every(p => borrowGrad(p) === null)) state.dropStatistics();
    state.statistics ??= new Statistics({
      sharing: state.sharing,
      identityA: state.identityA,
      identityG: state.identityG,
      wantsFactors: this.#collectsFactors(state),
    });
    const { statistics } = state;
    if (statistics.begins(use)) {
      onBackwardEnd(completed => {
        const end = () => statistics.ended(use.pass, completed, this.#basisAhead(state));
        this.#watch.time('statistics', () => inStep(() => namingMemory(this.#name, state.label, end)));
        if (completed) Object.assign(state, state.forwards.get(output));
        if (statistics.isEmpty && state.statistics === statistics) state.statistics = null;
      });
      this.#unstepped.begins(use.pass, () => this.#states.reduce((sum, one) => sum + (one.statistics?.bytes ?? 0), 0));
    }
    const label = `${this.#name}: ${state.label}`;
    const keeps = this.needsExampleSquares(state) && !(this.#keepsTurned(state) && isFromAffine(output));
    if (sample === null) statistics.count(use, batch, label);
    else namingMemory(this.#name, state.label, () => statistics.add(use, sample, label, keeps));
  }

  /** The basis of the next step, where it is known already: a block keeps its basis unless it is decomposed anew in the step. */
  #basisAhead(state: BlockState): Kfe | null {
    return this.refresh === 'background' || !this.#isDue(state) ? state.kfe : null;
  }

  /** Whether samples that a layer turned itself serve for the examples' squares: in a basis that this step will not change. */
  #keepsTurned(state: BlockState): boolean {
    return this.#fisherIsLoss && this.needsExampleSquares(state) && !this.#isDue(state);
  }

  /** Takes the rows of a layer in its basis, right after `#consume` saw them in parameter coordinates; false if nobody wants them. */
  #keepTurned(state: BlockState, a: Tensor, g: Tensor): boolean {
    const pass = backwardPass();
    if (pass === 0 || !this.#keepsTurned(state)) return false;
    return state.statistics?.keepTurned(pass, a, g, state.kfe!) ?? false;
  }

  #scale(statistics: Statistics): number {
    return this.#fisherIsLoss ? gradientScale(statistics.batch, this.#lossReduction) : 1;
  }

  /** The second moments of the examples' gradients in the block's basis, [dOut, dIn]. */
  protected exampleSquares(state: BlockState): Tensor {
    const squares = this.#squares.get(state);
    if (squares === undefined)
      throw new Error(`${this.#name}: ${state.label} collected no second moments in this step`);
    return squares;
  }

  // --- a step -----------------------------------------------------------------------------------------------------------

  /**
   * One step: check statistics and gradients, average the factors, refresh the bases if it is time, compute all updates,
   * and only then change parameters. Blocks without a gradient stay as they are. Where a number is not finite, or becomes so,
   * it throws a RangeError, and optimizer and parameters are what they were, bit for bit.
   */
  override step(...none: readonly never[]): void {
    checkNone(`${this.#name}.step`, none, 'call loss.backward() before it');
    if (this.#detached) throw new Error(`${this.#name}: step() after detach(), which removed the hooks`);
    this.#watchman.check();
    checkTrained(this, this.#trainable);
    inStep(() => {
      const plans = this.#plan();
      const journal = this.#watch.time('rest', () => this.#stepRest(plans));
      this.#stepBlocks(plans, journal);
      for (const state of this.#states) state.dropStatistics();
      this.#unstepped.reset();
      this.#steps++;
      this.#watch.time('refresh', () => scope(() => this.#takeArrivals()));
    });
  }

  /** Everything that can fail for reasons of data, and changes nothing. */
  #plan(): Plan[] {
    const active = this.#states.flatMap(state => this.#active(state) ?? []);
    this.#checkRest();
    // Small ones first, where they are decomposed here: they tell how long large ones will take.
    const cost = ({ state }: Active) => (this.refresh === 'sync' || state.kfe === null ? costOf(state) : 0);
    const bySize = [...active].sort((a, b) => cost(a) - cost(b));
    const bases = this.#watch.time('refresh', () => new Map(bySize.map(block => [block.state, this.#basis(block)])));
    return this.#watch.time('precondition', () =>
      active.map(block => {
        const { basis, job } = bases.get(block.state)!;
        const squares = this.#measure(block.state, basis);
        const most = squares === null ? 0 : magnitude(squares);
        if (!Number.isFinite(most)) throw this.#notFinite('second moments of the gradients', block.state.label);
        return { ...block, basis, job, squares, isOrdinary: this.#isOrdinary(block, basis, most) };
      }),
    );
  }

  /** `exampleSquares` in a basis, where the step asks for them and has them. */
  #measure(state: BlockState, { UA, UG }: Kfe): Tensor | null {
    const { statistics } = state;
    if (!statistics?.hasSamples || !this.needsExampleSquares(state)) return null;
    return statistics.exampleSquares(UA, UG, this.#scale(statistics));
  }

  /**
   * Whether the step of a block needs no copies: nothing can overflow, no code of the program runs, and the basis stays. A new
   * one is a long computation, of which copies are a small part and in which memory may end.
   *
   * @param squares at least the largest of the second moments
   */
  #isOrdinary({ state, size }: Active, basis: Kfe, squares: number): boolean {
    const lr = this.#lr * state.lrRatio;
    return (
      this.#isOurs &&
      basis === state.kfe &&
      state.isOrdinary &&
      typeof state.graft === 'number' &&
      state.graft <= 1e6 &&
      isOrdinaryStep(this.gain, lr, 1 - lr * this.weightDecay) &&
      isOrdinary(size) &&
      isOrdinary(squares, 2)
    );
  }

  #stepBlocks(plans: readonly Plan[], journal: Journal | null): void {
    this.#watch.time('precondition', () => {
      try {
        for (const { state, squares } of plans) if (squares !== null) this.#squares.set(state, squares);
        const proposals = plans.flatMap(plan => this.#propose(plan) ?? []);
        this.finish(proposals);
        const decayed = new Set<Parameter>();
        for (const { state, gradient, update, scale } of proposals) {
          if (this.#observes) state.cosine = cosine(gradient, update);
          this.#apply(state, update, scale, decayed);
        }
        if (journal !== null) for (const { state } of plans) this.#checkStepped(state);
      } catch (error) {
        journal?.restore();
        throw error;
      } finally {
        this.#squares.clear();
        // Whatever happened: what a block holds outlives the scope of the step.
        for (const { state } of plans) state.keep();
      }
      for (const { state, job } of plans) if (job !== null) state.job = job;
    });
  }

  /** Throws if a step has left something in a block that is not finite. */
  #checkStepped(state: BlockState): void {
    let size = 0;
    for (const [name, value] of state.slots) {
      const most = largest(value);
      if (!Number.isFinite(most)) throw this.#notFinite(`new ${name}`, state.label);
      size = Math.max(size, most);
    }
    state.isOrdinary = isOrdinary(size, 2);
    let most = Math.max(...state.weights.map(largest));
    // Parameters that come from a weight in the basis need a look of their own only near the end of the range.
    if (most > 1e30) most = Math.max(...state.block.parameters.map(largest));
    if (!Number.isFinite(most)) throw this.#notFinite('update of the weights', state.label);
  }

  #notFinite(what: string, where: string): RangeError {
    return new RangeError(
      `${this.#name}: the ${what} of ${where} has NaN or infinite elements; no parameter was changed. ` +
        'Look for a diverging loss or bad input in the last batch',
    );
  }

  /** The block's gradient and fresh factors, if they are there and finite; null for a block without a gradient. */
  #active(state: BlockState): Active | null {
    const { layer } = state.block;
    const origin = layer === undefined ? null : basisGradient(layer);
    const { kfe, statistics } = state;
    const inBasis = origin !== null && origin.frame.UA === kfe?.UA && origin.frame.UG === kfe.UG ? origin : null;
    if (state.block.parameters.every(p => borrowGrad(p) === null)) return null;
    const name = this.#name;
    const without = state.block.parameters.filter(p => borrowGrad(p) === null);
    if (without.length > 0)
      throw new Error(
        `${name}: ${state.label} has gradients for some of its parameters, but none for ` +
          `${without.map(p => `'${this.#parameterPaths.get(p)}'`).join(', ')}. A block steps as a whole: freeze a part of ` +
          'it before the optimizer is made',
      );
    if (statistics === null && this.#need(state) !== 'nothing')
      throw new Error(
        `${name}: ${state.label} has a gradient but no statistics: step() was called twice after one backward(), or the ` +
          'optimizer was made after the forward pass, or a state was loaded after it, or the layer did not run through ' +
          'call(). Call backward() before each step, make the optimizer before the forward pass, and run the model and its ' +
          'layers through call(), which runs the hooks',
      );
    const raw = inBasis?.D ?? state.block.gradient();
    if (raw === null) return null;
    const fresh = statistics === null ? null : statistics.factors(this.#scale(statistics));
    if (statistics !== null && (statistics.isOfNoExample || (fresh ?? state.A) === null))
      throw new RangeError(
        `${name}: the batch of ${state.label} is empty: there is no example to average over; no parameter was changed. ` +
          'Skip such batches',
      );
    // Of a Gram matrix |x_ij| ≤ √(x_ii x_jj): its diagonal tells whether all of it is finite.
    const suspects = { 'factor A': fresh && diagonal(fresh.A), 'factor G': fresh && diagonal(fresh.G) };
    for (const [what, value] of Object.entries(suspects))
      if (value !== null && !isAllFinite(value)) throw this.#notFinite(what, state.label);
    const size = magnitude(raw);
    if (!Number.isFinite(size)) throw this.#notFinite('gradient', state.label);
    return { state, inBasis, raw, size, averages: fresh && this.#averaged(state, fresh) };
  }

  /** The running averages as they will be, in the memory of this step's factors. */
  #averaged({ A, G }: BlockState, fresh: Factors): Factors {
    const alpha = this.factorDecay;
    if (A === null || G === null || alpha === 0) return fresh;
    fresh.A.addScaled_(A, alpha, 1 - alpha);
    fresh.G.addScaled_(G, alpha, 1 - alpha);
    return fresh;
  }

  /** Takes over running averages, into the memory of the old ones. */
  #average(state: BlockState, { A, G, expandedG }: Factors): void {
    state.expandedG = expandedG;
    if (state.A === null || state.G === null) Object.assign(state, { A, G });
    else {
      state.A.copy_(A);
      state.G.copy_(G);
    }
  }

  /** The basis for this step, a new one where it is due, and a decomposition that begins. */
  #basis({ state, averages }: Active): { basis: Kfe; job: RefreshJob | null } {
    const A = averages?.A ?? state.A!;
    const G = averages?.G ?? state.G!;
    const due = this.#isDue(state);
    const { kfe } = state;
    if (kfe !== null && !due) return { basis: kfe, job: null };
    if (kfe === null || this.refresh === 'sync') {
      const { block, label } = state;
      const basis = this.#decomposer.basis({ A, G, sizes: [block.dOut, block.dIn], label });
      if (basis instanceof Promise) throw new Error(`${this.#name}: factors on '${A.device}' are read with await`);
      return { basis, job: null };
    }
    return { basis: kfe, job: state.job === null ? this.#start(state, A, G, this.#steps) : null };
  }

  #start(state: BlockState, A: Tensor, G: Tensor, step: number): RefreshJob {
    return startDecomposition(A, G, state.kfe!, [state.block.dOut, state.block.dIn], step);
  }

  /**
   * Lets bases take over that came in from the background: between two steps, so that no gradient has to turn, and all
   * together that were begun at one step. So no decomposition competes for a core with the second thread here.
   */
  #takeArrivals(): void {
    const lag = this.refreshLag;
    const late = new Set<number>();
    for (const { job } of this.#states)
      if (job !== null && ((lag !== null && this.#steps < job.step + lag) || !job.ended(lag !== null)))
        late.add(job.step);
    const due = this.#states.filter(({ job }) => job !== null && !late.has(job.step));
    if (due.length === 0) return;
    withSecondThread(() => {
      for (const state of due) this.#takeArrival(state, state.job!);
    });
  }

  #takeArrival(state: BlockState, job: RefreshJob): void {
    state.job = null;
    state.isFresh = false;
    let arrival: Arrival;
    try {
      arrival = job.take();
      const { block, label } = state;
      checkBasis(this.#name, label, arrival.kfe, [block.dOut, block.dIn]);
    } catch (error) {
      this.#refreshes.failed++;
      this.#refreshes.lastError = `${state.label}: ${error instanceof Error ? error.message : String(error)}`;
      console.warn(
        `${this.#name}: a decomposition in the background failed and the old basis stays: ${this.#refreshes.lastError}`,
      );
      return;
    }
    const { kfe, rotation } = arrival;
    // Who looks at states may have given this one another basis meanwhile.
    try {
      this.#takeOver(state, kfe, job.from === state.kfe ? rotation : state.kfe!.rotationTo(kfe));
    } finally {
      state.keep();
    }
  }

  /** Takes over averages and basis, and computes the update; null where the step was made at once. */
  #propose({ state, inBasis, raw, averages, basis }: Plan): Proposal | null {
    const before = state.kfe;
    state.isFresh = before !== basis;
    if (averages !== null) this.#average(state, averages);
    let gradient: Tensor;
    if (before === basis) {
      gradient = inBasis?.D ?? basis.project(raw);
      this.#reconsider(state, inBasis !== null);
    } else {
      const rotation = before === null ? null : before.rotationTo(basis);
      this.#takeOver(state, basis, rotation);
      gradient = inBasis === null ? basis.project(raw) : rotate(raw, rotation!);
    }
    if (this.#lossReduction === 'sum') gradient = meanGradient(gradient, state.statistics!.batch, 'sum');
    if (state.route === 'resident' && state.turnable && !this.#observes) {
      const lr = this.#lr * state.lrRatio;
      const weight = state.resident();
      if (this.stepInBasis(state, gradient, weight, lr, 1 - lr * this.weightDecay)) {
        // With a learning rate of 0 the parameters are what they were, to the last bit.
        if (lr !== 0) state.deferParameters();
        return null;
      }
    }
    const update = this.direction(state, gradient);
    return { state, gradient, update, scale: state.graft };
  }

  /** Puts a basis in the place of a block's old one, from which `rotation` leads there; null at the first time. */
  #takeOver(state: BlockState, basis: Kfe, rotation: Rotation | null): void {
    // With a learning rate of 0 the parameters are what they were, to the last bit.
    state.turn(basis, this.#lr * state.lrRatio === 0 ? null : rotation);
    this.#refreshes.done++;
    this.refreshed(state, rotation);
    this.#chooseRoute(state);
    if (state.route !== 'resident') state.settle();
  }

  #chooseRoute(state: BlockState): void {
    const { dOut, dIn } = state.block;
    const { rows, needsInputGrad } = state;
    if (!state.turnable || rows === 0 || state.misses > 1) state.route = 'gradient';
    else state.route = this.#route === 'auto' ? cheapestRoute({ dOut, dIn, rows, needsInputGrad }) : this.#route;
  }

  /** Gives a route up that does not pay: a layer that is used twice, or whose gradients are clipped or accumulated. */
  #reconsider(state: BlockState, arrivedInBasis: boolean): void {
    if (state.route === 'gradient') return;
    state.misses = arrivedInBasis ? 0 : state.misses + 1;
    if (state.misses <= 1 && state.turnable) return;
    state.settle();
    state.route = 'gradient';
  }

  /** Parameters ← (1 − lr · weightDecay) parameters − lr · scale · update, in whichever coordinates they are kept. */
  #apply(state: BlockState, update: Tensor, scale: Scalar, decayed: Set<Parameter>): void {
    if (typeof scale !== 'number') {
      this.#apply(state, update.mul(scale), 1, decayed);
      return;
    }
    const lr = this.#lr * state.lrRatio;
    const keep = 1 - lr * this.weightDecay;
    if (lr === 0) return;
    if (state.route === 'resident' && state.turnable) {
      state.resident().addScaled_(update, -lr * scale, keep);
      state.deferParameters();
      return;
    }
    // Once a step: the groups of a convolution share their parameters.
    for (const p of state.block.parameters) {
      if (keep === 1 || decayed.has(p)) continue;
      p.scale_(keep);
      decayed.add(p);
    }
    state.block.add(state.kfe!.unproject(update), -lr * scale);
  }

  /** Throws for a gradient of the rest that is not finite. */
  #checkRest(): void {
    for (const p of this.#unclaimed) {
      const g = borrowGrad(p);
      if (g !== null && !isAllFinite(g)) throw this.#notFinite('gradient', `'${this.#parameterPaths.get(p)}'`);
    }
  }

  /**
   * The rest's own step, before that of the blocks, which are other parameters. It sees gradients of the mean loss, as the blocks
   * do. Returns what takes everything back, if the blocks may still fail.
   */
  #stepRest(plans: readonly Plan[]): Journal | null {
    const journal = plans.every(plan => plan.isOrdinary) ? null : new Journal();
    if (journal !== null) {
      for (const { state } of plans) state.saveTo(journal);
      const { done } = this.#refreshes;
      journal.after(() => {
        this.#refreshes.done = done;
      });
    }
    const rest = this.#rest;
    if (rest === null) return journal;
    const batch = this.#states.find(({ statistics }) => statistics !== null)?.statistics?.batch ?? 1;
    const summed = new Map(this.#lossReduction === 'sum' ? this.#unclaimed.map(p => [p, p.grad]) : []);
    const own = journal ?? (this.#isRestOrdinary() ? null : new Journal());
    if (own !== null) {
      const state = rest.stateDict();
      for (const p of this.#unclaimed) own.save(p);
      own.after(() => unscoped(() => rest.loadStateDict(copyOf(state))));
    }
    try {
      for (const [p, g] of summed) p.grad = g === null ? null : meanGradient(g, batch, 'sum');
      stepSynchronously(this.#name, rest);
      if (own !== null) this.#checkRestStepped(rest);
    } catch (error) {
      own?.restore();
      throw error;
    } finally {
      for (const [p, g] of summed) p.grad = g;
    }
    return journal;
  }

  /** Whether nothing can overflow in the rest's step; of an optimizer of the user's nobody knows. */
  #isRestOrdinary(): boolean {
    if (!this.#restIsOurs || !this.#restWasOrdinary || !isOrdinaryStep(this.gain, this.#rest!.lr, 1)) return false;
    return this.#unclaimed.every(p => borrowGrad(p) === null || isOrdinary(largest(borrowGrad(p)!)));
  }

  /** Throws if the rest's step has left something that is not finite. */
  #checkRestStepped(rest: Optimizer): void {
    let ordinary = true;
    for (const [key, value] of Object.entries(rest.stateDict())) {
      const size = largest(value);
      if (!Number.isFinite(size)) throw this.#notFinite(`new '${key}'`, 'the rest optimizer');
      ordinary &&= isOrdinary(size, 2);
    }
    for (const p of this.#unclaimed)
      if (!Number.isFinite(largest(p))) throw this.#notFinite('update', `'${this.#parameterPaths.get(p)}'`);
    this.#restWasOrdinary = ordinary;
  }

  // --- looking at it -----------------------------------------------------------------------------------------------------

  /** Every parameter that requires a gradient, by the block that claims it or under 'rest'. */
  describe(): Descriptions {
    return describeClaims(this.#states, this.#unclaimed, this.#parameterPaths);
  }

  /** The state of a block, for looking at factors, bases and moments. Throws where there is no such block. */
  inspect(path: string): BlockState {
    const state = this.#states.find(({ block }) => block.path === path);
    if (state === undefined)
      throw new Error(
        `${this.#name}: no block '${path}'; there are ${this.#states.map(s => `'${s.block.path}'`).join(', ')}`,
      );
    return state;
  }

  /** Lets steps also record the angle between gradient and update, for `report()`; it costs a few passes over both. */
  observe(on = true): void {
    checkArgument(`${this.#name}.observe`, 'on', on, aBoolean);
    this.#observes = on;
  }

  /** Spectra, effective ranks, damping, angles, refreshes and times, as data. Reads from the device. */
  report(): Report {
    return reportOf(this.#states, {
      steps: this.#steps,
      refreshes: this.#refreshes,
      milliseconds: this.#watch.milliseconds,
      dampingOf: state => this.dampingOf(state),
      nullsOf: state => this.nullsOf(state),
    });
  }

  // --- saving ------------------------------------------------------------------------------------------------------------

  /** `lr`, `steps`, `rng`, for each block `blocks.PATH.A`, `.G`, `.UA`, … and its moments, and `rest.…`. */
  override stateDict(): StateDict {
    return save({ lr: this.#lr, steps: this.#steps, rng: this.#rng, states: this.#states, rest: this.#rest });
  }

  override loadStateDict(saved: StateDict): void {
    const before = { states: this.#states, rest: this.#rest };
    const { lr, steps, rng, states } = load(saved, before, this.#name, this.slotNames, (...job) => this.#start(...job));
    this.#restWasOrdinary = false;
    for (const state of this.#states) {
      state.settle();
      state.dropStatistics();
    }
    this.#lr = lr;
    this.#steps = steps;
    this.#rng.setState(rng);
    this.#unstepped.reset();
    this.#states = states;
  }

  /** Name, rates, and a line for each block and parameter. */
  override toString(): string {
    const { lr, refreshEvery, weightDecay } = this;
    const options = `lr ${lr}, refreshEvery ${refreshEvery}${weightDecay === 0 ? '' : `, weightDecay ${weightDecay}`}`;
    return `${this.#name}(${options}) of ${nameOf(this.#model)}, step ${this.#steps}\n${this.describe()}`;
  }
}

const aModel = anInstance(Module, 'a module', v =>
  Array.isArray(v) || (typeof v === 'object' && v !== null && Symbol.iterator in v)
    ? 'it takes the model itself, not its parameters()'
    : '',
);

/** Unrecorded, outside of the user's scopes; what is made and not kept is given back at once. */
const inStep = (run: () => void): void => unscoped(() => noGrad(() => scope(run)));

const isAllFinite = (x: Tensor): boolean => Number.isFinite(magnitude(x));

const copyOf = (state: StateDict): StateDict =>
  Object.fromEntries(Object.entries(state).map(([key, x]) => [key, x.clone()]));

/** n³ of both sides. */
const costOf = ({ block, identityA, identityG }: BlockState): number =>
  (identityA ? 0 : block.dIn ** 3) + (identityG ? 0 : block.dOut ** 3);

function cosine(x: Tensor, y: Tensor): Scalar {
  const product = x.mul(y).sum();
  if (readsLater(product)) return product.div(x.norm().mul(y.norm())).keep();
  return product.item() / (x.norm().item() * y.norm().item());
}
