/** What a Kronecker optimizer's next step wants of the statistics that backward passes bring. */

import type { Kfe } from '../curvature/basis.ts';
import type { LossReduction } from '../curvature/factors.ts';
import type { Refresher } from '../curvature/refresh.ts';
import type { Demand } from '../curvature/sources/recorder.ts';
import type { BlockState } from './state.ts';
import { Unstepped } from './unstepped.ts';

export type DemandOptions = {
  readonly factorDecay: number;
  readonly factorEvery: number;
  readonly lossReduction: LossReduction;
  /** Whether the gradients of the loss itself are those that make the factors. */
  readonly fisherIsLoss: boolean;
};

export class StepDemand implements Demand<BlockState> {
  /** α of the running averages of the factors. */
  factorDecay: number;
  /** The factors are updated every so many steps. */
  factorEvery: number;
  readonly #lossReduction: LossReduction;
  readonly #fisherIsLoss: boolean;
  readonly #states: readonly BlockState[];
  readonly #refresher: Refresher<BlockState>;
  readonly #unstepped: Unstepped;
  readonly #rule: { needsExampleSquares(state: BlockState): boolean; usesBatch(): boolean };

  constructor(
    name: string,
    states: readonly BlockState[],
    refresher: Refresher<BlockState>,
    rule: { needsExampleSquares(state: BlockState): boolean; usesBatch(): boolean },
    o: DemandOptions,
  ) {
    this.#states = states;
    this.#refresher = refresher;
    this.#rule = rule;
    this.#unstepped = new Unstepped(name);
    this.factorDecay = o.factorDecay;
    this.factorEvery = o.factorEvery;
    this.#lossReduction = o.lossReduction;
    this.#fisherIsLoss = o.fisherIsLoss;
  }

  /** Whether this step updates what comes from statistics. */
  get isStatisticsStep(): boolean {
    return this.#refresher.steps % this.factorEvery === 0;
  }

  /** Every so many steps, when a refresh needs them, and for a block that backward reaches for the first time. */
  factors(state: BlockState): boolean {
    const due = this.factorDecay > 0 && this.isStatisticsStep;
    return due || this.#refresher.isDue(state) || state.A === null;
  }

  squares(state: BlockState): boolean {
    return this.#rule.needsExampleSquares(state);
  }

  turnedSquares(state: BlockState): boolean {
    return this.#fisherIsLoss && this.squares(state) && !this.#refresher.isDue(state);
  }

  basisAhead(state: BlockState): Kfe | null {
    return this.#refresher.basisAhead(state);
  }

  batch(_state: BlockState): boolean {
    return this.#rule.usesBatch() || this.#lossReduction === 'sum';
  }

  begins(pass: number): void {
    this.#unstepped.begins(pass, this.#states);
  }

  /** Whether a step wants anything. */
  isAny(state: BlockState): boolean {
    return this.factors(state) || this.squares(state) || this.batch(state);
  }

  /** After a step, and when all statistics were dropped. */
  reset(): void {
    this.#unstepped.reset();
  }
}
