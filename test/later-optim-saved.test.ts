/** What optimizers save, load and report on every device. */

import assert from 'node:assert/strict';
import { loadSafetensors, readStateDict, type StateDict, saveSafetensors } from '@otimes/core';
import type { Module } from '@otimes/nn';
import { Adam, EKFAC, KFAC, type KroneckerPreconditioner, type Optimizer, STEVE } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { instantReadsIn, laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { DeviceRun, deviceTasks } from './suites/device-runs.ts';

const shared = { refreshEvery: 3, lr: 0.05 };
const steveOf = (o: ConstructorParameters<typeof STEVE>[1]) => (m: Module) => new STEVE(m, { ...shared, ...o });
const optimizers: Record<string, (m: Module) => Optimizer> = {
  Adam: m => new Adam(m.parameters(), { lr: 0.01 }),
  'KFAC with momentum and trust': m => new KFAC(m, { ...shared, momentum: 0.9, trust: 0.02 }),
  EKFAC: m => new EKFAC(m, shared),
  STEVE: steveOf({}),
  'STEVE, resident': steveOf({ route: 'resident' }),
  'STEVE, resident, without graft': steveOf({ route: 'resident', graft: false }),
  'STEVE with the examples, activations': steveOf({ secondMoment: 'example', route: 'activations' }),
  'STEVE in the background': steveOf({ refresh: 'background', refreshLag: 2 }),
  'STEVE, sampled Fisher': steveOf({ fisher: 'sampled', loss: 'crossEntropy' }),
  'EKFAC, maxFactorDim': m => new EKFAC(m, { ...shared, maxFactorDim: 5 }),
};
const { mlp, transformer } = deviceTasks;
const later = laterDevice().device;

const throughFile = async (state: StateDict): Promise<StateDict> =>
  loadSafetensors(saveSafetensors(await readStateDict(state)));

/** A run that goes on from where another one is. */
async function resumed<O extends Optimizer>(run: DeviceRun<O>, make: (m: Module) => O, task = mlp) {
  const next = new DeviceRun(run.device, task, make);
  // It has moved before.
  await next.steps(2);
  next.losses.splice(0, Infinity, ...run.losses);
  next.model.loadStateDict(await throughFile(run.model.stateDict()));
  next.optimizer.loadStateDict(await throughFile(run.optimizer.stateDict()));
  return next;
}

for (const device of DEVICES)
  for (const [name, make] of Object.entries(optimizers))
    law(t, `${device}, ${name}: save, load, go on = the uninterrupted run, bit for bit`, async () => {
      const whole = await new DeviceRun(device, mlp, make).steps(9);
      for (const cut of [1, 4, 6]) {
        const second = await resumed(await new DeviceRun(device, mlp, make).steps(cut), make);
        await second.steps(9 - cut);
        assert.deepEqual(second.losses, whole.losses, `losses after ${cut}`);
        assert.deepEqual(await second.values(), await whole.values(), `after ${cut}`);
      }
    });

law(t, 'a state dict is made without reading, and one that is read with await is refused by name', async () => {
  for (const make of Object.values(optimizers)) {
    const run = await new DeviceRun(later, mlp, make).steps(4);
    let state: StateDict = {};
    assert.equal(await instantReadsIn(() => (state = run.optimizer.stateDict())), 0);
    assert.throws(() => run.optimizer.loadStateDict(state), {
      message: /loadStateDict: .*some on 'later': load await readStateDict\(state\)$/,
    });
    run.optimizer.loadStateDict(await readStateDict(state));
    await run.steps(2);
    assert.ok(run.losses.every(Number.isFinite));
  }
});

law(t, 'a state from one device goes on on every other', async () => {
  for (const make of Object.values(optimizers)) {
    const first = await new DeviceRun('cpu', mlp, make).steps(4);
    const [model, optimizer] = [
      await throughFile(first.model.stateDict()),
      await throughFile(first.optimizer.stateDict()),
    ];
    const losses: number[][] = [];
    for (const device of DEVICES) {
      const run = new DeviceRun(device, mlp, make);
      run.losses.push(...first.losses);
      run.model.loadStateDict(model);
      run.optimizer.loadStateDict(optimizer);
      await run.steps(4);
      losses.push(run.losses);
    }
    for (const one of losses) mustBeClose(one, losses[0]!, { rtol: 1e-4 }, 'losses');
  }
});

const reporting: Record<string, (m: Module) => KroneckerPreconditioner> = {
  'KFAC pi': m => new KFAC(m, { ...shared, dampingSplit: 'pi', trust: 0.02, klClip: 1e-3 }),
  EKFAC: m => new EKFAC(m, shared),
  STEVE: steveOf({}),
  "STEVE, nullRule 'tolerance'": steveOf({ nullRule: 'tolerance', nullTolerance: 1e-2 }),
};
for (const [name, make] of Object.entries(reporting))
  law(
    t,
    `${name}: readReport() gives on 'later' what report() gives on 'reference', where it gives that too`,
    async () => {
      const runOn = (device: string) => {
        const run = new DeviceRun(device, transformer, make);
        run.optimizer.observe();
        return run.steps(4);
      };
      const [run, twin] = [await runOn(later), await runOn('reference')];
      assert.throws(() => run.optimizer.report(), { message: /report: .*await readReport\(\)$/ });
      assert.deepEqual(await twin.optimizer.readReport(), twin.optimizer.report());
      const { milliseconds: _, blocks, ...report } = await run.optimizer.readReport();
      const { milliseconds: __, blocks: expected, ...expectedReport } = twin.optimizer.report();
      assert.deepEqual(report, expectedReport);
      assert.equal(blocks.length, expected.length);
      for (const [i, block] of blocks.entries()) {
        const other = expected[i]!;
        assert.deepEqual({ ...block.nulls, route: block.route }, { ...other.nulls, route: other.route });
        for (const side of ['A', 'G'] as const)
          mustBeClose(
            block.spectrum![side],
            other.spectrum![side],
            { rtol: 1e-5, atol: 1e-7 },
            `${block.path} ${side}`,
          );
        for (const key of ['relativeDamping', 'graft', 'trust', 'klClip', 'cosine'] as const)
          if (other[key] === null) assert.equal(block[key], null);
          else mustBeClose([block[key]!], [other[key]], { rtol: 1e-5 }, `${block.path} ${key}`);
      }
      // Which G of 'reduce' vanished is known once the report was read.
      const sharing = ({ optimizer }: typeof run) => optimizer.describe().map(row => row.sharing);
      assert.deepEqual(sharing(run), sharing(twin));
      assert.ok(sharing(twin).includes('reduce, G expanded'));
    },
  );
