// The singular value decomposition in plain TypeScript by one-sided Jacobi (Hestenes 1958; Drmač & Veselić 2008): rotations make
// the rows of R from a QR factorisation orthogonal. Every pair of rows is turned until it is orthogonal relative to its own
// lengths, which is more than what a decomposition of the Gram matrix could give.
import { block, gemm, transposed } from '../gemm.ts';

const EPS = 2 ** -52;
const MAX_SWEEPS = 60;
/** Squares below this have lost digits to underflow; max|a| is near 1, so such a row is zero. */
const TINY = 1e-280;

/** Rows i of u and v belong to values[i], descending. */
export type SingularRows = { readonly values: Float64Array; readonly u: Float64Array; readonly v: Float64Array };

const identity = (n: number): Float64Array => {
  const u = new Float64Array(n * n);
  for (let i = 0; i < n; i++) u[i * n + i] = 1;
  return u;
};

/**
 * uᵀ r = Σ values[i] uᵢ vᵢᵀ, with u [n, n] and v [n, n] orthogonal; max|r| near 1. Overwrites r. The rows of r were turned by those of `u`,
 * if it is given.
 */
export function jacobiSvd(n: number, r: Float64Array, u = identity(n)): SingularRows {
  for (let sweep = 0; orthogonalise(n, r, u); sweep++)
    if (sweep === MAX_SWEEPS) throw new Error(`svd: no convergence in ${MAX_SWEEPS} sweeps: [${n},${n}]`);
  const lengths = Float64Array.from({ length: n }, (_, i) => Math.sqrt(dot(r, i * n, i * n, n)));
  const order = Array.from(lengths.keys()).sort((i, j) => lengths[j]! - lengths[i]!);
  const out = { values: new Float64Array(n), u: new Float64Array(n * n), v: new Float64Array(n * n) };
  order.forEach((from, to) => {
    const length = lengths[from]! ** 2 < TINY ? 0 : lengths[from]!;
    out.values[to] = length;
    out.u.set(u.subarray(from * n, (from + 1) * n), to * n);
    if (length === 0) completeRow(n, out.v, to);
    else for (let j = 0; j < n; j++) out.v[to * n + j] = r[from * n + j]! / length;
  });
  return out;
}

/** One rotation for each pair of rows that are not orthogonal; false when there was none. The same is done to the rows of u. */
function orthogonalise(n: number, r: Float64Array, u: Float64Array): boolean {
  const tolerance = EPS * Math.sqrt(n);
  let rotated = false;
  for (let p = 0; p < n; p++)
    for (let q = p + 1; q < n; q++) {
      let [alpha, beta, gamma] = [0, 0, 0];
      for (let a = p * n, b = q * n, end = a + n; a < end; a++, b++) {
        const [x, y] = [r[a]!, r[b]!];
        alpha += x * x;
        beta += y * y;
        gamma += x * y;
      }
      if (alpha < TINY || beta < TINY || Math.abs(gamma) <= tolerance * Math.sqrt(alpha) * Math.sqrt(beta)) continue;
      rotated = true;
      const zeta = (beta - alpha) / (2 * gamma);
      const t = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(zeta, 1));
      const c = 1 / Math.hypot(t, 1);
      rotate(n, r, p, q, c, t * c);
      rotate(n, u, p, q, c, t * c);
    }
  return rotated;
}

function rotate(n: number, data: Float64Array, p: number, q: number, c: number, s: number): void {
  for (let a = p * n, b = q * n, end = a + n; a < end; a++, b++) {
    const [x, y] = [data[a]!, data[b]!];
    data[a] = c * x - s * y;
    data[b] = s * x + c * y;
  }
}

function dot(data: Float64Array, p: number, q: number, length: number): number {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += data[p + i]! * data[q + i]!;
  return sum;
}

/** Row `at` of v ← a unit vector orthogonal to the rows before: of the unit vectors that which they explain least, twice cleaned. */
function completeRow(n: number, v: Float64Array, at: number): void {
  let [best, least] = [0, Infinity];
  for (let j = 0; j < n; j++) {
    let explained = 0;
    for (let i = 0; i < at; i++) explained += v[i * n + j]! ** 2;
    if (explained < least) [best, least] = [j, explained];
  }
  const row = at * n;
  v[row + best] = 1;
  for (let pass = 0; pass < 2; pass++)
    for (let i = 0; i < at; i++) {
      const share = dot(v, i * n, row, n);
      for (let j = 0; j < n; j++) v[row + j]! -= share * v[i * n + j]!;
    }
  const length = Math.sqrt(dot(v, row, row, n));
  for (let j = 0; j < n; j++) v[row + j]! /= length;
}

/** q [m, n] times the columns that are the rows of `rows` [n, n], as columns [m, n]. */
export function turned(m: number, n: number, q: Float64Array, rows: Float64Array): Float64Array {
  const out = new Float64Array(m * n);
  gemm(m, n, n, 1, block(q, 0, n), transposed(block(rows, 0, n)), block(out, 0, n));
  return out;
}
