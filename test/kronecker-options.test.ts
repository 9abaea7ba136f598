// Options of single blocks of the Kronecker family, and large factors left out.

import assert from 'node:assert/strict';
import type { Tensor } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { Conv2d, Linear, Sequential, Tanh } from '@otimes/nn';
import {
  type Eigensolver,
  EKFAC,
  KFAC,
  type KFACOptions,
  type KroneckerOptions,
  type KroneckerPreconditioner,
  SGD,
  STEVE,
} from '@otimes/optim';
import ndarray from 'ndarray';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { family, type Make } from './helpers/damped.ts';
import { law } from './helpers/law.ts';
import { optimizerLaws } from './suites/optimizers.ts';
import { linearAt, lossOf, newBatches, newNet, train, valuesOf } from './suites/training.ts';

t.test('options of single blocks', t => {
  /** How far the parameters of layers '0' and '2' move in one step from a state some steps in. */
  const moves = (
    make: (m: Sequential) => KroneckerPreconditioner,
    lrs: (optimizer: KroneckerPreconditioner) => void,
  ) => {
    const before: Tensor[] = [];
    const after: Tensor[] = [];
    const parametersOf = (m: Sequential) => m.parameters().map(p => p.detach().clone());
    train(make, {
      steps: 3,
      beforeStep: (m, step) => step === 2 && before.push(...parametersOf(m)),
      afterStep: (m, step, optimizer) => {
        if (step === 2) after.push(...parametersOf(m));
        if (step === 1) lrs(optimizer);
      },
    });
    return after.map((p, i) => p.sub(before[i]!));
  };

  const { KFAC: _, ...proportional } = family; // what trust leaves is no longer in proportion
  for (const [name, make] of Object.entries(proportional))
    for (const route of ['gradient', 'resident'] as const)
      law(t, `${name}, ${route}: a block's lr is in proportion to the optimizer's, also when that changes`, () => {
        // The first steps are too short to matter, so that both runs are in the same state.
        const tiny = { lr: 1e-13, weightDecay: 0.1, route };
        const at = (lr: number) => (optimizer: KroneckerPreconditioner) => {
          optimizer.lr = lr;
        };
        const plain = moves(m => make(m, tiny), at(0.1));
        const quarter = moves(m => make(m, { ...tiny, overrides: { '2': { lr: 0.25e-13 } } }), at(0.1));
        for (const [i, move] of quarter.entries())
          mustBeClose(move, plain[i]!.mul(i < 2 ? 1 : 0.25), { rtol: 1e-6, atol: 1e-9 }, `parameter ${i}`);
        const frozen = moves(m => make(m, { ...tiny, overrides: { '2': { lr: 0 } } }), at(0.1));
        for (const [i, move] of frozen.entries())
          mustBeClose(move, plain[i]!.mul(i < 2 ? 1 : 0), { rtol: 1e-6, atol: i < 2 ? 1e-9 : 0 });
      });

  law(t, 'klClip scales Σ lr² ⟨update, D⟩ to κ with the learning rates that the blocks have', () => {
    const inner = (o: KFACOptions) => {
      const before: Tensor[] = [];
      let sum = 0;
      train(m => new KFAC(m, { lr: 0.2, damping: 0.05, trust: false, ...o }), {
        steps: 1,
        beforeStep: m => before.push(...m.parameters().map(p => p.detach().clone())),
        afterStep: (m, _, optimizer) => {
          for (const [i, p] of m.parameters().entries()) {
            const lr = 0.2 * optimizer.inspect(i < 2 ? '0' : '2').lrRatio;
            sum += lr * before[i]!.sub(p.detach()).mul(p.grad!).sum().item();
          }
        },
      });
      return sum;
    };
    for (const overrides of [{}, { '0': { lr: 1 }, '2': { lr: 0.02 } }]) {
      const [free, clipped] = [inner({ overrides }), inner({ overrides, klClip: 1e-4 })];
      // Updates u became s u with s² Σ lr² ⟨u, D⟩ = κ.
      mustBeClose((clipped / free) ** 2 * free, 1e-4, { rtol: 1e-9 });
      mustBeClose(inner({ overrides, klClip: 1e4 }), free, { rtol: 0 });
    }
  });

  law(t, 'skip leaves a layer to the rest optimizer', () => {
    const run = (own: boolean) => {
      const model = newNet();
      const optimizer = new KFAC(model, {
        overrides: { '2': { skip: true } },
        rest: unclaimed => new SGD(unclaimed, { lr: own ? 0.05 : 0 }),
      });
      assert.deepEqual(
        optimizer.describe().map(row => [row.path, row.collector]),
        [
          ['0', 'linear'],
          ['2.weight', 'rest'],
          ['2.bias', 'rest'],
        ],
      );
      const sgd = own ? null : new SGD(linearAt(model, '2').parameters(), { lr: 0.05 });
      for (const { x, y } of newBatches({ steps: 5 })) {
        optimizer.zeroGrad();
        lossOf(model.call(x), y).backward();
        optimizer.step();
        sgd?.step();
      }
      return valuesOf(model);
    };
    assert.deepEqual(run(true), run(false));
  });

  law(t, 'sharing is each block’s own', () => {
    const data = { sizes: [4, 3, 2], batch: 5, shared: 3, steps: 1 };
    const factorsOf = (o: KroneckerOptions) => {
      const { optimizer } = train(m => new KFAC(m, o), data);
      return ['0', '2'].map(path => ({ A: optimizer.inspect(path).A!, row: optimizer.describe() }));
    };
    const mixed = factorsOf({ overrides: { '2': { sharing: 'reduce' } } });
    assert.deepEqual(
      mixed[0]!.row.map(row => row.sharing),
      ['expand', 'reduce'],
    );
    mustBeClose(mixed[0]!.A, factorsOf({ sharing: 'expand' })[0]!.A, { rtol: 0, atol: 0 });
    mustBeClose(mixed[1]!.A, factorsOf({ sharing: 'reduce' })[1]!.A, { rtol: 0, atol: 0 });
    const opposite = factorsOf({ sharing: 'reduce', overrides: { '': { sharing: 'expand' } } });
    mustBeClose(opposite[1]!.A, factorsOf({ sharing: 'expand' })[1]!.A, { rtol: 0, atol: 0 });
  });

  const nested = () => new Sequential(new Sequential(new Linear(3, 3), new Tanh(), new Linear(3, 3)), new Linear(3, 2));
  law(t, 'the longest path that fits counts, alone', () => {
    const ratios = (overrides: KroneckerOptions['overrides']) => {
      const optimizer = new STEVE(nested(), { lr: 0.1, ...(overrides && { overrides }) });
      const all = optimizer
        .describe()
        .map(row => (row.collector === 'rest' ? 'rest' : optimizer.inspect(row.path).lrRatio));
      optimizer.detach();
      return all;
    };
    assert.deepEqual(ratios(undefined), [1, 1, 1]);
    assert.deepEqual(ratios({ '': { lr: 0.2 }, '0': { lr: 0 }, '0.2': { lr: 0.1 } }), [0, 1, 2]);
    assert.deepEqual(ratios({ '0': { lr: 0.05 }, '0.0': {} }), [1, 0.5, 1]);
    assert.deepEqual(ratios({ '0': { skip: true }, '0.2': { lr: 0.05 } }), [0.5, 1, 'rest', 'rest']);
  });

  const refusals: [string, () => unknown, RegExp][] = [
    [
      'an unknown path lists those there are',
      () => new STEVE(nested(), { overrides: { '0.1': { lr: 1 } } }),
      /STEVE: overrides: there is no block at or below '0.1', only '0.0', '0.2', '1'/,
    ],
    [
      'a group of a convolution is not skipped without the others, whose weight it shares',
      () => new STEVE(new Conv2d(4, 4, 1, { groups: 2 }), { overrides: { 'groups.1': { skip: true } } }),
      /STEVE: overrides: 'groups\.1' cannot be skipped alone, because other blocks share its parameters/,
    ],
    [
      'half a name is no path',
      () => new STEVE(nested(), { overrides: { '0.': {} } }),
      /there is no block at or below '0.'/,
    ],
    [
      'an unknown option of a block',
      () => new KFAC(nested(), { overrides: JSON.parse('{"0":{"damping":1}}') }),
      /KFAC: overrides\['0'\]: there is no option 'damping'/,
    ],
    ['a negative lr of a block', () => new KFAC(nested(), { overrides: { '1': { lr: -1 } } }), /overrides\['1'\].*lr/],
    [
      'an unknown sharing of a block',
      () => new KFAC(nested(), { overrides: JSON.parse('{"1":{"sharing":"sum"}}') }),
      /overrides\['1'\].*sharing to be 'expand' or 'reduce'/,
    ],
    [
      'an lr beside an lr of 0, which has no proportion',
      () => new KFAC(nested(), { lr: 0, overrides: { '1': { lr: 1 } } }),
      /a block cannot have lr 1 beside an optimizer's lr of 0/,
    ],
    [
      'maxFactorDim 0',
      () => new KFAC(nested(), { maxFactorDim: 0 }),
      /expected maxFactorDim to be an integer ≥ 1, got 0/,
    ],
    [
      'an unknown route',
      () => new KFAC(nested(), JSON.parse('{"route":"weights"}')),
      /KFAC: expected route to be 'auto' or 'gradient' or 'activations' or 'resident', got 'weights'/,
    ],
    [
      'an unknown refresh',
      () => new KFAC(nested(), JSON.parse('{"refresh":"async"}')),
      /expected refresh to be 'auto' or 'sync' or 'background'/,
    ],
    [
      'refreshLag without a background',
      () => new KFAC(nested(), { refreshLag: 2 }),
      /refreshLag needs refresh: 'background'/,
    ],
    [
      'refreshLag 0',
      () => new KFAC(nested(), { refresh: 'background', refreshLag: 0 }),
      /expected refreshLag to be an integer ≥ 1, got 0/,
    ],
    [
      'a refreshLag beyond the next refresh',
      () => new KFAC(nested(), { refresh: 'background', refreshEvery: 3, refreshLag: 4 }),
      /expected refreshLag ≤ refreshEvery, got 4 > 3/,
    ],
    [
      'an eigensolver in the background',
      () => new KFAC(nested(), { refresh: 'background', eigensolver: eigh }),
      /'background' decomposes in a worker, where no eigensolver of yours can go/,
    ],
  ];
  for (const [title, run, message] of refusals) law(t, title, () => assert.throws(run, message));
  t.end();
});

/** Takes factors above a size for (tr / n) I, and decomposes the others. */
const withIdentityAbove =
  (size: number): Eigensolver =>
  a => {
    const n = a.shape[0]!;
    if (n <= size) return eigh(a);
    let trace = 0;
    for (let i = 0; i < n; i++) trace += a.get(i, i);
    const vectors = new Float64Array(n * n);
    for (let i = 0; i < n; i++) vectors[i * n + i] = 1;
    return { values: ndarray(new Float64Array(n).fill(trace / n), [n]), vectors: ndarray(vectors, [n, n]) };
  };

t.test('large factors left out', t => {
  const cases: Record<string, Make> = {
    ...family,
    'KFAC pi, momentum': (m, o) => new KFAC(m, { damping: 0.1, dampingSplit: 'pi', momentum: 0.9, ...o }),
  };
  for (const [name, make] of Object.entries(cases))
    law(t, `${name}: a side above maxFactorDim is as a factor (tr / n) I`, () => {
      for (const sharing of ['expand', 'reduce'] as const)
        for (const maxFactorDim of [5, 6, 3]) {
          const data = { sizes: [6, 4, 6], batch: 9, steps: 9, shared: 2 };
          const o = { refreshEvery: 4, sharing, route: 'gradient' } as const;
          const dense = train(m => make(m, { ...o, eigensolver: withIdentityAbove(maxFactorDim) }), data);
          const left = train(m => make(m, { ...o, maxFactorDim }), data);
          mustBeClose([...left.values], [...dense.values], { rtol: 1e-9, atol: 1e-10 }, `${maxFactorDim}, ${sharing}`);
        }
    });

  law(
    t,
    'describe() says which sides, nothing of them is kept but a number, and their layers take the route that is asked for',
    () => {
      const { optimizer } = train(m => new EKFAC(m, { maxFactorDim: 5, route: 'resident', refreshEvery: 1 }), {
        sizes: [6, 4, 6, 4],
        steps: 4,
      });
      const rows = optimizer.describe();
      assert.deepEqual(
        rows.map(row => row.identity),
        [['A'], ['G'], ['A']],
      );
      assert.deepEqual(
        rows.map(row => row.route),
        ['resident', 'resident', 'resident'],
      );
      const { A, G, kfe } = optimizer.inspect('0');
      assert.deepEqual([A!.shape, G!.shape, kfe!.UA, kfe!.UG!.shape], [[], [4, 4], null, [4, 4]]);
      const state = optimizer.stateDict();
      assert.deepEqual([state['blocks.0.A']!.shape, 'blocks.0.UA' in state], [[], false]);
      const { A: spectrum } = optimizer.report().blocks[0]!.spectrum!;
      mustBeClose(spectrum, new Float64Array(7).fill(A!.item()));
      const both = train(m => new KFAC(m, { maxFactorDim: 2 }), { steps: 2 });
      assert.deepEqual(both.optimizer.describe()[0]!.identity, ['A', 'G']);
    },
  );

  law(t, 'with both sides left out KFAC is SGD with lr / (tr A / I · tr G / O + λ)', () => {
    const sgd = newNet();
    const { x, y } = newBatches({ steps: 1 })[0]!;
    const { optimizer, model } = train(m => new KFAC(m, { lr: 0.1, damping: 0.2, trust: false, maxFactorDim: 1 }), {
      steps: 1,
    });
    lossOf(sgd.call(x), y).backward();
    for (const path of ['0', '2']) {
      const { A, G } = optimizer.inspect(path);
      const lr = 0.1 / (A!.item() * G!.item() + 0.2);
      new SGD(linearAt(sgd, path).parameters(), { lr }).step();
    }
    mustBeClose(valuesOf(model), valuesOf(sgd), { rtol: 1e-12 });
  });

  for (const [name, make] of Object.entries(family))
    t.test(`${name} with sides left out`, t => {
      optimizerLaws(t, { name, make: m => make(m, { maxFactorDim: 5, refreshEvery: 3, lr: 0.05 }) });
      t.end();
    });
  t.end();
});
