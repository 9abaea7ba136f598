/** Picking and adding by index on the device 'gpu', where tables are long, and max pooling's gradient. */

import assert from 'node:assert/strict';
import { Generator, grad, maxPool2d, randint, type Tensor, tensor } from '@otimes/core';
import { gpuBackend } from '@otimes/gpu';
import t from 'tap';
import { testNeeding } from './helpers/requires.ts';

const law = await testNeeding(t, 'gpu');

/** The gradients that `f` gives on both devices, of whole numbers: exactly the same. */
async function same(f: (x: Tensor) => Tensor, shape: number[]): Promise<void> {
  const slopes = async (device: string) => {
    const x = randint(-8, 8, shape, { rng: new Generator(1), dtype: 'float32' }).to(device);
    x.requiresGrad = true;
    const y = f(x);
    const gy = randint(-8, 8, y.shape, { rng: new Generator(2), dtype: 'float32' }).to(device);
    const [gx] = grad(y, [x], { gy });
    return [[...(await y.data())], [...(await gx!.data())]];
  };
  assert.deepEqual(await slopes('gpu'), await slopes('cpu'));
}

law('rows of a long table get the sum of the gradients of all their places', async () => {
  const index = (n: number, high: number, device: string) =>
    randint(0, high, [n], { rng: new Generator(3) }).to(device);
  await same(x => x.indexSelect(0, index(700, 60, x.device)), [4000, 3]);
  await same(x => x.indexSelect(1, index(300, 900, x.device)), [2, 900, 3]);
  await same(x => x.indexSelect(0, index(5, 2, x.device)), [2]);
  await same(x => x.indexSelect(0, index(0, 1, x.device)), [5, 3]);
});

law('the gradient of max pooling goes to the largest of each window, however windows overlap', async () => {
  await same(x => maxPool2d(x, 3, { stride: 2, padding: 1 }), [2, 3, 9, 8]);
  await same(x => maxPool2d(x, 2), [2, 2, 6, 7]);
  await same(x => maxPool2d(x, [3, 2], { stride: 1, padding: [1, 0] }).square(), [1, 2, 5, 6]);
});

law('the gradient of an embedding is three launches', () => {
  const x = tensor([
    [1, 2],
    [3, 4],
  ]).to('gpu');
  x.requiresGrad = true;
  const y = x.indexSelect(0, tensor([0, 1, 0], { dtype: 'int32' }).to('gpu'));
  const gy = tensor([
    [1, 2],
    [3, 4],
    [5, 6],
  ]).to('gpu');
  const before = gpuBackend()!.stats.launches;
  grad(y, [x], { gy });
  assert.equal(gpuBackend()!.stats.launches - before, 3);
});
