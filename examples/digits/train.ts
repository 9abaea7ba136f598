/** The task, the contenders with their settings, and the training loop that is the same for all of them. */

import { Generator, nextTask, noGrad, type Tensor } from '@otimes/core';
import { averagePool2, DataLoader, type Labelled, normalize, TensorDataset } from '@otimes/data';
import { Conv2d, crossEntropy, Flatten, Linear, MaxPool2d, ReLU, Sequential } from '@otimes/nn';
import { Adam, EKFAC, KFAC, type Optimizer, STEVE } from '@otimes/optim';
import type { Status } from '../shared/progress.ts';
import type { Check, Run } from '../shared/run.ts';

export const BATCH = 128;
/** Evenly spread over an epoch, up to rounding; a run is tested before its first step too. */
const TESTS_PER_EPOCH = 8;

/** Of the two convolutions. */
const CHANNELS = [8, 16] as const;
export const NETWORK = `two convolutions of ${CHANNELS.join(' and ')} channels and a linear layer`;

export function network(seed: number): Sequential {
  const rng = new Generator(seed);
  const [first, second] = CHANNELS;
  return new Sequential(
    ...[new Conv2d(1, first, 3, { padding: 1, rng }), new ReLU(), new MaxPool2d(2)],
    ...[new Conv2d(first, second, 3, { padding: 1, rng }), new ReLU(), new MaxPool2d(2)],
    ...[new Flatten(), new Linear(second * 9, 10, { rng })],
  );
}

export type Contender = { name: string; color: string; settings: string; make: (model: Sequential) => Optimizer };

/** Steps between two collections of statistics, and between two refreshes of the bases. */
const EVERY = { factorEvery: 10, refreshEvery: 10 };

export const CHOICE = 'each at its best of one grid of learning rates and dampings';

/**
 * The settings are those of docs/decisions/measurements.md for the same task: for each the best of a grid of learning rates {.001, .003, .01,
 * .03, .1} and, where there is a damping, of that {.001, .003, .01, .03, .1}, by epochs to the target over 5 seeds. So the test
 * set compares optimizers here; it no longer says how well the network would read new digits.
 * The colours suit every kind of colour vision.
 */
export const CONTENDERS: readonly Contender[] = [
  {
    name: 'Adam',
    color: '#6e6e6e',
    settings: 'lr .01',
    make: model => new Adam(model.parameters(), { lr: 0.01 }),
  },
  {
    name: 'KFAC',
    color: '#56b4e9',
    settings: 'lr .003, damping .003',
    make: model => new KFAC(model, { lr: 0.003, damping: 0.003, ...EVERY }),
  },
  {
    name: 'EKFAC',
    color: '#0072b2',
    settings: 'lr .01, damping .01',
    make: model => new EKFAC(model, { lr: 0.01, damping: 0.01, ...EVERY }),
  },
  {
    name: 'STEVE',
    color: '#d55e00',
    settings: 'lr .01',
    make: model => new STEVE(model, { lr: 0.01, ...EVERY }),
  },
];

/** Images [n, 1, 14, 14] and labels [n]. */
export type Task = { train: TensorDataset<[Tensor, Tensor]>; test: { x: Tensor; y: Tensor } };

/** 28×28 images as 14×14 means of 2×2 pixels, with mean 0 and standard deviation 1 over the training set. */
export function prepare(train: Labelled, test: Labelled): Task {
  const pooled = averagePool2(train.images);
  const [mean, std] = [pooled.mean().item(), pooled.var().sqrt().item()];
  const inputs = (images: Tensor) => normalize(averagePool2(images), mean, std).unsqueeze(1).contiguous();
  return {
    train: new TensorDataset(inputs(train.images), train.labels),
    test: { x: inputs(test.images), y: test.labels },
  };
}

export type TrainOptions = {
  epochs: number;
  /** Of the weights and of the batches: contenders with the same seed start alike and see the same. */
  seed: number;
  onStep?: (status: Status) => void;
};

export async function train({ name, color, settings, make }: Contender, task: Task, o: TrainOptions): Promise<Run> {
  const model = network(o.seed);
  const optimizer = make(model);
  const loader = new DataLoader(task.train, {
    batchSize: BATCH,
    shuffle: true,
    dropLast: true,
    rng: new Generator(1000 + o.seed),
  });
  const losses: { epoch: number; loss: number }[] = [];
  const checks: Check[] = [{ epoch: 0, seconds: 0, accuracy: accuracy(model, task) }];
  const last = o.epochs * loader.length;
  const testEvery = Math.max(1, Math.round(loader.length / TESTS_PER_EPOCH));
  let [step, seconds, average] = [0, 0, 0];
  for (const [x, y] of epochsOf(loader, o.epochs)) {
    const start = performance.now();
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x), y);
    const value = loss.item();
    // Diverged (guessing has 2.3): the run ends here, as a miss.
    if (!(value < 1e4)) break;
    loss.backward();
    await optimizer.step();
    seconds += (performance.now() - start) / 1000;

    step++;
    const epoch = step / loader.length;
    losses.push({ epoch, loss: value });
    average = step === 1 ? value : 0.9 * average + 0.1 * value;
    if (step % testEvery === 0 || step === last) checks.push({ epoch, seconds, accuracy: accuracy(model, task) });
    o.onStep?.({ step, loss: average, accuracy: checks.at(-1)!.accuracy, seconds });
    // The loop computes without a pause: here the terminal is drawn, and Ctrl-C is heard.
    await nextTask();
  }
  return { name, color, settings, losses, checks, seconds };
}

function* epochsOf<T>(loader: Iterable<T>, epochs: number): Iterable<T> {
  for (let epoch = 0; epoch < epochs; epoch++) yield* loader;
}

function accuracy(model: Sequential, { test }: Task): number {
  return noGrad(() => model.call(test.x).argmax(1).eq(test.y).astype('float32').mean().item());
}

export function stepsPerEpoch(task: Task): number {
  return Math.floor(task.train.length / BATCH);
}

export function parameterCount(): number {
  return network(0)
    .parameters()
    .reduce((sum, { size }) => sum + size, 0);
}
