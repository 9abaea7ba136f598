/** What optimizers save, load and report on a device. */

import assert from 'node:assert/strict';
import { loadSafetensors, readStateDict, type StateDict, saveSafetensors } from '@otimes/core';
import type { Module } from '@otimes/nn';
import { Adam, EKFAC, KFAC, type KroneckerPreconditioner, type Optimizer, STEVE } from '@otimes/optim';
import type { Test } from 'tap';
import { mustBeClose } from '../helpers/allclose.ts';
import { law } from '../helpers/law.ts';
import { DeviceRun, deviceTasks } from './device-runs.ts';

const shared = { refreshEvery: 3, lr: 0.05 };
const steveOf = (o: ConstructorParameters<typeof STEVE>[1]) => (m: Module) => new STEVE(m, { ...shared, ...o });
export const savedOptimizers: Record<string, (m: Module) => Optimizer> = {
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
  'STEVE, blocks': steveOf({ structure: 'blocks', blockDim: 3 }),
  'STEVE, blocks in the background': steveOf({
    structure: 'blocks',
    blockDim: 4,
    refresh: 'background',
    refreshLag: 2,
  }),
};
const { mlp, transformer } = deviceTasks;

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

/** @param cuts after how many of 9 steps runs are saved */
export function resumedLaws(t: Test, device: string, cuts: readonly number[] = [1, 4, 6]): void {
  for (const [name, make] of Object.entries(savedOptimizers))
    law(t, `${device}, ${name}: save, load, go on = the uninterrupted run, bit for bit`, async () => {
      const whole = await new DeviceRun(device, mlp, make).steps(9);
      for (const cut of cuts) {
        const second = await resumed(await new DeviceRun(device, mlp, make).steps(cut), make);
        await second.steps(9 - cut);
        assert.deepEqual(second.losses, whole.losses, `losses after ${cut}`);
        assert.deepEqual(await second.values(), await whole.values(), `after ${cut}`);
      }
    });
}

/** The losses of a run on one device that goes on on each of some. */
export function movedLaw(t: Test, devices: readonly string[]): void {
  law(t, 'a state from one device goes on on every other', async () => {
    for (const make of Object.values(savedOptimizers)) {
      const first = await new DeviceRun('cpu', mlp, make).steps(4);
      const [model, optimizer] = [
        await throughFile(first.model.stateDict()),
        await throughFile(first.optimizer.stateDict()),
      ];
      const losses: number[][] = [];
      for (const device of devices) {
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
}

const reporting: Record<string, (m: Module) => KroneckerPreconditioner> = {
  'KFAC pi': m => new KFAC(m, { ...shared, dampingSplit: 'pi', trust: 0.02, klClip: 1e-3 }),
  EKFAC: m => new EKFAC(m, shared),
  STEVE: steveOf({}),
  "STEVE, nullRule 'tolerance'": steveOf({ nullRule: 'tolerance', nullTolerance: 1e-2 }),
};
/** @param rtol where the device adds in another order than the reference, what that makes of small eigenvalues; default 1e-5 */
export function reportLaws(t: Test, device: string, rtol = 1e-5): void {
  for (const [name, make] of Object.entries(reporting))
    law(
      t,
      `${name}: readReport() gives on '${device}' what report() gives on 'reference', where it gives that too`,
      async () => {
        const runOn = (where: string) => {
          const run = new DeviceRun(where, transformer, make);
          run.optimizer.observe();
          return run.steps(4);
        };
        const [run, twin] = [await runOn(device), await runOn('reference')];
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
              { rtol, atol: rtol / 100 },
              `${block.path} ${side}`,
            );
          for (const key of ['relativeDamping', 'graft', 'trust', 'klClip', 'cosine'] as const)
            if (other[key] === null) assert.equal(block[key], null);
            else {
              // A cosine rounds as numbers near 1 do, however near to 0 it is.
              const near = key === 'cosine' ? { rtol, atol: rtol / 10 } : { rtol };
              mustBeClose([block[key]!], [other[key]], near, `${block.path} ${key}`);
            }
        }
        // Which G of 'reduce' vanished is known once the report was read.
        const sharing = ({ optimizer }: typeof run) => optimizer.describe().map(row => row.sharing);
        assert.deepEqual(sharing(run), sharing(twin));
        assert.ok(sharing(twin).includes('reduce, G expanded'));
      },
    );
}
