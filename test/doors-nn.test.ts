// Every public function, constructor and method of @otimes/nn, called with wrong arguments: it works, or an error of the library says
// what is wrong.
import { Generator, ones, randn, type Tensor, tensor, zeros } from '@otimes/core';
import * as nn from '@otimes/nn';
import t from 'tap';
import { checkDoors as check, type Door } from './helpers/doors.ts';
import { apartConv, convDoors } from './helpers/doors-conv.ts';

/** A device that does not exist is refused by core, where tensors are made; so is a shape. */
const checkDoors: typeof check = (test, what, all, doors, apart) => {
  const says = ([name, door]: [string, Door]) => [
    name,
    { ...door, says: [door.says ?? name, 'device', 'tensor'].flat() },
  ];
  check(test, what, all, Object.fromEntries(Object.entries(doors).map(says)), apart);
};

const x = (...shape: number[]) => randn(shape, { rng: new Generator(1) });
const place = () => ({ rng: new Generator(0), dtype: 'float32', device: 'cpu' });
const labels = () => tensor([1, 0], { dtype: 'int32' });
const linear = () => new nn.Linear(2, 3);
const image = () => x(1, 2, 4, 4);

/** A constructor as a door; `says` where its messages begin with another name. */
const made = (Class: new (...args: never[]) => unknown, args: Door['args'], says?: Door['says']): Door => ({
  call: (...given) => new Class(...given),
  args,
  ...(says !== undefined && { says }),
});

const layers: Record<string, Door> = {
  Linear: made(nn.Linear, () => [2, 3, { bias: true, init: (shape: number[]) => zeros(shape), ...place() }], [
    'Linear',
    'Linear.init',
  ]),
  Conv2d: made(nn.Conv2d, () => [
    2,
    4,
    3,
    { stride: 1, padding: 1, dilation: 1, groups: 2, bias: true, init: (shape: number[]) => zeros(shape), ...place() },
  ]),
  Embedding: made(nn.Embedding, () => [5, 2, { paddingIdx: 1, init: (shape: number[]) => zeros(shape), ...place() }], [
    'Embedding',
    'Embedding.init',
  ]),
  Dropout: made(nn.Dropout, () => [0.5, place()]),
  ReLU: made(nn.ReLU, () => []),
  Tanh: made(nn.Tanh, () => []),
  Sigmoid: made(nn.Sigmoid, () => []),
  GELU: made(nn.GELU, () => [{ approximate: 'tanh' }]),
  Flatten: made(nn.Flatten, () => []),
  Sequential: made(nn.Sequential, () => [linear(), new nn.Tanh()]),
  MaxPool2d: made(nn.MaxPool2d, () => [2, { stride: 2, padding: 0 }]),
  AvgPool2d: made(nn.AvgPool2d, () => [2, { stride: 2, padding: 0, countIncludePad: true }]),
  GlobalAvgPool2d: made(nn.GlobalAvgPool2d, () => []),
  LayerNorm: made(nn.LayerNorm, () => [[2, 3], { eps: 1e-5, bias: true, ...place() }]),
  GroupNorm: made(nn.GroupNorm, () => [2, 4, { eps: 1e-5, ...place() }]),
  BatchNorm2d: made(nn.BatchNorm2d, () => [4, { eps: 1e-5, momentum: 0.1, ...place() }]),
  MultiHeadAttention: made(nn.MultiHeadAttention, () => [
    4,
    2,
    { bias: true, dropout: 0.1, kdim: 3, vdim: 5, rotary: true, ...place() },
  ]),
  TransformerBlock: made(
    nn.TransformerBlock,
    () => [4, 2, { mlpRatio: 2, dropout: 0.1, preNorm: true, activation: 'relu', layerNormEps: 1e-6, ...place() }],
    ['TransformerBlock', 'MultiHeadAttention'],
  ),
  RNN: made(nn.RNN, () => [2, 3, { ...recurrentOptions(), nonlinearity: 'relu' }]),
  LSTM: made(nn.LSTM, () => [2, 3, recurrentOptions()]),
  GRU: made(nn.GRU, () => [2, 3, recurrentOptions()]),
  RNNCell: made(nn.RNNCell, () => [2, 3, { bias: true, nonlinearity: 'relu', ...place() }]),
  LSTMCell: made(nn.LSTMCell, () => [2, 3, { bias: true, ...place() }]),
  GRUCell: made(nn.GRUCell, () => [2, 3, { bias: true, ...place() }]),
  LSTMLanguageModel: made(nn.LSTMLanguageModel, () => [languageOptions()], 'lstmLanguageModel'),
  MLP: made(nn.MLP, () => [[2, 3], { activation: 'relu', bias: true, dropout: 0.1, ...place() }], 'mlp'),
  BasicBlock: made(nn.BasicBlock, () => [2, 2, 1, { shortcut: 'A', checkpoint: true, ...place() }]),
  Bottleneck: made(nn.Bottleneck, () => [2, 2, 1, { checkpoint: true, ...place() }]),
  CifarResNet: made(nn.CifarResNet, () => [cifarOptions()], 'cifarResNet'),
  ResNet: made(
    nn.ResNet,
    () => [
      nn.BasicBlock,
      [1, 1, 1, 1],
      { classes: 2, stem: 'cifar', channels: 3, width: 2, checkpoint: true, ...place() },
    ],
    'resnet',
  ),
  VisionTransformer: made(nn.VisionTransformer, () => [vitOptions()], [
    'vit',
    'TransformerBlock',
    'MultiHeadAttention',
  ]),
};

const recurrentOptions = () => ({
  ...{ numLayers: 2, bias: true, batchFirst: true, dropout: 0.1, bidirectional: true },
  ...place(),
});

const languageOptions = () => ({
  ...{ vocabulary: 4, dim: 3, hidden: 3, layers: 1, dropout: 0.1, tieWeights: true, batchFirst: true },
  ...place(),
});

const cifarOptions = () => ({
  ...{ depth: 8, classes: 2, channels: 3, width: 1, shortcut: 'B', checkpoint: true },
  ...place(),
});

const vitOptions = () => ({
  imageSize: 4,
  patch: 2,
  dim: 4,
  depth: 1,
  heads: 2,
  classes: 2,
  channels: 3,
  mlpRatio: 2,
  dropout: 0.1,
  ...{ layerNormEps: 1e-6, pool: 'mean' as const, classToken: true, fcNorm: true, checkpoint: true },
  ...place(),
});

/** What `test/doors-nn-layers.test.ts` has: layers, then functions. */
const otherLayers = [
  'AlphaDropout Bilinear CELU CosineSimilarity Dropout1d Dropout2d Dropout3d ELU EmbeddingBag GLU Hardsigmoid Hardswish Hardtanh Identity',
  'LeakyReLU LogSigmoid LogSoftmax Mish ModuleDict ModuleList PReLU PairwiseDistance RMSNorm ReLU6 SELU SiLU Softmax Softplus Softsign Unflatten',
]
  .join(' ')
  .split(' ');
const otherFunctions = [
  'alphaDropout bilinear celu cosineSimilarity dropout1d dropout2d dropout3d elu embeddingBag glu hardsigmoid hardswish hardtanh leakyRelu',
  'logSigmoid logSoftmax mish pairwiseDistance prelu relu6 rmsNorm selu silu softmax softplus softsign',
]
  .join(' ')
  .split(' ');

/** Losses that `test/doors-nn-losses.test.ts` has. */
const otherLosses = [
  'bceLoss cosineEmbeddingLoss ctcLoss gaussianNllLoss hingeEmbeddingLoss hingeLoss huberLoss klDivLoss l1Loss marginRankingLoss',
  'multiMarginLoss nllLoss poissonNllLoss smoothL1Loss tripletMarginLoss',
]
  .join(' ')
  .split(' ');

const functions: Record<string, Door> = {
  mlp: { call: nn.mlp, args: () => [[2, 3], { activation: 'relu', bias: true, dropout: 0.1, ...place() }] },
  resnet18: { call: nn.resnet18, args: () => [{ classes: 2, stem: 'cifar', channels: 3, width: 2 }], says: 'resnet' },
  resnet34: {
    call: nn.resnet34,
    args: () => [{ classes: 2, stem: 'cifar', channels: 3, width: 1, depths: [1, 1, 1, 1], checkpoint: true }],
    says: 'resnet',
  },
  resnet50: { call: nn.resnet50, args: () => [{ classes: 2, stem: 'cifar', channels: 3, width: 1 }], says: 'resnet' },
  cifarResNet: { call: nn.cifarResNet, args: () => [cifarOptions()] },
  fromCifarResNet: { call: nn.fromCifarResNet, args: () => [{ 'module.linear.bias': x(2) }] },
  fromTimm: { call: nn.fromTimm, args: () => [{ 'blocks.0.attn.qkv.weight': x(6, 2), 'norm.bias': x(2) }] },
  toTimm: { call: nn.toTimm, args: () => [{ 'blocks.0.linear1.weight': x(6, 2), classToken: x(1, 1, 2) }] },
  resizePositions: {
    call: nn.resizePositions,
    args: () => [x(1, 7, 2), 2, { oldSize: [2, 3], prefixTokens: 1, mode: 'bilinear' }],
  },
  lstmLanguageModel: { call: nn.lstmLanguageModel, args: () => [languageOptions()] },
  vit: { call: nn.vit, args: () => [vitOptions()], says: ['vit', 'TransformerBlock', 'MultiHeadAttention'] },
  crossEntropy: {
    call: nn.crossEntropy,
    args: () => [x(2, 3), labels(), { reduction: 'mean', labelSmoothing: 0.1, weight: ones([3]), ignoreIndex: 2 }],
    says: ['crossEntropy', 'logSoftmax', 'labelCrossEntropy'],
  },
  mseLoss: { call: nn.mseLoss, args: () => [x(2), x(2), { reduction: 'sum' }] },
  bceWithLogits: {
    call: nn.bceWithLogits,
    args: () => [x(2), ones([2]), { reduction: 'sum', weight: ones([2]), posWeight: ones([2]) }],
  },
  summary: {
    call: nn.summary,
    args: () => [linear(), [1, 2]],
    says: ['summary', 'linear', 'Linear'],
  },
  isLayer: { call: nn.isLayer, args: () => [linear(), 'Linear'] },
  fromPyTorch: { call: nn.fromPyTorch, args: () => [{ in_proj_weight: x(6, 2) }] },
  Parameter: made(nn.Parameter, () => [x(2), { requiresGrad: true }], ['Parameter', 'requiresGrad']),
  Buffer: made(nn.Buffer, () => [x(2)]),
};

/** In test/doors-attention.test.ts. */
const attentions = Object.fromEntries(
  [
    'GPT GPTBlock KVCache PositionalEncoding Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder',
    'TransformerEncoderLayer fromGpt2 gpt toPyTorch',
  ]
    .join(' ')
    .split(' ')
    .map(name => [name, 'in test/doors-attention.test.ts']),
);

checkDoors(
  t,
  'nn',
  Object.keys(nn),
  { ...layers, ...functions },
  {
    ...apartConv(convDoors.nn),
    Module: 'abstract; its methods are below',
    vitS16: 'vit with other defaults, which takes seconds',
    MobileNetV1: 'as large by default: test/nn-convs.test.ts has what it refuses',
    mobileNetV1: 'the same',
    ...attentions,
    functional: 'below',
    init: 'below',
    metrics: 'test/doors-metrics.test.ts has them',
    ...Object.fromEntries(otherLayers.map(name => [name, 'test/doors-nn-layers.test.ts has it'])),
    ...Object.fromEntries(otherLosses.map(name => [name, 'test/doors-nn-losses.test.ts has it'])),
  },
);

checkDoors(
  t,
  'nn.functional',
  Object.keys(nn.functional),
  {
    conv2d: { call: nn.functional.conv2d, args: () => [image(), x(2, 2, 3, 3), x(2), { stride: 1, padding: 1 }] },
    dropout: { call: nn.functional.dropout, args: () => [x(2), 0.5, true, new Generator(0)] },
    attentionWeights: {
      call: nn.functional.attentionWeights,
      args: () => [x(3, 2), x(3, 2), ones([3, 3], { dtype: 'bool' })],
      says: ['attentionWeights', 'attention', 'matmul', 'where', 'softmax', 'transpose'],
    },
    embedding: { call: nn.functional.embedding, args: () => [labels(), x(3, 2), { paddingIdx: 1 }] },
    rotaryEmbedding: {
      call: nn.functional.rotaryEmbedding,
      args: () => [x(3, 2), { base: 100, interleaved: true, offset: 2 }],
    },
  },
  {
    ...apartConv(convDoors.functional),
    ...Object.fromEntries(otherFunctions.map(name => [name, 'test/doors-nn-layers.test.ts has it'])),
    ...Object.fromEntries(
      'attention batchNorm batchNormEval groupNorm layerNorm linear maxPool1d maxPool2d maxPool3d avgPool1d avgPool2d avgPool3d adaptiveAvgPool1d adaptiveAvgPool2d adaptiveMaxPool1d adaptiveMaxPool2d'
        .split(' ')
        .map(name => [name, 'a function of core']),
    ),
  },
);

const weight = { rng: new Generator(0), dtype: 'float64', device: 'cpu' };
checkDoors(t, 'nn.init', Object.keys(nn.init), {
  constant: { call: nn.init.constant, args: () => [[2, 3], 1, weight] },
  zeros: { call: nn.init.zeros, args: () => [[2, 3], weight], says: 'constant' },
  ones: { call: nn.init.ones, args: () => [[2, 3], weight], says: 'constant' },
  uniform: { call: nn.init.uniform, args: () => [[2, 3], -1, 1, weight] },
  normal: { call: nn.init.normal, args: () => [[2, 3], 1, { ...weight, mean: 0 }] },
  truncatedNormal: { call: nn.init.truncatedNormal, args: () => [[2, 3], 1, { ...weight, cut: 2 }] },
  xavierUniform: {
    call: nn.init.xavierUniform,
    args: () => [[2, 3], { ...weight, gain: 1 }],
  },
  xavierNormal: {
    call: nn.init.xavierNormal,
    args: () => [[2, 3], { ...weight, gain: 1 }],
  },
  kaimingUniform: {
    call: nn.init.kaimingUniform,
    args: () => [[2, 3], { ...weight, gain: 1 }],
  },
  kaimingNormal: {
    call: nn.init.kaimingNormal,
    args: () => [[2, 3], { ...weight, gain: 1, mode: 'fanIn' }],
  },
});

/** Calls of layers with wrong inputs; a message begins with the layer, or with the operation that it is. */
const calls: Record<string, [layer: () => nn.AnyModule, input: () => Tensor, operation: string]> = {
  'Linear.call': [linear, () => x(1, 2), 'linear'],
  'Conv2d.call': [() => new nn.Conv2d(2, 4, 3), image, 'conv2d'],
  'Embedding.call': [() => new nn.Embedding(2, 2), labels, 'embedding'],
  'Dropout.call': [() => new nn.Dropout(0.5), () => x(2), 'dropout'],
  'GELU.call': [() => new nn.GELU(), () => x(2), 'gelu'],
  'ReLU.call': [() => new nn.ReLU(), () => x(2), 'relu'],
  'Flatten.call': [() => new nn.Flatten(), () => x(2, 3), 'flatten'],
  'Sequential.call': [() => new nn.Sequential(linear()), () => x(1, 2), 'linear'],
  'MaxPool2d.call': [() => new nn.MaxPool2d(2), image, 'maxPool2d'],
  'GlobalAvgPool2d.call': [() => new nn.GlobalAvgPool2d(), image, 'globalAvgPool2d'],
  'LayerNorm.call': [() => new nn.LayerNorm(2), () => x(1, 2), 'layerNorm'],
  'GroupNorm.call': [() => new nn.GroupNorm(1, 2), image, 'groupNorm'],
  'BatchNorm2d.call': [() => new nn.BatchNorm2d(2), image, 'batchNorm'],
  'MultiHeadAttention.call': [() => new nn.MultiHeadAttention(2, 1), () => x(1, 3, 2), 'attention'],
  'LSTM.call': [() => new nn.LSTM(2, 3), () => x(2, 1, 2), 'lstm'],
  'GRU.call': [() => new nn.GRU(2, 3), () => x(2, 1, 2), 'gru'],
  'RNNCell.call': [() => new nn.RNNCell(2, 3), () => x(1, 2), 'rnn'],
  'LSTMLanguageModel.call': [
    () => nn.lstmLanguageModel({ ...languageOptions(), dtype: 'float32' }),
    () => labels().unsqueeze(0),
    'embedding',
  ],
  'MLP.call': [() => nn.mlp([2, 3]), () => x(1, 2), 'linear'],
  'VisionTransformer.call': [
    () => nn.vit({ ...vitOptions(), rng: new Generator(0), dtype: 'float32' }),
    () => x(1, 3, 4, 4),
    'vit',
  ],
};
for (const [name, [layer, input, operation]] of Object.entries(calls))
  checkDoors(t, 'nn', [name], {
    [name]: {
      call: given => layer().call(given),
      args: () => [input()],
      says: [name.replace('.call', ''), 'Linear', operation, 'requiresGrad'],
    },
  });

const method = (name: keyof nn.AnyModule, args: Door['args'], says: string[] | string): Door => ({
  call: (...given) => (linear()[name] as (...args: never[]) => unknown).call(linear(), ...given),
  args,
  says,
});
checkDoors(t, 'nn', ['train', 'to', 'onForward', 'beforeForward', 'substitute', 'namedParameters', 'loadStateDict'], {
  train: method('train', () => [true], 'train'),
  to: method('to', () => ['cpu'], ['to', 'getBackend', 'backend']),
  onForward: method('onForward', () => [() => undefined, { borrows: true }], 'Linear.onForward'),
  beforeForward: method('beforeForward', () => [() => undefined, { borrows: true }], 'Linear.beforeForward'),
  substitute: method('substitute', () => [(one: Tensor) => one, { borrows: true }], 'Linear.substitute'),
  namedParameters: method('namedParameters', () => [{ recurse: true }], 'namedParameters'),
  loadStateDict: {
    call: (...given) => (linear().loadStateDict as (...args: never[]) => unknown).call(linear(), ...given),
    args: () => [linear().stateDict(), { strict: true }],
    says: ['loadStateDict', 'Linear.loadStateDict'],
  },
});
