/** What a Kronecker optimizer's next step wants of the statistics that backward passes bring. */

import type { Kfe } from '../curvature/basis.ts';
import type { Communicator } from '../curvature/communicator.ts';
import type { Refresher } from '../curvature/refresh.ts';
import type { Demand } from '../curvature/sources/recorder.ts';
import type { Rule } from './rule.ts';
import { checkedNeeds } from './rule-check.ts';
import type { StepSettings } from './settings.ts';
import type { BlockState } from './state.ts';
import { Unstepped } from './unstepped.ts';

export class StepDemand implements Demand<BlockState> {
  /** Whether a step has begun and waits for values. */
  isStepOpen = false;
  readonly #name: string;
  readonly #states: readonly BlockState[];
  readonly #rule: Rule;
  readonly #settings: StepSettings;
  readonly #refresher: Refresher<BlockState>;
  readonly #unstepped: Unstepped;
  /** Whether several processes have to know how many examples each has. */
  readonly #isShared: boolean;

  /** @param name the optimizer's, for messages */
  constructor(
    name: string,
    states: readonly BlockState[],
    rule: Rule,
    settings: StepSettings,
    refresher: Refresher<BlockState>,
    { size }: Communicator,
  ) {
    this.#name = name;
    this.#states = states;
    this.#rule = rule;
    this.#settings = settings;
    this.#refresher = refresher;
    this.#unstepped = new Unstepped(name);
    this.#isShared = size > 1;
  }

  /** Every so many steps, when a refresh needs them, and for a block that backward reaches for the first time. */
  factors(state: BlockState): boolean {
    const { factorDecay, isStatisticsStep } = this.#settings;
    return (factorDecay > 0 && isStatisticsStep) || this.#refresher.isDue(state) || state.A === null;
  }

  squares(state: BlockState): boolean {
    return this.#needs(state) === 'squares';
  }

  #needs(state: BlockState): 'squares' | 'batch' | 'nothing' {
    return checkedNeeds(this.#name, state, this.#rule.needs(state, this.#settings));
  }

  turnedSquares(state: BlockState): boolean {
    return this.#settings.fisherIsLoss && this.squares(state) && !this.#refresher.isDue(state);
  }

  basisAhead(state: BlockState): Kfe | null {
    return this.#refresher.basisAhead(state);
  }

  /** While a step is open too: then a backward pass is to be seen, and refused. */
  batch(state: BlockState): boolean {
    const isNeeded = this.#settings.lossReduction === 'sum' || this.#needs(state) === 'batch';
    return isNeeded || this.isStepOpen || this.#isShared;
  }

  /** Whether the step needs any statistics of a block. */
  isAny(state: BlockState): boolean {
    return this.factors(state) || this.squares(state) || this.batch(state);
  }

  begins(pass: number): void {
    this.checkNoStepOpen('backward()');
    this.#unstepped.begins(pass, this.#states);
  }

  /** After a step, and when all statistics were dropped. */
  reset(): void {
    this.#unstepped.reset();
  }

  /** Throws if `what` comes before the promise of a step was settled. */
  checkNoStepOpen(what: string): void {
    if (this.isStepOpen)
      throw new Error(
        `${this.#name}: ${what} while a step waits for values, from the device or from other processes: await step() before it`,
      );
  }
}
