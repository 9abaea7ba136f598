// What a Kronecker optimizer meets in programs: inputs of other dtypes, layers that come and go, damaged states, other
// devices, wrong arguments.

import assert from 'node:assert/strict';
import {
  full,
  Generator,
  ReferenceBackend,
  randn,
  registerBackend,
  type StateDict,
  type Tensor,
  zeros,
} from '@otimes/core';
import { type AnyModule, crossEntropy, Linear, mlp, Parameter, Sequential, Tanh } from '@otimes/nn';
import { Adam, EKFAC, KFAC, type KroneckerOptions, type KroneckerPreconditioner, SGD, STEVE } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { bitsOf, family, labels, nets } from './helpers/family.ts';
import { law } from './helpers/law.ts';
import { linearAt, valuesOf } from './suites/training.ts';

const FISHERS = ['empirical', 'sampled', 'ggn'] as const;

t.test('dtypes', t => {
  for (const [what, { make: net, shape }] of Object.entries(nets))
    law(t, `${what}: inputs of every dtype train as their casts, and a state of them goes on bit for bit`, () => {
      for (const make of Object.values(family))
        for (const fisher of what === 'linear' ? FISHERS : (['empirical'] as const))
          for (const dtype of ['float32', 'float64'] as const)
            for (const input of ['int32', 'bool', 'float32', 'float64'] as const) {
              const whole = input === 'int32' || input === 'bool';
              if (whole && what === 'convolution') continue; // conv2d says that it takes floats
              const play = (casts: boolean, splits: boolean) => {
                const rng = new Generator(5);
                const begin = (rng: Generator) => {
                  const model = net({ rng, dtype });
                  return { model, optimizer: make(model, { fisher, loss: 'crossEntropy', refreshEvery: 3 }) };
                };
                let { model, optimizer } = begin(rng);
                for (let step = 0; step < 5; step++) {
                  optimizer.zeroGrad();
                  const x = randn(shape, { rng, dtype: 'float64' }).mul(3).astype(input);
                  crossEntropy(model.call(casts ? x.astype(dtype) : x), labels(rng)).backward();
                  optimizer.step();
                  if (!splits || step !== 3) continue;
                  const next = begin(new Generator(9));
                  next.model.loadStateDict(model.stateDict());
                  next.optimizer.loadStateDict(optimizer.stateDict());
                  ({ model, optimizer } = next);
                }
                return bitsOf(model.stateDict()) + bitsOf(optimizer.stateDict());
              };
              const run = play(false, false);
              assert.equal(play(false, true), run, `${fisher}, ${dtype}, ${input}`);
              if (whole) assert.equal(play(true, false), run, `${fisher}, ${dtype}, ${input}`);
            }
    });

  law(t, 'layers, and a bias, of different dtypes in one model', () => {
    for (const make of Object.values(family)) {
      const rng = new Generator(1);
      const last = new Linear(6, 3, { rng, dtype: 'float64' });
      last.bias = new Parameter(zeros([3]));
      const model = new Sequential(new Linear(5, 6, { rng }), new Tanh(), last);
      const optimizer = make(model, { refreshEvery: 2 });
      const before = valuesOf(model);
      for (let step = 0; step < 4; step++) {
        optimizer.zeroGrad();
        crossEntropy(model.call(randn([12, 5], { rng })), labels(rng)).backward();
        optimizer.step();
      }
      optimizer.loadStateDict(optimizer.stateDict());
      assert.ok(valuesOf(model).every((v, i) => Number.isFinite(v) && v !== before[i]));
    }
  });
  t.end();
});

t.test('parameters that come and go', t => {
  const step = (model: AnyModule, optimizer: KroneckerPreconditioner, device = 'cpu') => {
    optimizer.zeroGrad();
    const x = randn([12, 5], { rng: new Generator(3) }).to(device);
    crossEntropy(model.call(x) as Tensor, labels(new Generator(4)).to(device)).backward();
    optimizer.step();
  };
  for (const [name, make] of Object.entries(family)) {
    law(t, `${name}: a layer that was frozen and is set free is an error that says what to do`, () => {
      const model = mlp([5, 6, 3], { rng: new Generator(1) });
      const own = model.parameters().slice(0, 2);
      for (const p of own) p.requiresGrad = false;
      const optimizer = make(model);
      step(model, optimizer);
      for (const p of own) p.requiresGrad = true;
      const before = valuesOf(model);
      const message =
        /'layers\.0\.weight' gets a gradient now, but was frozen when the optimizer was made.*make the optimizer anew/;
      assert.throws(() => step(model, optimizer), message);
      const first = own[0]!.grad!.clone();
      assert.throws(() => step(model, optimizer), message);
      assert.deepEqual([...own[0]!.grad!.dataSync()], [...first.dataSync()]);
      assert.deepEqual(valuesOf(model), before);
      optimizer.detach();
      step(model, make(model));
      assert.notDeepEqual(valuesOf(model).slice(0, 30), before.slice(0, 30));
    });

    law(t, `${name}: so are a parameter that was replaced, and a model that was moved`, () => {
      const model = mlp([5, 6, 3], { rng: new Generator(1) });
      const optimizer = make(model);
      step(model, optimizer);
      linearAt(model.layers, '0').weight = new Parameter(randn([6, 5]));
      assert.throws(
        () => step(model, optimizer),
        /'layers\.0\.weight' is another parameter than when the optimizer was made/,
      );
      const moved = mlp([5, 6, 3], { rng: new Generator(1) });
      const first = make(moved);
      moved.to('reference');
      assert.throws(
        () => step(moved, first, 'reference'),
        /the model moved to another device after the optimizer was made.* anew \(detach\(\) the old one before\), after model\.to/,
      );
    });
  }
  t.end();
});

t.test('states', t => {
  const begin = () => {
    const model = nets.linear!.make({ rng: new Generator(1), dtype: 'float32' });
    return { model, optimizer: new STEVE(model, { lr: 0.01, refreshEvery: 2, route: 'resident' }) };
  };
  const step = ({ model, optimizer }: ReturnType<typeof begin>) => {
    optimizer.zeroGrad();
    crossEntropy(model.call(randn([12, 5])), labels(new Generator(2))).backward();
    optimizer.step();
  };

  law(t, 'a damaged entry is refused, and nothing of the state was taken', () => {
    const source = begin();
    for (let i = 0; i < 3; i++) step(source);
    const state = source.optimizer.stateDict();
    const target = begin();
    step(target);
    const before = bitsOf(target.optimizer.stateDict());
    const like = (x: Tensor, value: number) => full(x.shape, value, { dtype: x.dtype });
    const isRest = (key: string) => key.startsWith('rest.');
    for (const [key, x] of Object.entries(state)) {
      const damages: [string, unknown][] = [
        ['undefined', undefined],
        ['no tensor', {}],
        ['another shape', zeros([7, 2])],
      ];
      if (key === 'rng') damages.push(['zeros', like(x, 0)]);
      else if (!isRest(key) || x.size === 1) damages.push(['NaN', like(x, NaN)]);
      if (/lr$|steps?$|count$|rows$|misses$|route$|expandedG$|needsInputGrad$|\.[sn][AG]$|\.U[AG]$/.test(key))
        damages.push(['−1', like(x, -1)]);
      if (/steps?$|count$|rows$|misses$|route$|expandedG$|needsInputGrad$/.test(key)) damages.push(['½', like(x, 0.5)]);
      if (/route$|expandedG$|needsInputGrad$/.test(key)) damages.push(['7', like(x, 7)]);
      for (const [what, value] of damages) {
        const damaged = { ...state, [key]: value } as StateDict;
        assert.throws(
          () => target.optimizer.loadStateDict(damaged),
          /loadStateDict: nothing was loaded/,
          `${key}: ${what}`,
        );
        assert.equal(bitsOf(target.optimizer.stateDict()), before, `${key}: ${what}`);
      }
    }
    step(target);
  });

  law(t, 'a state from another device is moved to that of the model', () => {
    const source = begin();
    for (let i = 0; i < 3; i++) step(source);
    const state = source.optimizer.stateDict();
    const target = begin();
    target.model.loadStateDict(source.model.stateDict());
    target.optimizer.loadStateDict(Object.fromEntries(Object.entries(state).map(([k, x]) => [k, x.to('reference')])));
    assert.equal(bitsOf(target.optimizer.stateDict()), bitsOf(state));
    step(target);
  });
  t.end();
});

t.test('devices', t => {
  registerBackend(new ReferenceBackend('another'));
  for (const [what, { make: net, shape }] of Object.entries(nets))
    law(t, `${what}: every Fisher, saving and loading, and the background, wherever the model is`, () => {
      for (const [name, make] of Object.entries(family))
        for (const fisher of name === 'KFAC' ? FISHERS : (['empirical'] as const))
          for (const loss of fisher === 'empirical' ? (['mse'] as const) : (['crossEntropy', 'mse'] as const))
            for (const refresh of name === 'STEVE' ? (['sync', 'background'] as const) : (['sync'] as const)) {
              const o = { fisher, loss, refresh, refreshEvery: 2, ...(refresh === 'background' && { refreshLag: 1 }) };
              const play = (device: string, state: string | null) => {
                const rng = new Generator(4);
                const begin = (seed: Generator) => {
                  const model = net({ rng: seed, dtype: 'float64' }).to(device);
                  return { model, optimizer: make(model, o) };
                };
                let { model, optimizer } = begin(rng);
                for (let step = 0; step < 4; step++) {
                  optimizer.zeroGrad();
                  const x = randn(shape, { rng, dtype: 'float64' }).to(device);
                  crossEntropy(model.call(x), labels(rng).to(device)).backward();
                  optimizer.step();
                  if (state === null || step !== 2) continue;
                  const saved = Object.entries(optimizer.stateDict()).map(([key, x]) => [key, x.to(state)]);
                  const next = begin(new Generator(9));
                  next.model.loadStateDict(model.stateDict());
                  next.optimizer.loadStateDict(Object.fromEntries(saved));
                  ({ model, optimizer } = next);
                }
                return valuesOf(model);
              };
              const here = play('cpu', null);
              for (const [device, state] of [
                ['reference', 'cpu'],
                ['another', 'another'],
              ] as const)
                mustBeClose(play(device, state), here, { rtol: 1e-8, atol: 1e-9 }, `${name}, ${fisher}, ${device}`);
            }
    });
  t.end();
});

t.test('an optimizer for the rest', t => {
  const make = nets.linear!.make;
  const net = () => make({ rng: new Generator(1), dtype: 'float32' });
  const other = new Parameter(zeros([2]));
  const wrong: [string, (model: Sequential) => (p: Parameter[]) => unknown, RegExp][] = [
    [
      'nothing',
      () => () => {},
      /^TypeError: KFAC: expected rest to return an optimizer, .*got undefined; is its return/,
    ],
    ['null', () => () => null, /^TypeError: KFAC: expected rest to return an optimizer, .*got null$/],
    ['a promise', () => async p => new SGD(p), /got a promise; the function must be synchronous$/],
    ['a number', () => () => 3, /expected rest to return an optimizer, .*got 3$/],
    ['the class', () => () => SGD, /expected rest to return an optimizer, .*got a function$/],
    ['a look-alike without a rate', () => p => ({ ...new SGD(p), step() {} }), /expected rest to return an optimizer/],
    ['an optimizer of a part', () => p => new SGD(p.slice(1)), /^Error: KFAC: .*does not train '1\.weight'; /],
    ['an optimizer of all', m => () => new Adam(m.parameters()), /trains '0\.weight', which a block updates, .* too; /],
    [
      'one of a stranger',
      () => p => new SGD([...p, other]),
      /trains .*\[2\].*, which is no parameter of the model too; /,
    ],
    ['one of a stranger alone', () => () => new SGD([other]), /does not train '1\.weight', '1\.bias'/],
  ];
  for (const [what, rest, said] of wrong)
    law(t, `${what} is refused, and leaves no hook`, () => {
      const model = net();
      assert.throws(
        () => new KFAC(model, { rest: rest(model) as never }),
        (e: Error) => said.test(`${e.name}: ${e.message}`),
      );
      const optimizer = new KFAC(model, { rest: p => new SGD([{ params: p.slice(1) }, { params: p.slice(0, 1) }]) });
      optimizer.detach();
    });
  law(t, 'whose step returns a promise is refused in the step, and nothing is changed', () => {
    class Later extends Adam {
      override step(): never {
        super.step();
        return Promise.reject(new Error('nobody sees this')) as never;
      }
    }
    const model = net();
    const optimizer = new STEVE(model, { rest: p => new Later(p) });
    crossEntropy(model.call(randn([12, 5])), labels(new Generator(2))).backward();
    const before = [model.stateDict(), optimizer.stateDict()].map(bitsOf);
    assert.throws(() => optimizer.step(), /TypeError: STEVE: rest must be synchronous, .*returned a promise/);
    assert.deepEqual([model.stateDict(), optimizer.stateDict()].map(bitsOf), before);
  });
  t.end();
});

law(t, 'overrides that are undefined are none', async t => {
  const lrOf = (overrides: NonNullable<KroneckerOptions['overrides']>, path: string) => {
    const optimizer = new KFAC(mlp([5, 6, 3]), { lr: 0.1, overrides });
    optimizer.detach();
    return optimizer.inspect(path).lrRatio;
  };
  t.equal(lrOf({ 'layers.0': undefined }, 'layers.0'), 1);
  t.equal(lrOf({ layers: { lr: 0.2 }, 'layers.0': undefined }, 'layers.0'), 2);
  t.equal(lrOf({ layers: undefined, 'layers.2': { lr: 0.3 } }, 'layers.0'), 1);
});

t.test('doors', t => {
  const model = mlp([5, 6, 3]);
  for (const [name, make] of Object.entries({
    KFAC: (m: never) => new KFAC(m),
    EKFAC: (m: never) => new EKFAC(m),
    STEVE: (m: never) => new STEVE(m),
  }))
    law(t, `${name} takes the model, and step() takes nothing`, () => {
      for (const [wrong, said] of [
        [model.parameters(), /it takes the model itself, not its parameters\(\)/],
        [undefined, /got undefined/],
        [{}, /expected model to be a module/],
      ] as const)
        assert.throws(
          () => make(wrong as never),
          (error: Error) => error.message.startsWith(`${name}: `) && said.test(error.message),
        );
      const optimizer = make(model as never);
      assert.throws(
        () => optimizer.step(...([() => 1] as never[])),
        new RegExp(`${name}.step: takes no argument, got a function`),
      );
      optimizer.detach();
    });
  t.end();
});
