/**
 * The modules of the eigenproblem and of factorisations (assembly/linalg), which share a memory with the first one and import
 * its products. Apart from it and compiled on first use, so that who needs none of it loads none.
 */

import type { Variant } from './features.ts';
import type { GemmExports } from './gemm.ts';
import { eigen } from './generated/eigen.gen.ts';
import { factorise } from './generated/factorise.gen.ts';
import type { EigenExports, FactoriseExports } from './generated/types.gen.ts';
import { compiled } from './instance.ts';
import { type WasmMemory, wasm } from './wasm.ts';

/** The module of the eigenproblem in a variant for an unshared memory; compiled once. */
export const eigenModule = (variant: Variant): object => compiled(eigen, variant, false);

const instance = (module: object, memory: WasmMemory, kernels: GemmExports): object =>
  new wasm!.Instance(module, { env: { memory }, kernels }).exports;

/**
 * The functions of the eigenproblem in one variant over an unshared memory; `products` are an instance's of the first module over
 * it.
 */
export function instantiateEigen(memory: WasmMemory, products: GemmExports, variant: Variant): EigenExports {
  return instance(eigenModule(variant), memory, products) as EigenExports;
}

/** The same for Cholesky and QR. */
export function instantiateFactorise(memory: WasmMemory, products: GemmExports, variant: Variant): FactoriseExports {
  return instance(compiled(factorise, variant, false), memory, products) as FactoriseExports;
}
