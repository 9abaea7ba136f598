/**
 * What does one small operation cost? A chain of additions of 8×8 tensors, forward alone and with the backward pass;
 * microseconds an operation, the median of several rounds after a warm-up.
 *
 *   npm run bench bench/overhead.ts
 */

import { randn, type Tensor } from '@otimes/core';

const OPS = 200;
const ROUNDS = 60;
const REPEATS = 20;

function median(xs: number[]): number {
  const sorted = xs.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

/** Microseconds an operation of a chain of `OPS`. */
function measure(run: () => void): number {
  const rounds = Array.from({ length: ROUNDS }, () => {
    const start = performance.now();
    for (let i = 0; i < REPEATS; i++) run();
    return ((performance.now() - start) * 1000) / (REPEATS * OPS);
  });
  return median(rounds.slice(ROUNDS / 3));
}

function chain(x: Tensor, y: Tensor): Tensor {
  let z = x;
  for (let i = 0; i < OPS; i++) z = z.add(y);
  return z;
}

const plain = randn([8, 8]);
const other = randn([8, 8]);
const leaf = randn([8, 8], { requiresGrad: true });

const cases: readonly [name: string, run: () => void][] = [
  ['no gradient', () => void chain(plain, other)],
  ['recorded', () => void chain(leaf, other)],
  [
    'forward and backward',
    () => {
      chain(leaf, other).sum().backward();
      leaf.grad = null;
    },
  ],
];
// Once for nothing: the compiler is done with all of it before the first figure that counts.
for (const [, run] of cases) measure(run);
for (const [name, run] of cases) console.log(`add of 8×8, ${name}: ${measure(run).toFixed(2)} µs an op`);
