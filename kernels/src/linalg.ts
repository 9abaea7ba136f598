/**
 * The module of factorisations (assembly/linalg), which shares a memory with the first one and imports its products.
 * Apart from it and compiled on first use, so that who needs none of it loads none.
 */

import type { Variant } from './features.ts';
import type { GemmExports } from './gemm.ts';
import { linalg as packed } from './generated/linalg.gen.ts';
import { unpack } from './packed.ts';
import { type WasmMemory, wasm } from './wasm.ts';

/** Both types of a kernel. */
type Both<Name extends string, F> = { readonly [K in `${Name}_${'f32' | 'f64'}`]: F };

/**
 * What assembly/linalg exports. Matrices are contiguous and row-major; pointers are byte addresses, `…Work` gives the
 * bytes to put at `work`, and `scratch` is as in `GemmExports`. Nothing is checked.
 */
export type LinalgExports = Both<
  'eighWork' | 'choleskyWork' | 'cholInverseWork' | 'solveLowerWork',
  (n: number) => number
> &
  Both<'qrWork', (m: number, n: number) => number> &
  /** max|a|, or −1 where a [n, n] is not finite or not symmetric within tolerance · max|a|; less is averaged away. */
  Both<'symmetrise', (n: number, a: number, tolerance: number) => number> &
  /** x [n] ← x / by */
  Both<'divide', (n: number, by: number, x: number) => void> &
  /** The upper triangle of a [n, n] ← the lower one; ← 0. */
  Both<'mirror' | 'lowerOnly', (n: number, a: number) => void> &
  /**
   * Ascending eigenvalues into values [n] of f64, the eigenvectors into the columns of a [n, n], signs as linalg's `eigh`
   * promises; max|a| must be near 1, and vectors [n, n] is more work. 0 where it does not converge.
   */
  Both<'eigh', (n: number, a: number, values: number, vectors: number, work: number, scratch: number) => number> &
  /** L into the lower triangle of a [n, n]; −1, or the row of the first pivot that is not positive, left in its place. */
  Both<'cholesky', (n: number, a: number, work: number, scratch: number) => number> &
  /** The lower triangle of (L Lᵀ)⁻¹ in place of that of L [n, n]. */
  Both<'cholInverse', (n: number, a: number, work: number, scratch: number) => void> &
  /** x [n, k] ← L⁻¹ x, or L⁻ᵀ x if `transposed`. */
  Both<
    'solveLower',
    (n: number, l: number, x: number, k: number, transposed: number, work: number, scratch: number) => void
  > &
  /** a [m, n] = q r with k = min(m, n): q [m, k], r [k, n] with a diagonal ≥ 0. */
  Both<'qr', (m: number, n: number, a: number, q: number, r: number, work: number, scratch: number) => void>;

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
