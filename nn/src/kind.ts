/** Which layer of the library a module is, asked without the layer's class: so a bundle has the layers of its model alone. */

import { checkArgument, type Kind } from '@otimes/core/extend';
import type * as nn from './index.ts';
import type { AnyModule } from './module.ts';

type ClassOf<Layer> = { readonly builtIn: string; readonly prototype: Layer };

/** The layers by the names of their classes. */
export type Layers = {
  readonly [Name in keyof typeof nn as (typeof nn)[Name] extends ClassOf<AnyModule>
    ? Name
    : never]: (typeof nn)[Name] extends ClassOf<infer Layer> ? Layer : never;
};

const LAYERS: Record<keyof Layers, 1> = {
  AdaptiveAvgPool1d: 1,
  AdaptiveAvgPool2d: 1,
  AdaptiveMaxPool1d: 1,
  AdaptiveMaxPool2d: 1,
  AlphaDropout: 1,
  AvgPool1d: 1,
  AvgPool2d: 1,
  AvgPool3d: 1,
  BasicBlock: 1,
  BatchNorm1d: 1,
  BatchNorm2d: 1,
  BatchNorm3d: 1,
  Bilinear: 1,
  Bottleneck: 1,
  CELU: 1,
  CifarResNet: 1,
  CircularPad1d: 1,
  CircularPad2d: 1,
  ConstantPad1d: 1,
  ConstantPad2d: 1,
  Conv1d: 1,
  Conv2d: 1,
  Conv3d: 1,
  ConvTranspose1d: 1,
  ConvTranspose2d: 1,
  CosineSimilarity: 1,
  Dropout: 1,
  Dropout1d: 1,
  Dropout2d: 1,
  Dropout3d: 1,
  ELU: 1,
  Embedding: 1,
  EmbeddingBag: 1,
  Flatten: 1,
  Fold: 1,
  GELU: 1,
  GLU: 1,
  GRU: 1,
  GRUCell: 1,
  GPT: 1,
  GPTBlock: 1,
  GlobalAvgPool2d: 1,
  GroupNorm: 1,
  Hardsigmoid: 1,
  Hardswish: 1,
  Hardtanh: 1,
  Identity: 1,
  InstanceNorm1d: 1,
  InstanceNorm2d: 1,
  InstanceNorm3d: 1,
  LSTM: 1,
  LSTMCell: 1,
  LSTMLanguageModel: 1,
  LayerNorm: 1,
  LeakyReLU: 1,
  Linear: 1,
  LogSigmoid: 1,
  LogSoftmax: 1,
  MLP: 1,
  MaxPool1d: 1,
  MaxPool2d: 1,
  MaxPool3d: 1,
  Mish: 1,
  ModuleDict: 1,
  ModuleList: 1,
  MobileNetV1: 1,
  MultiHeadAttention: 1,
  PReLU: 1,
  PairwiseDistance: 1,
  PixelShuffle: 1,
  PixelUnshuffle: 1,
  RMSNorm: 1,
  RNN: 1,
  RNNCell: 1,
  ReLU6: 1,
  ReLU: 1,
  ReflectionPad1d: 1,
  ReflectionPad2d: 1,
  ReplicationPad1d: 1,
  ReplicationPad2d: 1,
  ResNet: 1,
  SELU: 1,
  PositionalEncoding: 1,
  Sequential: 1,
  SiLU: 1,
  Sigmoid: 1,
  Softmax: 1,
  Softplus: 1,
  Softsign: 1,
  Tanh: 1,
  Transformer: 1,
  TransformerBlock: 1,
  Unflatten: 1,
  Unfold: 1,
  Upsample: 1,
  TransformerDecoder: 1,
  TransformerDecoderLayer: 1,
  TransformerEncoder: 1,
  TransformerEncoderLayer: 1,
  VisionTransformer: 1,
  ZeroPad1d: 1,
  ZeroPad2d: 1,
};

const aLayer: Kind = {
  expected: "the name of a layer's class, such as 'Linear'",
  is: v => typeof v === 'string' && Object.hasOwn(LAYERS, v),
  hint(v) {
    const near = Object.keys(LAYERS).find(name => name.toLowerCase() === String(v).toLowerCase());
    return near === undefined ? '' : `did you mean '${near}'?`;
  },
  error: RangeError,
};
const aModule: Kind = { expected: 'a module', is: v => typeof v === 'object' && v !== null };

/**
 * Whether a value is that layer of the library, or of a class that extends it: `isLayer(module, 'Conv2d')` is what
 * `module instanceof Conv2d` is, and imports no `Conv2d`. It also knows layers of another copy of this package.
 *
 * @throws RangeError for a name that is none of `Layers`, TypeError for a module that is no object
 */
export function isLayer<Name extends keyof Layers>(module: AnyModule, name: Name): module is Layers[Name] {
  checkArgument('isLayer', 'the module', module, aModule);
  checkArgument('isLayer', 'the name', name, aLayer);
  let made: unknown = module.constructor;
  for (; typeof made === 'function'; made = Object.getPrototypeOf(made))
    if ('builtIn' in made && made.builtIn === name) return true;
  return false;
}
