/** Eigenbases that are followed on the device 'gpu': what they are on the CPU, without a wait. */

import assert from 'node:assert/strict';
import { eye, Generator, randn, type Tensor } from '@otimes/core';
import { gpuBackend } from '@otimes/gpu';
import type { Module } from '@otimes/nn';
import { type KroneckerOptions, type Optimizer, STEVE, subspaceIteration } from '@otimes/optim';
import t from 'tap';
import { testNeeding } from './helpers/requires.ts';
import { losses } from './suites/float32.ts';

const law = await testNeeding(t, 'gpu');

/** A factor [n, n] of so many examples. */
function factor(n: number, rank: number): Tensor {
  const x = randn([n, rank], { rng: new Generator(n) });
  return x.matmul(x.transpose()).div(rank);
}

law('a step is that of the CPU, and its columns are orthonormal to 1e-5', async () => {
  for (const [n, rank] of [
    [1, 1],
    [6, 2],
    [70, 20],
  ] as const) {
    const A = factor(n, rank);
    const tracker = subspaceIteration({ firstSteps: 3 });
    const [here, there] = [tracker.begin!(A), await tracker.begin!(A.to('gpu')).cpu()];
    const skew = there.transpose().matmul(there).sub(eye(n)).abs().max().item();
    assert.ok(skew < 1e-5, `${n}: UᵀU differs from the identity by ${skew}`);
    // Null directions are arbitrary, and near ones turn; what counts is how much of A stands in the first columns.
    const caught = (U: Tensor) => U.mul(A.matmul(U)).sum(0).cumsum(0);
    const off = caught(there).sub(caught(here)).abs().max().div(A.norm()).item();
    assert.ok(off < 1e-3, `${n}: ${off}`);
  }
});

const o: KroneckerOptions = { lr: 0.01, refreshEvery: 3, eigensolver: subspaceIteration({ firstSteps: 6 }) };
const optimizers: Record<string, (model: Module) => Optimizer> = {
  STEVE: model => new STEVE(model, o),
};
for (const [name, make] of Object.entries(optimizers))
  law(`${name} learns with followed bases on the GPU what it learns on the CPU, and no step waits`, async () => {
    let waits = 0;
    const watched = (model: Module) => {
      const optimizer = make(model);
      const step = optimizer.step.bind(optimizer);
      optimizer.step = () => {
        const stepped = step();
        if (stepped !== undefined) waits++;
        return stepped;
      };
      return optimizer;
    };
    const [expected, found] = [await losses('MLP', make, 'cpu'), await losses('MLP', watched, 'gpu')];
    assert.equal(waits, 0);
    for (const [i, loss] of found.entries())
      assert.ok(Math.abs(loss - expected[i]!) < 2e-3, `loss ${i}: ${loss}, expected ${expected[i]}`);
  });

law('a step on a factor of 64 rows is at most 36 dispatches', async () => {
  const A = factor(64, 90).to('gpu');
  const tracker = subspaceIteration();
  const U = tracker.follow(A, eye(64, { device: 'gpu' }));
  await U.sum().number();
  const before = gpuBackend()!.stats.dispatches;
  tracker.follow(A, U);
  assert.ok(gpuBackend()!.stats.dispatches - before <= 36, `${gpuBackend()!.stats.dispatches - before} dispatches`);
});
