// The symmetric eigenproblem in plain TypeScript, as `Solver` has it.
import type { Complete } from '../solver.ts';
import { divideAndConquer } from './divide.ts';
import { applyReflectors } from './householder.ts';
import { tridiagonalise } from './tridiagonal.ts';
import { inFloat64 } from './wide.ts';

export const plainEigh: Complete['eigh'] = (n, a, values) =>
  inFloat64(a, wide => {
    const { diagonal, offDiagonal, reflectors } = tridiagonalise(n, wide);
    const { values: found, rows } = divideAndConquer(diagonal, offDiagonal);
    // Eigenvectors of a are H₀ … H₍n₋₂₎ times those of the tridiagonal matrix.
    applyReflectors(reflectors, 0, n - 1, rows, 0, n, 'descending');
    wide.set(rows);
    values.set(found);
  });
