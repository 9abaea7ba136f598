// Cholesky and QR in plain TypeScript, as `Solver` has them.
import type { Complete } from '../solver.ts';
import { factor, invertFactor, solveLower, solveLowerTransposed } from './cholesky.ts';
import { reduced } from './qr.ts';
import { inFloat64 } from './wide.ts';

export const plainCholesky: Complete['cholesky'] = (n, a) => inFloat64(a, wide => factor(n, wide));

export const plainCholInverse: Complete['cholInverse'] = (n, l) =>
  inFloat64(l, wide => wide.set(invertFactor(n, wide)));

export const plainSolveLower: Complete['solveLower'] = (n, l, x, k, transposed) =>
  inFloat64(x, wide => (transposed ? solveLowerTransposed : solveLower)(n, new Float64Array(l), wide, k));

export const plainQr: Complete['qr'] = (m, n, a, q, r) =>
  inFloat64(a, wide => {
    const found = reduced(m, n, wide);
    q.set(found.q);
    r.set(found.r);
  });
