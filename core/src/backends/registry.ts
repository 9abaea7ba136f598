/** The backends that tensors can live on, by device name. */

import { aDevice, aDType, aFunction, checkArgument, received } from '../check.ts';
import type { Backend } from './backend.ts';
import { ReferenceBackend } from './reference/index.ts';
import { createWasmBackend } from './wasm/index.ts';

/** 'cpu' is WebAssembly, or plain TypeScript where the host has no SIMD; 'reference' is plain TypeScript everywhere. */
const backends = new Map<string, Backend>([
  ['cpu', createWasmBackend('cpu') ?? new ReferenceBackend('cpu')],
  ['reference', new ReferenceBackend('reference')],
]);

/** Makes `backend.device` a device that `to` and `TensorOptions.device` take. A later registration replaces it. */
export function registerBackend(backend: Backend): void {
  checkArgument('registerBackend', 'device', backend?.device, aDevice);
  checkArgument('registerBackend', 'allocate', backend.allocate, aFunction);
  backends.set(backend.device, backend);
}

/** The backend of a device. Throws an Error that lists the registered ones. */
export function getBackend(device: string): Backend {
  const backend = backends.get(device);
  if (backend === undefined)
    throw new Error(
      `device: no backend is registered for ${received(device)}; there ${backends.size === 1 ? 'is' : 'are'} ` +
        [...backends.keys()].map(name => `'${name}'`).join(', ') +
        (aDType.is(device) ? `; astype('${device}') converts to a dtype` : ''),
    );
  return backend;
}
