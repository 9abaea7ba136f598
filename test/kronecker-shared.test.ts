// A batch in parts, and a layer used several times, under the Kronecker family.

import assert from 'node:assert/strict';
import { Generator, noGrad, randn, stack, type Tensor } from '@otimes/core';
import { crossEntropy, Linear, Module, mseLoss, Sequential } from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, STEVE } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { family, type Make } from './helpers/damped.ts';
import { law } from './helpers/law.ts';
import { lossOf, newBatches, newNet, train, valuesOf } from './suites/training.ts';

const dtype = 'float64';

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
