/** The tasks that ml-matrix has: float64 in rows, no autograd. */

import { CholeskyDecomposition, EigenvalueDecomposition, inverse, Matrix, QrDecomposition } from 'ml-matrix';
import { definite, gram } from './data.mjs';

const matrix = (n, data) => Matrix.from1DArray(n, n, Array.from(data));

export const tasks = {
  eigh({ n }) {
    const a = matrix(n, gram(n));
    return { run: () => Math.max(...new EigenvalueDecomposition(a, { assumeSymmetric: true }).realEigenvalues) };
  },
  cholesky({ n }) {
    const a = matrix(n, definite(n));
    return { run: () => new CholeskyDecomposition(a).lowerTriangularMatrix.get(n - 1, n - 1) };
  },
  inverse({ n }) {
    const a = matrix(n, definite(n));
    return { run: () => inverse(a).get(n - 1, n - 1) };
  },
  qr({ n }) {
    const a = matrix(n, definite(n));
    return {
      run() {
        const found = new QrDecomposition(a);
        const [q, r] = [found.orthogonalMatrix, found.upperTriangularMatrix];
        return Math.abs(q.get(n - 1, n - 1)) + Math.abs(r.get(n - 1, n - 1));
      },
    };
  },
};
