/// <reference types="@webgpu/types" />
/** The adapter and the device: found once, with an await; everything after it is synchronous but for reads. */

export type GpuInfo = {
  readonly name: string;
  readonly vendor: string;
  /** True for an adapter that computes on the CPU, SwiftShader say: right, and slow. */
  readonly isFallbackAdapter: boolean;
  readonly limits: {
    /** Bytes that one tensor may have. */
    readonly maxTensorBytes: number;
    /** Tensors that one kernel may take. */
    readonly maxTensorsPerKernel: number;
  };
};

export type AdapterOptions = {
  readonly powerPreference?: GPUPowerPreference;
  /** An adapter of the caller's own, in the place of one that is asked for. */
  readonly adapter?: GPUAdapter;
};

// NOTE: must stay reachable: once the object that `create` of the package webgpu returns is collected, the process dies.
let root: GPU | null = null;

/**
 * Every kernel here writes workgroup memory before it reads it; zeros before that cost each workgroup a loop, and SwiftShader's
 * compiler 0.1 s for each kilobyte.
 */
const DAWN = ['enable-dawn-features=disable_workgroup_init'];

/** WebGPU of the browser or runtime, else of the package webgpu (Dawn). */
async function findWebGpu(): Promise<GPU> {
  const { navigator } = globalThis as { navigator?: { gpu?: GPU } };
  if (typeof navigator?.gpu?.requestAdapter === 'function') return navigator.gpu;
  // Bundlers for browsers leave it alone: it is never reached there.
  const name = 'webgpu';
  let dawn: { create(options: string[]): GPU; globals: object };
  try {
    dawn = await import(/* webpackIgnore: true */ /* @vite-ignore */ name);
  } catch (error) {
    throw new Error(
      `initGpu: expected WebGPU, got none: this runtime has no navigator.gpu, and the package webgpu does not load ` +
        `(${error instanceof Error ? error.message : error}). In Node: npm install webgpu. In a browser: a secure page (https or ` +
        'localhost) and a browser with WebGPU enabled',
    );
  }
  Object.assign(globalThis, dawn.globals);
  return dawn.create(DAWN);
}

/** The adapter with all the limits it has. Throws an Error that says what is missing where there is none. */
export async function openDevice({
  powerPreference = 'high-performance',
  adapter: given,
}: AdapterOptions): Promise<{ device: GPUDevice; info: GpuInfo }> {
  root ??= given === undefined ? await findWebGpu() : null;
  const adapter = given ?? (await root!.requestAdapter({ powerPreference }));
  if (adapter === null) {
    // Another call looks anew: what was missing may be there then.
    root = null;
    throw new Error(
      'initGpu: expected an adapter, got none: WebGPU is here and finds no GPU. On Linux it needs the Vulkan loader ' +
        '(libvulkan.so.1) and the ICD file of the driver (VK_DRIVER_FILES=…/nvidia_icd.json); Chromium without a window needs ' +
        '--enable-unsafe-webgpu',
    );
  }
  const { limits } = adapter;
  const requiredFeatures: GPUFeatureName[] = adapter.features.has('timestamp-query') ? ['timestamp-query'] : [];
  const device = await adapter.requestDevice({
    requiredFeatures,
    requiredLimits: {
      maxBufferSize: limits.maxBufferSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
    },
  });
  const { vendor, device: chip, description, isFallbackAdapter } = adapter.info;
  return {
    device,
    info: {
      name: description || chip || 'unnamed',
      vendor,
      isFallbackAdapter,
      limits: {
        maxTensorBytes: Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize),
        maxTensorsPerKernel: limits.maxStorageBuffersPerShaderStage,
      },
    },
  };
}
