/** A device of a dozen kernels: all others are composed of them, on the device, and leave nothing behind. */

import assert from 'node:assert/strict';
import {
  arange,
  Generator,
  maxPool2d,
  ones,
  randint,
  randn,
  registerBackend,
  type Tensor,
  tensor,
  where,
  zeros,
} from '@otimes/core';
import {
  BatchNorm2d,
  Conv2d,
  crossEntropy,
  Flatten,
  Linear,
  MaxPool2d,
  ReLU,
  Sequential,
  TransformerBlock,
} from '@otimes/nn';
import { Adam } from '@otimes/optim';
import t from 'tap';
import { composedKernels, Dozen, Queued } from './helpers/dozen.ts';
import { law } from './helpers/law.ts';
import { opsSuite } from './suites/opsLaws.ts';

const dozen = new Dozen('composed');
const queued = new Queued('queued');
registerBackend(dozen);
registerBackend(queued);

opsSuite(t, { device: dozen.device });

law(t, 'max pooling: the gradient goes to the first of equal values and to the last NaN, as on the reference', () => {
  const rng = new Generator(5);
  const values = randint(0, 5, [2, 2, 7, 6], { rng });
  const x = where(values.eq(0), Number.NaN, values.astype('float32'));
  for (const [kernel, o] of [
    [3, { stride: 1, padding: 1 }],
    [2, {}],
    [[4, 2], { stride: [3, 1], padding: [2, 0] }],
  ] as const) {
    const on = (device: string) => {
      const leaf = x.to(device).detach();
      leaf.requiresGrad = true;
      const y = maxPool2d(leaf, kernel, o);
      y.mul(arange(y.size).reshape(y.shape).to(device)).sum().backward();
      return [y, leaf.grad!].map(one => one.toArray());
    };
    assert.deepEqual(on(dozen.device), on('reference'));
    assert.deepEqual(on('cpu'), on('reference'));
  }
});

type Classifier = { call(x: Tensor): Tensor; parameters(): Tensor[] };

/** A convolutional network over images [N, 2, 6, 6], and a transformer over sequences [N, 5, 8]. */
const nets: Record<string, { shape: number[]; make(rng: Generator): Sequential }> = {
  'a convolutional network': {
    shape: [6, 2, 6, 6],
    make: rng =>
      new Sequential(
        new Conv2d(2, 4, 3, { padding: 1, rng, dtype: 'float64' }),
        new BatchNorm2d(4, { dtype: 'float64' }),
        new ReLU(),
        new MaxPool2d(2),
        new Conv2d(4, 4, 3, { groups: 2, stride: 2, padding: 1, rng, dtype: 'float64' }),
        new Flatten(),
        new Linear(16, 3, { rng, dtype: 'float64' }),
      ),
  },
  'a transformer': {
    shape: [4, 5, 8],
    make: rng =>
      new Sequential(
        new TransformerBlock(8, 2, { rng, dtype: 'float64' }),
        new Flatten(),
        new Linear(40, 3, { rng, dtype: 'float64' }),
      ),
  },
};

/** The parameters after some steps of Adam, and the loss of each. */
async function trained(name: string, device: string): Promise<{ parameters: number[]; losses: number[] }> {
  const rng = new Generator(1);
  const { shape, make } = nets[name]!;
  const model: Classifier = make(rng).to(device);
  const optimizer = new Adam(model.parameters(), { lr: 0.01 });
  const losses: Promise<number>[] = [];
  for (let step = 0; step < 12; step++) {
    const x = randn(shape, { dtype: 'float64', rng, device });
    const y = randint(0, 3, [shape[0]!], { rng, device });
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x), y);
    loss.backward();
    optimizer.step();
    losses.push(loss.number());
  }
  const parameters = await Promise.all(model.parameters().map(p => p.data()));
  return { parameters: parameters.flatMap(p => Array.from(p)), losses: await Promise.all(losses) };
}

for (const name of Object.keys(nets)) {
  // Sums in another order: 1e-16 of each gradient. Adam divides by the size of a gradient, at least by its eps of 1e-8, so that a
  // gradient that is 0 but for rounding moves its parameter by lr · 1e-17 / 1e-8 a step.
  law(
    t,
    `${name} learns on a device of a dozen kernels what it learns on the reference, but for rounding`,
    async () => {
      const [expected, actual] = [await trained(name, 'reference'), await trained(name, dozen.device)];
      for (const [i, p] of expected.parameters.entries())
        assert.ok(Math.abs(actual.parameters[i]! - p) < 1e-9, `parameter ${i}: ${actual.parameters[i]}, expected ${p}`);
      for (const [i, loss] of expected.losses.entries())
        assert.ok(Math.abs(actual.losses[i]! - loss) < 1e-9, `loss ${i}`);
    },
  );

  law(
    t,
    `${name} learns the same to the bit where values are read with await, and nobody asks for them before`,
    async () => {
      assert.deepEqual(await trained(name, queued.device), await trained(name, dozen.device));
      assert.equal(queued.instantReads, 0);
    },
  );
}

law(t, 'all kernels but the dozen are composed', () => {
  const composed = composedKernels(dozen);
  assert.ok(composed.length >= 30);
  assert.deepEqual(
    composed.filter(name => ['copy', 'binary', 'matmul', 'gather'].includes(name)),
    [],
  );
});

const on = { device: queued.device };

law(
  t,
  'a check that fails where values are read with await is told by the next read; until then nothing is written',
  async () => {
    const [p, x] = [ones([3], on), tensor([1, 2, 3], on)];
    const index = (...at: number[]) => tensor(at, { ...on, dtype: 'int32' });
    x.gather(0, index(0, 2));
    p.addScaled_(x, 1);
    x.gather(0, index(0, 7, -1));
    x.gather(0, index(9));
    p.addScaled_(x, 1);
    p.scale_(5);
    p.copy_(zeros([3], on));
    await assert.rejects(p.data(), { message: 'gather: index 7 at position 1 is out of range 0 … 2' });
    assert.deepEqual(await p.array(), [2, 3, 4]);
    p.addScaled_(x.gather(0, index(2, 1, 0)), 1);
    assert.deepEqual(await p.array(), [5, 5, 5]);
  },
);

law(t, 'so is a value that is not finite, as what it is', async () => {
  for (const bad of [Number.NaN, Infinity, -Infinity]) {
    const x = tensor([1, 2, bad, Number.NaN], { ...on, dtype: 'float64' });
    queued.checkFinite(x, (position, value) => new RangeError(`${value} at ${position}`));
    await assert.rejects(x.data(), { message: `${bad} at 2` });
    assert.deepEqual(await x.array(), [1, 2, bad, Number.NaN]);
  }
});

law(t, 'checks between a read and its values belong to the next one', async () => {
  const x = tensor([1, 2], on);
  const first = x.data();
  x.gather(0, tensor([2], { ...on, dtype: 'int32' }));
  const second = x.data();
  await assert.rejects(second, { message: /^gather: index 2 at position 0/ });
  assert.deepEqual([...(await first)], [1, 2]);
  assert.deepEqual(await x.array(), [1, 2]);
});
