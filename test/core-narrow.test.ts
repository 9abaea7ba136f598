/** A device without float64: every operation runs there in float32, and float64 is refused where a tensor is made. */

import assert from 'node:assert/strict';
import { DTypeError, Generator, randint, randn, registerBackend, tensor, zeros } from '@otimes/core';
import {
  BatchNorm2d,
  Conv2d,
  crossEntropy,
  Flatten,
  GroupNorm,
  LayerNorm,
  Linear,
  type Module,
  ReLU,
  Sequential,
  TransformerBlock,
} from '@otimes/nn';
import { Adam, EKFAC, KFAC, type Optimizer, STEVE } from '@otimes/optim';
import t from 'tap';
import { Narrow } from './helpers/dozen.ts';
import { law } from './helpers/law.ts';
import { opsSuite } from './suites/opsLaws.ts';

const narrow = new Narrow('narrow');
registerBackend(narrow);

opsSuite(t, { device: narrow.device, dtypes: ['float32', 'int32'] });

const nets: Record<string, { shape: number[]; make(rng: Generator): Module }> = {
  'a convolutional network': {
    shape: [6, 2, 6, 6],
    make: rng =>
      new Sequential(
        new Conv2d(2, 4, 3, { padding: 1, rng }),
        new BatchNorm2d(4),
        new ReLU(),
        new Conv2d(4, 4, 3, { stride: 2, padding: 1, rng }),
        new GroupNorm(2, 4),
        new Flatten(),
        new LayerNorm(36),
        new Linear(36, 3, { rng }),
      ),
  },
  'a transformer': {
    shape: [4, 5, 8],
    make: rng => new Sequential(new TransformerBlock(8, 2, { rng }), new Flatten(), new Linear(40, 3, { rng })),
  },
};

const optimizers: Record<string, (model: Module) => Optimizer> = {
  Adam: model => new Adam(model.parameters(), { lr: 0.01 }),
  KFAC: model => new KFAC(model, { lr: 0.01, damping: 0.1, refreshEvery: 3 }),
  EKFAC: model => new EKFAC(model, { lr: 0.01, damping: 0.1, refreshEvery: 3 }),
  STEVE: model => new STEVE(model, { lr: 0.01, refreshEvery: 3 }),
};

function losses(net: keyof typeof nets, optimizerOf: (model: Module) => Optimizer, device: string): number[] {
  const rng = new Generator(1);
  const { shape, make } = nets[net]!;
  const model = make(rng).to(device);
  const optimizer = optimizerOf(model);
  return Array.from({ length: 8 }, () => {
    const x = randn(shape, { rng, device });
    const y = randint(0, 3, [shape[0]!], { rng, device });
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x), y);
    loss.backward();
    optimizer.step();
    return loss.item();
  });
}

for (const net of Object.keys(nets))
  for (const [name, optimizer] of Object.entries(optimizers))
    law(t, `${net} learns by ${name} on a device without float64 what it learns on the reference`, () => {
      const expected = losses(net, optimizer, 'reference');
      for (const [i, loss] of losses(net, optimizer, narrow.device).entries())
        assert.ok(Math.abs(loss - expected[i]!) < 1e-4, `loss ${i}: ${loss}, expected ${expected[i]}`);
    });

law(t, 'a float64 tensor is refused where the device has none: made, moved and converted', () => {
  const error = {
    name: DTypeError.name,
    message: "device 'narrow' has no float64, only bool, int32, float32: convert with astype, or use another device",
  };
  assert.throws(() => zeros([2], { dtype: 'float64', device: 'narrow' }), error);
  assert.throws(() => tensor(new Float64Array(2), { device: 'narrow' }), error);
  assert.throws(() => zeros([2], { dtype: 'float64' }).to('narrow'), error);
  assert.throws(() => zeros([2], { device: 'narrow' }).astype('float64'), error);
  assert.throws(() => new Linear(2, 2, { dtype: 'float64' }).to('narrow'), error);
});

law(t, 'normalisation without float64 holds up to deviations of 1.8e19, beyond which the variance is infinite', () => {
  const layer = new LayerNorm(4, { device: narrow.device });
  const of = (scale: number) =>
    layer
      .call(
        tensor([[1, 2, 3, 4]])
          .mul(scale)
          .to(narrow.device),
      )
      .toArray() as number[][];
  const expected = [-3, -1, 1, 3].map(x => x / Math.sqrt(5));
  for (const scale of [1, 1e3, 1e18])
    for (const [i, y] of of(scale)[0]!.entries()) assert.ok(Math.abs(y - expected[i]!) < 1e-5, `${y} at ${scale}`);
  assert.deepEqual(of(2e19), [[0, 0, 0, 0]]);
});
