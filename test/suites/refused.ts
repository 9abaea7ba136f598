/** What an optimizer counts on the host: a step that a device has refused leaves no trace once that is told. */

import assert from 'node:assert/strict';
import { type Tensor, tensor } from '@otimes/core';
import { crossEntropy, type Module } from '@otimes/nn';
import { EKFAC, KFAC, KLShampoo, Muon, NAdam, type Optimizer, SGD, Shampoo, SOAP, STEVE } from '@otimes/optim';
import type { Test } from 'tap';
import { law } from '../helpers/law.ts';
import { DeviceRun, deviceTasks } from './device-runs.ts';
import { firstOrder } from './optimizers.ts';

const every3 = { refreshEvery: 3, lr: 0.05 };
export const counting: Record<string, (m: Module) => Optimizer> = {
  ...Object.fromEntries(firstOrder.map(({ name, make }) => [name, make])),
  'SGD with damped momentum': m => new SGD(m.parameters(), { lr: 0.1, momentum: 0.9, dampening: 0.5 }),
  'KFAC with momentum': m => new KFAC(m, { ...every3, momentum: 0.9, trust: false }),
  'EKFAC, batch': m => new EKFAC(m, { ...every3, secondMoment: 'batch', klClip: false }),
  STEVE: m => new STEVE(m, every3),
  'STEVE, resident, over NAdam': m => new STEVE(m, { ...every3, route: 'resident', rest: p => new NAdam(p) }),
  Muon: m => new Muon(m),
  SOAP: m => new SOAP(m),
  Shampoo: m => new Shampoo(m, { lr: 0.01 }),
  KLShampoo: m => new KLShampoo(m),
};

/** What passes leave behind, whatever becomes of the step. */
const PASSES = /\.(rows|misses|rng)$/;

async function remembered(run: DeviceRun): Promise<Record<string, readonly number[]>> {
  const values = await run.values();
  return Object.fromEntries(Object.entries(values).filter(([key]) => !PASSES.test(key)));
}

/** A step that nobody waits for. */
export async function blindStep({ model, optimizer, batches }: DeviceRun, y: Tensor): Promise<void> {
  optimizer.zeroGrad();
  crossEntropy(model.call(batches[0]!.x), y).backward();
  await optimizer.step();
}

/** Before its first step of all a Kronecker optimizer reads factors. */
const startsBlind = (name: string) => firstOrder.some(one => one.name === name);

/** @param names those of `counting`; default all */
export function refusedLaws(t: Test, device: string, names: readonly string[] = Object.keys(counting)): void {
  for (const [name, make] of Object.entries(counting).filter(([one]) => names.includes(one)))
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
}
