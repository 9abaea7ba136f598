/** What optimizers read on a device that is read with await, and that their runs there are those of 'reference'. */

import assert from 'node:assert/strict';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { instantReadsIn, laterDevice } from './helpers/later.ts';
import type { DeviceRun } from './suites/device-runs.ts';
import { settings, trained } from './suites/settings.ts';

const later = laterDevice().device;

for (const [name, setting] of Object.entries(settings))
  t.test(`${name}: a run reads nothing at once, and is that of 'reference'`, async t => {
    const { rtol = 0, unordered = false } = setting;
    let run: DeviceRun | null = null;
    const reads = await instantReadsIn(async () => {
      run = await trained(later, setting);
    });
    t.comment(`${reads} instant reads`);
    t.equal(reads, 0);
    assert.ok(run);
    const { losses, model } = run as DeviceRun;
    t.ok(losses.every(Number.isFinite));
    if (unordered) return;
    const expected = await trained('reference', setting);
    mustBeClose([...losses], [...expected.losses], { rtol, atol: 0 }, 'losses');
    for (const [path, p] of model.namedParameters()) {
      const values = [...(await p.data())];
      const twin = [...expected.model.namedParameters().get(path)!.dataSync()];
      mustBeClose(values, twin, { rtol, atol: rtol }, path);
    }
  });
