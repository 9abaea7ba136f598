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

console.log(`add of 8×8, no gradient:            ${measure(() => void chain(plain, other)).toFixed(2)} µs an op`);
console.log(`add of 8×8, recorded:               ${measure(() => void chain(leaf, other)).toFixed(2)} µs an op`);
const both = measure(() => {
  chain(leaf, other).sum().backward();
  leaf.grad = null;
});
console.log(`add of 8×8, forward and backward:   ${both.toFixed(2)} µs an op`);
