/** @otimes/nn: modules, losses and initialisers. */

export { type ActivationName, GELU, ReLU, Sigmoid, Tanh } from './activation.ts';
export { type AttentionOptions, MultiHeadAttention } from './attention.ts';
export type { Placement } from './check.ts';
export { Conv2d, type Conv2dOptions } from './conv.ts';
export { Dropout } from './dropout.ts';
export { Embedding } from './embedding.ts';
export * as functional from './functional.ts';
export * as init from './init.ts';
export { isLayer, type Layers } from './kind.ts';
export { Linear } from './linear.ts';
export { bceWithLogits, crossEntropy, mseLoss, type Reduction } from './loss.ts';
export * as metrics from './metrics/index.ts';
export { MLP, type MlpOptions, mlp } from './models/mlp.ts';
export { BasicBlock, Bottleneck, ResNet, type ResNetOptions, resnet18, resnet50 } from './models/resnet.ts';
export { VisionTransformer, type VitOptions, vit, vitS16 } from './models/vit.ts';
export { type AnyModule, type BeforeHook, type ForwardHook, Module } from './module.ts';
export { BatchNorm2d, GroupNorm, LayerNorm } from './norm.ts';
export { Buffer, Parameter } from './parameter.ts';
export { AvgPool2d, GlobalAvgPool2d, MaxPool2d } from './pool.ts';
export { fromPyTorch } from './pytorch.ts';
export { Flatten, Sequential } from './sequential.ts';
export { summary } from './summary.ts';
export { TransformerBlock, type TransformerBlockOptions } from './transformer.ts';
