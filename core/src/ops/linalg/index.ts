/** The namespace `linalg` of '@otimes/core': linear algebra over matrices in the last two axes, with gradients. */

export { cholesky, type QR, qr } from './factor.ts';
export { LinAlgError } from './host.ts';
export {
  type LeastSquares,
  lstsq,
  type MatrixNorm,
  type MatrixNormOptions,
  matrixNorm,
  matrixRank,
  pinv,
  type RankOptions,
} from './norms.ts';
export {
  det,
  inv,
  logdet,
  matrixPower,
  type SignAndLog,
  type SolveTriangularOptions,
  slogdet,
  solve,
  solveTriangular,
} from './solve.ts';
export { type Eigen, eigh, eigvalsh, type SVD, svd, svdvals } from './spectral.ts';
