// @otimes/linalg: dense linear algebra over scijs ndarrays.

export {
  type BackgroundEigh,
  type BackgroundEighOptions,
  eighAll,
  eighInBackground,
  type TurnedEigen,
} from './background.ts';
export { cholesky, cholSolve, inverse, solve, solveTriangular, type TriangularOptions } from './cholesky.ts';
export { type Eigen, eigh } from './eigh.ts';
export { NotPositiveDefiniteError } from './errors.ts';
export { type MatmulOptions, matmul } from './gemm.ts';
export { eighJacobi } from './jacobi.ts';
export { kron, kronMatvec, unvec, vec } from './kron.ts';
export { type Lu, type LuSolveOptions, lu, luSolve, substituteTriangle, type TriangleOptions } from './lu.ts';
export type { AnyNdArray, PrecisionOptions, Real, RealNdArray } from './ndarray.ts';
export { NdView } from './ndview.ts';
export { plainSolver } from './plain/solver.ts';
export { qr } from './qr.ts';
export { type Solver, setSolver } from './solver.ts';
export { type Singular, svd } from './svd.ts';
