/** @otimes/kernels: WebAssembly SIMD kernels, the memory they work in and how long it lives. */

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
export { Memory, type MemoryOptions } from './memory.ts';
export { OutOfMemory, Pool, type PoolStats } from './pool.ts';
export type { ReduceExports } from './reduce.ts';
export { sharedVariant } from './shared.ts';
export type { WasmMemory } from './wasm.ts';
