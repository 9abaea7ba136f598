// The factorisations in plain TypeScript as a `Solver`: for where there is no SIMD, and the slow twin of the kernels in
// tests. In float64 whatever it is given.
import type { Complete } from '../solver.ts';
import { plainEigh } from './eigh.ts';
import { plainCholesky, plainCholInverse, plainQr, plainSolveLower } from './factorise.ts';

export const plainSolver: Complete = {
  eigh: plainEigh,
  cholesky: plainCholesky,
  cholInverse: plainCholInverse,
  solveLower: plainSolveLower,
  qr: plainQr,
};
