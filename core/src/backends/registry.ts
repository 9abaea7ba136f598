/** The backends that tensors can live on, by device name. */

import { aDevice, aDType, checkArgument, type Kind, nameOf, received } from '../check.ts';
import { DTypeError } from '../errors.ts';
import type { Backend } from './backend.ts';
import { kernels, ReferenceBackend } from './reference/index.ts';
import { createWasmBackend } from './wasm/index.ts';

/** 'cpu' is WebAssembly, or plain TypeScript where the host has no SIMD; 'reference' is plain TypeScript everywhere. */
const backends = new Map<string, Backend>([
  ['cpu', createWasmBackend('cpu') ?? new ReferenceBackend('cpu')],
  ['reference', new ReferenceBackend('reference')],
]);

/** What operations and composed kernels make themselves, whatever a program computes in: positions, counts and conditions. */
const NEEDED = ['float32', 'int32', 'bool'];

const someDTypes: Kind = {
  expected: "a list of dtypes with 'float32', 'int32' and 'bool', which every device needs",
  is: v => v === undefined || (Array.isArray(v) && v.every(aDType.is) && NEEDED.every(dtype => v.includes(dtype))),
  error: DTypeError,
};

/**
 * Makes `backend.device` a device that `to` and `TensorOptions.device` take. A later registration replaces it.
 *
 * @throws TypeError that names what `backend` lacks of a device
 * @throws DTypeError where its `dtypes` lack float32, int32 or bool
 */
export function registerBackend(backend: Backend): void {
  checkArgument('registerBackend', 'device', backend?.device, aDevice);
  const missing = missingIn(backend);
  if (missing.length > 0)
    throw new TypeError(
      `registerBackend: the device '${backend.device}' of class ${nameOf(backend)} has no ${missing.join(', ')}; ` +
        'ComposedBackend and AwaitedBackend have all but a dozen kernels',
    );
  checkArgument(`registerBackend: ${nameOf(backend)} '${backend.device}'`, 'dtypes', backend.dtypes, someDTypes);
  backends.set(backend.device, backend);
}

/** The methods that a device must have and this one has not. */
function missingIn(backend: Backend): string[] {
  // The plain kernels are all that there are; checks have a default. `fetch` and `write` are what `AwaitedBackend` is built on.
  const names = Object.keys(kernels).filter(name => !['read', 'checkIndex', 'checkFinite'].includes(name));
  if ('status' in backend) names.push('fetch', 'write');
  const has = (name: string) => typeof Reflect.get(backend, name) === 'function';
  return [...(has('read') || has('readAsync') ? [] : ['read or readAsync']), ...names.filter(name => !has(name))];
}

/** The backend of a device. Throws an Error that lists the registered ones. */
export function getBackend(device: string): Backend {
  const backend = backends.get(device);
  if (backend === undefined)
    throw new Error(
      `device: no backend is registered for ${received(device)}; there are '${[...backends.keys()].join("', '")}'` +
        (device === 'gpu' ? '; await initGpu() of @otimes/gpu opens it' : '') +
        (aDType.is(device) ? `; astype('${device}') converts to a dtype` : ''),
    );
  return backend;
}
