// Convolutions along one to three axes, transposed ones, and the layers that go with them: PyTorch's numbers, and laws.

import assert from 'node:assert/strict';
import { noGrad, ones, type Shape, type Tensor, tensor } from '@otimes/core';
import * as nn from '@otimes/nn';
import {
  BatchNorm1d,
  BatchNorm2d,
  BatchNorm3d,
  Conv1d,
  Conv2d,
  Conv3d,
  ConvTranspose1d,
  ConvTranspose2d,
  functional as F,
  InstanceNorm1d,
  InstanceNorm2d,
  InstanceNorm3d,
  type Module,
} from '@otimes/nn';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, type Stored, stored, within } from './helpers/golden.ts';
import { law } from './helpers/law.ts';

const float64 = { dtype: 'float64' } as const;

type Step = { y: Stored; products: number[]; state: Record<string, Stored> };
type Case = { shapes: number[][]; y: Stored; products: number[] };
const torch = golden<{ functions: Record<string, Case>; norms: Record<string, { shape: number[]; steps: Step[] }> }>(
  'torch-convs',
);

/** Element j is sin(0.7 j + i), rounded to three decimals: the numbers that torch-convs.py fills tensors with. */
function wave(i: number, shape: Shape): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  const data = Float64Array.from({ length: size }, (_, j) => Math.round(Math.sin(0.7 * j + i) * 1000) / 1000);
  return tensor(data, { shape });
}

const functions: Record<string, (x: Tensor, w: Tensor, b: Tensor) => Tensor> = {
  conv1d: (...x) => F.conv1d(...x, { stride: 2, padding: 1, dilation: 2, groups: 2 }),
  'conv1d, same': (...x) => F.conv1d(...x, { padding: 'same', dilation: 3 }),
  conv3d: (...x) => F.conv3d(...x, { stride: [2, 1, 3], padding: [1, 2, 0], dilation: [2, 1, 2], groups: 2 }),
  'conv3d, same': (...x) => F.conv3d(...x, { padding: 'same' }),
  convTranspose1d: (...x) =>
    F.convTranspose1d(...x, { stride: 3, padding: 1, outputPadding: 2, dilation: 2, groups: 2 }),
  convTranspose2d: (...x) => F.convTranspose2d(...x, { stride: [2, 3], padding: [1, 0], outputPadding: [1, 2] }),
  'convTranspose2d, dilation': (...x) =>
    F.convTranspose2d(...x, { padding: [0, 1], outputPadding: [2, 1], dilation: 3, groups: 2 }),
  maxPool1d: x => F.maxPool1d(x, 3, { stride: 2, padding: 1 }),
  maxPool3d: x => F.maxPool3d(x, [2, 3, 2], { stride: [1, 2, 2], padding: [1, 1, 0] }),
  avgPool1d: x => F.avgPool1d(x, 3, { stride: 2, padding: 1 }),
  avgPool3d: x => F.avgPool3d(x, [2, 3, 2], { stride: [1, 2, 2], padding: [1, 1, 0], countIncludePad: false }),
  adaptiveAvgPool1d: x => F.adaptiveAvgPool1d(x, 3),
  adaptiveAvgPool2d: x => F.adaptiveAvgPool2d(x, [3, null]),
  'adaptiveAvgPool2d, larger': x => F.adaptiveAvgPool2d(x, [5, 4]),
  adaptiveMaxPool1d: x => F.adaptiveMaxPool1d(x, 3),
  adaptiveMaxPool2d: x => F.adaptiveMaxPool2d(x, [3, 2]),
};

/** The same of whole numbers, of which many are equal; gradients pass the rounding as they are. */
for (const [name, run] of Object.entries(functions).filter(([name]) => /Pool/.test(name)))
  functions[`${name} of equal values`] = (x, ...rest) =>
    run(x.detach().mul(1.5).round().add(x.sub(x.detach())), ...rest);

/** A layer with those weights. */
const withWeights =
  (make: () => Module) =>
  (x: Tensor, weight: Tensor, bias: Tensor): Tensor =>
    Object.assign(make(), { weight, bias }).call(x) as Tensor;
const plain = (make: () => Module) => (x: Tensor) => make().call(x) as Tensor;
for (const paddingMode of ['reflect', 'replicate', 'circular'] as const)
  functions[`Conv2d, ${paddingMode}`] = withWeights(
    () => new nn.Conv2d(2, 3, [3, 2], { padding: [2, 1], stride: 2, paddingMode }),
  );
Object.assign(functions, {
  'Conv1d, circular, same': withWeights(() => new nn.Conv1d(2, 2, 4, { padding: 'same', paddingMode: 'circular' })),
  'Conv3d, replicate': withWeights(
    () => new nn.Conv3d(1, 2, [2, 3, 1], { padding: [1, 1, 0], paddingMode: 'replicate' }),
  ),
  ConstantPad1d: plain(() => new nn.ConstantPad1d([1, 2], 0.5)),
  ZeroPad2d: plain(() => new nn.ZeroPad2d([1, 0, 2, 1])),
  ReflectionPad1d: plain(() => new nn.ReflectionPad1d([1, 2])),
  ReflectionPad2d: plain(() => new nn.ReflectionPad2d([1, 2, 0, 1])),
  ReplicationPad1d: plain(() => new nn.ReplicationPad1d(2)),
  ReplicationPad2d: plain(() => new nn.ReplicationPad2d([1, 2, 3, 0])),
  CircularPad2d: plain(() => new nn.CircularPad2d([1, 2, 0, 1])),
  PixelShuffle: plain(() => new nn.PixelShuffle(2)),
  PixelUnshuffle: plain(() => new nn.PixelUnshuffle(2)),
  Unfold: plain(() => new nn.Unfold([2, 3], { dilation: [1, 2], padding: [0, 1], stride: [2, 1] })),
  Fold: plain(() => new nn.Fold([4, 5], [2, 3], { dilation: [1, 2], padding: [0, 1], stride: [2, 1] })),
  'Upsample, nearest': plain(() => new nn.Upsample({ scaleFactor: 2 })),
  'Upsample, bilinear': plain(() => new nn.Upsample({ size: [5, 4], mode: 'bilinear' })),
  'Upsample, linear with aligned corners': plain(
    () => new nn.Upsample({ scaleFactor: 3, mode: 'linear', alignCorners: true }),
  ),
});

function mustBeTorch(run: (...x: Tensor[]) => Tensor, { shapes, y, products }: Case): void {
  const leaves = shapes.map((shape, i) => wave(i, shape));
  for (const leaf of leaves) leaf.requiresGrad = true;
  const out = run(...leaves);
  mustBeClose(out, stored(y), within(1e-12), 'y');
  out.backward(wave(5, out.shape));
  const found = leaves.map(x => x.grad!.mul(wave(7, x.shape)).sum().item());
  mustBeClose(found, products, within(1e-11), 'gradients');
}

law(t, 'every recorded function is computed', () =>
  assert.deepEqual(Object.keys(functions).sort(), Object.keys(torch.functions).sort()),
);
for (const [name, recorded] of Object.entries(torch.functions))
  law(t, `${name} and its gradients = PyTorch`, () => mustBeTorch((x, w, b) => functions[name]!(x!, w!, b!), recorded));

const norms: Record<string, () => Module> = {
  BatchNorm1d: () => new BatchNorm1d(3, float64),
  'BatchNorm1d of sequences, all batches alike': () => new BatchNorm1d(2, { ...float64, momentum: null }),
  'BatchNorm2d without affine': () => new BatchNorm2d(2, { ...float64, momentum: 0.3, affine: false }),
  'BatchNorm2d without averages': () => new BatchNorm2d(2, { ...float64, trackRunningStats: false }),
  BatchNorm3d: () => new BatchNorm3d(2, { ...float64, eps: 0.01 }),
  InstanceNorm1d: () => new InstanceNorm1d(2, float64),
  InstanceNorm2d: () => new InstanceNorm2d(2, { ...float64, affine: true, trackRunningStats: true, momentum: 0.3 }),
  InstanceNorm3d: () => new InstanceNorm3d(2, { ...float64, affine: true, eps: 0.01 }),
};
for (const [name, { shape, steps }] of Object.entries(torch.norms))
  law(t, `${name}: three batches in training and one in evaluation = PyTorch, and so is the state`, () => {
    const layer = norms[name]!();
    noGrad(() => layer.parameters().forEach((p, i) => void p.copy_(wave(i, p.shape).add(1))));
    steps.forEach(({ y, products, state }, i) => {
      layer.train(i < 3);
      for (const p of layer.parameters()) p.grad = null;
      const x = wave(i, shape)
        .mul(i + 1)
        .add(i);
      x.requiresGrad = true;
      const out = layer.call(x) as Tensor;
      mustBeClose(out, stored(y), within(1e-12), `y of step ${i}`);
      out.backward(wave(5, out.shape));
      const found = [x, ...layer.parameters()].map(p => p.grad!.mul(wave(7, p.shape)).sum().item());
      mustBeClose(found, products, within(1e-10), `gradients of step ${i}`);
      const own = layer.stateDict();
      assert.deepEqual(Object.keys(own), Object.keys(state));
      for (const [key, value] of Object.entries(state)) mustBeClose(own[key]!, stored(value), within(1e-12), key);
    });
  });

const layers: Record<string, [make: () => Module, keys: string[][]]> = {
  Conv1d: [
    () => new Conv1d(4, 6, 3, { groups: 2 }),
    [
      ['weight', '6,2,3'],
      ['bias', '6'],
    ],
  ],
  Conv2d: [
    () => new Conv2d(4, 6, [3, 2], { groups: 2 }),
    [
      ['weight', '6,2,3,2'],
      ['bias', '6'],
    ],
  ],
  Conv3d: [
    () => new Conv3d(2, 3, [1, 2, 3]),
    [
      ['weight', '3,2,1,2,3'],
      ['bias', '3'],
    ],
  ],
  ConvTranspose1d: [
    () => new ConvTranspose1d(4, 6, 3, { groups: 2 }),
    [
      ['weight', '4,3,3'],
      ['bias', '6'],
    ],
  ],
  ConvTranspose2d: [() => new ConvTranspose2d(2, 3, [2, 3], { bias: false }), [['weight', '2,3,2,3']]],
};
for (const [name, [make, keys]] of Object.entries(layers))
  law(t, `${name} has PyTorch's state, and starts uniform in ±1/√fan-in`, () => {
    const layer = make();
    const state = Object.entries(layer.stateDict());
    assert.deepEqual(
      state.map(([key, value]) => [key, value.shape.join()]),
      keys,
    );
    const [, ...field] = state[0]![1].shape;
    const bound = 1 / Math.sqrt(field.reduce((a, b) => a * b, 1));
    for (const [, value] of state) assert.ok(value.abs().max().item() <= bound);
    assert.ok(state[0]![1].abs().max().item() > bound / 2);
  });

law(t, 'layers compute the functions with their weights and options', () => {
  const o = { stride: 2, padding: 1, dilation: 2, groups: 2 } as const;
  const more = { ...o, outputPadding: 1 };
  const twins: [
    Module & { weight: Tensor; bias: Tensor | null },
    Shape,
    (x: Tensor, w: Tensor, b: Tensor) => Tensor,
  ][] = [
    [new Conv1d(2, 4, 3, { ...o, ...float64 }), [2, 2, 9], (...x) => F.conv1d(...x, o)],
    [new Conv2d(2, 4, 3, { ...o, ...float64 }), [2, 2, 6, 7], (...x) => F.conv2d(...x, o)],
    [new Conv3d(2, 4, 2, { ...o, ...float64 }), [2, 2, 4, 3, 5], (...x) => F.conv3d(...x, o)],
    [new Conv1d(2, 4, 4, { padding: 'same', ...float64 }), [2, 2, 9], (...x) => F.conv1d(...x, { padding: 'same' })],
    [
      new Conv2d(2, 4, [2, 4], { padding: 'same', ...float64 }),
      [2, 2, 4, 3],
      (...x) => F.conv2d(...x, { padding: 'same' }),
    ],
    [
      new Conv3d(2, 4, [2, 3, 4], { padding: 'same', ...float64 }),
      [2, 2, 3, 2, 3],
      (...x) => F.conv3d(...x, { padding: 'same' }),
    ],
    [new Conv2d(2, 4, 2, { padding: 'valid', ...float64 }), [2, 2, 4, 3], (...x) => F.conv2d(...x)],
    [new ConvTranspose1d(2, 4, 3, { ...more, ...float64 }), [2, 2, 5], (...x) => F.convTranspose1d(...x, more)],
    [new ConvTranspose2d(2, 4, 3, { ...more, ...float64 }), [2, 2, 3, 4], (...x) => F.convTranspose2d(...x, more)],
  ];
  for (const [layer, shape, f] of twins) {
    const x = wave(1, shape);
    const y = f(x, layer.weight, layer.bias!);
    mustBeClose(layer.call(x) as Tensor, y, within(1e-14), String(layer));
  }
});

const refused: [string, () => unknown, RegExp][] = [
  [
    "'same' with a stride",
    () => new Conv1d(1, 1, 3, { stride: 2, padding: 'same' }),
    /^RangeError: Conv1d: expected stride 1 with padding 'same', got 2$/,
  ],
  [
    "'same' with a stride, called",
    () => F.conv2d(wave(0, [1, 1, 3, 3]), wave(0, [1, 1, 3, 3]), null, { stride: [1, 2], padding: 'same' }),
    /^RangeError: conv2d: expected stride 1 with padding 'same', got 1×2$/,
  ],
  [
    'padding by another name',
    () => new Conv2d(1, 1, 3, { padding: 'full' as never }),
    /^TypeError: Conv2d: expected padding to be a number or \[rows, columns\], 'same' or 'valid', got 'full'$/,
  ],
  [
    'outputPadding as large as stride and dilation',
    () => new ConvTranspose2d(1, 1, 3, { stride: 2, outputPadding: 2 }),
    /^RangeError: ConvTranspose2d: expected outputPadding to be less than stride or dilation, got 2×2 for 2×2 and 1×1$/,
  ],
  [
    'an input of another rank',
    () => new Conv3d(1, 1, 3).call(wave(0, [1, 1, 3, 3])),
    /^ShapeError: conv3d: expected an input \[N, C, D, H, W\], got float64\[1,1,3,3\]$/,
  ],
  [
    'channels last',
    () => new Conv1d(2, 1, 3).call(wave(0, [1, 5, 2])),
    /^ShapeError: Conv1d: expected an input \[N, 2, L\], got float64\[1,5,2\]; channels come first here: x\.permute\(0, 2, 1\)$/,
  ],
  [
    'other channels of a transposed convolution',
    () => new ConvTranspose1d(2, 1, 3).call(wave(0, [1, 3, 4])),
    /^ShapeError: convTranspose1d: the weight float32\[2,1,3\] takes 2 channels in 1 groups, the input float64\[1,3,4\] has 3$/,
  ],
  [
    'a result without positions',
    () => F.convTranspose1d(wave(0, [1, 1, 1]), wave(0, [1, 1, 1]), null, { padding: 1 }),
    /^ShapeError: convTranspose1d: expected a result of at least one position along each axis, got -1 from float64\[1,1,1\]$/,
  ],
  [
    'a kernel that does not fit',
    () => F.conv3d(wave(0, [1, 1, 2, 3, 3]), wave(0, [1, 1, 3, 1, 1])),
    /^ShapeError: conv3d: a kernel 3×1×1 with dilation 1×1×1 does not fit into a volume 2×3×3 with padding 0×0×0: 3 slices in 2$/,
  ],
];
for (const [name, call, message] of refused)
  law(t, `${name} is refused, with the reason`, () => {
    assert.throws(call, message);
  });

law(t, 'mobileNetV1 refuses options that are none', () => {
  const refused: [unknown, RegExp][] = [
    ['text', /^TypeError: mobileNetV1: expected options such as/],
    [{ width: 1 }, /there is no option 'width'/],
    [{ alpha: 0 }, /^RangeError: mobileNetV1: expected alpha to be a finite number > 0, got 0/],
    [{ alpha: ones([1]) }, /expected alpha to be a finite number > 0, got float32\[1\]/],
    [{ alpha: 0.05, numClasses: 0 }, /^RangeError: mobileNetV1: expected numClasses to be an integer ≥ 1, got 0/],
    [{ alpha: 0.05, channels: 1.5 }, /expected channels to be an integer ≥ 1, got 1.5/],
    [{ alpha: 0.05, rng: 3 }, /mobileNetV1: expected rng to be a Generator, got 3/],
  ];
  for (const [options, message] of refused)
    for (const make of [nn.mobileNetV1, (o: never) => new nn.MobileNetV1(o)])
      assert.throws(() => make(options as never), message);
});

law(t, 'mobileNetV1 has the layers of table 1: 4 231 976 parameters, widths by alpha, and keys by layer', () => {
  const count = (model: Module) => model.parameters().reduce((sum, p) => sum + p.size, 0);
  assert.equal(count(nn.mobileNetV1()), 4_231_976);
  const small = nn.mobileNetV1({ alpha: 0.25, numClasses: 10 });
  const state = small.stateDict();
  assert.deepEqual(state['features.0.0.weight']!.shape, [8, 3, 3, 3]);
  assert.deepEqual(state['features.2.0.weight']!.shape, [16, 1, 3, 3]);
  assert.deepEqual(state['features.13.3.weight']!.shape, [256, 256, 1, 1]);
  assert.deepEqual(state['classifier.weight']!.shape, [10, 256]);
  assert.deepEqual((small.call(wave(0, [2, 3, 32, 32])) as Tensor).shape, [2, 10]);
});
