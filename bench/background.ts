/**
 * What does a refresh of the eigenbases add to a step, within it and in the background? STEVE on an MLP 784-512-256-10 with
 * 128 examples, a refresh every 50 steps; mean step over whole periods. CPU time is that of the training thread alone (Linux;
 * elsewhere wall-clock time), so that what else runs on the machine counts less.
 *
 * Then what a step of other optimizers takes on the same network, refreshes every 10 steps within it; K-BFGS with both of its passes.
 *
 *   npm run bench bench/background.ts [rounds]      rounds of 50 steps each, 5 by default
 */

import { readFileSync } from 'node:fs';
import { Generator, randint, randn, setThreads, type Tensor } from '@otimes/core';
import { crossEntropy, type Module, mlp } from '@otimes/nn';
import { AdamW, KBFGS, KFAC, SINGD, STEVE } from '@otimes/optim';

// One thread, whose CPU time is the figure.
await setThreads(1);

const EVERY = 50;
const rounds = Number(process.argv[2] ?? 5);

/** Milliseconds that this thread has run. */
function cpu(): number {
  try {
    return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
  } catch {
    return performance.now();
  }
}

const options = {
  none: { refreshEvery: 1e9 },
  sync: { refreshEvery: EVERY, refresh: 'sync' },
  background: { refreshEvery: EVERY, refresh: 'background' },
} as const;

const contenders = Object.entries(options).map(([name, o]) => {
  const rng = new Generator(1);
  const model = mlp([784, 512, 256, 10], { rng });
  const optimizer = new STEVE(model, { lr: 1e-3, ...o });
  const batches = Array.from(
    { length: 8 },
    () => [randn([128, 784], { rng }), randint(0, 10, [128], { rng })] as const,
  );
  const step = () => {
    const [x, y] = batches[optimizer.steps % batches.length]!;
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x) as Tensor, y);
    loss.backward();
    optimizer.step();
  };
  for (let i = 0; i < EVERY; i++) step();
  return { name, step, optimizer, wall: [] as number[], cpu: [] as number[], slowest: [] as number[] };
});

for (let round = 0; round < rounds; round++)
  for (const { step, wall, cpu: own, slowest } of contenders) {
    const [start, used] = [performance.now(), cpu()];
    let worst = 0;
    for (let i = 0; i < EVERY; i++) {
      const before = performance.now();
      step();
      worst = Math.max(worst, performance.now() - before);
    }
    wall.push((performance.now() - start) / EVERY);
    own.push((cpu() - used) / EVERY);
    slowest.push(worst);
  }

const median = (x: readonly number[]) => [...x].sort((a, b) => a - b)[x.length >> 1]!;
const base = contenders[0]!;
const cell = (x: number, digits = 2) => x.toFixed(digits).padStart(10);
console.log(
  `ms, medians of ${rounds} periods of ${EVERY} steps     wall       CPU   over none (CPU)   slowest step   refreshes`,
);
for (const { name, wall, cpu: own, slowest, optimizer } of contenders) {
  const { done, failed } = optimizer.report().refreshes;
  const over = `${((median(own) / median(base.cpu) - 1) * 100).toFixed(1)} %`;
  console.log(
    `${name.padEnd(36)} ${cell(median(wall))}${cell(median(own))} ${over.padStart(17)} ${cell(median(slowest), 0).padStart(14)} ${String(`${done}${failed ? `, ${failed} failed` : ''}`).padStart(11)}`,
  );
}
for (const { name, optimizer } of contenders)
  console.log(
    `${name}: ms a step of each phase: ${Object.entries(optimizer.report().milliseconds)
      .map(([phase, ms]) => `${phase} ${(ms / optimizer.steps).toFixed(2)}`)
      .join(', ')}`,
  );

const every10 = { refreshEvery: 10, refresh: 'sync' } as const;
const family: Record<string, (m: Module) => AdamW | KFAC | SINGD | KBFGS> = {
  AdamW: m => new AdamW(m.parameters(), { lr: 1e-3 }),
  KFAC: m => new KFAC(m, { lr: 1e-3, ...every10 }),
  'KFAC, factors every 10': m => new KFAC(m, { lr: 1e-3, ...every10, factorEvery: 10 }),
  SINGD: m => new SINGD(m),
  'SINGD, diagonal': m => new SINGD(m, { structure: 'diagonal' }),
  'K-BFGS': m => new KBFGS(m),
};
const others = Object.entries(family).map(([name, make]) => {
  const rng = new Generator(1);
  const model = mlp([784, 512, 256, 10], { rng });
  const optimizer = make(model);
  const [x, y] = [randn([128, 784], { rng }), randint(0, 10, [128], { rng })];
  const pass = () => {
    optimizer.zeroGrad();
    crossEntropy(model.call(x) as Tensor, y).backward();
  };
  const step = () => {
    pass();
    optimizer.step();
    if (!(optimizer instanceof KBFGS)) return;
    pass();
    optimizer.correct();
  };
  for (let i = 0; i < 10; i++) step();
  return { name, step, times: [] as number[] };
});
for (let round = 0; round < rounds; round++)
  for (const { step, times } of others) {
    const used = cpu();
    for (let i = 0; i < 20; i++) step();
    times.push((cpu() - used) / 20);
  }
console.log(`\nms CPU a step, medians of ${rounds} times 20 steps`);
for (const { name, times } of others) console.log(`${name.padEnd(36)} ${cell(median(times))}`);
