/**
 * What a step of each finalist costs: all in one process, in turn, so that disturbances hit all alike. Nothing is counted before the
 * steps are warm, since an engine that has not compiled them yet takes several times as long for small ones.
 */

import { setImmediate } from 'node:timers/promises';
import type { Contender, Experiment, OpenTask, Setting } from '../experiment.ts';
import { ascending, quantile } from '../quantile.ts';
import type { TimingRecord } from '../record.ts';
import type { Finalist } from '../search/settings.ts';
import { cpuSeconds } from './clock.ts';
import { Diverged, Training } from './training.ts';

/** Seconds are of the clock that is counted. */
export type TimingLimits = {
  /** A contender is warm after so many steps that took so many seconds together; default 300 and 1. */
  readonly warmSteps?: number;
  readonly warmSeconds?: number;
  /** Or after so many seconds, as where steps are long and so within kernels; default 5. */
  readonly warmSecondsAtMost?: number;
  /** A round has as many periods as the quickest contender needs for so many seconds; default .02. */
  readonly roundSeconds?: number;
  /** Rounds at most; no more begin after `seconds` in all, but three are made. Default 25. */
  readonly rounds?: number;
  /** Default 120. */
  readonly seconds?: number;
};

const DEFAULTS: Required<TimingLimits> = {
  warmSteps: 300,
  warmSeconds: 1,
  warmSecondsAtMost: 5,
  roundSeconds: 0.02,
  rounds: 25,
  seconds: 120,
};

/** About how many seconds the timing of so many finalists takes at most: warming up, and the rounds. */
export function longestTiming(finalists: number, limits: TimingLimits = {}): number {
  const { warmSecondsAtMost, seconds } = { ...DEFAULTS, ...limits };
  return finalists * warmSecondsAtMost + seconds;
}

export type TimingOptions = {
  readonly experiment: Experiment;
  readonly task: OpenTask;
  readonly finalists: readonly Finalist[];
  readonly contenderOf: (name: string) => Contender;
  /** Steps of a refresh period of the Kronecker optimizers, so that each round has as many refreshes. */
  readonly period: number;
  /** Of which the seconds are counted: CPU seconds for 'cpu', seconds by the clock for what computes elsewhere. */
  readonly device: string;
  readonly limits?: TimingLimits;
  /** Seconds so far on that clock; for tests. */
  readonly now?: () => number;
};

const LEAST_ROUNDS = 3;
/** Of the newest period in the mean that says how long one takes: the first ones, before they are warm, fade from it. */
const NEWEST = 0.3;

/** Trains as a run does. One that diverges, or has used its budget, begins anew, as its steps cost the same. */
class Row {
  readonly perStep: number[] = [];
  readonly #make: () => Training;
  readonly #now: () => number;
  #training: Training;
  /** Steps and seconds until it was warm. */
  readonly warm = { steps: 0, seconds: 0 };
  /** Seconds of a period, lately. */
  lately = 0;

  constructor(make: () => Training, now: () => number) {
    this.#make = make;
    this.#now = now;
    this.#training = make();
  }

  /** Seconds of so many steps, without those of beginning anew. */
  async steps(count: number): Promise<number> {
    let spent = 0;
    let since = this.#now();
    const anew = async () => {
      spent += this.#now() - since;
      await this.close();
      this.#training = this.#make();
      since = this.#now();
    };
    for (let i = 0; i < count; i++) {
      if (this.#training.steps >= this.#training.totalSteps) await anew();
      try {
        const { loss } = await this.#training.step();
        if (this.#training.steps % this.#training.stepsPerEpoch === 0) await this.#training.endEpoch();
        // Of a device that is read with await the last one waits for all of them.
        if (i === count - 1) await loss;
      } catch (error) {
        if (!(error instanceof Diverged)) throw error;
        await anew();
      }
    }
    return spent + this.#now() - since;
  }

  async warmUp(period: number): Promise<void> {
    const seconds = await this.steps(period);
    this.lately = this.warm.steps === 0 ? seconds : (1 - NEWEST) * this.lately + NEWEST * seconds;
    this.warm.steps += period;
    this.warm.seconds += seconds;
  }

  close(): Promise<void> {
    return this.#training.close();
  }
}

/** What a step costs does not depend on its schedule, nor on its rate, unless it searches along a line. */
function costKey({ contender, setting }: Finalist, { family }: Contender): string {
  const { lr, ...rest }: Setting = setting;
  const sorted = Object.entries(family === 'quasi-newton' ? setting : rest).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([contender, sorted]);
}

/** Periods of each in turn until all are warm, then rounds that count, in turn as well and every other time the other way round. */
export async function stepTimes(o: TimingOptions): Promise<TimingRecord> {
  const { experiment, task, finalists, contenderOf, period, device } = o;
  const { warmSteps, warmSeconds, warmSecondsAtMost, roundSeconds, rounds, seconds } = { ...DEFAULTS, ...o.limits };
  const clock = device === 'cpu' ? 'cpu' : 'wall';
  const now = o.now ?? (clock === 'cpu' ? cpuSeconds : () => performance.now() / 1000);
  const keys = finalists.map(finalist => costKey(finalist, contenderOf(finalist.contender)));
  const byKey = new Map<string, Row>();
  for (const [i, { contender, setting, schedule }] of finalists.entries()) {
    if (byKey.has(keys[i]!)) continue;
    const trial = { setting, schedule, seed: 0 };
    const make = () => new Training({ experiment, task, contender: contenderOf(contender), trial });
    byKey.set(keys[i]!, new Row(make, now));
  }
  const rows = [...byKey.values()];
  const isCold = ({ warm }: Row) =>
    warm.steps === 0 || (warm.seconds < warmSecondsAtMost && (warm.steps < warmSteps || warm.seconds < warmSeconds));
  // Between two turns the process hears whether its parent is gone.
  // In turn from the start: what one contender does to code that they share, the others meet before they are measured.
  for (let cold = rows; cold.length > 0; cold = cold.filter(isCold))
    for (const row of cold) {
      await row.warmUp(period);
      await setImmediate();
    }
  const quickest = Math.min(...rows.map(({ lately }) => lately));
  const stepsPerRound = period * (quickest > 0 ? Math.max(1, Math.ceil(roundSeconds / quickest)) : 1);
  let [spent, done] = [0, 0];
  while (done < rounds && (done < LEAST_ROUNDS || spent < seconds)) {
    for (const row of done % 2 === 0 ? rows : rows.toReversed()) {
      const round = await row.steps(stepsPerRound);
      row.perStep.push(round / stepsPerRound);
      await setImmediate();
      spent += round;
    }
    done++;
  }
  for (const row of rows) await row.close();
  const short = (x: number) => Number(x.toPrecision(6));
  return {
    ...{ format: 1, rounds: done, stepsPerRound, clock },
    warmSteps: Math.min(...rows.map(({ warm }) => warm.steps)),
    contenders: finalists.map(({ contender, schedule }, i) => {
      const { perStep } = byKey.get(keys[i]!)!;
      const sorted = ascending(perStep);
      const at = (share: number) => short(quantile(sorted, share));
      const quartiles = [at(0.25), at(0.75)] as const;
      return { contender, schedule, median: at(0.5), quartiles, perRound: perStep.map(short) };
    }),
  };
}
