/** @otimes/gpu: the device 'gpu', by WebGPU in browsers and in Node. */

import { registerBackend } from '@otimes/core';
import { aBoolean, checkOptions, type OptionKinds, oneOf } from '@otimes/core/extend';
import { type AdapterOptions, type GpuInfo, isAdapter, openDevice } from './adapter.ts';
import { GpuBackend } from './backend.ts';

export type { AdapterOptions, GpuAdapter, GpuInfo } from './adapter.ts';
export type { GpuBackend } from './backend.ts';

export type GpuOptions = AdapterOptions & {
  /** Bytes that all tensors on the GPU may take together; default 16e9. Beyond it, an OutOfMemoryError. */
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
 * Throws an Error that says what is missing where there is no adapter. An adapter that computes on the CPU is opened as any
 * other and says so by `isFallbackAdapter`.
 *
 *     await initGpu();
 *     model.to('gpu');
 */
export async function initGpu(options: GpuOptions = {}): Promise<GpuInfo> {
  checkOptions('initGpu', options, OPTIONS);
  const { memoryLimit = 16e9, mixed = false, ...adapter } = options;
  const { device, info, unit } = await openDevice({ ...adapter, mixed });
  current = new GpuBackend(device, info, { memoryLimit, mixed, unit });
  registerBackend(current);
  return info;
}

/** The open GPU, or null before `initGpu`. */
export const gpuBackend = (): GpuBackend | null => current;
