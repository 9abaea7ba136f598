/** @otimes/nn: modules, losses and initialisers. */

export { type ActivationName, GELU, ReLU, Sigmoid, Tanh } from './activations/basic.ts';
export {
  CELU,
  ELU,
  GLU,
  Hardsigmoid,
  Hardswish,
  Hardtanh,
  LeakyReLU,
  LogSigmoid,
  LogSoftmax,
  Mish,
  PReLU,
  ReLU6,
  SELU,
  SiLU,
  Softmax,
  Softplus,
  Softsign,
} from './activations/more.ts';
export {
  type AttentionInputs,
  type AttentionOptions,
  MultiHeadAttention,
  type NeedWeights,
} from './attention/attention.ts';
export { KVCache } from './attention/cache.ts';
export type { AttendOptions } from './attention/masks.ts';
export { PositionalEncoding } from './attention/positions.ts';
export type { RotaryOptions } from './attention/rotary.ts';
export { Transformer, type TransformerCall, type TransformerOptions } from './attention/transformer.ts';
export { TransformerBlock, type TransformerBlockOptions } from './attention/transformer-block.ts';
export { type DecoderCall, TransformerDecoder, TransformerDecoderLayer } from './attention/transformer-decoder.ts';
export {
  type EncoderCall,
  type EncoderLayerCall,
  TransformerEncoder,
  TransformerEncoderLayer,
  type TransformerLayerOptions,
} from './attention/transformer-encoder.ts';
export { Bilinear } from './bilinear.ts';
export { AlphaDropout, Dropout1d, Dropout2d, Dropout3d } from './channel-dropout.ts';
export type { Placement } from './check.ts';
export { ModuleDict, ModuleList } from './containers/lists.ts';
export { Flatten, Sequential } from './containers/sequential.ts';
export { Identity, Unflatten } from './containers/shapes.ts';
export { Conv1d, type Conv1dOptions } from './convolution/conv1d.ts';
export { Conv2d, type Conv2dOptions } from './convolution/conv2d.ts';
export { Conv3d, type Conv3dOptions } from './convolution/conv3d.ts';
export {
  ConvTranspose1d,
  type ConvTranspose1dOptions,
  ConvTranspose2d,
  type ConvTranspose2dOptions,
} from './convolution/transposed.ts';
export { CosineSimilarity, PairwiseDistance } from './distances.ts';
export { Dropout } from './dropout.ts';
export { EmbeddingBag } from './embedding/bag.ts';
export { Embedding, type EmbeddingOptions } from './embedding/embedding.ts';
export * as functional from './functional.ts';
export * as init from './init.ts';
export type { Init, Initial } from './initial.ts';
export { isLayer, type Layers } from './kind.ts';
export { Linear } from './linear.ts';
export { bceLoss, bceWithLogits } from './losses/binary.ts';
export { type ClassLossOptions, crossEntropy, nllLoss } from './losses/cross-entropy.ts';
export { ctcLoss } from './losses/ctc.ts';
export { gaussianNllLoss, klDivLoss, poissonNllLoss } from './losses/likelihood.ts';
export { hingeEmbeddingLoss, hingeLoss, marginRankingLoss, multiMarginLoss } from './losses/margin.ts';
export { cosineEmbeddingLoss, tripletMarginLoss } from './losses/metric.ts';
export type { Reduction } from './losses/reduction.ts';
export { huberLoss, l1Loss, mseLoss, smoothL1Loss } from './losses/regression.ts';
export * as metrics from './metrics/index.ts';
export { CifarResNet, type CifarResNetOptions, cifarResNet, fromCifarResNet } from './models/cifar-resnet.ts';
export { type GenerateOptions, GPT, GPTBlock, type GptOptions, gpt } from './models/gpt.ts';
export { fromGpt2 } from './models/gpt-state.ts';
export { LSTMLanguageModel, type LSTMLanguageModelOptions, lstmLanguageModel } from './models/lstm-language-model.ts';
export { MLP, type MlpOptions, mlp } from './models/mlp.ts';
export { MobileNetV1, type MobileNetV1Options, mobileNetV1 } from './models/mobilenet.ts';
export { type ResizePositionsOptions, resizePositions } from './models/positions.ts';
export { ResNet, type ResNetOptions, resnet18, resnet34, resnet50 } from './models/resnet.ts';
export { BasicBlock, type BasicBlockOptions, Bottleneck, type ResidualOptions } from './models/resnet-blocks.ts';
export { VisionTransformer, type VitOptions, vit, vitS16 } from './models/vit.ts';
export { fromTimm, toTimm } from './models/vit-state.ts';
export { type AnyModule, type BeforeHook, type ForwardHook, Module } from './module.ts';
export { BatchNorm1d, BatchNorm2d, BatchNorm3d, type BatchNormOptions } from './normalization/batch.ts';
export { InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, type InstanceNormOptions } from './normalization/instance.ts';
export { GroupNorm, LayerNorm } from './normalization/layer.ts';
export { RMSNorm } from './normalization/rms-norm.ts';
export {
  CircularPad1d,
  CircularPad2d,
  ConstantPad1d,
  ConstantPad2d,
  type Padding1d,
  type Padding2d,
  ReflectionPad1d,
  ReflectionPad2d,
  ReplicationPad1d,
  ReplicationPad2d,
  ZeroPad1d,
  ZeroPad2d,
} from './padding/pad.ts';
export {
  Fold,
  type PatchOptions,
  PixelShuffle,
  PixelUnshuffle,
  Unfold,
  Upsample,
  type UpsampleOptions,
} from './padding/shuffle.ts';
export { Buffer, Parameter } from './parameter.ts';
export { AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool1d, AdaptiveMaxPool2d } from './pooling/adaptive.ts';
export { AvgPool1d, AvgPool2d, AvgPool3d, GlobalAvgPool2d, MaxPool1d, MaxPool2d, MaxPool3d } from './pooling/pool.ts';
export { fromPyTorch, toPyTorch } from './pytorch.ts';
export { GRUCell, LSTMCell, type RecurrentCellOptions, RNNCell } from './recurrent/cells.ts';
export { GRU, LSTM, type LSTMState, type RecurrentLayerOptions, RNN } from './recurrent/layers.ts';
export type { Products, ProductsHook } from './recurrent/products.ts';
export { summary } from './summary.ts';
