/**
 * The module of factorisations (assembly/linalg), which shares a memory with the first one and imports its products.
 * Apart from it and compiled on first use, so that who needs none of it loads none.
 */

import type { Variant } from './features.ts';
import type { GemmExports } from './gemm.ts';
import { linalg as packed } from './generated/linalg.gen.ts';
import type { LinalgExports } from './generated/types.gen.ts';
import { compiled } from './instance.ts';
import { type WasmMemory, wasm } from './wasm.ts';

/** The module of a variant for an unshared memory; compiled once. */
export const linalgModule = (variant: Variant): object => compiled(packed, variant, false);

/** The functions of one variant over an unshared memory; `products` are an instance's of the first module over it. */
export function instantiateLinalg(memory: WasmMemory, products: GemmExports, variant: Variant): LinalgExports {
  const module = linalgModule(variant);
  return new wasm!.Instance(module, { env: { memory }, kernels: products }).exports as LinalgExports;
}
