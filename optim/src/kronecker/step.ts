/**
 * A step of a Kronecker optimizer: checks of statistics and gradients, new bases where it is time, the updates of all blocks, and
 * only then parameters change.
 *
 * Where values are read with await, a step waits for nothing but factors that are to be decomposed. All checks are entered before
 * anything is written; when the factors arrive they have passed, else the promise is rejected and nothing has changed. In other
 * steps a check that fails later lets no kernel write, as for every optimizer (see `Backend.checkFinite`). So what a step there
 * keeps is written in place, or replaced as a whole with the basis.
 */

import { scope, type Tensor } from '@otimes/core';
import { borrowGrad, caughtUp, held, readsLater, versionOf } from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import type { Kfe } from '../curvature/basis.ts';
import type { Communicator } from '../curvature/communicator.ts';
import { inTurns, type Turns, told } from '../curvature/exchange.ts';
import { meanGradient } from '../curvature/factors.ts';
import { inOwnScope } from '../curvature/own-scope.ts';
import type { Refresher, RefreshJob } from '../curvature/refresh.ts';
import type { Labels } from '../curvature/sources/labels.ts';
import type { Stopwatch } from '../curvature/stopwatch.ts';
import { Journal } from '../journal.ts';
import type { StepDemand } from './demand.ts';
import { JointBatch, type WholeBatch } from './joint.ts';
import { type Active, type Plan, Planner } from './plan.ts';
import type { Phase } from './report.ts';
import type { Rest } from './rest.ts';
import type { Rule } from './rule.ts';
import type { StepSettings } from './settings.ts';
import type { BlockState } from './state.ts';
import { Updater } from './updater.ts';

/** What an optimizer is made of. */
export type Parts = {
  /** For messages. */
  readonly name: string;
  /** Whether no code of the program runs in a step. */
  readonly isOurs: boolean;
  readonly states: readonly BlockState[];
  /** Of the model's parameters. */
  readonly paths: ReadonlyMap<Parameter, string>;
  readonly rule: Rule;
  readonly settings: StepSettings;
  readonly refresher: Refresher<BlockState>;
  readonly demand: StepDemand;
  readonly rest: Rest;
  readonly communicator: Communicator;
  readonly labels: Labels;
  readonly watch: Stopwatch<Phase>;
};

/** A step that waits for bases, of active blocks. */
type Waiting = {
  readonly active: readonly Active[];
  readonly bases: readonly (Kfe | Promise<Kfe>)[];
  readonly jobs: readonly (RefreshJob | null)[];
  /** Of all parameters, as they were checked. */
  readonly gradients: readonly Held[];
};

/** A parameter, its gradient, and how often that was written to. */
type Held = readonly [p: Parameter, gradient: Tensor | null, version: number];

/** What a step waits for: such bases, or only those that are to take over after it. */
type Open = Waiting | { readonly active: null };

/** Where values are read with await: products with it, and quotients by it, are far from the ends of float32. */
const LARGEST_LR = 1e30;

export class Stepper {
  readonly updater: Updater;
  readonly #parts: Parts;
  readonly #check: () => void;
  readonly #fields: () => readonly unknown[];
  readonly #planner: Planner;
  /** Null in a process that trains alone. */
  readonly #joint: JointBatch | null;
  #open: Open | null = null;

  /**
   * @param check throws for what makes a step impossible beyond what is found here
   * @param fields what lies where the model has its parameters, now
   */
  constructor(parts: Parts, check: () => void, fields: () => readonly unknown[]) {
    const { name, isOurs, paths, rule, settings, demand } = parts;
    this.#parts = parts;
    this.updater = new Updater(parts);
    this.#check = check;
    this.#fields = fields;
    this.#planner = new Planner(name, isOurs, paths, rule, settings, demand);
    this.#joint = parts.communicator.size === 1 ? null : new JointBatch(parts, this.#planner);
  }

  /** One step, as `KroneckerPreconditioner.step`. A promise where it waits for bases, or for other processes. */
  step(): void | Promise<void> {
    if (this.#joint !== null) return inTurns(this.#stepJointly(this.#joint));
    this.#check();
    inOwnScope(() => this.#begin());
    if (this.#open !== null) return this.#end(this.#open);
    for (const parameter of this.#parts.paths.keys()) return caughtUp(parameter);
  }

  /** The step of several processes. */
  *#stepJointly(joint: JointBatch): Turns<void> {
    const { demand, labels } = this.#parts;
    const borrowed: Tensor[] = [];
    demand.isStepOpen = true;
    try {
      const whole = yield* joint.whole(this.#check, this.#fields, borrowed);
      const undo = whole.settle();
      try {
        yield* this.#finishJointly(whole);
      } catch (error) {
        undo();
        throw error;
      }
      labels.next();
    } finally {
      demand.isStepOpen = false;
      // What became the optimizer's is kept.
      for (const x of borrowed) x.storage.release();
    }
  }

  /** Where code of the program has run that may fail in one process alone, they tell before it is final. */
  *#finishJointly(whole: WholeBatch): Turns<void> {
    const { communicator, isOurs, rest } = this.#parts;
    const jobs = new Array<null>(whole.active.length).fill(null);
    if (isOurs && !rest.runsProgram) {
      inOwnScope(() => this.#finish(whole.active, whole.bases, jobs, whole));
      return;
    }
    const journal = new Journal({ outlives: true });
    let hasStepped = false;
    try {
      yield* told(this.#parts.name, communicator, 0, () => {
        inOwnScope(() => this.#update(whole.active, whole.bases, jobs, whole, journal));
        hasStepped = true;
        return [];
      });
    } catch (error) {
      if (hasStepped) inOwnScope(() => journal.restore());
      throw error;
    } finally {
      journal.release();
    }
    this.#ended();
  }

  /** The step up to where values are awaited, or all of it. */
  #begin(): void {
    const { states, rest, watch } = this.#parts;
    const active: Active[] = [];
    this.#checkRates();
    for (const state of states) {
      const one = this.#planner.active(state);
      if (one !== null) active.push(one);
    }
    rest.check();
    const { bases, jobs } = watch.time('refresh', () => this.#bases(active));
    if (!isKnown(bases)) {
      for (const { averages } of active) if (averages !== null) [held(averages.A), held(averages.G)];
      this.#open = { active, bases, jobs, gradients: [...this.#parts.paths.keys()].map(heldBy) };
      return;
    }
    this.#finish(active, bases, jobs);
    if (this.#parts.refresher.isReading) this.#open = { active: null };
    else scope(() => this.updater.takeArrivals());
  }

  /** Throws for learning rates by which a device that is read with await would multiply in vain: its host sees no result. */
  #checkRates(): void {
    const { name, states, settings } = this.#parts;
    for (const { block, label, lrRatio } of states) {
      const [{ device }, lr] = [block.parameters[0]!, settings.lr * lrRatio];
      if (lr > LARGEST_LR && readsLater(block.parameters[0]!))
        throw new RangeError(
          `${name}: expected lr ≤ ${LARGEST_LR} for parameters on '${device}', got ${lr} for ${label}; no parameter was changed`,
        );
    }
  }

  /** Waits, and does the rest of the step. */
  async #end(open: Open): Promise<void> {
    const { demand, refresher } = this.#parts;
    demand.isStepOpen = true;
    try {
      if (open.active !== null) await this.#finishLater(open);
      await refresher.reads();
      inOwnScope(() => this.updater.takeArrivals());
    } finally {
      this.#open = null;
      demand.isStepOpen = false;
    }
  }

  async #finishLater({ active, bases, jobs, gradients }: Waiting): Promise<void> {
    try {
      const known = await Promise.all(bases);
      for (const [p, gradient, version] of gradients) {
        const [, now, versionNow] = heldBy(p);
        if (now === gradient && versionNow === version) continue;
        const { name, paths } = this.#parts;
        throw new Error(
          `${name}: gradients changed while a step was waiting: await step() before; no parameter was changed. The first of ` +
            `them is that of '${paths.get(p)}'`,
        );
      }
      inOwnScope(() => {
        // Another read may have been told of a check that failed: then nothing is written after this one.
        const again = active.map(one => this.#planner.again(one));
        this.#parts.rest.check();
        this.#finish(again, known, jobs);
      });
    } finally {
      // What became a running average is kept.
      for (const { averages } of active)
        if (averages !== null) for (const x of [averages.A, averages.G]) x.storage.release();
    }
  }

  /** The bases of the step, and decompositions that begin with it. */
  #bases(active: readonly Active[]): Pick<Waiting, 'bases' | 'jobs'> {
    const { refresher } = this.#parts;
    const factors = active.map(({ state, averages }) => ({
      layer: state,
      A: averages?.A ?? state.A!,
      G: averages?.G ?? state.G!,
    }));
    const jobs = new Array<RefreshJob | null>(active.length).fill(null);
    const bases = new Array<Kfe | Promise<Kfe>>(active.length);
    const due: number[] = [];
    for (const [i, { layer, A, G }] of factors.entries()) {
      const kept = refresher.stays(layer, A, G);
      if (kept === null) jobs[i] = refresher.begin(layer, A, G);
      const known = kept ?? refresher.basisAhead(layer);
      if (known === null) due.push(i);
      else bases[i] = known;
    }
    // Small ones first: they tell how long large ones will take.
    due.sort((i, j) => active[i]!.state.decompositionCost - active[j]!.state.decompositionCost);
    const found = refresher.decomposeAll(due.map(i => factors[i]!));
    for (const [k, i] of due.entries()) bases[i] = found[k]!;
    return { bases, jobs };
  }

  /** The step from where its bases are known. `whole` as in `#update`. */
  #finish(
    active: readonly Active[],
    bases: readonly Kfe[],
    jobs: readonly (RefreshJob | null)[],
    whole: WholeBatch | null = null,
  ): void {
    this.#update(active, bases, jobs, whole, null);
    this.#ended();
  }

  /**
   * Changes blocks and parameters. What throws leaves them as they were.
   *
   * @param whole what several processes have together, in the place of this one's second moments and gradients of the rest
   * @param kept gets what takes everything back, where somebody else may want that afterwards
   */
  #update(
    active: readonly Active[],
    bases: readonly Kfe[],
    jobs: readonly (RefreshJob | null)[],
    whole: WholeBatch | null,
    kept: Journal | null,
  ): void {
    const { watch, isOurs } = this.#parts;
    const squares = (one: Active, basis: Kfe, i: number) =>
      whole === null ? this.#planner.squares(one.state, basis) : whole.squares[i]!;
    const plans = watch.time('precondition', () =>
      active.map((one, i) => this.#planner.plan(one, bases[i]!, jobs[i]!, squares(one, bases[i]!, i))),
    );
    const journal = watch.time('rest', () => this.#journal(plans, kept));
    const stepRest = () => watch.time('rest', () => this.#stepRest(journal, whole));
    try {
      // What may fail comes first, as a rest or a rule of the program may. Before the latter there is a journal.
      if (isOurs) stepRest();
      const proposals = watch.time('precondition', () => this.updater.proposals(plans));
      if (!isOurs) stepRest();
      watch.time('precondition', () => this.updater.apply(plans, proposals, journal));
    } catch (error) {
      journal?.restore();
      throw error;
    } finally {
      for (const { state } of plans) {
        state.squares = null;
        // Whatever happened: what a block holds outlives the scope of the step.
        state.keep();
      }
    }
  }

  /** After a step that was made. */
  #ended(): void {
    const { states, demand, refresher } = this.#parts;
    for (const state of states) state.dropStatistics();
    demand.reset();
    const { steps } = refresher;
    refresher.steps++;
    const [first] = this.#parts.paths.keys();
    this.updater.onFailure(first!, () => {
      refresher.steps = steps;
    });
  }

  /** What takes everything back, if the blocks may still fail, or somebody wants it. */
  #journal(plans: readonly Plan[], kept: Journal | null): Journal | null {
    const { refresher } = this.#parts;
    const journal = kept ?? (plans.every(plan => plan.isOrdinary) ? null : new Journal());
    if (journal !== null) {
      for (const { state } of plans) state.saveTo(journal);
      const { done, skipped } = refresher;
      journal.after(() => Object.assign(refresher, { done, skipped }));
    }
    return journal;
  }

  /** The step of what no block has. */
  #stepRest(journal: Journal | null, whole: WholeBatch | null): void {
    const { states, rest, rule, settings } = this.#parts;
    const { lossReduction } = settings;
    const batch = whole?.batch ?? states.find(({ statistics }) => statistics !== null)?.statistics?.batch ?? 1;
    const own = whole === null && lossReduction === 'mean';
    const seen = (p: Parameter) => {
      const g = whole === null ? borrowGrad(p) : (whole.gradients.get(p) ?? null);
      return g && meanGradient(g, batch, lossReduction);
    };
    rest.step(rule.gain, journal, own ? null : seen);
  }
}

function heldBy(p: Parameter): Held {
  const gradient = borrowGrad(p);
  return [p, gradient, gradient === null ? 0 : versionOf(gradient)];
}

const isKnown = (bases: readonly (Kfe | Promise<Kfe>)[]): bases is readonly Kfe[] =>
  !bases.some(basis => basis instanceof Promise);
