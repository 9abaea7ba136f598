/** @otimes/nn: modules, losses and initialisers. */

export { GELU, ReLU, Sigmoid, Tanh } from './activation.ts';
export { Dropout } from './dropout.ts';
export { Embedding } from './embedding.ts';
export * as functional from './functional.ts';
export * as init from './init.ts';
export { Linear } from './linear.ts';
export { bceWithLogits, crossEntropy, mseLoss, type Reduction } from './loss.ts';
export { MLP, type MlpOptions, mlp } from './models/mlp.ts';
export { type AnyModule, type ForwardHook, Module } from './module.ts';
export { LayerNorm } from './norm.ts';
export { Buffer, Parameter } from './parameter.ts';
export { Flatten, Sequential } from './sequential.ts';
