/** @otimes/nn: modules, losses and initialisers. */

export { type ActivationName, GELU, ReLU, Sigmoid, Tanh } from './activation.ts';
export { type AttentionOptions, MultiHeadAttention } from './attention.ts';
export type { Placement } from './check.ts';
export { Conv1d, type Conv1dOptions } from './convolution/conv1d.ts';
export { Conv2d, type Conv2dOptions } from './convolution/conv2d.ts';
export { Conv3d, type Conv3dOptions } from './convolution/conv3d.ts';
export {
  ConvTranspose1d,
  type ConvTranspose1dOptions,
  ConvTranspose2d,
  type ConvTranspose2dOptions,
} from './convolution/transposed.ts';
export { Dropout } from './dropout.ts';
export { Embedding } from './embedding.ts';
export * as functional from './functional.ts';
export * as init from './init.ts';
export { isLayer, type Layers } from './kind.ts';
export { Linear } from './linear.ts';
export { bceWithLogits, crossEntropy, mseLoss, type Reduction } from './loss.ts';
export * as metrics from './metrics/index.ts';
export { MLP, type MlpOptions, mlp } from './models/mlp.ts';
export { MobileNetV1, type MobileNetV1Options, mobileNetV1 } from './models/mobilenet.ts';
export { BasicBlock, Bottleneck, ResNet, type ResNetOptions, resnet18, resnet50 } from './models/resnet.ts';
export { VisionTransformer, type VitOptions, vit, vitS16 } from './models/vit.ts';
export { type AnyModule, type BeforeHook, type ForwardHook, Module } from './module.ts';
export { BatchNorm1d, BatchNorm2d, BatchNorm3d, type BatchNormOptions } from './normalization/batch.ts';
export { InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, type InstanceNormOptions } from './normalization/instance.ts';
export { GroupNorm, LayerNorm } from './normalization/layer.ts';
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
export { fromPyTorch } from './pytorch.ts';
export { Flatten, Sequential } from './sequential.ts';
export { summary } from './summary.ts';
export { TransformerBlock, type TransformerBlockOptions } from './transformer.ts';
