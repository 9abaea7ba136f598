/**
 * The convolutional network of PyTorch's MNIST example reads digits, with dropout, Adadelta and a step schedule. With --checkpoint it
 * can be stopped at any time: the same command goes on from there, with the numbers that it would have had. Ends on a confusion matrix, and
 * on exit code 1 if the accuracy misses the target.
 *
 *   npm run example mnist-cnn                  npm run example mnist-cnn -- --checkpoint run.checkpoint
 */

import { existsSync } from 'node:fs';
import { Generator, manualSeed, noGrad, scope, type Tensor } from '@otimes/core';
import { loadCheckpoint, saveCheckpoint } from '@otimes/core/node';
import { DataLoader, normalize, TensorDataset } from '@otimes/data';
import {
  Conv2d,
  Dropout,
  Flatten,
  Linear,
  LogSoftmax,
  MaxPool2d,
  metrics,
  nllLoss,
  ReLU,
  Sequential,
} from '@otimes/nn';
import { Adadelta, Schedule, stepLr } from '@otimes/optim';
import { loadDigits } from '../digits/load.ts';
import { command, dim, say } from '../shared/command.ts';
import { percent } from '../shared/run.ts';

const BATCH = 64;

/** x [B, 1, 28, 28] → logarithms of the probabilities of ten digits. */
function network(rng: Generator): Sequential {
  return new Sequential(
    new Conv2d(1, 32, 3, { rng }),
    new ReLU(),
    new Conv2d(32, 64, 3, { rng }),
    new ReLU(),
    new MaxPool2d(2), // [B, 64, 12, 12]
    new Dropout(0.25),
    new Flatten(),
    new Linear(9216, 128, { rng }),
    new ReLU(),
    new Dropout(0.5),
    new Linear(128, 10, { rng }),
    new LogSoftmax(1),
  );
}

await command(
  {
    name: 'mnist-cnn',
    about: "The network of PyTorch's MNIST example on 10,000 digits.",
    optimizers: { Adadelta: 1 },
    settings: {
      epochs: { value: 3, about: 'passes over the training set', least: 1 },
      samples: { value: 8000, about: 'images to learn from, 8000 at most', least: BATCH },
      every: { value: 25, about: 'steps between two lines, and two checkpoints', least: 1 },
      target: { value: 0.965, about: 'accuracy on the test set', fraction: true },
    },
    texts: { checkpoint: 'file to save the run in, and to go on from if it is there' },
  },
  async ({ lr, epochs, samples, every, seed, target, checkpoint: path }) => {
    const { train, test } = loadDigits();
    const images = (set: Tensor) => normalize(set.unsqueeze(1), 0.1307, 0.3081);
    const learn = new TensorDataset(images(train.images.narrow(0, 0, samples)), train.labels.narrow(0, 0, samples));
    // Dropout draws from the default generator, which a checkpoint keeps without being asked.
    manualSeed(seed);
    const rng = new Generator(seed);
    const model = network(rng);
    const loader = new DataLoader(learn, { batchSize: BATCH, shuffle: true, rng });
    const optimizer = new Adadelta(model.parameters(), { lr });
    const schedule = new Schedule(optimizer, stepLr({ stepSize: loader.length, gamma: 0.7 }));
    const run = { model, loader, optimizer, schedule };

    let step = 0;
    if (path !== '' && existsSync(path)) {
      ({ step } = await loadCheckpoint(path, run));
      say(dim(`goes on after step ${step} of ${path}`));
    }
    const steps = epochs * loader.length;
    while (step < steps) {
      for (const [x, y] of loader) {
        optimizer.zeroGrad();
        const loss = scope(() => {
          const loss = nllLoss(model.call(x), y);
          loss.backward();
          return loss.item();
        });
        optimizer.step();
        schedule.step();
        step++;
        if (step % every !== 0 && step !== steps) continue;
        say(
          `step ${String(step).padStart(String(steps).length)}/${steps}   loss ${loss.toFixed(4)}   lr ${optimizer.lr.toFixed(3)}`,
        );
        if (path !== '') await saveCheckpoint(path, { ...run, step });
      }
    }

    model.eval();
    const accuracy = new metrics.Accuracy();
    const confusion = new metrics.ConfusionMatrix({ classes: 10 });
    for (const [x, y] of new DataLoader(new TensorDataset(images(test.images), test.labels), { batchSize: 500 })) {
      const scores = noGrad(() => model.call(x));
      accuracy.update(scores, y);
      confusion.update(scores, y);
    }
    say(`\nDigits (rows) and what they were taken for:\n\n${table(await confusion.compute())}`);
    const reached = await accuracy.compute();
    return {
      reached: `${percent(reached, 2)} of ${test.labels.size} digits after ${step} steps`,
      ok: reached >= target,
    };
  },
);

function table(rows: readonly (readonly number[])[]): string {
  const line = (label: string, cells: readonly (number | string)[]) =>
    `${label.padStart(3)} │${cells.map(cell => String(cell).padStart(5)).join('')}`;
  const body = rows.map((row, digit) =>
    line(
      String(digit),
      row.map(n => (n === 0 ? '·' : n)),
    ),
  );
  return [line('', Object.keys(rows)), `────┼${'─'.repeat(50)}`, ...body].join('\n');
}
