/**
 * How much sooner calls and whole training steps end on several threads: wall-clock time, as CPU time grows with threads.
 * Rounds with one thread and with n take turns, so that what disturbs the machine disturbs both.
 *
 *   npm run bench bench/threads.ts [n]      n threads, 2 by default
 */

import { randn, setThreads, type Tensor } from '@otimes/core';
import { tasks } from './peers/otimes.ts';

const threads = Number(process.argv[2] ?? 2);
const ROUNDS = 7;
/** Milliseconds of a sample. */
const SAMPLE = 60;

const square = (n: number): (() => unknown) => {
  const [a, b] = [randn([n, n]), randn([n, n])];
  return () => a.matmul(b);
};
const of = (n: number, f: (x: Tensor) => unknown): (() => unknown) => {
  const x = randn([n]);
  return () => f(x);
};

const cases: Record<string, () => unknown> = {
  'sgemm 128': square(128),
  'sgemm 256': square(256),
  'sgemm 512': square(512),
  'sgemm 1024': square(1024),
  'add 1M': of(2 ** 20, x => x.add(x)),
  'exp 1M': of(2 ** 20, x => x.exp()),
  'softmax 16384×64': of(2 ** 20, x => x.reshape([-1, 64]).softmax(-1)),
  'MLP 784-512-256-10, 128': tasks.mlp({ sizes: [784, 512, 256, 10], batch: 128 }).run,
  'MLP 64-128-10, 64': tasks.mlp({ sizes: [64, 128, 10], batch: 64 }).run,
  'CNN 16-32, 28×28, 64': tasks.cnn({ batch: 64 }).run,
  'transformer block 128': tasks.transformer().run,
};

const median = (x: number[]): number => x.sort((a, b) => a - b)[x.length >> 1]!;

/** Milliseconds of each call within about SAMPLE of them. */
function sample(run: () => unknown): number[] {
  const times: number[] = [];
  const start = performance.now();
  let before = start;
  do {
    run();
    const now = performance.now();
    times.push(now - before);
    before = now;
  } while (before - start < SAMPLE);
  return times;
}

const all = Object.keys(cases).map(() => [[], []] as [number[], number[]]);
for (let round = -1; round < ROUNDS; round++)
  for (const [which, n] of [1, threads].entries()) {
    const used = await setThreads(n);
    if (used !== n) throw new Error(`${n} threads were asked for, ${used} are in use`);
    for (const [i, run] of Object.values(cases).entries()) {
      run();
      const times = sample(run);
      if (round >= 0) all[i]![which]!.push(median(times));
    }
  }
console.log(`ms on 1 thread and on ${threads}, medians of ${ROUNDS} rounds; how many times sooner`);
for (const [i, name] of Object.keys(cases).entries()) {
  const [one, many] = all[i]!.map(median) as [number, number];
  console.log(
    `${name.padEnd(26)} ${one.toFixed(3).padStart(9)} ${many.toFixed(3).padStart(9)} ${(one / many).toFixed(2).padStart(6)}`,
  );
}
