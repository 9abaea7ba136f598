/** Training with one setting and one seed, and where it reached a test accuracy. */

import { Generator, noGrad, type Tensor } from '@otimes/core';
import { DataLoader } from '@otimes/data';
import { crossEntropy, type Module } from '@otimes/nn';
import type { Optimizer } from '@otimes/optim';
import type { Task } from './tasks.ts';

const BATCH = 128;
const TESTS_PER_EPOCH = 4;

/** The test accuracy after so many epochs, steps and CPU seconds of training, without the tests. */
export type Check = {
  readonly epoch: number;
  readonly steps: number;
  readonly seconds: number;
  readonly accuracy: number;
};

export type Run = {
  readonly checks: readonly Check[];
  /** A gradient was not finite, and the Kronecker optimizers refused it. */
  readonly diverged: boolean;
};

export type Make = (model: Module) => Optimizer;

export class Training {
  readonly model: Module;
  readonly optimizer: Optimizer;
  readonly #loader: DataLoader<[Tensor, Tensor]>;

  /** The seed decides weights and batches, the same for every optimizer. */
  constructor(task: Task, make: Make, seed: number) {
    this.model = task.model(seed);
    this.optimizer = make(this.model);
    const rng = new Generator(1000 + seed);
    this.#loader = new DataLoader(task.train, { batchSize: BATCH, shuffle: true, dropLast: true, rng });
  }

  get stepsPerEpoch(): number {
    return this.#loader.length;
  }

  /** One step after the other without end: its CPU seconds, or null where it diverged. */
  *steps(): IterableIterator<number | null> {
    while (true)
      for (const [images, labels] of this.#loader) {
        const start = process.cpuUsage();
        const sound = this.#step(images, labels);
        const { user, system } = process.cpuUsage(start);
        yield sound ? (user + system) / 1e6 : null;
      }
  }

  #step(images: Tensor, labels: Tensor): boolean {
    this.optimizer.zeroGrad();
    const loss = crossEntropy(this.model.call(images), labels);
    loss.backward();
    try {
      this.optimizer.step();
      return true;
    } catch (error) {
      if (error instanceof RangeError) return false;
      throw error;
    }
  }
}

/** Trains until the target is reached or the epochs are used up. */
export function run(task: Task, make: Make, o: { seed: number; epochs: number; target: number }): Run {
  const training = new Training(task, make, o.seed);
  const { stepsPerEpoch } = training;
  const quarters = Array.from({ length: TESTS_PER_EPOCH }, (_, i) => ((i + 1) * stepsPerEpoch) / TESTS_PER_EPOCH);
  const testAt = new Set(quarters.map(Math.round));
  const checks: Check[] = [];
  let [steps, seconds] = [0, 0];
  for (const spent of training.steps()) {
    if (spent === null) return { checks, diverged: true };
    seconds += spent;
    steps++;
    if (!testAt.has(((steps - 1) % stepsPerEpoch) + 1)) continue;
    checks.push({ epoch: steps / stepsPerEpoch, steps, seconds, accuracy: accuracy(training.model, task) });
    if (checks.at(-1)!.accuracy >= o.target || steps === o.epochs * stepsPerEpoch) break;
  }
  return { checks, diverged: false };
}

/** The first check at the target, not later than `epochs`. */
export function reached({ checks }: Run, target: number, epochs = Infinity): Check | undefined {
  return checks.find(({ epoch, accuracy }) => accuracy >= target && epoch <= epochs);
}

/** In batches: a whole test set would need much memory between layers. */
function accuracy(model: Module, { test: { images, labels } }: Task): number {
  const n = labels.shape[0]!;
  let right = 0;
  for (let from = 0; from < n; from += 1000) {
    const size = Math.min(1000, n - from);
    right += noGrad(() => {
      const guesses = model.call(images.narrow(0, from, size)).argmax(1);
      return guesses
        .eq(labels.narrow(0, from, size))
        .astype('float32')
        .sum()
        .item();
    });
  }
  return right / n;
}
