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

void test('the literal presets have the numbers of the paper, §4', async t => {
  // | preset | target | lr | refresh | task |
  const table = [
    ['paper/cifar10-resnet50', 0.925, 1e-3, 500, 'cifar10', 'resnet50'],
    ['paper/tinyimagenet-resnet50', 0.44, 1e-4, 600, 'tiny-imagenet', 'resnet50'],
    ['paper/cifar100-vit-s16', 0.46, 5e-5, 50, 'cifar100', 'vit-s16'],
  ] as const;
  for (const [name, target, lr, every, task, network] of table) {
    const preset = PRESETS.find(one => one.name === name)!;
    t.equal(preset.target, target);
    t.equal(preset.task, task);
    t.match(preset.taskOptions, { network, augment: true });
    t.equal(preset.epochs, 100);
    t.strictSame(preset.schedules, ['constant']);
    t.equal(preset.tuning.trials, 0, 'nothing is tuned');
    t.match(preset.kronecker, { refreshEvery: every, factorEvery: every });
    t.strictSame(preset.contenders, ['adam', 'steve', 'ekfac', 'kfac']);
    const moments = { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    t.strictSame(preset.fixed!.adam, moments);
    t.match(preset.fixed!.steve, { ...moments, secondMoment: 'example', onRefresh: 'zero', graft: false, rest: 'sgd' });
    for (const damped of ['kfac', 'ekfac']) t.match(preset.fixed![damped], { lr, factorDecay: 0.9, rest: 'sgd' });
    const twin = PRESETS.find(one => one.name === `${name}-fair`)!;
    for (const key of ['task', 'taskOptions', 'target', 'epochs'] as const) t.strictSame(twin[key], preset[key], key);
    t.ok(twin.tuning.trials > 0 && twin.fixed === undefined, 'its twin is tuned');
    t.strictSame(twin.schedules, ['constant', 'cosine']);
  }
  t.equal(PRESETS.find(({ name }) => name === 'paper/cifar100-vit-s16')!.taskOptions.size, 224);
  t.equal(PRESETS.find(({ name }) => name === 'paper/cifar100-vit-s16')!.kronecker.sharing, 'reduce');
});
