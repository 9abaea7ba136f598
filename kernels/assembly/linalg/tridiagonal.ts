// Blocked Householder reduction of a symmetric matrix to tridiagonal form. Golub & Van Loan, Matrix Computations (4th
// ed.), §8.3.1; blocking as in LAPACK's dlatrd: a panel of NB rows is reduced with the updates A − v wᵀ − w vᵀ pending,
// and then they reach the rest of the matrix in one product.
import { lanes, madd, shift, zero } from '../vector';
import { gemmUpper } from './products';
import { makeReflector } from './reflectors';
import { axpy, bytes, combine, dot, dots, get, put, scale, sumLanes } from './rows';

/** Rows of a panel. */
const NB: i32 = 16;

/** Bytes from row to row of the panels: a row of n elements, and never a power of two, for the caches' sake. */
// @ts-ignore: decorator
@inline
function panelRow<T>(n: i32): usize {
  return (bytes<T>(n) + 127) & ~63;
}

/** Bytes of work that `tridiagonalise` needs. */
export function tridiagonalWork<T>(n: i32): f64 {
  return (3 * NB + 1) * <f64>panelRow<T>(n);
}

/**
 * Reduces a [n, n], of which the upper triangle is read and overwritten: row k receives reflector k from column k + 1 on.
 * Diagonal d [n] and off-diagonal e [n] (of which n − 1 are used) are float64 whatever T is, tau [n] is not.
 */
export function tridiagonalise<T>(n: i32, a: usize, d: usize, e: usize, tau: usize, work: usize): void {
  const row = bytes<T>(n);
  const ld = panelRow<T>(n);
  // Three blocks of NB rows: V, −W and V again, so that [V −W] and [−W V] are both blocks of consecutive rows.
  const V = work;
  const W = V + <usize>NB * ld;
  const again = W + <usize>NB * ld;
  const coefficients = again + <usize>NB * ld;
  for (let p = 0; p < n; p += NB) {
    const nb = min(NB, n - p);
    for (let j = 0; j < nb; j++) {
      const i = p + j;
      const at = bytes<T>(i);
      const x = a + <usize>i * row + at;
      combine<T>(j, n - i, W + at, ld, V + at, ld, x);
      combine<T>(j, n - i, V + at, ld, W + at, ld, x);
      put<f64>(d, i, <f64>load<T>(x));
      const m = n - i - 1;
      if (m == 0) break;

      const next = at + sizeof<T>();
      const u = x + sizeof<T>();
      const v = V + <usize>j * ld + next;
      const w = W + <usize>j * ld + next;
      makeReflector<T>(m, u, coefficients, tau + at);
      put<f64>(e, i, <f64>load<T>(coefficients));
      memory.copy(v, u, bytes<T>(m));
      memory.copy(again + <usize>j * ld + next, u, bytes<T>(m));
      const t = get<T>(tau, i);
      if (t == <T>0) {
        memory.fill(w, 0, bytes<T>(m));
        continue;
      }
      // w = A v with the pending updates; then −w = −τ w + ½ τ² (wᵀv) v makes H A H = A − v wᵀ − w vᵀ.
      multiply<T>(m, a + <usize>(i + 1) * row + next, row, v, w);
      if (j > 0) {
        dots<T>(j, m, W + next, ld, v, coefficients);
        dots<T>(j, m, V + next, ld, v, coefficients + bytes<T>(j));
        combine<T>(j, m, V + next, ld, coefficients, sizeof<T>(), w);
        combine<T>(j, m, W + next, ld, coefficients + bytes<T>(j), sizeof<T>(), w);
      }
      scale<T>(m, -t, w);
      axpy<T>(m, <T>-0.5 * t * dot<T>(m, w, v), v, w);
    }
    const q = p + nb;
    const at = bytes<T>(q);
    const step = <i32>(ld >> shift<T>());
    gemmUpper<T>(n - q, 2 * nb, W + at, 1, step, V + at, step, 1, a + <usize>q * row + at, n);
  }
}

/** y ← A x for a symmetric A [n, n] whose upper triangle is stored, four rows at a time: each is read once. */
function multiply<T>(n: i32, a: usize, ld: usize, x: usize, y: usize): void {
  const size = sizeof<T>();
  memory.fill(y, 0, bytes<T>(n));
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const at = bytes<T>(i);
    const r0 = a + <usize>i * ld + at;
    const r1 = r0 + ld;
    const r2 = r1 + ld;
    const r3 = r2 + ld;
    const x0 = load<T>(x + at);
    const x1 = load<T>(x + at, size);
    const x2 = load<T>(x + at, 2 * size);
    const x3 = load<T>(x + at, 3 * size);
    // The block on the diagonal.
    const a01 = load<T>(r0, size);
    const a02 = load<T>(r0, 2 * size);
    const a03 = load<T>(r0, 3 * size);
    const a12 = load<T>(r1, 2 * size);
    const a13 = load<T>(r1, 3 * size);
    const a23 = load<T>(r2, 3 * size);
    let s0 = load<T>(r0) * x0 + a01 * x1 + a02 * x2 + a03 * x3;
    let s1 = a01 * x0 + load<T>(r1, size) * x1 + a12 * x2 + a13 * x3;
    let s2 = a02 * x0 + a12 * x1 + load<T>(r2, 2 * size) * x2 + a23 * x3;
    let s3 = a03 * x0 + a13 * x1 + a23 * x2 + load<T>(r3, 3 * size) * x3;

    const v0 = v128.splat<T>(x0);
    const v1 = v128.splat<T>(x1);
    const v2 = v128.splat<T>(x2);
    const v3 = v128.splat<T>(x3);
    let t0 = zero<T>();
    let t1 = zero<T>();
    let t2 = zero<T>();
    let t3 = zero<T>();
    let o: usize = 4 * size;
    const end = bytes<T>(n - i);
    const xs = x + at;
    const ys = y + at;
    for (; o + 16 <= end; o += 16) {
      const xj = v128.load(xs + o);
      let yj = v128.load(ys + o);
      const a0 = v128.load(r0 + o);
      yj = madd<T>(a0, v0, yj);
      t0 = madd<T>(a0, xj, t0);
      const a1 = v128.load(r1 + o);
      yj = madd<T>(a1, v1, yj);
      t1 = madd<T>(a1, xj, t1);
      const a2 = v128.load(r2 + o);
      yj = madd<T>(a2, v2, yj);
      t2 = madd<T>(a2, xj, t2);
      const a3 = v128.load(r3 + o);
      yj = madd<T>(a3, v3, yj);
      t3 = madd<T>(a3, xj, t3);
      v128.store(ys + o, yj);
    }
    s0 += sumLanes<T>(t0);
    s1 += sumLanes<T>(t1);
    s2 += sumLanes<T>(t2);
    s3 += sumLanes<T>(t3);
    for (; o < end; o += size) {
      const xj = load<T>(xs + o);
      const a0 = load<T>(r0 + o);
      const a1 = load<T>(r1 + o);
      const a2 = load<T>(r2 + o);
      const a3 = load<T>(r3 + o);
      store<T>(ys + o, load<T>(ys + o) + (a0 * x0 + a1 * x1 + (a2 * x2 + a3 * x3)));
      s0 += a0 * xj;
      s1 += a1 * xj;
      s2 += a2 * xj;
      s3 += a3 * xj;
    }
    store<T>(ys, load<T>(ys) + s0);
    store<T>(ys, load<T>(ys, size) + s1, size);
    store<T>(ys, load<T>(ys, 2 * size) + s2, 2 * size);
    store<T>(ys, load<T>(ys, 3 * size) + s3, 3 * size);
  }
  for (; i < n; i++) {
    const r = a + <usize>i * ld;
    const xi = get<T>(x, i);
    let sum = get<T>(r, i) * xi;
    for (let j = i + 1; j < n; j++) {
      const e = get<T>(r, j);
      sum += e * get<T>(x, j);
      put<T>(y, j, get<T>(y, j) + e * xi);
    }
    put<T>(y, i, get<T>(y, i) + sum);
  }
}
