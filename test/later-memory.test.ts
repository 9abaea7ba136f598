/** Memory on 'later', which is spoilt as soon as it is released, after the work that was entered before. */

import assert from 'node:assert/strict';
import t from 'tap';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { checkGraph } from './suites/graphs.ts';
import { lifetimeFuzz } from './suites/lifetime.ts';

const later = laterDevice();
const { device } = later;

law(
  t,
  `backward and grad of 60 random graphs on ${device} give what they give where nothing is released early`,
  async () => {
    for (let seed = 0; seed < 60; seed++) assert.equal(await checkGraph(seed, device, 3 + (seed % 14)), null);
  },
);

law(t, `random programs on ${device} find every reachable tensor as they left it`, async () => {
  for (const seed of [1, 2]) {
    const report = await lifetimeFuzz({ device, seed, steps: 3000 });
    assert.deepEqual([report.corrupted, report.unexpected], [[], []]);
    assert.ok(
      Math.min(report.checks / 10, report.released, report.backward, report.refused) > 50,
      JSON.stringify(report),
    );
  }
});

law(t, 'nothing of this asked for values at once', () => {
  assert.equal(later.instantReads, 0);
});
