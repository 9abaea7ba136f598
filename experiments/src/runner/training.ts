/** Training with one contender and one seed, step by step: model, batches, trainer and learning rate. What is measured and kept is not its affair. */

import { manualSeed, type Tensor } from '@otimes/core';
import { aTensor, readsLater, received } from '@otimes/core/extend';
import type { Module } from '@otimes/nn';
import { constantLr, cosineLr, type LrRule, polynomialLr } from '@otimes/optim';
import type { Batches, Contender, Experiment, OpenTask, ScheduleName, Trainer } from '../experiment.ts';
import type { TrialPlan } from '../search/settings.ts';
import { Clock, cpuSeconds } from './clock.ts';

/** A training run that cannot go on: loss, gradient or weights are not finite, or the optimizer refuses them. */
export class Diverged extends Error {
  override name = 'Diverged';
}

export type TrainingOptions = {
  readonly experiment: Pick<Experiment, 'epochs' | 'kronecker'>;
  readonly task: OpenTask;
  readonly contender: Contender;
  readonly trial: Pick<TrialPlan, 'setting' | 'schedule' | 'seed'>;
};

/** Over `steps` steps, at t = 0, 1, …; the last step still has a rate above 0. */
const RULES: Readonly<Record<ScheduleName, (steps: number) => LrRule>> = {
  constant: () => constantLr(),
  cosine: tMax => cosineLr({ tMax }),
  linear: steps => polynomialLr({ steps }),
};

export class Training {
  readonly model: Module;
  readonly trainer: Trainer;
  // biome-ignore lint/suspicious/noExplicitAny: what a batch is, only the task knows
  readonly batches: Batches<any>;
  readonly clock = new Clock();
  readonly stepsPerEpoch: number;
  /** Of the whole budget. */
  readonly totalSteps: number;
  /** Steps that are done. */
  steps = 0;
  readonly #task: OpenTask;
  readonly #parameters: readonly Tensor[];
  readonly #rule: LrRule;
  readonly #base: number;
  #epoch: AsyncIterator<unknown> | null = null;

  /** The seed decides weights, batches and all that draws from the default generator, as dropout does. */
  constructor({ experiment, task, contender, trial }: TrainingOptions) {
    manualSeed(trial.seed);
    this.#task = task;
    this.model = task.model(trial.seed).train();
    this.#parameters = [...this.model.parameters()];
    this.batches = task.batches(trial.seed);
    this.stepsPerEpoch = this.batches.stepsPerEpoch;
    if (!Number.isInteger(this.stepsPerEpoch) || this.stepsPerEpoch < 1)
      throw new RangeError(
        `training: expected stepsPerEpoch of the batches to be 1 or more, got ${this.stepsPerEpoch}`,
      );
    this.totalSteps = experiment.epochs * this.stepsPerEpoch;
    const { seed } = trial;
    const { stepsPerEpoch } = this;
    this.trainer = contender.make(this.model, trial.setting, { seed, stepsPerEpoch, kronecker: experiment.kronecker });
    if (typeof this.trainer?.step !== 'function')
      throw new TypeError(
        `contender '${contender.name}': expected make() to return a trainer, got ${received(this.trainer)}`,
      );
    this.#rule = RULES[trial.schedule](this.totalSteps);
    this.#base = this.trainer.lr;
  }

  /**
   * One step with the next batch.
   *
   * @returns the loss before the step, a promise of it on a device that is read with await
   * @throws Diverged where the loss is not finite, or the optimizer refuses what it gets with a RangeError
   */
  async step(): Promise<{ readonly loss: number | Promise<number> }> {
    const { clock, model, trainer } = this;
    const batch = await clock.phase('data', () => this.#nextBatch());
    trainer.lr = this.#rule(this.steps, this.#base);
    let first: number | Promise<number> | undefined;
    let inClosure = 0;
    let failed: unknown;
    const closure = (): Tensor => {
      const start = cpuSeconds();
      try {
        for (const p of this.#parameters) p.grad = null;
        const loss = this.#task.loss(model, batch);
        if (!aTensor.is(loss)) throw new TypeError(`loss of the task: expected a tensor, got ${received(loss)}`);
        if (first === undefined) first = this.#lossOf(loss);
        const middle = cpuSeconds();
        clock.add('forward', middle - start);
        loss.backward();
        clock.add('backward', cpuSeconds() - middle);
        return loss;
      } catch (error) {
        failed = error;
        throw error;
      } finally {
        inClosure += cpuSeconds() - start;
      }
    };
    const start = cpuSeconds();
    try {
      await trainer.step(closure);
    } catch (error) {
      if (error instanceof RangeError && error !== failed)
        throw new Diverged(`step ${this.steps + 1}: ${error.message}`, { cause: error });
      throw error;
    } finally {
      clock.add('step', cpuSeconds() - start - inClosure);
    }
    if (first === undefined) throw new Error('training: expected step() of the trainer to call its closure');
    this.steps++;
    return { loss: first };
  }

  /** Takes the batches to the end of their epoch; after its last step. */
  async endEpoch(): Promise<void> {
    const { done } = (await this.#epoch?.next()) ?? { done: true };
    this.#epoch = null;
    if (!done) throw new Error(`training: expected an epoch of ${this.stepsPerEpoch} batches, got more`);
  }

  /** Removes hooks, ends worker threads. */
  async close(): Promise<void> {
    await this.#epoch?.return?.();
    this.#epoch = null;
    this.trainer.detach?.();
    await this.batches.close?.();
  }

  #lossOf(loss: Tensor): number | Promise<number> {
    if (readsLater(loss)) {
      const value = loss.number();
      // Whoever waits for it is told; until then a failure ends no process.
      value.catch(() => {});
      return value;
    }
    const value = loss.item();
    if (!Number.isFinite(value)) throw new Diverged(`step ${this.steps + 1}: the loss is ${value}`);
    return value;
  }

  async #nextBatch(): Promise<unknown> {
    this.#epoch ??= this.batches.epoch()[Symbol.asyncIterator]();
    const { done, value } = await this.#epoch.next();
    if (done)
      throw new Error(
        `training: expected an epoch of ${this.stepsPerEpoch} batches, got ${this.steps % this.stepsPerEpoch}`,
      );
    return value;
  }
}
