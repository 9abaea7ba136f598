/** A trial on a device that is read with await is the trial on the CPU, also where it diverges. */

import assert from 'node:assert/strict';
import type { Tensor } from '@otimes/core';
import { type Contender, type OpenTask, runTrial, type Trainer } from 'otimes-experiments';
import t from 'tap';
import { defaultsOf } from '../experiments/src/search/settings.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { CONTENDERS, TASKS, TINY } from './helpers/tiny-experiments.ts';

laterDevice();
const cpu = await TASKS[0]!.open({ data: null, device: 'cpu', workers: 0, options: {} });
const [sgd, , steve] = CONTENDERS as [Contender, Contender, Contender];

/** The same weights and batches there; evaluated on the CPU by a twin of the model. */
const later: OpenTask = {
  samples: cpu.samples,
  model: seed => cpu.model(seed).to('later'),
  batches: seed => cpu.batches(seed),
  loss: (model, [x, y]: [Tensor, Tensor]) => cpu.loss(model, [x.to('later'), y.to('later')]),
  async evaluate(model, split) {
    const twin = cpu.model(0);
    const state = Object.entries(model.stateDict()).map(async ([name, x]) => [name, await x.cpu()] as const);
    twin.loadStateDict(Object.fromEntries(await Promise.all(state)));
    return cpu.evaluate(twin, split);
  },
};

const trial = (task: OpenTask, contender: Contender, setting = defaultsOf(contender.space)) =>
  runTrial({
    ...{ experiment: { ...TINY, epochs: 2 }, metric: TASKS[0]!.metric, task, contender },
    trial: { id: 'x', stage: 'final', contender: contender.name, setting, schedule: 'cosine', seed: 0 },
  });

// Not Adam: biases before batch norm have rounding errors for gradients, which it takes for large ones.
for (const contender of [sgd, steve])
  law(t, `${contender.name}: steps, losses and evaluations are those of the CPU up to rounding`, async () => {
    const [there, here] = [await trial(later, contender), await trial(cpu, contender)];
    assert.deepEqual([there.outcome, there.steps], ['budget', here.steps]);
    assert.deepEqual(
      there.checks.map(({ step }) => step),
      here.checks.map(({ step }) => step),
    );
    for (const [i, { trainLoss, validation }] of there.checks.entries()) {
      assert.ok(Math.abs(trainLoss - here.checks[i]!.trainLoss) < 1e-3, `${i}: ${trainLoss}`);
      assert.ok(Math.abs(validation.loss - here.checks[i]!.validation.loss) < 1e-3, `${i}: ${validation.loss}`);
    }
  });

law(t, 'a loss that is not finite is an outcome there too, told some steps late at most', async () => {
  const { outcome, reason, checks } = await trial(later, sgd, { lr: 1e30, momentum: 0 });
  assert.equal(outcome, 'diverged');
  assert.match(reason!, /^step \d: the loss is (NaN|Infinity)$/);
  assert.equal(checks.length, 1);
});

law(t, 'what an optimizer refuses there is told by a read, and is an outcome', async () => {
  const wild: Contender = {
    ...steve,
    make: (...args): Trainer => {
      const inner = steve.make(...args);
      let steps = 0;
      return {
        ...inner,
        step: closure =>
          inner.step(() => {
            const loss = closure();
            // A gradient that is not finite behind a loss that is.
            if (++steps === 3) for (const p of args[0].parameters()) p.grad = p.grad!.mul(Number.NaN);
            return loss;
          }),
      };
    },
  };
  const { outcome, reason } = await trial(later, wild);
  assert.equal(outcome, 'diverged');
  assert.match(reason!, /^(step|until step) \d+: .*(finite|NaN)/);
});
