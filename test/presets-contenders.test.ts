// Contenders of otimes-experiments: the spaces they are tuned in, and that each of them trains each preset's network.
import type { Tensor } from '@otimes/core';
import { type Test, test } from 'tap';
import { CONTENDERS } from '../experiments/src/contenders/index.ts';
import type { Contender, MakeContext, OpenTask, Setting } from '../experiments/src/experiment.ts';
import { PRESETS } from '../experiments/src/presets/index.ts';
import { defaultsOf, spaceOf } from '../experiments/src/search/settings.ts';
import { bitsOf, openSmall } from './helpers/presets.ts';

const contenderNamed = (name: string): Contender => CONTENDERS.find(one => one.name === name)!;
const context = (kronecker: MakeContext['kronecker'] = {}): MakeContext => ({ seed: 0, stepsPerEpoch: 3, kronecker });

void test('names of contenders are unlike, and what they are called in tables too', async t => {
  for (const key of ['name', 'label'] as const) t.equal(new Set(CONTENDERS.map(c => c[key])).size, CONTENDERS.length);
});

void test('a space holds its default, and a learning rate on a log scale over two decades', async t => {
  for (const { name, space } of CONTENDERS) {
    for (const [option, dimension] of Object.entries(space)) {
      if (dimension.scale === 'choice') t.ok(dimension.choices.includes(dimension.default), `${name}: ${option}`);
      else t.ok(dimension.low <= dimension.default && dimension.default <= dimension.high, `${name}: ${option}`);
    }
    const { lr } = space;
    t.ok(lr?.scale === 'log' && Math.abs(lr.high / lr.low - 100) < 1e-9, `${name}: lr`);
    t.ok(Object.keys(space).length <= 2, `${name}: one dimension beside it at most`);
  }
});

/** Two steps on the first batch; the losses before them. */
async function train(t: Test, task: OpenTask, contender: Contender, setting: Setting, context: MakeContext) {
  const model = task.model(0);
  const trainer = contender.make(model, setting, context);
  const before = bitsOf(model.stateDict());
  const losses: number[] = [];
  for await (const batch of task.batches(0).epoch()) {
    for (let i = 0; i < 2; i++)
      await trainer.step((): Tensor => {
        const loss = task.loss(model, batch);
        loss.backward();
        losses.push(loss.item());
        return loss;
      });
    break;
  }
  t.ok(losses.length >= 2 && losses.every(Number.isFinite), `${contender.name}: losses ${losses.join(', ')}`);
  t.not(bitsOf(model.stateDict()), before, `${contender.name} changes the parameters`);
  for (const [path, p] of model.namedParameters())
    t.ok(Number.isFinite(p.detach().abs().sum().item()), `${contender.name}: ${path} is finite`);
  trainer.eval?.();
  trainer.train?.();
  const state = trainer.stateDict();
  const again = contender.make(task.model(0), setting, context);
  again.loadStateDict(state);
  t.equal(bitsOf(again.stateDict()), bitsOf(state), `${contender.name} takes over its state`);
  const report = await trainer.report?.();
  t.equal(report === undefined, !('report' in trainer), `${contender.name}: a report where it has one`);
  if (report !== undefined) t.ok(report.blocks.length > 0);
  trainer.detach?.();
  again.detach?.();
}

// The fair twins have the tasks of the literal ones.
for (const preset of PRESETS.filter(({ name }) => !name.endsWith('-fair')))
  void test(`${preset.name}: every contender trains the network`, async t => {
    const task = await openSmall(preset);
    for (const name of preset.contenders) {
      const contender = contenderNamed(name);
      const setting = { ...defaultsOf(spaceOf(preset, contender)), ...preset.fixed?.[name] };
      await train(t, task, contender, setting, context(preset.kronecker));
    }
    await task.close?.();
  });

void test('a setting or a shared option that the optimizer does not know is an error that names it', async t => {
  const task = await openSmall(PRESETS[0]!);
  for (const { name, make, family } of CONTENDERS) {
    t.throws(() => make(task.model(0), { lrr: 1 }, context()), /there is no option 'lrr'/, name);
    const shared = () => make(task.model(0), {}, context({ refreshEveri: 3 })).detach?.();
    if (family === 'kronecker' || name === 'k-bfgs') t.throws(shared, /there is no option 'refreshEveri'/, name);
    else t.doesNotThrow(shared, name);
  }
  const adamw = contenderNamed('adamw');
  t.throws(() => adamw.make(task.model(0), { beta1: 0.9 }, context()), /expected beta1 and beta2, got beta1 alone/);
  const kfac = contenderNamed('kfac');
  t.throws(
    () => kfac.make(task.model(0), { rest: 'lion' }, context()),
    /expected rest to be 'adam' or 'sgd', got 'lion'/,
  );
});

void test('the rate of a trainer moves with what trains the rest of the parameters', async t => {
  const task = await openSmall(PRESETS.find(({ name }) => name === 'chars-gpt')!);
  for (const name of ['steve', 'kfac', 'ekfac']) {
    const trainer = contenderNamed(name).make(task.model(0), { lr: 0.01 }, context());
    const rate = () => trainer.stateDict()['rest.lr']!.item();
    t.equal(rate(), 0.01, name);
    trainer.lr = 0.005;
    t.equal(rate(), 0.005, name);
    trainer.detach?.();
  }
});
