// Convolution, pooling, normalisation and attention: their laws.

import assert from 'node:assert/strict';
import {
  arange,
  avgPool2d,
  batchNorm,
  concat,
  conv2d,
  fold,
  Generator,
  globalAvgPool2d,
  grad,
  groupNorm,
  layerNorm,
  maxPool2d,
  noGrad,
  ones,
  patchGram,
  randn,
  type Tensor,
  tensor,
  unfold,
  zeros,
} from '@otimes/core';
import { BatchNorm2d, Conv2d, Linear, MultiHeadAttention } from '@otimes/nn';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { within } from './helpers/golden.ts';
import { law } from './helpers/law.ts';

const float64 = { dtype: 'float64' } as const;
const x = (...shape: number[]) => randn(shape, { ...float64, rng: new Generator(3) });
const another = (...shape: number[]) => randn(shape, { ...float64, rng: new Generator(4) });
const exact = (a: Tensor, b: Tensor) => assert.deepEqual(a.toArray(), b.toArray());

// --- convolution ---

law(t, 'a 1×1 convolution = Linear at every position', () => {
  const [layer, linear] = [new Conv2d(3, 4, 1, float64), new Linear(3, 4, float64)];
  linear.loadStateDict({ weight: layer.weight.flatten(1), bias: layer.bias! });
  const input = x(2, 3, 4, 5);
  mustBeClose(layer.call(input), linear.call(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), within(1e-14));
});

law(t, 'unfolded patches times the flat weight = the convolution', () => {
  for (const kernel of [
    [1, 1],
    [2, 2],
    [3, 2],
  ] as const)
    for (const stride of [1, [2, 3]] as const)
      for (const padding of [0, [1, 2]] as const)
        for (const dilation of [1, [2, 1]] as const) {
          const o = { stride, padding, dilation };
          const [input, w] = [x(2, 3, 6, 5), another(4, 3, ...kernel)];
          const y = conv2d(input, w, o);
          const product = unfold(input, kernel, o).matmul(w.flatten(1).transpose());
          mustBeClose(product.transpose(1, 2).reshape(y.shape), y, within(1e-13), JSON.stringify({ kernel, ...o }));
        }
});

law(t, 'fold is the transpose of unfold', () => {
  const o = { stride: [2, 1], padding: 1, dilation: [1, 2] } as const;
  const input = x(2, 3, 5, 6);
  const patches = unfold(input, 2, o);
  const other = another(...patches.shape);
  mustBeClose(patches.mul(other).sum(), fold(other, [5, 6], 2, o).mul(input).sum(), within(1e-12));
});

law(t, 'a convolution commutes with shifts', () => {
  const [image, w] = [x(1, 2, 4, 4), x(3, 2, 3, 3)];
  // Surrounded by zeros, so that nothing is cut off.
  const at = (row: number, column: number) =>
    conv2d(
      image.pad([
        [0, 0],
        [0, 0],
        [2 + row, 4 - row],
        [2 + column, 4 - column],
      ]),
      w,
    );
  exact(at(1, 2).slice(null, null, [1, null], [2, null]), at(0, 0).slice(null, null, [0, -1], [0, -2]));
});

law(t, 'a convolution in groups = one for each group, side by side', () => {
  const [input, w] = [x(2, 6, 4, 4), x(4, 3, 2, 2)];
  const parts = [0, 1].map(g => conv2d(input.narrow(1, 3 * g, 3), w.narrow(0, 2 * g, 2)));
  exact(conv2d(input, w, { groups: 2 }), concat(parts, 1));
});

law(t, 'an empty batch and no channels give empty planes and zeros', () => {
  assert.deepEqual(conv2d(x(0, 2, 3, 3), x(4, 2, 2, 2)).shape, [0, 4, 2, 2]);
  exact(conv2d(x(1, 0, 3, 3), x(1, 0, 3, 3)), zeros([1, 1, 1, 1]));
  const layer = new Conv2d(2, 3, 2, float64);
  layer
    .call(x(0, 2, 3, 3))
    .sum()
    .backward();
  exact(layer.weight.grad!, zeros(layer.weight.shape));
});

law(t, 'unfold and patchGram of a layer have its window: another one is an error', () => {
  const layer = new Conv2d(1, 1, 2);
  const images = x(1, 1, 3, 3);
  const unfolds = layer.unfold.bind(layer) as (...given: unknown[]) => Tensor;
  const grams = layer.patchGram.bind(layer) as (...given: unknown[]) => Tensor;
  const message = /: takes no argument, got \{ padding \}; .* stride, padding and dilation are those of the layer$/;
  assert.throws(() => unfolds(images, { padding: 3 }), { name: 'TypeError', message });
  assert.throws(() => grams(images, {}, { padding: 3 }), { name: 'TypeError', message });
  assert.throws(() => grams(images, { padding: 3 }), /^TypeError: patchGram: there is no option 'padding'/);
});

// --- pooling ---

law(t, 'pooling over the whole plane = the extremum and the mean of the plane', () => {
  const input = x(2, 3, 4, 5);
  exact(maxPool2d(input, [4, 5]).flatten(2), input.flatten(2).max(2, { keepdim: true }));
  mustBeClose(avgPool2d(input, [4, 5]).flatten(1), globalAvgPool2d(input), within(1e-14));
});

law(t, 'max pooling: the gradient goes to the first of equal values, the padding never wins, NaN does', () => {
  const flat = tensor([[[[-1, -1, -1]]]], { ...float64, requiresGrad: true });
  const y = maxPool2d(flat, [1, 2], { stride: 1, padding: [0, 1] });
  assert.deepEqual(y.toArray(), [[[[-1, -1, -1, -1]]]]);
  y.sum().backward();
  assert.deepEqual(flat.grad!.toArray(), [[[[2, 1, 1]]]]);
  assert.deepEqual(maxPool2d(tensor([[[[1, Number.NaN, 3, -Infinity, -Infinity]]]]), [1, 3], { stride: 2 }).toArray(), [
    [[[Number.NaN, 3]]],
  ]);
});

// --- normalisation ---

law(t, 'in training a batch leaves BatchNorm2d with mean bias and deviation |weight| in each channel', () => {
  const layer = new BatchNorm2d(3, { ...float64, eps: 0 });
  noGrad(() => layer.weight!.copy_(tensor([1, -2, 3], float64)));
  noGrad(() => layer.bias!.copy_(tensor([0, 5, -1], float64)));
  const y = layer.call(x(4, 3, 2, 5).mul(7).add(2));
  mustBeClose(y.mean([0, 2, 3]), layer.bias!, within(1e-13));
  mustBeClose(y.var([0, 2, 3], { correction: 0 }).sqrt(), layer.weight!.abs(), within(1e-13));
});

law(t, 'BatchNorm2d: evaluation with the statistics of a batch = training on it, and moves no average', () => {
  const input = x(4, 3, 2, 2);
  const layer = new BatchNorm2d(3, { ...float64, momentum: 1 });
  const y = layer.call(input);
  const { variance } = batchNorm(input, layer.weight!);
  noGrad(() => layer.runningVar!.copy_(variance));
  const before = layer.stateDict();
  mustBeClose(layer.eval().call(input), y, within(1e-13));
  assert.deepEqual(before.running_var!.toArray(), layer.runningVar!.toArray());
  assert.equal(layer.numBatchesTracked!.item(), 1);
});

law(t, 'one group = layer norm of the whole item, a group a channel = batch norm of a single item', () => {
  const [input, w, b] = [x(2, 4, 3, 2), x(4), another(4)];
  const wide = (p: Tensor) => p.reshape(4, 1, 1).expand(4, 3, 2);
  mustBeClose(groupNorm(input, 1, w, b), layerNorm(input, wide(w), wide(b)), within(1e-13));
  const first = input.narrow(0, 0, 1);
  mustBeClose(groupNorm(first, 4, w, b), batchNorm(first, w, b).y, within(1e-13));
});

law(t, 'normalisation: the fused gradients = those composed of tensor operations', () => {
  const [input, w, b] = [x(3, 4, 2), x(4), another(4)];
  for (const p of [input, w, b]) p.requiresGrad = true;
  for (const f of [
    () => layerNorm(input.transpose(), w, b),
    () => layerNorm(input.transpose(), w),
    () => batchNorm(input, w, b).y,
    () => groupNorm(input, 2, w, b),
  ]) {
    const y = f();
    const gy = another(...y.shape);
    const [fused, composed] = [false, true].map(createGraph => grad(y, [input, w], { gy, createGraph }));
    fused!.forEach((g, i) => {
      mustBeClose(g, composed![i]!, within(1e-13));
    });
  }
});

// --- attention ---

law(t, 'attention: permuted positions give permuted outputs', () => {
  const layer = new MultiHeadAttention(6, 3, float64);
  const [input, order] = [x(2, 5, 6), tensor([3, 0, 4, 1, 2], { dtype: 'int32' })];
  mustBeClose(layer.call(input.indexSelect(1, order)), layer.call(input).indexSelect(1, order), within(1e-13));
});

law(t, 'attention: with the causal mask no position knows of later ones', () => {
  const layer = new MultiHeadAttention(6, 3, float64);
  const steps = arange(5);
  const causal = steps.unsqueeze(1).ge(steps);
  const input = x(2, 5, 6);
  const changed = concat([input.narrow(1, 0, 3), another(2, 2, 6)], 1);
  const [a, b] = [layer.call(input, causal), layer.call(changed, causal)];
  exact(a.narrow(1, 0, 3), b.narrow(1, 0, 3));
  assert.notDeepEqual(a.toArray(), b.toArray());
});

law(t, 'attention: a mask that allows all = none, and one for each item = its own', () => {
  const layer = new MultiHeadAttention(4, 2, float64);
  const input = x(2, 3, 4);
  exact(layer.call(input, ones([3, 3], { dtype: 'bool' })), layer.call(input));
  const mask = tensor([
    [
      [true, false, false],
      [true, true, false],
      [false, true, true],
    ],
    [
      [false, true, true],
      [true, true, true],
      [true, false, false],
    ],
  ]);
  const items = [0, 1].map(i => layer.call(input.narrow(0, i, 1), mask.slice(i)));
  mustBeClose(layer.call(input, mask), concat(items), within(1e-14));
});

law(t, 'attention: a position that may attend to nothing gets NaN, the others do not notice', () => {
  const layer = new MultiHeadAttention(4, 2, float64);
  const [input, all] = [x(1, 2, 4), ones([2, 2], { dtype: 'bool' })];
  const y = layer.call(
    input,
    tensor([
      [false, false],
      [true, true],
    ]),
  );
  assert.ok(y.slice(0, 0).isNaN().all().item() === 1);
  exact(y.slice(0, 1), layer.call(input, all).slice(0, 1));
});

law(t, 'attention: dropout acts in training only', () => {
  const layer = new MultiHeadAttention(4, 2, { ...float64, dropout: 0.5, rng: new Generator(1) });
  const input = x(2, 3, 4);
  assert.notDeepEqual(layer.call(input).toArray(), layer.call(input).toArray());
  exact(layer.eval().call(input), layer.call(input));
});

law(t, "a layer's patches and their second moments are core's by its window", () => {
  const rng = new Generator(3);
  const layer = new Conv2d(2, 3, [3, 2], { stride: [2, 1], padding: [1, 0], dilation: [1, 2], rng });
  const images = randn([2, 2, 7, 6], { rng });
  const { kernel, stride, padding, dilation } = layer;
  const window = { stride, padding, dilation };
  assert.deepEqual(layer.unfold(images).toArray(), unfold(images, kernel, window).toArray());
  assert.deepEqual(layer.patchGram(images).toArray(), patchGram(images, kernel, window).toArray());
  const o = { ones: true };
  assert.deepEqual(layer.patchGram(images, o).toArray(), patchGram(images, kernel, window, o).toArray());
});
