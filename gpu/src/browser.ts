/** WebGPU where only the browser itself can have it. */

import type { WebGpuHost } from './adapter.ts';

const { isSecureContext } = globalThis as { isSecureContext?: boolean };

async function openWebGpu(): Promise<GPU> {
  if (isSecureContext === false)
    throw new Error('this page is not secure, and WebGPU is for secure pages: those of https and of localhost');
  throw new Error(
    'there is no navigator.gpu here. Chrome and Edge have it from 113 on, Safari from 26, Firefox from 141, not yet on every system. ' +
      'Firefox may have it switched off: dom.webgpu.enabled, and for Workers dom.webgpu.workers.enabled, in about:config',
  );
}

export const host: WebGpuHost = {
  openWebGpu,
  whyNoAdapter: () =>
    'this browser has WebGPU and finds no GPU for it; chrome://gpu or about:support says why. Chromium on Linux or without a window may ' +
    'need --enable-unsafe-webgpu, and --use-webgpu-adapter=swiftshader computes on the CPU',
};
