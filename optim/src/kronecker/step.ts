/**
 * A step of a Kronecker optimizer: checks of statistics and gradients, new bases where it is time, the updates of all blocks, and
 * only then parameters change.
 *
 * Where values are read with await, a step waits for nothing but factors that are to be decomposed. All checks are entered before
 * anything is written; when the factors arrive they have passed, else the promise is rejected and nothing has changed. In other
 * steps a check that fails later lets no kernel write, as for every optimizer (see `Backend.checkFinite`). So what a step there
 * keeps is written in place, or replaced as a whole with the basis.
 */

import { scope, type Tensor, withSecondThread } from '@otimes/core';
import { borrowGrad, held, onFailure, readsLater, versionOf } from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import { type Kfe, type Rotation, rotate } from '../curvature/basis.ts';
import type { Communicator } from '../curvature/communicator.ts';
import { inTurns, type Turns } from '../curvature/exchange.ts';
import { meanGradient } from '../curvature/factors.ts';
import { inOwnScope } from '../curvature/own-scope.ts';
import type { Refresher, RefreshJob } from '../curvature/refresh.ts';
import { replaced, type Scalar } from '../curvature/scalar.ts';
import type { Labels } from '../curvature/sources/labels.ts';
import type { Stopwatch } from '../curvature/stopwatch.ts';
import type { StepDemand } from './demand.ts';
import { JointBatch, type WholeBatch } from './joint.ts';
import { isOrdinary, Journal, largest, notFinite } from './journal.ts';
import { type Active, type Plan, Planner } from './plan.ts';
import type { Phase } from './report.ts';
import type { Rest } from './rest.ts';
import type { Proposal, Rule } from './rule.ts';
import { checkBlockSlots, checkedStepped, checkedUpdate, checkNothing, checkProposals } from './rule-check.ts';
import type { StepSettings } from './settings.ts';
import type { BlockState } from './state.ts';

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

export class Stepper {
  /** Whether steps record the angle between gradient and update. */
  observes = false;
  readonly #parts: Parts;
  readonly #check: () => void;
  readonly #planner: Planner;
  /** Null in a process that trains alone. */
  readonly #joint: JointBatch | null;
  #open: Open | null = null;
  /** How often a state was loaded. */
  #loads = 0;

  /** @param check throws for what makes a step impossible beyond what is found here */
  constructor(parts: Parts, check: () => void) {
    const { name, isOurs, paths, rule, settings, demand } = parts;
    this.#parts = parts;
    this.#check = check;
    this.#planner = new Planner(name, isOurs, paths, rule, settings, demand);
    this.#joint = parts.communicator.size === 1 ? null : new JointBatch(parts, this.#planner);
  }

  /** After a state was loaded: what earlier steps have counted is gone. */
  loaded(): void {
    this.#loads++;
  }

  /** Undoes what was counted of work that a device refuses, when it tells so. */
  #onFailure(x: Tensor, undo: () => void): void {
    const loads = this.#loads;
    onFailure(x, () => {
      if (this.#loads === loads) undo();
    });
  }

  /** One step, as `KroneckerPreconditioner.step`. A promise where it waits for bases, or for other processes. */
  step(): void | Promise<void> {
    if (this.#joint !== null) return inTurns(this.#stepJointly(this.#joint));
    this.#check();
    inOwnScope(() => this.#begin());
    if (this.#open !== null) return this.#end(this.#open);
  }

  /** The step of several processes. */
  *#stepJointly(joint: JointBatch): Turns<void> {
    const { demand, labels } = this.#parts;
    const borrowed: Tensor[] = [];
    demand.isStepOpen = true;
    try {
      const whole = yield* joint.whole(this.#check, borrowed);
      const undo = whole.settle();
      try {
        inOwnScope(() => this.#finish(whole.active, whole.bases, new Array(whole.active.length).fill(null), whole));
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

  /** The step up to where values are awaited, or all of it. */
  #begin(): void {
    const { states, rest, watch } = this.#parts;
    const active: Active[] = [];
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
    else watch.time('refresh', () => scope(() => this.#takeArrivals()));
  }

  /** Waits, and does the rest of the step. */
  async #end(open: Open): Promise<void> {
    const { demand, refresher } = this.#parts;
    demand.isStepOpen = true;
    try {
      if (open.active !== null) await this.#finishLater(open);
      await refresher.reads();
      inOwnScope(() => this.#takeArrivals());
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
    const jobs = active.map(({ state, averages }) =>
      refresher.begin(state, averages?.A ?? state.A!, averages?.G ?? state.G!),
    );
    const bases = new Array<Kfe | Promise<Kfe>>(active.length);
    const due: number[] = [];
    active.forEach(({ state }, i) => {
      const known = refresher.basisAhead(state);
      if (known === null) due.push(i);
      else bases[i] = known;
    });
    // Small ones first: they tell how long large ones will take.
    due.sort((i, j) => active[i]!.state.decompositionCost - active[j]!.state.decompositionCost);
    for (const i of due) {
      const { state, averages } = active[i]!;
      bases[i] = refresher.decompose(state, averages?.A ?? state.A!, averages?.G ?? state.G!);
    }
    return { bases, jobs };
  }

  /**
   * The step from where its bases are known.
   *
   * @param whole what several processes have together, in the place of this one's second moments and gradients of the rest
   */
  #finish(
    active: readonly Active[],
    bases: readonly Kfe[],
    jobs: readonly (RefreshJob | null)[],
    whole: WholeBatch | null = null,
  ): void {
    const { states, watch, demand, refresher, isOurs } = this.#parts;
    const squares = (one: Active, basis: Kfe, i: number) =>
      whole === null ? this.#planner.squares(one.state, basis) : whole.squares[i]!;
    const plans = watch.time('precondition', () =>
      active.map((one, i) => this.#planner.plan(one, bases[i]!, jobs[i]!, squares(one, bases[i]!, i))),
    );
    const journal = watch.time('rest', () => this.#journal(plans));
    const stepRest = () => watch.time('rest', () => this.#stepRest(journal, whole));
    try {
      // What may fail comes first, as a rest or a rule of the program may. Before the latter there is a journal.
      if (isOurs) stepRest();
      const proposals = watch.time('precondition', () => this.#proposals(plans));
      if (!isOurs) stepRest();
      watch.time('precondition', () => this.#applyAll(plans, proposals, journal));
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
    for (const state of states) state.dropStatistics();
    demand.reset();
    const { steps } = refresher;
    refresher.steps++;
    const [first] = this.#parts.paths.keys();
    this.#onFailure(first!, () => {
      refresher.steps = steps;
    });
  }

  /** What takes everything back, if the blocks may still fail. */
  #journal(plans: readonly Plan[]): Journal | null {
    const { refresher } = this.#parts;
    const journal = plans.every(plan => plan.isOrdinary) ? null : new Journal();
    if (journal !== null) {
      for (const { state } of plans) state.saveTo(journal);
      const { done } = refresher;
      journal.after(() => {
        refresher.done = done;
      });
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

  /** The updates of all blocks that have not stepped at once. All that the rule says is checked. */
  #proposals(plans: readonly Plan[]): readonly Proposal[] {
    const { name, isOurs, rule, settings } = this.#parts;
    for (const { state, squares } of plans) state.squares = squares;
    const proposals: Proposal[] = [];
    for (const plan of plans) {
      const proposal = this.#propose(plan);
      if (proposal !== null) proposals.push(proposal);
    }
    checkNothing(name, 'together()', rule.together?.(proposals, settings));
    if (isOurs) return proposals;
    checkProposals(name, proposals);
    for (const { state } of plans) checkBlockSlots(name, rule, state);
    return proposals;
  }

  #applyAll(plans: readonly Plan[], proposals: readonly Proposal[], journal: Journal | null): void {
    const decayed = new Set<Parameter>();
    for (const { state, gradient, update, scale } of proposals) {
      if (this.observes) state.cosine = cosine(gradient, update, state.cosine);
      this.#apply(state, update, scale, decayed);
    }
    if (journal !== null) for (const { state, raw } of plans) if (!readsLater(raw)) this.#checkStepped(state);
    for (const { state, job } of plans) if (job !== null) state.job = job;
  }

  /** Takes over averages and basis, and computes the update; null where the step was made at once. */
  #propose({ state, inBasis, cameInBasis, raw, averages, basis }: Plan): Proposal | null {
    const { name, rule, settings } = this.#parts;
    const before = state.kfe;
    state.isFresh = before !== basis;
    if (averages !== null) state.setFactors(averages);
    const { graftedAt } = state;
    let gradient: Tensor;
    if (before === basis) {
      gradient = inBasis ? raw : basis.project(raw);
      state.reconsiderRoute(cameInBasis);
    } else {
      const rotation = before === null ? null : before.rotationTo(basis);
      this.#takeOver(state, basis, rotation);
      gradient = inBasis ? rotate(raw, rotation!) : basis.project(raw);
    }
    // A new basis stays, whatever a check says, and so do moments that start at zero in it.
    const { count } = state;
    this.#onFailure(raw, () => Object.assign(state, { count, graftedAt }));
    if (settings.lossReduction === 'sum') gradient = meanGradient(gradient, state.statistics!.batch, 'sum');
    const weight = rule.stepInBasis === undefined || this.observes ? null : state.residentWeight();
    if (weight !== null) {
      const lr = settings.lr * state.lrRatio;
      const keep = 1 - lr * settings.weightDecay;
      if (checkedStepped(name, state, rule.stepInBasis!(state, gradient, weight, lr, keep, settings))) {
        // With a learning rate of 0 the parameters are what they were, to the last bit.
        if (lr !== 0) state.deferParameters();
        return null;
      }
    }
    const update = checkedUpdate(name, 'direction', state, gradient, rule.direction(state, gradient, settings));
    return { state, gradient, update, scale: state.graft };
  }

  /** Puts a basis in the place of a block's old one, from which `rotation` leads there; null at the first time. */
  #takeOver(state: BlockState, basis: Kfe, rotation: Rotation | null): void {
    const { name, rule, settings, refresher } = this.#parts;
    // With a learning rate of 0 the parameters are what they were, to the last bit.
    state.turn(basis, settings.lr * state.lrRatio === 0 ? null : rotation);
    refresher.done++;
    checkNothing(name, 'refreshed()', rule.refreshed(state, rotation));
    state.chooseRoute(settings.route);
  }

  /** Parameters ← (1 − lr · weightDecay) parameters − lr · scale · update, in whichever coordinates they are kept. */
  #apply(state: BlockState, update: Tensor, scale: Scalar, decayed: Set<Parameter>): void {
    if (typeof scale !== 'number') {
      this.#apply(state, update.mul(scale), 1, decayed);
      return;
    }
    const { settings } = this.#parts;
    const lr = settings.lr * state.lrRatio;
    const keep = 1 - lr * settings.weightDecay;
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

  /** Throws if a step has left something in a block that is not finite. */
  #checkStepped(state: BlockState): void {
    const { name } = this.#parts;
    let size = 0;
    for (const [slot, value] of state.slots) {
      const most = largest(value);
      if (!Number.isFinite(most)) throw notFinite(name, `new ${slot}`, state.label);
      size = Math.max(size, most);
    }
    state.isOrdinary = isOrdinary(size, 2);
    let most = Math.max(...state.weights.map(largest));
    // Parameters that come from a weight in the basis need a look of their own only near the end of the range.
    if (most > 1e30) most = Math.max(...state.block.parameters.map(largest));
    if (!Number.isFinite(most)) throw notFinite(name, 'update of the weights', state.label);
  }

  /**
   * Lets bases take over that came in from the background: between two steps, so that no gradient has to turn. So no
   * decomposition competes for a core with the second thread here.
   */
  #takeArrivals(): void {
    const arrived = this.#parts.refresher.arrived();
    if (arrived.length === 0) return;
    withSecondThread(() => {
      for (const state of arrived) this.#takeArrival(state);
    });
  }

  #takeArrival(state: BlockState): void {
    const arrival = this.#parts.refresher.arrival(state);
    state.isFresh = false;
    if (arrival === null) return;
    try {
      this.#takeOver(state, arrival.kfe, arrival.rotation);
    } finally {
      state.keep();
    }
  }
}

function heldBy(p: Parameter): Held {
  const gradient = borrowGrad(p);
  return [p, gradient, gradient === null ? 0 : versionOf(gradient)];
}

const isKnown = (bases: readonly (Kfe | Promise<Kfe>)[]): bases is readonly Kfe[] =>
  !bases.some(basis => basis instanceof Promise);

/** In the place of the one before. */
function cosine(x: Tensor, y: Tensor, before: Scalar | null): Scalar {
  const product = x.mul(y).sum();
  if (readsLater(product)) return replaced(before, product.div(x.norm().mul(y.norm())));
  return product.item() / (x.norm().item() * y.norm().item());
}
