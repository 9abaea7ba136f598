/** The laws of optimizers on devices besides 'cpu'. */

import assert from 'node:assert/strict';
import { EKFAC, KFAC, STEVE } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { law } from './helpers/law.ts';
import { family, ROUTES } from './helpers/routes.ts';
import { DeviceRun } from './suites/device-runs.ts';
import { firstOrder, type OptimizerCase, optimizerLaws } from './suites/optimizers.ts';
import { newBatches, newNet } from './suites/training.ts';

const others = DEVICES.filter(device => device !== 'cpu');

const kronecker: readonly OptimizerCase[] = [
  { name: 'KFAC', make: m => new KFAC(m, { lr: 0.1, refreshEvery: 3, momentum: 0.5 }) },
  { name: 'EKFAC', make: m => new EKFAC(m, { lr: 0.1, refreshEvery: 3 }) },
  { name: 'STEVE', make: m => new STEVE(m, { lr: 0.05, refreshEvery: 3 }) },
];

for (const device of others) for (const one of [...firstOrder, ...kronecker]) optimizerLaws(t, one, device);

const task = { model: () => newNet(), batches: newBatches({ steps: 6 }) };

for (const device of others)
  for (const [name, make] of Object.entries(family))
    law(
      t,
      `${device}, ${name}: the three routes into the eigenbasis end in the same place, that of 'cpu'`,
      async () => {
        const run = (on: string, route: (typeof ROUTES)[number]) =>
          new DeviceRun(on, task, m => make(m as ReturnType<typeof newNet>, { route, refreshEvery: 4 })).steps(10);
        const expected = await run('cpu', 'gradient');
        const values = await expected.parameters();
        for (const route of ROUTES) {
          const one = await run(device, route);
          mustBeClose(one.losses, expected.losses, { rtol: 1e-9, atol: 1e-9 }, `${route}: losses`);
          mustBeClose(await one.parameters(), values, { rtol: 1e-9, atol: 1e-9 }, route);
          const routes = one.optimizer.describe().map(row => row.route);
          assert.ok(
            routes.every(one => one === route),
            `${routes} instead of ${route}`,
          );
        }
      },
    );
