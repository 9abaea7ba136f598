/** The devices that a random program runs on. The first is the reference that the others must agree with. */

import { ReferenceBackend, registerBackend, WasmBackend } from '@otimes/core';
import { createKernels, openBlas, Threads, variants } from '@otimes/kernels';

export type Device = {
  readonly name: string;
  /** The device whose bits this one must have; null where rounding may differ from the reference's. */
  readonly bitsOf: string | null;
};

/** So that calls of any size are cut into pieces. */
const TINY = { least: 0, piece: 1e-9, line: 1 };

/** Every other allocation is an ordinary array, as past the soft limit of a heap: operands are mixed. */
class Mixed extends WasmBackend {
  #count = 0;
  override allocate(...[dtype, size]: Parameters<WasmBackend['allocate']>) {
    if (((this.#count++ * 7919) >> 3) % 2 === 0) return super.allocate(dtype, size);
    return ReferenceBackend.prototype.allocate.call(this, dtype, size);
  }
}

/** A reference whose memory is never clean: what an operation forgets to write shows. */
class Dirty extends ReferenceBackend {
  override allocate(...[dtype, size]: Parameters<ReferenceBackend['allocate']>) {
    const memory = super.allocate(dtype, size);
    if (ArrayBuffer.isView(memory)) memory.fill(dtype === 'bool' ? 1 : 77);
    return memory;
  }
}

/** Registers all that there are here, and tells which are not. */
export async function allDevices(): Promise<{ devices: Device[]; missing: string[] }> {
  const devices: Device[] = [{ name: 'reference', bitsOf: null }];
  const missing: string[] = [];
  const add = (backend: ReferenceBackend, bitsOf: string | null = null) => {
    registerBackend(backend);
    devices.push({ name: backend.device, bitsOf });
  };
  add(new Dirty('dirty'), 'reference');
  for (const variant of ['simd', 'relaxed'] as const) {
    if (!variants().includes(variant)) {
      missing.push(variant);
      continue;
    }
    // One with a memory of its own kind, as programs may ask for.
    const memory = variant === 'simd' ? { shared: false, initial: 2 ** 25 } : {};
    add(new WasmBackend(variant, createKernels({ variant, memory })!));
  }
  if (!devices.some(({ name }) => name === 'simd')) return { devices, missing: [...missing, 'all that needs SIMD'] };
  add(new Mixed('mixed', createKernels()!));
  const threaded = createKernels()!;
  const used = await new Threads(threaded, TINY).set(2);
  if (used === 2) add(new WasmBackend('threads', threaded), variants()[0]!);
  else missing.push('threads');
  try {
    const { override } = await openBlas();
    const native = createKernels()!;
    native.override('blas', override(native));
    add(new WasmBackend('blas', native));
  } catch (error) {
    missing.push(`blas (${error instanceof Error ? error.message.slice(0, 60) : error})`);
  }
  return { devices, missing };
}
