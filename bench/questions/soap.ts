/**
 * What does a step of SOAP, Shampoo and KL-Shampoo cost beside AdamW and STEVE? Whole training steps, one refresh period of each in turn,
 * so that what disturbs the machine disturbs all; CPU milliseconds on one thread, medians.
 *
 *   npm run bench bench/questions/soap.ts [rounds]
 */

import { Generator, randint, randn, setThreads } from '@otimes/core';
import { Conv2d, crossEntropy, Flatten, Linear, MaxPool2d, type Module, mlp, ReLU, Sequential } from '@otimes/nn';
import { AdamW, KLShampoo, type Optimizer, Shampoo, SOAP, STEVE } from '@otimes/optim';

await setThreads(1);
const rounds = Number(process.argv[2] ?? 9);
/** Steps from refresh to refresh, of all. */
const PERIOD = 10;

const o = () => ({ rng: new Generator(0) });
const cnn = () =>
  new Sequential(
    ...[new Conv2d(1, 16, 3, { ...o(), padding: 1 }), new ReLU(), new MaxPool2d(2)],
    ...[new Conv2d(16, 32, 3, { ...o(), padding: 1 }), new ReLU(), new MaxPool2d(2)],
    ...[new Flatten(), new Linear(32 * 49, 10, o())],
  );
const TASKS: Record<string, { make: () => Module; shape: readonly number[] }> = {
  'MLP 784-512-256-10, batch 128': { make: () => mlp([784, 512, 256, 10], o()), shape: [128, 784] },
  'CNN 16-32, 28×28, batch 64': { make: cnn, shape: [64, 1, 28, 28] },
};
const CONTENDERS: Record<string, (model: Module) => Optimizer> = {
  AdamW: m => new AdamW(m.parameters()),
  STEVE: m => new STEVE(m, { refresh: 'sync' }),
  SOAP: m => new SOAP(m),
  'one-sided SOAP': m => new SOAP(m, { oneSided: true }),
  Shampoo: m => new Shampoo(m),
  KLShampoo: m => new KLShampoo(m),
};

const median = (x: readonly number[]): number => [...x].sort((a, b) => a - b)[x.length >> 1]!;
for (const [task, { make, shape }] of Object.entries(TASKS)) {
  const rng = new Generator(1);
  const batches = Array.from({ length: 4 }, () => ({
    x: randn(shape, { rng }),
    y: randint(0, 10, [shape[0]!], { rng }),
  }));
  const runs = Object.values(CONTENDERS).map(optimizerOf => {
    const model = make();
    return { model, optimizer: optimizerOf(model), times: [] as number[] };
  });
  for (let round = -1; round < rounds; round++)
    for (const { model, optimizer, times } of runs) {
      const start = process.cpuUsage();
      for (let step = 0; step < PERIOD; step++) {
        const { x, y } = batches[step % batches.length]!;
        optimizer.zeroGrad();
        crossEntropy(model.call(x), y).backward();
        optimizer.step();
      }
      const { user, system } = process.cpuUsage(start);
      if (round >= 0) times.push((user + system) / 1000 / PERIOD);
    }
  console.log(`${task}: ms a step, times AdamW's`);
  const each = runs.map(({ times }) => median(times));
  for (const [i, name] of Object.keys(CONTENDERS).entries())
    console.log(
      `  ${name.padEnd(26)} ${each[i]!.toFixed(2).padStart(8)} ${(each[i]! / each[0]!).toFixed(2).padStart(7)}`,
    );
}
