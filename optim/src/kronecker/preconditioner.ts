/**
 * KroneckerPreconditioner: the one base of KFAC, EKFAC and STEVE. It collects statistics through the blocks' hooks, keeps running
 * averages of the factors, decomposes them every so many steps, and steps. What becomes of a gradient in the eigenbasis is its
 * rule's.
 */

import type { Handle, StateDict } from '@otimes/core';
import { aBoolean, aCount, checkArgument, checkNone, checkRange, checkTrained, nameOf } from '@otimes/core/extend';
import type { AnyModule } from '@otimes/nn';
import { checkLr } from '../check.ts';
import { type Descriptions, describeClaims, layerRows } from '../curvature/claims.ts';
import { checkModel } from '../curvature/model.ts';
import { substituteForwards } from '../curvature/routes/substitute.ts';
import { capture } from '../curvature/sources/activations.ts';
import { Recorder } from '../curvature/sources/recorder.ts';
import { Optimizer } from '../optimizer.ts';
import { noteScaled, noteTrained } from '../trained.ts';
import { checkKroneckerOptions, type KroneckerOptions } from './options.ts';
import { partsOf } from './parts.ts';
import { type Report, readReportOf, reportOf } from './report.ts';
import type { Kind } from './rule.ts';
import { checkKind } from './rule-check.ts';
import { load, save } from './save.ts';
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
    this.#watchman = new Watchman(name, model, 'detach() the old one before');
    this.#parts = partsOf(name, this.constructor, model, o, kind);
    const { states, paths, settings, demand, labels, watch } = this.#parts;
    const trainable = noteTrained(this, [...paths.keys()]);
    const check = () => {
      this.#watchman.check();
      checkTrained(this, trainable);
    };
    this.#stepper = new Stepper(this.#parts, check, () => this.#watchman.now());

    noteScaled(this, this.#parts.communicator.size > 1 ? null : settings);
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

  /** Sets the rest optimizer's learning rate too, in the proportion it had at the start, or with the first lr above 0. */
  override set lr(lr: number) {
    checkLr(this.#name, lr);
    this.checkNoStepOpen('setting lr');
    this.#parts.settings.lr = lr;
    this.#parts.rest.lr = lr;
  }

  get weightDecay(): number {
    return this.#parts.settings.weightDecay;
  }

  /** Finite and ≥ 0; from the next step on. */
  set weightDecay(weightDecay: number) {
    checkRange(this.#name, 'weightDecay', weightDecay, 0, Infinity);
    this.checkNoStepOpen('setting weightDecay');
    this.#parts.settings.weightDecay = weightDecay;
  }

  /** What is in force. */
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
    this.#parts.refresher.checkEvery(refreshEvery);
    this.checkNoStepOpen('setting refreshEvery');
    this.#parts.refresher.every = refreshEvery;
  }

  get factorDecay(): number {
    return this.#parts.settings.factorDecay;
  }

  /** In [0, 1); from the next step on. */
  set factorDecay(factorDecay: number) {
    checkRange(this.#name, 'factorDecay', factorDecay, 0, 1);
    this.checkNoStepOpen('setting factorDecay');
    this.#parts.settings.factorDecay = factorDecay;
  }

  get factorEvery(): number {
    return this.#parts.settings.factorEvery;
  }

  /** An integer ≥ 1; from the next step on. */
  set factorEvery(factorEvery: number) {
    checkArgument(this.#name, 'factorEvery', factorEvery, aCount);
    this.checkNoStepOpen('setting factorEvery');
    this.#parts.settings.factorEvery = factorEvery;
  }

  /**
   * Throws while a step waits, as all that changes the optimizer does. For a class with settings of its own.
   *
   * @param what was called, for the message: 'setting damping', say
   */
  protected checkNoStepOpen(what: string): void {
    this.#parts.demand.checkNoStepOpen(what);
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
    this.checkNoStepOpen('detach()');
    for (const state of this.#parts.states) state.leaveBasis();
    for (const handle of this.#handles) handle.remove();
    this.#detached = true;
  }

  override zeroGrad(...none: readonly never[]): void {
    checkNone(`${this.#name}.zeroGrad`, none, 'gradients become null');
    this.checkNoStepOpen('zeroGrad()');
    const { paths, states, demand } = this.#parts;
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
    this.checkNoStepOpen('step()');
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
    this.checkNoStepOpen('observe()');
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
    this.checkNoStepOpen('loadStateDict()');
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
