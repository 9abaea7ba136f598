// Backward passes of a Kronecker optimizer: one that throws, several for one step, several calls in one, empty batches.

import assert from 'node:assert/strict';
import { concat, Generator, grad, randn, type Tensor, zeros } from '@otimes/core';
import { Conv2d, crossEntropy, Flatten, Linear, Module, mlp, Sequential, Tanh } from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, type KroneckerPreconditioner } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { bitsOf, family, labels, type Make, type Net, nets, ROUTES, warningsOf } from './helpers/family.ts';
import { law } from './helpers/law.ts';
import { valuesOf } from './suites/training.ts';

const FISHERS = ['empirical', 'sampled', 'ggn'] as const;

t.test('a backward pass that throws', t => {
  /** Six steps; in some of them backward throws half way, and is run again or left out. */
  const play = (net: Net, make: Make, o: KroneckerOptions, how: 'again' | 'left out', fails: boolean) => {
    const rng = new Generator(5);
    const model = net.make({ rng, dtype: 'float32' });
    const optimizer = make(model, { loss: 'crossEntropy', ...o });
    for (let step = 0; step < 6; step++) {
      optimizer.zeroGrad();
      const batch = () => crossEntropy(model.call(randn(net.shape, { rng })), labels(rng));
      if (how === 'left out') batch().backward();
      const loss = batch();
      if (fails && step !== 1) {
        const parameters = model.parameters();
        const hook = parameters.at(step % 2 === 0 ? 0 : -1)!.onGrad(() => {
          throw new Error('on purpose');
        });
        assert.throws(() => loss.backward(), /on purpose/);
        hook.remove();
      }
      if (how === 'again') loss.backward();
      optimizer.step();
    }
    return bitsOf(model.stateDict()) + bitsOf(optimizer.stateDict());
  };
  for (const [name, make] of Object.entries(family))
    for (const how of ['again', 'left out'] as const)
      law(t, `${name}: run ${how}, the run is that without the failure, bit for bit`, () => {
        const cases: [string, KroneckerOptions][] = [
          ...ROUTES.map((route): [string, KroneckerOptions] => ['linear', { route }]),
          ['linear', { fisher: 'sampled', sharing: 'reduce', route: 'resident' }],
          ['linear', { fisher: 'ggn' }],
          ['convolution', { sharing: 'reduce' }],
          ['convolution', { fisher: 'sampled' }],
          ['attention', { fisher: 'ggn' }],
          ['attention', { route: 'resident' }],
        ];
        for (const [net, o] of cases) {
          const [failing, whole] = [true, false].map(fails =>
            play(nets[net]!, make, { refreshEvery: 3, ...o }, how, fails),
          );
          assert.equal(failing, whole, JSON.stringify([net, o]));
        }
      });

  law(t, 'grad() inside of a hook of backward leaves no statistics', () => {
    const play = (looks: boolean) => {
      const model = nets.linear!.make({ rng: new Generator(1), dtype: 'float64' });
      const optimizer = new KFAC(model);
      const x = randn([12, 5], { rng: new Generator(2), dtype: 'float64' });
      const look = model.call(x).square().sum();
      const z = model.call(x);
      if (looks) z.onGrad(() => void grad(look, model.parameters()));
      crossEntropy(z, labels(new Generator(3))).backward();
      optimizer.step();
      return bitsOf(optimizer.stateDict());
    };
    assert.equal(play(true), play(false));
  });
  t.end();
});

t.test('several calls of a model in one backward pass', t => {
  const dtype = 'float64';
  /** Five steps on points of several kinds, which are given to the model together or one kind at a time. */
  const play = (make: Make, o: KroneckerOptions, counts: readonly number[], together: boolean) => {
    const rng = new Generator(4);
    const model = new Sequential(new Linear(2, 6, { rng, dtype }), new Tanh(), new Linear(6, 1, { rng, dtype }));
    const optimizer = make(model, { loss: 'mse', refreshEvery: 3, ...o });
    for (let step = 0; step < 5; step++) {
      optimizer.zeroGrad();
      const xs = counts.map(n => randn([n, 2], { rng, dtype }));
      for (const x of xs) x.requiresGrad = true;
      const all = together ? model.call(concat(xs, 0)) : null;
      let at = 0;
      const losses = xs.map((x, i) => {
        const u = all?.narrow(0, at, counts[i]!) ?? model.call(x);
        at += counts[i]!;
        if (i > 0) return u.sub(1).square().mean(); // a boundary
        const [du] = grad(u.sum(), [x], { createGraph: true }); // u = ∂u/∂x + ∂u/∂y inside
        return u
          .sub(du!.sum(1, { keepdim: true }))
          .square()
          .mean();
      });
      losses.reduce((sum, loss) => sum.add(loss)).backward();
      optimizer.step();
    }
    const { A, G } = optimizer.inspect('0');
    return [...valuesOf(model), ...A!.dataSync(), ...G!.dataSync()];
  };
  for (const [name, make] of Object.entries(family))
    law(t, `${name}: interior and boundary points in calls of their own are one call on all of them`, () => {
      for (const fisher of ['empirical', 'ggn'] as const)
        for (const route of ROUTES)
          for (const sharing of ['expand', 'reduce'] as const)
            for (const counts of [
              [7, 4],
              [5, 5],
              [3, 6, 2],
            ]) {
              const o = { fisher, route, sharing };
              const [apart, together] = [false, true].map(one => play(make, o, counts, one));
              mustBeClose(apart!, together!, { rtol: 1e-7, atol: 1e-8 }, JSON.stringify([o, counts]));
            }
    });

  law(t, 'within one call, different numbers of examples are an error that says what works', () => {
    const layer = new Linear(2, 1);
    class Both extends Module<[a: Tensor, b: Tensor], Tensor> {
      readonly layer = layer;
      override forward(a: Tensor, b: Tensor): Tensor {
        return this.layer.call(a).mean().add(this.layer.call(b).mean());
      }
    }
    const model = new Both();
    new KFAC(model);
    assert.throws(
      () => model.call(randn([4, 2]), randn([3, 2])).backward(),
      /linear 'layer' was used for 3 and for 4 examples in one backward pass; .*call the whole model for each, or once on all of them/,
    );
  });
  t.end();
});

t.test('several backward passes before a step', t => {
  const dtype = 'float64';
  const squaring: Record<string, Make> = { EKFAC: family.EKFAC!, 'STEVE example': family['STEVE example']! };
  const o64 = () => ({ dtype, rng: new Generator(6) }) as const;
  const bytesOf = (optimizer: KroneckerPreconditioner) => optimizer.inspect('0').statistics!.bytes;

  for (const [name, make] of Object.entries(squaring))
    law(t, `${name}: are one on all examples, and in a basis that stays what is kept does not grow`, () => {
      const nets: readonly [() => Sequential, readonly number[]][] = [
        [() => new Sequential(new Linear(4, 6, o64()), new Tanh(), new Linear(6, 3, o64())), [4]],
        [
          () => new Sequential(new Conv2d(2, 3, 3, o64()), new Tanh(), new Flatten(), new Linear(12, 3, o64())),
          [2, 4, 4],
        ],
      ];
      const counts = [5, 3, 4, 8];
      const cases: KroneckerOptions[] = [
        ...ROUTES.map(route => ({ route })),
        { sharing: 'reduce' },
        { fisher: 'ggn', loss: 'crossEntropy' },
        { refresh: 'background', refreshLag: 2 },
      ];
      for (const [net, shape] of nets)
        for (const o of cases) {
          const play = (parts: readonly number[]) => {
            const rng = new Generator(8);
            const model = net();
            const optimizer = make(model, { refreshEvery: 3, ...o });
            for (let step = 0; step < 7; step++) {
              optimizer.zeroGrad();
              const [x, y] = [randn([20, ...shape], { rng, dtype }), labels(rng, 20)];
              const bytes: number[] = [];
              let at = 0;
              for (const n of parts) {
                const loss = crossEntropy(model.call(x.narrow(0, at, n)), y.narrow(0, at, n));
                loss.mul(n / 20).backward();
                bytes.push(bytesOf(optimizer));
                at += n;
              }
              const stays = step % 3 !== 0 || (step > 0 && o.refresh === 'background');
              if (stays && parts.length > 1) assert.ok(bytes[0]! > 0 && bytes.slice(1).every(n => n === 0), `${bytes}`);
              optimizer.step();
            }
            return valuesOf(model);
          };
          mustBeClose(play(counts), play([20]), { rtol: 1e-7, atol: 1e-9 }, JSON.stringify([shape, o]));
        }
    });

  for (const [name, make] of Object.entries(family))
    law(t, `${name}: the 64th without step() or zeroGrad() warns, once, and says what to do`, () => {
      const rng = new Generator(2);
      const model = mlp([4, 6, 3], { rng });
      const optimizer = make(model);
      const x = randn([12, 4], { rng });
      const pass = () => crossEntropy(model.call(x) as Tensor, labels(rng)).backward();
      const passes = (n: number) =>
        warningsOf(() => {
          for (let i = 0; i < n; i++) pass();
        });
      assert.deepEqual(passes(63), []);
      optimizer.zeroGrad();
      assert.deepEqual(passes(63), []);
      optimizer.step();
      optimizer.zeroGrad();
      assert.deepEqual(passes(63), []);
      const said = passes(1);
      assert.equal(said.length, 1);
      assert.match(said[0]!, /64 backward passes without step\(\) or zeroGrad\(\).*detach\(\).*zeroGrad\(\)/);
      optimizer.zeroGrad();
      assert.deepEqual(passes(130), []);
      optimizer.step();
    });

  law(t, 'the warning counts the samples that an optimizer keeps before its first step, and not after detach()', () => {
    const model = mlp([4, 6, 3]);
    const pass = () => crossEntropy(model.call(randn([12, 4])) as Tensor, zeros([12], { dtype: 'int32' })).backward();
    const said = (n: number) =>
      warningsOf(() => {
        for (let i = 0; i < n; i++) pass();
      });
    const optimizer = new EKFAC(model);
    // 12 examples of 5 + 6 and 7 + 3 numbers: .065 MB in 64 passes.
    assert.match(said(64)[0]!, /EKFAC: .*samples of each pass are kept, 0\.1 MB now/);
    optimizer.detach();
    const other = new EKFAC(model);
    other.detach();
    assert.deepEqual(said(70), []);
  });

  law(t, 'a second step() after one backward() is an error that says so first', () => {
    const model = mlp([4, 6, 3]);
    const optimizer = new EKFAC(model);
    crossEntropy(model.call(randn([12, 4])) as Tensor, zeros([12], { dtype: 'int32' })).backward();
    optimizer.step();
    assert.throws(
      () => optimizer.step(),
      /has a gradient but no statistics: step\(\) was called twice after one backward\(\), or .*made after the forward pass/,
    );
  });

  law(t, 'methods besides forward are no calls: other numbers of examples are an error that says so', () => {
    class Coder extends Module<[x: Tensor], Tensor> {
      readonly layer = new Linear(2, 1);
      encode(x: Tensor): Tensor {
        return this.layer.call(x);
      }
      override forward(x: Tensor): Tensor {
        return this.encode(x);
      }
    }
    const model = new Coder();
    const optimizer = new KFAC(model);
    const [a, b] = [randn([4, 2]), randn([3, 2])];
    assert.throws(
      () => model.encode(a).mean().add(model.encode(b).mean()).backward(),
      /layer' was used for 3 and for 4 examples .* a method besides forward, model\.encode\(x\) say, is no call\. .*backward\(\) for each/,
    );
    optimizer.zeroGrad();
    model.call(a).mean().add(model.call(b).mean()).backward();
    optimizer.step();
  });

  t.end();
});

t.test('empty batches', t => {
  const layers = () => new Sequential(new Linear(4, 5), new Tanh(), new Linear(5, 3));
  for (const [name, make] of Object.entries(family))
    law(t, `${name}: an empty batch is called so, and changes nothing`, () => {
      for (const shape of [
        [0, 4],
        [0, 5, 4],
        [3, 0, 4],
      ])
        for (const lossReduction of ['mean', 'sum'] as const)
          for (const sharing of ['expand', 'reduce'] as const)
            for (const fisher of FISHERS) {
              const model = layers();
              const optimizer = make(model, { lossReduction, sharing, fisher, loss: 'mse' });
              const before = [model.stateDict(), optimizer.stateDict()].map(bitsOf);
              const squares = model.call(zeros(shape)).square();
              (lossReduction === 'mean' ? squares.mean() : squares.sum()).backward();
              assert.throws(() => optimizer.step(), /RangeError: \w+: the batch of linear '0' is empty: .*Skip such/);
              assert.deepEqual([model.stateDict(), optimizer.stateDict()].map(bitsOf), before);
            }
    });
  law(t, 'among summed losses an empty one counts for nothing', () => {
    const run = (batches: readonly number[]) => {
      const rng = new Generator(1);
      const model = new Sequential(new Linear(4, 3, { rng }));
      const optimizer = new EKFAC(model, { lossReduction: 'sum' });
      for (const n of batches)
        model
          .call(randn([n, 4], { rng }))
          .square()
          .sum()
          .backward();
      optimizer.step();
      return bitsOf(model.stateDict());
    };
    assert.equal(run([0, 6, 0]), run([6]));
  });
  t.end();
});
