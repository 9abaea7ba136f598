// Cyclic Jacobi: the slow, obviously right twin of `eigh`, for tests. Golub & Van Loan, Matrix Computations (4th ed.),
// §8.5.2–8.5.3.
import { type Eigen, eigenOutput } from './eigh.ts';
import { type AnyNdArray, expectArguments, normalise, readSymmetric, resultDtype } from './ndarray.ts';

const MAX_SWEEPS = 50;

/** As `eigh`: same input, same result, same errors, O(n³) a sweep and some ten sweeps. */
export function eighJacobi(a: AnyNdArray): Eigen {
  expectArguments('eighJacobi', [a]);
  const { rows: n, data } = readSymmetric('eighJacobi', a);
  const scale = normalise(data);
  // Eigenvectors as rows: v a vᵀ, once it is diagonal.
  const v = new Float64Array(n * n);
  for (let i = 0; i < n; i++) v[i * n + i] = 1;
  for (let sweep = 0; rotateAll(n, data, v); sweep++) {
    if (sweep === MAX_SWEEPS) throw new Error(`eighJacobi: no convergence in ${MAX_SWEEPS} sweeps`);
  }
  const values = new Float64Array(n);
  for (let i = 0; i < n; i++) values[i] = data[i * n + i]!;
  return eigenOutput(values, v, scale, resultDtype(a));
}

/** One rotation for each pair p < q; false when there was nothing left to rotate. Entries are scaled to about 1. */
function rotateAll(n: number, a: Float64Array, v: Float64Array): boolean {
  let rotated = false;
  for (let p = 0; p < n; p++) {
    for (let q = p + 1; q < n; q++) {
      const apq = a[p * n + q]!;
      if (Math.abs(apq) <= 1e-17) continue;
      rotated = true;
      // t = tan of the smaller angle that zeroes a[p, q].
      const theta = (a[q * n + q]! - a[p * n + p]!) / (2 * apq);
      const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
      const c = 1 / Math.hypot(t, 1);
      const s = t * c;
      for (let k = 0; k < n; k++) rotate(a, k * n + p, k * n + q, c, s);
      for (let k = 0; k < n; k++) rotate(a, p * n + k, q * n + k, c, s);
      a[p * n + q] = a[q * n + p] = 0;
      for (let k = 0; k < n; k++) rotate(v, p * n + k, q * n + k, c, s);
    }
  }
  return rotated;
}

function rotate(data: Float64Array, p: number, q: number, c: number, s: number): void {
  const x = data[p]!;
  const y = data[q]!;
  data[p] = c * x - s * y;
  data[q] = s * x + c * y;
}
