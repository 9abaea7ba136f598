// Divide and conquer for the symmetric tridiagonal eigenproblem: Cuppen (1981), Gu & Eisenstat (1995); deflation as in
// LAPACK's dlaed2. The matrix is torn into two halves plus a rank-one coupling, and a merge diagonalises D + ρ z zᵀ.
// Factors in training are of low rank more often than not, and there deflation saves most of the work. Eigenvalues and
// what decides on them are float64; T is the type of the vectors.
import { gemm } from './products';
import { identity, implicitQL } from './ql';
import { bytes, get, put, rotate, roundoff } from './rows';
import { solveSecular } from './secular';

/** Blocks up to this size go to implicit QL. */
const LEAF: i32 = 24;

/** Where the entries of an eigenvector are: in the columns of the first half, of the second, or of both. */
const FIRST: i32 = 0;
const BOTH: i32 = 1;
const SECOND: i32 = 2;

// What the recursion works on, set by `divideAndConquer`.
/** d [n], e [n]: the tridiagonal matrix; q [n, n]: eigenvectors as rows, each block on its own rows and columns. */
let d: usize = 0;
let e: usize = 0;
let q: usize = 0;
/** Bytes of a row of q. */
let ld: usize = 0;
/** Scratch: rows of q, [n, n] of T; eigenvectors of a merge, [n, n] of f64. */
let gathered: usize = 0;
let s: usize = 0;
/** Vectors of n f64. */
let z: usize = 0;
let poles: usize = 0;
let weights: usize = 0;
let roots: usize = 0;
let squares: usize = 0;
let line: usize = 0;
/** Vectors of n i32; `sort` swaps the first two. */
let order: usize = 0;
let other: usize = 0;
let kept: usize = 0;
let deflated: usize = 0;
let support: usize = 0;
let position: usize = 0;

/** Bytes of work that `divideAndConquer` needs. */
export function divideWork<T>(n: i32): f64 {
  const rows = <f64>n;
  return (sizeof<T>() + sizeof<f64>()) * rows * rows + 6 * (sizeof<f64>() + sizeof<i32>()) * rows + 64;
}

/**
 * Eigenvalues, unsorted, in d and the matching eigenvectors as rows of q [n, n], of the tridiagonal matrix with diagonal
 * d [n] and off-diagonal e [n] (the last unused, but overwritten). Expects a norm near 1 or above: tolerances count on
 * it. False where it does not converge.
 */
export function divideAndConquer<T>(n: i32, diagonal: usize, off: usize, vectors: usize, work: usize): bool {
  d = diagonal;
  e = off;
  q = vectors;
  ld = bytes<T>(n);
  const vector = bytes<f64>(n);
  s = work;
  z = s + vector * n;
  poles = z + vector;
  weights = poles + vector;
  roots = weights + vector;
  squares = roots + vector;
  line = squares + vector;
  gathered = line + vector;
  order = gathered + ld * n;
  const integers = bytes<i32>(n);
  other = order + integers;
  kept = other + integers;
  deflated = kept + integers;
  support = deflated + integers;
  position = support + integers;
  identity<T>(n, q, ld);
  return solve<T>(0, n);
}

/** Diagonalises the block of `size` rows from `start` on. */
function solve<T>(start: i32, size: i32): bool {
  if (size <= LEAF)
    return implicitQL<T>(size, d + bytes<f64>(start), e + bytes<f64>(start), corner<T>(start), ld);
  const half = size >> 1;
  const cut = start + half - 1;
  const coupling = get<f64>(e, cut);
  put<f64>(e, cut, 0);
  put<f64>(d, cut, get<f64>(d, cut) - abs(coupling));
  put<f64>(d, cut + 1, get<f64>(d, cut + 1) - abs(coupling));
  return solve<T>(start, half) && solve<T>(start + half, size - half) && merge<T>(start, half, size, coupling);
}

/** Where the block of q that starts at row `start` begins. */
// @ts-ignore: decorator
@inline
function corner<T>(start: i32): usize {
  return q + <usize>start * ld + bytes<T>(start);
}

function merge<T>(start: i32, half: i32, size: i32, coupling: f64): bool {
  const block = corner<T>(start);
  const values = d + bytes<f64>(start);
  const rho = 2 * abs(coupling);
  // z: last components of the first half's eigenvectors, first components of the second's, scaled to a unit vector.
  const ROOT_HALF = 0.7071067811865476;
  for (let i = 0; i < half; i++) put<f64>(z, i, <f64>get<T>(block + <usize>i * ld, half - 1) * ROOT_HALF);
  const sign = coupling < 0 ? -ROOT_HALF : ROOT_HALF;
  for (let i = half; i < size; i++) put<f64>(z, i, <f64>get<T>(block + <usize>i * ld, half) * sign);
  const k = deflate<T>(block, values, half, size, rho);

  // Rows with the same support side by side, so that two products skip the blocks of zeros.
  let first = 0;
  let both = 0;
  for (let i = 0; i < k; i++) {
    const where = get<i32>(support, get<i32>(kept, i));
    if (where == FIRST) first++;
    else if (where == BOTH) both++;
  }
  const row = bytes<T>(size);
  let p0 = 0;
  let p1 = first;
  let p2 = first + both;
  for (let i = 0; i < k; i++) {
    const from = get<i32>(kept, i);
    const where = get<i32>(support, from);
    const to = where == FIRST ? p0++ : where == BOTH ? p1++ : p2++;
    put<i32>(position, i, to);
    put<f64>(poles, i, get<f64>(values, from));
    put<f64>(weights, i, get<f64>(z, from));
    memory.copy(gathered + <usize>to * row, block + <usize>from * ld, row);
  }
  for (let i = k; i < size; i++) {
    const from = get<i32>(deflated, i - k);
    put<f64>(roots, i, get<f64>(values, from));
    memory.copy(gathered + <usize>i * row, block + <usize>from * ld, row);
  }
  if (k > 0 && !solveSecular<T>(k, poles, weights, rho, position, roots, s, squares, line)) return false;
  memory.copy(values, roots, bytes<f64>(size));

  // Where there is nothing to sum, k = 0 in the product, it writes zeros.
  gemm<T>(k, half, first + both, s, k, 1, gathered, size, 1, block, <i32>(ld / sizeof<T>()), false);
  gemm<T>(
    k, size - half, k - first,
    s + bytes<T>(first), k, 1,
    gathered + <usize>first * row + bytes<T>(half), size, 1,
    block + bytes<T>(half), <i32>(ld / sizeof<T>()), false,
  );
  for (let i = k; i < size; i++) memory.copy(block + <usize>i * ld, gathered + <usize>i * row, row);
  return true;
}

/**
 * Finds rows whose eigenpair the coupling does not change: z is negligible there, or becomes so by rotating two rows of
 * nearly equal eigenvalue. Returns how many are `kept`, ascending in eigenvalue; z, the values and the rows are rotated.
 */
function deflate<T>(block: usize, values: usize, half: i32, size: i32, rho: f64): i32 {
  let largest: f64 = 0;
  for (let i = 0; i < size; i++) {
    largest = max(largest, max(abs(get<f64>(values, i)), abs(get<f64>(z, i))));
    put<i32>(support, i, i < half ? FIRST : SECOND);
  }
  const tolerance = 8 * roundoff<T>() * largest;
  sort(size, values);
  let k = 0;
  let gone = 0;
  let previous = -1;
  for (let at = 0; at < size; at++) {
    const i = get<i32>(order, at);
    if (rho * abs(get<f64>(z, i)) <= tolerance) {
      put<i32>(deflated, gone++, i);
      continue;
    }
    if (previous >= 0) {
      const x = get<f64>(z, i);
      const y = get<f64>(z, previous);
      const tau = sqrt<f64>(x * x + y * y);
      const c = x / tau;
      const sine = -y / tau;
      const low = get<f64>(values, previous);
      const high = get<f64>(values, i);
      if (abs((high - low) * c * sine) <= tolerance) {
        put<f64>(z, i, tau);
        put<f64>(z, previous, 0);
        if (get<i32>(support, i) != get<i32>(support, previous)) {
          put<i32>(support, i, BOTH);
          put<i32>(support, previous, BOTH);
        }
        rotate<T>(size, block + <usize>previous * ld, block + <usize>i * ld, <T>c, <T>sine);
        put<f64>(values, previous, low * c * c + high * sine * sine);
        put<f64>(values, i, low * sine * sine + high * c * c);
        put<i32>(deflated, gone++, previous);
      } else put<i32>(kept, k++, previous);
    }
    previous = i;
  }
  if (previous >= 0) put<i32>(kept, k++, previous);
  return k;
}

/**
 * `order`, which it returns: the indices 0 … n − 1 by ascending keys [n], the first of equals first. Merge sort from the
 * bottom up. Works where `divideAndConquer` last worked.
 */
export function sort(n: i32, keys: usize): usize {
  let a = order;
  let b = other;
  for (let i = 0; i < n; i++) put<i32>(a, i, i);
  for (let width = 1; width < n; width <<= 1) {
    for (let low = 0; low < n; low += 2 * width) {
      const middle = min(low + width, n);
      const high = min(low + 2 * width, n);
      let i = low;
      let j = middle;
      for (let k = low; k < high; k++) {
        const left =
          j >= high || (i < middle && get<f64>(keys, get<i32>(a, i)) <= get<f64>(keys, get<i32>(a, j)));
        put<i32>(b, k, get<i32>(a, left ? i++ : j++));
      }
    }
    const swap = a;
    a = b;
    b = swap;
  }
  order = a;
  other = b;
  return order;
}
