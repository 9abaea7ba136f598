// Presets of otimes-experiments as plain data.
import { test } from 'tap';
import { CONTENDERS } from '../experiments/src/contenders/index.ts';
import { PRESETS } from '../experiments/src/presets/index.ts';
import { tuningPlan } from '../experiments/src/search/settings.ts';
import { TASKS } from '../experiments/src/tasks/index.ts';

void test('a preset is plain data, and what it names is there', async t => {
  t.equal(new Set(PRESETS.map(({ name }) => name)).size, PRESETS.length, 'names are unlike');
  for (const preset of PRESETS) {
    t.strictSame(JSON.parse(JSON.stringify(preset)), preset, preset.name);
    t.ok(TASKS.some(({ name }) => name === preset.task));
    t.equal(new Set(preset.contenders).size, preset.contenders.length);
    const known = new Set(CONTENDERS.map(({ name }) => name));
    for (const name of [...preset.contenders, ...Object.keys(preset.spaces ?? {}), ...Object.keys(preset.fixed ?? {})])
      t.ok(known.has(name), `${preset.name}: ${name}`);
    t.ok(preset.targetFrom.endsWith('.') && preset.about.endsWith('.'));
    t.ok(preset.tuning.seed >= preset.seeds, 'settings are tuned on a seed that is not reported');
  }
});

void test('within a preset all contenders have the same number of trials, and the same shared options', async t => {
  for (const preset of PRESETS)
    for (const name of preset.contenders) {
      const plan = tuningPlan(preset, CONTENDERS.find(one => one.name === name)!);
      t.equal(plan.length, preset.tuning.trials, `${preset.name}: ${name}`);
    }
});
