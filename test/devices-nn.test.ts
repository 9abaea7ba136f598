/** Modules, losses and initialisers on every device, one that is read with await among them. */

import assert from 'node:assert/strict';
import { Generator, readStateDict } from '@otimes/core';
import * as nn from '@otimes/nn';
import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { type At, moduleCases, notInTheList } from './suites/modules.ts';
import { modulesSuite } from './suites/modulesLaws.ts';

const later = laterDevice().device;
const on = (device: string, seed = 1): At => ({ device, dtype: 'float64', rng: new Generator(seed) });

law(t, 'the list has every module of the package', () => {
  const modules = Object.entries(nn).filter(
    ([, value]) => value === nn.Module || (typeof value === 'function' && value.prototype instanceof nn.Module),
  );
  const listed = new Set([...Object.keys(moduleCases).map(name => name.split(' ')[0]), ...notInTheList]);
  assert.deepEqual(
    modules.map(([name]) => name).filter(name => !listed.has(name)),
    [],
  );
});

for (const device of DEVICES) if (device !== 'cpu') modulesSuite(t, device);

law(
  t,
  'a state that is read with await is told so where another device loads it, and nothing is loaded or moved',
  async () => {
    const [there, here] = [nn.mlp([3, 2], on(later)), nn.mlp([3, 2], on('cpu', 2))];
    const before = here.parameters().map(p => p.toArray());
    const message = /nothing was loaded[\s\S]*on 'later': layers\.0\.weight .* await readStateDict\(state\)/;
    assert.throws(() => here.loadStateDict(there.stateDict()), message);
    assert.deepEqual(
      here.parameters().map(p => p.toArray()),
      before,
    );
    assert.throws(() => there.to('cpu'), /await/);
    assert.ok(there.parameters().every(p => p.device === later));
    here.loadStateDict(await readStateDict(there.stateDict()));
    assert.deepEqual(
      here.parameters().map(p => p.toArray()),
      await Promise.all(there.parameters().map(p => p.array())),
    );
  },
);

law(t, 'nothing of this asked for values at once', () => {
  assert.equal(laterDevice().instantReads, 0);
});
