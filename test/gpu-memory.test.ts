/** Memory of the device 'gpu': what is released serves others, and nothing that is reachable changes. */

import assert from 'node:assert/strict';
import t from 'tap';
import { testNeeding } from './helpers/requires.ts';
import { checkGraph } from './suites/graphs.ts';
import { lifetimeFuzz } from './suites/lifetime.ts';

const law = await testNeeding(t, 'gpu');

law('backward and grad of random graphs give what they give where nothing is released early', async () => {
  for (let seed = 0; seed < 10; seed++) assert.equal(await checkGraph(seed, 'gpu', 3 + (seed % 14)), null);
});

law('random programs find every reachable tensor as they left it', async () => {
  const report = await lifetimeFuzz({ device: 'gpu', seed: 1, steps: 600 });
  assert.deepEqual([report.corrupted, report.unexpected], [[], []]);
  assert.ok(
    Math.min(report.checks / 10, report.released, report.backward, report.refused) > 10,
    JSON.stringify(report),
  );
});
