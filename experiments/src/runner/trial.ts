/** One trial from its seed to its record. A checkpoint after every epoch lets another process go on to the same bits. */

import { existsSync, rmSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { defaultGenerator, FormatError, nextTask, readStateDict } from '@otimes/core';
import {
  aFunction,
  aNumber,
  aString,
  checkArgument,
  checkOptions,
  type Kind,
  type OptionKinds,
  readsLater,
  received,
} from '@otimes/core/extend';
import { loadCheckpoint, save, saveCheckpoint } from '@otimes/core/node';
import type { Contender, Evaluation, Experiment, Metric, OpenTask, TrainerReport } from '../experiment.ts';
import type { Check, TrialRecord } from '../record.ts';
import type { TrialPlan } from '../search/settings.ts';
import { eachRounded, rounded, type Spent } from './clock.ts';
import { writeJson } from './files.ts';
import { Diverged, Training } from './training.ts';

export type TrialOptions = {
  readonly experiment: Pick<Experiment, 'target' | 'epochs' | 'checksPerEpoch' | 'kronecker'>;
  readonly metric: Metric;
  readonly task: OpenTask;
  readonly contender: Contender;
  readonly trial: TrialPlan;
  /** A tuning trial that is not at the target ends at the first check after so many steps; default Infinity. */
  readonly giveUpAfter?: number;
  /** File of the checkpoint. One that is there is gone on from; it is gone once the trial has ended. Default: none. */
  readonly checkpoint?: string;
  /** File that gets the record at the end. Default: none. */
  readonly record?: string;
  /** File that gets the weights at the end; averaged ones where the trainer evaluates those. Default: none. */
  readonly weights?: string;
  /** Hears of it now and then: after each check, and every tenth of a second or so. */
  readonly onProgress?: (progress: TrialProgress) => void;
  /** Called before files are written; what it throws ends the trial. */
  readonly beforeWrite?: () => void;
};

export type TrialProgress = {
  readonly step: number;
  readonly totalSteps: number;
  /** Of the last check. */
  readonly validation: Evaluation | null;
};

/** What a checkpoint has beside the states. */
type Kept = {
  readonly trial: TrialPlan;
  readonly steps: number;
  readonly checks: readonly Check[];
  readonly spent: Spent;
  readonly inside: Readonly<Record<string, number>> | null;
  readonly resumed: number;
};

/** As many eigenvalues of a side as a record keeps. */
const MOST_EIGENVALUES = 200;
/** Milliseconds between pauses in which messages come and go. */
const PAUSE_EVERY = 100;
/** Losses on a device that is read with await: so many steps may be under way before the oldest is waited for. */
const MOST_AHEAD = 4;

const having = (expected: string, ...names: readonly string[]): Kind => ({
  expected,
  is: v => typeof v === 'object' && v !== null && names.every(name => name in v),
});
const OPTIONS: OptionKinds<TrialOptions> = {
  experiment: having('an experiment', 'target', 'epochs', 'checksPerEpoch', 'kronecker'),
  metric: having('a metric', 'name', 'unit', 'better'),
  task: having('an open task: await task.open(…)', 'model', 'batches', 'loss', 'evaluate'),
  contender: having('a contender', 'name', 'space', 'make'),
  trial: having('a trial, one of tuningPlan or finalPlan', 'id', 'stage', 'setting', 'schedule', 'seed'),
  giveUpAfter: aNumber,
  checkpoint: aString,
  record: aString,
  weights: aString,
  onProgress: aFunction,
  beforeWrite: aFunction,
};

/** Whether a value of the metric is the target or better. */
export const isAtTarget = ({ better }: Pick<Metric, 'better'>, value: number, target: number): boolean =>
  better === 'higher' ? value >= target : value <= target;

/** After which steps of an epoch, 1 … stepsPerEpoch, there is a check: evenly, the last one at its end. */
export function checkSteps(stepsPerEpoch: number, checksPerEpoch: number): ReadonlySet<number> {
  const steps = Array.from({ length: checksPerEpoch }, (_, i) => ((i + 1) * stepsPerEpoch) / checksPerEpoch);
  return new Set(steps.map(step => Math.max(1, Math.round(step))));
}

/**
 * Trains to the end of the trial. A tuning trial ends at the target or where it is given up; a final one uses the whole budget, and is
 * then evaluated on the test split. Divergence is an outcome.
 *
 * @throws what the task or the contender throws, other than a RangeError of the optimizer's step
 */
export async function runTrial(o: TrialOptions): Promise<TrialRecord> {
  checkOptions('runTrial', o, OPTIONS);
  for (const name of ['experiment', 'metric', 'task', 'contender', 'trial'] as const)
    checkArgument('runTrial', name, o?.[name], OPTIONS[name]);
  const run = new Run(o);
  try {
    return await run.toEnd();
  } finally {
    await run.training.close();
  }
}

class Run {
  readonly training: Training;
  readonly #o: TrialOptions;
  readonly #checkAt: ReadonlySet<number>;
  #checks: Check[] = [];
  /** Training losses since the last check. */
  #losses: number[] = [];
  #resumed = 0;
  /** Of the processes before this one. */
  #insideBefore: Readonly<Record<string, number>> | null = null;
  #outcome: TrialRecord['outcome'] | null = null;
  #reason: string | null = null;
  #paused = performance.now();
  /** Losses under way, in order. */
  readonly #ahead: Promise<number>[] = [];

  constructor(o: TrialOptions) {
    this.#o = o;
    this.training = new Training(o);
    this.#checkAt = checkSteps(this.training.stepsPerEpoch, o.experiment.checksPerEpoch);
  }

  async toEnd(): Promise<TrialRecord> {
    const { trial, checkpoint, weights, record: file } = this.#o;
    const { training } = this;
    await this.#resume();
    try {
      if (this.#checks.length === 0) await this.#check();
      training.clock.start();
      while (this.#outcome === null) await this.#step();
    } catch (error) {
      if (!(error instanceof Diverged)) throw error;
      this.#outcome = 'diverged';
      this.#reason = error.message;
    }
    training.clock.stop();
    training.trainer.eval?.();
    const isSound = trial.stage === 'final' && this.#outcome !== 'diverged';
    const test = isSound ? finiteOrNull(await this.#evaluate('test')) : null;
    const record = await this.#record(test);
    await this.#mayWrite();
    if (weights !== undefined) save(weights, await readStateDict(training.model.stateDict()));
    if (file !== undefined) writeJson(file, record);
    // The last, so that at no time there is neither.
    if (checkpoint !== undefined) rmSync(checkpoint, { force: true });
    return record;
  }

  async #step(): Promise<void> {
    const { training } = this;
    const { loss } = await training.step();
    if (typeof loss === 'number') this.#losses.push(loss);
    else {
      this.#ahead.push(loss);
      if (this.#ahead.length > MOST_AHEAD) await this.#takeLoss();
    }
    const inEpoch = ((training.steps - 1) % training.stepsPerEpoch) + 1;
    if (this.#checkAt.has(inEpoch)) await this.#check();
    if (this.#outcome === null && inEpoch === training.stepsPerEpoch) await this.#endEpoch();
    if (performance.now() - this.#paused < PAUSE_EVERY) return;
    this.#tell();
    await nextTask();
    this.#paused = performance.now();
  }

  /** Waits for the oldest loss under way. */
  async #takeLoss(): Promise<void> {
    const loss = await this.#onDevice(() => this.#ahead.shift()!);
    if (!Number.isFinite(loss))
      throw new Diverged(`step ${this.training.steps - this.#ahead.length}: the loss is ${loss}`);
    this.#losses.push(loss);
  }

  /** What failed on a device that is read with await is told by a read, be it the optimizer's. */
  async #onDevice<T>(read: () => T | Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      const [first] = this.training.model.parameters();
      if (error instanceof RangeError && first !== undefined && readsLater(first))
        throw new Diverged(`until step ${this.training.steps}: ${error.message}`, { cause: error });
      throw error;
    }
  }

  async #check(): Promise<void> {
    const { training } = this;
    const { experiment, metric, trial, giveUpAfter = Infinity } = this.#o;
    while (this.#ahead.length > 0) await this.#takeLoss();
    training.clock.stop();
    const { cpuSeconds, seconds } = training.clock.spent;
    training.trainer.eval?.();
    const validation = await this.#evaluate('validation');
    training.trainer.train?.();
    const problem = Object.entries(validation).find(([, value]) => !Number.isFinite(value));
    if (problem !== undefined)
      throw new Diverged(`after step ${training.steps}: the ${problem[0]} on the validation split is ${problem[1]}`);
    const step = training.steps;
    this.#nameFirstLoss();
    this.#checks.push({
      ...{ step, epoch: step / training.stepsPerEpoch },
      ...{ cpuSeconds: rounded(cpuSeconds), seconds: rounded(seconds) },
      trainLoss: step === 0 ? validation.loss : mean(this.#losses),
      validation,
    });
    this.#losses = [];
    this.#tell();
    const isThere = isAtTarget(metric, validation.metric, experiment.target);
    if (trial.stage === 'tuning' && isThere) this.#outcome = 'target';
    else if (step >= training.totalSteps) this.#outcome = 'budget';
    else if (trial.stage === 'tuning' && step >= giveUpAfter) this.#outcome = 'given up';
    training.clock.start();
  }

  /** The training loss at step 0 is that of the first batch, which is known only afterwards. */
  #nameFirstLoss(): void {
    const [start] = this.#checks;
    if (this.#checks.length === 1 && this.#losses.length > 0)
      this.#checks = [{ ...start!, trainLoss: this.#losses[0]! }];
  }

  /** Neither the model nor the default generator knows of it afterwards. */
  async #evaluate(split: 'validation' | 'test'): Promise<Evaluation> {
    const { task } = this.#o;
    const { clock, model } = this.training;
    const rng = defaultGenerator();
    const state = rng.getState();
    const evaluation = await this.#onDevice(() => clock.phase('evaluate', () => task.evaluate(model, split)));
    rng.setState(state);
    if (typeof evaluation?.loss !== 'number' || typeof evaluation.metric !== 'number')
      throw new TypeError(
        `evaluate of the task: expected numbers under loss and metric, got ${received(evaluation && [evaluation.loss, evaluation.metric])}`,
      );
    return { loss: evaluation.loss, metric: evaluation.metric };
  }

  async #endEpoch(): Promise<void> {
    const { training } = this;
    await training.endEpoch();
    const { checkpoint, trial } = this.#o;
    if (checkpoint === undefined) return;
    training.clock.stop();
    const kept: Kept = {
      trial,
      steps: training.steps,
      checks: this.#checks,
      spent: training.clock.spent,
      inside: this.#inside(await training.trainer.report?.()),
      resumed: this.#resumed,
    };
    await this.#mayWrite();
    await saveCheckpoint(checkpoint, { ...this.#states(), kept });
    training.clock.start();
  }

  /** Goes on from the checkpoint, if there is one. */
  async #resume(): Promise<void> {
    const { checkpoint, trial } = this.#o;
    if (checkpoint === undefined || !existsSync(checkpoint)) return;
    const { kept } = (await loadCheckpoint(checkpoint).catch((cause: Error) => {
      if (!(cause instanceof FormatError)) throw cause;
      throw new FormatError(`${cause.message}. Without that file the trial begins anew`, { cause });
    })) as { kept?: Kept };
    if (kept === undefined || !isDeepStrictEqual(kept.trial, JSON.parse(JSON.stringify(trial))))
      throw new Error(
        `${checkpoint}: expected a checkpoint of ${trial.id} as it is planned now, got one of another trial`,
      );
    await loadCheckpoint(checkpoint, this.#states());
    this.training.steps = kept.steps;
    this.training.clock.resume(kept.spent);
    this.#checks = [...kept.checks];
    this.#insideBefore = kept.inside;
    this.#resumed = kept.resumed + 1;
  }

  #states() {
    const { model, trainer, batches } = this.training;
    return { model, trainer, batches };
  }

  /** Lets messages in before files change: that the run was stopped, say. */
  async #mayWrite(): Promise<void> {
    await nextTask();
    this.#o.beforeWrite?.();
  }

  #tell(): void {
    const { steps: step, totalSteps } = this.training;
    this.#o.onProgress?.({ step, totalSteps, validation: this.#checks.at(-1)?.validation ?? null });
  }

  /** Milliseconds by part of a Kronecker optimizer's step, of all processes. */
  #inside(report: TrainerReport | undefined): Readonly<Record<string, number>> | null {
    if (report === undefined) return null;
    const before = this.#insideBefore ?? {};
    return Object.fromEntries(
      Object.entries(report.milliseconds).map(([name, value]) => [name, value + (before[name] ?? 0)]),
    );
  }

  async #record(test: Evaluation | null): Promise<TrialRecord> {
    const { trial, experiment, metric } = this.#o;
    const { training } = this;
    this.#nameFirstLoss();
    const checks = this.#checks;
    const reached = checks.findIndex(({ validation }) => isAtTarget(metric, validation.metric, experiment.target));
    // What a device tells late, of a run that diverged, was told.
    const report = this.#outcome === 'diverged' ? undefined : await training.trainer.report?.();
    const { id, stage, contender, setting, schedule, seed } = trial;
    return {
      format: 1,
      ...{ id, stage, contender, setting, schedule, seed },
      outcome: this.#outcome!,
      reason: this.#reason,
      checks,
      reached: reached < 0 ? null : reached,
      test,
      steps: training.steps,
      phases: eachRounded(training.clock.spent.phases),
      inside: report === undefined ? null : eachRounded(this.#inside(report)!),
      peakMemory: process.resourceUsage().maxRSS * 1024,
      spectra: stage === 'final' && seed === 0 ? spectraOf(report) : null,
      resumed: this.#resumed,
    };
  }
}

function spectraOf(report: TrainerReport | undefined): TrialRecord['spectra'] {
  if (report === undefined) return null;
  return report.blocks.flatMap(({ path, spectrum }) =>
    spectrum === null ? [] : [{ path, A: thinned(spectrum.A), G: thinned(spectrum.G) }],
  );
}

/** At most so many of ascending numbers, evenly by rank, with the first and the last. */
function thinned(values: readonly number[]): number[] {
  if (values.length <= MOST_EIGENVALUES) return [...values];
  const rank = (i: number) => Math.round((i * (values.length - 1)) / (MOST_EIGENVALUES - 1));
  return Array.from({ length: MOST_EIGENVALUES }, (_, i) => values[rank(i)]!);
}

const mean = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0) / values.length;

/** A record has no numbers that are not finite. */
const finiteOrNull = (evaluation: Evaluation): Evaluation | null =>
  Number.isFinite(evaluation.loss) && Number.isFinite(evaluation.metric) ? evaluation : null;
