// Tasks of otimes-experiments: the same for all contenders, disjoint splits, evaluations that leave no trace.
import { join } from 'node:path';
import { noGrad, type StateDict } from '@otimes/core';
import * as fc from 'fast-check';
import { test } from 'tap';
import type { OpenTask } from '../experiments/src/experiment.ts';
import { PRESETS } from '../experiments/src/presets/index.ts';
import { TASKS } from '../experiments/src/tasks/index.ts';
import { stratified } from '../experiments/src/tasks/split.ts';
import { untagged } from '../experiments/src/tasks/text.ts';
import { writeSyntheticImageFolder } from './helpers/image-sets.ts';
import { bitsOf, dataFor, openSmall } from './helpers/presets.ts';

/** Of the first so many batches from a state on. */
async function take(task: OpenTask, seed: number, count: number, state?: StateDict): Promise<string[]> {
  const batches = task.batches(seed);
  if (state !== undefined) batches.loadStateDict(state);
  const taken: string[] = [];
  while (taken.length < count)
    for await (const batch of batches.epoch()) {
      taken.push(bitsOf({ ...batch }));
      if (taken.length === count) break;
    }
  return taken;
}

void test('the parts of a split are disjoint, as long as asked for, and have the classes in the shares of the whole', async t => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 20, maxLength: 120 }),
      fc.double({ min: 0.1, max: 0.6, noNaN: true }),
      fc.integer({ min: 0, max: 99 }),
      (labels, share, seed) => {
        const first = Math.floor(share * labels.length);
        const second = Math.floor((labels.length - first) / 2);
        const parts = stratified('this', labels, { first, second }, seed);
        const all = parts.flatMap(part => Array.from(part));
        t.equal(new Set(all).size, first + second);
        t.ok(all.every(i => Number.isInteger(i) && i >= 0 && i < labels.length));
        for (const part of parts)
          for (const label of new Set(labels)) {
            const expected = (part.length * labels.filter(l => l === label).length) / labels.length;
            const got = Array.from(part).filter(i => labels[i] === label).length;
            // Rounding of the class at both ends, and of the others at both ends.
            t.ok(Math.abs(got - expected) <= 4, `${got} of ${expected}`);
          }
      },
    ),
    { seed: 14, numRuns: 25 },
  );
  t.throws(
    () => stratified('this', [0, 1], { first: 2, second: 1 }, 0),
    /this: expected 3 samples or more, 2 for first and 1 for second, got 2; taskOptions first and second/,
  );
});

void test('the first part of a split does not depend on how long the others are', async t => {
  const labels = Array.from({ length: 90 }, (_, i) => i % 3);
  t.strictSame(
    stratified('this', labels, { first: 20, second: 10 }, 5)[0],
    stratified('this', labels, { first: 20, second: 60 }, 5)[0],
  );
});

void test('tags are taken off words, and punctuation stands where it does in print', async t => {
  const tagged = "\n\tHe/pps was/bedz ``/`` well/rb ''/'' rid/jj ,/, if/cs and/or/cc so/rb ./.\n\n(/( yes/rb )/) !/.\n";
  t.equal(untagged(tagged, 'x'), 'He was "well" rid, if and/or so.\n(yes)!\n');
  t.throws(() => untagged('He/pps was\n', 'cn01'), /expected WORD\/TAG in cn01, line 1, got 'was'/);
});

// The fair twins have the tasks of the literal ones.
for (const preset of PRESETS.filter(({ name }) => !name.endsWith('-fair')))
  void test(preset.name, async t => {
    const task = await openSmall(preset);

    await t.test('the same seed gives the same weights and the same batches, another seed others', async t => {
      t.equal(bitsOf(task.model(3).stateDict()), bitsOf(task.model(3).stateDict()));
      t.not(bitsOf(task.model(3).stateDict()), bitsOf(task.model(4).stateDict()));
      const batches = await take(task, 3, 3);
      t.strictSame(await take(task, 3, 3), batches);
      t.notSame(await take(task, 4, 3), batches);
    });

    await t.test('batches go on where their state was taken, within an epoch and at its end', async t => {
      const batches = task.batches(1);
      const { stepsPerEpoch } = batches;
      const all = await take(task, 1, 2 * stepsPerEpoch);
      let seen = 0;
      for await (const _ of batches.epoch()) {
        seen++;
        if (seen !== 1 && seen !== stepsPerEpoch) continue;
        t.strictSame(await take(task, 1, 2, batches.stateDict()), all.slice(seen, seen + 2), `after ${seen} steps`);
      }
      t.equal(seen, stepsPerEpoch);
    });

    await t.test('an evaluation leaves no trace in the model', async t => {
      const model = task.model(0);
      const before = bitsOf(model.stateDict());
      const first = [...model.namedModules().values()].at(-1)!;
      first.eval();
      const once = await task.evaluate(model, 'validation');
      t.equal(bitsOf(model.stateDict()), before);
      t.equal(model.training, true);
      t.equal(first.training, false, 'a part that was in eval mode');
      t.strictSame(await task.evaluate(model, 'validation'), once, 'the same again');
      t.notSame(await task.evaluate(model, 'test'), once, 'another split, another number');
      t.ok(Number.isFinite(once.loss) && Number.isFinite(once.metric));
      t.ok(
        model.parameters().every(p => p.grad === null),
        'without gradients',
      );
    });

    await t.test('the loss of a batch is a scalar that all parameters have a part in', async t => {
      const model = task.model(0);
      for await (const batch of task.batches(0).epoch()) {
        const loss = task.loss(model, batch);
        loss.backward();
        t.equal(loss.size, 1);
        break;
      }
      for (const [name, p] of model.namedParameters())
        t.ok(p.grad !== null && noGrad(() => p.grad!.abs().sum().item()) >= 0, name);
    });
    await task.close?.();
  });

void test('augmented pictures are the same with worker threads as without, and those that are measured are not augmented', async t => {
  const preset = PRESETS.find(({ name }) => name === 'paper/cifar10-resnet50')!;
  const task = TASKS.find(({ name }) => name === 'cifar10')!;
  const data = await dataFor('cifar10');
  const options = { network: 'mlp', hidden: [4], augment: true, train: 150, validation: 40, test: 60, batchSize: 50 };
  const [here, there] = await Promise.all([0, 1].map(workers => task.open({ data, device: 'cpu', workers, options })));
  t.strictSame(await take(there!, 0, 4), await take(here!, 0, 4));
  const model = here!.model(0);
  t.strictSame(await there!.evaluate(model, 'test'), await here!.evaluate(model, 'test'));
  await Promise.all([here!.close?.(), there!.close?.()]);
  const plain = await openSmall(preset, { augment: false });
  t.not((await take(plain, 0, 1))[0], (await take(await openSmall(preset), 0, 1))[0]);
});

void test('a task that needs a folder says so, and what must be in it', async t => {
  for (const task of TASKS.filter(({ data }) => data !== null && !data.includes('by default')))
    await t.rejects(task.open({ data: null, device: 'cpu', workers: 0, options: {} }), {
      message: `task '${task.name}': needs its data: --data FOLDER with ${task.data}`,
    });
  const cifar10 = TASKS.find(({ name }) => name === 'cifar10')!;
  await t.rejects(
    cifar10.open({ data: await dataFor('tiny-imagenet'), device: 'cpu', workers: 0, options: {} }),
    /data_batch_1\.bin/,
  );
});

void test('folders of pictures whose classes differ, or whose size is another, are refused: labels and crops would be wrong', async t => {
  const cifar10 = TASKS.find(({ name }) => name === 'cifar10')!;
  const classes = Array.from({ length: 10 }, (_, i) => `class${i}`);
  const open = async (name: string, size: number, ofTest: readonly string[], options = {}) => {
    const data = join(t.testdirName, name);
    await writeSyntheticImageFolder(join(data, 'train'), { classes, size, format: 'png', train: 4 });
    await writeSyntheticImageFolder(join(data, 'test'), { classes: ofTest, size, format: 'png', train: 2 });
    const counts = { train: 20, validation: 10, test: 10, batchSize: 10, network: 'cnn', channels: [4, 4] };
    return cifar10.open({ data, device: 'cpu', workers: 0, options: { ...counts, ...options } });
  };
  t.testdir();
  const other = ['aaa', ...classes.slice(0, 9)];
  await t.rejects(
    open('renamed', 32, other),
    /expected the same classes .*renamed, got class0, .* in the place of aaa, /,
  );
  await t.rejects(open('missing', 32, classes.slice(1)), /expected the same classes .* in the place of class1, /);
  await t.rejects(
    open('large', 64, classes, { augment: true }),
    /expected pictures of 32×32 pixels to augment, got one of 64×64/,
  );
  for (const augment of [true, false]) await (await open(`right-${augment}`, 32, classes, { augment })).close?.();
  t.pass('what is right is opened');
});

void test('options of a task are refused by name where it does not know them, or their values', async t => {
  for (const { task, taskOptions, short } of PRESETS) {
    // In this order: the first that is unknown is named.
    const options = { ...taskOptions, ...short, hiden: 3 };
    const open = TASKS.find(({ name }) => name === task)!.open({ data: null, device: 'cpu', workers: 0, options });
    await t.rejects(open, /there is no option 'hiden'/);
  }
  for (const task of TASKS) {
    const open = (options: Record<string, number | string>) =>
      task.open({ data: null, device: 'cpu', workers: 0, options });
    await t.rejects(open({ hiden: 3 }), new RegExp(`task '${task.name}': there is no option 'hiden', only `));
    const [name] = Object.keys(PRESETS.find(p => p.task === task.name)?.taskOptions ?? {});
    if (name !== undefined) await t.rejects(open({ [name]: -1 }), new RegExp(`expected ${name} to be `));
  }
  const digits = TASKS.find(({ name }) => name === 'digits')!;
  const open = (options: Record<string, number>) => digits.open({ data: null, device: 'cpu', workers: 0, options });
  await t.rejects(
    open({ train: 9000 }),
    /training files: expected 10000 samples or more, 1000 for validation and 9000 for train, got 8000/,
  );
  await t.rejects(open({ size: 10 }), /expected a size of 28, 14 or 7 pixels, got 10/);
  await t.rejects(open({ train: 100 }), /expected a batchSize of at most 100 samples, got 128/);
});
