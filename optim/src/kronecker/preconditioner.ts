/**
 * KroneckerPreconditioner: the one base of KFAC, EKFAC and STEVE. It collects statistics through the blocks' hooks, keeps running
 * averages of the factors, decomposes them every so many steps, and steps. What becomes of a gradient in the eigenbasis is its
 * rule's.
 */

import { Generator, type Handle, type StateDict } from '@otimes/core';
import { aBoolean, aCount, checkArgument, checkNone, checkRange, checkTrained, nameOf } from '@otimes/core/extend';
import type { AnyModule, Parameter } from '@otimes/nn';
import { checkLr } from '../check.ts';
import { defaultEigensolver } from '../curvature/basis.ts';
import { type Descriptions, describeClaims, layerRows } from '../curvature/claims.ts';
import { alone } from '../curvature/communicator.ts';
import { Decomposer } from '../curvature/decompose/here.ts';
import { checkModel } from '../curvature/model.ts';
import { Refresher } from '../curvature/refresh.ts';
import { substituteForwards } from '../curvature/routes/substitute.ts';
import { capture } from '../curvature/sources/activations.ts';
import { Labels } from '../curvature/sources/labels.ts';
import { Recorder } from '../curvature/sources/recorder.ts';
import { Stopwatch } from '../curvature/stopwatch.ts';
import { Optimizer } from '../optimizer.ts';
import { assemble } from './assemble.ts';
import { StepDemand } from './demand.ts';
import { checkKroneckerOptions, checkLag, type KroneckerOptions } from './options.ts';
import { type Phase, type Report, readReportOf, reportOf } from './report.ts';
import { Rest } from './rest.ts';
import type { Kind } from './rule.ts';
import { checkKind } from './rule-check.ts';
import { load, save } from './save.ts';
import { StepSettings } from './settings.ts';
import type { BlockState } from './state.ts';
import { type Parts, Stepper } from './step.ts';
import { Watchman } from './watchman.ts';

export abstract class KroneckerPreconditioner extends Optimizer {
  readonly #name: string;
  readonly #model: AnyModule;
  readonly #parts: Parts;
  readonly #stepper: Stepper;
  readonly #watchman: Watchman;
  readonly #handles: readonly Handle[];
  #detached = false;

  constructor(model: AnyModule, o: KroneckerOptions, kind: Kind) {
    super();
    const name = nameOf(this);
    this.#name = name;
    checkKind(name, kind);
    checkModel(name, model);
    checkKroneckerOptions(name, o);
    this.#model = model;
    const { communicator = alone } = o;
    const labels = new Labels(o.rng ?? new Generator(0), communicator);
    this.#watchman = new Watchman(name, model);

    const { lr = kind.lr, refreshEvery = 10 } = o;
    const { rule } = kind;
    const { states, paths, unclaimed } = assemble(name, model, o, lr);
    const trainable = [...paths.keys()];
    const decomposer = new Decomposer(name, o.eigensolver ?? defaultEigensolver, refreshEvery);
    const { refresh: mode = 'sync', refreshLag: lag = null, stagger = false } = o;
    const refresher = new Refresher(name, states, decomposer, { mode, lag, stagger, every: refreshEvery });
    const settings = new StepSettings(lr, o, refresher);
    const demand = new StepDemand(name, states, rule, settings, refresher, communicator);
    const byDefault = (parameters: Parameter[]) => kind.rest(parameters, lr);
    const rest = new Rest(unclaimed, { name, lr, paths, make: o.rest, byDefault });
    const watch = new Stopwatch<Phase>({ statistics: 0, refresh: 0, precondition: 0, rest: 0 });
    const isOurs = [this.constructor, rule.constructor].every(made => Object.hasOwn(made, 'builtIn'));
    this.#parts = { name, isOurs, states, paths, rule, settings, refresher, demand, rest, communicator, labels, watch };
    this.#stepper = new Stepper(this.#parts, () => {
      this.#watchman.check();
      checkTrained(this, trainable);
    });

    const { lossReduction, fisher } = settings;
    const recorders = states.map(state => new Recorder(name, state, demand, watch));
    // First what may be refused: then no hook is left behind.
    const substitutes = substituteForwards(recorders);
    this.#handles = [
      capture(model, recorders, { fisher, loss: o.loss, lossReduction, rng: labels.own }),
      ...substitutes,
    ];
  }

  override get lr(): number {
    return this.#parts.settings.lr;
  }

  /** Sets the rest optimizer's learning rate too, in the proportion it had at the start. */
  override set lr(lr: number) {
    checkLr(this.#name, lr);
    this.#parts.settings.lr = lr;
    this.#parts.rest.lr = lr;
  }

  get weightDecay(): number {
    return this.#parts.settings.weightDecay;
  }

  /** Finite and ≥ 0; from the next step on. */
  set weightDecay(weightDecay: number) {
    checkRange(this.#name, 'weightDecay', weightDecay, 0, Infinity);
    this.#parts.settings.weightDecay = weightDecay;
  }

  get refresh(): 'sync' | 'background' {
    return this.#parts.refresher.mode;
  }

  get refreshLag(): number | null {
    return this.#parts.refresher.lag;
  }

  get stagger(): boolean {
    return this.#parts.refresher.stagger;
  }

  get refreshEvery(): number {
    return this.#parts.refresher.every;
  }

  /** An integer ≥ 1, and at least `refreshLag`; from the next step on. */
  set refreshEvery(refreshEvery: number) {
    checkArgument(this.#name, 'refreshEvery', refreshEvery, aCount);
    if (this.refreshLag !== null) checkLag(this.#name, this.refreshLag, refreshEvery);
    this.#parts.refresher.every = refreshEvery;
  }

  get factorDecay(): number {
    return this.#parts.settings.factorDecay;
  }

  /** In [0, 1); from the next step on. */
  set factorDecay(factorDecay: number) {
    checkRange(this.#name, 'factorDecay', factorDecay, 0, 1);
    this.#parts.settings.factorDecay = factorDecay;
  }

  get factorEvery(): number {
    return this.#parts.settings.factorEvery;
  }

  /** An integer ≥ 1; from the next step on. */
  set factorEvery(factorEvery: number) {
    checkArgument(this.#name, 'factorEvery', factorEvery, aCount);
    this.#parts.settings.factorEvery = factorEvery;
  }

  /** Steps made so far. */
  get steps(): number {
    return this.#parts.refresher.steps;
  }

  /**
   * Removes the hooks from the model and writes all parameters. Call it before another Kronecker optimizer takes over;
   * `step` throws after it.
   */
  detach(): void {
    this.#parts.demand.checkNoStepOpen('detach()');
    for (const state of this.#parts.states) state.leaveBasis();
    for (const handle of this.#handles) handle.remove();
    this.#detached = true;
  }

  override zeroGrad(...none: readonly never[]): void {
    checkNone(`${this.#name}.zeroGrad`, none, 'gradients become null');
    const { paths, states, demand } = this.#parts;
    demand.checkNoStepOpen('zeroGrad()');
    for (const p of paths.keys()) p.grad = null;
    this.#watchman.zeroGrad();
    demand.reset();
    for (const state of states) state.dropStatistics();
  }

  /**
   * One step: check statistics and gradients, average the factors, refresh the bases if it is time, compute all updates,
   * and only then change parameters. Blocks without a gradient stay as they are. Where a number is not finite, or becomes so,
   * it throws a RangeError, and optimizer and parameters are what they were, bit for bit.
   *
   * Where values are read with await, it returns a promise when bases are computed within the step, or one has to take over
   * after it (`refreshLag`). Until that is settled, `backward`, `step` and what else concerns the optimizer throw. If gradients
   * change it is rejected, and all is as if it had not been called: they and the statistics stay. A step there keeps no copies:
   * gradients and statistics are checked, but numbers that overflow within it, as those of a huge `lr` do, are not taken back.
   *
   * With a `communicator` of several processes it is one step on the batch of all, which all of them enter, and ends alike in all:
   * what throws in one, throws in all, and nothing has changed in any. It returns a promise if the communicator does.
   */
  override step(...none: readonly never[]): void | Promise<void> {
    checkNone(`${this.#name}.step`, none, 'call loss.backward() before it');
    if (this.#detached) throw new Error(`${this.#name}: step() after detach(), which removed the hooks`);
    this.#parts.demand.checkNoStepOpen('step()');
    return this.#stepper.step();
  }

  /** Every parameter that requires a gradient, by the block that claims it or under 'rest'. */
  describe(): Descriptions {
    const { states, paths, rest } = this.#parts;
    return describeClaims(layerRows(states, paths), rest.parameters, paths);
  }

  /** The state of a block, for looking at factors, bases and moments. Throws where there is no such block. */
  inspect(path: string): BlockState {
    const { states } = this.#parts;
    const state = states.find(({ block }) => block.path === path);
    if (state === undefined)
      throw new Error(
        `${this.#name}: no block '${path}'; there are ${states.map(s => `'${s.block.path}'`).join(', ')}`,
      );
    return state;
  }

  /** Lets steps also record the angle between gradient and update, for `report()`; it costs a few passes over both. */
  observe(on = true): void {
    checkArgument(`${this.#name}.observe`, 'on', on, aBoolean);
    this.#stepper.updater.observes = on;
  }

  /**
   * Spectra, effective ranks, damping, angles, refreshes and times, as data. Throws where the model is on a device that is read
   * with await.
   */
  report(): Report {
    return reportOf(this.#parts);
  }

  /** The same on every device, as it is at the call. */
  readReport(): Promise<Report> {
    return readReportOf(this.#parts);
  }

  /** `lr`, `steps`, `rng`, for each block `blocks.PATH.A`, `.G`, `.UA`, … and its moments, and `rest.…`. */
  override stateDict(): StateDict {
    return save(this.#parts);
  }

  override loadStateDict(saved: StateDict): void {
    this.#parts.demand.checkNoStepOpen('loadStateDict()');
    load(saved, this.#parts);
    this.#stepper.updater.loaded();
  }

  /** Name, rates, and a line for each block and parameter. */
  override toString(): string {
    const { lr, refreshEvery, weightDecay } = this;
    const options = `lr ${lr}, refreshEvery ${refreshEvery}${weightDecay === 0 ? '' : `, weightDecay ${weightDecay}`}`;
    return `${this.#name}(${options}) of ${nameOf(this.#model)}, step ${this.steps}\n${this.describe()}`;
  }
}
