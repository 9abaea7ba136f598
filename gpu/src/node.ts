/** WebGPU in Node, by Dawn, of the package webgpu (an optional peer dependency). Deno and Bun have Node's modules and come here too. */

import type { WebGpuHost } from './adapter.ts';

/**
 * Every kernel here writes workgroup memory before it reads it; zeros before that cost each workgroup a loop, and SwiftShader's
 * compiler 0.1 s for each kilobyte.
 */
export const TOGGLES = ['disable_workgroup_init'];
/** f16 and matrices of subgroups. NVIDIA's f16 is behind a toggle of its own. */
export const EXPERIMENTAL = ['allow_unsafe_apis', 'vulkan_enable_f16_on_nvidia'];

async function openWebGpu(experimental: boolean): Promise<GPU> {
  // Not a literal, so that no bundler takes it in: it is there or not when the program runs.
  const name = 'webgpu';
  try {
    const { create } = (await import(/* webpackIgnore: true */ /* @vite-ignore */ name)) as {
      create(options: string[]): GPU;
    };
    return create([`enable-dawn-features=${[...TOGGLES, ...(experimental ? EXPERIMENTAL : [])].join()}`]);
  } catch (error) {
    const why = error instanceof Error ? error.message : error;
    throw new Error(
      `this runtime has no navigator.gpu, and the package webgpu, which brings WebGPU, does not load: npm install webgpu (${why})`,
    );
  }
}

export const host: WebGpuHost = {
  openWebGpu,
  whyNoAdapter: () =>
    'WebGPU is here and finds no GPU. On Linux it needs the Vulkan loader (libvulkan.so.1) and the ICD file of the driver ' +
    '(VK_DRIVER_FILES=…/nvidia_icd.json)',
};
