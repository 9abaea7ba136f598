// The first hour with the library: looking at things, mistakes in options, nested layers, second order at its defaults.
import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { arange, concat, Generator, noGrad, rand, randn, type Tensor, tensor, zeros } from '@otimes/core';
import { checkOptions } from '@otimes/core/extend';
import { DataLoader, TensorDataset } from '@otimes/data';
import { crossEntropy, Linear, Module, mlp, mseLoss, Tanh } from '@otimes/nn';
import { Adam, KFAC, type Optimizer, STEVE } from '@otimes/optim';
import t from 'tap';
import { law } from './helpers/law.ts';

const x = tensor([
  [1, 2.5],
  [3, Number.NaN],
]);
const model = mlp([2, 4, 1]);

const looks: Record<string, [text: () => string, ...parts: RegExp[]]> = {
  'console.log of a tensor': [() => inspect(x), /2\.5/, /NaN/, /float32\[2,2\]/],
  'a tensor in text': [() => `loss: ${x}`, /^loss: /, /2\.5/],
  'a tensor as JSON': [() => JSON.stringify({ x }), /^{"x":\[\[1,2\.5\],\[3,"NaN"\]\]}$/],
  'tensors in an object and a list': [() => inspect({ loss: x.sum(), all: [x, x] }), /loss: tensor\(NaN/, /2\.5/],
  'a model and an optimizer': [
    () => `${inspect(model)}\n${inspect(new Adam(model.parameters()))}`,
    /Linear/,
    /17 parameters/,
    /Adam\(lr/,
  ],
};
for (const [what, [text, ...parts]] of Object.entries(looks))
  law(t, `${what} shows what is in it, within a page`, () => {
    const shown = text();
    for (const part of parts) assert.match(shown, part);
    assert.ok(shown.length < 1500 && shown.split('\n').every(line => line.length <= 80), shown);
  });

/** From plain JavaScript, where no type says it. */
const js = (o: object | number | string) => o as never;
const mistakes: Record<string, [() => unknown, RegExp]> = {
  'an option that a layer has not': [() => new Linear(2, 3, js({ bais: false })), /^Linear: .*'bais'.*bias/],
  'an option of a loss, in PyTorch’s spelling': [
    () => crossEntropy(zeros([1, 2]), zeros([1], { dtype: 'int32' }), js({ label_smoothing: 0.1 })),
    /^crossEntropy: .*'label_smoothing'.*did you mean 'labelSmoothing'/,
  ],
  'an option that an optimizer has not': [
    () => new Adam(model.parameters(), js({ learningRate: 0.1 })),
    /^Adam: .*'learningRate'.*\blr\b/,
  ],
  'an option of a loader, in PyTorch’s spelling': [
    () => new DataLoader(new TensorDataset(x), js({ batch_size: 2 })),
    /^DataLoader: .*'batch_size'.*did you mean 'batchSize'/,
  ],
  'a number for options': [() => new Adam(model.parameters(), js(0.01)), /^Adam: expected options .*got 0\.01/],
  'a dtype that there is not': [() => zeros([2], js({ dtype: 'float16' })), /^zeros: .*'float32'.*got 'float16'/],
};
for (const [what, [run, says]] of Object.entries(mistakes))
  law(t, `${what} is an error that says what to write`, () => {
    assert.throws(run, (error: Error) => says.test(error.message));
  });

law(
  t,
  'of an unknown option the one that was meant is itself, one that begins like it, or one with which it begins',
  () => {
    const known = ['eps', 'refresh', 'refreshEvery', 'refreshEveryOther', 'betas', 'lr', 'weightDecay'];
    const table = Object.fromEntries(known.map(name => [name, { expected: 'anything', is: () => true }]));
    const cases: Record<string, string | null> = {
      ...{ refresh_every: 'refreshEvery', Refresh: 'refresh', refreshEvry: 'refreshEvery', refreshing: 'refresh' },
      ...{
        epsilon: 'eps',
        beta1: 'betas',
        weight: 'weightDecay',
        weightDecy: 'weightDecay',
        lrs: 'lr',
        momentum: null,
      },
    };
    for (const [name, meant] of Object.entries(cases)) {
      const hint = meant === null ? '' : `; did you mean '${meant}'?`;
      const message = `f: there is no option '${name}', only ${known.join(', ')}${hint}`;
      assert.throws(() => checkOptions<object>('f', { [name]: 1 }, table), { name: 'TypeError', message });
    }
  },
);

law(t, 'layers in records, maps and nested lists are trained, by first and second order', () => {
  class Nested extends Module {
    heads = { a: new Linear(2, 3), b: { c: new Linear(3, 3) } };
    map = new Map([['x', new Linear(3, 3)]]);
    grid = [[new Linear(3, 3)], [new Tanh(), new Linear(3, 1)]];
    override forward(input: Tensor): Tensor {
      const { heads, map, grid } = this;
      const layers = [heads.a, heads.b.c, map.get('x')!, ...grid.flat()];
      return layers.reduce((h, layer) => layer.call(h), input);
    }
  }
  const makes: ((m: Nested) => Optimizer)[] = [
    m => new Adam(m.parameters(), { lr: 0.1 }),
    m => new STEVE(m),
    m => new KFAC(m),
  ];
  for (const make of makes) {
    const nested = new Nested();
    const before = [...nested.namedParameters()].map(([path, p]) => [path, String(p.toArray())] as const);
    assert.deepEqual(
      before.map(([path]) => path).filter(path => path.endsWith('weight')),
      ['heads.a.weight', 'heads.b.c.weight', 'map.x.weight', 'grid.0.0.weight', 'grid.1.1.weight'],
    );
    const optimizer = make(nested);
    const input = randn([16, 2], { rng: new Generator(2) });
    for (let i = 0; i < 3; i++) {
      optimizer.zeroGrad();
      mseLoss(nested.call(input), input.sum(1, { keepdim: true })).backward();
      optimizer.step();
    }
    const now = nested.namedParameters();
    for (const [path, value] of before) assert.notEqual(String(now.get(path)!.toArray()), value, path);
  }
});

for (const [fisher, options, target] of [
  ['empirical', {}, 0.05],
  ['GGN', { fisher: 'ggn', loss: 'mse' }, 1e-3],
] as const)
  law(t, `KFAC at its defaults learns a sine, ${fisher} Fisher`, () => {
    for (const seed of [0, 1, 2]) {
      const input = arange(-100, 100).astype('float32').mul(0.03).reshape(200, 1);
      const net = mlp([1, 32, 32, 1], { activation: 'tanh', rng: new Generator(seed) });
      const optimizer = new KFAC(net, options);
      let loss = Number.POSITIVE_INFINITY;
      for (let i = 0; i < 300; i++) {
        optimizer.zeroGrad();
        const value = mseLoss(net.call(input), input.sin());
        value.backward();
        optimizer.step();
        loss = value.item();
      }
      assert.ok(loss < target, `seed ${seed}: ${loss}`);
    }
  });

law(t, 'STEVE beside a raw column of years learns as well as Adam, each at the better of two rates', () => {
  const rng = new Generator(5);
  const year = rand([512, 1], { rng }).mul(10).add(1995);
  const features = randn([512, 3], { rng });
  const input = concat([year, features], 1);
  const target = features.slice(null, [0, 1]).mul(2).add(year.sub(2000).mul(0.2));
  const best = (make: (m: Module, lr: number) => Optimizer) =>
    Math.min(
      ...[0.003, 0.01].map(lr => {
        const net = mlp([4, 32, 1], { activation: 'relu', rng: new Generator(1) });
        const optimizer = make(net, lr);
        const loader = new DataLoader(new TensorDataset(input, target), {
          batchSize: 64,
          shuffle: true,
          rng: new Generator(3),
        });
        for (let epoch = 0; epoch < 20; epoch++)
          for (const [a, b] of loader) {
            optimizer.zeroGrad();
            mseLoss(net.call(a), b).backward();
            optimizer.step();
          }
        return noGrad(() => mseLoss(net.call(input), target).item());
      }),
    );
  const [adam, steve] = [best((m, lr) => new Adam(m.parameters(), { lr })), best((m, lr) => new STEVE(m, { lr }))];
  assert.ok(steve <= adam * 1.1, `Adam ${adam}, STEVE ${steve}`);
});

law(t, 'a tensor of one element adds up and compares as its number', () => {
  let total = 0;
  for (const loss of [tensor(0.5), tensor([2])]) total += Number(loss);
  assert.equal(total, 2.5);
});
