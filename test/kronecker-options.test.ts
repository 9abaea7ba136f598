// What may be asked of the Kronecker family beside its formulas: batches in parts, layers used twice, options of single
// blocks, large factors left out, refreshes spread over the steps, and reports.
import assert from 'node:assert/strict';
import { Generator, noGrad, randn, stack, type Tensor } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { type AnyModule, Conv2d, crossEntropy, Linear, Module, mseLoss, Sequential, Tanh } from '@otimes/nn';
import {
  type Eigensolver,
  EKFAC,
  type EKFACOptions,
  KFAC,
  type KFACOptions,
  type Kfe,
  type KroneckerOptions,
  type KroneckerPreconditioner,
  SGD,
  STEVE,
} from '@otimes/optim';
import fc from 'fast-check';
import ndarray from 'ndarray';
import t from 'tap';
import { effectiveRank } from '../optim/src/kronecker/report.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { optimizerLaws } from './suites/optimizers.ts';
import { linearAt, lossOf, newBatches, newNet, train, valuesOf } from './suites/training.ts';

const dtype = 'float64';

type Make = (model: AnyModule, o: KroneckerOptions) => KroneckerPreconditioner;

const family: Record<string, Make> = {
  KFAC: (m, o) => new KFAC(m, { lr: 0.1, damping: 0.1, ...o }),
  'KFAC without trust': (m, o) => new KFAC(m, { lr: 0.1, damping: 0.1, trust: false, ...o }),
  EKFAC: (m, o) => new EKFAC(m, { lr: 0.1, damping: 0.1, klClip: false, ...o }),
  'EKFAC batch': (m, o) => new EKFAC(m, { lr: 0.1, damping: 0.1, klClip: false, secondMoment: 'batch', ...o }),
  STEVE: (m, o) => new STEVE(m, { lr: 0.02, ...o }),
  'STEVE example': (m, o) => new STEVE(m, { lr: 0.1, secondMoment: 'example', ...o }),
};

/** One layer that is used for every element of a list. */
class Each extends Module<[xs: readonly Tensor[]], Tensor[]> {
  readonly layer = new Linear(4, 3, { dtype, rng: new Generator(2) });
  override forward(xs: readonly Tensor[]): Tensor[] {
    return xs.map(x => this.layer.call(x));
  }
}

t.test('a batch in parts', t => {
  type Kind = { shared: number | undefined; reduction: 'mean' | 'sum' };
  const lossOfPart = (model: Module, x: Tensor, y: Tensor, { shared, reduction }: Kind) =>
    shared === undefined ? crossEntropy(model.call(x), y, { reduction }) : mseLoss(model.call(x), y, { reduction });

  /** Parameters and factors after three steps, each over parts of these sizes. */
  const run = (make: Make, parts: readonly number[], o: KroneckerOptions, kind: Kind) => {
    const data = { sizes: [4, 3, 3], batch: 12, steps: 3, shared: kind.shared };
    const model = newNet(data);
    const optimizer = make(model, o);
    for (const { x, y } of newBatches(data)) {
      optimizer.zeroGrad();
      let from = 0;
      for (const size of parts) {
        const loss = lossOfPart(model, x.narrow(0, from, size), y.narrow(0, from, size), kind);
        loss.mul(kind.reduction === 'mean' ? size / 12 : 1).backward();
        from += size;
      }
      optimizer.step();
    }
    const factors = ['0', '2'].flatMap(path => [optimizer.inspect(path).A!, optimizer.inspect(path).G!]);
    return { values: valuesOf(model), factors };
  };

  for (const [name, make] of Object.entries(family))
    for (const fisher of ['empirical', 'ggn', 'sampled'] as const)
      law(t, `${name}, fisher '${fisher}': parts whose losses sum to that of the batch are the batch`, () => {
        for (const shared of [undefined, 2])
          for (const sharing of ['expand', 'reduce'] as const)
            for (const reduction of ['mean', 'sum'] as const) {
              const loss = shared === undefined ? ('crossEntropy' as const) : ('mse' as const);
              const o = { fisher, loss, sharing, lossReduction: reduction, refreshEvery: 2 };
              const whole = run(make, [12], o, { shared, reduction });
              for (const parts of [
                [6, 6],
                [2, 4, 4, 2],
              ]) {
                const summed = run(make, parts, o, { shared, reduction });
                const what = `${shared ?? 1} positions, ${sharing}, ${reduction}, ${parts}`;
                mustBeClose(summed.values, whole.values, { rtol: 1e-9, atol: 1e-10 }, what);
                for (const [i, factor] of summed.factors.entries())
                  mustBeClose(factor, whole.factors[i]!, { rtol: 1e-10, atol: 1e-13 }, `${what}, factor ${i}`);
              }
            }
      });

  for (const route of ['activations', 'resident'] as const)
    law(t, `on the route '${route}' too, which is given up for it`, () => {
      const model = newNet();
      const optimizer = new STEVE(model, { lr: 0.02, route, refreshEvery: 4 });
      for (const { x, y } of newBatches({ steps: 12 })) {
        optimizer.zeroGrad();
        for (const from of [0, 5])
          lossOf(model.call(x.narrow(0, from, 5)), y.narrow(0, from, 5))
            .mul(0.5)
            .backward();
        optimizer.step();
      }
      const whole = train(m => new STEVE(m, { lr: 0.02, refreshEvery: 4 }), { steps: 12 });
      mustBeClose(valuesOf(model), [...whole.values], { rtol: 1e-9, atol: 1e-9 });
      assert.deepEqual(
        optimizer.describe().map(row => row.route),
        ['gradient', 'gradient'],
      );
    });

  law(t, 'zeroGrad() forgets the parts there were', () => {
    const plain = train(m => new EKFAC(m, { damping: 0.1 }), { steps: 6 });
    const model = newNet();
    const optimizer = new EKFAC(model, { damping: 0.1 });
    for (const { x, y } of newBatches({ steps: 6 })) {
      lossOf(model.call(x.narrow(0, 0, 3)), y.narrow(0, 0, 3)).backward();
      optimizer.zeroGrad();
      lossOf(model.call(x), y).backward();
      optimizer.step();
      optimizer.zeroGrad();
    }
    assert.deepEqual(valuesOf(model), plain.values);
  });
  t.end();
});

t.test('a layer used several times', t => {
  for (const [name, make] of Object.entries(family))
    law(t, `${name}: two uses in one pass are one use over [batch, 2, features]`, () => {
      for (const sharing of ['expand', 'reduce'] as const)
        for (const shared of [1, 3])
          for (const route of ['gradient', 'resident'] as const) {
            const run = (separately: boolean) => {
              const model = new Each();
              const optimizer = make(model, { sharing, refreshEvery: 3, route });
              const rng = new Generator(3);
              for (let step = 0; step < 6; step++) {
                const xs = [0, 1].map(() => randn([5, shared, 4], { dtype, rng }));
                const y = randn([5, 2 * shared, 3], { dtype, rng });
                const single = xs.map(x => (shared === 1 ? x.squeeze(1) : x));
                optimizer.zeroGrad();
                const all = separately
                  ? stack(model.call(single), 1).reshape([5, 2 * shared, 3])
                  : model.call([stack(single, 1).reshape([5, 2 * shared, 4])])[0]!;
                mseLoss(all, y).backward();
                optimizer.step();
              }
              const { A, G, slots } = optimizer.inspect('layer');
              return { values: valuesOf(model), tensors: [A!, G!, ...slots.values()] };
            };
            const [twice, once] = [run(true), run(false)];
            const what = `${sharing}, ${shared}, ${route}`;
            mustBeClose(twice.values, once.values, { rtol: 1e-9, atol: 1e-10 }, what);
            // Slots are coordinates in a basis, whose vectors have arbitrary signs; the factors come first.
            for (const i of [0, 1]) mustBeClose(twice.tensors[i]!, once.tensors[i]!, { rtol: 1e-9, atol: 1e-12 }, what);
          }
    });

  law(t, 'uses for different numbers of examples in one pass are an error; zeroGrad() is enough to go on', () => {
    const model = new Each();
    const optimizer = new KFAC(model);
    const rng = new Generator(3);
    const before = valuesOf(model);
    const [a, b] = [randn([4, 4], { dtype, rng }), randn([2, 4], { dtype, rng })];
    const pass = (xs: Tensor[]) =>
      model
        .call(xs)
        .map(y => y.square().mean())
        .reduce((sum, y) => sum.add(y))
        .backward();
    assert.throws(
      () => pass([a, b]),
      /KFAC: linear 'layer' was used for 2 and for 4 examples in one backward pass; its uses must be of the same examples/,
    );
    assert.deepEqual(valuesOf(model), before);
    optimizer.zeroGrad();
    pass([a, a]);
    optimizer.step();
    // In passes of their own they are parts of a batch.
    optimizer.zeroGrad();
    pass([a]);
    pass([b]);
    optimizer.step();
  });

  /** Two heads on one body. */
  class Heads extends Module<[x: Tensor, which: 'a' | 'b']> {
    readonly body = new Linear(6, 5, { dtype, rng: new Generator(1) });
    readonly a = new Linear(5, 4, { dtype, rng: new Generator(2) });
    readonly b = new Linear(5, 4, { dtype, rng: new Generator(3) });
    override forward(x: Tensor, which: 'a' | 'b'): Tensor {
      return this[which].call(this.body.call(x).tanh());
    }
  }
  for (const [name, make] of Object.entries(family))
    law(t, `${name}: a layer that a batch does not reach keeps everything, and shows that it has nothing yet`, () => {
      for (const route of ['gradient', 'resident'] as const) {
        const model = new Heads();
        const optimizer = make(model, { refreshEvery: 2, route, weightDecay: 0.1 });
        const batches = newBatches({ steps: 10 });
        const step = (i: number, which: 'a' | 'b') => {
          optimizer.zeroGrad();
          crossEntropy(model.call(batches[i]!.x, which), batches[i]!.y).backward();
          optimizer.step();
        };
        const all = () => {
          const { A, G, kfe, slots, count } = optimizer.inspect('b');
          const tensors = [A, G, kfe?.UA, kfe?.sA, ...slots.values(), model.b.weight, model.b.bias];
          return { count, tensors: tensors.map(x => (x ? [...x.dataSync()] : null)) };
        };
        const untouched = all();
        for (let i = 0; i < 3; i++) step(i, 'a');
        assert.deepEqual(all(), untouched);
        assert.equal(optimizer.inspect('b').A, null);
        assert.equal(optimizer.report().blocks[2]!.spectrum, null);
        assert.equal(optimizer.describe()[2]!.route, 'gradient');
        assert.ok(!Object.keys(optimizer.stateDict()).some(key => key.startsWith('blocks.b.')));
        for (let i = 3; i < 6; i++) step(i, 'b');
        const reached = all();
        assert.notDeepEqual(reached, untouched);
        for (let i = 6; i < 9; i++) step(i, 'a');
        assert.deepEqual(all(), reached);
        step(9, 'b');
        assert.notDeepEqual(all(), reached);
      }
    });

  law(t, 'a use under noGrad in the middle of a forward pass leaves no trace', () => {
    for (const route of ['gradient', 'resident'] as const)
      for (const make of Object.values(family)) {
        const look = (m: Sequential) => noGrad(() => m.call(randn([3, 6], { dtype, rng: new Generator(1) })));
        const [quiet, watched] = [false, true].map(looks =>
          train(m => make(m, { route, refreshEvery: 4 }), {
            loss: (m, { x, y }) => {
              const z = m.call(x);
              if (looks) look(m);
              return lossOf(z, y);
            },
            beforeStep: m => looks && look(m),
          }),
        );
        assert.deepEqual(watched!.values, quiet!.values);
      }
  });

  law(t, 'a weight that two modules share is a clear error on every route', () => {
    const [a, b] = [new Linear(3, 3), new Linear(3, 3)];
    b.weight = a.weight;
    for (const route of ['gradient', 'resident'] as const) {
      const model = new Sequential(a, b);
      assert.throws(() => new STEVE(model, { route }), /'0' and '1' share a weight/);
    }
    new STEVE(new Sequential(a, b), { overrides: { '0': { skip: true }, '1': { skip: true } } }).detach();
  });
  t.end();
});

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
      /expected route to be 'auto' or 'gradient' or 'activations' or 'resident'|expected route to be .*'resident'/,
    ],
    [
      'an unknown refresh',
      () => new KFAC(nested(), JSON.parse('{"refresh":"async"}')),
      /expected refresh to be 'sync' or 'background'/,
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

  law(t, 'describe() says which sides, nothing of them is kept but a number, and they take gradients', () => {
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
      ['gradient', 'gradient', 'gradient'],
    );
    const { A, G, kfe } = optimizer.inspect('0');
    assert.deepEqual([A!.shape, G!.shape, kfe!.UA, kfe!.UG!.shape], [[], [4, 4], null, [4, 4]]);
    const state = optimizer.stateDict();
    assert.deepEqual([state['blocks.0.A']!.shape, 'blocks.0.UA' in state], [[], false]);
    const { A: spectrum } = optimizer.report().blocks[0]!.spectrum!;
    mustBeClose(spectrum, new Float64Array(7).fill(A!.item()));
    const both = train(m => new KFAC(m, { maxFactorDim: 2 }), { steps: 2 });
    assert.deepEqual(both.optimizer.describe()[0]!.identity, ['A', 'G']);
  });

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

t.test('when statistics are collected and bases refreshed', t => {
  const sizes = [5, 4, 4, 4, 3];
  /** Which blocks got a new basis in each step. */
  const refreshes = (o: KroneckerOptions, steps: number): string[] => {
    const seen = new Map<string, Kfe | null>();
    const log: string[] = [];
    train(m => new STEVE(m, o), {
      sizes,
      steps,
      afterStep: (_, step, optimizer) => {
        log[step] = '';
        for (const { path } of optimizer.describe()) {
          const { kfe } = optimizer.inspect(path);
          if (kfe !== (seen.get(path) ?? null)) log[step] += path;
          seen.set(path, kfe);
        }
      },
    });
    return log;
  };

  law(t, 'without stagger all blocks refresh together', () => {
    assert.deepEqual(refreshes({ refreshEvery: 3 }, 7), ['0246', '', '', '0246', '', '', '0246']);
  });

  law(t, 'with stagger each block refreshes once a period, and after the first step never all of them', () => {
    assert.deepEqual(refreshes({ refreshEvery: 4, stagger: true }, 9), [
      '0246',
      '2',
      '4',
      '6',
      '0',
      '2',
      '4',
      '6',
      '0',
    ]);
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 9 }), refreshEvery => {
        const log = refreshes({ refreshEvery, stagger: true, route: 'resident' }, 3 * refreshEvery + 1);
        for (let step = 1; step < log.length; step++) assert.notEqual(log[step], '0246');
        for (const period of [1, 2]) {
          const inPeriod = log.slice(period * refreshEvery, (period + 1) * refreshEvery).join('');
          assert.deepEqual([...inPeriod].sort().join(''), '0246');
        }
        const most = Math.max(...log.slice(1).map(paths => paths.length));
        assert.equal(most, Math.ceil(4 / refreshEvery));
      }),
      { seed: 42, numRuns: 6 },
    );
  });

  for (const [name, make] of Object.entries(family))
    t.test(`${name}, staggered`, t => {
      optimizerLaws(t, { name, make: m => make(m, { stagger: true, refreshEvery: 3, factorEvery: 2, lr: 0.05 }) });
      t.end();
    });

  law(t, 'factorEvery: factors change on those steps and where a basis is refreshed, on no other', () => {
    for (const [refreshEvery, factorEvery, expected] of [
      [4, 3, [0, 3, 4, 6, 8, 9]],
      [5, 2, [0, 2, 4, 5, 6, 8]],
      [100, 100, [0]],
    ] as const) {
      const changes: number[] = [];
      let before: number[] = [];
      train(m => new STEVE(m, { refreshEvery, factorEvery }), {
        steps: 10,
        afterStep: (_, step, optimizer) => {
          const { A, G } = optimizer.inspect('2');
          const now = [...A!.dataSync(), ...G!.dataSync()];
          if (now.join() !== before.join()) changes.push(step);
          before = now;
        },
      });
      assert.deepEqual(changes, expected);
    }
  });

  law(t, "EKFAC 'example' measures S on the same steps; 'batch', which costs nothing, on every step", () => {
    const changes = (o: EKFACOptions) => {
      const steps: number[] = [];
      let before = '';
      train(m => new EKFAC(m, { refreshEvery: 4, factorEvery: 3, damping: 0.1, ...o }), {
        steps: 10,
        afterStep: (_, step, optimizer) => {
          const state = optimizer.inspect('0');
          const now = state.slots.get('S')!.dataSync().join();
          if (now !== before) steps.push(step);
          before = now;
          // A refreshing step measures too, so that S is not the product of eigenvalues alone.
          if (step % 4 === 0)
            assert.notEqual(
              now,
              noGrad(() => state.kfe!.eigenvalues())
                .dataSync()
                .join(),
            );
        },
      });
      return steps;
    };
    assert.deepEqual(changes({}), [0, 3, 4, 6, 8, 9]);
    assert.deepEqual(changes({ secondMoment: 'batch' }), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  law(t, 'a step that needs no statistics puts no hook on any output', () => {
    for (const route of ['gradient', 'resident'] as const) {
      const hooked: boolean[] = [];
      train(
        m => {
          for (const layer of m.layers)
            if (layer instanceof Linear)
              layer.onForward((_, __, y) => {
                hooked.push((y as Tensor).hasGradHooks);
              });
          const optimizer = new STEVE(m, { route, refreshEvery: 4, factorEvery: 4 });
          for (const layer of m.layers)
            if (layer instanceof Linear)
              layer.onForward((_, __, y) => {
                hooked[hooked.length - 1] = (y as Tensor).hasGradHooks;
              });
          return optimizer;
        },
        { steps: 5 },
      );
      assert.deepEqual(hooked, [true, true, false, false, false, false, false, false, true, true]);
    }
  });

  law(t, 'at a refresh the first moment of null directions of the new basis is dropped', () => {
    // Three examples a batch, so that each batch's A has rank 3 of 7.
    const { optimizer } = train(m => new STEVE(m, { lr: 0, factorDecay: 0, refreshEvery: 3 }), {
      batch: 3,
      steps: 4,
    });
    const { kfe, slots } = optimizer.inspect('0');
    const [m, sA] = [slots.get('m')!, kfe!.sA.dataSync()];
    const nulls = Array.from(sA.keys()).filter(j => sA[j]! < 1e-12 * sA.at(-1)!);
    assert.equal(nulls.length, 4);
    for (const j of nulls) mustBeClose(m.narrow(1, j, 1), m.narrow(1, j, 1).mul(0), { rtol: 0, atol: 0 });
    assert.ok(m.abs().max().item() > 0);
  });
  t.end();
});

t.test('report()', t => {
  law(t, 'before the first step there is nothing, and after it the spectra are the factors’ eigenvalues', () => {
    const empty = new KFAC(newNet()).report();
    assert.deepEqual(
      empty.blocks.map(({ path, spectrum, effectiveRank, cosine }) => ({ path, spectrum, effectiveRank, cosine })),
      ['0', '2'].map(path => ({ path, spectrum: null, effectiveRank: null, cosine: null })),
    );
    assert.deepEqual(empty.refreshes, { done: 0, failed: 0, lastError: null, inFlight: 0 });
    const { optimizer } = train(m => new KFAC(m, { refreshEvery: 1, damping: 0.3 }), { steps: 4 });
    for (const { path, spectrum, effectiveRank: rank, relativeDamping } of optimizer.report().blocks) {
      const { A, G } = optimizer.inspect(path);
      const [a, g] = [A!, G!].map(factor => Float64Array.from(eigh(factor.ndarray()).values.data as Float64Array));
      mustBeClose(spectrum!.A, a!, { rtol: 1e-9, atol: 1e-14 });
      mustBeClose(spectrum!.G, g!, { rtol: 1e-9, atol: 1e-14 });
      assert.deepEqual(spectrum!.A, spectrum!.A.slice().sort());
      assert.deepEqual(rank, { A: effectiveRank(spectrum!.A), G: effectiveRank(spectrum!.G) });
      // The mean of sG sAᵀ is the product of the means.
      const mean = (x: Float64Array) => x.reduce((sum, s) => sum + s, 0) / x.length;
      mustBeClose(relativeDamping!, 0.3 / (mean(a!) * mean(g!)), { rtol: 1e-9 });
    }
  });

  law(t, 'the effective rank is n for the identity, 1 for rank one, and between them for the rest', () => {
    for (const n of [1, 2, 7, 30]) {
      mustBeClose(effectiveRank(new Float64Array(n).fill(0.3)), n, { rtol: 1e-12 });
      mustBeClose(effectiveRank(Float64Array.from({ length: n }, (_, i) => (i === 0 ? 5 : 0))), 1, { rtol: 1e-12 });
    }
    assert.equal(effectiveRank([0, 0]), 0);
    fc.assert(
      fc.property(fc.array(fc.double({ min: 1e-6, max: 1e6, noNaN: true }), { minLength: 1 }), values => {
        const rank = effectiveRank(values);
        assert.ok(rank >= 1 - 1e-9 && rank <= values.length + 1e-9);
        mustBeClose(effectiveRank(values.map(x => x * 8)), rank, { rtol: 1e-9 });
      }),
      { seed: 42 },
    );
  });

  law(t, "EKFAC's relative damping is that of its own second moments; STEVE has none", () => {
    const { optimizer } = train(m => new EKFAC(m, { damping: 0.3 }), { steps: 3 });
    const S = optimizer.inspect('0').slots.get('S')!;
    mustBeClose(optimizer.report().blocks[0]!.relativeDamping!, 0.3 / S.mean().item());
    assert.equal(train(m => new STEVE(m), { steps: 2 }).optimizer.report().blocks[0]!.relativeDamping, null);
  });

  law(t, 'the cosine between gradient and update is in (0, 1] for KFAC and EKFAC, once it is observed', () => {
    for (const route of ['gradient', 'activations', 'resident'] as const)
      for (const make of [family.KFAC!, family.EKFAC!]) {
        train(m => make(m, { route, refreshEvery: 3 }), {
          steps: 8,
          afterStep: (_, step, optimizer) => {
            for (const { cosine } of optimizer.report().blocks)
              if (step < 3) assert.equal(cosine, null);
              else assert.ok(cosine! > 0 && cosine! <= 1 + 1e-12, `${cosine}`);
            if (step === 2) optimizer.observe();
          },
        });
      }
    // With a large damping KFAC is gradient descent.
    const { optimizer } = train(
      m => {
        const kfac = new KFAC(m, { damping: 1e9 });
        kfac.observe();
        return kfac;
      },
      { steps: 2 },
    );
    for (const { cosine } of optimizer.report().blocks) mustBeClose(cosine!, 1, { rtol: 1e-9 });
  });

  law(t, 'observing changes no step', () => {
    for (const make of Object.values(family))
      for (const route of ['gradient', 'resident'] as const) {
        const run = (observes: boolean) =>
          train(
            m => {
              const optimizer = make(m, { route, refreshEvery: 4 });
              if (observes) optimizer.observe();
              return optimizer;
            },
            { steps: 10 },
          );
        mustBeClose([...run(true).values], [...run(false).values], { rtol: 1e-10, atol: 1e-11 });
      }
  });

  law(t, 'steps, refreshes and times add up', () => {
    const { optimizer } = train(m => new KFAC(m, { refreshEvery: 4, rest: ps => new SGD(ps) }), { steps: 9 });
    const { steps, refreshes, milliseconds } = optimizer.report();
    assert.equal(steps, 9);
    assert.deepEqual(refreshes, { done: 3 * 2, failed: 0, lastError: null, inFlight: 0 });
    for (const phase of ['statistics', 'refresh', 'precondition'] as const) assert.ok(milliseconds[phase] > 0, phase);
    assert.ok(milliseconds.rest >= 0);
    assert.doesNotThrow(() => JSON.stringify(optimizer.report()));
  });
  t.end();
});
