// Cholesky factorisation in plain TypeScript and what follows from it: solving and inverting. Blocked, left-looking:
// Golub & Van Loan, Matrix Computations (4th ed.), §4.2.5–4.2.8.
import { block, gemm, transposed } from '../gemm.ts';

/** Rows or columns worked on at once; the rest of the arithmetic is gemm. */
const NB = 48;
/** Columns a gemm over a triangle takes at once: narrower skips more zeros and packs more often. */
const WIDE = 4 * NB;

/** L into the lower triangle of l [n, n]; −1, or the row of the first pivot that is not positive, left in its place. */
export function factor(n: number, l: Float64Array): number {
  for (let p = 0; p < n; p += NB) {
    const q = Math.min(n, p + NB);
    // Columns p to q, less what the columns before them explain.
    gemm(n - p, q - p, p, -1, block(l, p * n, n), block(l, p * n, 1, n), block(l, p * n + p, n));
    for (let i = p; i < n; i++) {
      for (let j = p; j < Math.min(i + 1, q); j++) {
        let sum = l[i * n + j]!;
        for (let k = p; k < j; k++) sum -= l[i * n + k]! * l[j * n + k]!;
        if (i !== j) l[i * n + j] = sum / l[j * n + j]!;
        else if (sum > 0) l[i * n + i] = Math.sqrt(sum);
        else {
          l[i * n + i] = sum;
          return i;
        }
      }
    }
  }
  return -1;
}

/** (L Lᵀ)⁻¹ = L⁻ᵀ L⁻¹ [n, n], of which the lower triangle is filled. */
export function invertFactor(n: number, l: Float64Array): Float64Array {
  const x = invertLower(n, l);
  const out = new Float64Array(n * n);
  for (let p = 0; p < n; p += NB) {
    const q = Math.min(n, p + NB);
    for (let j = 0; j < q; j += WIDE) {
      // Rows of L⁻¹ above p have nothing in the columns from p on.
      const left = transposed(block(x, p * n + p, n));
      gemm(q - p, Math.min(WIDE, q - j), n - p, 1, left, block(x, p * n + j, n), block(out, p * n + j, n));
    }
  }
  return out;
}

/** x [n, k] ← L⁻¹ x. */
export function solveLower(n: number, l: Float64Array, x: Float64Array, k: number): void {
  for (let p = 0; p < n; p += NB) {
    const q = Math.min(n, p + NB);
    gemm(q - p, k, p, -1, block(l, p * n, n), block(x, 0, k), block(x, p * k, k));
    solveDiagonalBlock(n, l, p, q, x, k, k);
  }
}

/** L⁻¹ [n, n], lower triangular: `solveLower` from the identity, without the zeros. */
function invertLower(n: number, l: Float64Array): Float64Array {
  const x = new Float64Array(n * n);
  for (let i = 0; i < n; i++) x[i * n + i] = 1;
  for (let p = 0; p < n; p += NB) {
    const q = Math.min(n, p + NB);
    for (let j = 0; j < p; j += WIDE) {
      const width = Math.min(WIDE, p - j);
      gemm(q - p, width, p - j, -1, block(l, p * n + j, n), block(x, j * n + j, n), block(x, p * n + j, n));
    }
    solveDiagonalBlock(n, l, p, q, x, n, q);
  }
  return x;
}

/** Rows p … q of x [·, k], their first `width` columns, by substitution; rows above are accounted for. */
function solveDiagonalBlock(
  n: number,
  l: Float64Array,
  p: number,
  q: number,
  x: Float64Array,
  k: number,
  width: number,
): void {
  for (let i = p; i < q; i++) {
    for (let j = p; j < i; j++) subtractRow(x, i * k, j * k, width, l[i * n + j]!);
    divideRow(x, i * k, width, l[i * n + i]!);
  }
}

/** x [n, k] ← L⁻ᵀ x. */
export function solveLowerTransposed(n: number, l: Float64Array, x: Float64Array, k: number): void {
  for (let q = n; q > 0; q -= NB) {
    const p = Math.max(0, q - NB);
    gemm(q - p, k, n - q, -1, block(l, q * n + p, 1, n), block(x, q * k, k), block(x, p * k, k));
    for (let i = q - 1; i >= p; i--) {
      for (let j = i + 1; j < q; j++) subtractRow(x, i * k, j * k, k, l[j * n + i]!);
      divideRow(x, i * k, k, l[i * n + i]!);
    }
  }
}

function subtractRow(x: Float64Array, to: number, from: number, length: number, factor: number): void {
  for (let j = 0; j < length; j++) x[to + j]! -= factor * x[from + j]!;
}

function divideRow(x: Float64Array, at: number, length: number, divisor: number): void {
  for (let j = 0; j < length; j++) x[at + j]! /= divisor;
}
