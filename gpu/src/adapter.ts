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

/** What runtimes for servers have and browsers have not. */
const { process, isSecureContext } = globalThis as {
  process?: { readonly versions?: { readonly node?: string } };
  isSecureContext?: boolean;
};
const inBrowser = process?.versions?.node === undefined;

// NOTE: must stay reachable: once the object that `create` of the package webgpu returns is collected, the process dies.
let root: GPU | null = null;

const none = (expected: string, why: string) => new Error(`initGpu: expected ${expected}, got none: ${why}`);

/** WebGPU of the browser or runtime, else of the package webgpu (Dawn). */
async function findWebGpu(): Promise<GPU> {
  const { navigator } = globalThis as { navigator?: { gpu?: GPU } };
  if (typeof navigator?.gpu?.requestAdapter === 'function') return navigator.gpu;
  if (inBrowser)
    throw none(
      'WebGPU',
      isSecureContext === false
        ? 'this page is not secure, and browsers have WebGPU on secure pages alone, those of https and of localhost'
        : 'this browser has no navigator.gpu here. Chrome and Edge have it from 113 on, Safari from 26, Firefox from 141, not yet on ' +
            'every system; in Firefox dom.webgpu.enabled of about:config turns it on, in Workers dom.webgpu.workers.enabled',
    );
  // Bundlers leave alone what they cannot read, and a browser does not come here.
  const name = 'webgpu';
  try {
    const { create } = (await import(/* webpackIgnore: true */ /* @vite-ignore */ name)) as {
      create(options: string[]): GPU;
    };
    return create([]);
  } catch (error) {
    throw none(
      'WebGPU',
      `this runtime has no navigator.gpu, and the package webgpu does not load: npm install webgpu. ` +
        `(${error instanceof Error ? error.message : error})`,
    );
  }
}

/** Why there may be WebGPU and no adapter. */
const NO_ADAPTER = inBrowser
  ? 'this browser has WebGPU and finds no GPU for it. about:gpu or chrome://gpu says why; Chromium on Linux and without a window wants ' +
    '--enable-unsafe-webgpu, and --use-webgpu-adapter=swiftshader where a CPU is to compute'
  : 'WebGPU is here and finds no GPU. On Linux it needs the Vulkan loader (libvulkan.so.1) and the ICD file of the driver ' +
    '(VK_DRIVER_FILES=…/nvidia_icd.json)';

/**
 * The adapter with all the limits it has. Throws an Error that says what is missing where there is none.
 * @internal
 */
export async function openDevice({
  powerPreference = 'high-performance',
  adapter: given,
}: AdapterOptions): Promise<{ device: GPUDevice; info: GpuInfo }> {
  root ??= given === undefined ? await findWebGpu() : null;
  const adapter = given === undefined ? await root!.requestAdapter({ powerPreference }) : (given as GPUAdapter);
  if (adapter === null) {
    // Another call looks anew: what was missing may be there then.
    root = null;
    throw none('an adapter', NO_ADAPTER);
  }
  const { limits } = adapter;
  const requiredFeatures: GPUFeatureName[] = adapter.features.has('timestamp-query') ? ['timestamp-query'] : [];
  let device: GPUDevice;
  try {
    device = await adapter.requestDevice({
      requiredFeatures,
      requiredLimits: {
        maxBufferSize: limits.maxBufferSize,
        maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
        maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
      },
    });
  } catch (error) {
    throw new Error(
      `initGpu: the adapter gave no device (${error instanceof Error ? error.message : error}); an adapter gives one, once`,
      { cause: error },
    );
  }
  const { vendor, architecture, device: chip, description, isFallbackAdapter } = adapter.info;
  return {
    device,
    info: {
      // Browsers tell pages little.
      name: description || chip || [vendor, architecture].filter(Boolean).join(' ') || 'unnamed',
      vendor,
      // Elsewhere in older browsers.
      isFallbackAdapter: isFallbackAdapter ?? (adapter as { isFallbackAdapter?: boolean }).isFallbackAdapter ?? false,
      limits: {
        maxTensorBytes: Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize),
        maxTensorsPerKernel: limits.maxStorageBuffersPerShaderStage,
      },
    },
  };
}
