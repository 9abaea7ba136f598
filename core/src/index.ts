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
  RecurrentCell,
  RecurrentPass,
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
export {
  fullLike,
  linspace,
  logspace,
  meshgrid,
  onesLike,
  randLike,
  randnLike,
  zerosLike,
} from './like.ts';
export { Tensor } from './methods.ts';
export { type ComputeSpec, defineCustomOp as defineOp, notDifferentiable, type Op, type ViewSpec } from './op.ts';
export { elu, leakyRelu, logSigmoid, mish, selu, silu, softplus } from './ops/activations.ts';
export { atan2, remainder } from './ops/angles.ts';
export { attention } from './ops/attention.ts';
export {
  allClose,
  allCloseAsync,
  type Closeness,
  equal,
  equalAsync,
  isClose,
  isInf,
  maskedFill,
} from './ops/compare.ts';
export { type ConvOptions, conv2d, fold, patchGram, unfold } from './ops/conv.ts';
export { type Conv1dOptions, type ConvTranspose1dOptions, conv1d, convTranspose1d } from './ops/conv1d.ts';
export { type Conv3dOptions, conv3d } from './ops/conv3d.ts';
export type { Padding } from './ops/conv-check.ts';
export { type ConvTransposeOptions, convTranspose2d } from './ops/conv-transpose.ts';
export type { TensorLike } from './ops/convert.ts';
export { cdist, cosineSimilarity, cross, dot, normalize, outer, pairwiseDistance } from './ops/distance.ts';
export { einsum } from './ops/einsum.ts';
export { where } from './ops/elementwise.ts';
export {
  booleanMask,
  booleanMaskAsync,
  maskedSelect,
  maskedSelectAsync,
  nonzero,
  nonzeroAsync,
  type Unique,
  type UniqueOptions,
  unique,
  uniqueAsync,
} from './ops/found.ts';
export { cosh, log2, log10, sinh, tan } from './ops/functions.ts';
export { adamMoments, adamStep, sgdStep } from './ops/inplace.ts';
export { type InterpolateMode, type InterpolateOptions, interpolate } from './ops/interpolate.ts';
export * as linalg from './ops/linalg/index.ts';
export { gram, linear } from './ops/linear.ts';
export { labelCrossEntropy, squaredError } from './ops/loss.ts';
export { batchNorm, batchNormEval, groupNorm, layerNorm } from './ops/norm.ts';
export { type PadMode, type PadOptions, pad } from './ops/padding.ts';
export {
  broadcastTo,
  chunk,
  flip,
  movedim,
  repeatInterleave,
  roll,
  split,
  swapaxes,
  tile,
  unbind,
} from './ops/parts.ts';
export { avgPool2d, globalAvgPool2d, maxPool2d, type PoolOptions } from './ops/pool.ts';
export { argsort, type Sorted, type SortOptions, sort, type TopkOptions, topk } from './ops/order.ts';
export { cumprod, logsumexp, prod, std } from './ops/products.ts';
export {
  gru,
  type Lengths,
  lstm,
  type Recurrence,
  type RecurrentOptions,
  rnn,
} from './ops/recurrent.ts';
export {
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveMaxPool1d,
  adaptiveMaxPool2d,
  avgPool1d,
  avgPool3d,
  maxPool1d,
  maxPool3d,
  type Pool1dOptions,
  type Pool3dOptions,
} from './ops/pools.ts';
export type { Axes, ReduceOptions } from './ops/reduce.ts';
export { indexAdd, indexCopy, indexFill, scatter, scatterAdd, scatterMax } from './ops/scatter.ts';
export { checkIndex, oneHot } from './ops/select.ts';
export { concat, type Range, stack } from './ops/slice.ts';
export { diag, diagEmbed, diagonal, trace, tril, triu } from './ops/triangles.ts';
export { backwardPass } from './pass.ts';
export { defaultGenerator, Generator, manualSeed, type RandomOptions, rand, randint, randn } from './random.ts';
export { loadSafetensors, readStateDict, type StateDict, safetensorsMetadata, saveSafetensors } from './safetensors.ts';
export { bernoulli, type MultinomialOptions, multinomial, multinomialAsync, randperm } from './sampling.ts';
export { owningIntermediates, scope } from './scope.ts';
export { type Shape, sameShape } from './shape.ts';
export { type Storage, unscoped } from './storage.ts';
export { nextTask } from './task.ts';
export type { GradHook, Handle, Nested } from './tensor.ts';
export { type Convolution, getConvolution, setConvolution } from './convolution.ts';
export { getThreads, setThreads, withSecondThread } from './threads.ts';
export { checkpoint } from './transforms/checkpoint.ts';
export {
  hessian,
  hessianVectorProduct,
  type Jacobian,
  jacobian,
  jvp,
  type Like,
  type OneOrMore,
  type TransformOptions,
  vjp,
} from './transforms/derivatives.ts';
export { type Pair, pairOf, tupleOf, type Window, type WindowOptions } from './window.ts';
