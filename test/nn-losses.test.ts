// The losses of @otimes/nn: equality with PyTorch, the laws that all of them obey, and what is refused.

import assert from 'node:assert/strict';
import { Generator, grad, ones, randn, type Tensor, tensor, zeros } from '@otimes/core';
import * as nn from '@otimes/nn';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { golden, type Stored, stored, within } from './helpers/golden.ts';
import { gradcheck, gradgradcheck } from './helpers/gradcheck.ts';
import { law } from './helpers/law.ts';

type Case = {
  loss: string;
  options: Record<string, unknown>;
  inputs: Record<string, Stored>;
  tensors: string[];
  integers: string[];
  y: Stored;
  gy: Stored;
  gradients: Record<string, Stored>;
  inputLengths?: number[];
  targetLengths?: number[];
};
const torch = golden<{ cases: Record<string, Case>; ctc: Record<string, Case> }>('torch-losses');
const float64 = { dtype: 'float64' } as const;
const int32 = { dtype: 'int32' } as const;
const x = (...shape: number[]) => randn(shape, { ...float64, rng: new Generator(5) });

/** JSON has 'nan' and 'inf' as text. */
const numbers = ({ shape, data }: Stored): Stored => ({
  shape,
  data: data.map(v => (typeof v === 'number' ? v : Number(String(v).replace('inf', 'Infinity')))),
});

type Loss = (...x: unknown[]) => Tensor;
const losses = new Map<string, unknown>(Object.entries(nn));

/** The inputs of a case, and its loss of them. */
function posed(one: Case, dtype: 'float32' | 'float64') {
  const leaves = Object.fromEntries(
    Object.entries(one.inputs).map(([key, value]) => {
      const leaf = stored(numbers(value), one.integers.includes(key) ? 'int32' : dtype);
      leaf.requiresGrad = key in one.gradients;
      return [key, leaf];
    }),
  );
  const options: Record<string, unknown> = { ...one.options };
  for (const key of one.tensors) options[key] = leaves[key];
  const args = Object.keys(leaves).filter(key => !one.tensors.includes(key));
  const run = (given: Record<string, Tensor>, o: Record<string, unknown> = options) =>
    (losses.get(one.loss) as Loss)(...args.map(key => given[key]), o);
  return { leaves, options, run };
}

for (const [name, one] of Object.entries(torch.cases))
  law(t, `${name}: the value and gradients = PyTorch`, () => {
    for (const [dtype, tolerance] of [
      ['float64', 1e-12],
      ['float32', 2e-6],
    ] as const) {
      const { leaves, run } = posed(one, dtype);
      const y = run(leaves);
      mustBeClose(y, stored(numbers(one.y)), within(tolerance), `y in ${dtype}`);
      y.backward(stored(one.gy, dtype));
      for (const [key, expected] of Object.entries(one.gradients))
        mustBeClose(leaves[key]!.grad!, stored(numbers(expected)), within(tolerance), `${dtype} gradient of ${key}`);
    }
  });

law(
  t,
  "of every loss, the sum is the sum of those of reduction 'none', and the mean is that of 'none' unless weights say otherwise",
  () => {
    for (const [name, one] of Object.entries(torch.cases).filter(([, { options }]) => options.reduction === 'none')) {
      const { leaves, options, run } = posed(one, 'float64');
      const each = run(leaves);
      mustBeClose(run(leaves, { ...options, reduction: 'sum' }), each.sum(), within(1e-13), name);
      const isWeighed =
        'ignoreIndex' in options || (/crossEntropy of (rows|positions)/.test(name) && 'weight' in options);
      if (!isWeighed) mustBeClose(run(leaves, { ...options, reduction: 'mean' }), each.mean(), within(1e-13), name);
    }
  },
);

// --- connectionist temporal classification ---

for (const [name, one] of Object.entries(torch.ctc))
  law(t, `ctcLoss, ${name}: the value and the gradient by logits = PyTorch, on every device`, async () => {
    for (const device of DEVICES) {
      const { leaves } = posed(one, 'float64');
      const z = leaves.z!.detach().to(device);
      z.requiresGrad = true;
      const y = nn.ctcLoss(
        z.logSoftmax(2),
        leaves.y!.detach().to(device),
        one.inputLengths!,
        one.targetLengths!,
        one.options,
      );
      y.backward(stored(one.gy).to(device));
      const what = `on ${device}`;
      mustBeClose(await y.cpu(), stored(numbers(one.y)), within(1e-12), what);
      mustBeClose(await z.grad!.cpu(), stored(numbers(one.gradients.z!)), within(1e-12), `gradient ${what}`);
    }
  });

/** −log of the sum over all paths of T classes that become the target when repetitions and then blanks are dropped. */
function byPaths(p: readonly (readonly number[])[], target: readonly number[], blank: number): number {
  let total = 0;
  const visit = (t: number, path: readonly number[], weight: number): void => {
    if (t < p.length) {
      for (const [c, one] of p[t]!.entries()) visit(t + 1, [...path, c], weight * one);
      return;
    }
    const kept = path.filter((c, i) => c !== path[i - 1]).filter(c => c !== blank);
    if (kept.join() === target.join()) total += weight;
  };
  visit(0, [], 1);
  return -Math.log(total);
}

law(
  t,
  'ctcLoss = −log of the sum over all paths that collapse to the target; its gradients = central differences',
  async () => {
    const logP = x(4, 1, 3).logSoftmax(2);
    const p = logP.exp().squeeze(1).toArray() as number[][];
    for (const target of [[], [1], [2, 1], [1, 1], [1, 2, 1], [2, 2, 2]]) {
      const labels = tensor(Int32Array.from(target), { ...int32, shape: [1, target.length] });
      const loss = (z: Tensor) => nn.ctcLoss(z, labels, [4], [target.length], { reduction: 'sum' });
      const expected = byPaths(p, target, 0);
      mustBeClose(loss(logP), tensor(expected, float64), within(1e-12), `[${target}]`);
      if (expected < Infinity) {
        await gradcheck(z => loss(z!), [logP]);
        await gradgradcheck(z => loss(z!), [logP]);
      }
    }
  },
);

law(t, 'ctcLoss reads no label behind the end of a target, and no time behind the end of an input', () => {
  const logP = x(5, 2, 3).logSoftmax(2);
  const loss = (labels: number[][], later: Tensor) =>
    nn.ctcLoss(later, tensor(labels, int32), [3, 5], [1, 2], { reduction: 'none' }).toArray();
  const other = logP.clone();
  other
    .narrow(0, 3, 2)
    .narrow(1, 0, 1)
    .copy_(zeros([1], float64));
  assert.deepEqual(
    loss(
      [
        [1, 99],
        [2, 1],
      ],
      other,
    ),
    loss(
      [
        [1, -7],
        [2, 1],
      ],
      logP,
    ),
  );
});

// --- edges ---

law(t, 'a label of class weight 0 and one that is ignored are the same; nothing left to count is NaN', () => {
  const [z, y] = [x(4, 3), tensor([2, 0, 1, 0], int32)];
  const weight = tensor([0, 1, 1], float64);
  mustBeClose(nn.crossEntropy(z, y, { weight }), nn.crossEntropy(z, y, { ignoreIndex: 0 }), within(1e-14));
  for (const reduction of ['mean', 'sum'] as const) {
    const none = nn.crossEntropy(z, zeros([4], int32), { ignoreIndex: 0, reduction }).item();
    assert.ok(Object.is(none, reduction === 'mean' ? Number.NaN : 0), `${none}`);
  }
});

law(t, 'an ignored row may hold anything: neither value nor gradient is touched by infinite logits there', () => {
  const z = tensor(
    [
      [1, 2],
      [Infinity, -Infinity],
      [0.5, 0],
    ],
    { ...float64, requiresGrad: true },
  );
  const loss = nn.crossEntropy(z, tensor([0, -100, 1], int32), { ignoreIndex: -100 });
  const kept = nn.crossEntropy(
    tensor(
      [
        [1, 2],
        [0.5, 0],
      ],
      float64,
    ),
    tensor([0, 1], int32),
  );
  mustBeClose(loss, kept, within(1e-14));
});

law(t, 'crossEntropy = nllLoss of the log-softmax, in every option', () => {
  const [z, y, weight] = [
    x(2, 3, 4),
    tensor(
      [
        [0, 1, 2, 2],
        [1, 1, 0, 2],
      ],
      int32,
    ),
    tensor([1, 2, 0.5], float64),
  ];
  for (const o of [{}, { weight }, { ignoreIndex: 2 }, { weight, ignoreIndex: 1, reduction: 'none' as const }])
    mustBeClose(nn.crossEntropy(z, y, o), nn.nllLoss(z.logSoftmax(1), y, o), within(0));
});

law(t, 'posWeight 1 and weight 1 change nothing; posWeight w counts each positive w times', () => {
  const [z, y] = [
    x(3, 2),
    tensor(
      [
        [1, 0],
        [0, 1],
        [1, 1],
      ],
      float64,
    ),
  ];
  const plain = nn.bceWithLogits(z, y, { reduction: 'none' });
  const one = ones([2], float64);
  mustBeClose(nn.bceWithLogits(z, y, { reduction: 'none', posWeight: one, weight: one }), plain, within(1e-14));
  const three = nn.bceWithLogits(z, y, { reduction: 'none', posWeight: tensor([3, 3], float64) });
  mustBeClose(three, plain.mul(y.mul(2).add(1)), within(1e-14));
});

law(t, 'where |d| is infinite, the smooth losses are ∞ and their gradients ±δ', () => {
  for (const loss of [nn.huberLoss, nn.smoothL1Loss, nn.l1Loss]) {
    const d = tensor([Infinity, -Infinity], { ...float64, requiresGrad: true });
    const [g] = grad(loss(d, zeros([2], float64), { reduction: 'sum' }), [d]);
    assert.deepEqual(g!.toArray(), [1, -1]);
  }
});

law(t, 'second derivatives of losses = central differences', async () => {
  const [a, b, c] = [x(2, 3), x(2, 3).add(0.7).mul(1.3), x(2, 3).mul(-0.6).add(0.2)];
  const [y, signs] = [tensor([2, 0], int32), tensor([1, -1], float64)];
  const none = { reduction: 'none' } as const;
  const functions: [f: (...x: Tensor[]) => Tensor, inputs: Tensor[]][] = [
    [z => nn.crossEntropy(z!, y, { ...none, labelSmoothing: 0.1, weight: tensor([1, 2, 3], float64) }), [a]],
    [(p, q) => nn.huberLoss(p!, q!, none), [a, b]],
    [(p, q) => nn.bceLoss(p!, q!, none), [a.sigmoid(), b.sigmoid()]],
    [(p, q) => nn.klDivLoss(p!, q!, none), [a.logSoftmax(1), b.softmax(1)]],
    [(p, q) => nn.poissonNllLoss(p!, q!, { ...none, full: true }), [a, b.abs().add(2)]],
    [(p, q, v) => nn.gaussianNllLoss(p!, q!, v!, none), [a, b, c.abs().add(0.5)]],
    [z => nn.multiMarginLoss(z!, y, { ...none, p: 2 }), [a]],
    [(p, q) => nn.cosineEmbeddingLoss(p!, q!, signs, none), [a, b]],
    [(p, q, r) => nn.tripletMarginLoss(p!, q!, r!, { ...none, margin: 5 }), [a, b, c]],
  ];
  for (const [f, inputs] of functions) {
    await gradcheck(f, inputs);
    await gradgradcheck(f, inputs);
  }
});

// --- what is refused ---

law(t, 'shapes, dtypes and values that do not fit are errors that name the loss and the way out', () => {
  const y = tensor([0, 2], int32);
  const refused: [() => unknown, RegExp][] = [
    [
      () =>
        nn.crossEntropy(
          x(2, 5, 3),
          tensor(
            [
              [0, 1, 2, 0, 1],
              [0, 1, 2, 0, 1],
            ],
            int32,
          ),
        ),
      /axis 1 of float64\[2,5,3\].*permute the last axis/,
    ],
    [
      () => nn.crossEntropy(x(2, 3), y, { weight: x(2) }),
      /expected a weight \[3\], one for each class on axis 1, got float64\[2\]/,
    ],
    [() => nn.crossEntropy(x(2, 3), x(2, 3).softmax(1), { ignoreIndex: 0 }), /expected labels beside ignoreIndex/],
    [() => nn.crossEntropy(x(2, 3), tensor([0, -100], int32)), /label -100 at position 1 is out of range/],
    [() => nn.nllLoss(x(2, 3), x(2, 3)), /nllLoss: expected labels int32\[2\]/],
    [() => nn.nllLoss(x(3), y), /nllLoss: expected floating log-probabilities \[batch, classes, …\], got float64\[3\]/],
    [
      () => nn.bceLoss(tensor([0.5, 1.5], float64), ones([2], float64)),
      /probabilities in \[0, 1\], got another value at position 1/,
    ],
    [() => nn.bceLoss(tensor([Number.NaN], float64), ones([1], float64)), /probabilities in \[0, 1\]/],
    [
      () => nn.bceWithLogits(x(2, 3), x(2, 3), { posWeight: x(2) }),
      /a posWeight that broadcasts to float64\[2,3\], got float64\[2\]/,
    ],
    [() => nn.huberLoss(x(2), x(2), { delta: 0 }), /expected delta to be a number above 0, got 0/],
    [
      () => nn.hingeLoss(x(2), tensor([0, 1], float64)),
      /targets −1 or 1; labels 0 and 1 become y\.mul\(2\)\.sub\(1\), got another/,
    ],
    [() => nn.gaussianNllLoss(x(2), x(2), tensor([1, -1], float64)), /variances ≥ 0, got another value at position 1/],
    [() => nn.gaussianNllLoss(x(2, 3), x(2, 3), ones([3], float64)), /expected a variance like float64\[2,3\]/],
    [() => nn.klDivLoss(x(), x(), { reduction: 'batchmean' }), /expected a batch on axis 0/],
    [
      () => nn.ctcLoss(x(3, 1, 2), tensor([[0]], int32), [3], [1]),
      /labels other than the blank, 0, got another value at position 0/,
    ],
    [() => nn.ctcLoss(x(3, 1, 2), tensor([[2]], int32), [3], [1]), /label 2 at position 0 is out of range 0 … 1/],
    [
      () => nn.ctcLoss(x(3, 1, 2), tensor([[1]], int32), [4], [1]),
      /expected inputLengths in 1 … 3, got 4 at position 0/,
    ],
    [
      () => nn.ctcLoss(x(3, 1, 2), tensor([[1]], int32), [3], [2]),
      /expected targetLengths in 0 … 1, got 2 at position 0/,
    ],
  ];
  for (const [run, message] of refused) assert.throws(run, message);
});
