/** Reductions, softmax and normalisation of the device 'gpu': long ones, which are cut into pieces, and numbers at the edges. */

import assert from 'node:assert/strict';
import {
  batchNorm,
  Generator,
  grad,
  groupNorm,
  labelCrossEntropy,
  layerNorm,
  randn,
  squaredError,
  type Tensor,
  tensor,
} from '@otimes/core';
import { gpuBackend } from '@otimes/gpu';
import t from 'tap';
import { testNeeding } from './helpers/requires.ts';

const law = await testNeeding(t, 'gpu');

function assertNear(title: string, found: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  assert.equal(found.length, expected.length);
  const scale = Math.max(1e-30, ...Array.from(expected).filter(Number.isFinite).map(Math.abs));
  for (let i = 0; i < expected.length; i++) {
    const near = Math.abs(found[i]! - expected[i]!) <= tolerance * scale;
    assert.ok(
      Object.is(found[i]! + 0, expected[i]! + 0) || near,
      `${title} ${i}: ${found[i]}, expected ${expected[i]}`,
    );
  }
}

/** What `f` makes of the same numbers on both devices. */
async function same(title: string, f: (x: Tensor) => Tensor | Tensor[], x: Tensor, tolerance = 2e-6): Promise<void> {
  const [here, there] = [f(x), f(x.detach().to('gpu'))].map(y => (Array.isArray(y) ? y : [y])) as [Tensor[], Tensor[]];
  for (const [i, y] of there.entries()) assertNear(title, await y.data(), await here[i]!.data(), tolerance);
}

const normal = (shape: number[], seed = 1) => randn(shape, { rng: new Generator(seed) });

law('long reductions along any axes are those of the CPU', async () => {
  const x = normal([7, 3, 41, 61]).add(0.1);
  const names = ['sum', 'mean', 'max', 'norm'] as const;
  const all = [undefined, [0, 2, 3], [3], [2, 3], [0], [1], [0, 3], [1, 3], [0, 1, 2]];
  for (const [i, axes] of all.entries()) await same(`${names[i % 4]} over ${axes}`, x => x[names[i % 4]!](axes), x);
  for (const axis of [undefined, 1]) await same(`argmin over ${axis}`, x => x.argmin(axis), x);
  await same('columns', x => [x.sum(0), x.argmax(0), x.sum(1)], normal([3001, 37]));
  await same('transposed', x => [x.transpose(0, 1).sum(0), x.transpose(0, 1).max(1)], normal([300, 1201]));
});

law('a sum of a million numbers is two launches, and those of columns no more', async () => {
  const [x, y] = [normal([1000, 1000]), normal([20000, 50])].map(x => x.to('gpu')) as [Tensor, Tensor];
  const before = gpuBackend()!.stats.launches;
  x.sum();
  y.sum(0);
  assert.equal(gpuBackend()!.stats.launches - before, 4);
});

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
const rows = [
  ...[
    [1, nan, 3, nan],
    [nan, inf, 1, 2],
    [-inf, 1, 2, -inf],
    [-inf, -inf, -inf, -inf],
    [inf, 1, -inf, 2],
  ],
  ...[
    [0, -0, 0, -0],
    [3e38, 3e38, 3e38, -1e38],
    [1e-30, 2e-30, -1e-30, 0],
    [7, 7, 7, 7],
    [-1, -2, -1, -2],
  ],
  ...[
    [100, -100, 50, 0],
    [inf, inf, 0, 1],
  ],
];
law('reductions and softmax of numbers at the edges are those of the CPU', async () => {
  for (const axis of [0, 1]) {
    const x = axis === 1 ? rows : rows[0]!.map((_, i) => rows.map(row => row[i]!));
    for (const name of ['sum', 'mean', 'max', 'min', 'norm', 'argmax', 'argmin', 'softmax', 'logSoftmax'] as const)
      for (const row of x) {
        const at = axis === 1 ? [row] : row.map(value => [value]);
        await same(`${name} of ${row}`, x => x[name](axis), tensor(at));
      }
  }
});

law('cross-entropy of numbers at the edges is that of the CPU', async () => {
  for (const row of rows)
    await same(
      `cross-entropy of ${row}`,
      x => labelCrossEntropy(x, tensor([1], { dtype: 'int32', device: x.device }), 1),
      tensor([row]),
    );
});

/** y, its statistics and all gradients. */
const normalized =
  (f: (x: Tensor, weight: Tensor, bias: Tensor | null) => Tensor | Tensor[], shape: number[], bias = true) =>
  (x: Tensor) => {
    const [w, b] = [2, 3].map(seed => normal(shape, seed).to(x.device)) as [Tensor, Tensor];
    const all = [x, w, ...(bias ? [b] : [])];
    for (const p of all) p.requiresGrad = true;
    const made = f(x, w, bias ? b : null);
    const results = Array.isArray(made) ? made : [made];
    const weights = normal(x.shape as number[], 4).to(x.device);
    return [...results, ...grad(results[0]!.mul(weights).sum(), all)];
  };
const inBatch = (x: Tensor, w: Tensor, b: Tensor | null) => {
  const { y, mean, variance } = batchNorm(x, w, b);
  return [y, mean, variance];
};

law('normalisation and its gradients are those of the CPU, short and long', async () => {
  const far = (x: Tensor) => x.add(30);
  for (const bias of [true, false]) {
    await same(
      'layer norm',
      normalized((x, w, b) => layerNorm(x, w, b), [48], bias),
      far(normal([3, 5, 48])),
      1e-5,
    );
    await same('batch norm', normalized(inBatch, [3], bias), far(normal([6, 3, 9, 11])), 1e-5);
    await same(
      'group norm',
      normalized((x, w, b) => groupNorm(x, 2, w, b), [4], bias),
      far(normal([3, 4, 5, 6])),
      1e-5,
    );
  }
  await same(
    'layer norm of a long row',
    normalized((x, w, b) => layerNorm(x, w, b), [40000]),
    far(normal([2, 40000])),
    2e-5,
  );
  await same(
    'layer norm over two axes',
    normalized((x, w, b) => layerNorm(x, w, b), [4, 6]),
    far(normal([300, 4, 6])),
    1e-5,
  );
  await same('batch norm of a long batch', normalized(inBatch, [3]), far(normal([64, 3, 17, 17])), 2e-5);
  await same('batch norm of rows', normalized(inBatch, [50]), far(normal([900, 50])), 2e-5);
});

law('a step of batch norm is two launches forwards and two back', async () => {
  const x = normal([4, 8, 5, 5]).to('gpu');
  const [w, b] = [normal([8]).to('gpu'), normal([8]).to('gpu')];
  for (const p of [x, w, b]) p.requiresGrad = true;
  const start = gpuBackend()!.stats.launches;
  const { y } = batchNorm(x, w, b);
  const middle = gpuBackend()!.stats.launches;
  // The copies of both statistics, for averages that outlive the graph, come on top.
  assert.equal(middle - start, 4);
  const gy = normal([4, 8, 5, 5]).to('gpu');
  grad(y, [x, w, b], { gy });
  assert.equal(gpuBackend()!.stats.launches - middle, 2);
});

law('the squared error and its gradient are those of the CPU', async () => {
  const f = (a: Tensor) => {
    const b = normal([40, 30], 5).to(a.device);
    a.requiresGrad = true;
    const loss = squaredError(a, b, 0.25);
    return [loss, ...grad(loss, [a])];
  };
  await same('squared error', f, normal([30, 40]).transpose(0, 1));
  await same('squared error of nothing', a => squaredError(a, a, 1), tensor([[]]));
});
