/**
 * Says which adapter WebGPU gives on this machine; with --all its features and limits too. Exit code 3: none; 4: one that
 * computes on the CPU, which is no GPU.
 */

import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);
// NOTE: kept reachable, as the process dies when it is collected.
globalThis.gpuOfProbe = create([]);
const adapter = await globalThis.gpuOfProbe.requestAdapter({ powerPreference: 'high-performance' });
if (adapter === null) process.exit(3);
const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info;
console.log(
  `adapter: vendor ${vendor}, ${description || device} (${architecture}), isFallbackAdapter ${isFallbackAdapter}`,
);
if (process.argv.includes('--all')) {
  const features = [...adapter.features].filter(name => !name.startsWith('texture-'));
  console.log(`features: ${features.join(' ')}`);
  const names = [
    'maxBufferSize',
    'maxStorageBufferBindingSize',
    'maxStorageBuffersPerShaderStage',
    'maxComputeWorkgroupStorageSize',
    'maxComputeInvocationsPerWorkgroup',
  ];
  console.log(`limits: ${names.map(name => `${name} ${adapter.limits[name]}`).join(', ')}`);
  const { subgroupMinSize, subgroupMaxSize } = adapter.info;
  if (subgroupMinSize !== undefined) console.log(`subgroups: ${subgroupMinSize} … ${subgroupMaxSize}`);
  // What Dawn hides by default: half floats on NVIDIA, products on tensor cores.
  globalThis.unsafeGpuOfProbe = create(['enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia']);
  const unsafe = await globalThis.unsafeGpuOfProbe.requestAdapter({ powerPreference: 'high-performance' });
  const more = [...unsafe.features].filter(name => !adapter.features.has(name));
  console.log(`with allow_unsafe_apis and vulkan_enable_f16_on_nvidia also: ${more.join(' ') || 'nothing'}`);
  for (const { componentType, resultComponentType, M, N, K } of unsafe.info.subgroupMatrixConfigs ?? [])
    console.log(`matrices: ${componentType} → ${resultComponentType} ${M}×${N}×${K}`);
}
process.exit(isFallbackAdapter ? 4 : 0);
