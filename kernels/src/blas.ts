/** A native BLAS and LAPACK that a user has, as the kernels and their callers see it; see blas/ for how. */

import { openBlas as open } from '#host';
import type { Kernels, Override } from './instance.ts';

export type BlasOptions = {
  /** Threads of the library itself, defaults to 1. */
  readonly threads?: number;
};

/** What was loaded. */
export type BlasInfo = {
  /** The name or path under which the system found it. */
  readonly library: string;
  readonly kind: 'OpenBLAS' | 'MKL' | 'Accelerate' | 'other';
  /** What it says of itself: version, processor, width of its integers. Empty where it says nothing. */
  readonly config: string;
  /** Its threads, which may be fewer than were asked for; null where it does not let them be set (Accelerate). */
  readonly threads: number | null;
};

type Real = Float32Array | Float64Array;

export type NativeBlas = {
  readonly info: BlasInfo;
  /** Products, and what consists of them, for `kernels.override('blas', …)`. */
  readonly override: (kernels: Kernels) => Override;
  /**
   * Eigenvectors of the symmetric a [n, n] into its rows, eigenvalues ascending into values [n]. Here and below the arrays
   * of a call are of one type, contiguous, row-major, finite and overwritten. Throws an Error where it does not converge.
   */
  readonly eigh: (n: number, a: Real, values: Real) => void;
  /**
   * L with a = L Lᵀ into the lower triangle of a [n, n]; the rest of a is anything afterwards. Returns −1, or the row of
   * the first pivot that is not positive.
   */
  readonly cholesky: (n: number, a: Real) => number;
  /** The lower triangle of (L Lᵀ)⁻¹ in place of that of l [n, n]. Throws an Error where L is singular. */
  readonly cholInverse: (n: number, l: Real) => void;
  /** x [n, k] ← L⁻¹ x, or L⁻ᵀ x if `transposed`, for the lower triangle of l [n, n]. */
  readonly solveLower: (n: number, l: Real, x: Real, k: number, transposed: boolean) => void;
};

/**
 * Opens the library at `path`, or the first that the system finds under the usual names of OpenBLAS, MKL and (macOS)
 * Accelerate. It stays loaded for the life of the process. Throws an Error outside of Node, without the package koffi,
 * without a library, and for one that lacks a function.
 */
export function openBlas(path?: string, o: BlasOptions = {}): Promise<NativeBlas> {
  return open(path, o);
}
