/**
 * How many epochs does each optimizer need to reach a test accuracy? The same MLP and batches for all of them, every
 * learning rate of a grid, several seeds; the best learning rate of each optimizer is what counts.
 *
 *   npm run bench bench/epochs.ts -- --task digits --seeds 3
 *   npm run bench bench/epochs.ts -- --task fashion --folder /usr/share/datasets/fashion-mnist
 */

import { parseArgs } from 'node:util';
import { Generator, noGrad, type Tensor } from '@otimes/core';
import { averagePool2, DataLoader, type Labelled, normalize, TensorDataset } from '@otimes/data';
import { fashionMnist } from '@otimes/data/node';
import { type AnyModule, crossEntropy, mlp } from '@otimes/nn';
import { Adam, EKFAC, KFAC, type Optimizer, STEVE } from '@otimes/optim';
import { loadDigits } from '../examples/digits/load.ts';

const { values } = parseArgs({
  options: {
    task: { type: 'string', default: 'digits' },
    folder: { type: 'string', default: '/usr/share/datasets/fashion-mnist' },
    seeds: { type: 'string', default: '3' },
    epochs: { type: 'string', default: '15' },
    target: { type: 'string' },
    optimizers: { type: 'string', default: 'adam,kfac,ekfac,steve' },
    lrs: { type: 'string' },
    refresh: { type: 'string' },
    damping: { type: 'string', default: '0.003,0.01,0.03,0.1' },
  },
});

type Task = { train: Labelled; test: Labelled; target: number; refreshEvery: number };

function loadTask(): Task {
  if (values.task === 'digits') return { ...loadDigits(), target: 0.955, refreshEvery: 10 };
  if (values.task === 'fashion') {
    const train = fashionMnist(values.folder, { split: 'train', limit: 10000 });
    const test = fashionMnist(values.folder, { split: 'test' });
    return { train, test, target: 0.855, refreshEvery: 50 };
  }
  throw new Error(`epochs: expected --task digits or fashion, got '${values.task}'`);
}

const list = (text: string) => text.split(',').map(Number);
const task = loadTask();
const target = values.target === undefined ? task.target : Number(values.target);
const refreshEvery = values.refresh === undefined ? task.refreshEvery : Number(values.refresh);

/** 28×28 images as 196 features with mean 0 and standard deviation 1 over the training set. */
const pooled = averagePool2(task.train.images);
const [mean, std] = [pooled.mean().item(), pooled.var().sqrt().item()];
const features = (images: Tensor) => normalize(averagePool2(images), mean, std).flatten(1);
const train = new TensorDataset(features(task.train.images), task.train.labels);
const testImages = features(task.test.images);

type Setting = { lr: number; damping?: number; make: (model: AnyModule) => Optimizer };

const SETTINGS: Record<string, () => Setting[]> = {
  adam: () =>
    list(values.lrs ?? '0.001,0.003,0.01,0.03').map(lr => ({ lr, make: m => new Adam(m.parameters(), { lr }) })),
  steve: () => list(values.lrs ?? '0.003,0.01,0.03').map(lr => ({ lr, make: m => new STEVE(m, { lr, refreshEvery }) })),
  kfac: () => damped((m, o) => new KFAC(m, o)),
  ekfac: () => damped((m, o) => new EKFAC(m, o)),
};

function damped(
  make: (m: AnyModule, o: { lr: number; damping: number; refreshEvery: number }) => Optimizer,
): Setting[] {
  return list(values.lrs ?? '0.01,0.03,0.1').flatMap(lr =>
    list(values.damping).map(damping => ({ lr, damping, make: m => make(m, { lr, damping, refreshEvery }) })),
  );
}

function accuracy(model: AnyModule): number {
  return noGrad(() => {
    const logits = model.call(testImages) as Tensor;
    return logits.argmax(1).eq(task.test.labels).astype('float32').mean().item();
  });
}

/** Epochs, in quarters, until the test accuracy is reached, and the seconds of training; Infinity if it never is. */
function run({ make }: Setting, seed: number): { epochs: number; seconds: number } {
  const model = mlp([196, 128, 64, 10], { rng: new Generator(seed) });
  const optimizer = make(model);
  const loader = new DataLoader(train, {
    batchSize: 128,
    shuffle: true,
    dropLast: true,
    rng: new Generator(1000 + seed),
  });
  const quarter = Math.ceil(loader.length / 4);
  let seconds = 0;
  for (let epoch = 0; epoch < Number(values.epochs); epoch++) {
    let batch = 0;
    for (const [images, labels] of loader) {
      const start = performance.now();
      optimizer.zeroGrad();
      const loss = crossEntropy(model.call(images!), labels!);
      loss.backward();
      try {
        optimizer.step();
      } catch (error) {
        // The Kronecker optimizers refuse a gradient that is not finite: this setting diverged.
        if (error instanceof RangeError) return { epochs: Infinity, seconds };
        throw error;
      }
      seconds += (performance.now() - start) / 1000;
      batch++;
      const check = batch % quarter === 0 || batch === loader.length;
      if (check && accuracy(model) >= target) return { epochs: epoch + batch / loader.length, seconds };
    }
  }
  return { epochs: Infinity, seconds };
}

const average = (xs: number[]) => xs.reduce((a, b) => a + b, 0) / xs.length;
console.log(
  `${values.task}: epochs to a test accuracy of ${target}, refresh every ${refreshEvery} steps, ${values.seeds} seeds`,
);
for (const name of values.optimizers.split(',')) {
  let best = { epochs: Infinity, line: `${name}: never` };
  for (const setting of SETTINGS[name]!()) {
    const runs = Array.from({ length: Number(values.seeds) }, (_, seed) => run(setting, seed));
    const epochs = average(runs.map(r => r.epochs));
    const label = `lr ${setting.lr}${setting.damping === undefined ? '' : `, damping ${setting.damping}`}`;
    const line = `${name} ${label}: ${epochs.toFixed(2)} epochs (${runs.map(r => r.epochs.toFixed(2)).join(' ')}), ${average(runs.map(r => r.seconds)).toFixed(1)} s`;
    console.log(`  ${line}`);
    if (epochs < best.epochs) best = { epochs, line };
  }
  console.log(`best  ${best.line}`);
}
