/** What a step of each finalist costs: all in one process, in turn, so that disturbances hit all alike. */

import type { Contender, Experiment, OpenTask } from '../experiment.ts';
import type { TimingRecord } from '../record.ts';
import type { Finalist } from '../search/settings.ts';
import { cpuSeconds } from './clock.ts';
import { Diverged, Training } from './training.ts';

export type TimingOptions = {
  readonly experiment: Experiment;
  readonly task: OpenTask;
  readonly finalists: readonly Finalist[];
  readonly contenderOf: (name: string) => Contender;
  /** A refresh period of the Kronecker optimizers, so that each round has one refresh. */
  readonly stepsPerRound: number;
  /** Of which the seconds are counted: CPU seconds for 'cpu', seconds by the clock for what computes elsewhere. */
  readonly device: string;
  /** Rounds at most; no more begin after `seconds` in all, but three are made. Default 15. */
  readonly rounds?: number;
  /** Default 120. */
  readonly seconds?: number;
};

const LEAST_ROUNDS = 3;

/** The value below which that share of the values lies, linearly between neighbours. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!];
  return low + (high - low) * (at - Math.floor(at));
}

/** A run that diverges begins anew, as its steps cost the same. */
class Row {
  readonly perStep: number[] = [];
  readonly #make: () => Training;
  readonly #now: () => number;
  #training: Training;

  constructor(make: () => Training, now: () => number) {
    this.#make = make;
    this.#now = now;
    this.#training = make();
  }

  /** Seconds of a round, without those of beginning anew. */
  async round(steps: number): Promise<number> {
    const now = this.#now;
    let spent = 0;
    for (let i = 0; i < steps; i++) {
      const before = now();
      try {
        const { loss } = await this.#training.step();
        if (this.#training.steps % this.#training.stepsPerEpoch === 0) await this.#training.endEpoch();
        // Of a device that is read with await the last one waits for all of them.
        if (i === steps - 1) await loss;
        spent += now() - before;
      } catch (error) {
        if (!(error instanceof Diverged)) throw error;
        spent += now() - before;
        await this.close();
        this.#training = this.#make();
      }
    }
    return spent;
  }

  close(): Promise<void> {
    return this.#training.close();
  }
}

/** One round of each to warm up, then rounds that count. */
export async function stepTimes(o: TimingOptions): Promise<TimingRecord> {
  const { experiment, task, finalists, contenderOf, stepsPerRound, device, rounds = 15, seconds = 120 } = o;
  const clock = device === 'cpu' ? 'cpu' : 'wall';
  const now = clock === 'cpu' ? cpuSeconds : () => performance.now() / 1000;
  const rows = finalists.map(({ contender, setting, schedule }) => {
    const trial = { setting, schedule, seed: 0 };
    return new Row(() => new Training({ experiment, task, contender: contenderOf(contender), trial }), now);
  });
  let [spent, done] = [0, 0];
  for (const row of rows) await row.round(stepsPerRound);
  while (done < rounds && (done < LEAST_ROUNDS || spent < seconds)) {
    for (const row of rows) {
      const round = await row.round(stepsPerRound);
      row.perStep.push(round / stepsPerRound);
      spent += round;
    }
    done++;
  }
  for (const row of rows) await row.close();
  return {
    format: 1,
    rounds: done,
    stepsPerRound,
    clock,
    contenders: finalists.map(({ contender, schedule }, i) => {
      const at = (share: number) => Number(quantile(rows[i]!.perStep, share).toPrecision(6));
      const quartiles = [at(0.25), at(0.75)] as const;
      return { contender, schedule, median: at(0.5), quartiles };
    }),
  };
}
