// Models with convolution or attention, how layers start, and what is refused.

import assert from 'node:assert/strict';
import {
  avgPool2d,
  batchNorm,
  concat,
  conv2d,
  type DType,
  fold,
  Generator,
  groupNorm,
  layerNorm,
  loadSafetensors,
  maxPool2d,
  ones,
  patchGram,
  randn,
  saveSafetensors,
  type Tensor,
  unfold,
  zeros,
} from '@otimes/core';
import {
  AvgPool2d,
  BasicBlock,
  BatchNorm2d,
  Conv2d,
  functional,
  GlobalAvgPool2d,
  GroupNorm,
  init,
  MaxPool2d,
  type Module,
  MultiHeadAttention,
  ResNet,
  resnet18,
  resnet50,
  TransformerBlock,
  vit,
  vitS16,
} from '@otimes/nn';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { within } from './helpers/golden.ts';
import { law } from './helpers/law.ts';

const float64 = { dtype: 'float64' } as const;
const x = (...shape: number[]) => randn(shape, { ...float64, rng: new Generator(3) });
const another = (...shape: number[]) => randn(shape, { ...float64, rng: new Generator(4) });
const exact = (a: Tensor, b: Tensor) => assert.deepEqual(a.toArray(), b.toArray());

// --- models ---

/** torchvision's state dict of a resnet, by its rule. */
function torchvisionKeys(convolutions: number, expansion: number, depths: number[]): string[] {
  const bn = (name: string) =>
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'].map(key => `${name}.${key}`);
  const keys = ['conv1.weight', ...bn('bn1')];
  depths.forEach((depth, stage) => {
    for (let block = 0; block < depth; block++) {
      const path = `layer${stage + 1}.${block}`;
      for (let i = 1; i <= convolutions; i++) keys.push(`${path}.conv${i}.weight`, ...bn(`${path}.bn${i}`));
      if (block === 0 && (stage > 0 || expansion > 1))
        keys.push(`${path}.downsample.0.weight`, ...bn(`${path}.downsample.1`));
    }
  });
  return [...keys, 'fc.weight', 'fc.bias'];
}

const count = (model: Module) => model.parameters().reduce((n, p) => n + p.size, 0);

law(t, 'resnet18 and resnet50: the keys of torchvision, 11 689 512 parameters', () => {
  const model = resnet18({ classes: 1000, stem: 'imagenet' });
  assert.deepEqual(Object.keys(model.stateDict()), torchvisionKeys(2, 1, [2, 2, 2, 2]));
  assert.equal(count(model), 11_689_512);
  const deep = resnet50({ classes: 10, stem: 'imagenet', width: 4 });
  assert.deepEqual(Object.keys(deep.stateDict()), torchvisionKeys(3, 4, [3, 4, 6, 3]));
});

law(t, 'resnet: convolutions start Kaiming normal by fan-out', () => {
  const { conv1, layer2 } = resnet18({ classes: 2, stem: 'imagenet', width: 16, rng: new Generator(1) });
  const third = (layer2.layers[0] as BasicBlock).conv1.weight;
  assert.deepEqual(third.shape, [32, 16, 3, 3]);
  for (const [weight, fanOut] of [
    [conv1.weight, 16 * 49],
    [third, 32 * 9],
  ] as const) {
    const deviation = weight.var().sqrt().item() / Math.sqrt(2 / fanOut);
    assert.ok(Math.abs(deviation - 1) < 4 / Math.sqrt(2 * weight.size), `${deviation} times the deviation`);
  }
  assert.deepEqual(
    init.kaimingNormal([3, 2, 5], { mode: 'fanOut', rng: new Generator(1), ...float64 }).toArray(),
    init
      .kaimingNormal([2, 3, 5], { rng: new Generator(1), ...float64 })
      .reshape(3, 2, 5)
      .toArray(),
  );
});

law(t, 'vit: a token for each patch and one for the class, logits of the class token', () => {
  const model = vit({ imageSize: [8, 12], patch: 4, dim: 6, depth: 2, heads: 2, classes: 5, channels: 1, ...float64 });
  assert.deepEqual(model.position.shape, [1, 1 + 6, 6]);
  const images = x(3, 1, 8, 12);
  const y = model.call(images);
  assert.deepEqual(y.shape, [3, 5]);
  // The patches as Linear sees them, in the same order.
  const { embed, blocks, norm, head, classToken, position } = model;
  const rows = functional.linear(unfold(images, 4, { stride: 4 }), embed.weight.flatten(1), embed.bias);
  const tokens = concat([classToken!.expand([3, 1, 6]), rows], 1).add(position);
  mustBeClose(head.call(norm.call(blocks.call(tokens)).slice(null, 0)), y, within(1e-13));
});

law(t, 'vitS16: 16-pixel patches, 12 blocks of 6 heads and 384 features', () => {
  const model = vitS16({ classes: 10, imageSize: 32 });
  assert.deepEqual(model.embed.weight.shape, [384, 3, 16, 16]);
  assert.equal(model.blocks.layers.length, 12);
  // 22 050 664 with 1000 classes and 224 pixels, in timm: fewer positions and rows of the head here.
  assert.equal(count(model), 22_050_664 - 192 * 384 - 990 * 385);
});

law(t, 'a gradient reaches every parameter of every model', () => {
  const o = { classes: 3, rng: new Generator(1), ...float64 };
  const all: [Module, Tensor][] = [
    [resnet18({ ...o, stem: 'cifar', width: 2, channels: 1 }), x(2, 1, 16, 16)],
    [resnet50({ ...o, stem: 'imagenet', width: 1 }), x(2, 3, 64, 64)],
    [vit({ ...o, imageSize: 8, patch: 4, dim: 6, depth: 2, heads: 2, dropout: 0.1 }), x(2, 3, 8, 8)],
  ];
  for (const [model, images] of all) {
    const y = model.call(images);
    assert.deepEqual(y.shape, [2, 3]);
    y.backward(another(2, 3));
    for (const [name, p] of model.namedParameters()) {
      assert.ok(p.grad !== null && p.grad.isFinite().all().item() === 1, name);
      // The bias of k moves all scores of a query alike, which softmax does not see.
      if (!name.endsWith('attention.k.bias')) assert.ok(p.grad.abs().max().item() > 0, name);
    }
  }
});

law(t, 'a state dict goes through safetensors under its names', () => {
  const make = () => new ResNet(BasicBlock, [1, 1, 1, 1], { classes: 2, stem: 'cifar', width: 2 });
  const [from, to] = [make(), make()];
  from.call(randn([2, 3, 8, 8]));
  to.loadStateDict(loadSafetensors(saveSafetensors(from.stateDict())));
  assert.equal(to.bn1.numBatchesTracked!.item(), 1);
  const images = randn([1, 3, 8, 8]);
  exact(from.eval().call(images), to.eval().call(images));
});

law(t, 'every layer takes a dtype and, where it draws, a generator', () => {
  const make: ((o: { dtype?: DType; rng?: Generator }) => Module)[] = [
    o => new Conv2d(2, 4, 3, o),
    o => new BatchNorm2d(2, o),
    o => new GroupNorm(1, 2, o),
    o => new MultiHeadAttention(4, 2, o),
    o => new TransformerBlock(4, 2, o),
    o => resnet18({ classes: 2, stem: 'cifar', width: 1, ...o }),
    o => vit({ imageSize: 4, patch: 2, dim: 4, depth: 1, heads: 1, classes: 2, ...o }),
  ];
  const values = (module: Module) => module.parameters().map(p => p.toArray());
  for (const module of make) {
    assert.ok(
      module({ dtype: 'float64' })
        .parameters()
        .every(p => p.dtype === 'float64'),
    );
    assert.ok(
      module({})
        .parameters()
        .every(p => p.dtype === 'float32'),
    );
    const seeded = () => values(module({ rng: new Generator(5) }));
    assert.deepEqual(seeded(), seeded());
  }
});

law(t, 'Conv2d starts uniform in ±1/√fan-in, norms at 1 and 0', () => {
  const { weight, bias } = new Conv2d(16, 32, [3, 2], { groups: 2, rng: new Generator(1) });
  for (const p of [weight, bias!]) {
    const bound = 1 / Math.sqrt(8 * 6);
    assert.ok(p.abs().max().item() <= bound * (1 + 1e-6) && p.abs().max().item() > 0.9 * bound);
  }
  assert.equal(new Conv2d(2, 2, 1, { bias: false }).bias, null);
  for (const norm of [new BatchNorm2d(3), new GroupNorm(1, 3)]) {
    exact(norm.weight!, ones([3]));
    exact(norm.bias!, zeros([3]));
  }
});

// --- what is refused ---

const block = { imageSize: 8, patch: 4, dim: 4, depth: 1, heads: 2, classes: 2 };
const refused: [title: string, run: () => unknown, message: RegExp][] = [
  [
    'an image without batch',
    () => conv2d(x(2, 4, 4), x(3, 2, 3, 3)),
    /conv2d: expected an input \[N, C, H, W\], got float64\[2,4,4\]/,
  ],
  [
    'a flat weight',
    () => conv2d(x(1, 2, 4, 4), x(3, 18)),
    /expected a weight \[O, C\/groups, kh, kw\], got float64\[3,18\]/,
  ],
  [
    'integer images',
    () => conv2d(zeros([1, 2, 4, 4], { dtype: 'int32' }), x(3, 2, 3, 3)),
    /expected a floating tensor, got int32/,
  ],
  [
    'an integer weight',
    () => conv2d(x(1, 2, 4, 4), zeros([3, 2, 3, 3], { dtype: 'int32' })),
    /expected a floating weight, got int32/,
  ],
  [
    'other channels',
    () => conv2d(x(1, 2, 4, 4), x(3, 4, 3, 3)),
    /the weight float64\[3,4,3,3\] takes 4 channels, the input float64\[1,2,4,4\] has 2/,
  ],
  [
    'other channels in groups',
    () => conv2d(x(1, 4, 4, 4), x(4, 4, 3, 3), { groups: 2 }),
    /in 2 groups takes 8 channels, the input float64\[1,4,4,4\] has 4/,
  ],
  [
    'groups that do not divide',
    () => conv2d(x(1, 4, 4, 4), x(3, 2, 3, 3), { groups: 2 }),
    /2 groups do not divide the channels/,
  ],
  [
    'no groups',
    () => conv2d(x(1, 4, 4, 4), x(3, 2, 3, 3), { groups: 0 }),
    /expected groups to be an integer ≥ 1, got 0/,
  ],
  [
    'a kernel larger than the plane',
    () => conv2d(x(1, 2, 4, 6), x(3, 2, 3, 3), { dilation: [3, 1], padding: 1 }),
    /conv2d: a kernel 3×3 with dilation 3×1 does not fit into a plane 4×6 with padding 1×1: 7 rows in 6/,
  ],
  [
    'too few columns',
    () => unfold(x(1, 2, 4, 2), 3),
    /unfold: a kernel 3×3 .* plane 4×2 with padding 0×0: 3 columns in 2/,
  ],
  [
    'second moments of patches larger than the plane',
    () => patchGram(x(1, 2, 4, 2), 3),
    /patchGram: a kernel 3×3 .* plane 4×2 with padding 0×0: 3 columns in 2/,
  ],
  [
    'an empty kernel',
    () => unfold(x(1, 2, 4, 4), 0),
    /unfold: expected kernel to be an integer ≥ 1 or a pair of them, got 0/,
  ],
  [
    'half a stride',
    () => conv2d(x(1, 2, 4, 4), x(3, 2, 3, 3), { stride: [1, 0.5] }),
    /expected stride to be an integer ≥ 1 or a pair of them, got \[1, 0.5\]/,
  ],
  ['negative padding', () => unfold(x(1, 2, 4, 4), 2, { padding: -1 }), /expected padding to be an integer ≥ 0/],
  [
    'patches that do not fit',
    () => fold(x(1, 3, 8), [3, 3], 2),
    /fold: expected patches \[N, 4, a multiple of 4\], got float64\[1,3,8\]/,
  ],
  ['integer patches', () => fold(zeros([1, 4, 8], { dtype: 'int32' }), [3, 3], 2), /fold: expected a floating tensor/],
  [
    'too much padding of a pool',
    () => maxPool2d(x(1, 1, 4, 4), 3, { padding: 2 }),
    /maxPool2d: expected padding to be at most half of the kernel 3×3, got 2×2/,
  ],
  [
    'empty planes',
    () => avgPool2d(x(1, 1, 0, 4), 2),
    /avgPool2d: expected planes that are not empty, got float64\[1,1,0,4\]/,
  ],
  [
    'a pool larger than the plane',
    () => new MaxPool2d(3).call(x(1, 1, 2, 4)),
    /maxPool2d: a kernel 3×3 .* does not fit/,
  ],
  [
    'a pool without batch',
    () => new GlobalAvgPool2d().call(x(2, 3, 3)),
    /globalAvgPool2d: expected an input \[N, C, H, W\]/,
  ],
  ['MaxPool2d(0)', () => new MaxPool2d(0), /MaxPool2d: expected kernel/],
  [
    'AvgPool2d of three sizes',
    () => new AvgPool2d([1, 2, 3] as never),
    /AvgPool2d: expected kernel .* got \[1, 2, 3\]/,
  ],
  [
    'layer norm with another bias',
    () => layerNorm(x(2, 3), x(3), x(2)),
    /layerNorm: expected float64\[2\] to have the shape of the weight float64\[3\]/,
  ],
  [
    'layer norm of integers',
    () => layerNorm(zeros([2, 3], { dtype: 'int32' }), x(3)),
    /layerNorm: expected floating tensors, got int32\[2,3\]/,
  ],
  [
    'batch norm of one value',
    () => new BatchNorm2d(2).call(ones([1, 2, 1, 1])),
    /batchNorm: expected more than one value in each channel to train on, got float32\[1,2,1,1\]/,
  ],
  [
    'batch norm of other channels',
    () => new BatchNorm2d(2).call(ones([2, 3, 1, 1])),
    /batchNorm: expected an input \[N, 2, …\], got float32\[2,3,1,1\]/,
  ],
  [
    'batch norm of other channels in evaluation',
    () => new BatchNorm2d(2).eval().call(ones([2, 3, 1, 1])),
    /batchNormEval: expected an input \[N, 2, …\]/,
  ],
  [
    'BatchNorm2d on vectors',
    () => new BatchNorm2d(2).call(ones([4, 2])),
    /BatchNorm2d: expected an input \[N, C, H, W\], got float32\[4,2\]/,
  ],
  [
    'batch norm by other statistics',
    () => functional.batchNormEval(x(2, 3), x(2), x(3), x(3)),
    /expected float64\[2\] to have the shape/,
  ],
  [
    'batch norm with a matrix',
    () => batchNorm(x(2, 3), x(3, 1)),
    /batchNorm: expected a weight \[C\], got float64\[3,1\]/,
  ],
  [
    'BatchNorm2d with momentum 2',
    () => new BatchNorm2d(2, { momentum: 2 }),
    /expected a momentum 0 ≤ momentum ≤ 1, got 2/,
  ],
  [
    'groups of a norm that do not divide',
    () => groupNorm(x(2, 4), 3, x(4)),
    /groupNorm: 3 groups do not divide the 4 channels of float64\[2,4\]/,
  ],
  ['GroupNorm(3, 4)', () => new GroupNorm(3, 4), /GroupNorm: expected groups to divide the channels, got 3 for 4/],
  ['Conv2d(3, 0, 1)', () => new Conv2d(3, 0, 1), /Conv2d: expected cOut to be an integer ≥ 1, got 0/],
  [
    'Conv2d with 2 groups of 3',
    () => new Conv2d(3, 4, 1, { groups: 2 }),
    /Conv2d: expected groups to divide cIn and cOut, got 2 for 3 and 4/,
  ],
  ['Conv2d with stride 0', () => new Conv2d(3, 4, 1, { stride: 0 }), /Conv2d: expected stride/],
  [
    'attention of 5 features in 2 heads',
    () => new MultiHeadAttention(5, 2),
    /expected heads to divide dModel, got 2 for 5/,
  ],
  [
    'attention on a matrix',
    () => new MultiHeadAttention(4, 2).call(ones([3, 4])),
    /expected an input \[B, T, 4\], got float32\[3,4\]/,
  ],
  [
    'a mask of another length',
    () => new MultiHeadAttention(4, 2).call(ones([2, 3, 4]), ones([2, 2], { dtype: 'bool' })),
    /expected a mask \[3, 3\] or \[2, 3, 3\], got bool\[2,2\]/,
  ],
  [
    'a mask of numbers',
    () => new MultiHeadAttention(4, 2).call(ones([2, 3, 4]), ones([3, 3])),
    /attention: expected a bool mask, got float32\[3,3\]/,
  ],
  [
    'a hidden layer of 3.5',
    () => new TransformerBlock(7, 1, { mlpRatio: 0.5 }),
    /TransformerBlock: expected dModel · mlpRatio to be an integer ≥ 1, got 3.5/,
  ],
  [
    'an unknown activation',
    () => new TransformerBlock(4, 1, { activation: 'swish' as never }),
    /TransformerBlock: expected an activation of relu, gelu, tanh, sigmoid, got 'swish'/,
  ],
  [
    'an unknown stem',
    () => resnet18({ classes: 2, stem: 'mnist' as never, width: 1 }),
    /resnet: expected stem to be 'cifar' or 'imagenet', got 'mnist'/,
  ],
  ['a resnet without classes', () => resnet18({ classes: 0, stem: 'cifar' }), /resnet: expected classes/],
  [
    'a vit of partial patches',
    () => vit({ ...block, imageSize: [8, 6] }),
    /vit: expected imageSize to be a multiple of patch, got 8×6 and 4×4/,
  ],
  [
    'a vit on other images',
    () => vit(block).call(ones([1, 3, 8, 4])),
    /vit: expected an input \[N, 3, 8, 8\], got float32\[1,3,8,4\]/,
  ],
];
for (const [title, run, message] of refused) law(t, `${title} is refused`, () => void assert.throws(run, message));
