/** One list of all modules and losses of @otimes/nn, and how to make and call each of them on a device. */

import { arange, type Generator, randint, randn, type Shape, type Tensor } from '@otimes/core';
import * as nn from '@otimes/nn';
import {
  type AnyModule,
  AvgPool2d,
  BasicBlock,
  BatchNorm2d,
  Bottleneck,
  CifarResNet,
  Conv2d,
  Dropout,
  Embedding,
  Flatten,
  GELU,
  GlobalAvgPool2d,
  GPT,
  GPTBlock,
  GRU,
  GRUCell,
  GroupNorm,
  LayerNorm,
  Linear,
  LSTM,
  LSTMCell,
  lstmLanguageModel,
  MaxPool2d,
  MultiHeadAttention,
  mlp,
  PositionalEncoding,
  ReLU,
  ResNet,
  RNN,
  RNNCell,
  Sequential,
  Sigmoid,
  Tanh,
  Transformer,
  TransformerBlock,
  TransformerDecoder,
  TransformerDecoderLayer,
  TransformerEncoder,
  TransformerEncoderLayer,
  VisionTransformer,
} from '@otimes/nn';
import { convModuleCases } from './modulesConv.ts';

/** Where and how tensors are made. */
export type At = { device: string; dtype: 'float32' | 'float64'; rng: Generator };

export type ModuleCase = { make: (at: At) => AnyModule; inputs: (at: At) => Tensor[] };

const some = (...shape: number[]) => {
  return (at: At) => [randn(shape, at)];
};
const integers = (count: number, shape: Shape, { device, rng }: At) => randint(0, count, shape, { device, rng });
const withMask = (at: At) => {
  const position = arange(0, 3, 1, { device: at.device });
  return [randn([2, 3, 4], at), position.unsqueeze(1).ge(position)];
};
/** Of a decoder: the target and what it attends to, the batch second. */
const across = (at: At) => [randn([3, 2, 4], at), randn([5, 2, 4], at)];
const small = { dimFeedforward: 6, dropout: 0.1 };
const language = { vocabSize: 5, blockSize: 4, nLayer: 1, nHead: 2, nEmbd: 4 };
const images = some(2, 2, 6, 6);
const options = { imageSize: 4, patch: 2, dim: 4, depth: 1, heads: 2, classes: 3, channels: 1 };

/** By the name of the class; a second use of one has its options behind the name. */
export const moduleCases: Record<string, ModuleCase> = {
  ReLU: { make: () => new ReLU(), inputs: some(3, 4) },
  GELU: { make: () => new GELU(), inputs: some(3, 4) },
  'GELU tanh': { make: () => new GELU({ approximate: 'tanh' }), inputs: some(3, 4) },
  Tanh: { make: () => new Tanh(), inputs: some(3, 4) },
  Sigmoid: { make: () => new Sigmoid(), inputs: some(3, 4) },
  Dropout: { make: at => new Dropout(0.5, at), inputs: some(3, 4) },
  Flatten: { make: () => new Flatten(), inputs: images },
  Linear: { make: at => new Linear(4, 3, at), inputs: some(2, 5, 4) },
  'Linear without a bias': { make: at => new Linear(4, 3, { ...at, bias: false }), inputs: some(5, 4) },
  Embedding: { make: at => new Embedding(5, 3, at), inputs: at => [integers(5, [2, 4], at)] },
  Conv2d: { make: at => new Conv2d(2, 4, 3, { ...at, stride: 2, padding: 1, groups: 2 }), inputs: images },
  MaxPool2d: { make: () => new MaxPool2d(3, { stride: 2, padding: 1 }), inputs: images },
  AvgPool2d: { make: () => new AvgPool2d(2), inputs: images },
  GlobalAvgPool2d: { make: () => new GlobalAvgPool2d(), inputs: images },
  LayerNorm: { make: at => new LayerNorm(4, at), inputs: some(3, 4) },
  GroupNorm: { make: at => new GroupNorm(2, 4, at), inputs: some(3, 4, 2) },
  BatchNorm2d: { make: at => new BatchNorm2d(2, at), inputs: images },
  MultiHeadAttention: { make: at => new MultiHeadAttention(4, 2, { ...at, dropout: 0.1 }), inputs: withMask },
  RNN: { make: at => new RNN(4, 3, { ...at, nonlinearity: 'relu' }), inputs: some(2, 3, 4) },
  LSTM: { make: at => new LSTM(4, 3, { ...at, numLayers: 2, dropout: 0.1 }), inputs: some(2, 3, 4) },
  'LSTM with lengths': {
    make: at => new LSTM(4, 3, { ...at, bidirectional: true, batchFirst: true }),
    inputs: at => [randn([2, 3, 4], at), [randn([2, 2, 3], at), randn([2, 2, 3], at)] as never, [3, 1] as never],
  },
  GRU: { make: at => new GRU(4, 3, at), inputs: some(2, 3, 4) },
  RNNCell: { make: at => new RNNCell(4, 3, at), inputs: some(2, 4) },
  LSTMCell: { make: at => new LSTMCell(4, 3, at), inputs: some(2, 4) },
  GRUCell: { make: at => new GRUCell(4, 3, at), inputs: some(2, 4) },
  LSTMLanguageModel: {
    make: at => lstmLanguageModel({ ...at, vocabulary: 5, dim: 3, hidden: 3, layers: 1, dropout: 0.1 }),
    inputs: at => [integers(5, [2, 3], at)],
  },
  'MultiHeadAttention across': {
    make: at => new MultiHeadAttention(4, 2, { ...at, kdim: 3, vdim: 5, rotary: true }),
    inputs: at => [randn([2, 3, 4], at), randn([2, 5, 3], at), randn([2, 5, 5], at)],
  },
  PositionalEncoding: { make: at => new PositionalEncoding(4, at), inputs: some(3, 2, 4) },
  TransformerEncoderLayer: {
    make: at => new TransformerEncoderLayer(4, 2, { ...small, ...at }),
    inputs: some(3, 2, 4),
  },
  'TransformerEncoderLayer, norm first': {
    make: at =>
      new TransformerEncoderLayer(4, 2, { ...small, ...at, normFirst: true, batchFirst: true, activation: 'gelu' }),
    inputs: some(2, 3, 4),
  },
  TransformerDecoderLayer: { make: at => new TransformerDecoderLayer(4, 2, { ...small, ...at }), inputs: across },
  TransformerEncoder: {
    make: at => new TransformerEncoder(() => new TransformerEncoderLayer(4, 2, { ...small, ...at }), 2),
    inputs: some(3, 2, 4),
  },
  TransformerDecoder: {
    make: at =>
      new TransformerDecoder(() => new TransformerDecoderLayer(4, 2, { ...small, ...at }), 1, new LayerNorm(4, at)),
    inputs: across,
  },
  Transformer: {
    make: at => new Transformer({ dModel: 4, nhead: 2, numEncoderLayers: 1, numDecoderLayers: 1, ...small, ...at }),
    inputs: at => across(at).reverse(),
  },
  TransformerBlock: { make: at => new TransformerBlock(4, 2, { ...at, dropout: 0.1 }), inputs: withMask },
  'TransformerBlock after the sum': {
    make: at => new TransformerBlock(4, 2, { ...at, preNorm: false, activation: 'relu' }),
    inputs: some(2, 3, 4),
  },
  Sequential: {
    make: at => new Sequential(new Linear(4, 4, at), new Tanh(), new Linear(4, 2, at)),
    inputs: some(3, 4),
  },
  MLP: { make: at => mlp([8, 5, 3], { ...at, dropout: 0.2 }), inputs: some(3, 2, 4) },
  BasicBlock: { make: at => new BasicBlock(2, 4, 2, at), inputs: images },
  Bottleneck: { make: at => new Bottleneck(2, 1, 2, at), inputs: images },
  ResNet: {
    make: at => new ResNet(BasicBlock, [1, 1, 1, 1], { ...at, classes: 3, stem: 'cifar', channels: 1, width: 2 }),
    inputs: some(2, 1, 8, 8),
  },
  'ResNet for large images': {
    make: at => new ResNet(Bottleneck, [1, 1, 1, 1], { ...at, classes: 3, stem: 'imagenet', channels: 1, width: 2 }),
    inputs: some(2, 1, 33, 33),
  },
  CifarResNet: {
    make: at => new CifarResNet({ ...at, depth: 8, classes: 3, channels: 1, width: 2 }),
    inputs: some(2, 1, 8, 8),
  },
  GPT: {
    make: at => new GPT({ ...language, ...at, dropout: 0.1 }),
    inputs: at => [integers(5, [2, 3], at)],
  },
  'GPT, its head not tied': {
    make: at => new GPT({ ...language, ...at, tieWeights: false, bias: false }),
    inputs: at => [integers(5, [2, 3], at)],
  },
  GPTBlock: { make: at => new GPTBlock({ ...language, ...at, gelu: 'tanh' }), inputs: some(2, 3, 4) },
  VisionTransformer: {
    make: at => new VisionTransformer({ ...options, ...at, dropout: 0.1 }),
    inputs: some(2, 1, 4, 4),
  },
  'VisionTransformer that takes the mean': {
    make: at => new VisionTransformer({ ...options, ...at, pool: 'mean' }),
    inputs: some(2, 1, 4, 4),
  },
  ...convModuleCases,
};

/** Activations of one tensor and no more, by the names of their classes. */
const activations = {
  CELU: nn.CELU,
  ELU: nn.ELU,
  GLU: nn.GLU,
  Hardsigmoid: nn.Hardsigmoid,
  Hardswish: nn.Hardswish,
  Hardtanh: nn.Hardtanh,
  Identity: nn.Identity,
  LeakyReLU: nn.LeakyReLU,
  LogSigmoid: nn.LogSigmoid,
  LogSoftmax: nn.LogSoftmax,
  Mish: nn.Mish,
  ReLU6: nn.ReLU6,
  SELU: nn.SELU,
  SiLU: nn.SiLU,
  Softmax: nn.Softmax,
  Softplus: nn.Softplus,
  Softsign: nn.Softsign,
};

/** A list and a dictionary, which have no forward pass, in a module that calls what they hold. */
class Held extends nn.Module {
  readonly list: nn.ModuleList<Linear>;
  readonly dict: nn.ModuleDict<Linear>;

  constructor(at: At) {
    super();
    this.list = new nn.ModuleList([new Linear(4, 4, at)]);
    this.dict = new nn.ModuleDict({ out: new Linear(4, 2, at) });
  }

  override forward(x: Tensor): Tensor {
    return this.dict.get('out')!.call(this.list.at(0)!.call(x));
  }
}

const two = (at: At) => [randn([3, 4], at), randn([3, 4], at)];

Object.assign(moduleCases, {
  ...Object.fromEntries(
    Object.entries(activations).map(([name, Layer]) => [name, { make: () => new Layer(), inputs: some(3, 4) }]),
  ),
  PReLU: { make: at => new nn.PReLU(4, { dtype: at.dtype, device: at.device }), inputs: some(3, 4) },
  AlphaDropout: { make: at => new nn.AlphaDropout(0.5, at), inputs: some(3, 4) },
  Dropout1d: { make: at => new nn.Dropout1d(0.5, at), inputs: some(3, 4, 2) },
  Dropout2d: { make: at => new nn.Dropout2d(0.5, at), inputs: images },
  Dropout3d: { make: at => new nn.Dropout3d(0.5, at), inputs: some(3, 4, 1, 2, 2) },
  Unflatten: { make: () => new nn.Unflatten(1, [2, 2]), inputs: some(3, 4) },
  'ModuleList and ModuleDict': { make: at => new Held(at), inputs: some(3, 4) },
  'ModuleDict and ModuleList': { make: at => new Held(at), inputs: some(3, 4) },
  Bilinear: { make: at => new nn.Bilinear(4, 4, 3, at), inputs: two },
  CosineSimilarity: { make: () => new nn.CosineSimilarity(), inputs: two },
  PairwiseDistance: { make: () => new nn.PairwiseDistance({ p: 3 }), inputs: two },
  RMSNorm: { make: at => new nn.RMSNorm(4, at), inputs: some(3, 4) },
  'Embedding with padding': {
    make: at => new Embedding(5, 3, { ...at, paddingIdx: 1 }),
    inputs: at => [integers(5, [2, 4], at)],
  },
  EmbeddingBag: { make: at => new nn.EmbeddingBag(5, 3, at), inputs: at => [integers(5, [2, 4], at)] },
  'EmbeddingBag max with padding': {
    make: at => new nn.EmbeddingBag(5, 3, { ...at, mode: 'max', paddingIdx: 0 }),
    inputs: at => [integers(5, [2, 4], at)],
  },
} satisfies Record<string, ModuleCase>);

/** What the list leaves out: the class that all modules extend. */
export const notInTheList: readonly string[] = ['Module'];
