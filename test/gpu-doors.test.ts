/** The doors of @otimes/gpu, with wrong arguments and before it is opened. Needs no GPU: adapter and device are stand-ins. */

import assert from 'node:assert/strict';
import { ones, zeros } from '@otimes/core';
import * as gpu from '@otimes/gpu';
import t from 'tap';
import { checkDoors } from './helpers/doors.ts';
import { law } from './helpers/law.ts';

const limits = { maxBufferSize: 2 ** 30, maxStorageBufferBindingSize: 2 ** 27, maxStorageBuffersPerShaderStage: 8 };
const device = { limits, createBuffer: ({ size }: { size: number }) => ({ size }), lost: new Promise(() => {}) };
/** What an older browser has, which says nothing of itself. */
const adapter = { limits, features: new Set<string>(), requestDevice: async (): Promise<object> => device };

law(t, 'before initGpu there is no device, and what asks for it says how to open it', () => {
  assert.equal(gpu.gpuBackend(), null);
  for (const use of [() => zeros([2], { device: 'gpu' }), () => ones([2]).to('gpu')])
    assert.throws(use, { message: /no backend is registered for 'gpu'; .*await initGpu\(\) of @otimes\/gpu/ });
});

law(t, 'an adapter that gives no device is an error that says so, and opens nothing', async () => {
  const refusing = [
    { ...adapter, requestDevice: () => Promise.reject(new Error('it was used before')) },
    { ...adapter, requestDevice: async () => ({}) },
  ];
  for (const given of refusing)
    await assert.rejects(gpu.initGpu({ adapter: given }), { message: /^initGpu: the adapter gave no device; .*\(it / });
  assert.equal(gpu.gpuBackend(), null);
});

law(t, 'of an adapter that says nothing of itself the limits are known', async () => {
  const info = await gpu.initGpu({ adapter });
  assert.deepEqual(info, {
    name: 'unnamed',
    vendor: '',
    isFallbackAdapter: false,
    mixed: null,
    limits: { maxTensorBytes: 2 ** 27, maxTensorsPerKernel: 8 },
  });
  assert.equal(gpu.gpuBackend()!.info, info);
});

law(t, 'what are no options is refused with the names of all options', async () => {
  await assert.rejects(gpu.initGpu(null as never), {
    message: 'initGpu: expected options such as { powerPreference, adapter, mixed, memoryLimit }, got null',
  });
});

checkDoors(t, '@otimes/gpu', Object.keys(gpu), {
  initGpu: {
    call: gpu.initGpu,
    args: () => [{ powerPreference: 'low-power', adapter, memoryLimit: 1e9, mixed: true }],
  },
  gpuBackend: { call: gpu.gpuBackend, args: () => [] },
  gpuKernel: {
    call: gpu.gpuKernel,
    args: () => [(x: number) => x + 1, { name: 'next', constants: { one: 1 }, gradient: (gy: number) => [gy] }],
  },
});
