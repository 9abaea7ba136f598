/**
 * KroneckerPreconditioner: the one base of KFAC, EKFAC and STEVE. It collects statistics through the blocks' hooks,
 * keeps running averages of the factors, decomposes them every so many steps, and walks through a step so that nothing
 * is changed before everything is known to be sound. What to do with a gradient in the eigenbasis is the subclass's.
 */

import { Generator, type Handle, type StateDict, scope, type Tensor, unscoped, withSecondThread } from '@otimes/core';
import { aBoolean, aCount, borrowGrad, checkArgument, checkTrained, nameOf, readsLater } from '@otimes/core/extend';
import type { AnyModule, Parameter } from '@otimes/nn';
import { checkLr, checkNone, checkRange } from '../check.ts';
import { defaultEigensolver, diagonal, type Kfe, type Rotation, rotate } from '../curvature/basis.ts';
import { type Descriptions, describeClaims, layerRows } from '../curvature/claims.ts';
import { Decomposer } from '../curvature/decompose/here.ts';
import {
  type Factors,
  gradientScale,
  type LossReduction,
  meanGradient,
  type Statistics,
} from '../curvature/factors.ts';
import { inOwnScope } from '../curvature/own-scope.ts';
import { Refresher, type RefreshJob } from '../curvature/refresh.ts';
import { type BasisGradient, basisGradient } from '../curvature/routes/affine.ts';
import type { Route } from '../curvature/routes/route.ts';
import { substituteForwards } from '../curvature/routes/substitute.ts';
import type { Scalar } from '../curvature/scalar.ts';
import { capture } from '../curvature/sources/activations.ts';
import { Recorder } from '../curvature/sources/recorder.ts';
import { Stopwatch } from '../curvature/stopwatch.ts';
import { Optimizer } from '../optimizer.ts';
import { assemble } from './assemble.ts';
import { StepDemand } from './demand.ts';
import { isOrdinary, isOrdinaryStep, Journal, largest, magnitude } from './journal.ts';
import { checkModel } from './model.ts';
import { checkKroneckerOptions, checkLag, type KroneckerOptions } from './options.ts';
import { type Phase, type Report, readReportOf, reportOf } from './report.ts';
import { checkRest, stepSynchronously } from './rest.ts';
import { load, save } from './save.ts';
import type { BlockState } from './state.ts';
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
  readonly #route: Route | 'auto';
  readonly #name: string;
  readonly #model: AnyModule;
  /** Whether this is a class of the library itself. */
  readonly #isOurs = Object.hasOwn(this.constructor, 'builtIn');
  readonly #lossReduction: LossReduction;
  readonly #fisherIsLoss: boolean;
  readonly #refresher: Refresher<BlockState>;
  readonly #demand: StepDemand;
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
  readonly #handles: readonly Handle[];
  readonly #watch = new Stopwatch<Phase>({ statistics: 0, refresh: 0, precondition: 0, rest: 0 });
  readonly #states: readonly BlockState[];
  #lr: number;
  #weightDecay: number;
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
    checkModel(name, model);
    checkKroneckerOptions(name, o);
    this.#model = model;
    this.#lr = o.lr ?? defaults.lr;
    this.#weightDecay = o.weightDecay ?? 0;
    this.#route = o.route ?? 'auto';
    this.#lossReduction = o.lossReduction ?? 'mean';
    this.#fisherIsLoss = (o.fisher ?? 'empirical') === 'empirical';
    this.#rng = o.rng ?? new Generator(0);

    this.#watchman = new Watchman(name, model);
    const { states, paths, unclaimed } = assemble(name, model, o, this.#lr);
    this.#states = states;
    this.#parameterPaths = paths;
    this.#trainable = [...paths.keys()];
    this.#unclaimed = unclaimed;
    const decomposer = new Decomposer(name, o.eigensolver ?? defaultEigensolver, o.refreshEvery ?? 10);
    this.#refresher = new Refresher(name, states, decomposer, {
      mode: o.refresh ?? 'sync',
      lag: o.refreshLag ?? null,
      stagger: o.stagger ?? false,
      every: o.refreshEvery ?? 10,
    });
    const rule = {
      needsExampleSquares: (state: BlockState) => this.needsExampleSquares(state),
      usesBatch: () => this.usesBatch,
    };
    this.#demand = new StepDemand(name, states, this.#refresher, rule, {
      factorDecay: o.factorDecay ?? 0.9,
      factorEvery: o.factorEvery ?? 1,
      lossReduction: this.#lossReduction,
      fisherIsLoss: this.#fisherIsLoss,
    });
    this.#restIsOurs = o.rest === undefined;
    const makeRest = o.rest ?? ((parameters: Parameter[]) => defaults.rest(parameters, this.#lr));
    this.#rest = unclaimed.length === 0 ? null : checkRest(name, makeRest([...unclaimed]), unclaimed, paths);
    this.#restRatio = this.#rest === null || this.#lr === 0 ? 1 : this.#rest.lr / this.#lr;

    const options = {
      fisher: o.fisher ?? 'empirical',
      loss: o.loss,
      lossReduction: this.#lossReduction,
      rng: this.#rng,
    };
    const recorders = states.map(state => new Recorder(name, state, this.#demand, this.#watch));
    // First what may be refused: then no hook is left behind.
    const substitutes = substituteForwards(recorders);
    this.#handles = [capture(model, recorders, options), ...substitutes];
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

  get refresh(): 'sync' | 'background' {
    return this.#refresher.mode;
  }

  get refreshLag(): number | null {
    return this.#refresher.lag;
  }

  get stagger(): boolean {
    return this.#refresher.stagger;
  }

  get refreshEvery(): number {
    return this.#refresher.every;
  }

  /** An integer ≥ 1, and at least `refreshLag`; from the next step on. */
  set refreshEvery(refreshEvery: number) {
    checkArgument(this.#name, 'refreshEvery', refreshEvery, aCount);
    if (this.refreshLag !== null) checkLag(this.#name, this.refreshLag, refreshEvery);
    this.#refresher.every = refreshEvery;
  }

  get factorDecay(): number {
    return this.#demand.factorDecay;
  }

  /** In [0, 1); from the next step on. */
  set factorDecay(factorDecay: number) {
    checkRange(this.#name, 'factorDecay', factorDecay, 0, 1);
    this.#demand.factorDecay = factorDecay;
  }

  get factorEvery(): number {
    return this.#demand.factorEvery;
  }

  /** An integer ≥ 1; from the next step on. */
  set factorEvery(factorEvery: number) {
    checkArgument(this.#name, 'factorEvery', factorEvery, aCount);
    this.#demand.factorEvery = factorEvery;
  }

  /** Steps made so far. */
  get steps(): number {
    return this.#refresher.steps;
  }

  /**
   * Removes the hooks from the model and writes all parameters. Call it before another Kronecker optimizer takes over;
   * `step` throws after it.
   */
  detach(): void {
    for (const state of this.#states) state.leaveBasis();
    for (const handle of this.#handles) handle.remove();
    this.#detached = true;
  }

  override zeroGrad(...none: readonly never[]): void {
    checkNone(`${this.#name}.zeroGrad`, none, 'gradients become null');
    for (const p of this.#parameterPaths.keys()) p.grad = null;
    this.#watchman.zeroGrad();
    this.#demand.reset();
    for (const state of this.#states) state.dropStatistics();
  }

  // --- forward and backward ---------------------------------------------------------------------------------------------

  /** Whether this step updates what comes from statistics. */
  protected get isStatisticsStep(): boolean {
    return this.#demand.isStatisticsStep;
  }

  /** Whether this step decomposes the block's factors. */
  protected isRefreshStep(state: BlockState): boolean {
    return this.#refresher.isDue(state);
  }

  /** Whether `direction` will ask for the examples' squares of a block in this step. */
  protected needsExampleSquares(_state: BlockState): boolean {
    return this.usesExampleSquares;
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
    inOwnScope(() => {
      const plans = this.#plan();
      const journal = this.#watch.time('rest', () => this.#stepRest(plans));
      this.#stepBlocks(plans, journal);
      for (const state of this.#states) state.dropStatistics();
      this.#demand.reset();
      this.#refresher.steps++;
      this.#watch.time('refresh', () => scope(() => this.#takeArrivals()));
    });
  }

  /** Everything that can fail for reasons of data, and changes nothing. */
  #plan(): Plan[] {
    const active = this.#states.flatMap(state => this.#active(state) ?? []);
    this.#checkRest();
    // Small ones first, where they are decomposed here: they tell how long large ones will take.
    const bySize = [...active].sort((a, b) => this.#refresher.costOf(a.state) - this.#refresher.costOf(b.state));
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
    if (statistics === null && this.#demand.isAny(state))
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
    return { state, inBasis, raw, size, averages: fresh && state.blended(fresh, this.factorDecay) };
  }

  /** The basis for this step, a new one where it is due, and a decomposition that begins. */
  #basis({ state, averages }: Active): { basis: Kfe; job: RefreshJob | null } {
    const A = averages?.A ?? state.A!;
    const G = averages?.G ?? state.G!;
    return { basis: this.#refresher.basis(state, A, G), job: this.#refresher.begin(state, A, G) };
  }

  /**
   * Lets bases take over that came in from the background: between two steps, so that no gradient has to turn. So no
   * decomposition competes for a core with the second thread here.
   */
  #takeArrivals(): void {
    const arrived = this.#refresher.arrived();
    if (arrived.length === 0) return;
    withSecondThread(() => {
      for (const state of arrived) {
        const arrival = this.#refresher.arrival(state);
        state.isFresh = false;
        if (arrival === null) continue;
        try {
          this.#takeOver(state, arrival.kfe, arrival.rotation);
        } finally {
          state.keep();
        }
      }
    });
  }

  /** Takes over averages and basis, and computes the update; null where the step was made at once. */
  #propose({ state, inBasis, raw, averages, basis }: Plan): Proposal | null {
    const before = state.kfe;
    state.isFresh = before !== basis;
    if (averages !== null) state.setFactors(averages);
    let gradient: Tensor;
    if (before === basis) {
      gradient = inBasis?.D ?? basis.project(raw);
      state.reconsiderRoute(inBasis !== null);
    } else {
      const rotation = before === null ? null : before.rotationTo(basis);
      this.#takeOver(state, basis, rotation);
      gradient = inBasis === null ? basis.project(raw) : rotate(raw, rotation!);
    }
    if (this.#lossReduction === 'sum') gradient = meanGradient(gradient, state.statistics!.batch, 'sum');
    const weight = this.#observes ? null : state.residentWeight();
    if (weight !== null) {
      const lr = this.#lr * state.lrRatio;
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
    this.#refresher.done++;
    this.refreshed(state, rotation);
    state.chooseRoute(this.#route);
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
    const weight = state.residentWeight();
    if (weight !== null) {
      weight.addScaled_(update, -lr * scale, keep);
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
      const { done } = this.#refresher;
      journal.after(() => {
        this.#refresher.done = done;
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
    return describeClaims(layerRows(this.#states, this.#parameterPaths), this.#unclaimed, this.#parameterPaths);
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

  /**
   * Spectra, effective ranks, damping, angles, refreshes and times, as data. Throws where the model is on a device that is read
   * with await.
   */
  report(): Report {
    return reportOf(this.#states, this.#reported);
  }

  /** The same on every device, as it is at the call. */
  readReport(): Promise<Report> {
    return readReportOf(this.#states, this.#reported);
  }

  get #reported(): Parameters<typeof reportOf>[1] {
    return {
      name: this.#name,
      steps: this.#refresher.steps,
      refreshes: this.#refresher,
      milliseconds: this.#watch.milliseconds,
      dampingOf: state => this.dampingOf(state),
      nullsOf: state => this.nullsOf(state),
    };
  }

  // --- saving ------------------------------------------------------------------------------------------------------------

  /** `lr`, `steps`, `rng`, for each block `blocks.PATH.A`, `.G`, `.UA`, … and its moments, and `rest.…`. */
  override stateDict(): StateDict {
    return save({ lr: this.#lr, steps: this.#refresher.steps, rng: this.#rng, states: this.#states, rest: this.#rest });
  }

  override loadStateDict(saved: StateDict): void {
    const before = { states: this.#states, rest: this.#rest };
    const { lr, steps, rng, states } = load(saved, before, this.#name, this.slotNames, (...job) =>
      this.#refresher.start(...job),
    );
    this.#restWasOrdinary = false;
    for (const [i, state] of this.#states.entries()) state.become(states[i]!);
    this.#lr = lr;
    this.#refresher.steps = steps;
    this.#rng.setState(rng);
    this.#demand.reset();
  }

  /** Name, rates, and a line for each block and parameter. */
  override toString(): string {
    const { lr, refreshEvery, weightDecay } = this;
    const options = `lr ${lr}, refreshEvery ${refreshEvery}${weightDecay === 0 ? '' : `, weightDecay ${weightDecay}`}`;
    return `${this.#name}(${options}) of ${nameOf(this.#model)}, step ${this.steps}\n${this.describe()}`;
  }
}

const isAllFinite = (x: Tensor): boolean => Number.isFinite(magnitude(x));

const copyOf = (state: StateDict): StateDict =>
  Object.fromEntries(Object.entries(state).map(([key, x]) => [key, x.clone()]));

function cosine(x: Tensor, y: Tensor): Scalar {
  const product = x.mul(y).sum();
  if (readsLater(product)) return product.div(x.norm().mul(y.norm())).keep();
  return product.item() / (x.norm().item() * y.norm().item());
}
