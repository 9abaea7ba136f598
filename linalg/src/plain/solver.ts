// The factorisations in plain TypeScript as a `Solver`: for where there is no SIMD, and the slow twin of the kernels in
// tests. In float64 whatever it is given.
import type { Real } from '../ndarray.ts';
import type { Solver } from '../solver.ts';
import { factor, invertFactor, solveLower, solveLowerTransposed } from './cholesky.ts';
import { divideAndConquer } from './divide.ts';
import { applyReflectors } from './householder.ts';
import { reduced } from './qr.ts';
import { tridiagonalise } from './tridiagonal.ts';

/** Runs on the array, or on a float64 copy of it that is rounded back. */
function inFloat64<R>(a: Real, run: (wide: Float64Array) => R): R {
  if (a instanceof Float64Array) return run(a);
  const wide = new Float64Array(a);
  const result = run(wide);
  a.set(wide);
  return result;
}

export const plainSolver: Required<Omit<Solver, 'minRows'>> = {
  eigh: (n, a, values) =>
    inFloat64(a, wide => {
      const { diagonal, offDiagonal, reflectors } = tridiagonalise(n, wide);
      const { values: found, rows } = divideAndConquer(diagonal, offDiagonal);
      // Eigenvectors of a are H₀ … H₍n₋₂₎ times those of the tridiagonal matrix.
      applyReflectors(reflectors, 0, n - 1, rows, 0, n, 'descending');
      wide.set(rows);
      values.set(found);
    }),
  cholesky: (n, a) => inFloat64(a, wide => factor(n, wide)),
  cholInverse: (n, l) => inFloat64(l, wide => wide.set(invertFactor(n, wide))),
  solveLower: (n, l, x, k, transposed) =>
    inFloat64(x, wide => (transposed ? solveLowerTransposed : solveLower)(n, new Float64Array(l), wide, k)),
  qr: (m, n, a, q, r) =>
    inFloat64(a, wide => {
      const found = reduced(m, n, wide);
      q.set(found.q);
      r.set(found.r);
    }),
};
