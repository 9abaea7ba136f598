// Cholesky factorisation and what follows from it: solving and inverting symmetric positive definite matrices.
// Blocked, left-looking: Golub & Van Loan, Matrix Computations (4th ed.), §4.2.5–4.2.8.
import { describe, fail, NotPositiveDefiniteError } from './errors.ts';
import { block, gemm, transposed } from './gemm.ts';
import {
  type AnyNdArray,
  output,
  type RealNdArray,
  readFinite,
  readMatrix,
  readSymmetric,
  readVector,
  resultDtype,
} from './ndarray.ts';

/** Rows or columns worked on at once; the rest of the arithmetic is gemm. */
const NB = 48;
/** Columns a gemm over a triangle takes at once: narrower skips more zeros and packs more often. */
const WIDE = 4 * NB;

/**
 * Lower triangular L [n, n] with a = L Lᵀ and a positive diagonal; the upper triangle is zero.
 * Throws when `a` is not square, finite, symmetric (1e-6 of max|a| for float32, 1e-12 otherwise), and a
 * `NotPositiveDefiniteError` that names the first pivot that is not positive.
 */
export function cholesky(a: AnyNdArray): RealNdArray {
  const l = factor('cholesky', a);
  return output(l, [...a.shape], resultDtype(a));
}

/**
 * x with (L Lᵀ) x = b, for b [n] or [n, k]; x has b's shape. Reads the lower triangle of L only.
 * Throws when L is not square, not finite or has a zero on its diagonal, or when b has another number of rows.
 */
export function cholSolve(l: AnyNdArray, b: AnyNdArray): RealNdArray {
  const { rows: n, cols, data } = readFinite('cholSolve', l);
  if (n !== cols) fail('cholSolve', 'expected a square factor', describe(l));
  for (let i = 0; i < n; i++) {
    if (data[i * n + i] === 0) fail('cholSolve', 'singular factor', `${describe(l)} with 0 at [${i},${i}]`);
  }
  if (b.shape.length !== 1 && b.shape.length !== 2) fail('cholSolve', 'expected a vector or a matrix', describe(b));
  if (b.shape[0] !== n) fail('cholSolve', 'factor and right side differ in rows', describe(l), describe(b));
  const k = b.shape[1] ?? 1;
  const x = b.shape.length === 1 ? readVector('cholSolve', b) : readMatrix('cholSolve', b).data;
  solveLower(n, data, x, k);
  solveLowerTransposed(n, data, x, k);
  return output(x, [...b.shape], resultDtype(l, b));
}

/**
 * The inverse of a symmetric positive definite matrix [n, n], exactly symmetric. Not for general matrices: by way of
 * a = L Lᵀ, a⁻¹ = L⁻ᵀ L⁻¹. Throws as `cholesky` does.
 */
export function inverse(a: AnyNdArray): RealNdArray {
  const l = factor('inverse', a);
  const n = a.shape[0]!;
  const x = invertLower(n, l);
  const out = new Float64Array(n * n);
  for (let p = 0; p < n; p += NB) {
    for (let j = p; j < n; j += WIDE) {
      // Rows of L⁻¹ above j have nothing in the columns from j on.
      const left = transposed(block(x, j * n + p, n));
      const right = block(x, j * n + j, n);
      gemm(Math.min(NB, n - p), Math.min(WIDE, n - j), n - j, 1, left, right, block(out, p * n + j, n));
    }
  }
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) out[i * n + j] = out[j * n + i]!;
  }
  return output(out, [n, n], resultDtype(a));
}

function factor(operation: string, a: AnyNdArray): Float64Array {
  const { rows: n, data: l } = readSymmetric(operation, a);
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
        else throw new NotPositiveDefiniteError(operation, describe(a), i, sum);
      }
    }
  }
  for (let i = 0; i < n; i++) l.fill(0, i * n + i + 1, (i + 1) * n);
  return l;
}

/** x [n, k] ← L⁻¹ x. */
function solveLower(n: number, l: Float64Array, x: Float64Array, k: number): void {
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
function solveLowerTransposed(n: number, l: Float64Array, x: Float64Array, k: number): void {
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
