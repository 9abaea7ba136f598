// Where bases are computed by default: within the step, or in the background where that is long.

import { Generator, randint, randn, type Tensor } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { crossEntropy, mlp } from '@otimes/nn';
import { KFAC, type KroneckerOptions, STEVE } from '@otimes/optim';
import t from 'tap';
import { host as browser } from '../kernels/src/browser.ts';
import { host as node } from '../kernels/src/node.ts';
import { withBackground } from './helpers/background.ts';
import { law } from './helpers/law.ts';

/** Factors of 513 and 512: Σ n³ = 4e8. */
const LARGE = [512, 512, 3];
const SMALL = [384, 384, 3];

/** A model, and batches that are a function of the step. */
function training(o: KroneckerOptions, sizes = LARGE) {
  const model = mlp(sizes, { rng: new Generator(1) });
  const optimizer = new STEVE(model, { refreshEvery: 4, ...o });
  const to = (steps: number) => {
    while (optimizer.steps < steps) {
      const rng = new Generator(optimizer.steps);
      optimizer.zeroGrad();
      crossEntropy(model.call(randn([8, sizes[0]!], { rng })) as Tensor, randint(0, 3, [8], { rng })).backward();
      optimizer.step();
    }
  };
  const bits = () =>
    Object.entries({ ...model.stateDict(), ...optimizer.stateDict() }).map(([key, x]) => [
      key,
      Buffer.from(x.dataSync().buffer.slice(0)).toString('base64'),
    ]);
  return { model, optimizer, to, bits };
}

law(t, 'a refresh that takes longer than most steps is one in the background, after half of the period', async t => {
  await withBackground({}, warnings => {
    const run = training({});
    t.equal(run.optimizer.refresh, 'background');
    t.equal(run.optimizer.refreshLag, 2);
    const lagged = training({ refresh: 'background', refreshLag: 2 });
    for (const one of [run, lagged]) one.to(5);
    const state = [run.model.stateDict(), run.optimizer.stateDict()] as const;
    for (const one of [run, lagged]) one.to(7);
    t.strictSame(run.bits(), lagged.bits());
    const again = training({});
    again.model.loadStateDict(state[0]);
    again.optimizer.loadStateDict(state[1]);
    again.to(7);
    t.strictSame(again.bits(), run.bits(), 'and goes on from a file, a decomposition under way included');
    t.match(run.optimizer.report().refreshes, { mode: 'background', done: 4, failed: 0 });
    t.strictSame(warnings, []);
  });
});

law(
  t,
  'where there are no workers the default has the same bits, and a warning says why steps take longer',
  async t => {
    const bits: unknown[] = [];
    for (const host of [browser, node])
      await withBackground({ host }, warnings => {
        const run = training({});
        run.to(7);
        bits.push(run.bits());
        t.equal(run.optimizer.refreshLag, 2);
        if (host === node) t.strictSame(warnings, []);
        else {
          t.equal(warnings.length, 1);
          t.match(warnings[0], /decompositions do not run in the background .* cross-origin isolated/);
        }
      });
    t.strictSame(bits[0], bits[1]);
  },
);

law(t, 'the lag of the default follows the period', t => {
  const { optimizer } = training({});
  for (const [every, lag] of [
    [7, 3],
    [2, 1],
    [1, 1],
    [50, 25],
  ] as const) {
    optimizer.refreshEvery = every;
    t.equal(optimizer.refreshLag, lag);
  }
  const fixed = training({ refresh: 'background', refreshLag: 3 }).optimizer;
  t.throws(
    () => {
      fixed.refreshEvery = 2;
    },
    { message: 'STEVE: expected refreshLag ≤ refreshEvery, got 3 > 2' },
  );
});

law(t, 'bases are computed within the step where that is short, and where that must not be elsewhere', async t => {
  const modeOf = (o: KroneckerOptions, sizes = LARGE) => {
    const { optimizer } = training(o, sizes);
    const { refresh, refreshLag } = optimizer;
    optimizer.detach();
    return `${refresh}, ${refreshLag}`;
  };
  t.equal(modeOf({}, SMALL), 'sync, null');
  t.equal(modeOf({ refresh: 'sync' }), 'sync, null');
  t.equal(modeOf({ refreshEvery: 1 }), 'sync, null');
  t.equal(modeOf({ eigensolver: a => eigh(a) }), 'sync, null');
  t.equal(modeOf({ maxFactorDim: 400 }), 'sync, null');
  t.throws(() => new KFAC(mlp([2, 1]), { refreshLag: 2 }), { message: "KFAC: refreshLag needs refresh: 'background'" });
});
