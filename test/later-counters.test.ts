/**
 * What an optimizer counts on the host: a step that a device has refused, because a check failed, leaves no trace once that is told.
 * Elsewhere a step that throws leaves none at once.
 */

import assert from 'node:assert/strict';
import { getBackend, ones, readStateDict, registerBackend, type Tensor, tensor, zeros } from '@otimes/core';
import { crossEntropy, type Module } from '@otimes/nn';
import {
  Adam,
  type AdamOptions,
  EKFAC,
  KFAC,
  Muon,
  NAdam,
  type Optimizer,
  type ParameterState,
  SGD,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { Queued } from './helpers/dozen.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { DeviceRun, deviceTasks } from './suites/device-runs.ts';
import { firstOrder } from './suites/optimizers.ts';

const queued = new Queued('queued');
registerBackend(queued);

const every3 = { refreshEvery: 3, lr: 0.05 };
const optimizers: Record<string, (m: Module) => Optimizer> = {
  ...Object.fromEntries(firstOrder.map(({ name, make }) => [name, make])),
  'SGD with damped momentum': m => new SGD(m.parameters(), { lr: 0.1, momentum: 0.9, dampening: 0.5 }),
  'KFAC with momentum': m => new KFAC(m, { ...every3, momentum: 0.9, trust: false }),
  'EKFAC, batch': m => new EKFAC(m, { ...every3, secondMoment: 'batch', klClip: false }),
  STEVE: m => new STEVE(m, every3),
  'STEVE, resident, over NAdam': m => new STEVE(m, { ...every3, route: 'resident', rest: p => new NAdam(p) }),
  Muon: m => new Muon(m),
};

/** What passes leave behind, whatever becomes of the step. */
const PASSES = /\.(rows|misses|rng)$/;

async function remembered(run: DeviceRun): Promise<Record<string, readonly number[]>> {
  const values = await run.values();
  return Object.fromEntries(Object.entries(values).filter(([key]) => !PASSES.test(key)));
}

/** A step that nobody waits for. */
async function blindStep({ model, optimizer, batches }: DeviceRun, y: Tensor): Promise<void> {
  optimizer.zeroGrad();
  crossEntropy(model.call(batches[0]!.x), y).backward();
  await optimizer.step();
}

/** Before its first step of all a Kronecker optimizer reads factors. */
const startsBlind = (name: string) => firstOrder.some(one => one.name === name);

for (const device of [laterDevice().device, queued.device])
  for (const [name, make] of Object.entries(optimizers))
    for (const steps of [0, 4])
      if (steps > 0 || startsBlind(name))
        law(
          t,
          `${device}, ${name}: steps that were refused after ${steps} others leave no trace once it is told`,
          async () => {
            const [run, other] = [0, 1].map(() => new DeviceRun(device, deviceTasks.mlp, make)) as [
              DeviceRun,
              DeviceRun,
            ];
            await run.steps(steps);
            const before = await remembered(run);
            const [bad, good] = [
              tensor([0, 1, 7, 3, 0, 1, 2, 3], { dtype: 'int32', device }),
              tensor([0, 1, 2, 3, 0, 1, 2, 3], { dtype: 'int32', device }),
            ];
            await blindStep(run, bad);
            await blindStep(run, good);
            const message = /^crossEntropy: label 7 at position 2 is out of range 0 … 3$/;
            await assert.rejects(run.model.parameters()[0]!.data(), { message });
            assert.deepEqual(await remembered(run), before);
            await run.steps(4);
            await other.steps(steps + 4);
            assert.deepEqual(run.losses, other.losses, 'and the run is the one without them, bit for bit');
            assert.deepEqual(await remembered(run), await remembered(other));
          },
        );

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
  for (const make of [optimizers.STEVE!, optimizers.NAdam!]) {
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
