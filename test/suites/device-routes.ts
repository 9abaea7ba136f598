/** The ways into the eigenbasis, on a device. */

import assert from 'node:assert/strict';
import type { Sequential } from '@otimes/nn';
import type { Test } from 'tap';
import { mustBeClose } from '../helpers/allclose.ts';
import { floatOf } from '../helpers/devices.ts';
import { imageBatches, newImageNet, structures } from '../helpers/image-runs.ts';
import { law } from '../helpers/law.ts';
import { type Make, ROUTES } from '../helpers/routes.ts';
import { DeviceRun, type DeviceTask } from './device-runs.ts';
import { newBatches, newNet } from './training.ts';

/** Of losses and parameters after 10 steps. */
const PRECISION = { float64: 1e-9, float32: 1e-4 };

export function routesLaw(t: Test, name: string, make: Make, device: string): void {
  const float = floatOf(device);
  sameLaw(t, name, make, device, { model: () => newNet({ float }), batches: newBatches({ float, steps: 6 }) });
}

/** The same of convolutions, in every structure that turns images; `which` of them, on a device that takes long. */
export function imageRoutesLaw(
  t: Test,
  name: string,
  make: Make,
  device: string,
  which: readonly string[] = Object.keys(structures),
): void {
  const float = floatOf(device);
  const task = { model: () => newImageNet({ float }), batches: imageBatches({ float, steps: 6 }) };
  for (const [where, structure] of Object.entries(structures).filter(([where]) => which.includes(where)))
    sameLaw(t, `${name}, convolutions, ${where}`, (m, o) => make(m, { ...structure, ...o }), device, task);
}

function sameLaw(t: Test, name: string, make: Make, device: string, task: DeviceTask): void {
  law(t, `${device}, ${name}: the three routes into the eigenbasis end in the same place, that of 'cpu'`, async () => {
    const [rtol, atol] = [PRECISION[floatOf(device)], PRECISION[floatOf(device)]];
    const run = (on: string, route: (typeof ROUTES)[number]) =>
      new DeviceRun(on, task, m => make(m as Sequential, { route, refreshEvery: 4 })).steps(10);
    const expected = await run('cpu', 'gradient');
    const values = await expected.parameters();
    for (const route of ROUTES) {
      const one = await run(device, route);
      mustBeClose(one.losses, expected.losses, { rtol, atol }, `${route}: losses`);
      mustBeClose(await one.parameters(), values, { rtol, atol }, route);
      const routes = one.optimizer.describe().map(row => row.route);
      assert.ok(
        routes.every(one => one === route),
        `${routes} instead of ${route}`,
      );
    }
  });
}
