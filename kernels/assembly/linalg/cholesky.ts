// Cholesky factorisation by halves and the inverse that follows from it. Golub & Van Loan, Matrix Computations (4th ed.),
// §4.2.5–4.2.8; LAPACK's dpotrf2 is the same recursion.
import { gemm, gemmLower, packAt } from './products';
import { bytes, divide, dot, dots, get, negated, put, transpose } from './rows';
import { cutOf, solveLower, solveLowerTransposed, solveWork } from './triangular';

/** Rows that are factored one by one. */
const LEAF: i32 = 32;
/** Rows of the inverse of L found at once, and columns that a product over its triangle takes. */
const NB: i32 = 64;
const WIDE: i32 = 256;

/** Elements of work that `factor` needs. */
function factorWork(n: i32): f64 {
  const half = (n >> 1) + 8;
  return 2 * <f64>half * <f64>half + solveWork(half);
}

/** L with A = L Lᵀ into the lower triangle of a [n, n]; −1, or the row of the first pivot that is not positive. */
function factor<T>(n: i32, a: usize, ld: i32, work: usize): i32 {
  if (n <= LEAF) return factorLeaf<T>(n, a, ld, work);
  const h = cutOf(n);
  const m = n - h;
  const failed = factor<T>(h, a, ld, work);
  if (failed >= 0) return failed;
  const below = a + bytes<T>(h) * ld;
  const rest = below + bytes<T>(h);
  const row = bytes<T>(ld);
  // W = L21ᵀ [h, m] from L11 W = A21ᵀ; then A22 − Wᵀ W.
  const w = work;
  const minus = w + bytes<T>(h) * m;
  transpose<T>(m, h, below, row, w, bytes<T>(m));
  solveLower<T>(h, a, ld, w, m, m, minus);
  transpose<T>(h, m, w, bytes<T>(m), below, row);
  negated<T>(h * m, w, minus);
  gemmLower<T>(m, h, minus, 1, m, w, m, 1, rest, ld);
  const pivot = factor<T>(m, rest, ld, work);
  return pivot < 0 ? pivot : h + pivot;
}

function factorLeaf<T>(n: i32, a: usize, ld: i32, work: usize): i32 {
  const row = bytes<T>(ld);
  for (let j = 0; j < n; j++) {
    const rj = a + <usize>j * row;
    const square = get<T>(rj, j) - dot<T>(j, rj, rj);
    if (!(square > <T>0)) {
      put<T>(rj, j, square);
      return j;
    }
    const pivot = sqrt<T>(square);
    put<T>(rj, j, pivot);
    dots<T>(n - j - 1, j, rj + row, row, rj, work);
    for (let i = j + 1; i < n; i++) {
      const ri = a + <usize>i * row;
      put<T>(ri, j, (get<T>(ri, j) - get<T>(work, i - j - 1)) / pivot);
    }
  }
  return -1;
}

/** Elements of work that `invert` needs. */
function invertWork(n: i32): f64 {
  return <f64>n * <f64>(n + NB) + solveWork(NB);
}

/** The lower triangle of (L Lᵀ)⁻¹ = L⁻ᵀ L⁻¹ in place of L [n, n]; the rest of a is anything. */
function invert<T>(n: i32, a: usize, work: usize): void {
  const x = work;
  const minus = x + bytes<T>(n) * n;
  const steps = minus + bytes<T>(NB) * n;
  memory.fill(x, 0, bytes<T>(n) * n);
  // X = L⁻¹, without the zeros above its diagonal.
  for (let p = 0; p < n; p += NB) {
    const nb = min(NB, n - p);
    for (let i = 0; i < nb; i++) negated<T>(p, a + bytes<T>(p + i) * n, minus + bytes<T>(i) * p);
    for (let i = p; i < p + nb; i++) put<T>(x + bytes<T>(i) * n, i, <T>1);
    for (let j = 0; j < p; j += WIDE)
      gemm<T>(
        nb, min(WIDE, p - j), p - j,
        minus + bytes<T>(j), p, 1,
        x + bytes<T>(j) * (n + 1), n, 1,
        x + bytes<T>(p) * n + bytes<T>(j), n, false,
      );
    solveLower<T>(nb, a + bytes<T>(p) * (n + 1), n, x + bytes<T>(p) * n, p + nb, n, steps);
  }
  // Column i of X begins in row i.
  for (let i = 0; i < n; i += 2 * NB) {
    const rows = min(2 * NB, n - i);
    const from = x + bytes<T>(i) * n;
    gemm<T>(rows, i + rows, n - i, from + bytes<T>(i), 1, n, from, n, 1, a + bytes<T>(i) * n, n, false);
  }
}

/** Bytes of work for `cholesky` of an [n, n]. */
export function choleskyWork_f32(n: i32): f64 {
  return sizeof<f32>() * factorWork(n);
}

export function choleskyWork_f64(n: i32): f64 {
  return sizeof<f64>() * factorWork(n);
}

/**
 * L with A = L Lᵀ into the lower triangle of a [n, n], of which the upper one is left as anything. −1, or the row of the
 * first pivot that is not positive, which is in its place on the diagonal then.
 */
export function cholesky_f32(n: i32, a: usize, work: usize, scratch: usize): i32 {
  packAt(scratch);
  return factor<f32>(n, a, n, work);
}

export function cholesky_f64(n: i32, a: usize, work: usize, scratch: usize): i32 {
  packAt(scratch);
  return factor<f64>(n, a, n, work);
}

/** Bytes of work for `cholInverse` of an [n, n]. */
export function cholInverseWork_f32(n: i32): f64 {
  return sizeof<f32>() * invertWork(n);
}

export function cholInverseWork_f64(n: i32): f64 {
  return sizeof<f64>() * invertWork(n);
}

/** The lower triangle of (L Lᵀ)⁻¹ in place of L [n, n], of which the lower triangle is read; the upper one is anything. */
export function cholInverse_f32(n: i32, a: usize, work: usize, scratch: usize): void {
  packAt(scratch);
  invert<f32>(n, a, work);
}

export function cholInverse_f64(n: i32, a: usize, work: usize, scratch: usize): void {
  packAt(scratch);
  invert<f64>(n, a, work);
}

/** Bytes of work for `solveLower` with L [n, n]. */
export function solveLowerWork_f32(n: i32): f64 {
  return sizeof<f32>() * solveWork(n);
}

export function solveLowerWork_f64(n: i32): f64 {
  return sizeof<f64>() * solveWork(n);
}

/** x [n, k] ← L⁻¹ x, or L⁻ᵀ x, for a lower triangular l [n, n] without zeros on its diagonal. */
export function solveLower_f32(n: i32, l: usize, x: usize, k: i32, transposed: bool, work: usize, scratch: usize): void {
  packAt(scratch);
  if (transposed) solveLowerTransposed<f32>(n, l, n, x, k, k, work);
  else solveLower<f32>(n, l, n, x, k, k, work);
}

export function solveLower_f64(n: i32, l: usize, x: usize, k: i32, transposed: bool, work: usize, scratch: usize): void {
  packAt(scratch);
  if (transposed) solveLowerTransposed<f64>(n, l, n, x, k, k, work);
  else solveLower<f64>(n, l, n, x, k, k, work);
}
