/** @otimes/gpu: the device 'gpu', by WebGPU in browsers and in Node. */

import { registerBackend } from '@otimes/core';
import { aBoolean, checkOptions, type OptionKinds, oneOf } from '@otimes/core/extend';
import { type AdapterOptions, type GpuInfo, isAdapter, openDevice } from './adapter.ts';
import { GpuBackend } from './backend.ts';

export type { AdapterOptions, GpuAdapter, GpuInfo } from './adapter.ts';
export type { GpuBackend } from './backend.ts';
export { gpuKernel, type Kernel, type KernelArguments, type KernelOptions, type KernelThis } from './custom.ts';

export type GpuOptions = AdapterOptions & {
  /**
   * Bytes that the buffers of all tensors on the GPU may take together, default 16e9: those in use, and those that are kept for the
   * next tensors of their size. An allocation beyond it first collects what is unreachable and gives back what is kept; if that is not
   * enough it throws an OutOfMemoryError, and nothing has changed. Kernels and some megabytes of the queue's own do not count.
   */
  readonly memoryLimit?: number;
  /**
   * Whether products and convolutions round their operands to f16; default false. They add in float32, as all else is float32: results,
   * parameters, norms, losses, factors. Gradients that are too small for f16 want a `GradScaler`.
   */
  readonly mixed?: boolean;
};

const OPTIONS: OptionKinds<GpuOptions> = {
  powerPreference: oneOf('high-performance', 'low-power'),
  adapter: { expected: 'a GPUAdapter', is: isAdapter },
  mixed: aBoolean,
  memoryLimit: { expected: 'bytes, a number above 0', is: v => typeof v === 'number' && v > 0 },
};

let current: GpuBackend | null = null;

/**
 * Opens the GPU and registers it as the device 'gpu'; called again, it opens a new one in its place, after a device was lost say.
 * Tensors of the one before stay there: `await model.cpu()`, if it is not lost, and `model.to('gpu')` bring a model over. Throws an Error that says what is missing where there is no adapter. An adapter that computes on the CPU is opened as any
 * other and says so by `isFallbackAdapter`.
 *
 *     await initGpu();
 *     model.to('gpu');
 */
export async function initGpu(options: GpuOptions = {}): Promise<GpuInfo> {
  checkOptions('initGpu', options, OPTIONS);
  const { memoryLimit = 16e9, mixed = false, ...adapter } = options;
  const { device, info, unit } = await openDevice({ ...adapter, mixed });
  const opened = new GpuBackend(device, info, { memoryLimit, mixed, unit });
  registerBackend(opened);
  current?.retire();
  current = opened;
  return info;
}

/** The open GPU, or null before `initGpu`. */
export const gpuBackend = (): GpuBackend | null => current;
