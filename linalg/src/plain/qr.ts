// QR factorisation in plain TypeScript by blocked Householder reflections: Golub & Van Loan, Matrix Computations (4th
// ed.), §5.2.1–5.2.3.
import { applyReflectors, makeReflector, type Reflectors } from './householder.ts';

/** Columns reduced one by one before the rest of the matrix hears of it. */
const NB = 32;

/** a [m, n] = q r with k = min(m, n): q [m, k], r [k, n] with a diagonal ≥ 0; max|a| near 1. */
export function reduced(m: number, n: number, a: Float64Array): { q: Float64Array; r: Float64Array } {
  const k = Math.min(m, n);
  // Transposed, so that columns of a are contiguous: row j of c is column j.
  const c = new Float64Array(n * m);
  for (let i = 0; i < m; i++) for (let j = 0; j < n; j++) c[j * m + i] = a[i * n + j]!;
  const diagonal = new Float64Array(k);
  const h: Reflectors = { data: c, cols: m, shift: 0, tau: new Float64Array(k) };
  for (let p = 0; p < k; p += NB) {
    const end = Math.min(k, p + NB);
    for (let j = p; j < end; j++) {
      const { beta, tau } = makeReflector(c, j * m + j, m - j);
      diagonal[j] = beta;
      h.tau[j] = tau;
      for (let i = j + 1; i < end; i++) reflectRow(c, j * m + j, i * m + j, m - j, tau);
    }
    applyReflectors(h, p, end, c, end, n - end, 'ascending');
  }
  // Columns of q, as rows: H₀ … H₍k₋₁₎ applied to the first k unit vectors.
  const columns = new Float64Array(k * m);
  for (let j = 0; j < k; j++) columns[j * m + j] = 1;
  applyReflectors(h, 0, k, columns, 0, k, 'descending');

  const q = new Float64Array(m * k);
  const r = new Float64Array(k * n);
  for (let i = 0; i < k; i++) {
    const sign = diagonal[i]! < 0 ? -1 : 1;
    r[i * n + i] = sign * diagonal[i]!;
    for (let j = i + 1; j < n; j++) r[i * n + j] = sign * c[j * m + i]!;
    for (let l = 0; l < m; l++) q[l * k + i] = sign * columns[i * m + l]!;
  }
  return { q, r };
}

/** x ← x − τ (vᵀx) v, both in `data`, v at `from` and x at `to`. */
function reflectRow(data: Float64Array, from: number, to: number, length: number, tau: number): void {
  let dot = 0;
  for (let l = 0; l < length; l++) dot += data[from + l]! * data[to + l]!;
  dot *= tau;
  for (let l = 0; l < length; l++) data[to + l]! -= dot * data[from + l]!;
}
