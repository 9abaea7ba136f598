/// <reference types="@webgpu/types" />
/** The adapter and the device: found once, with an await; everything after it is synchronous but for reads. */

import { host } from '#host';
import { MATRIX_FEATURES, type MatrixUnit, matrixUnit } from './matrix-unit.ts';

export type GpuInfo = {
  readonly name: string;
  readonly vendor: string;
  /** True for an adapter that computes on the CPU, SwiftShader say: right, and slow. */
  readonly isFallbackAdapter: boolean;
  /**
   * How products take operands in f16, if the GPU was opened with `mixed`, else null. 'matrices': by the GPU's matrix units where operands lie
   * in eights. 'packed': half the memory traffic, and float32 arithmetic.
   */
  readonly mixed: 'matrices' | 'packed' | null;
  readonly limits: {
    /** Bytes that one tensor may have. */
    readonly maxTensorBytes: number;
    /** Tensors that one kernel may take. */
    readonly maxTensorsPerKernel: number;
  };
};

/** A GPUAdapter, whoever's typings it comes with: programs need none to be compiled with this package. */
export type GpuAdapter = {
  readonly limits: object;
  readonly features: { has(name: string): boolean };
  requestDevice(): PromiseLike<object>;
};

export function isAdapter(value: unknown): value is GpuAdapter {
  if (typeof value !== 'object' || value === null) return false;
  const { limits, features, requestDevice } = value as Partial<GpuAdapter>;
  return typeof limits === 'object' && typeof features?.has === 'function' && typeof requestDevice === 'function';
}

export type AdapterOptions = {
  /** Which GPU of several; default 'high-performance'. */
  readonly powerPreference?: 'high-performance' | 'low-power';
  /** An adapter of the caller's own that gave no device yet, in the place of one that is asked for. */
  readonly adapter?: GpuAdapter;
};

/**
 * What node.ts and browser.ts offer: '#host' is one of them, by export condition.
 * @internal
 */
export type WebGpuHost = {
  /**
   * WebGPU that no navigator has. Rejects with an Error that says why there is none.
   *
   * @param experimental whether adapters offer f16 and matrices of subgroups, too, where the driver has them
   */
  openWebGpu(experimental: boolean): Promise<GPU>;
  /** Why WebGPU may be there, and no adapter. */
  whyNoAdapter(): string;
};

// NOTE: must stay reachable: once the object that `create` of the package webgpu returns is collected, the process dies.
// A root for each kind, without and with what is experimental.
const roots = new Map<boolean, GPU>();

/** WebGPU of the browser or runtime, else of the package webgpu. */
async function findWebGpu(experimental: boolean): Promise<GPU> {
  const { navigator } = globalThis as { navigator?: { gpu?: GPU } };
  if (typeof navigator?.gpu?.requestAdapter === 'function') return navigator.gpu;
  try {
    return await host.openWebGpu(experimental);
  } catch (error) {
    throw none('WebGPU', error);
  }
}

const reason = (error: unknown) => (error instanceof Error ? error.message : String(error));
const none = (expected: string, cause: unknown) =>
  new Error(`initGpu: expected ${expected}, got none: ${reason(cause)}`, { cause });

/**
 * The adapter with all the limits it has. Throws an Error that says what is missing where there is none.
 * @internal
 */
export async function openDevice({
  powerPreference = 'high-performance',
  adapter: given,
  mixed = false,
}: AdapterOptions & { mixed?: boolean }): Promise<{ device: GPUDevice; info: GpuInfo; unit: MatrixUnit | null }> {
  if (given === undefined && !roots.has(mixed)) roots.set(mixed, await findWebGpu(mixed));
  const adapter =
    given === undefined ? await roots.get(mixed)!.requestAdapter({ powerPreference }) : (given as GPUAdapter);
  if (adapter === null) {
    // Another call looks anew: what was missing may be there then.
    roots.delete(mixed);
    throw none('an adapter', host.whyNoAdapter());
  }
  const { limits } = adapter;
  const unit = mixed ? matrixUnit(adapter) : null;
  const features = ['timestamp-query', ...(unit === null ? [] : MATRIX_FEATURES)];
  const requiredFeatures = features.filter(name => adapter.features.has(name)) as GPUFeatureName[];
  let device: GPUDevice;
  try {
    device = await adapter.requestDevice({
      requiredFeatures,
      requiredLimits: {
        maxBufferSize: limits.maxBufferSize,
        maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
        maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
        maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      },
    });
    if (typeof device?.createBuffer !== 'function') throw new TypeError('it is no GPUDevice');
  } catch (error) {
    throw new Error(`initGpu: the adapter gave no device; an adapter gives one, once (${reason(error)})`, {
      cause: error,
    });
  }
  const { vendor, architecture, device: chip, description, isFallbackAdapter } = adapter.info ?? {};
  return {
    device,
    unit,
    info: {
      // Browsers tell pages little.
      name: description || chip || [vendor, architecture].filter(Boolean).join(' ') || 'unnamed',
      vendor: vendor ?? '',
      // Elsewhere in older browsers.
      isFallbackAdapter: isFallbackAdapter ?? (adapter as { isFallbackAdapter?: boolean }).isFallbackAdapter ?? false,
      mixed: mixed ? (unit === null ? 'packed' : 'matrices') : null,
      limits: {
        maxTensorBytes: Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize),
        maxTensorsPerKernel: limits.maxStorageBuffersPerShaderStage,
      },
    },
  };
}
