// Convolution and attention under the Kronecker family: second moments, recorded trajectories, whole models, and saving.

import assert from 'node:assert/strict';
import { arange, Generator, randint, randn, type Tensor } from '@otimes/core';
import {
  Conv2d,
  crossEntropy,
  Flatten,
  GlobalAvgPool2d,
  GroupNorm,
  LayerNorm,
  Linear,
  Module,
  ReLU,
  resnet18,
  Sequential,
  Tanh,
  TransformerBlock,
  vit,
} from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerPreconditioner, STEVE } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { attentionNet, dtype, random, SmallAttention, step } from './helpers/attention.ts';
import { law, overSeeds } from './helpers/law.ts';
import {
  distance,
  empiricalFisher,
  exampleGradients,
  fromEigenbasis,
  kronecker,
  type Net,
  Pool,
  statistics,
} from './suites/exactness.ts';
import { labelled, type OptimizerCase, resumptionLaw, type Task } from './suites/optimizers.ts';
import { recordedTrajectories } from './suites/recorded.ts';

// --- both ---

t.test('second moments in the eigenbasis', t => {
  const cnn = (seed: number): Net => {
    const o = random(seed);
    const geometry = { stride: 1 + (seed % 2), padding: seed % 3, bias: seed % 5 > 0 };
    const model = new Sequential(
      new Conv2d(2, 3, 2, { ...o, ...geometry }),
      new Tanh(),
      new GlobalAvgPool2d(),
      new Linear(3, 3, o),
    );
    return { model, x: randn([5, 2, 4, 3], o), y: randint(0, 3, [5], { rng: o.rng }), loss: 'crossEntropy' };
  };
  for (const [name, make] of Object.entries({ convolution: cnn, attention: (seed: number) => attentionNet(seed, 5) }))
    for (const sharing of ['expand', 'reduce'] as const)
      law(t, `${name}, ${sharing}: EKFAC's are those of single examples, and ‖F − EKFAC‖ ≤ ‖F − KFAC‖`, () => {
        overSeeds(6, seed => {
          const net = make(seed);
          for (const state of statistics(net, { sharing })) {
            const Ds = exampleGradients(net.model, state, net.x, net.y, net.loss);
            const squares = Ds.map(D => state.kfe!.project(D).square());
            const S = state.slots.get('S')!;
            mustBeClose(S, squares.reduce((sum, s) => sum.add(s)).div(Ds.length), { atol: 1e-14 }, state.label);
            const F = empiricalFisher(Ds);
            const ekfac = fromEigenbasis(state.kfe!.UA!, state.kfe!.UG!, S);
            assert.ok(distance(F, ekfac) <= distance(F, kronecker(state)) + 1e-12, state.label);
          }
        });
      });
  t.end();
});

recordedTrajectories(t, {
  name: 'conv',
  runs: 6,
  model: () =>
    new Sequential(
      new Conv2d(2, 4, 3, { dtype, padding: 1 }),
      new ReLU(),
      new Conv2d(4, 3, 3, { dtype, stride: 2 }),
      new Flatten(),
      new Linear(12, 3, { dtype }),
    ),
});

recordedTrajectories(t, { name: 'attn', runs: 9, model: () => new SmallAttention(random(0)) });

// --- models ---

t.test('in models', t => {
  const claimed = (optimizer: KroneckerPreconditioner) =>
    optimizer.describe().map(({ path, collector, sharing }) => [path, collector, sharing]);
  const rest = (...paths: string[]) => paths.map(path => [path, 'rest', null]);

  /** One step of STEVE on labelled images changes every parameter, and all stay finite. */
  const trains = (model: Module, x: Tensor) => {
    const optimizer = new STEVE(model, { lr: 0.01 });
    const before = model.stateDict();
    crossEntropy(model.call(x), randint(0, 3, [x.shape[0]!], { rng: new Generator(1) })).backward();
    optimizer.step();
    for (const [path, p] of model.namedParameters()) {
      const change = p.detach().sub(before[path]!).abs().max().item();
      assert.ok(change > 0 && Number.isFinite(change), `${path} changed by ${change}`);
    }
    return optimizer;
  };

  law(t, 'grouped convolutions have a block for each group, depthwise ones for each channel', () => {
    const o = random(1);
    const net = new Sequential(
      new Conv2d(4, 6, 3, { ...o, groups: 2, padding: 1 }),
      new Conv2d(6, 6, 3, { ...o, groups: 6, bias: false }),
      new GlobalAvgPool2d(),
      new Linear(6, 3, o),
    );
    const optimizer = trains(net, randn([5, 4, 4, 4], o));
    assert.deepEqual(
      optimizer.describe().map(({ path, shape, parameters }) => [path, shape, parameters.join()]),
      [
        ...[0, 1].map(i => [`0.groups.${i}`, [3, 19], '0.weight,0.bias']),
        ...[0, 1, 2, 3, 4, 5].map(i => [`1.groups.${i}`, [1, 9], '1.weight']),
        ['3', [3, 7], '3.weight,3.bias'],
      ],
    );
    assert.deepEqual(
      new KFAC(new Conv2d(2, 2, 3, { groups: 2 })).describe().map(({ path }) => path),
      ['groups.0', 'groups.1'],
    );
  });

  law(t, 'the groups of a convolution share one weight, which decays once a step', () => {
    const o = random(2);
    const conv = new Conv2d(3, 3, 2, { ...o, groups: 3 });
    const before = conv.stateDict();
    const optimizer = new STEVE(conv, { lr: 0.5, weightDecay: 0.1 });
    // A gradient of 0 leaves nothing but the decay.
    conv
      .call(randn([2, 3, 3, 3], o))
      .mul(0)
      .sum()
      .backward();
    optimizer.step();
    for (const [path, p] of conv.namedParameters()) mustBeClose(p, before[path]!.mul(0.95), { rtol: 1e-12 }, path);
  });

  law(
    t,
    'a frozen convolution is claimed by nobody and does not change; a frozen bias leaves the homogeneous column',
    () => {
      const o = random(3);
      const net = new Sequential(new Conv2d(2, 2, 2, o), new Conv2d(2, 2, 2, o), new GlobalAvgPool2d());
      const [first, second] = net.layers as unknown as [Conv2d, Conv2d];
      first.weight.requiresGrad = false;
      first.bias!.requiresGrad = false;
      second.bias!.requiresGrad = false;
      const before = net.stateDict();
      const optimizer = new STEVE(net);
      step(net, optimizer, { x: randn([3, 2, 4, 4], o), y: randn([3, 2], o) });
      assert.deepEqual(
        optimizer.describe().map(({ path, shape }) => [path, shape]),
        [['1', [2, 8]]],
      );
      for (const path of ['0.weight', '0.bias', '1.bias'])
        mustBeClose(net.stateDict()[path]!, before[path]!, { rtol: 0, atol: 0 }, path);
    },
  );

  law(
    t,
    'a transformer block: four blocks of attention, two linear layers, norms under rest; a mask changes nothing',
    () => {
      const o = random(4);
      class Masked extends Module {
        readonly block = new TransformerBlock(4, 2, { ...o, mlpRatio: 2 });
        override forward(x: Tensor): Tensor {
          const at = arange(x.shape[1]!);
          return this.block.call(x, at.unsqueeze(1).ge(at)).mean(1);
        }
      }
      const optimizer = trains(new Masked(), randn([6, 3, 4], o));
      assert.deepEqual(claimed(optimizer), [
        ['block.attention.q', 'attention', 'reduce'],
        // Under a causal mask softmax still ignores what all keys have in common.
        ['block.attention.k', 'attention', 'reduce, G expanded'],
        ['block.attention.v', 'attention', 'reduce'],
        ['block.attention.o', 'attention', 'reduce'],
        ['block.linear1', 'linear', 'expand'],
        ['block.linear2', 'linear', 'expand'],
        ...rest('block.norm1.weight', 'block.norm1.bias', 'block.norm2.weight', 'block.norm2.bias'),
      ]);
    },
  );

  law(
    t,
    'a vision transformer: patches, attention and linear layers claimed; norms, class token and positions under rest',
    () => {
      const o = random(5);
      const model = vit({
        imageSize: 4,
        patch: 2,
        dim: 4,
        depth: 2,
        heads: 2,
        classes: 3,
        channels: 1,
        mlpRatio: 2,
        ...o,
      });
      const optimizer = trains(model, randn([6, 1, 4, 4], o));
      const block = (i: number) => [
        ...['q', 'k', 'v', 'o'].map(name => [
          `blocks.${i}.attention.${name}`,
          'attention',
          name === 'k' ? 'reduce, G expanded' : 'reduce',
        ]),
        [`blocks.${i}.linear1`, 'linear', 'expand'],
        [`blocks.${i}.linear2`, 'linear', 'expand'],
      ];
      const norms = (i: number) =>
        ['norm1', 'norm2'].flatMap(n => [`blocks.${i}.${n}.weight`, `blocks.${i}.${n}.bias`]);
      assert.deepEqual(
        claimed(optimizer).sort(),
        [
          ['embed', 'conv2d', 'expand'],
          ...block(0),
          ...block(1),
          ['head', 'linear', 'expand'],
          ...rest('classToken', 'position', ...norms(0), ...norms(1), 'norm.weight', 'norm.bias'),
        ].sort(),
      );
    },
  );

  law(t, 'ResNet-18: all 20 convolutions and the head claimed, batch norms under rest', () => {
    const o = random(6);
    const optimizer = trains(resnet18({ classes: 3, stem: 'cifar', width: 2, ...o }), randn([4, 3, 8, 8], o));
    const rows = optimizer.describe();
    assert.equal(rows.filter(({ collector }) => collector === 'conv2d').length, 20);
    assert.deepEqual(
      rows.filter(({ collector }) => collector === 'linear').map(({ path }) => path),
      ['fc'],
    );
    const others = rows.filter(({ collector }) => collector === 'rest');
    assert.equal(others.length, 40);
    assert.ok(
      others.every(({ path }) => /\.(bn\d|1)\.|^bn1\./.test(path)),
      others.map(({ path }) => path).join(),
    );
  });
  t.end();
});

// --- saving ---

const optimizers: readonly OptimizerCase[] = [
  { name: 'KFAC', make: m => new KFAC(m, { lr: 0.05, damping: 0.1, refreshEvery: 3, momentum: 0.9 }) },
  { name: 'EKFAC', make: m => new EKFAC(m, { lr: 0.05, damping: 0.1, refreshEvery: 4 }) },
  { name: 'STEVE', make: m => new STEVE(m, { lr: 0.02, refreshEvery: 4 }) },
  {
    name: 'STEVE example, sampled',
    make: m =>
      new STEVE(m, { lr: 0.02, refreshEvery: 3, secondMoment: 'example', fisher: 'sampled', loss: 'crossEntropy' }),
  },
];

const tasks: Record<string, Task> = {
  'a convolutional net': {
    model: o =>
      new Sequential(
        new Conv2d(1, 4, 3, { ...o, padding: 1 }),
        new GroupNorm(2, 4, o),
        new ReLU(),
        new Conv2d(4, 4, 3, { ...o, stride: 2, groups: 2 }),
        new Flatten(),
        new Linear(16, 3, o),
      ),
    batches: labelled([1, 5, 5]),
  },
  'a transformer block': {
    model: o =>
      new Sequential(
        new TransformerBlock(4, 2, { ...o, mlpRatio: 2 }),
        new LayerNorm(4, o),
        new Pool('mean'),
        new Linear(4, 3, o),
      ),
    batches: labelled([3, 4]),
  },
};

for (const [name, task] of Object.entries(tasks))
  t.test(name, t => {
    for (const one of optimizers) resumptionLaw(t, one, task);
    t.end();
  });
