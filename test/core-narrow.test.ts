/** A device without float64: every operation runs there in float32, and float64 is refused where a tensor is made. */

import assert from 'node:assert/strict';
import { DTypeError, registerBackend, tensor, zeros } from '@otimes/core';
import { LayerNorm, Linear, type Module } from '@otimes/nn';
import { Adam, EKFAC, KFAC, type Optimizer, STEVE } from '@otimes/optim';
import t from 'tap';
import { Narrow } from './helpers/dozen.ts';
import { law } from './helpers/law.ts';
import { losses, nets } from './suites/float32.ts';
import { opsSuite } from './suites/opsLaws.ts';

const narrow = new Narrow('narrow');
registerBackend(narrow);

opsSuite(t, { device: narrow.device, dtypes: ['float32', 'int32'] });

const optimizers: Record<string, (model: Module) => Optimizer> = {
  Adam: model => new Adam(model.parameters(), { lr: 0.01 }),
  KFAC: model => new KFAC(model, { lr: 0.01, damping: 0.1, refreshEvery: 3 }),
  EKFAC: model => new EKFAC(model, { lr: 0.01, damping: 0.1, refreshEvery: 3 }),
  STEVE: model => new STEVE(model, { lr: 0.01, refreshEvery: 3 }),
};

for (const net of Object.keys(nets))
  for (const [name, optimizer] of Object.entries(optimizers))
    law(t, `${net}: ${name} learns on a device without float64 what it learns on the reference`, async () => {
      const expected = await losses(net, optimizer, 'reference');
      for (const [i, loss] of (await losses(net, optimizer, narrow.device)).entries())
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
