/** How long a run will take from here. */

import type { Experiment } from '../experiment.ts';
import type { TrialRecord } from '../record.ts';
import type { Lane } from './lane.ts';

/** What is assumed of the budget that a tuning trial uses until one has ended. */
const TUNING_SHARE = 0.7;

type Sum = { seconds: number; steps: number };

/** Seconds a step of each contender by the clock, as trials end. */
export class Estimate {
  readonly #totalSteps: number;
  readonly #byContender = new Map<string, Sum>();
  readonly #all: Sum = { seconds: 0, steps: 0 };
  readonly #tuning = { trials: 0, steps: 0 };

  constructor(experiment: Pick<Experiment, 'epochs'>, stepsPerEpoch: number) {
    this.#totalSteps = experiment.epochs * stepsPerEpoch;
  }

  /** @param seconds by the clock, of all of the trial */
  add({ contender, stage, steps }: Pick<TrialRecord, 'contender' | 'stage' | 'steps'>, seconds: number): void {
    const own = this.#byContender.get(contender) ?? { seconds: 0, steps: 0 };
    this.#byContender.set(contender, own);
    for (const sum of [own, this.#all]) {
      sum.seconds += seconds;
      sum.steps += steps;
    }
    if (stage !== 'tuning') return;
    this.#tuning.trials++;
    this.#tuning.steps += steps;
  }

  /** Seconds until all lanes are through, several trials at a time; null where nothing is known yet. */
  left(lanes: readonly Lane[], jobs: number): number | null {
    if (this.#all.steps === 0) return null;
    const { trials, steps } = this.#tuning;
    const tuningSteps = trials > 0 ? steps / trials : TUNING_SHARE * this.#totalSteps;
    let seconds = 0;
    for (const { contender, left } of lanes) {
      const own = this.#byContender.get(contender.name);
      const known = own !== undefined && own.steps > 0 ? own : this.#all;
      seconds += (known.seconds / known.steps) * (left.tuning * tuningSteps + left.final * this.#totalSteps);
    }
    return seconds / jobs;
  }
}
