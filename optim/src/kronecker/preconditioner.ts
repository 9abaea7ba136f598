/**
 * KroneckerPreconditioner: the one base of KFAC, EKFAC and STEVE. It collects statistics through the blocks' hooks,
 * keeps running averages of the factors, decomposes them every so many steps, and walks through a step so that nothing
 * is changed before everything is known to be sound. What to do with a gradient in the eigenbasis is the subclass's.
 */

import { Generator, type Handle, noGrad, type StateDict, type Tensor, tensor, unscoped } from '@otimes/core';
import type { AnyModule, Parameter } from '@otimes/nn';
import { checkLr, checkParameters } from '../check.ts';
import { Optimizer } from '../optimizer.ts';
import { StateReader, scalar } from '../state-dict.ts';
import { capture } from './capture.ts';
import { checkClaims, type Description, describeClaims } from './claims.ts';
import { collectBlocks, defaultCollectors } from './collector.ts';
import { exampleSquares, factors, type LossReduction, meanGradient, type Sample } from './factors.ts';
import { defaultEigensolver, type Eigensolver, Kfe } from './kfe.ts';
import { checkKroneckerOptions, type KroneckerOptions } from './options.ts';
import { BlockState } from './state.ts';

/** A step that a subclass proposes for a block, in parameter coordinates [dOut, dIn]. */
export type Proposal = { readonly state: BlockState; readonly gradient: Tensor; update: Tensor };

export abstract class KroneckerPreconditioner extends Optimizer {
  readonly weightDecay: number;
  readonly refreshEvery: number;
  readonly factorDecay: number;
  readonly factorEvery: number;
  readonly #model: AnyModule;
  readonly #lossReduction: LossReduction;
  readonly #solve: Eigensolver;
  readonly #rng: Generator;
  readonly #unclaimed: readonly Parameter[];
  readonly #rest: Optimizer | null;
  readonly #restRatio: number;
  readonly #parameterPaths: ReadonlyMap<Parameter, string>;
  readonly #hooks: Handle;
  #states: BlockState[];
  #lr: number;
  #steps = 0;
  #detached = false;

  constructor(
    model: AnyModule,
    o: KroneckerOptions,
    defaults: { lr: number; rest: (unclaimed: Parameter[], lr: number) => Optimizer },
  ) {
    super();
    const name = new.target.name;
    checkKroneckerOptions(name, o);
    this.#model = model;
    this.#lr = o.lr ?? defaults.lr;
    this.weightDecay = o.weightDecay ?? 0;
    this.refreshEvery = o.refreshEvery ?? 10;
    this.factorDecay = o.factorDecay ?? 0.9;
    this.factorEvery = o.factorEvery ?? 1;
    this.#lossReduction = o.lossReduction ?? 'mean';
    this.#solve = o.eigensolver ?? defaultEigensolver;
    this.#rng = o.rng ?? new Generator(0);

    const trainable = [...model.namedParameters()].filter(([, p]) => p.requiresGrad);
    checkParameters(
      name,
      trainable.map(([, p]) => p),
    );
    this.#parameterPaths = new Map(trainable.map(([path, p]) => [p, path]));
    const blocks = collectBlocks(model, o.collectors ?? defaultCollectors, { sharing: o.sharing });
    checkClaims(name, model, blocks);
    const claimed = new Set(blocks.flatMap(block => block.parameters));
    this.#states = blocks.map(block => new BlockState(block));
    this.#unclaimed = trainable.map(([, p]) => p).filter(p => !claimed.has(p));
    const makeRest = o.rest ?? ((parameters: Parameter[]) => defaults.rest(parameters, this.#lr));
    this.#rest = this.#unclaimed.length === 0 ? null : makeRest([...this.#unclaimed]);
    this.#restRatio = this.#rest === null || this.#lr === 0 ? 1 : this.#rest.lr / this.#lr;

    const options = {
      fisher: o.fisher ?? 'empirical',
      loss: o.loss,
      lossReduction: this.#lossReduction,
      rng: this.#rng,
    };
    this.#hooks = capture(model, blocks, options, {
      needsSamples: index => this.#collectsFactors(this.#states[index]!) || this.usesExampleSquares,
      consume: (index, batch, sample) => this.#consume(this.#states[index]!, batch, sample),
    });
  }

  /** True if `direction` asks for `state.pending.squares` on every step. */
  protected abstract readonly usesExampleSquares: boolean;
  /** Names of the tensors [dOut, dIn] that a subclass keeps in `state.slots` from a block's first step on. */
  protected abstract get slotNames(): readonly string[];
  /** Called after a block's basis was recomputed; `before` is the old one, null at the first time. */
  protected abstract refreshed(state: BlockState, before: Kfe | null): void;
  /** The update in parameter coordinates for the block's gradient D [dOut, dIn] of the mean loss. */
  protected abstract direction(state: BlockState, kfe: Kfe, D: Tensor): Tensor;
  /** A last word on all blocks' updates together (clipping, momentum). */
  protected finish(_proposals: readonly Proposal[]): void {}

  override get lr(): number {
    return this.#lr;
  }

  /** Sets the rest optimizer's learning rate too, in the proportion it had at the start. */
  override set lr(lr: number) {
    checkLr(this.constructor.name, lr);
    this.#lr = lr;
    if (this.#rest !== null) this.#rest.lr = lr * this.#restRatio;
  }

  /** Steps made so far. */
  get steps(): number {
    return this.#steps;
  }

  /** Removes the hooks from the model. Call it before another Kronecker optimizer takes over; `step` throws after it. */
  detach(): void {
    this.#hooks.remove();
    this.#detached = true;
  }

  override zeroGrad(): void {
    for (const p of this.#parameterPaths.keys()) p.grad = null;
    for (const state of this.#states) state.pending = null;
  }

  #refreshes(): boolean {
    return this.#steps % this.refreshEvery === 0;
  }

  /** Every so many steps, when a refresh needs them, and for a block that backward reaches for the first time. */
  #collectsFactors(state: BlockState): boolean {
    const due = this.factorDecay > 0 && this.#steps % this.factorEvery === 0;
    return due || this.#refreshes() || state.A === null;
  }

  /** Runs inside backward: turns activations into statistics, so that none outlives the pass needlessly. */
  #consume(state: BlockState, batch: number, sample: Sample | null): void {
    if (state.pending !== null)
      throw new Error(
        `${this.constructor.name}: ${state.label} got a second backward pass before step(). A layer that is used twice ` +
          'in one forward pass and gradients accumulated over several are not supported yet; zeroGrad() forgets the first',
      );
    state.pending = {
      batch,
      factors: sample !== null && this.#collectsFactors(state) ? factors(sample, state.block.sharing) : null,
      squares: this.#squares(state, sample),
    };
  }

  #squares(state: BlockState, sample: Sample | null): (kfe: Kfe) => Tensor {
    if (!this.usesExampleSquares || sample === null)
      return () => {
        throw new Error(`${this.constructor.name}: ${state.label} collected no second moments in this step`);
      };
    if (!this.#refreshes() && state.kfe !== null) {
      const known = exampleSquares(sample, state.kfe.UA, state.kfe.UG);
      return () => known;
    }
    // The basis of a step that refreshes is not known yet: a copy of the sample waits for it, beyond backward.
    const [a, gs] = [sample.a.clone(), sample.gs.map(g => g.clone())];
    return kfe => exampleSquares({ a, gs }, kfe.UA, kfe.UG);
  }

  /**
   * One step: check statistics and gradients, average the factors, refresh the bases if it is time, compute all updates,
   * and only then change parameters. Blocks without a gradient stay as they are.
   */
  override step(): void {
    if (this.#detached) throw new Error(`${this.constructor.name}: step() after detach(), which removed the hooks`);
    unscoped(() =>
      noGrad(() => {
        const active = this.#states.flatMap(state => {
          const gradient = state.block.gradient();
          return gradient === null ? [] : [{ state, raw: gradient }];
        });
        const checked = active.map(({ state, raw }) => this.#checked(state, raw));
        const averages = checked.map(({ state }) => this.#averaged(state));
        const refresh = this.#refreshes();
        const bases = checked.map(({ state }, i) => {
          const { A, G } = averages[i]!;
          return refresh || state.kfe === null ? Kfe.of(A, G, this.#solve) : state.kfe;
        });
        // From here on nothing can fail for reasons of data.
        const proposals = checked.map(({ state, gradient }, i): Proposal => {
          const before = state.kfe;
          Object.assign(state, averages[i]);
          state.kfe = bases[i]!;
          if (before !== state.kfe) this.refreshed(state, before);
          return { state, gradient, update: this.direction(state, state.kfe, gradient) };
        });
        this.finish(proposals);
        for (const { state, update } of proposals) {
          if (this.weightDecay > 0) for (const p of state.block.parameters) p.scale_(1 - this.#lr * this.weightDecay);
          state.block.add(update, -this.#lr);
        }
        this.#stepRest(active[0]?.state.pending?.batch ?? 1);
        for (const state of this.#states) state.pending = null;
        this.#steps++;
      }),
    );
  }

  /** The rest sees gradients of the mean loss, as the blocks do. */
  #stepRest(batch: number): void {
    if (this.#rest === null) return;
    const summed = new Map(this.#lossReduction === 'sum' ? this.#unclaimed.map(p => [p, p.grad]) : []);
    try {
      for (const [p, g] of summed) p.grad = g === null ? null : meanGradient(g, batch, 'sum');
      this.#rest.step();
    } finally {
      for (const [p, g] of summed) p.grad = g;
    }
  }

  /** The block's gradient of the mean loss, if it and the statistics are there and finite. */
  #checked(state: BlockState, raw: Tensor): { state: BlockState; gradient: Tensor } {
    const name = this.constructor.name;
    const { pending } = state;
    if (pending === null)
      throw new Error(
        `${name}: ${state.label} has a gradient but no statistics. Make the optimizer before the forward pass, and run ` +
          'the model and its layers through call(), which runs the hooks',
      );
    const fresh = pending.factors;
    for (const [what, value] of Object.entries({ 'factor A': fresh?.A, 'factor G': fresh?.G, gradient: raw }))
      if (value !== undefined && !isAllFinite(value))
        throw new RangeError(
          `${name}: the ${what} of ${state.label} has NaN or infinite elements; no parameter was changed. ` +
            'Look for a diverging loss or bad input in the last batch',
        );
    return { state, gradient: meanGradient(raw, pending.batch, this.#lossReduction) };
  }

  /** The running averages with this step's factors in them. */
  #averaged({ A, G, expandedG, pending }: BlockState): { A: Tensor; G: Tensor; expandedG: boolean } {
    const fresh = pending?.factors;
    if (A === null || G === null) return { A: fresh!.A, G: fresh!.G, expandedG: fresh!.expandedG };
    if (!fresh) return { A, G, expandedG };
    const alpha = this.factorDecay;
    const blend = (old: Tensor, now: Tensor) => (alpha === 0 ? now : old.mul(alpha).add(now.mul(1 - alpha)));
    return { A: blend(A, fresh.A), G: blend(G, fresh.G), expandedG: fresh.expandedG };
  }

  /** Every parameter that requires a gradient, by the block that claims it or under 'rest'. */
  describe(): Description[] {
    return describeClaims(this.#states, this.#unclaimed, this.#parameterPaths);
  }

  /** The state of a block, for looking at factors, bases and moments. Throws where there is no such block. */
  inspect(path: string): BlockState {
    const state = this.#states.find(({ block }) => block.path === path);
    if (state === undefined)
      throw new Error(
        `${this.constructor.name}: no block '${path}'; there are ${this.#states.map(s => `'${s.block.path}'`).join(', ')}`,
      );
    return state;
  }

  /** `lr`, `steps`, `rng`, for each block `blocks.PATH.A`, `.G`, `.UA`, … and its moments, and `rest.…`. */
  override stateDict(): StateDict {
    const state: StateDict = { lr: scalar(this.#lr), steps: scalar(this.#steps), rng: tensor(this.#rng.getState()) };
    for (const block of this.#states) block.save(state);
    for (const [key, value] of Object.entries(this.#rest?.stateDict() ?? {})) state[`rest.${key}`] = value;
    return state;
  }

  override loadStateDict(saved: StateDict): void {
    const reader = new StateReader(this.constructor.name, saved);
    const [lr, steps] = [reader.number('lr'), reader.number('steps')];
    const rng = reader.tensor('rng', { shape: [4], dtype: 'int32' });
    const states = this.#states.map(({ block }) => BlockState.load(block, reader, this.slotNames));
    const rest = reader.section('rest.');
    if (this.#rest === null && Object.keys(rest).length > 0)
      reader.problem('unexpected: rest.…, no parameter is unclaimed');
    reader.finish();
    // The rest goes first: if it refuses, nothing has been taken over yet.
    this.#rest?.loadStateDict(rest);
    this.#lr = lr;
    this.#steps = steps;
    this.#rng.setState(rng.dataSync());
    this.#states = states;
  }

  override toString(): string {
    return `${this.constructor.name} of ${this.#model.constructor.name}: ${this.#states.length} blocks`;
  }
}

/** The largest magnitude tells: NaN wins in `max`. */
function isAllFinite(x: Tensor): boolean {
  return Number.isFinite(x.abs().max().item());
}
