/** What optimizers save, load and report on every device. */

import assert from 'node:assert/strict';
import { readStateDict, type StateDict } from '@otimes/core';
import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { instantReadsIn, laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { DeviceRun, deviceTasks } from './suites/device-runs.ts';
import { movedLaw, reportLaws, resumedLaws, savedOptimizers } from './suites/saved.ts';

const later = laterDevice().device;

for (const device of DEVICES) resumedLaws(t, device);
movedLaw(t, DEVICES);
reportLaws(t, later);

law(t, 'a state dict is made without reading, and one that is read with await is refused by name', async () => {
  for (const make of Object.values(savedOptimizers)) {
    const run = await new DeviceRun(later, deviceTasks.mlp, make).steps(4);
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
