/** One trial: how it ends, what it measures, and that it goes on from a checkpoint to the same bits. */

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { defaultGenerator, zeros } from '@otimes/core';
import { save } from '@otimes/core/node';
import {
  type Contender,
  type OpenTask,
  runTrial,
  type Trainer,
  type TrialOptions,
  type TrialRecord,
} from 'otimes-experiments';
import t from 'tap';
import { CONTENDERS as ALL } from '../experiments/src/contenders/index.ts';
import { defaultsOf } from '../experiments/src/search/settings.ts';
import { law } from './helpers/law.ts';
import { CONTENDERS, TASKS, TINY } from './helpers/tiny-experiments.ts';

const [{ metric }] = TASKS as [(typeof TASKS)[0]];
const open = () => TASKS[0]!.open({ data: null, device: 'cpu', workers: 0, options: {} });
const task = await open();
const [sgd, adam, steve, refuser] = CONTENDERS as [Contender, Contender, Contender, Contender];

/** Seed 0 of a contender with its defaults, in the final stage unless it says otherwise. */
const options = (
  contender: Contender,
  o: Partial<TrialOptions> = {},
  trial: Partial<TrialOptions['trial']> = {},
): TrialOptions => ({
  ...{ experiment: TINY, metric, task, contender },
  trial: {
    ...{ id: 'trial', stage: 'final', contender: contender.name, setting: defaultsOf(contender.space) },
    ...{ schedule: 'constant', seed: 0, ...trial },
  },
  ...o,
});

/** All of a record but what the clock and the memory say. */
function timeless({ checks, phases: _p, inside: _i, peakMemory: _m, resumed: _r, ...rest }: TrialRecord) {
  return { ...rest, checks: checks.map(({ cpuSeconds: _c, seconds: _s, ...check }) => check) };
}

/** A contender whose trainer is changed. */
const changed = (contender: Contender, change: (trainer: Trainer) => Trainer): Contender => ({
  ...contender,
  make: (...args) => change(contender.make(...args)),
});
/** A task whose parts are changed. */
const taskWith = (change: Partial<OpenTask>): OpenTask => ({
  samples: task.samples,
  model: seed => task.model(seed),
  batches: seed => task.batches(seed),
  loss: (model, batch) => task.loss(model, batch),
  evaluate: (model, split) => task.evaluate(model, split),
  ...change,
});

/** The same loss for the same weights, as L-BFGS wants it. */
const steady = taskWith({
  loss(model, batch) {
    model.eval();
    const loss = task.loss(model, batch);
    model.train();
    return loss;
  },
});

for (const contender of [...CONTENDERS.slice(0, 3), ...ALL])
  for (const schedule of contender === adam ? (['constant', 'cosine', 'linear'] as const) : (['cosine'] as const))
    law(
      t,
      `${contender.name}, ${schedule}: what is stopped and goes on ends with the same curve and weights, bit for bit`,
      async t => {
        const folder = t.testdir();
        const at = (name: string) => ({
          ...{ checkpoint: join(folder, `${name}.safetensors`), weights: join(folder, `${name}.weights`) },
          record: join(folder, `${name}.json`),
        });
        const [whole, broken] = [at('whole'), at('broken')];
        const own = contender.name === 'lbfgs' ? { task: steady } : {};
        const expected = await runTrial(options(contender, { ...whole, ...own }, { schedule }));
        assert.equal(expected.outcome, 'budget');
        const run = (fails: number) => {
          let writes = 0;
          const beforeWrite = () => {
            if (++writes === fails) throw new Error('stopped');
          };
          return runTrial(options(contender, { ...broken, ...own, beforeWrite }, { schedule }));
        };
        // In the third epoch, then in the last of what is left.
        await assert.rejects(run(3), /stopped/);
        assert.ok(existsSync(broken.checkpoint) && !existsSync(broken.record));
        await assert.rejects(run(2), /stopped/);
        const record = await run(Infinity);
        assert.equal(record.resumed, 2);
        assert.deepEqual(timeless(record), timeless(expected));
        assert.ok(readFileSync(broken.weights).equals(readFileSync(whole.weights)), 'weights');
        assert.ok(!existsSync(broken.checkpoint) && !existsSync(whole.checkpoint), 'checkpoints are gone');
        assert.deepEqual(JSON.parse(readFileSync(broken.record, 'utf8')), record);
        // Times go on as well: what was lost is not counted twice.
        const times = record.checks.map(({ seconds }) => seconds);
        assert.ok(times.every((time, i) => i === 0 || time >= times[i - 1]!));
      },
    );

law(t, 'a run depends on its seed, and on nothing that ran before in the process', async () => {
  const first = await runTrial(options(steve));
  const other = await runTrial(options(steve, {}, { seed: 1 }));
  await runTrial(options(sgd));
  assert.deepEqual(timeless(await runTrial(options(steve))), timeless(first));
  assert.notDeepEqual(timeless(other).checks, timeless(first).checks);
});

law(
  t,
  'a final run uses the whole budget, checks evenly and at step 0, and sees the test split once, at its end',
  async () => {
    const splits: string[] = [];
    const told = taskWith({
      evaluate: (model, split) => {
        splits.push(split);
        return task.evaluate(model, split);
      },
    });
    const record = await runTrial(options(sgd, { task: told }));
    assert.deepEqual(
      record.checks.map(({ step }) => step),
      Array.from({ length: 13 }, (_, i) => 5 * i),
    );
    assert.deepEqual(
      record.checks.map(({ epoch }) => epoch),
      Array.from({ length: 13 }, (_, i) => i / 2),
    );
    assert.deepEqual([record.outcome, record.steps, record.reason], ['budget', 60, null]);
    assert.deepEqual(splits, [...Array.from({ length: 13 }, () => 'validation'), 'test']);
    assert.deepEqual(Object.keys(record.phases), ['data', 'forward', 'backward', 'step', 'evaluate']);
    assert.ok(record.peakMemory > 1e7 && record.checks.at(-1)!.cpuSeconds > 0);
    const [start, next] = record.checks;
    assert.ok(start!.trainLoss > 0 && Number.isFinite(next!.trainLoss));
  },
);

law(t, 'a tuning trial ends at the target, and does not see the test split', async () => {
  const experiment = { ...TINY, target: 0.75 };
  const record = await runTrial(options(sgd, { experiment }, { stage: 'tuning' }));
  assert.equal(record.outcome, 'target');
  assert.equal(record.reached, record.checks.length - 1);
  assert.ok(record.checks.at(-1)!.validation.metric >= 0.75 && record.steps < 60);
  assert.equal(record.test, null);
  const final = await runTrial(options(sgd, { experiment }));
  assert.deepEqual([final.reached, final.steps], [record.reached, 60]);
  assert.deepEqual(timeless(final).checks.slice(0, record.checks.length), timeless(record).checks);
});

law(t, 'a tuning trial is given up at the first check after the limit, a final one never', async () => {
  const experiment = { ...TINY, target: 2 };
  const tuned = await runTrial(options(sgd, { experiment, giveUpAfter: 12 }, { stage: 'tuning' }));
  assert.deepEqual([tuned.outcome, tuned.steps, tuned.reached], ['given up', 15, null]);
  assert.equal((await runTrial(options(sgd, { experiment, giveUpAfter: 12 }))).outcome, 'budget');
});

law(
  t,
  'divergence is an outcome: an optimizer that refuses its step, a loss, or an evaluation that is not finite',
  async () => {
    const refused = await runTrial(options(refuser));
    assert.deepEqual([refused.outcome, refused.reason], ['diverged', 'step 3: Refuser: a gradient is not finite']);
    assert.deepEqual([refused.steps, refused.test, refused.checks.length], [2, null, 1]);
    const wild = await runTrial(options(sgd, {}, { setting: { lr: 1e30, momentum: 0 } }));
    assert.equal(wild.outcome, 'diverged');
    assert.match(wild.reason!, /^step 2: the loss is (NaN|Infinity)$/);
    const blind = taskWith({ evaluate: async () => ({ loss: Number.NaN, metric: 0 }) });
    const record = await runTrial(options(sgd, { task: blind }));
    assert.deepEqual(
      [record.outcome, record.reason],
      ['diverged', 'after step 0: the loss on the validation split is NaN'],
    );
    assert.deepEqual(record.checks, []);
  },
);

law(t, 'what is no divergence is an error: of the task, and of a trainer that does not call its closure', async () => {
  const broken = taskWith({
    loss: () => {
      throw new RangeError('labels are out of range');
    },
  });
  await assert.rejects(runTrial(options(sgd, { task: broken })), /^RangeError: labels are out of range$/);
  const lazy = changed(sgd, trainer => ({ ...trainer, step: () => {} }));
  await assert.rejects(runTrial(options(lazy)), /expected step\(\) of the trainer to call its closure/);
  const texts = taskWith({ evaluate: async () => ({ loss: '1', metric: '0.5' }) as never });
  await assert.rejects(
    runTrial(options(sgd, { task: texts })),
    /evaluate of the task: expected numbers .*got \['1', '0\.5'\]/,
  );
  const nothing = taskWith({ evaluate: async () => undefined as never });
  await assert.rejects(runTrial(options(sgd, { task: nothing })), /evaluate of the task: expected numbers/);
  const three = taskWith({ loss: () => 3 as never });
  await assert.rejects(runTrial(options(sgd, { task: three })), /loss of the task: expected a tensor, got 3/);
  const none: Contender = { ...sgd, make: () => undefined as never };
  await assert.rejects(
    runTrial(options(none)),
    /contender 'tiny-sgd': expected make\(\) to return a trainer, got undefined/,
  );
});

law(t, 'epochs that are longer or shorter than the task says are errors', async () => {
  const epochs = (stepsPerEpoch: number) =>
    taskWith({
      batches: seed => {
        const inner = task.batches(seed);
        return {
          stepsPerEpoch,
          epoch: () => inner.epoch(),
          stateDict: () => inner.stateDict(),
          loadStateDict: s => inner.loadStateDict(s),
        };
      },
    });
  await assert.rejects(runTrial(options(sgd, { task: epochs(11) })), /expected an epoch of 11 batches, got 10/);
  await assert.rejects(runTrial(options(sgd, { task: epochs(9) })), /expected an epoch of 9 batches, got more/);
});

law(t, 'the rate follows its schedule over the budget: constant, half a cosine, a line', async () => {
  const rates = async (schedule: 'constant' | 'cosine' | 'linear') => {
    const list: number[] = [];
    const told = changed(sgd, trainer => ({
      ...trainer,
      get lr() {
        return trainer.lr;
      },
      set lr(lr) {
        trainer.lr = lr;
      },
      step: closure => {
        list.push(trainer.lr);
        return trainer.step(closure);
      },
    }));
    await runTrial(options(told, {}, { schedule }));
    return list;
  };
  const near = (list: number[], rate: (t: number) => number) => {
    assert.equal(list.length, 60);
    for (const [t, lr] of list.entries()) assert.ok(Math.abs(lr - 0.1 * rate(t)) < 1e-12, `${t}: ${lr}`);
  };
  near(await rates('constant'), () => 1);
  near(await rates('cosine'), t => (1 + Math.cos((Math.PI * t) / 60)) / 2);
  near(await rates('linear'), t => 1 - t / 60);
});

law(t, 'evaluations leave no trace: more of them are the same training', async () => {
  const drawing = taskWith({
    evaluate: (model, split) => {
      defaultGenerator().uniform();
      return task.evaluate(model, split);
    },
  });
  const last = async (checksPerEpoch: number) => {
    const record = await runTrial(options(steve, { experiment: { ...TINY, checksPerEpoch }, task: drawing }));
    return record.checks.at(-1)!.validation;
  };
  assert.deepEqual(await last(5), await last(1));
});

law(t, 'a trainer shows its averaged weights to evaluations, and trains on without them', async () => {
  const calls: string[] = [];
  const averaged = changed(sgd, trainer => ({
    ...trainer,
    eval: () => void calls.push('eval'),
    train: () => void calls.push('train'),
    step: closure => {
      assert.notEqual(calls.at(-1), 'eval');
      return trainer.step(closure);
    },
  }));
  const seeing = taskWith({
    evaluate: (model, split) => {
      assert.equal(calls.at(-1), 'eval');
      return task.evaluate(model, split);
    },
  });
  await runTrial(options(averaged, { task: seeing }));
  assert.equal(calls.filter(call => call === 'eval').length, 14);
});

law(t, "a Kronecker optimizer's record has its times, and with seed 0 its spectra, which ascend", async () => {
  const record = await runTrial(options(steve));
  assert.ok(record.inside!.refresh! > 0);
  assert.deepEqual(
    record.spectra!.map(({ path, A, G }) => [path, A.length, G.length]),
    [
      ['0', 3, 16],
      ['4', 17, 2],
    ],
  );
  for (const { A } of record.spectra!)
    assert.deepEqual(
      A,
      [...A].sort((a, b) => a - b),
    );
  assert.equal((await runTrial(options(steve, {}, { seed: 1 }))).spectra, null);
  assert.equal((await runTrial(options(sgd))).inside, null);
});

law(t, 'a checkpoint of another trial, or what is none, is refused by name', async t => {
  const folder = t.testdir();
  const checkpoint = join(folder, 'a.safetensors');
  const beforeWrite = () => {
    if (existsSync(checkpoint)) throw new Error('stopped');
  };
  await assert.rejects(runTrial(options(sgd, { checkpoint, beforeWrite })), /stopped/);
  await assert.rejects(
    runTrial(options(sgd, { checkpoint }, { seed: 1 })),
    /a\.safetensors: expected a checkpoint of trial as it is planned now, got one of another trial/,
  );
  save(checkpoint, { x: zeros([2]) });
  await assert.rejects(
    runTrial(options(sgd, { checkpoint })),
    /FormatError: .*a\.safetensors: checkpoint: .*no checkpoint.*\. Without that file the trial begins anew/,
  );
});

law(t, 'wrong calls are told what is expected', async () => {
  const call = (change: object) => runTrial({ ...options(sgd), ...change } as TrialOptions);
  await assert.rejects(
    call({ task: TASKS[0] }),
    /^TypeError: runTrial: expected task to be an open task: await task\.open\(…\), got/,
  );
  await assert.rejects(call({ checkpont: 'x' }), /runTrial: there is no option 'checkpont'/);
  await assert.rejects(
    call({ trial: undefined }),
    /runTrial: expected trial to be a trial, one of tuningPlan or finalPlan, got undefined/,
  );
  await assert.rejects(runTrial(null as unknown as TrialOptions), /runTrial: expected options such as/);
});
