// Activations, containers, embeddings and the smaller layers of @otimes/nn: equality with PyTorch, laws, what is refused.

import assert from 'node:assert/strict';
import { Generator, grad, ones, randn, type Tensor, tensor, zeros } from '@otimes/core';
import * as nn from '@otimes/nn';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, type Stored, stored, within } from './helpers/golden.ts';
import { gradcheck, gradgradcheck } from './helpers/gradcheck.ts';
import { law } from './helpers/law.ts';

const { functional: F } = nn;
const float64 = { dtype: 'float64' } as const;
const int32 = { dtype: 'int32' } as const;
const x = (...shape: number[]) => randn(shape, { ...float64, rng: new Generator(7) });
const ints = (...values: number[]) => tensor(values, int32);

type Inputs = Record<string, Tensor>;
type Case = {
  inputs: Record<string, Stored>;
  integers: string[];
  y: Stored;
  gy: Stored;
  gradients: Record<string, Stored>;
};
const torch = golden<{ cases: Record<string, Case> }>('torch-modules');

/** A function and the module that is it, where there is one. */
type Computes = readonly [f: (x: Inputs) => Tensor, module?: (x: Inputs) => Tensor];
const unary = (f: (x: Tensor) => Tensor, module: nn.Module): Computes => [({ x }) => f(x!), ({ x }) => module.call(x!)];
const bag = (o: object, offsets?: number[]): Computes => {
  const { mode = 'sum', ...rest } = o as { mode?: 'sum' };
  return [
    ({ weight, indices, w }) =>
      F.embeddingBag(indices!, weight!, {
        mode,
        ...rest,
        ...(offsets && { offsets }),
        ...(w && { perSampleWeights: w }),
      }),
    ({ weight, indices, w }) => {
      const layer = new nn.EmbeddingBag(5, 3, { mode, ...rest, dtype: weight!.dtype });
      layer.weight = new nn.Parameter(weight!);
      return layer.call(indices!, offsets ?? null, w);
    },
  ];
};

const computes: Record<string, Computes> = {
  leakyRelu: unary(F.leakyRelu, new nn.LeakyReLU()),
  'leakyRelu 0.2': unary(z => F.leakyRelu(z, 0.2), new nn.LeakyReLU(0.2)),
  elu: unary(F.elu, new nn.ELU()),
  'elu 0.5': unary(z => F.elu(z, 0.5), new nn.ELU(0.5)),
  'celu 0.5': unary(z => F.celu(z, 0.5), new nn.CELU(0.5)),
  selu: unary(F.selu, new nn.SELU()),
  silu: unary(F.silu, new nn.SiLU()),
  softplus: unary(F.softplus, new nn.Softplus()),
  'softplus, beta 2, threshold 3': unary(
    z => F.softplus(z, { beta: 2, threshold: 3 }),
    new nn.Softplus({ beta: 2, threshold: 3 }),
  ),
  mish: unary(F.mish, new nn.Mish()),
  hardtanh: unary(F.hardtanh, new nn.Hardtanh()),
  'hardtanh, -3 to 2.5': unary(
    z => F.hardtanh(z, { minVal: -3, maxVal: 2.5 }),
    new nn.Hardtanh({ minVal: -3, maxVal: 2.5 }),
  ),
  relu6: unary(F.relu6, new nn.ReLU6()),
  hardsigmoid: unary(F.hardsigmoid, new nn.Hardsigmoid()),
  hardswish: unary(F.hardswish, new nn.Hardswish()),
  softsign: unary(F.softsign, new nn.Softsign()),
  logSigmoid: unary(F.logSigmoid, new nn.LogSigmoid()),
  glu: unary(F.glu, new nn.GLU()),
  softmax: unary(F.softmax, new nn.Softmax()),
  logSoftmax: unary(F.logSoftmax, new nn.LogSoftmax()),
  prelu: [({ x, weight }) => F.prelu(x!, weight!)],
  'prelu of channels': [({ x, weight }) => F.prelu(x!, weight!)],
  'glu, axis 1': unary(z => F.glu(z, 1), new nn.GLU(1)),
  bilinear: [({ a, b, weight, bias }) => F.bilinear(a!, b!, weight!, bias!)],
  cosineSimilarity: [({ a, b }) => F.cosineSimilarity(a!, b!), ({ a, b }) => new nn.CosineSimilarity().call(a!, b!)],
  'cosineSimilarity, axis 0': [
    ({ a, b }) => F.cosineSimilarity(a!, b!, 0),
    ({ a, b }) => new nn.CosineSimilarity({ dim: 0 }).call(a!, b!),
  ],
  rmsNorm: [({ x, weight }) => F.rmsNorm(x!, [4], weight!)],
  'rmsNorm, eps 0.1': [({ x, weight }) => F.rmsNorm(x!, [4], weight!, 0.1)],
  'embedding with padding': [({ weight, indices }) => F.embedding(indices!, weight!, { paddingIdx: 1 })],
  'embeddingBag of weighted rows': bag({ mode: 'sum' }),
  'embeddingBag of weighted rows with offsets': bag({ mode: 'sum' }, [0, 3]),
};
for (const p of [1, 2, 3, Infinity])
  computes[`pairwiseDistance ${p === Infinity ? 'inf' : p}`] = [
    ({ a, b }) => F.pairwiseDistance(a!, b!, { p }),
    ({ a, b }) => new nn.PairwiseDistance({ p }).call(a!, b!),
  ];
for (const mode of ['sum', 'mean', 'max']) {
  computes[`embeddingBag ${mode}`] = bag({ mode });
  computes[`embeddingBag ${mode} with offsets`] = bag({ mode }, [0, 3, 3, 6]);
  computes[`embeddingBag ${mode} with the last offset and padding`] = bag(
    { mode, includeLastOffset: true, paddingIdx: 4 },
    [0, 2, 3, 7],
  );
}

for (const [name, { inputs, integers, y, gy, gradients }] of Object.entries(torch.cases))
  law(t, `${name}: the value and gradients = PyTorch; the module is the function`, () => {
    for (const [dtype, tolerance] of [
      ['float64', 1e-12],
      // The square root of the mean is the precision that is added to it, where PyTorch's is that of float64.
      ['float32', 2e-6],
    ] as const) {
      const leaves: Inputs = {};
      for (const [key, value] of Object.entries(inputs)) {
        leaves[key] = stored(value, integers.includes(key) ? 'int32' : dtype);
        leaves[key].requiresGrad = !integers.includes(key);
      }
      const [f, module] = computes[name]!;
      const out = f(leaves);
      mustBeClose(out, stored(y), within(tolerance), `y in ${dtype}`);
      if (module !== undefined) assert.deepEqual(module(leaves).toArray(), out.toArray());
      out.backward(stored(gy, dtype));
      for (const [key, expected] of Object.entries(gradients))
        mustBeClose(leaves[key]!.grad!, stored(expected), within(tolerance), `${dtype} gradient of ${key}`);
    }
  });

law(t, 'no activation makes NaN of ±∞ where its limit is finite, and all pass NaN on', () => {
  const limits: Record<string, [low: number, high: number]> = {
    leakyRelu: [-Infinity, Infinity],
    elu: [-1, Infinity],
    celu: [-1, Infinity],
    softplus: [0, Infinity],
    hardtanh: [-1, 1],
    relu6: [0, 6],
    hardsigmoid: [0, 1],
    hardswish: [0, Infinity],
    logSigmoid: [-Infinity, 0],
  };
  for (const [name, [low, high]] of Object.entries(limits)) {
    const f = new Map<string, unknown>(Object.entries(F)).get(name) as (x: Tensor) => Tensor;
    // No −0, which is what the sum of 0 and it is.
    const y = f(tensor([-Infinity, Infinity, Number.NaN], float64))
      .add(0)
      .toArray();
    assert.deepEqual(y, [low, high, Number.NaN], name);
  }
});

law(t, 'second derivatives of activations and layers = central differences', async () => {
  const z = x(2, 4);
  const functions = [
    F.leakyRelu,
    F.elu,
    F.selu,
    F.silu,
    F.softplus,
    F.mish,
    F.hardswish,
    F.softsign,
    F.logSigmoid,
    F.glu,
  ];
  for (const f of functions) {
    await gradcheck(a => f(a!), [z]);
    await gradgradcheck(a => f(a!), [z]);
  }
  await gradgradcheck((a, w) => F.rmsNorm(a!, [4], w!), [z, x(4)]);
  await gradgradcheck((a, b, w) => F.bilinear(a!, b!, w!), [z, x(2, 3), x(2, 4, 3)]);
  await gradgradcheck((a, w) => F.prelu(a!, w!), [z, x(4)]);
  await gradgradcheck((a, b) => F.cosineSimilarity(a!, b!), [z, x(2, 4).add(1)]);
});

// --- containers ---

law(t, 'the state of ModuleList and ModuleDict has the names of PyTorch, and they are iterated in order', () => {
  class Net extends nn.Module {
    readonly blocks = new nn.ModuleList([new nn.Linear(2, 2), new nn.Linear(2, 3, { bias: false })]);
    readonly heads = new nn.ModuleDict({ cat: new nn.Linear(3, 1, { bias: false }) });

    override forward(z: Tensor): Tensor {
      let y = z;
      for (const block of this.blocks) y = block.call(y);
      return this.heads.get('cat')!.call(y);
    }
  }
  const net = new Net();
  net.heads.set('dog', new nn.Linear(3, 4, { bias: false }));
  net.blocks.insert(1, new nn.Linear(2, 2, { bias: false })).push(new nn.Linear(3, 3, { bias: false }));
  const names = ['blocks.0.weight', 'blocks.0.bias', 'blocks.1.weight', 'blocks.2.weight', 'blocks.3.weight'];
  assert.deepEqual(Object.keys(net.stateDict()), [...names, 'heads.cat.weight', 'heads.dog.weight']);
  assert.deepEqual(
    [...net.heads.keys(), net.heads.size, net.blocks.length, net.blocks.at(-1)?.bias],
    ['cat', 'dog', 2, 4, null],
  );
  assert.deepEqual(
    [...net.heads].map(([name]) => name),
    ['cat', 'dog'],
  );
  assert.ok(net.heads.delete('dog') && !net.heads.has('dog'));
  assert.deepEqual(net.call(ones([5, 2])).shape, [5, 1]);
  assert.match(net.toString(), /\(heads\): ModuleDict\(\n {4}\(cat\): Linear/);
});

law(t, 'Unflatten undoes Flatten; Identity is its input', () => {
  const z = x(2, 3, 4);
  const there = new nn.Sequential(new nn.Flatten(), new nn.Unflatten(1, [3, -1]), new nn.Identity());
  assert.deepEqual(there.call(z).toArray(), z.toArray());
  assert.deepEqual(new nn.Unflatten(-2, [1, 3]).call(z).shape, [2, 1, 3, 4]);
});

// --- dropout ---

law(
  t,
  'dropout of channels drops whole channels and keeps the mean; in evaluation all of these are the identity',
  () => {
    const layers = [
      [nn.Dropout1d, [400, 5, 3]],
      [nn.Dropout2d, [400, 5, 2, 2]],
      [nn.Dropout3d, [400, 5, 1, 2, 2]],
    ] as const;
    for (const [Layer, shape] of layers) {
      const layer = new Layer(0.25, { rng: new Generator(1) });
      const y = layer.call(ones(shape, float64)).reshape(2000, -1);
      for (const channel of y.toArray() as number[][])
        assert.ok(channel.every(v => v === channel[0] && (v === 0 || v === 4 / 3)));
      assert.ok(Math.abs(y.mean().item() - 1) < 0.05);
      const z = x(...shape.slice());
      assert.deepEqual(layer.eval().call(z).toArray(), z.toArray());
    }
  },
);

law(t, 'AlphaDropout keeps mean 0 and variance 1', () => {
  const y = new nn.AlphaDropout(0.3, { rng: new Generator(2) }).call(x(20000));
  assert.ok(
    Math.abs(y.mean().item()) < 0.03 && Math.abs(y.var().item() - 1) < 0.05,
    `${y.mean().item()}, ${y.var().item()}`,
  );
});

// --- first weights ---

law(t, 'init makes the weight, or weight and bias, with the dtype, device and generator of the layer', () => {
  const at = { dtype: 'float64', device: 'reference', rng: new Generator(3) } as const;
  const linear = new nn.Linear(3, 2, { ...at, init: { weight: nn.init.xavierNormal, bias: nn.init.ones } });
  assert.deepEqual(linear.weight.toArray(), nn.init.xavierNormal([2, 3], { ...at, rng: new Generator(3) }).toArray());
  assert.deepEqual(linear.bias!.toArray(), [1, 1]);
  const table = new nn.Embedding(4, 2, { init: (shape, o) => nn.init.normal(shape, 0, o), dtype: 'float64' });
  assert.deepEqual(table.weight.toArray(), zeros([4, 2]).toArray());
  const wrong = (shape: readonly number[]) => () => new nn.Linear(3, 2, { init: () => zeros(shape) });
  assert.throws(wrong([3, 2]), /Linear: expected the weight of init to be float32\[2,3\] on 'cpu', got float32\[3,2\]/);
  assert.throws(
    () => new nn.Linear(3, 2, { init: () => zeros([2, 3]), dtype: 'float64' }),
    /to be float64\[2,3\] on 'cpu'/,
  );
  const misspelt = { weights: nn.init.ones } as object;
  assert.throws(
    () => new nn.Linear(3, 2, { init: misspelt }),
    /Linear.init: there is no option 'weights'.*did you mean 'weight'/,
  );
});

law(t, 'the row of paddingIdx is zero at first and gets no gradient, counted from either end', () => {
  for (const paddingIdx of [2, -2]) {
    const layer = new nn.Embedding(4, 3, { ...float64, paddingIdx });
    assert.deepEqual(layer.weight.slice(2).toArray(), [0, 0, 0]);
    const [g] = grad(
      layer
        .call(ints(2, 1, 2))
        .square()
        .sum()
        .add(layer.call(ints(2)).sum()),
      [layer.weight],
    );
    assert.deepEqual(g!.slice(2).toArray(), [0, 0, 0]);
    assert.ok(g!.slice(1).abs().sum().item() > 0);
  }
});

law(t, 'PReLU starts at 0.25, one slope or one for each channel, under the name weight', () => {
  assert.deepEqual(new nn.PReLU().weight.toArray(), [0.25]);
  assert.deepEqual(Object.keys(new nn.PReLU(3, { init: 0.5 }).stateDict()), ['weight']);
  assert.deepEqual(new nn.PReLU(3, { init: 0.5 }).weight.toArray(), [0.5, 0.5, 0.5]);
});

// --- what is refused ---

law(t, 'what does not fit is an error that names the layer', () => {
  const refused: [() => unknown, RegExp][] = [
    [() => new nn.ModuleList().call(), /ModuleList: .*/],
    [
      () => new nn.ModuleDict({ 'a.b': new nn.Identity() }),
      /ModuleDict.set: expected name to be a name without a dot, such as 'head', got 'a.b'/,
    ],
    [
      () => new nn.ModuleList([new nn.Identity()]).insert(3, new nn.Identity()),
      /expected index to be an index 0 … 1, got 3/,
    ],
    [() => new nn.Unflatten(1, [5, -1]).call(x(2, 12)), /Unflatten: axis 1 of float64\[2,12\] does not make \[5, -1\]/],
    [() => new nn.GLU().call(x(2, 3)), /glu: expected an even length along axis -1, got float64\[2,3\]/],
    [
      () => new nn.PReLU(3).call(x(2, 4)),
      /prelu: expected a weight \[1\] or \[4\] for float64\[2,4\], got float32\[3\]/,
    ],
    [() => new nn.Dropout2d().call(x(2, 3, 4)), /dropout2d: expected an input \[N, C, H, W\], got float64\[2,3,4\]/],
    [() => new nn.RMSNorm(3).call(x(2, 4)), /rmsNorm: expected a floating input \[..., 3\], got float64\[2,4\]/],
    [() => new nn.Bilinear(2, 3, 4).call(x(5, 2), x(5, 2)), /bilinear: expected inputs \[..., 2\] and \[..., 3\]/],
    [
      () => new nn.Embedding(3, 2, { paddingIdx: 3 }),
      /Embedding: expected paddingIdx to be an integer in -3 … 2, got 3/,
    ],
    [
      () => new nn.EmbeddingBag(3, 2).call(ints(1, 2)),
      /embeddingBag: expected indices \[bags, length\], or a vector with offsets/,
    ],
    [
      () => new nn.EmbeddingBag(3, 2).call(ints(1, 2), [0, 3]),
      /embeddingBag: expected ascending offsets from 0 to at most 2, got \[0, 3\]/,
    ],
    [() => new nn.Hardtanh({ minVal: 2 }).call(x(2)), /hardtanh: expected minVal < maxVal, got 2 and 1/],
  ];
  for (const [run, message] of refused) assert.throws(run, message);
});
