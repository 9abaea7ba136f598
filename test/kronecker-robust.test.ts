// What goes wrong beside a Kronecker optimizer: a backward pass that throws, numbers that are not finite, states that are
// damaged, layers that come and go, inputs of other dtypes, several sets of examples, other devices, factors too large.
import assert from 'node:assert/strict';
import {
  concat,
  type DType,
  full,
  Generator,
  grad,
  noGrad,
  OutOfMemoryError,
  ReferenceBackend,
  randint,
  randn,
  registerBackend,
  type StateDict,
  type Tensor,
  zeros,
} from '@otimes/core';
import { eigh } from '@otimes/linalg';
import {
  type AnyModule,
  Conv2d,
  crossEntropy,
  Flatten,
  LayerNorm,
  Linear,
  Module,
  MultiHeadAttention,
  mlp,
  Parameter,
  ReLU,
  Sequential,
  Tanh,
} from '@otimes/nn';
import {
  Adam,
  type Collector,
  defaultCollectors,
  type Eigensolver,
  EKFAC,
  KFAC,
  type KroneckerOptions,
  type KroneckerPreconditioner,
  linearCollector,
  type Route,
  SGD,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { Decomposer } from '../optim/src/curvature/decompose/here.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { linearAt, valuesOf } from './suites/training.ts';

/** What was warned while `run` ran. */
const warningsOf = (run: () => void): string[] => {
  const [warn, said] = [console.warn, [] as string[]];
  console.warn = (text: string) => void said.push(text);
  try {
    run();
  } finally {
    console.warn = warn;
  }
  return said;
};

type Make = (model: AnyModule, o?: KroneckerOptions) => KroneckerPreconditioner;

const family: Record<string, Make> = {
  KFAC: (m, o) => new KFAC(m, { lr: 0.05, ...o }),
  EKFAC: (m, o) => new EKFAC(m, { lr: 0.05, ...o }),
  STEVE: (m, o) => new STEVE(m, { lr: 0.05, ...o }),
  'STEVE example': (m, o) => new STEVE(m, { lr: 0.05, secondMoment: 'example', ...o }),
};
const ROUTES: readonly Route[] = ['gradient', 'activations', 'resident'];
const FISHERS = ['empirical', 'sampled', 'ggn'] as const;

type LayerOptions = { dtype: DType; rng: Generator };
type Net = { make: (o: LayerOptions) => Sequential; shape: readonly number[] };
const nets: Record<string, Net> = {
  linear: {
    make: o => new Sequential(new Linear(5, 6, o), new LayerNorm(6, o), new Tanh(), new Linear(6, 3, o)),
    shape: [12, 5],
  },
  convolution: {
    make: o => new Sequential(new Conv2d(2, 3, 3, o), new ReLU(), new Flatten(), new Linear(12, 3, o)),
    shape: [12, 2, 4, 4],
  },
  attention: {
    make: o => new Sequential(new MultiHeadAttention(6, 2, o), new Flatten(), new Linear(18, 3, o)),
    shape: [12, 3, 6],
  },
};

/** A state dict, bit for bit. */
const bitsOf = (state: StateDict): string =>
  Object.entries(state)
    .map(([key, x]) => `${key} ${x.dtype} ${x.shape} ${Buffer.from(x.dataSync().buffer).toString('hex')}`)
    .join('\n');

const labels = (rng: Generator, n = 12): Tensor => randint(0, 3, [n], { rng });

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

t.test('a step of numbers that are not finite', t => {
  type Act = (model: Sequential, optimizer: KroneckerPreconditioner, loss: Tensor) => void;
  const set = (model: Sequential, at: number, value: number) => {
    const g = model.parameters().at(at)!.grad!;
    g.copy_(full(g.shape, value));
  };
  const spoilt: Record<string, Act> = {
    'NaN in the first gradient': (m, _, loss) => {
      loss.backward();
      set(m, 0, NaN);
    },
    'Infinity in the last weight’s gradient': (m, _, loss) => {
      loss.backward();
      set(m, -2, Infinity);
    },
    'NaN in a gradient of the rest': (m, _, loss) => {
      loss.backward();
      set(m, 2, NaN);
    },
    'factors that overflow': (_, __, loss) => loss.mul(1e30).backward(),
    'squares that overflow': (m, _, loss) => {
      loss.backward();
      for (const p of m.parameters()) p.grad!.scale_(1e25);
    },
    'weights that overflow': (_, optimizer, loss) => {
      loss.backward();
      optimizer.lr = 3e38;
    },
  };
  /** Where nothing overflows, the step is right. */
  const mayPass = new Set(['squares that overflow', 'weights that overflow']);
  const makes: Record<string, Make> = {
    ...family,
    'KFAC with momentum': (m, o) => new KFAC(m, { lr: 0.05, momentum: 0.9, ...o }),
    'STEVE, rest of the user': (m, o) => new STEVE(m, { lr: 0.05, rest: p => new Adam(p, { lr: 0.05 }), ...o }),
  };
  for (const [name, make] of Object.entries(makes))
    law(t, `${name}: is refused, changes nothing, and the next batch is as if it had not been`, () => {
      let refused = 0;
      for (const route of ROUTES)
        for (const at of [2, 3]) // between refreshes, and on one
          for (const [what, act] of Object.entries(spoilt)) {
            const play = (fails: boolean): string | null => {
              const rng = new Generator(5);
              const model = nets.linear!.make({ rng, dtype: 'float32' });
              const optimizer = make(model, { route, refreshEvery: 3 });
              for (let step = 0; step < 6; step++) {
                optimizer.zeroGrad();
                const [x, y] = [randn([12, 5], { rng }), labels(rng)];
                if (fails && step === at) {
                  const { lr } = optimizer;
                  const before = [model.stateDict(), optimizer.stateDict()].map(bitsOf);
                  act(model, optimizer, crossEntropy(model.call(x), y));
                  try {
                    optimizer.step();
                    if (mayPass.has(what)) return null;
                  } catch (error) {
                    refused++;
                    assert.match(String(error), /RangeError: .*NaN or infinite elements; no parameter was changed/);
                  }
                  optimizer.lr = lr;
                  assert.deepEqual([model.stateDict(), optimizer.stateDict()].map(bitsOf), before, `${route}, ${what}`);
                  optimizer.zeroGrad();
                }
                crossEntropy(model.call(x), y).backward();
                optimizer.step();
              }
              return bitsOf(model.stateDict()) + bitsOf(optimizer.stateDict());
            };
            const failing = play(true);
            if (failing !== null) assert.equal(failing, play(false), `${route}, ${at}, ${what}`);
          }
      assert.ok(refused >= 24, `${refused} were refused`);
    });

  law(t, 'a rest that throws is put back, and the blocks have not moved', () => {
    class Throws extends Adam {
      fails = false;
      override step(): void {
        super.step();
        if (this.fails) throw new Error('later');
      }
    }
    const model = nets.linear!.make({ rng: new Generator(1), dtype: 'float32' });
    let rest: Throws | undefined;
    const optimizer = new STEVE(model, { rest: p => (rest = new Throws(p)) });
    const back = () => crossEntropy(model.call(randn([12, 5])), labels(new Generator(2))).backward();
    back();
    optimizer.step();
    const before = [model.stateDict(), optimizer.stateDict()].map(bitsOf);
    back();
    rest!.fails = true;
    assert.throws(() => optimizer.step(), /later/);
    assert.deepEqual([model.stateDict(), optimizer.stateDict()].map(bitsOf), before);
  });

  const wrong: [string, (e: ReturnType<typeof eigh>) => unknown, RegExp][] = [
    [
      'NaN in the vectors',
      e => void e.vectors.data.fill(NaN),
      /RangeError: .*factor A of linear '3' has eigenvectors that are not finite/,
    ],
    [
      'Infinity in the values',
      e => void e.values.data.fill(Infinity),
      /RangeError: .*has eigenvalues that are not finite/,
    ],
    ['vectors that are not orthonormal', e => void e.vectors.data.set([0.3, 0.7], 3), /are not orthonormal/],
    [
      'vectors that are too short',
      e => void e.vectors.data.set(Float64Array.from(e.vectors.data as Float64Array, v => 0.99 * v)),
      /are not orthonormal/,
    ],
    ['other shapes', e => Object.assign(e.vectors, { shape: [2, 2] }), /TypeError: .*vectors is \[2,2\]/],
    [
      'nothing',
      () => null,
      /TypeError: STEVE: the eigensolver must return \{ values \[7\], vectors \[7,7\] \} as ndarrays/,
    ],
  ];
  for (const [what, spoil, message] of wrong)
    law(t, `an eigensolver that returns ${what} is an error, and nothing has changed`, () => {
      const model = nets.linear!.make({ rng: new Generator(1), dtype: 'float32' });
      let fails = false;
      const eigensolver: Eigensolver = m => {
        const e = eigh(m);
        return fails && spoil(e) === null ? JSON.parse('null') : e;
      };
      const optimizer = new STEVE(model, { eigensolver, refreshEvery: 1 });
      const back = () => crossEntropy(model.call(randn([12, 5])), labels(new Generator(2))).backward();
      back();
      optimizer.step();
      const before = [model.stateDict(), optimizer.stateDict()].map(bitsOf);
      fails = true;
      back();
      assert.throws(() => optimizer.step(), message);
      assert.deepEqual([model.stateDict(), optimizer.stateDict()].map(bitsOf), before);
    });
  t.end();
});

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
        /the model moved to another device after the optimizer was made/,
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

t.test('large factors', t => {
  /** A solver that waits, so that n³ operations take as long as on a slow machine. */
  const slow =
    (seconds: (n: number) => number): Eigensolver =>
    matrix => {
      const end = performance.now() + 1000 * seconds(matrix.shape[0]!);
      while (performance.now() < end);
      return eigh(matrix);
    };

  law(
    t,
    'a decomposition that will take long is announced before it, once, by a rate that smaller ones have shown',
    () => {
      const model = new Sequential(new Linear(299, 70, { bias: false }), new Tanh(), new Linear(70, 3));
      // 70³ in 0.06 s: 299³ would take 4.7 s.
      const optimizer = new STEVE(model, { refreshEvery: 1, eigensolver: slow(n => (n === 70 ? 0.06 : 0)) });
      const said = warningsOf(() => {
        for (let step = 0; step < 2; step++) {
          optimizer.zeroGrad();
          crossEntropy(model.call(randn([4, 299])), randint(0, 3, [4])).backward();
          optimizer.step();
        }
      });
      assert.equal(said.length, 1, said.join('\n'));
      assert.match(
        said[0]!,
        /^STEVE: the factor A of linear '0', 299 × 299, takes about [4-9](\.\d)? s and 0\.0029 GB to decompose, again every 1 steps .*maxFactorDim/,
      );
    },
  );

  law(t, 'without a measurement n³ is taken at a usual rate: seconds from some 1500 on, minutes at 9217', () => {
    const decomposer = new Decomposer('STEVE', eigh, 10);
    assert.ok(decomposer.secondsOf(1000) < 2 && decomposer.secondsOf(2000) > 2);
    assert.ok(decomposer.secondsOf(9217) > 120 && decomposer.secondsOf(9217) < 3600);
  });

  law(t, 'a factor that no memory holds is refused when the optimizer is made, by layer and option', () => {
    const model = new Sequential(new Linear(30_000, 2));
    assert.throws(
      () => new STEVE(model),
      (error: unknown) =>
        error instanceof OutOfMemoryError &&
        /STEVE: the factor A of linear '0' would be 30001 × 30001, 7\.2 GB in float64, .*maxFactorDim/.test(
          error.message,
        ),
    );
    crossEntropy(model.call(randn([2, 30_000])), randint(0, 2, [2])).backward();
    new STEVE(model, { maxFactorDim: 2048 }).detach();
  });

  law(t, 'memory that ends in a decomposition names the layer, and nothing has changed', () => {
    const model = nets.linear!.make({ rng: new Generator(1), dtype: 'float32' });
    const optimizer = new EKFAC(model, {
      eigensolver: () => {
        throw new RangeError('Array buffer allocation failed');
      },
    });
    const before = bitsOf(model.stateDict());
    crossEntropy(model.call(randn([12, 5])), labels(new Generator(2))).backward();
    assert.throws(
      () => optimizer.step(),
      (error: unknown) =>
        error instanceof OutOfMemoryError &&
        /EKFAC: no memory for the factors of linear '[03]'.*maxFactorDim/.test(error.message),
    );
    assert.equal(bitsOf(model.stateDict()), before);
  });
  t.end();
});

t.test('what is printed', t => {
  law(t, 'an optimizer and its description are tables of at most 80 columns, and rows keep their fields', async () => {
    const { inspect } = await import('node:util');
    const model = new Sequential(
      new Conv2d(2, 3, 3),
      new LayerNorm(5),
      new Sequential(new Sequential(new Linear(3, 3))),
    );
    const optimizer = new STEVE(model, { maxFactorDim: 4 });
    for (const text of [
      inspect(optimizer),
      String(optimizer),
      inspect(optimizer.describe()),
      `${optimizer.describe()}`,
    ])
      for (const line of text.split('\n')) assert.ok(line.length <= 80, line);
    assert.match(
      inspect(optimizer),
      /^STEVE\(lr 0\.01, refreshEvery 10\) of Sequential, step 0\npath +collector +shape/,
    );
    assert.match(inspect(optimizer), /\n0 +conv2d +3 × 19 +expand +gradient, A identity\n/);
    assert.match(inspect(optimizer), /\n1\.weight +rest +5\n/);
    assert.deepEqual(Object.keys(optimizer.describe()[0]!), [
      'path',
      'collector',
      'shape',
      'sharing',
      'parameters',
      'route',
      'identity',
    ]);
    noGrad(() => assert.equal(linearAt(model, '2').weight, undefined));
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

t.test('overrides that are undefined are none', async t => {
  const lrOf = (overrides: NonNullable<KroneckerOptions['overrides']>, path: string) => {
    const optimizer = new KFAC(mlp([5, 6, 3]), { lr: 0.1, overrides });
    optimizer.detach();
    return optimizer.inspect(path).lrRatio;
  };
  t.equal(lrOf({ 'layers.0': undefined }, 'layers.0'), 1);
  t.equal(lrOf({ layers: { lr: 0.2 }, 'layers.0': undefined }, 'layers.0'), 2);
  t.equal(lrOf({ layers: undefined, 'layers.2': { lr: 0.3 } }, 'layers.0'), 1);
});

t.test('collectors of the program', t => {
  type Answer = (model: AnyModule, path: string) => unknown;
  const blockOf = (module: AnyModule, path: string, changes: object = {}) => {
    const [block] = linearCollector.collect(module, path, { sharing: undefined })!;
    const { collector, sharing, tap, parameters, dOut, dIn } = block!;
    const methods = { canonical: block!.canonical, gradient: block!.gradient, add: block!.add };
    return { path, collector, sharing, tap, parameters, dOut, dIn, ...methods, ...changes };
  };
  const changed =
    (changes: object): Answer =>
    (module, path) => [blockOf(module, path, changes)];
  const stranger = new Linear(2, 2);
  const cases: [string, Answer, RegExp][] = [
    [
      'undefined',
      () => undefined,
      /expected what collect\(\) returns to be a list of blocks, .*got undefined; is its return/,
    ],
    ['3', () => 3, /expected what collect\(\) returns to be a list of blocks.*got 3$/],
    ['a block', (m, path) => blockOf(m, path), /expected what collect\(\) returns to be a list of blocks.*got \{ path/],
    ['[3]', () => [3], /expected block 0 to be a block, got 3$/],
    ['[null]', () => [null], /expected block 0 to be a block, got null$/],
    ['[{}]', () => [{}], /expected block 0's path to be a string, got undefined$/],
    ['a number for a path', changed({ path: 3 }), /block 0's path to be a string, got 3$/],
    ['no collector', changed({ collector: undefined }), /block 0's collector to be a string, got undefined$/],
    ['an unknown sharing', changed({ sharing: 'x' }), /block 0's sharing to be 'expand' or 'reduce', got 'x'$/],
    ['no tap', changed({ tap: undefined }), /block 0's tap to be a module, got undefined$/],
    ['no parameters', changed({ parameters: undefined }), /block 0's parameters to be a list .*, got undefined$/],
    ['an empty list of parameters', changed({ parameters: [] }), /block 0's parameters to be a list of one Parameter/],
    ['sizes that are none', changed({ dOut: 0 }), /block 0's dOut to be an integer ≥ 1, got 0$/],
    ['half a size', changed({ dIn: 1.5 }), /block 0's dIn to be an integer ≥ 1, got 1\.5$/],
    ['no canonical', changed({ canonical: undefined }), /block 0's canonical to be a function, got undefined$/],
    ['no gradient', changed({ gradient: 1 }), /block 0's gradient to be a function, got 1$/],
    ['no add', changed({ add: null }), /block 0's add to be a function, got null$/],
    ['a norm that is none', changed({ norm: 1 }), /block 0's norm to be a function, got 1$/],
    ['a layer that is none', changed({ layer: {} }), /block 0's layer to be a layer/],
    ['a tap from elsewhere', changed({ tap: stranger }), /the tap of block 0, a Linear, is no module of the model$/],
    ['foreign parameters', changed({ parameters: stranger.parameters() }), /block 0 has .*no parameter of the model$/],
    [
      'one path twice',
      (m, path) => [blockOf(m, path), blockOf(m, path)],
      /block 1 has the path 'layers\.0', and so has/,
    ],
  ];
  for (const [what, answer, said] of cases)
    law(t, `${what} is refused, by the names of collector and path`, () => {
      const collect = (m: AnyModule, path: string) => (m instanceof Linear ? answer(m, path) : null);
      const mine = { name: 'mine', collect } as Collector;
      const model = mlp([4, 5, 3]);
      assert.throws(
        () => new STEVE(model, { collectors: [mine, ...defaultCollectors] }),
        (e: Error) => e.message.startsWith("STEVE: collector 'mine' at 'layers.0': ") && said.test(e.message),
      );
      new STEVE(model).detach();
    });
  const wrong: [string, (x: Tensor, gy: Tensor) => unknown, RegExp][] = [
    ['undefined', () => undefined, /, got undefined$/],
    ['nothing of it', () => ({}), /, got \{ {2}\}$/],
    ['rows without positions', (a, g) => ({ a, g }), /, got a float32\[6,4\], g float32\[6,5\]$/],
    ['no homogeneous 1', (a, g) => ({ a: a.unsqueeze(1), g: g.unsqueeze(1) }), /, got a float32\[6,1,4\], g /],
  ];
  for (const [what, canonical, said] of wrong)
    law(t, `a canonical form that is ${what} is refused in backward`, () => {
      const collect: Collector['collect'] = (m, p) => (m instanceof Linear ? [blockOf(m, p, { canonical })] : null);
      const model = new Linear(4, 5);
      const optimizer = new KFAC(model, { collectors: [{ name: 'mine', collect }] });
      assert.throws(
        () =>
          model
            .call(randn([6, 4]))
            .sum()
            .backward(),
        (e: Error) => e.message.startsWith('linear collector: expected canonical() of ') && said.test(e.message),
      );
      optimizer.detach();
    });
  law(t, 'a block of what is frozen is refused', () => {
    const model = mlp([4, 5, 3]);
    const mine: Collector = { name: 'mine', collect: (m, p) => (m instanceof Linear ? [blockOf(m, p)] : null) };
    const layer = [...model.namedModules().values()].find(m => m instanceof Linear)!;
    const parameters = layer.parameters();
    const keeps: Collector = {
      name: 'mine',
      collect: (m, p) => (m === layer ? [blockOf(m, p, { parameters })] : null),
    };
    new KFAC(model, { collectors: [mine] }).detach();
    layer.bias!.requiresGrad = false;
    assert.throws(() => new KFAC(model, { collectors: [keeps] }), /KFAC: collector 'mine' at 'layers\.0': .*is frozen/);
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

t.test('a step that ends half way', t => {
  /** A device whose memory is full at the n-th allocation from now on. */
  class Small extends ReferenceBackend {
    left = Number.POSITIVE_INFINITY;
    override allocate(...a: Parameters<ReferenceBackend['allocate']>): ReturnType<ReferenceBackend['allocate']> {
      if (--this.left === 0) throw new OutOfMemoryError('allocate: memory is full, on purpose');
      return super.allocate(...a);
    }
  }
  const small = new Small('small');
  registerBackend(small);
  const device = 'small';
  for (const [name, make] of Object.entries(family))
    for (const route of ['gradient', 'resident'] as const)
      law(
        t,
        `${name}, ${route}: memory that ends anywhere in a refreshing step changes nothing, and training goes on`,
        () => {
          const rng = new Generator(0);
          const model = mlp([4, 5, 3], { rng }).to(device);
          const optimizer = make(model, { refreshEvery: 2, route });
          const [x, y] = [randn([8, 4], { rng, device }), randint(0, 3, [8], { rng, device })];
          const step = (memory = Number.POSITIVE_INFINITY) => {
            optimizer.zeroGrad();
            crossEntropy(model.call(x), y).backward();
            small.left = memory;
            try {
              optimizer.step();
            } finally {
              small.left = Number.POSITIVE_INFINITY;
            }
          };
          const values = () => JSON.stringify([model.stateDict(), optimizer.stateDict()]);
          step();
          step();
          const start = [model.stateDict(), optimizer.stateDict()] as const;
          const before = values();
          let places = 0;
          for (let at = 1; at < 400; at += at < 40 ? 1 : 7) {
            try {
              step(at);
              break;
            } catch (error) {
              assert.match(String(error), /on purpose/);
            }
            places++;
            assert.equal(values(), before, `allocation ${at}`);
          }
          assert.ok(places > 20, `${places} places`);
          model.loadStateDict(start[0]);
          optimizer.loadStateDict(start[1]);
          step();
          assert.notEqual(values(), before);
        },
      );

  law(t, 'code of the program in a step may throw: nothing has changed, and training goes on', () => {
    let throws = false;
    class Own extends STEVE {
      protected override direction(...x: Parameters<STEVE['direction']>): Tensor {
        if (throws) throw new Error('mine');
        return super.direction(...x);
      }
    }
    for (const route of ['gradient', 'resident'] as const) {
      const model = mlp([4, 5, 3], { rng: new Generator(1) });
      const optimizer = new Own(model, { route, nesterov: true });
      for (let step = 0; step < 5; step++) {
        throws = step === 0 || step === 3;
        const before = JSON.stringify(model.stateDict());
        optimizer.zeroGrad();
        crossEntropy(model.call(randn([8, 4])), randint(0, 3, [8])).backward();
        if (!throws) optimizer.step();
        else {
          assert.throws(() => optimizer.step(), /mine/);
          assert.equal(JSON.stringify(model.stateDict()), before);
        }
      }
      assert.equal(optimizer.steps, 3);
    }
  });

  for (const [name, make] of Object.entries(family))
    law(t, `${name}: gradients that are set to null take along what was collected with them`, () => {
      const play = (skips: boolean, bad: number, zero: (m: Sequential, o: KroneckerPreconditioner) => void) => {
        const rng = new Generator(7);
        const model = nets.linear!.make({ dtype: 'float64', rng });
        const optimizer = make(model, { refreshEvery: 2 });
        for (let i = 0; i < 6; i++) {
          const x = randn([12, 5], { rng, dtype: 'float64' });
          const y = randint(0, 3, [12], { rng });
          if (i === 2 && !skips) continue;
          zero(model, optimizer);
          crossEntropy(model.call(i === 2 ? x.mul(bad) : x), y).backward();
          if (i !== 2) optimizer.step();
        }
        return valuesOf(model);
      };
      const byHand = (model: Sequential) => {
        for (const p of model.parameters()) p.grad = null;
      };
      const expected = play(false, 1, (_, o) => o.zeroGrad());
      for (const bad of [1, Number.NaN]) assert.deepEqual(play(true, bad, byHand), expected);
    });
  t.end();
});
