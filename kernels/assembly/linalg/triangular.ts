// Solving with a lower triangular matrix L [n, n], by halves, so that nearly all of the arithmetic is products. Distances
// of rows count elements. The diagonal is taken to be without zeros.
import { gemm } from './products';
import { axpy, bytes, combine, divide, dot, get, negated, put } from './rows';

/** Rows that are solved by substitution, and columns of x that one pass over them takes (which stay in the cache). */
const LEAF: i32 = 16;
const CHUNK: i32 = 256;
/** Up to so many columns are solved one by one. */
const FEW: i32 = 3;

/** Elements of work that a solution for x [n, k] needs. */
export function solveWork(n: i32): f64 {
  const half = <f64>((n >> 1) + LEAF);
  return half * half + <f64>(n + LEAF);
}

/** Where a matrix of n > LEAF rows is cut. */
// @ts-ignore: decorator
@inline
export function cutOf(n: i32): i32 {
  return ((n >> 1) + 7) & ~7;
}

/** −L21 [n − h, h] without gaps, for a product that subtracts. */
function minusLower<T>(n: i32, h: i32, l: usize, ld: i32, to: usize): void {
  for (let i = h; i < n; i++) negated<T>(h, l + bytes<T>(i) * ld, to + bytes<T>(i - h) * h);
}

/** x [n, k] ← L⁻¹ x */
export function solveLower<T>(n: i32, l: usize, ld: i32, x: usize, k: i32, xd: i32, work: usize): void {
  if (k <= FEW) return columns<T>(n, l, ld, x, k, xd, false, work);
  if (n > LEAF) {
    const h = cutOf(n);
    const below = x + bytes<T>(h) * xd;
    solveLower<T>(h, l, ld, x, k, xd, work);
    minusLower<T>(n, h, l, ld, work);
    gemm<T>(n - h, k, h, work, h, 1, x, xd, 1, below, xd, true);
    return solveLower<T>(n - h, l + bytes<T>(h) * (ld + 1), ld, below, k, xd, work);
  }
  for (let c = 0; c < k; c += CHUNK) {
    const width = min(CHUNK, k - c);
    const at = x + bytes<T>(c);
    for (let i = 0; i < n; i++) {
      const row = at + bytes<T>(i) * xd;
      const li = l + bytes<T>(i) * ld;
      negated<T>(i, li, work);
      combine<T>(i, width, at, bytes<T>(xd), work, sizeof<T>(), row);
      divide<T>(width, get<T>(li, i), row);
    }
  }
}

/** x [n, k] ← L⁻ᵀ x */
export function solveLowerTransposed<T>(n: i32, l: usize, ld: i32, x: usize, k: i32, xd: i32, work: usize): void {
  if (k <= FEW) return columns<T>(n, l, ld, x, k, xd, true, work);
  if (n > LEAF) {
    const h = cutOf(n);
    const below = x + bytes<T>(h) * xd;
    solveLowerTransposed<T>(n - h, l + bytes<T>(h) * (ld + 1), ld, below, k, xd, work);
    minusLower<T>(n, h, l, ld, work);
    gemm<T>(h, k, n - h, work, 1, h, below, xd, 1, x, xd, true);
    return solveLowerTransposed<T>(h, l, ld, x, k, xd, work);
  }
  for (let c = 0; c < k; c += CHUNK) {
    const width = min(CHUNK, k - c);
    const at = x + bytes<T>(c);
    for (let i = n - 1; i >= 0; i--) {
      const row = at + bytes<T>(i) * xd;
      for (let j = i + 1; j < n; j++) put<T>(work, j, -get<T>(l + bytes<T>(j) * ld, i));
      combine<T>(n - 1 - i, width, row + bytes<T>(xd), bytes<T>(xd), work + bytes<T>(i + 1), sizeof<T>(), row);
      divide<T>(width, get<T>(l + bytes<T>(i) * ld, i), row);
    }
  }
}

/** One column after the other, each contiguous while it is worked on. */
function columns<T>(n: i32, l: usize, ld: i32, x: usize, k: i32, xd: i32, transposed: bool, work: usize): void {
  for (let c = 0; c < k; c++) {
    for (let i = 0; i < n; i++) put<T>(work, i, get<T>(x, i * xd + c));
    if (transposed)
      for (let i = n - 1; i >= 0; i--) {
        const li = l + bytes<T>(i) * ld;
        const xi = get<T>(work, i) / get<T>(li, i);
        put<T>(work, i, xi);
        axpy<T>(i, -xi, li, work);
      }
    else
      for (let i = 0; i < n; i++) {
        const li = l + bytes<T>(i) * ld;
        put<T>(work, i, (get<T>(work, i) - dot<T>(i, li, work)) / get<T>(li, i));
      }
    for (let i = 0; i < n; i++) put<T>(x, i * xd + c, get<T>(work, i));
  }
}
