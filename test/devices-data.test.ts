/** Datasets, loaders and transforms on every device, one that is read with await among them. */

import assert from 'node:assert/strict';
import { ReferenceBackend, registerBackend, type Tensor } from '@otimes/core';
import { averagePool2, DataLoader, normalize, standardize, TensorDataset } from '@otimes/data';
import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { instantReadsIn, laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { dataLaws, shuffled, x, y } from './suites/data.ts';

const later = laterDevice().device;

dataLaws(t, DEVICES, later);

law(t, 'a batch is copied when it is complete: at its turn, with for await up to prefetch batches before', async () => {
  let copied = 0;
  class Counting extends ReferenceBackend {
    override store(...data: Parameters<ReferenceBackend['store']>) {
      copied++;
      return super.store(...data);
    }
  }
  registerBackend(new Counting('counting'));
  const loader = new DataLoader(new TensorDataset(x), { batchSize: 2, prefetch: 2, device: 'counting' });
  let turn = 0;
  for (const _ of loader) assert.equal(copied, ++turn);
  copied = turn = 0;
  for await (const _ of loader) {
    turn++;
    // What is prepared ahead takes a while.
    await new Promise(resolve => setImmediate(resolve));
    assert.equal(copied, Math.min(turn + 2, loader.length));
  }
});

law(t, 'a device that nobody has registered is an error of the constructor', () => {
  assert.throws(() => new DataLoader(new TensorDataset(x), { batchSize: 2, device: 'nowhere' }), /nowhere/);
});

law(t, 'iterating, transforms and the state of loaders read nothing at once', async () => {
  const there = [x, y].map(one => one.to(later)) as [Tensor, Tensor];
  const count = await instantReadsIn(async () => {
    for (const o of [{}, { device: later }])
      for (const data of [new TensorDataset(x, y), new TensorDataset(...there)]) {
        const loader = new DataLoader(data, { ...shuffled(1), ...o });
        for (const _ of loader) loader.stateDict();
        for await (const _ of loader) loader.stateDict();
      }
    for (const std of [2, [2, 3]]) normalize(there[0], 0, std);
    standardize(averagePool2(there[0])).apply(averagePool2(there[0]));
  });
  assert.equal(count, 0);
});
