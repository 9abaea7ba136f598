// What surrounds a factorisation of a symmetric matrix: checks on the way in, layout on the way out.
import { lanes, zero } from '../vector';
import { bytes, divide, get, scale } from './rows';

/** A line of the cache each of so many rows: powers of two fall on the same eight ways. */
const TILE: i32 = 8;

/** Largest |x| of n, NaN if there is one among them. */
function largest<T>(n: i32, x: usize): T {
  let m = zero<T>();
  let unordered = zero<T>();
  for (; n >= lanes<T>(); n -= lanes<T>()) {
    // NOTE: `max`, which keeps NaN itself, is seven instructions.
    const y = v128.load(x);
    m = v128.pmax<T>(m, v128.abs<T>(y));
    unordered = v128.or(unordered, v128.ne<T>(y, y));
    x += 16;
  }
  if (v128.any_true(unordered)) return <T>NaN;
  m = v128.pmax<T>(m, v128.shuffle<f64>(m, m, 1, 0));
  if (sizeof<T>() == 4) m = v128.pmax<T>(m, v128.shuffle<f32>(m, m, 1, 0, 3, 2));
  let most = v128.extract_lane<T>(m, 0);
  for (; n > 0; n--) {
    most = max<T>(most, abs<T>(load<T>(x)));
    x += sizeof<T>();
  }
  return most;
}

/** max|a|, or −1 where a [n, n] is not finite or not symmetric within tolerance · max|a|; less than that is averaged away. */
function symmetrise<T>(n: i32, a: usize, tolerance: f64): f64 {
  const most = <f64>largest<T>(n * n, a);
  if (!(most < Infinity)) return -1;
  const bound = tolerance * most;
  const row = bytes<T>(n);
  for (let i0 = 0; i0 < n; i0 += TILE)
    for (let j0 = 0; j0 <= i0; j0 += TILE)
      for (let i = i0; i < min(i0 + TILE, n); i++) {
        let p = a + <usize>i * row + bytes<T>(j0);
        let q = a + <usize>j0 * row + bytes<T>(i);
        for (let j = j0; j < min(j0 + TILE, i); j++) {
          const lower = load<T>(p);
          const upper = load<T>(q);
          if (lower != upper) {
            if (abs(<f64>lower - <f64>upper) > bound) return -1;
            const mean = <T>0.5 * lower + <T>0.5 * upper;
            store<T>(p, mean);
            store<T>(q, mean);
          }
          p += sizeof<T>();
          q += row;
        }
      }
  return most;
}

/** The upper triangle of a [n, n] ← the lower one. */
function mirror<T>(n: i32, a: usize): void {
  const row = bytes<T>(n);
  for (let i0 = 0; i0 < n; i0 += TILE)
    for (let j0 = 0; j0 <= i0; j0 += TILE)
      for (let i = i0; i < min(i0 + TILE, n); i++) {
        let p = a + <usize>i * row + bytes<T>(j0);
        let q = a + <usize>j0 * row + bytes<T>(i);
        for (let j = j0; j < min(j0 + TILE, i); j++) {
          store<T>(q, load<T>(p));
          p += sizeof<T>();
          q += row;
        }
      }
}

/** x [n] ← ±x, so that the first entry within 1e-6 of the largest is positive. */
function turn<T>(n: i32, x: usize): void {
  const bound = <f64>largest<T>(n, x) * (1 - 1e-6);
  for (let i = 0; i < n; i++) {
    const y = <f64>get<T>(x, i);
    if (abs(y) < bound) continue;
    if (y < 0) scale<T>(n, <T>-1, x);
    return;
  }
}

/** Rows of vectors [n, n], turned and in the order of `order` [n] of i32, into the columns of out [n, n]. */
export function columns<T>(n: i32, vectors: usize, order: usize, out: usize): void {
  const row = bytes<T>(n);
  for (let j = 0; j < n; j++) turn<T>(n, vectors + <usize>j * row);
  for (let j0 = 0; j0 < n; j0 += TILE)
    for (let i0 = 0; i0 < n; i0 += TILE)
      for (let j = j0; j < min(j0 + TILE, n); j++) {
        let p = vectors + <usize>get<i32>(order, j) * row + bytes<T>(i0);
        let q = out + <usize>i0 * row + bytes<T>(j);
        for (let i = i0; i < min(i0 + TILE, n); i++) {
          store<T>(q, load<T>(p));
          p += sizeof<T>();
          q += row;
        }
      }
}

export function symmetrise_f32(n: i32, a: usize, tolerance: f64): f64 {
  return symmetrise<f32>(n, a, tolerance);
}

export function symmetrise_f64(n: i32, a: usize, tolerance: f64): f64 {
  return symmetrise<f64>(n, a, tolerance);
}

export function mirror_f32(n: i32, a: usize): void {
  mirror<f32>(n, a);
}

export function mirror_f64(n: i32, a: usize): void {
  mirror<f64>(n, a);
}

/** Zeros above the diagonal of a [n, n]. */
function lowerOnly<T>(n: i32, a: usize): void {
  for (let i = 0; i < n; i++) memory.fill(a + bytes<T>(i) * (n + 1) + sizeof<T>(), 0, bytes<T>(n - 1 - i));
}

export function lowerOnly_f32(n: i32, a: usize): void {
  lowerOnly<f32>(n, a);
}

export function lowerOnly_f64(n: i32, a: usize): void {
  lowerOnly<f64>(n, a);
}

/** x [n] ← x / by */
export function divide_f32(n: i32, by: f64, x: usize): void {
  divide<f32>(n, <f32>by, x);
}

export function divide_f64(n: i32, by: f64, x: usize): void {
  divide<f64>(n, by, x);
}
