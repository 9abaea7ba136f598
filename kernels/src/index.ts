/** @otimes/kernels: WebAssembly SIMD kernels, the memory they work in and how long it lives. */

export {
  Background,
  type BackgroundOptions,
  EighJob,
  type EighWorker,
  type JobStatus,
} from './background/background.ts';
export { type BlasInfo, type BlasOptions, type NativeBlas, openBlas } from './blas.ts';
export { collector } from './collector.ts';
export type { ConvExports } from './conv.ts';
export type { Element, ElementwiseExports, Float, Numeric } from './elementwise.ts';
export { type Variant, variants } from './features.ts';
export { type FloatType, type Gemm, type GemmExports, gemm, type Syrk, syrk } from './gemm.ts';
export { Block, Heap, type HeapOptions } from './heap.ts';
export {
  createKernels,
  type Exports,
  instantiate,
  type KernelOptions,
  Kernels,
  type Layer,
  type Override,
} from './instance.ts';
export { Handle, Tracker, type TrackerOptions, type TrackerStats } from './lifetime.ts';
export { instantiateLinalg, type LinalgExports } from './linalg.ts';
export { Memory, type MemoryOptions } from './memory.ts';
export { OutOfMemory, Pool, type PoolStats } from './pool.ts';
export type { ReduceExports } from './reduce.ts';
export { sharedVariant } from './shared.ts';
export { type ThreadOptions, Threads } from './threads/threads.ts';
export type { WasmMemory } from './wasm.ts';
