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
export { type AttentionOptions, MultiHeadAttention } from './attention.ts';
export { Bilinear } from './bilinear.ts';
export { AlphaDropout, Dropout1d, Dropout2d, Dropout3d } from './channel-dropout.ts';
export type { Placement } from './check.ts';
export { ModuleDict, ModuleList } from './containers/lists.ts';
export { Flatten, Sequential } from './containers/sequential.ts';
export { Identity, Unflatten } from './containers/shapes.ts';
export { Conv2d, type Conv2dOptions } from './conv.ts';
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
export { MLP, type MlpOptions, mlp } from './models/mlp.ts';
export { BasicBlock, Bottleneck, ResNet, type ResNetOptions, resnet18, resnet50 } from './models/resnet.ts';
export { VisionTransformer, type VitOptions, vit, vitS16 } from './models/vit.ts';
export { type AnyModule, type BeforeHook, type ForwardHook, Module } from './module.ts';
export { BatchNorm2d, GroupNorm, LayerNorm } from './norm.ts';
export { RMSNorm } from './normalization/rms-norm.ts';
export { Buffer, Parameter } from './parameter.ts';
export { AvgPool2d, GlobalAvgPool2d, MaxPool2d } from './pool.ts';
export { fromPyTorch } from './pytorch.ts';
export { summary } from './summary.ts';
export { TransformerBlock, type TransformerBlockOptions } from './transformer.ts';
