// A step that was rejected while it waited leaves everything as it was: what follows is what it would have been without it.

import assert from 'node:assert/strict';
import { Generator } from '@otimes/core';
import { crossEntropy, type Parameter } from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, STEVE } from '@otimes/optim';
import t from 'tap';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { DeviceRun, deviceTasks } from './suites/device-runs.ts';

const later = laterDevice();
const kinds = { KFAC, EKFAC, STEVE };
type Run = DeviceRun<KFAC | EKFAC | STEVE>;

const variants: readonly KroneckerOptions[] = [
  {},
  { route: 'resident' },
  { maxFactorDim: 4 },
  { stagger: true },
  { refresh: 'background' },
  { lossReduction: 'sum' },
  { fisher: 'ggn', loss: 'crossEntropy' },
  { fisher: 'sampled', loss: 'crossEntropy' },
];

function backward(run: Run): void {
  const { x, y } = run.batches[run.losses.length % run.batches.length]!;
  crossEntropy(run.model.call(x), y).backward();
}

/** A run with the gradients of its next step, which waits for new bases. */
async function ready(kind: keyof typeof kinds, o: KroneckerOptions, steps: number): Promise<Run> {
  const run: Run = new DeviceRun(
    later.device,
    deviceTasks.mlp,
    m => new kinds[kind](m, { refreshEvery: 2, rng: new Generator(0), ...o }),
  );
  await run.steps(steps);
  run.optimizer.zeroGrad();
  backward(run);
  return run;
}

/** Ways to change gradients while a step waits. */
const changes: Record<string, (parameters: readonly Parameter[]) => void> = {
  'a gradient is scaled': ([p]) => p!.grad!.scale_(2),
  'a gradient is replaced': ([p]) => Object.assign(p!, { grad: p!.grad!.mul(3) }),
  'a gradient of the rest is replaced': ([, , p]) => Object.assign(p!, { grad: p!.grad!.mul(3) }),
  'gradients of a block become null': parameters => {
    for (const p of parameters.slice(0, 2)) p.grad = null;
  },
  'all gradients become null': parameters => {
    for (const p of parameters) p.grad = null;
  },
};

/** What a program may do after that, up to the end of a step that is made. */
const sequels: Record<string, (run: Run) => void | Promise<void>> = {
  'the step again': run => run.optimizer.step(),
  'another pass and a step': run => {
    backward(run);
    return run.optimizer.step();
  },
  'zeroGrad, a pass and a step': run => {
    run.optimizer.zeroGrad();
    backward(run);
    return run.optimizer.step();
  },
};

/** Every change with every sequel; of variants each change with one of them. */
function cases(isPlain: boolean): { change: string; sequel: string }[] {
  const names = Object.keys(sequels);
  return Object.keys(changes).flatMap((change, i) =>
    (isPlain ? names : [names[i % names.length]!]).map(sequel => ({ change, sequel })),
  );
}

for (const kind of Object.keys(kinds) as (keyof typeof kinds)[])
  for (const o of variants) {
    if (kind === 'STEVE' && 'momentum' in o) continue;
    // Background refreshes wait for their first bases alone.
    const steps = 'refresh' in o ? 0 : 2;
    law(
      t,
      `${kind} ${JSON.stringify(o)}: after a step that was rejected all goes on as if it had not been`,
      async () => {
        for (const { change, sequel } of cases(Object.keys(o).length === 0)) {
          const [run, twin] = [await ready(kind, o, steps), await ready(kind, o, steps)];
          const open = run.optimizer.step();
          for (const one of [run, twin]) changes[change]!(one.model.parameters());
          await assert.rejects(
            async () => open,
            /gradients changed while a step was waiting: .*; no parameter was changed/,
          );
          for (const one of [run, twin]) {
            await sequels[sequel]!(one);
            await one.steps(1);
          }
          assert.deepEqual(await run.values(), await twin.values(), `${change}, then ${sequel}`);
          for (const one of [run, twin]) one.optimizer.detach();
        }
      },
    );
  }

law(
  t,
  'a step that was rejected keeps the statistics of its pass, however often, and the one that is made drops them',
  async () => {
    for (const kind of Object.keys(kinds) as (keyof typeof kinds)[]) {
      const { optimizer, model } = await ready(kind, {}, 2);
      const state = optimizer.inspect('0');
      const { statistics } = state;
      assert.notEqual(statistics, null);
      for (let i = 0; i < 3; i++) {
        const open = optimizer.step();
        model.parameters()[0]!.grad!.scale_(2);
        await assert.rejects(async () => open, /gradients changed/);
        assert.equal(state.statistics, statistics);
        assert.equal(statistics!.batch, 8);
      }
      await optimizer.step();
      assert.equal(state.statistics, null);
    }
  },
);
