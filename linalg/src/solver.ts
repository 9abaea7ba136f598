// Who does the arithmetic of a factorisation. The package's functions check, copy, scale and lay out results; what they
// ask for in between is a `Solver`: the WebAssembly kernels or else plain TypeScript, and in front of either what
// `setSolver` was given (LAPACK from a native library). Each function of the package names the kernels and the plain code that
// it needs itself, so that a bundle has no others.
import { fail } from './errors.ts';
import type { Real } from './ndarray.ts';

/**
 * Factorisations in place, each optional: what one lacks, the next does. All matrices are contiguous and row-major, of
 * one type within a call, finite, and the caller's to overwrite; sizes may be 0.
 */
export type Solver = {
  /**
   * Rows of a matrix from which the solver is worth it: below, `eigh`, `cholesky` and `inverse` stay with the kernels
   * where there are any, which save a way in and out. Defaults to 0.
   */
  readonly minRows?: number;
  /**
   * Eigenvectors of the symmetric a [n, n] into the ROWS of a (so in column-major terms its columns, as LAPACK's syevd
   * leaves them), the matching eigenvalues into values [n], of a's type. max|a| is in [1, 2) or 0; both triangles are
   * filled. Order and signs are free. Throws where it does not converge.
   */
  readonly eigh?: (n: number, a: Real, values: Real) => void;
  /**
   * L with a = L Lᵀ into the lower triangle of a [n, n] (column-major: the upper one, potrf's uplo = 'U'), of which the
   * rest is left as anything. Returns −1, or the row of the first pivot that is not positive, which a[row, row] then
   * holds (LAPACK's info, less 1).
   */
  readonly cholesky?: (n: number, a: Real) => number;
  /** The lower triangle of (L Lᵀ)⁻¹ in place of L's, as potri does; of l [n, n] the rest is anything, before and after. */
  readonly cholInverse?: (n: number, l: Real) => void;
  /** x [n, k] ← L⁻¹ x, or L⁻ᵀ x if `transposed`, as trsm does; of l [n, n] the lower triangle is read, without zeros. */
  readonly solveLower?: (n: number, l: Real, x: Real, k: number, transposed: boolean) => void;
  /**
   * a [m, n] = q r with k = min(m, n): q [m, k] of orthonormal columns, r [k, n] upper triangular with a diagonal ≥ 0.
   * max|a| is in [1, 2) or 0.
   */
  readonly qr?: (m: number, n: number, a: Real, q: Real, r: Real) => void;
};

/** All of one. */
export type Complete = Required<Omit<Solver, 'minRows'>>;

let chosen: Solver = {};

/** Lets `solver` do what it can from now on; null takes it back. Process-wide, as it changes speed and last bits alone. */
export function setSolver(solver: Solver | null): void {
  if (typeof solver !== 'object') fail('setSolver', 'expected an object of functions or null', String(solver));
  for (const [name, part] of Object.entries(solver ?? {}))
    if (typeof part !== (name === 'minRows' ? 'number' : 'function') && part !== undefined)
      fail('setSolver', `expected ${name} to be a function, or minRows a number`, String(part));
  chosen = solver ?? {};
}

/** What `setSolver` was given for matrices of n rows. */
export const replaced = (n = Infinity): Solver => (n >= (chosen.minRows ?? 0) ? chosen : {});
