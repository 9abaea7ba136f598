// States of models and optimizers: all or nothing, from PyTorch, and to another device.

import assert from 'node:assert/strict';
import {
  Generator,
  ReferenceBackend,
  randint,
  randn,
  registerBackend,
  type StateDict,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import { DataLoader, normalize, TensorDataset } from '@otimes/data';
import {
  type AnyModule,
  BatchNorm1d,
  BatchNorm2d,
  BatchNorm3d,
  Bilinear,
  Conv1d,
  Conv2d,
  Conv3d,
  ConvTranspose1d,
  ConvTranspose2d,
  cifarResNet,
  crossEntropy,
  Embedding,
  EmbeddingBag,
  fromPyTorch,
  GRU,
  GRUCell,
  GroupNorm,
  gpt,
  InstanceNorm1d,
  InstanceNorm2d,
  InstanceNorm3d,
  init,
  LayerNorm,
  Linear,
  LSTM,
  LSTMCell,
  lstmLanguageModel,
  MultiHeadAttention,
  mlp,
  type Parameter,
  PReLU,
  RMSNorm,
  RNN,
  RNNCell,
  resnet18,
  Sequential,
  Transformer,
  TransformerBlock,
  vit,
} from '@otimes/nn';
import { Adagrad, Adam, AdamW, NAdam, type Optimizer, RMSprop, Schedule, SGD, stepLr } from '@otimes/optim';
import t from 'tap';
import { law } from './helpers/law.ts';
import { same, weights, x } from './helpers/modules.ts';

const float64 = { dtype: 'float64' } as const;

// --- state ---

law(t, 'loading a state is all or nothing, whatever is wrong with an entry; another device is none of it', () => {
  registerBackend(new ReferenceBackend('elsewhere'));
  const make = (seed: number) => mlp([4, 5, 3], { rng: new Generator(seed) });
  const spoil: Record<string, [(s: StateDict) => void, RegExp]> = {
    released: [
      s => scope(() => void Reflect.set(s, 'layers.2.bias', zeros([3]))),
      /released: layers\.2\.bias float32\[3\] has no values/,
    ],
    undefined: [
      s => void Reflect.set(s, 'layers.2.bias', undefined),
      /layers\.2\.bias expects float32\[3\], got undefined/,
    ],
    array: [
      s => void Reflect.set(s, 'layers.2.bias', [1, 2, 3]),
      /layers\.2\.bias expects float32\[3\], got \[1, 2, 3\]/,
    ],
  };
  for (const strict of [true, false])
    for (const [what, [wrong, message]] of Object.entries(spoil)) {
      const [model, state] = [make(2), make(1).stateDict()];
      wrong(state);
      const before = weights(model);
      assert.throws(() => model.loadStateDict(state, { strict }), message, what);
      same(weights(model), before);
    }
  const [model, other] = [make(2), make(1)];
  const elsewhere = Object.fromEntries(Object.entries(other.stateDict()).map(([k, v]) => [k, v.to('elsewhere')]));
  model.loadStateDict(elsewhere);
  same(weights(model), weights(other));
  assert.throws(() => model.loadStateDict(Promise.resolve({}) as never), /got a promise; await it/);
  // Entries may be the parameters themselves, in other places.
  const pair = new Sequential(new Linear(2, 2, { bias: false }), new Linear(2, 2, { bias: false }));
  const [a, b] = weights(pair);
  pair.loadStateDict({ '0.weight': pair.parameters()[1]!.detach(), '1.weight': pair.parameters()[0]!.detach() });
  same(weights(pair), [b!, a!]);
});

law(t, 'optimizers and schedules refuse numbers that they could not be made with, and are as before', () => {
  const number = (value: number) => tensor(value, float64);
  const model = mlp([2, 2]);
  const optimizer = new Adam(model.parameters());
  model.call(x(1, 2)).sum().backward();
  optimizer.step();
  const schedule = new Schedule(optimizer, stepLr({ stepSize: 2 }));
  for (const [what, holder, key, values] of [
    ['Adam', optimizer, 'lr', [Number.NaN, -1, Infinity]],
    ['Adam', optimizer, '0.step', [Number.NaN, -1, 0.5, Infinity]],
    ['Schedule', schedule, 'step', [Number.NaN, -1, 0.5]],
    ['Schedule', schedule, 'base', [Number.NaN, -1, Infinity]],
  ] as const)
    for (const value of values) {
      const before = holder.stateDict();
      assert.throws(
        () => holder.loadStateDict({ ...before, [key]: number(value) }),
        new RegExp(`${what}\\.loadStateDict: nothing was loaded[^]*${key} expects one .*, got ${value}`),
      );
      same(Object.values(holder.stateDict()), Object.values(before));
    }
  const released: StateDict = { ...optimizer.stateDict() };
  scope(() => void Reflect.set(released, '1.m', zeros([2])));
  assert.throws(() => optimizer.loadStateDict(released), /released: 1\.m/);
  assert.throws(() => optimizer.loadStateDict({ lr: 1 } as never), /lr expects a tensor, got 1/);
  const take = optimizer.prepareState({ ...optimizer.stateDict(), lr: number(0.5) });
  assert.equal(optimizer.lr, 1e-3);
  take();
  assert.equal(optimizer.lr, 0.5);
  assert.throws(() => {
    optimizer.lr = Number.NaN;
  }, /Adam: expected lr in \[0, Infinity\), got NaN/);
});

law(
  t,
  'a state with moments that are not finite, or squares below 0, is refused entry by entry, and all is as before',
  () => {
    const squares = new Set(['v', 'vMax', 'sum']);
    const stepped = (make: (parameters: Parameter[]) => Optimizer) => {
      const model = mlp([2, 3]);
      const optimizer = make(model.parameters());
      model.call(x(4, 2)).square().sum().backward();
      void optimizer.step();
      return optimizer;
    };
    for (const [make, slots] of [
      [p => new SGD(p, { momentum: 0.9 }), ['buf']],
      [p => new Adam(p), ['m', 'v']],
      [p => new AdamW(p, { amsgrad: true }), ['m', 'v', 'vMax']],
      [p => new NAdam(p), ['m', 'v']],
      [p => new RMSprop(p, { momentum: 0.9, centered: true }), ['v', 'm', 'buf']],
      [p => new Adagrad(p), ['sum']],
    ] as [(parameters: Parameter[]) => Optimizer, string[]][]) {
      const optimizer = stepped(make);
      const before = optimizer.stateDict();
      for (const slot of slots)
        for (const value of [Number.NaN, Infinity, -Infinity, -1e-30]) {
          const state = {
            ...stepped(make).stateDict(),
            [`1.${slot}`]: tensor([1, value, 0]),
            lr: tensor(0.5, float64),
          };
          if (value === -1e-30 && !squares.has(slot)) {
            stepped(make).loadStateDict(state);
            continue;
          }
          const wrong = value === -1e-30 ? 'below 0' : 'that are not finite';
          assert.throws(
            () => optimizer.loadStateDict(state),
            new RegExp(
              `nothing was loaded, since 1 entry is wrong\\n  does not fit: 1\\.${slot} has elements ${wrong}$`,
            ),
          );
          same(Object.values(optimizer.stateDict()), Object.values(before));
        }
      stepped(make).loadStateDict(before);
    }
  },
);

law(t, "a first-order optimizer goes on from a state on another device, and a loader's state is taken whole", () => {
  registerBackend(new ReferenceBackend('elsewhere'));
  const start = () => {
    const model = mlp([3, 2], { rng: new Generator(1) });
    return { model, optimizer: new Adam(model.parameters(), { lr: 0.1 }) };
  };
  const step = ({ model, optimizer }: ReturnType<typeof start>) => {
    optimizer.zeroGrad();
    model.call(x(2, 3)).square().sum().backward();
    optimizer.step();
  };
  const [a, b] = [start(), start()];
  step(a);
  const moved = (state: StateDict) => Object.fromEntries(Object.entries(state).map(([k, v]) => [k, v.to('elsewhere')]));
  b.optimizer.loadStateDict(moved(a.optimizer.stateDict()));
  b.model.loadStateDict(moved(a.model.stateDict()));
  step(a);
  step(b);
  same(weights(b.model), weights(a.model));
  const loader = new DataLoader(new TensorDataset(x(6, 1)), { batchSize: 2, shuffle: true, rng: new Generator(1) });
  const state = loader.stateDict();
  for (const [bad, message] of [
    [
      zeros([4], { dtype: 'int32' }),
      /^RangeError: Generator: expected a state of 4 words that are not all 0, got \[0,0,0,0\]$/,
    ],
    [
      zeros([3], { dtype: 'int32' }),
      /^RangeError: DataLoader: expected rng in the state to be .* of 4 numbers, got int32\[3\]$/,
    ],
    [undefined, /^RangeError: DataLoader: expected rng in the state to be .* of 4 numbers, got undefined$/],
  ] as const)
    assert.throws(() => loader.loadStateDict({ ...state, position: tensor(1), rng: bad as Tensor }), message);
  same(Object.values(loader.stateDict()), Object.values(state));
});

law(t, "PyTorch's attention and encoder layer load: q, k and v are the thirds of the rows of in_proj", () => {
  const [d, o] = [4, { ...float64, rng: new Generator(9) }];
  const draw = (...shape: number[]) => randn(shape, o);
  const theirs: StateDict = {
    'self_attn.in_proj_weight': draw(3 * d, d),
    'self_attn.in_proj_bias': draw(3 * d),
    'self_attn.out_proj.weight': draw(d, d),
    'self_attn.out_proj.bias': draw(d),
    'linear1.weight': draw(8, d),
    'linear1.bias': draw(8),
    'linear2.weight': draw(d, 8),
    'linear2.bias': draw(d),
    'norm1.weight': draw(d),
    'norm1.bias': draw(d),
    'norm2.weight': draw(d),
    'norm2.bias': draw(d),
  };
  const block = new TransformerBlock(d, 2, { mlpRatio: 2, preNorm: false, activation: 'relu', ...float64 });
  block.loadStateDict(fromPyTorch(theirs));
  // The formula of torch.nn.TransformerEncoderLayer in evaluation, by its own names.
  const p = (name: string) => theirs[name]!;
  const input = draw(3, 5, d);
  const packed = input.matmul(p('self_attn.in_proj_weight').transpose()).add(p('self_attn.in_proj_bias'));
  const heads = [0, 1].map(h => {
    const part = (i: number) => packed.slice(null, null, [i * d + h * 2, i * d + h * 2 + 2]);
    return part(0)
      .matmul(part(1).transpose())
      .mul(1 / Math.sqrt(2))
      .softmax(-1)
      .matmul(part(2));
  });
  const layerNorm = (y: Tensor, name: string) => {
    const centred = y.sub(y.mean(-1, { keepdim: true }));
    const deviation = centred.square().mean(-1, { keepdim: true }).add(1e-5).sqrt();
    return centred
      .div(deviation)
      .mul(p(`${name}.weight`))
      .add(p(`${name}.bias`));
  };
  const outputs = heads.map((head, h) =>
    head.matmul(
      p('self_attn.out_proj.weight')
        .slice(null, [h * 2, h * 2 + 2])
        .transpose(),
    ),
  );
  const y = layerNorm(input.add(outputs[0]!.add(outputs[1]!).add(p('self_attn.out_proj.bias'))), 'norm1');
  const hidden = y.matmul(p('linear1.weight').transpose()).add(p('linear1.bias')).relu();
  const expected = layerNorm(y.add(hidden.matmul(p('linear2.weight').transpose()).add(p('linear2.bias'))), 'norm2');
  assert.ok(block.eval().call(input).sub(expected).abs().max().item() < 1e-12);

  const attention = new MultiHeadAttention(d, 2, float64);
  const bare = Object.fromEntries(
    Object.entries(theirs).flatMap(([k, v]) => (k.startsWith('self_attn.') ? [[k.slice('self_attn.'.length), v]] : [])),
  );
  attention.loadStateDict(fromPyTorch(bare));
  const direct = outputs[0]!.add(outputs[1]!).add(p('self_attn.out_proj.bias'));
  assert.ok(attention.call(input).sub(direct).abs().max().item() < 1e-12);
  const deep = fromPyTorch(Object.fromEntries(Object.entries(theirs).map(([k, v]) => [`layers.0.${k}`, v])));
  assert.deepEqual(Object.keys(deep).slice(0, 4), [
    'layers.0.attention.q.weight',
    'layers.0.attention.k.weight',
    'layers.0.attention.v.weight',
    'layers.0.attention.q.bias',
  ]);
  const own = block.stateDict();
  assert.deepEqual(Object.keys(fromPyTorch(own)), Object.keys(own));
  assert.throws(
    () => fromPyTorch({ in_proj_weight: draw(7, 2) }),
    /rows of q, k and v, \[3 dModel, dModel\], got float64\[7,2\]/,
  );
  assert.throws(
    () => fromPyTorch({ bias_k: draw(1, 1, 2) }),
    /belongs to an attention that MultiHeadAttention cannot be/,
  );
});

// --- devices ---

law(t, 'layers, models and initialisers are made on the device that is asked for, with the same numbers', () => {
  registerBackend(new ReferenceBackend('elsewhere'));
  const made: Record<string, (o: { device?: string; rng: Generator }) => AnyModule> = {
    Linear: o => new Linear(3, 2, o),
    Conv1d: o => new Conv1d(3, 2, 3, o),
    Conv2d: o => new Conv2d(3, 2, 3, o),
    Conv3d: o => new Conv3d(3, 2, 3, o),
    ConvTranspose1d: o => new ConvTranspose1d(3, 2, 3, o),
    ConvTranspose2d: o => new ConvTranspose2d(3, 2, 3, o),
    Embedding: o => new Embedding(3, 2, o),
    EmbeddingBag: o => new EmbeddingBag(3, 2, o),
    Bilinear: o => new Bilinear(2, 3, 2, o),
    PReLU: o => new PReLU(2, o),
    RMSNorm: o => new RMSNorm(2, o),
    LayerNorm: o => new LayerNorm(3, o),
    GroupNorm: o => new GroupNorm(1, 3, o),
    BatchNorm1d: o => new BatchNorm1d(3, o),
    BatchNorm2d: o => new BatchNorm2d(3, o),
    BatchNorm3d: o => new BatchNorm3d(3, o),
    InstanceNorm1d: o => new InstanceNorm1d(3, { ...o, affine: true }),
    InstanceNorm2d: o => new InstanceNorm2d(3, { ...o, trackRunningStats: true }),
    InstanceNorm3d: o => new InstanceNorm3d(3, { ...o, affine: true }),
    MultiHeadAttention: o => new MultiHeadAttention(4, 2, o),
    TransformerBlock: o => new TransformerBlock(4, 2, { ...o, dropout: 0.1 }),
    RNN: o => new RNN(3, 2, { ...o, numLayers: 2 }),
    LSTM: o => new LSTM(3, 2, { ...o, bidirectional: true }),
    GRU: o => new GRU(3, 2, o),
    RNNCell: o => new RNNCell(3, 2, o),
    LSTMCell: o => new LSTMCell(3, 2, o),
    GRUCell: o => new GRUCell(3, 2, o),
    lstmLanguageModel: o => lstmLanguageModel({ ...o, vocabulary: 4, dim: 2, hidden: 3, layers: 1 }),
    // With its encoder, decoder and their layers.
    Transformer: o =>
      new Transformer({ ...o, dModel: 4, nhead: 2, numEncoderLayers: 1, numDecoderLayers: 1, dimFeedforward: 3 }),
    gpt: o => gpt({ ...o, vocabSize: 5, blockSize: 4, nLayer: 1, nHead: 2, nEmbd: 4 }),
    mlp: o => mlp([3, 4, 2], { ...o, dropout: 0.1 }),
    resnet18: o => resnet18({ ...o, classes: 2, stem: 'cifar', width: 2 }),
    cifarResNet: o => cifarResNet({ ...o, depth: 8, classes: 2, width: 1, shortcut: 'B' }),
    vit: o => vit({ ...o, imageSize: 4, patch: 2, dim: 4, depth: 1, heads: 2, classes: 2 }),
  };
  for (const [name, make] of Object.entries(made)) {
    const [here, there] = [make({ rng: new Generator(4) }), make({ rng: new Generator(4), device: 'elsewhere' })];
    const state = there.stateDict();
    assert.ok(
      Object.values(state).every(one => one.device === 'elsewhere'),
      name,
    );
    same(Object.values(state), Object.values(here.stateDict()));
  }
  for (const f of [init.xavierUniform, init.xavierNormal, init.kaimingUniform, init.kaimingNormal])
    assert.equal(f([2, 3], { device: 'elsewhere' }).device, 'elsewhere');
  assert.equal(init.truncatedNormal([2, 3], 1, { device: 'elsewhere' }).device, 'elsewhere');
});

law(t, 'batches of a dataset, normalisation and training on another device', () => {
  registerBackend(new ReferenceBackend('elsewhere'));
  const there = { device: 'elsewhere' };
  const images = x(6, 3, 4, 4);
  const [mean, std] = [
    [0, 1, 2],
    [1, 2, 4],
  ];
  const far = normalize(images.to('elsewhere'), mean, std);
  assert.equal(far.device, 'elsewhere');
  same([far], [normalize(images, mean, std)]);
  const labels = randint(0, 2, [6], { rng: new Generator(1) });
  // The labels may lie somewhere else.
  for (const on of ['elsewhere', 'cpu'])
    for (const [batch, y] of new DataLoader(new TensorDataset(far, labels.to(on)), { batchSize: 4 }))
      assert.deepEqual([batch.device, y.device], ['elsewhere', on]);
  const model = mlp([48, 2], { ...there, rng: new Generator(1) });
  const optimizer = new Adam(model.parameters(), { lr: 0.1 });
  const loader = new DataLoader(new TensorDataset(far, labels.to('elsewhere')), { batchSize: 6 });
  const losses: number[] = [];
  for (let i = 0; i < 5; i++)
    for (const [batch, y] of loader) {
      optimizer.zeroGrad();
      const loss = crossEntropy(model.call(batch), y);
      loss.backward();
      optimizer.step();
      losses.push(loss.item());
    }
  assert.ok(losses.at(-1)! < losses[0]!);
});
