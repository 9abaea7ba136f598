// Convolution, pooling, normalisation, attention and whole models = PyTorch.

import assert from 'node:assert/strict';
import {
  batchNorm,
  type conv2d,
  fold,
  groupNorm,
  type Nested,
  type Shape,
  type Tensor,
  tensor,
  unfold,
} from '@otimes/core';
import {
  AvgPool2d,
  BasicBlock,
  BatchNorm2d,
  Bottleneck,
  functional,
  GlobalAvgPool2d,
  MaxPool2d,
  type Module,
  MultiHeadAttention,
  ResNet,
  TransformerBlock,
} from '@otimes/nn';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, type Stored, stored, within } from './helpers/golden.ts';
import { law } from './helpers/law.ts';

const float64 = { dtype: 'float64' } as const;

type Inputs = Record<string, Tensor>;
type Case = {
  inputs: Record<string, Stored>;
  y: Stored;
  gy: Stored;
  gradients: Record<string, Stored>;
  mask?: Nested;
};
type Pass = { y: Stored; products: number[] };
type Step = Record<'x' | 'gy' | 'y' | 'gx' | 'gradWeight' | 'gradBias', Stored> & Record<string, Stored>;
const torch = golden<{
  cases: Record<string, Case>;
  batchNorm: { weight: Stored; bias: Stored; steps: Step[] };
  models: Record<string, { keys: string[]; x: number[]; train: Pass; eval: Pass }>;
}>('torch-conv');

/** Our attention with given weights. */
function attention({ x, ...weights }: Inputs, mask?: Tensor): Tensor {
  const layer = new MultiHeadAttention(6, 2, float64);
  for (const name of ['q', 'k', 'v', 'o'] as const)
    Object.assign(layer[name], { weight: weights[`w${name}`], bias: weights[`b${name}`] });
  return layer.call(x!, mask);
}

const convolve = (o: Parameters<typeof conv2d>[2]) => (i: Inputs) => functional.conv2d(i.x!, i.w!, i.bias, o);
const computes: Record<string, (inputs: Inputs) => Tensor> = {
  'conv2d, 3×3': convolve({}),
  'conv2d, 1×1': convolve({}),
  'conv2d, stride 2, padding 1': convolve({ stride: 2, padding: 1 }),
  'conv2d, dilation 2': convolve({ dilation: 2 }),
  'conv2d, pairs': convolve({ stride: [1, 3], padding: [2, 1], dilation: [2, 1] }),
  'conv2d, 2 groups': convolve({ padding: 1, groups: 2 }),
  'conv2d, depthwise': convolve({ stride: 2, padding: 1, groups: 3 }),
  'conv2d, a kernel as large as the padded plane': convolve({ padding: 1 }),
  unfold: ({ x }) => unfold(x!, [2, 3], { stride: [1, 2], padding: [0, 1], dilation: [2, 1] }),
  fold: ({ x }) => fold(x!, [4, 5], [3, 2], { stride: 2, padding: 1 }),
  maxPool2d: ({ x }) => new MaxPool2d(2).call(x!),
  'maxPool2d of equal values, overlapping': ({ x }) => new MaxPool2d(3, { stride: 2, padding: 1 }).call(x!),
  'maxPool2d, pairs': ({ x }) => new MaxPool2d([3, 2], { stride: [1, 2], padding: [1, 0] }).call(x!),
  'avgPool2d, padding counts': ({ x }) => new AvgPool2d([3, 2], { stride: [2, 1], padding: 1 }).call(x!),
  'avgPool2d, padding does not count': ({ x }) =>
    new AvgPool2d([3, 2], { stride: [2, 1], padding: 1, countIncludePad: false }).call(x!),
  globalAvgPool2d: ({ x }) => new GlobalAvgPool2d().call(x!),
  batchNorm: ({ x, w, bias }) => batchNorm(x!, w!, bias).y,
  groupNorm: ({ x, w, bias }) => groupNorm(x!, 2, w!, bias, 0.01),
  attention,
};

for (const [name, { inputs, y, gy, gradients, mask }] of Object.entries(torch.cases))
  for (const [dtype, tolerance] of [
    ['float64', 1e-12],
    ['float32', 1e-5],
  ] as const)
    law(t, `${name} and its gradients = PyTorch (${dtype})`, () => {
      const leaves: Inputs = {};
      for (const [key, value] of Object.entries(inputs)) {
        leaves[key] = stored(value, dtype);
        leaves[key].requiresGrad = true;
      }
      const out = mask ? attention(leaves, tensor(mask)) : computes[name]!(leaves);
      assert.equal(out.dtype, dtype);
      mustBeClose(out, stored(y), within(tolerance), 'y');
      out.backward(stored(gy, dtype));
      for (const [key, expected] of Object.entries(gradients))
        mustBeClose(leaves[key]!.grad!, stored(expected), within(tolerance), `gradient of ${key}`);
    });

law(t, 'BatchNorm2d over three steps and in evaluation = PyTorch, with its averages under its names', () => {
  const layer = new BatchNorm2d(2, { ...float64, momentum: 0.3 });
  const { weight, bias, steps } = torch.batchNorm;
  layer.loadStateDict({ weight: stored(weight), bias: stored(bias) }, { strict: false });
  steps.forEach(({ x, gy, y, gx, gradWeight, gradBias, ...averages }, i) => {
    layer.train(i < 3);
    const [input, near] = [stored(x!), within(1e-12)];
    input.requiresGrad = true;
    layer.weight!.grad = layer.bias!.grad = null;
    const out = layer.call(input);
    mustBeClose(out, stored(y!), near, 'y');
    out.backward(stored(gy!));
    mustBeClose(input.grad!, stored(gx!), near, 'gx');
    mustBeClose(layer.weight!.grad!, stored(gradWeight!), near, 'gradient of the weight');
    mustBeClose(layer.bias!.grad!, stored(gradBias!), near, 'gradient of the bias');
    const state = layer.stateDict();
    assert.deepEqual(Object.keys(averages), ['running_mean', 'running_var', 'num_batches_tracked']);
    for (const [key, expected] of Object.entries(averages)) mustBeClose(state[key]!, stored(expected), near, key);
  });
});

/** Element j is sin(0.7 j + i) times `scale`: the numbers that torch-conv.py fills tensors with. */
function wave(i: number, shape: Shape, scale = 1): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  return tensor(
    Float64Array.from({ length: size }, (_, j) => Math.sin(0.7 * j + i) * scale),
    { shape },
  );
}

const tiny = { ...float64, width: 2, classes: 3 };
const models: Record<string, () => Module> = {
  'transformer block, norm first': () => new TransformerBlock(6, 2, float64),
  'transformer block, norm last': () => new TransformerBlock(6, 2, { ...float64, preNorm: false }),
  'resnet of basic blocks, cifar': () => new ResNet(BasicBlock, [1, 2, 1, 1], { ...tiny, stem: 'cifar' }),
  'resnet of bottlenecks, imagenet': () => new ResNet(Bottleneck, [2, 1, 1, 1], { ...tiny, stem: 'imagenet' }),
};

for (const [name, expected] of Object.entries(torch.models))
  law(t, `${name}: names, values and gradients = PyTorch, in training and then in evaluation`, () => {
    const model = models[name]!();
    const state = model.stateDict();
    assert.deepEqual(Object.keys(state), expected.keys);
    expected.keys.forEach((key, i) => {
      const { shape, dtype } = state[key]!;
      if (dtype !== 'float64') return;
      const around = key.endsWith('running_var') || (shape.length === 1 && key.endsWith('weight')) ? 1 : 0;
      state[key] = wave(i, shape, 0.4).add(around);
    });
    model.loadStateDict(state);
    for (const mode of ['train', 'eval'] as const) {
      for (const p of model.train(mode === 'train').parameters()) p.grad = null;
      const input = wave(3, expected.x);
      input.requiresGrad = true;
      const y = model.call(input);
      mustBeClose(y, stored(expected[mode].y), within(1e-11), `y in ${mode}`);
      y.backward(wave(1, y.shape));
      const products = [input, ...model.parameters()].map(p => p.grad!.mul(wave(2, p.shape)).sum().item());
      mustBeClose(products, expected[mode].products, within(1e-10), `gradients in ${mode}`);
    }
  });
