/** What a step does to the blocks: bases and averages take over, the rule says how to go on, and the parameters change. */

import { scope, type Tensor, withSecondThread } from '@otimes/core';
import { onFailure, readsLater } from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import { type Kfe, type Rotation, rotate } from '../curvature/basis.ts';
import { meanGradient } from '../curvature/factors.ts';
import { replaced, type Scalar } from '../curvature/scalar.ts';
import type { Journal } from '../journal.ts';
import { isOrdinary, largest, notFinite } from './finite.ts';
import type { Plan } from './plan.ts';
import type { Proposal } from './rule.ts';
import { checkBlockSlots, checkedStepped, checkedUpdate, checkNothing, checkProposals } from './rule-check.ts';
import type { BlockState } from './state.ts';
import type { Parts } from './step.ts';

export class Updater {
  /** Whether steps record the angle between gradient and update. */
  observes = false;
  readonly #parts: Parts;
  /** How often a state was loaded. */
  #loads = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** After a state was loaded: what earlier steps have counted is gone. */
  loaded(): void {
    this.#loads++;
  }

  /** Undoes what was counted of work that a device refuses, when it tells so. */
  onFailure(x: Tensor, undo: () => void): void {
    const loads = this.#loads;
    onFailure(x, () => {
      if (this.#loads === loads) undo();
    });
  }

  /** The updates of all blocks that have not stepped at once. All that the rule says is checked. */
  proposals(plans: readonly Plan[]): readonly Proposal[] {
    const { name, isOurs, rule, settings } = this.#parts;
    for (const { state, squares } of plans) state.squares = squares;
    if (isOurs && rule.together === undefined) {
      this.#oneByOne(plans);
      return [];
    }
    const proposals: Proposal[] = [];
    for (const plan of plans) {
      const proposal = isOurs ? scope(() => this.#proposeAlone(plan)) : this.#propose(plan);
      if (proposal !== null) proposals.push({ state: plan.state, ...proposal });
    }
    checkNothing(name, 'together()', rule.together?.(proposals, settings));
    if (isOurs) return proposals;
    checkProposals(name, proposals);
    for (const { state } of plans) checkBlockSlots(name, rule, state);
    return proposals;
  }

  /**
   * The steps of blocks by a rule of the library that has no word on all of them together: what one leaves, its update too, is given
   * back before the next, so that a step needs the memory of its largest block.
   */
  #oneByOne(plans: readonly Plan[]): void {
    const decayed = new Set<Parameter>();
    for (const plan of plans)
      scope(() => {
        const proposal = this.#proposeAlone(plan);
        if (proposal !== null) this.#apply({ state: plan.state, ...proposal }, decayed);
      });
  }

  /** Changes the parameters. What follows from numbers that are not finite throws, if there is a journal to take it back. */
  apply(plans: readonly Plan[], proposals: readonly Proposal[], journal: Journal | null): void {
    const decayed = new Set<Parameter>();
    for (const proposal of proposals) this.#apply(proposal, decayed);
    if (journal !== null) for (const { state, raw } of plans) if (!readsLater(raw)) this.#checkStepped(state);
    for (const { state, job } of plans) if (job !== null) state.job = job;
  }

  /** In a scope of its own: what a block needs on the way does not wait for the others. A rule of the program's may keep what it saw. */
  #proposeAlone(plan: Plan): Omit<Proposal, 'state'> | null {
    try {
      return this.#propose(plan);
    } finally {
      plan.state.keep();
    }
  }

  #apply({ state, gradient, update, scale }: Proposal, decayed: Set<Parameter>): void {
    if (this.observes) state.cosine = cosine(gradient, update, state.cosine);
    this.#add(state, update, scale, decayed);
  }

  /** Takes over averages and basis, and computes the update; null where the step was made at once. */
  #propose({ state, inBasis, cameInBasis, raw, averages, basis }: Plan): Omit<Proposal, 'state'> | null {
    const { name, rule, settings, refresher } = this.#parts;
    const before = state.kfe;
    // A basis that is not made of factors takes over before these are known to be sound.
    if (before === null && state.fixedBasis !== undefined) this.#forgets(state, raw);
    state.isFresh = before !== basis;
    if (averages !== null) state.setFactors(averages);
    const { graftedAt } = state;
    let gradient: Tensor;
    if (before === basis || (refresher.threshold > 0 && before?.turnsAs(basis))) {
      // It is the same, maybe with other eigenvalues.
      if (before !== basis) {
        state.kfe = basis;
        refresher.skipped++;
      }
      gradient = inBasis ? raw : basis.project(raw);
      state.reconsiderRoute(cameInBasis);
    } else {
      const rotation = before === null ? null : before.rotationTo(basis);
      this.#takeOver(state, basis, rotation);
      gradient = inBasis ? rotate(raw, rotation!) : basis.project(raw);
    }
    // A new basis stays, whatever a check says, and so do moments that start at zero in it.
    const { count } = state;
    this.onFailure(raw, () => Object.assign(state, { count, graftedAt }));
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
    return { gradient, update, scale: state.graft };
  }

  /** Where a check of its first step fails, a block has nothing: what the step made is not what it wrote in place. */
  #forgets(state: BlockState, raw: Tensor): void {
    const { restore } = state.snapshot();
    this.onFailure(raw, () => {
      restore();
      state.slots.clear();
      this.#parts.refresher.done--;
    });
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
  #add(state: BlockState, update: Tensor, scale: Scalar, decayed: Set<Parameter>): void {
    if (typeof scale !== 'number') {
      this.#add(state, update.mul(scale), 1, decayed);
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
  takeArrivals(): void {
    const { refresher, watch } = this.#parts;
    const arrived = watch.time('refresh', () => refresher.arrived());
    if (arrived.length === 0) return;
    // As where a basis comes within the step.
    watch.time('precondition', () =>
      withSecondThread(() => {
        for (const state of arrived) this.#arrive(state);
      }),
    );
  }

  #arrive(state: BlockState): void {
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

/** In the place of the one before. */
function cosine(x: Tensor, y: Tensor, before: Scalar | null): Scalar {
  const product = x.mul(y).sum();
  if (readsLater(product)) return replaced(before, product.div(x.norm().mul(y.norm())));
  return product.item() / (x.norm().item() * y.norm().item());
}
