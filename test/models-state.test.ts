// Residual networks and vision transformers: sizes, state keys, loading and what is refused, blocks that are computed again.

import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { Generator, noGrad, ones, randn, ShapeError, type StateDict, type Tensor, tensor, zeros } from '@otimes/core';
import { load } from '@otimes/core/node';
import {
  BasicBlock,
  cifarResNet,
  crossEntropy,
  fromCifarResNet,
  fromTimm,
  lstmLanguageModel,
  type Module,
  resizePositions,
  resnet18,
  resnet34,
  resnet50,
  toTimm,
  vit,
  vitS16,
} from '@otimes/nn';
import { KFAC, type Optimizer, SGD, STEVE } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { within } from './helpers/golden.ts';
import { law } from './helpers/law.ts';

const wide = { dtype: 'float64' } as const;
const x = (...shape: number[]) => randn(shape, { ...wide, rng: new Generator(3) });
const count = (model: Module) => model.parameters().reduce((n, p) => n + p.size, 0);
const keys = (model: Module) => Object.keys(model.stateDict());
const bits = (values: Tensor) => [...new Uint8Array(new Float64Array(values.dataSync()).buffer)];
const small = { imageSize: 32, patch: 8, dim: 12, depth: 2, heads: 3, classes: 5 };
const file = (name: string): StateDict =>
  load(fileURLToPath(new URL(`./golden/torch-models-${name}.safetensors`, import.meta.url)));

// --- sizes and keys ---

/** Draws that take no time, for networks that are only counted. */
class Constant extends Generator {
  override uniform(): number {
    return 0.5;
  }
  override normal(): number {
    return 0.5;
  }
}

law(
  t,
  'of 1000 classes: resnet18 has 11 689 512 parameters, resnet34 21 797 672, resnet50 25 557 032, vitS16 22 050 664',
  () => {
    const imagenet = { classes: 1000, stem: 'imagenet', rng: new Constant(0) } as const;
    assert.equal(count(resnet18(imagenet)), 11_689_512);
    assert.equal(count(resnet34(imagenet)), 21_797_672);
    assert.equal(count(resnet50(imagenet)), 25_557_032);
    assert.equal(count(vitS16({ classes: 1000, rng: new Constant(0) })), 22_050_664);
  },
);

law(
  t,
  'cifarResNet of 20 layers and 10 classes has 269 722 parameters by shortcuts A, and 2 752 more by shortcuts B',
  () => {
    assert.equal(count(cifarResNet({ depth: 20, classes: 10 })), 269_722);
    assert.equal(count(cifarResNet({ depth: 20, classes: 10, shortcut: 'B' })), 269_722 + 16 * 32 + 64 + 32 * 64 + 128);
  },
);

law(t, 'width and depths make a network narrow and shallow', () => {
  const model = resnet34({ classes: 3, stem: 'cifar', width: 2, depths: [1, 2, 1, 1] });
  assert.deepEqual(
    [model.layer1, model.layer2, model.layer3, model.layer4].map(({ layers }) => layers.length),
    [1, 2, 1, 1],
  );
  assert.deepEqual(model.fc.weight.shape, [3, 16]);
  const narrow = vitS16({ classes: 3, imageSize: 32, dim: 12, depth: 1, heads: 3 });
  assert.deepEqual(narrow.position.shape, [1, 5, 12]);
  assert.equal(narrow.blocks.layers.length, 1);
});

law(t, 'a shortcut A has no parameters: every other place, and zeros on both sides of the channels of x', () => {
  const block = new BasicBlock(2, 4, 2, { shortcut: 'A', ...wide });
  noGrad(() => block.bn2.weight!.copy_(zeros([4], wide)));
  const image = x(2, 2, 5, 4);
  const y = noGrad(() => block.call(image));
  const expected = image
    .slice(null, null, [null, null, 2], [null, null, 2])
    .relu()
    .pad([
      [0, 0],
      [1, 1],
    ]);
  assert.deepEqual(y.toArray(), expected.toArray());
  assert.equal(block.downsample, null);
  assert.throws(
    () => new BasicBlock(4, 2, 2, { shortcut: 'A' }),
    /^RangeError: BasicBlock: expected a width of at least cIn/,
  );
});

law(t, 'vit has the keys of timm: those of its files, whose class token and last norm are where timm has them', () => {
  for (const [name, o] of [
    ['vit-token', {}],
    ['vit-mean', { pool: 'mean' }],
    ['vit-mean-with-token', { pool: 'mean', classToken: true }],
  ] as const)
    assert.deepEqual(Object.keys(toTimm(vit({ ...small, ...o }).stateDict())).sort(), Object.keys(file(name)).sort());
  assert.ok(!keys(vit({ ...small, pool: 'mean' })).includes('classToken'));
  assert.ok(keys(vit({ ...small, pool: 'mean', fcNorm: false })).includes('norm.weight'));
});

law(t, 'toTimm of fromTimm is the state, to the last bit, and so it is the other way round', () => {
  const theirs = file('vit-token');
  const back = toTimm(fromTimm(theirs));
  assert.deepEqual(Object.keys(back).sort(), Object.keys(theirs).sort());
  for (const [name, value] of Object.entries(theirs)) assert.deepEqual(back[name]!.toArray(), value.toArray(), name);
  const own = vit({ ...small, pool: 'mean', classToken: true }).stateDict();
  const again = fromTimm(toTimm(own));
  assert.deepEqual(Object.keys(again).sort(), Object.keys(own).sort());
  for (const [name, value] of Object.entries(own)) assert.deepEqual(again[name]!.toArray(), value.toArray(), name);
});

// --- loading ---

law(t, 'a missing entry, one too many and one of another shape are told by name, and nothing is loaded', () => {
  const model = resnet18({ classes: 5, stem: 'cifar', width: 4 });
  const before = bits(model.conv1.weight);
  const { 'layer1.0.bn1.running_var': _, ...state } = file('resnet18-cifar');
  const wrong = { ...state, 'layer1.0.bn3.weight': ones([4]), 'fc.weight': ones([7, 32]) };
  assert.throws(
    () => model.loadStateDict(wrong),
    ({ message }: Error) =>
      ['missing: layer1.0.bn1.running_var', 'unexpected: layer1.0.bn3.weight', 'does not fit: fc.weight'].every(part =>
        message.includes(part),
      ),
  );
  assert.deepEqual(bits(model.conv1.weight), before);
  const { 'norm.weight': __, ...one } = file('vit-token');
  assert.throws(() => vit(small).loadStateDict(fromTimm(one)), /1 entry is wrong\s+missing: norm\.weight/);
  assert.throws(() => vit(small).loadStateDict(fromTimm(file('vit-mean-with-token'))), /unexpected: fcNorm\.weight/);
});

law(t, 'positions of another image size are an error that says so, and resizePositions makes them fit', () => {
  const model = vit({ ...small, imageSize: [48, 24] });
  const state = fromTimm(file('vit-token'));
  const before = bits(model.position);
  assert.throws(
    () => model.loadStateDict(state),
    /^ShapeError: vit: nothing was loaded, since position expects 19 tokens of images of 48×24 pixels, got 17; resizePositions /,
  );
  assert.deepEqual(bits(model.position), before);
  model.loadStateDict({ ...state, position: resizePositions(state.position!, [6, 3]) });
  assert.deepEqual(model.position.slice(0, 0).toArray(), state.position!.slice(0, 0).toArray());
  assert.deepEqual(resizePositions(state.position!, 4).shape, [1, 17, 12]);
});

law(t, 'what is no state of timm, of ours or of CIFAR networks is refused by its name', () => {
  const bad: [() => unknown, RegExp][] = [
    [
      () => fromTimm({ 'blocks.0.ls1.gamma': ones([4]) }),
      /^Error: fromTimm: 'blocks\.0\.ls1\.gamma' is no entry of a vit/,
    ],
    [() => fromTimm({ 'constructor.weight': ones([4]) }), /^Error: fromTimm: 'constructor\.weight' is no entry/],
    [
      () => fromTimm({ 'blocks.0.attn.qkv.weight': ones([5, 2]) }),
      /^ShapeError: fromTimm: expected 'blocks\.0\.attn\.qkv\.weight'/,
    ],
    [() => fromTimm({ 'blocks.0.attn.qkv.bias': ones([6, 1]) }), /\[3 dim\], got float32\[6,1\]/],
    [() => fromTimm({ cls_token: 1 } as never), /^TypeError: fromTimm: expected 'cls_token' to be a tensor, got 1/],
    [
      () => toTimm({ 'blocks.0.attention.q.weight': ones([2, 2]) }),
      /^ShapeError: toTimm: expected q, k and v of 'blocks\.0/,
    ],
    [() => toTimm({ 'layer1.0.conv1.weight': ones([2, 2]) }), /^Error: toTimm: 'layer1\.0\.conv1\.weight' is no entry/],
    [
      () => fromCifarResNet({ 'linear.bias': ones([2]), 'module.linear.bias': ones([2]) }),
      /^Error: fromCifarResNet: both 'module\.linear\.bias' and another/,
    ],
    [
      () => resizePositions(ones([1, 6, 4]), 3),
      /^ShapeError: resizePositions: expected positions \[1, 1 \+ a square, dim\], got float32\[1,6,4\]/,
    ],
    [() => resizePositions(ones([1, 7, 4]), 3, { oldSize: [2, 2] }), /\[1, 1 \+ 2 · 2, dim\], got float32\[1,7,4\]/],
    [() => vit({ ...small, classToken: false }), /^TypeError: vit: expected a class token for pool 'token', got false/],
    [() => vit({ ...small, pool: 'max' as never }), /^\w+Error: vit: expected pool to be 'token' or 'mean', got 'max'/],
    // The list of what there is has required options, too.
    [
      () => vit({ ...small, numClasses: 4 } as never),
      /^TypeError: vit: there is no option 'numClasses', only imageSize, patch, dim, depth, heads, classes, channels, mlpRatio, .*, device/,
    ],
    [
      () => cifarResNet({ depth: 8, classes: 2, stem: 'cifar' } as never),
      /no option 'stem', only depth, classes, width, channels, shortcut, checkpoint, rng, dtype, device$/,
    ],
    [
      () => lstmLanguageModel({ vocabulary: 2, dim: 2, hidden: 2, layers: 1, dropOut: 0 } as never),
      /no option 'dropOut', only vocabulary, dim, hidden, layers, dropout, .*; did you mean 'dropout'\?$/,
    ],
    [
      () => vit(small).loadStateDict(toTimm(vit(small).stateDict())),
      /^TypeError: vit: nothing was loaded, since these are timm's names; write loadStateDict\(fromTimm\(state\)\)/,
    ],
    [
      () => cifarResNet({ depth: 18, classes: 2 }),
      /^RangeError: cifarResNet: expected depth to be a depth of 6n \+ 2 layers/,
    ],
    [
      () => resnet34({ classes: 2, stem: 'cifar', depths: [1, 2] as never }),
      /expected depths to be the blocks of four stages/,
    ],
    [
      () => resnet18({ classes: 2, stem: 'cifar', pretrained: true } as never),
      /^TypeError: resnet: there is no option 'pretrained', only classes, stem, channels, width, depths, checkpoint, rng, dtype, device/,
    ],
    [
      () => cifarResNet({ depth: 8, numClasses: 2 } as never),
      /there is no option 'numClasses', only depth, classes, width, channels, shortcut, checkpoint, rng/,
    ],
    [
      () => vitS16({ num_classes: 2 } as never),
      /^TypeError: vit: there is no option 'num_classes', only imageSize, patch, dim, depth, heads, classes, channels, mlpRatio/,
    ],
    [
      () => lstmLanguageModel({ vocab: 2 } as never),
      /there is no option 'vocab', only vocabulary, dim, hidden, layers, dropout, .*did you mean 'vocabulary'\?/,
    ],
  ];
  for (const [call, error] of bad) assert.throws(call, error);
  assert.throws(() => fromTimm({ 'blocks.0.attn.qkv.weight': ones([5, 2]) }), ShapeError);
});

// --- blocks that are computed again ---

const networks: Record<string, (checkpoint: boolean) => Module> = {
  resnet18: checkpoint =>
    resnet18({
      classes: 4,
      stem: 'imagenet',
      width: 3,
      depths: [1, 2, 1, 1],
      checkpoint,
      rng: new Generator(1),
      ...wide,
    }),
  resnet50: checkpoint =>
    resnet50({ classes: 4, stem: 'cifar', width: 2, depths: [1, 2, 1, 1], checkpoint, rng: new Generator(1), ...wide }),
  cifarResNet: checkpoint =>
    cifarResNet({ depth: 14, width: 3, classes: 4, checkpoint, rng: new Generator(1), ...wide }),
  vit: checkpoint => vit({ ...small, classes: 4, dropout: 0.2, checkpoint, rng: new Generator(1), ...wide }),
};

type Make = (model: Module) => Optimizer;
const STEPS: Record<string, Make> = {
  SGD: model => new SGD(model.parameters(), { lr: 0.01, momentum: 0.9 }),
  STEVE: model => new STEVE(model, { lr: 0.01, refreshEvery: 2, factorEvery: 1 }),
  'KFAC-reduce': model => new KFAC(model, { lr: 0.01, refreshEvery: 2, factorEvery: 1, sharing: 'reduce' }),
};

/** The losses of three steps, and the state that they leave. */
function trained(model: Module, make: Make): Tensor[] {
  const optimizer = make(model);
  const labels = tensor([0, 3, 1], { dtype: 'int32' });
  const losses = [1, 2, 3].map(seed => {
    optimizer.zeroGrad();
    const images = randn([3, 3, 32, 32], { ...wide, rng: new Generator(seed) });
    const loss = crossEntropy(model.call(images) as Tensor, labels);
    loss.backward();
    optimizer.step();
    return loss;
  });
  return [...losses, ...Object.values(model.stateDict())].map(value => value.astype('float64'));
}

for (const [name, make] of Object.entries(networks))
  for (const [title, steps] of Object.entries(STEPS))
    law(t, `${name} with checkpoint learns what it learns without: ${title}`, () => {
      const [actual, expected] = [trained(make(true), steps), trained(make(false), steps)];
      // Kronecker optimizers compute some layers in their eigenbases where a graph is recorded, which rounds otherwise.
      for (const [i, value] of actual.entries())
        if (title === 'SGD') assert.deepEqual(bits(value), bits(expected[i]!), `value ${i}`);
        else mustBeClose(value, expected[i]!, within(1e-9), `value ${i}`);
    });

for (const [name, make] of Object.entries(networks))
  law(t, `${name} with checkpoint has the gradients of the mode of its forward pass, whatever mode came after`, () => {
    const images = x(3, 3, 32, 32);
    const lossOf = (model: Module) => crossEntropy(model.call(images) as Tensor, tensor([0, 3, 1], { dtype: 'int32' }));
    for (const isTraining of [true, false]) {
      const [actual, expected] = [true, false].map(checkpoint => {
        const model = make(checkpoint);
        // Averages that are not those of the start.
        noGrad(() => model.call(images));
        model.train(isTraining);
        const loss = lossOf(model);
        model.train(!isTraining);
        if (isTraining) noGrad(() => model.call(images));
        const state = Object.values(model.stateDict());
        loss.backward();
        assert.ok([...model.modules()].every(one => one.training === !isTraining));
        for (const [i, value] of Object.values(model.stateDict()).entries())
          assert.deepEqual(bits(value), bits(state[i]!));
        return model.parameters().map(p => p.grad!);
      });
      for (const [i, gradient] of actual!.entries())
        assert.deepEqual(bits(gradient), bits(expected![i]!), `gradient ${i}`);
    }
    const model = make(true);
    model.eval();
    const loss = lossOf(model);
    model.train();
    noGrad(() => model.call(images));
    if (name === 'vit') loss.backward();
    else
      assert.throws(() => loss.backward(), {
        name: 'GraphError',
        message:
          /^checkpoint: 'running_mean' of BatchNorm2d, float64\[\d+\], which the forward pass read in evaluation, was changed/,
      });
  });

for (const [name, make] of Object.entries(networks))
  law(
    t,
    `${name} with checkpoint has the gradients and averages of the forward pass's modes, whatever they are in backward`,
    () => {
      const images = x(2, 3, 32, 32);
      const labels = tensor([0, 3], { dtype: 'int32' });
      const ways: ((model: Module) => void)[] = [
        () => {},
        model => model.eval(),
        model => model.modules().at(-3)!.eval(),
      ];
      for (const before of ways)
        for (const after of [model => model.eval(), model => model.train()] satisfies typeof ways) {
          const [actual, expected] = [true, false].map(checkpoint => {
            const model = make(checkpoint);
            before(model);
            const loss = crossEntropy(model.call(images) as Tensor, labels);
            after(model);
            const modes = model.modules().map(one => one.training);
            loss.backward();
            assert.deepEqual(
              model.modules().map(one => one.training),
              modes,
            );
            return [...model.parameters().map(p => p.grad!), ...Object.values(model.stateDict())].map(v =>
              bits(v).join(),
            );
          });
          for (const [i, value] of actual!.entries()) assert.ok(value === expected![i], `value ${i}`);
        }
    },
  );
