/** @otimes/nn: modules, losses and initialisers. */

export { type ActivationName, GELU, ReLU, Sigmoid, Tanh } from './activation.ts';
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
export { type GenerateOptions, GPT, GPTBlock, type GptOptions, gpt } from './models/gpt.ts';
export { fromGpt2 } from './models/gpt-state.ts';
export { MLP, type MlpOptions, mlp } from './models/mlp.ts';
export { BasicBlock, Bottleneck, ResNet, type ResNetOptions, resnet18, resnet50 } from './models/resnet.ts';
export { VisionTransformer, type VitOptions, vit, vitS16 } from './models/vit.ts';
export { type AnyModule, type BeforeHook, type ForwardHook, Module } from './module.ts';
export { BatchNorm2d, GroupNorm, LayerNorm } from './norm.ts';
export { Buffer, Parameter } from './parameter.ts';
export { AvgPool2d, GlobalAvgPool2d, MaxPool2d } from './pool.ts';
export { fromPyTorch, toPyTorch } from './pytorch.ts';
export { Flatten, Sequential } from './sequential.ts';
export { summary } from './summary.ts';
