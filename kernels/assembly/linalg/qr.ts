// QR factorisation by blocked Householder reflections: Golub & Van Loan, Matrix Computations (4th ed.), §5.2.1–5.2.3.
import { packAt } from './products';
import { applyReflectors, applyWork, makeReflector } from './reflectors';
import { axpy, bytes, dots, get, put, scale, transpose } from './rows';

/** Columns reduced one by one before the rest of the matrix hears of it. */
const NB: i32 = 32;

function workOf<T>(m: i32, n: i32): f64 {
  const k = min(m, n);
  return sizeof<T>() * (<f64>(n + k) * <f64>m + <f64>(2 * k + NB) + applyWork(k, n, m)) + 64;
}

function factor<T>(m: i32, n: i32, a: usize, q: usize, r: usize, work: usize): void {
  const k = min(m, n);
  const row = bytes<T>(m);
  // Columns of a as rows, so that they are contiguous; then those of q.
  const c = work;
  const columns = c + <usize>n * row;
  const beta = columns + <usize>k * row;
  const tau = beta + bytes<T>(k);
  const coefficients = tau + bytes<T>(k);
  const steps = (coefficients + bytes<T>(NB) + 63) & ~63;
  transpose<T>(m, n, a, bytes<T>(n), c, row);
  for (let p = 0; p < k; p += NB) {
    const end = min(k, p + NB);
    for (let j = p; j < end; j++) {
      const v = c + <usize>j * row + bytes<T>(j);
      makeReflector<T>(m - j, v, beta + bytes<T>(j), tau + bytes<T>(j));
      dots<T>(end - j - 1, m - j, v + row, row, v, coefficients);
      const t = get<T>(tau, j);
      for (let i = j + 1; i < end; i++) axpy<T>(m - j, -t * get<T>(coefficients, i - j - 1), v, v + <usize>(i - j) * row);
    }
    applyReflectors<T>(c, m, 0, tau, p, end, c + <usize>end * row, n - end, false, false, steps);
  }
  transpose<T>(n, k, c, row, r, bytes<T>(n));
  for (let i = 0; i < k; i++) memory.fill(columns + <usize>i * row, 0, row);
  for (let i = 0; i < k; i++) put<T>(columns + <usize>i * row, i, <T>1);
  // Columns of q: H₀ … H₍k₋₁₎ applied to the first k unit vectors.
  applyReflectors<T>(c, m, 0, tau, 0, k, columns, k, true, true, steps);
  for (let i = 0; i < k; i++) {
    const to = r + bytes<T>(i) * n;
    const x = get<T>(beta, i);
    memory.fill(to, 0, bytes<T>(i));
    put<T>(to, i, x);
    if (x >= <T>0) continue;
    scale<T>(n - i, <T>-1, to + bytes<T>(i));
    scale<T>(m, <T>-1, columns + <usize>i * row);
  }
  transpose<T>(k, m, columns, row, q, bytes<T>(k));
}

/** Bytes of work for `qr` of an [m, n]. */
export function qrWork_f32(m: i32, n: i32): f64 {
  return workOf<f32>(m, n);
}

export function qrWork_f64(m: i32, n: i32): f64 {
  return workOf<f64>(m, n);
}

/** a [m, n] = q r, k = min(m, n): q [m, k] orthonormal, r [k, n] upper triangular with a diagonal ≥ 0. a is kept. */
export function qr_f32(m: i32, n: i32, a: usize, q: usize, r: usize, work: usize, scratch: usize): void {
  packAt(scratch);
  factor<f32>(m, n, a, q, r, work);
}

export function qr_f64(m: i32, n: i32, a: usize, q: usize, r: usize, work: usize, scratch: usize): void {
  packAt(scratch);
  factor<f64>(m, n, a, q, r, work);
}
