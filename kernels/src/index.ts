/** @otimes/kernels: WebAssembly SIMD kernels, the memory they work in and how long it lives. */

// biome-ignore-all assist/source/organizeImports: a bundle begins with the packed modules, see core/src/index.ts
export {
  attention,
  images,
  math,
  normalize,
  order,
  type Part,
  type PartExports,
  recurrent,
  resample,
} from './parts.ts';
export { instantiateEigen, instantiateFactorise } from './linalg.ts';

export {
  Background,
  type BackgroundOptions,
  EighJob,
  type EighWorker,
  type JobStatus,
} from './background/background.ts';
export { automaticThreads } from '#automatic';
export { type BlasInfo, type BlasOptions, type NativeBlas, openBlas } from './blas.ts';
export { collector } from './collector.ts';
export type { Element, Float, Numeric } from './elements.ts';
export { type Variant, variants } from './features.ts';
export { type FloatType, type Gemm, type GemmExports, gemm, type Syrk, syrk } from './gemm.ts';
export type { EigenExports, Exports, FactoriseExports } from './generated/types.gen.ts';
export { Block, Heap, type HeapOptions } from './heap.ts';
export {
  createKernels,
  instantiate,
  type KernelOptions,
  Kernels,
  type Layer,
  type Loaded,
  type Override,
} from './instance.ts';
export { Handle, Tracker, type TrackerOptions, type TrackerStats } from './lifetime.ts';
export { Memory, type MemoryOptions } from './memory.ts';
export { OutOfMemory, Pool, type PoolStats } from './pool.ts';
export { sharedVariant } from './shared.ts';
export type { ThreadOptions } from './threads/group.ts';
export { SecondThread } from './threads/second.ts';
export { Threads } from './threads/threads.ts';
export type { WasmMemory } from './wasm.ts';
