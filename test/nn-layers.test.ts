// The layers and losses of @otimes/nn: equality with PyTorch, derivatives, dropout, what is refused.

import assert from 'node:assert/strict';
import { type DType, Generator, grad, manualSeed, ones, randn, type Tensor, tensor, zeros } from '@otimes/core';
import {
  bceWithLogits,
  crossEntropy,
  Dropout,
  Embedding,
  Flatten,
  functional,
  GELU,
  LayerNorm,
  Linear,
  type Module,
  mlp,
  mseLoss,
  type Reduction,
  ReLU,
  Sequential,
  Sigmoid,
  Tanh,
} from '@otimes/nn';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, type Stored, stored, within } from './helpers/golden.ts';
import { gradcheck, gradgradcheck } from './helpers/gradcheck.ts';
import { law } from './helpers/law.ts';

const float64 = { dtype: 'float64' } as const;
const int32 = { dtype: 'int32' } as const;
const x = (...shape: number[]) => randn(shape, { ...float64, rng: new Generator(3) });

// --- PyTorch ---

type Inputs = Record<string, Tensor>;
type Case = {
  inputs: Record<string, Stored>;
  integers: string[];
  y: Stored;
  gy: Stored;
  gradients: Record<string, Stored>;
};
const torch = golden<{ cases: Record<string, Case> }>('torch-nn');

const computes: Record<string, (inputs: Inputs) => Tensor> = {
  linear: ({ x, weight, bias }) => functional.linear(x!, weight!, bias),
  'linear without bias': ({ x, weight }) => functional.linear(x!, weight!),
  'linear of a vector': ({ x, weight, bias }) => functional.linear(x!, weight!, bias),
  layerNorm: ({ x, weight, bias }) => functional.layerNorm(x!, weight!, bias!),
  'layerNorm over two axes, eps 0.1': ({ x, weight }) => functional.layerNorm(x!, weight!, null, 0.1),
  embedding: ({ weight, indices }) => functional.embedding(indices!, weight!),
  relu: ({ x }) => new ReLU().call(x!),
  gelu: ({ x }) => new GELU().call(x!),
  'gelu tanh': ({ x }) => new GELU({ approximate: 'tanh' }).call(x!),
  tanh: ({ x }) => new Tanh().call(x!),
  sigmoid: ({ x }) => new Sigmoid().call(x!),
};
for (const reduction of ['mean', 'sum'] as const satisfies readonly Reduction[]) {
  for (const targets of ['labels', 'probabilities', 'labels on further axes', 'probabilities on further axes'])
    for (const labelSmoothing of [0, 0.1])
      computes[`crossEntropy of ${targets}, ${reduction}, smoothing ${labelSmoothing.toFixed(1)}`] = ({
        logits,
        targets,
      }) => crossEntropy(logits!, targets!, { reduction, labelSmoothing });
  computes[`crossEntropy of huge logits, ${reduction}`] = ({ logits, targets }) =>
    crossEntropy(logits!, targets!, { reduction });
  computes[`mseLoss, ${reduction}`] = ({ prediction, target }) => mseLoss(prediction!, target!, { reduction });
  computes[`bceWithLogits, ${reduction}`] = ({ logits, target }) => bceWithLogits(logits!, target!, { reduction });
}

for (const [name, { inputs, integers, y, gy, gradients }] of Object.entries(torch.cases))
  for (const [dtype, tolerance] of [
    ['float64', 1e-12],
    ['float32', 1e-6],
  ] as const)
    law(t, `${name} and its gradients = PyTorch (${dtype})`, () => {
      const leaves: Inputs = {};
      for (const [key, value] of Object.entries(inputs)) {
        leaves[key] = stored(value, integers.includes(key) ? 'int32' : dtype);
        leaves[key].requiresGrad = !integers.includes(key);
      }
      const out = computes[name]!(leaves);
      mustBeClose(out, stored(y), within(tolerance), 'y');
      out.backward(stored(gy, dtype));
      for (const [key, expected] of Object.entries(gradients))
        mustBeClose(leaves[key]!.grad!, stored(expected), within(tolerance), `gradient of ${key}`);
    });

law(t, 'defaults: the mean, no smoothing, the exact GELU', () => {
  const [logits, labels, target] = [x(4, 3), tensor([0, 2, 1, 1], int32), x(4, 3).sigmoid()];
  const same = (a: Tensor, b: Tensor) => assert.deepEqual(a.toArray(), b.toArray());
  same(crossEntropy(logits, labels), crossEntropy(logits, labels, { reduction: 'mean', labelSmoothing: 0 }));
  same(mseLoss(logits, target), mseLoss(logits, target, { reduction: 'mean' }));
  same(bceWithLogits(logits, target), bceWithLogits(logits, target, { reduction: 'mean' }));
  same(new GELU().call(logits), logits.gelu({ approximate: 'none' }));
});

// --- derivatives ---

law(t, 'first and second derivatives of layers and losses = central differences', async () => {
  const [labels, targets] = [tensor([2, 0], int32), x(2, 3).softmax(1)];
  const functions: [f: (...x: Tensor[]) => Tensor, inputs: Tensor[]][] = [
    [(a, w, b) => functional.layerNorm(a!, w!, b!), [x(2, 3), x(3), x(3)]],
    [(a, w, b) => functional.linear(a!, w!, b!), [x(2, 3), x(4, 3), x(4)]],
    [
      w =>
        functional.embedding(
          tensor(
            [
              [1, 0],
              [1, 1],
            ],
            int32,
          ),
          w!,
        ),
      [x(2, 3)],
    ],
    [z => crossEntropy(z!, labels, { labelSmoothing: 0.2 }), [x(2, 3)]],
    [(z, p) => crossEntropy(z!, p!), [x(2, 3), targets]],
    [(z, y) => mseLoss(z!, y!), [x(2, 3), targets]],
    [(z, y) => bceWithLogits(z!, y!), [x(2, 3), targets]],
  ];
  for (const [f, inputs] of functions) {
    await gradcheck(f, inputs);
    await gradgradcheck(f, inputs);
  }
});

law(t, 'bceWithLogits is smooth at 0: its derivatives there are σ(0) − t and 1/4', () => {
  const logits = zeros([3], { ...float64, requiresGrad: true });
  const loss = bceWithLogits(logits, tensor([0, 0.25, 1], float64), { reduction: 'sum' });
  const [first] = grad(loss, [logits], { createGraph: true });
  assert.deepEqual(first!.toArray(), [0.5, 0.25, -0.5]);
  assert.deepEqual(grad(first!.sum(), [logits])[0]!.toArray(), [0.25, 0.25, 0.25]);
});

law(t, 'bceWithLogits takes targets outside [0, 1] into the same formula: softplus(x) − t·x', () => {
  const targets = [-0.5, 2, 3];
  const logits = [1, -2, 4];
  mustBeClose(
    bceWithLogits(tensor(logits, float64), tensor(targets, float64), { reduction: 'sum' }),
    tensor(
      logits.reduce((sum, z, i) => sum + Math.log1p(Math.exp(z)) - targets[i]! * z, 0),
      float64,
    ),
    within(1e-14),
  );
});

// --- layers ---

law(t, 'a layer = its function of its own parameters', () => {
  const same = (a: Tensor, b: Tensor) => assert.deepEqual(a.toArray(), b.toArray());
  const linear = new Linear(3, 4, float64);
  same(linear.call(x(2, 3)), functional.linear(x(2, 3), linear.weight, linear.bias));
  const norm = new LayerNorm([2, 3], { ...float64, eps: 0.5 });
  same(norm.call(x(4, 2, 3)), functional.layerNorm(x(4, 2, 3), norm.weight, norm.bias, 0.5));
  same(new LayerNorm(3, float64).call(x(2, 3)), functional.layerNorm(x(2, 3), ones([3], float64), null));
  const table = new Embedding(5, 2, float64);
  same(table.call(tensor([4, 0], int32)), functional.embedding(tensor([4, 0], int32), table.weight));
  same(new Flatten().call(x(2, 3, 4)), x(2, 3, 4).reshape(2, 12));
  same(new Sequential().call(x(2)), x(2));
});

law(t, 'mlp: its activations between the layers, further axes flattened', () => {
  for (const activation of ['relu', 'gelu', 'tanh', 'sigmoid'] as const) {
    const model = mlp([6, 4, 2], { ...float64, activation });
    const [w0, b0, w1, b1] = model.parameters();
    const expected = functional.linear(functional.linear(x(3, 6), w0!, b0)[activation](), w1!, b1);
    assert.deepEqual(model.call(x(3, 2, 3)).toArray(), expected.toArray());
  }
});

law(t, 'every module takes a dtype and a generator; the default ones are float32 and the seeded one', () => {
  const make: ((o: { rng?: Generator; dtype?: DType }) => Module)[] = [
    o => new Linear(3, 4, o),
    o => new Embedding(3, 4, o),
    o => mlp([3, 4, 2], o),
    ({ dtype }) => new LayerNorm(3, { ...(dtype && { dtype }) }),
  ];
  const values = (module: Module) => module.parameters().map(p => p.toArray());
  for (const module of make) {
    assert.ok(
      module({})
        .parameters()
        .every(p => p.dtype === 'float32'),
    );
    assert.ok(
      module({ dtype: 'float64' })
        .parameters()
        .every(p => p.dtype === 'float64'),
    );
    const seeded = () => values(module({ rng: new Generator(5) }));
    assert.deepEqual(seeded(), seeded());
    const ambient = () => {
      manualSeed(5);
      return values(module({}));
    };
    assert.deepEqual(ambient(), ambient());
    assert.deepEqual(ambient(), seeded());
  }
});

const refused: [title: string, run: () => unknown, message: RegExp][] = [
  ['Linear(0, 3)', () => new Linear(0, 3), /Linear: expected dIn to be an integer ≥ 1, got 0/],
  ['Linear(2, 1.5)', () => new Linear(2, 1.5), /expected dOut to be an integer ≥ 1, got 1.5/],
  ['Embedding(3, -1)', () => new Embedding(3, -1), /Embedding: expected dim/],
  ['LayerNorm([2, 0])', () => new LayerNorm([2, 0]), /LayerNorm: expected shape\[1\]/],
  ['Dropout(1)', () => new Dropout(1), /Dropout: expected p to be a probability 0 ≤ p < 1, got 1/],
  ['Dropout(NaN)', () => new Dropout(Number.NaN), /got NaN/],
  ['dropout with p = −1', () => functional.dropout(ones([2]), -1, true), /got -1/],
  ['mlp([3])', () => mlp([3]), /mlp: expected at least an input and an output size, got \[3\]/],
  [
    'Linear on a wrong size',
    () => new Linear(3, 2).call(ones([2, 4])),
    /expected an input \[\.\.\., 3\], got float32\[2,4\]/,
  ],
  ['Linear on a scalar', () => new Linear(3, 2).call(ones([])), /got float32\[\]/],
  ['LayerNorm on a wrong size', () => new LayerNorm([2, 3]).call(ones([3, 2])), /expected an input \[\.\.\., 2, 3\]/],
  ['LayerNorm on too few axes', () => new LayerNorm([2, 3]).call(ones([3])), /got float32\[3\]/],
  [
    'Embedding out of range',
    () =>
      new Embedding(3, 2).call(
        tensor(
          [
            [0, 1],
            [3, 0],
          ],
          int32,
        ),
      ),
    /embedding: index 3 at position 2 is out of range 0 … 2/,
  ],
  ['Embedding of floats', () => new Embedding(3, 2).call(ones([2])), /expected int32/],
];
for (const [title, run, message] of refused) law(t, `${title} is refused`, () => void assert.throws(run, message));

law(t, 'mlp: an unknown activation is refused', () => {
  // @ts-expect-error: the types say so too
  const make = () => mlp([2, 1], { activation: 'swish' });
  assert.throws(make, /expected an activation of relu, gelu, tanh, sigmoid, got 'swish'/);
});

// --- dropout ---

law(t, 'dropout zeroes a share p and scales the rest, so that the mean stays', () => {
  const y = new Dropout(0.25, { rng: new Generator(1) }).call(ones([100, 100], float64));
  const kept = y.ne(0).sum().item() / y.size;
  assert.ok(Math.abs(kept - 0.75) < 4 * Math.sqrt((0.25 * 0.75) / y.size), `${kept} are kept`);
  mustBeClose(y.max(), 1 / 0.75, within(1e-15));
  assert.ok(Math.abs(y.mean().item() - 1) < 0.03);
});

law(t, 'dropout: the gradient has the same mask as the output', () => {
  const input = ones([50], { ...float64, requiresGrad: true });
  const y = new Dropout(0.5, { rng: new Generator(2) }).call(input);
  y.sum().backward();
  assert.deepEqual(input.grad!.toArray(), y.toArray());
});

law(t, 'dropout is the identity in evaluation and with p = 0', () => {
  const input = ones([50]);
  assert.equal(new Dropout(0.9).eval().call(input), input);
  assert.equal(new Dropout(0).call(input), input);
  assert.equal(
    mlp([2, 2, 1], { dropout: 0.5 })
      .eval()
      .call(ones([1, 2])).size,
    1,
  );
});

law(t, 'dropout: the same generator state gives the same mask, and the next call another', () => {
  const run = () => {
    const dropout = new Dropout(0.5, { rng: new Generator(4) });
    return [dropout.call(ones([64])).toArray(), dropout.call(ones([64])).toArray()];
  };
  const [first, second] = [run(), run()];
  assert.deepEqual(first, second);
  assert.notDeepEqual(first[0], first[1]);
});

// --- losses ---

law(t, 'crossEntropy of labels = of their one-hot probabilities', () => {
  const logits = x(3, 4);
  const oneHot = tensor(
    [
      [0, 0, 0, 1],
      [1, 0, 0, 0],
      [0, 1, 0, 0],
    ],
    float64,
  );
  for (const labelSmoothing of [0, 0.3, 1])
    mustBeClose(
      crossEntropy(logits, tensor([3, 0, 1], int32), { labelSmoothing }),
      crossEntropy(logits, oneHot, { labelSmoothing }),
      within(1e-14),
    );
});

const lossErrors: [title: string, run: () => unknown, message: RegExp][] = [
  [
    'a label too large',
    () => crossEntropy(x(3, 4), tensor([0, 4, 1], int32)),
    /label 4 at position 1 is out of range 0 … 3/,
  ],
  ['a negative label', () => crossEntropy(x(3, 4), tensor([0, 1, -1], int32)), /label -1 at position 2/],
  ['float labels', () => crossEntropy(x(3, 4), tensor([0, 1, 2])), /got float32\[3\]; y\.astype\('int32'\) converts/],
  [
    'smoothed float labels',
    () => crossEntropy(x(3, 4), tensor([0, 1, 2]), { labelSmoothing: 0.1 }),
    /y\.astype\('int32'\)/,
  ],
  ['float indices', () => new Embedding(3, 2).call(tensor([0, 1])), /embedding: .*; index\.astype\('int32'\) converts/],
  ['too many labels', () => crossEntropy(x(3, 4), tensor([0, 1], int32)), /expected labels int32\[3\], got int32\[2\]/],
  [
    'misshapen probabilities',
    () => crossEntropy(x(3, 4), x(4, 3)),
    /expected probabilities like the logits, float64\[3,4\]/,
  ],
  ['integer probabilities', () => crossEntropy(x(3, 4), zeros([3, 4], int32)), /got int32\[3,4\]/],
  [
    'logits of one axis',
    () => crossEntropy(x(4), tensor(1, int32)),
    /expected logits \[batch, classes, …\], got float64\[4\]/,
  ],
  ['an empty batch', () => crossEntropy(x(0, 4), zeros([0], int32)), /got float64\[0,4\]/],
  ['too much smoothing', () => crossEntropy(x(1, 4), tensor([1], int32), { labelSmoothing: 1.5 }), /got 1.5/],
  [
    'mseLoss that would broadcast',
    () => mseLoss(x(3, 1), x(3)),
    /mseLoss: expected a target like float64\[3,1\], got float64\[3\]/,
  ],
  ['bceWithLogits that would broadcast', () => bceWithLogits(x(3), x(1)), /bceWithLogits: expected a target like/],
  [
    'bceWithLogits of integers',
    () => bceWithLogits(zeros([1], int32), x(1)),
    /expected floating logits, got int32\[1\]/,
  ],
];
for (const [title, run, message] of lossErrors)
  law(t, `losses refuse ${title}`, () => void assert.throws(run, message));

law(t, 'losses refuse an unknown reduction', () => {
  assert.throws(
    // @ts-expect-error: the types say so too
    () => mseLoss(x(2), x(2), { reduction: 'batchmean' }),
    /mseLoss: expected reduction to be 'mean' or 'sum' or 'none', got 'batchmean'/,
  );
});
