/** @otimes/core: tensors over strided storage and define-by-run automatic differentiation. */

// biome-ignore-all assist/source/organizeImports: a bundle begins with the packed kernels; in the middle they cost 2 kB when it is gzipped
export { createWasmBackend, WasmBackend } from './backends/wasm/index.ts';

export { type GradOptions, grad } from './autograd.ts';
export { AwaitedBackend } from './backends/awaited.ts';
export type {
  AdamOptions,
  Backend,
  BinaryKernel,
  ConvGeometry,
  DeviceKernels,
  MomentOptions,
  Operand,
  ReduceKernel,
  SgdOptions,
  UnaryGradKernel,
  UnaryKernel,
} from './backends/backend.ts';
export type { ConvKernels } from './backends/composed/conv.ts';
export type { NormKernels } from './backends/composed/norm.ts';
export type { PoolKernels } from './backends/composed/pool.ts';
export { ComposedBackend } from './backends/composed.ts';
export { ReferenceBackend } from './backends/reference/index.ts';
export { getBackend, registerBackend } from './backends/registry.ts';
export { type BlasInfo, type BlasOptions, releaseBlas, useBlas } from './blas.ts';
export { arange, eye, full, ones, type TensorData, type TensorOptions, tensor, zeros } from './create.ts';
export {
  type CheckpointPart,
  type CheckpointParts,
  type CheckpointValue,
  type CheckpointValues,
  packCheckpoint,
  type Stateful,
  unpackCheckpoint,
} from './checkpoint.ts';
export type { Region } from './device.ts';
export { type DType, promote, type TypedArray } from './dtype.ts';
export {
  DTypeError,
  describe,
  FormatError,
  GraphError,
  OutOfMemoryError,
  ReleasedError,
  ShapeError,
} from './errors.ts';
export { isRecording, type Node, noGrad } from './graph.ts';
export { Tensor } from './methods.ts';
export { type ComputeSpec, defineCustomOp as defineOp, notDifferentiable, type Op, type ViewSpec } from './op.ts';
export { attention } from './ops/attention.ts';
export { type ConvOptions, conv2d, fold, patchGram, unfold } from './ops/conv.ts';
export type { TensorLike } from './ops/convert.ts';
export { einsum } from './ops/einsum.ts';
export { where } from './ops/elementwise.ts';
export { adamMoments, adamStep, sgdStep } from './ops/inplace.ts';
export { gram, linear } from './ops/linear.ts';
export { labelCrossEntropy, squaredError } from './ops/loss.ts';
export { batchNorm, batchNormEval, groupNorm, layerNorm } from './ops/norm.ts';
export { avgPool2d, globalAvgPool2d, maxPool2d, type PoolOptions } from './ops/pool.ts';
export type { Axes, ReduceOptions } from './ops/reduce.ts';
export { checkIndex, oneHot } from './ops/select.ts';
export { concat, type Range, stack } from './ops/slice.ts';
export { backwardPass } from './pass.ts';
export { defaultGenerator, Generator, manualSeed, type RandomOptions, rand, randint, randn } from './random.ts';
export { loadSafetensors, readStateDict, type StateDict, safetensorsMetadata, saveSafetensors } from './safetensors.ts';
export { owningIntermediates, scope } from './scope.ts';
export { type Shape, sameShape } from './shape.ts';
export { type Storage, unscoped } from './storage.ts';
export { nextTask } from './task.ts';
export type { GradHook, Handle, Nested } from './tensor.ts';
export { type Convolution, getConvolution, setConvolution } from './convolution.ts';
export { getThreads, setThreads, withSecondThread } from './threads.ts';
export { type Pair, pairOf, type Window, type WindowOptions } from './window.ts';
