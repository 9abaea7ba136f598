/** Gradients of several processes, hooks and schedules, on a device. */

import assert from 'node:assert/strict';
import { Tensor } from '@otimes/core';
import { crossEntropy, type Module } from '@otimes/nn';
import { Adam, averageGradients, cosineLr, Schedule, SGD } from '@otimes/optim';
import type { Test } from 'tap';
import { mustBeClose } from '../helpers/allclose.ts';
import { law } from '../helpers/law.ts';
import { Ranks } from '../helpers/ranks.ts';
import { DeviceRun, deviceTasks } from './device-runs.ts';

const near = { rtol: 1e-5, atol: 1e-6 };

export function averageLaw(t: Test, device: string): void {
  law(t, `processes on ${device} that average their gradients are one on the whole batch`, async () => {
    const make = (m: Module) => new SGD(m.parameters(), { lr: 0.1, momentum: 0.9 });
    const whole = await new DeviceRun(device, deviceTasks.mlp, make).steps(4);
    const { communicators } = new Ranks(2);
    const processes = communicators.map(() => new DeviceRun(device, deviceTasks.mlp, make));
    const sizes = [3, 5];
    for (let step = 0; step < 4; step++)
      await Promise.all(
        processes.map(async ({ model, optimizer, batches }, rank) => {
          const { x, y } = batches[step]!;
          const [from, count] = [rank === 0 ? 0 : sizes[0]!, sizes[rank]!];
          optimizer.zeroGrad();
          crossEntropy(model.call(x.narrow(0, from, count)), y.narrow(0, from, count)).backward();
          await averageGradients(model.parameters(), communicators[rank]!, { examples: count });
          await optimizer.step();
        }),
      );
    const [first, second] = await Promise.all(processes.map(one => one.parameters()));
    assert.deepEqual(first, second);
    mustBeClose(first!, await whole.parameters(), near);
  });
}

export function hooksLaw(t: Test, device: string): void {
  law(t, `hooks see on ${device} what they see on the reference, with a learning rate by a schedule`, async () => {
    const outcome = async (where: string) => {
      const run = new DeviceRun(where, deviceTasks.cnn, m => new Adam(m.parameters(), { lr: 0.02 }));
      const schedule = new Schedule(run.optimizer, cosineLr({ tMax: 4 }));
      const seen: Promise<number>[] = [];
      for (const module of run.model.namedModules().values())
        module.onForward((_, __, y) => {
          if (y instanceof Tensor) seen.push(y.square().mean().number());
        });
      for (const p of run.model.parameters()) p.onGrad(g => g.clamp(-0.05, 0.05));
      for (let step = 0; step < 4; step++) {
        await run.step();
        schedule.step();
      }
      return [...run.losses, ...(await Promise.all(seen)), ...(await run.parameters())];
    };
    mustBeClose(await outcome(device), await outcome('reference'), near);
  });
}
