/** The tasks that ml-matrix has: float64 in rows, no autograd. */

import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import { gram } from './data.mjs';

export const tasks = {
  eigh({ n }) {
    const a = Matrix.from1DArray(n, n, Array.from(gram(n)));
    return { run: () => Math.max(...new EigenvalueDecomposition(a, { assumeSymmetric: true }).realEigenvalues) };
  },
};
