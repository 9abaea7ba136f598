/**
 * The module of factorisations (assembly/linalg), which shares a memory with the first one and imports its products.
 * Apart from it and compiled on first use, so that who needs none of it loads none.
 */

import type { Variant } from './features.ts';
import type { GemmExports } from './gemm.ts';
import { linalg as packed } from './generated/linalg.gen.ts';
import type { LinalgExports } from './generated/types.gen.ts';
import { unpack } from './packed.ts';
import { type WasmMemory, wasm } from './wasm.ts';

const modules = new Map<Variant, object>();

/** The module of a variant for an unshared memory; compiled once. */
export function linalgModule(variant: Variant): object {
  if (wasm === undefined) throw new Error('kernels: there is no WebAssembly here');
  let module = modules.get(variant);
  if (module === undefined) {
    module = new wasm.Module(unpack(packed, variant));
    modules.set(variant, module);
  }
  return module;
}

/** The functions of one variant over an unshared memory; `products` are an instance's of the first module over it. */
export function instantiateLinalg(memory: WasmMemory, products: GemmExports, variant: Variant): LinalgExports {
  const module = linalgModule(variant);
  return new wasm!.Instance(module, { env: { memory }, kernels: products }).exports as LinalgExports;
}
