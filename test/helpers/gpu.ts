/** The device 'gpu' for tests: of a GPU, or of SwiftShader, which computes on the CPU and comes with Chromium. */

import { existsSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { registerBackend } from '@otimes/core';
import { gpuBackend, initGpu } from '@otimes/gpu';
import koffi from 'koffi';
import { openDevice } from '../../gpu/src/adapter.ts';
import { GpuBackend, type GpuBackendOptions } from '../../gpu/src/backend.ts';
import { Commands } from '../../gpu/src/commands.ts';
import { type Context, newContext } from '../../gpu/src/context.ts';

/** Folders that may hold SwiftShader: $SWIFTSHADER, those of Debian's Chromium. */
const FOLDERS = [process.env.SWIFTSHADER, '/usr/lib/chromium'].filter(folder => folder !== undefined);

/** Makes the Vulkan loader find SwiftShader in this process. Returns whether there is one. */
function useSwiftShader(): boolean {
  const folder = FOLDERS.find(one => existsSync(join(one, 'vk_swiftshader_icd.json')));
  if (folder === undefined) return false;
  // The loader is found by its name afterwards, wherever it lies.
  koffi.load(realpathSync(join(folder, 'libvulkan.so.1')));
  process.env.VK_DRIVER_FILES = join(dirname(join(folder, 'x')), 'vk_swiftshader_icd.json');
  return true;
}

let opened: Promise<string | null> | null = null;

/** Opens the device 'gpu', once. Returns why there is none, or null. */
export function openGpu(): Promise<string | null> {
  opened ??= open();
  return opened;
}

async function open(): Promise<string | null> {
  if (gpuBackend() !== null) return null;
  const attempt = () =>
    initGpu().then(
      () => null,
      (error: Error) => error.message,
    );
  const first = await attempt();
  if (first === null || !useSwiftShader()) return first && 'no GPU: a driver with Vulkan, or apt-get install chromium';
  return attempt();
}

/** A device of its own on the same GPU, by another name. */
export async function gpuNamed(name: string, o: Partial<GpuBackendOptions> = {}): Promise<GpuBackend> {
  const { device, info } = await openDevice({});
  const backend = new GpuBackend(device, info, { memoryLimit: 1e9, ...o, name });
  registerBackend(backend);
  return backend;
}

/** The functions of @otimes/gpu without a backend, on a device of their own. */
export async function gpuContext(): Promise<Context> {
  const { device } = await openDevice({});
  return newContext(new Commands(device, Infinity), 1e9);
}
