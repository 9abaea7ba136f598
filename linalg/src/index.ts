// @otimes/linalg: dense linear algebra over scijs ndarrays.

export { cholesky, cholSolve, inverse } from './cholesky.ts';
export { type Eigen, eigh } from './eigh.ts';
export { NotPositiveDefiniteError } from './errors.ts';
export { type MatmulOptions, matmul } from './gemm.ts';
export { eighJacobi } from './jacobi.ts';
export { kron, kronMatvec, unvec, vec } from './kron.ts';
export type { AnyNdArray, RealNdArray } from './ndarray.ts';
export { qr } from './qr.ts';
