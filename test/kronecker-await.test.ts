// Steps of a Kronecker optimizer that wait for values from the device.

import assert from 'node:assert/strict';
import { full, Generator } from '@otimes/core';
import { crossEntropy, type Module, type Parameter } from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, type KroneckerPreconditioner, STEVE } from '@otimes/optim';
import t from 'tap';
import { instantReadsIn, laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { DeviceRun, deviceTasks } from './suites/device-runs.ts';

const later = laterDevice().device;
const kinds: Record<string, (m: Module, o: KroneckerOptions) => KroneckerPreconditioner> = {
  KFAC: (m, o) => new KFAC(m, o),
  EKFAC: (m, o) => new EKFAC(m, o),
  STEVE: (m, o) => new STEVE(m, o),
};

/** A run after `steps` steps, with the gradients of the next one. */
async function ready(make: (m: Module) => KroneckerPreconditioner, steps: number, device = later) {
  const run = new DeviceRun(device, deviceTasks.mlp, make);
  await run.steps(steps);
  run.optimizer.zeroGrad();
  backward(run);
  return run;
}

function backward(run: DeviceRun): void {
  const { x, y } = run.batches[run.losses.length % run.batches.length]!;
  crossEntropy(run.model.call(x), y).backward();
}

for (const [name, make] of Object.entries(kinds)) {
  t.test(
    `${name}: step() returns a promise where it decomposes factors that are read with await, and nowhere else`,
    async t => {
      const run = new DeviceRun(later, deviceTasks.mlp, m => make(m, { refreshEvery: 3 }));
      const promised: boolean[] = [];
      for (let i = 0; i < 7; i++) {
        run.optimizer.zeroGrad();
        backward(run);
        const step = run.optimizer.step();
        promised.push(step instanceof Promise);
        await step;
      }
      t.strictSame(promised, [true, false, false, true, false, false, true]);
      t.equal(run.optimizer.steps, 7);
      for (const device of ['cpu', 'reference']) {
        const { optimizer } = await ready(m => make(m, { refreshEvery: 3 }), 3, device);
        t.equal(optimizer.step(), undefined, device);
      }
    },
  );

  t.test(
    `${name}: while the promise of a step is open, nothing else of the optimizer runs, and then all does`,
    async t => {
      const reads = await instantReadsIn(async () => {
        const run = await ready(m => make(m, { refreshEvery: 2 }), 2);
        const twin = await ready(m => make(m, { refreshEvery: 2 }), 2);
        const { optimizer } = run;
        const state = { ...optimizer.stateDict() };
        const { x } = run.batches[0]!;
        const open = optimizer.step();
        for (const [what, act] of Object.entries({
          'backward\\(\\)': () => run.model.call(x).square().mean().backward(),
          'step\\(\\)': () => optimizer.step(),
          'zeroGrad\\(\\)': () => optimizer.zeroGrad(),
          'loadStateDict\\(\\)': () => optimizer.loadStateDict(state),
          'detach\\(\\)': () => optimizer.detach(),
          'observe\\(\\)': () => optimizer.observe(),
          'setting lr': () => {
            optimizer.lr = 3;
          },
          'setting weightDecay': () => {
            optimizer.weightDecay = 3;
          },
          'setting factorEvery': () => {
            optimizer.factorEvery = 3;
          },
        }))
          t.throws(act, {
            name: 'Error',
            message: new RegExp(`^${name}: ${what} while a step waits .*await step\\(\\)`),
          });
        assert.ok(open instanceof Promise);
        await open;
        await twin.optimizer.step();
        t.strictSame(await run.values(), await twin.values(), 'the step is what it would have been');
        for (const one of [run, twin]) await one.steps(3);
        t.strictSame(await run.values(), await twin.values(), 'and those after it');
        optimizer.detach();
      });
      t.equal(reads, 0);
    },
  );

  t.test(`${name}: a step that waits is rejected where a check failed, and has changed nothing`, async t => {
    const spoilt = { 'a gradient of a block': 0, 'a gradient of the rest': 2 };
    for (const [what, at] of Object.entries(spoilt)) {
      const run = await ready(m => make(m, { refreshEvery: 2 }), 2);
      const { optimizer, model } = run;
      const before = await run.values();
      const g = model.parameters()[at]!.grad!;
      g.copy_(full(g.shape, Number.NaN, { device: later }));
      await assert.rejects(
        async () => optimizer.step(),
        /gradient of .* has NaN or infinite elements; no parameter was changed/,
      );
      t.strictSame(await run.values(), before, what);
      t.equal(optimizer.steps, 2);
      await run.steps(3);
      t.ok(run.losses.every(Number.isFinite));
    }
  });
}

/** Ways to change gradients while a step waits, and whose is named. */
const changes: Record<string, readonly [path: string, change: (parameters: Map<string, Parameter>) => void]> = {
  'a gradient of a block is replaced': ['0.weight', all => replaceGrad(all.get('0.weight')!)],
  'a gradient of the rest is replaced': ['2.weight', all => replaceGrad(all.get('2.weight')!)],
  'a gradient is written to': ['0.weight', all => all.get('0.weight')!.grad!.scale_(2)],
  'a gradient becomes null': ['0.weight', all => clearGrad(all.get('0.weight')!)],
  'all gradients become null': ['0.weight', all => [...all.values()].forEach(clearGrad)],
};
const replaceGrad = (p: Parameter) => Object.assign(p, { grad: p.grad!.mul(Infinity) });
const clearGrad = (p: Parameter) => Object.assign(p, { grad: null });

for (const [name, make] of Object.entries(kinds))
  for (const [what, [path, change]] of Object.entries(changes))
    for (const o of [{}, { route: 'resident' }, { momentum: 0.9 }] as KroneckerOptions[]) {
      if ('momentum' in o && name === 'STEVE') continue;
      law(
        t,
        `${name} ${JSON.stringify(o)}: if ${what} while a step waits, it is rejected and has changed nothing`,
        async () => {
          for (const steps of [0, 2]) {
            const run = await ready(m => make(m, { refreshEvery: 2, ...o }), steps);
            const before = await run.values();
            const open = run.optimizer.step();
            change(new Map(run.model.namedParameters()));
            await assert.rejects(async () => open, {
              name: 'Error',
              message:
                `${name}: gradients changed while a step was waiting: await step() before; no parameter was changed. The first of ` +
                `them is that of '${path}'`,
            });
            assert.deepEqual(await run.values(), before);
            assert.equal(run.optimizer.steps, steps);
            await run.steps(3);
            assert.ok(Object.values(await run.values()).every(x => x.every(Number.isFinite)));
          }
        },
      );
    }

law(t, 'gradients may be read while a step waits', async () => {
  const make = (m: Module) => new STEVE(m, { refreshEvery: 2 });
  const [run, twin] = [await ready(make, 2), await ready(make, 2)];
  const open = run.optimizer.step();
  for (const p of run.model.parameters()) await p.grad!.data();
  await open;
  await twin.optimizer.step();
  assert.deepEqual(await run.values(), await twin.values());
});

t.test('with a lag the step that a basis takes over after waits for its factors, and no other one', async t => {
  const make = (m: Module) =>
    new STEVE(m, { refreshEvery: 3, refresh: 'background', refreshLag: 1, rng: new Generator(0) });
  const run = new DeviceRun(later, deviceTasks.mlp, make);
  const promised: boolean[] = [];
  for (let i = 0; i < 7; i++) {
    run.optimizer.zeroGrad();
    backward(run);
    const step = run.optimizer.step();
    promised.push(step instanceof Promise);
    if (step instanceof Promise) assert.throws(() => run.optimizer.zeroGrad(), /await step\(\)/);
    await step;
  }
  // The first basis is made at once. A job that begins with a step takes over at its end, one step after its factors.
  t.strictSame(promised, [true, false, false, true, false, false, true]);
  t.equal((await run.optimizer.readReport()).refreshes.done, 6);
});
