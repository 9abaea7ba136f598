/**
 * What an optimizer counts on the host: a step that a device has refused, because a check failed, leaves no trace once that is told.
 * Elsewhere a step that throws leaves none at once.
 */

import assert from 'node:assert/strict';
import { getBackend, ones, readStateDict, registerBackend, type Tensor, tensor, zeros } from '@otimes/core';
import { Adam, type AdamOptions, NAdam, type ParameterState } from '@otimes/optim';
import t from 'tap';
import { Queued } from './helpers/dozen.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { DeviceRun, deviceTasks } from './suites/device-runs.ts';
import { blindStep, counting, refusedLaws } from './suites/refused.ts';

const queued = new Queued('queued');
registerBackend(queued);

for (const device of [laterDevice().device, queued.device]) refusedLaws(t, device);

law(t, 'a step before the check that failed counts, and so does one after it was told', async () => {
  for (const device of [laterDevice().device, queued.device]) {
    const w = ones([2], { device, requiresGrad: true });
    const optimizer = new NAdam([w]);
    const step = () => {
      optimizer.zeroGrad();
      w.square().sum().backward();
      optimizer.step();
    };
    const check = (index: number) => {
      const at = tensor([index], { device, dtype: 'int32' });
      getBackend(device).checkIndex!(at, 3, (_, value) => new RangeError(`bad: ${value}`));
    };
    const count = () => optimizer.stateDict()['0.step']!.item();
    check(1);
    step();
    check(9);
    step();
    check(2);
    step();
    assert.equal(count(), 3, 'until it is told');
    const peeked = w.storage.backend.readAsync!(w, true);
    await assert.rejects(peeked, { message: 'bad: 9' });
    assert.equal(count(), 3, 'a read that peeks tells nothing');
    await assert.rejects(w.data(), { message: 'bad: 9' });
    assert.equal(count(), 1);
    step();
    await w.data();
    check(1);
    step();
    await w.data();
    check(9);
    await assert.rejects(w.data(), { message: 'bad: 9' });
    assert.equal(count(), 3);
  }
});

law(t, 'a state that was loaded while a failure was not told yet is what counts', async () => {
  const { device } = laterDevice();
  for (const make of [counting.STEVE!, counting.NAdam!]) {
    const run = new DeviceRun(device, deviceTasks.mlp, make);
    await run.steps(4);
    const saved = await readStateDict(run.optimizer.stateDict());
    await run.steps(1);
    const before = await run.model.parameters()[0]!.array();
    await blindStep(run, tensor([9, 0, 0, 0, 0, 0, 0, 0], { dtype: 'int32', device }));
    run.optimizer.loadStateDict(saved);
    await assert.rejects(run.model.parameters()[0]!.data(), { message: /label 9/ });
    assert.deepEqual(await run.model.parameters()[0]!.array(), before);
    const now = run.optimizer.stateDict();
    for (const [key, value] of Object.entries(saved))
      if (/\.?(steps|step|count|muProduct)$/.test(key)) assert.equal(now[key]!.item(), value.item(), key);
  }
});

law(t, 'an update that throws is not counted, and leaves no slots', () => {
  let throws = true;
  class Own extends Adam {
    protected override update(p: Tensor, g: Tensor, state: ParameterState, o: Required<AdamOptions>): void {
      state.slot('m');
      state.numbers.set('tries', 1);
      if (throws) throw new Error('mine');
      state.numbers.clear();
      super.update(p, g, state, o);
    }
  }
  const w = zeros([2], { requiresGrad: true });
  const optimizer = new Own([w]);
  const before = Object.keys(optimizer.stateDict());
  w.sum().backward();
  assert.throws(() => optimizer.step(), { message: 'mine' });
  assert.deepEqual(Object.keys(optimizer.stateDict()), before);
  assert.equal(optimizer.stateDict()['0.step']!.item(), 0);
  throws = false;
  optimizer.step();
  const fresh = zeros([2], { requiresGrad: true });
  fresh.sum().backward();
  new Adam([fresh]).step();
  assert.deepEqual(w.toArray(), fresh.toArray());
});
