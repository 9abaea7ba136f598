// Implicit QL for small symmetric tridiagonal matrices, the leaves of divide and conquer. Golub & Van Loan, Matrix
// Computations (4th ed.), §8.3.5 (there as QR); EISPACK's tql2. Scalars are float64 whatever T, that of the vectors, is.
import { bytes, get, put, rotate, roundoff } from './rows';

const MAX_SWEEPS: i32 = 60;

/** √(x² + y²) for numbers not above 1e150; without a loss where squares underflow. */
function hypotenuse(x: f64, y: f64): f64 {
  const square = x * x + y * y;
  if (square > 1e-280) return sqrt<f64>(square);
  x *= 1e150;
  y *= 1e150;
  return sqrt<f64>(x * x + y * y) / 1e150;
}

/**
 * Eigenvalues of the tridiagonal matrix with diagonal d [n] and off-diagonal e [n − 1], left unsorted in d; e is
 * destroyed. Rows of q [n, n], `ld` bytes apart, receive the rotations: start from the identity, and row i ends as the
 * eigenvector of d[i]. Expects a matrix whose norm, with the blocks around it, is near 1 or above. False where it does
 * not converge.
 */
export function implicitQL<T>(n: i32, d: usize, e: usize, q: usize, ld: usize): bool {
  const last = n - 1;
  let size = roundoff<T>();
  for (let l = 0; l < n; l++) {
    // As in tql2, e counts as zero against the largest row so far, not against its neighbours: a matrix graded from
    // large to small would not converge otherwise. The error is still below the roundoff times the norm, and with a norm
    // near 1 nothing under its square matters, whatever the block looks like.
    size = max(size, abs(get<f64>(d, l)) + (l < last ? abs(get<f64>(e, l)) : 0));
    for (let sweep = 0; ; sweep++) {
      // The block [l, m] does not split; m = l means that d[l] is an eigenvalue.
      let m = l;
      while (m < last && abs(get<f64>(e, m)) > roundoff<T>() * size) m++;
      if (m == l) break;
      if (sweep == MAX_SWEEPS) return false;

      // Wilkinson's shift, from the top of the block; then chase the bulge upwards.
      let g = (get<f64>(d, l + 1) - get<f64>(d, l)) / (2 * get<f64>(e, l));
      const root = sqrt<f64>(g * g + 1);
      g = get<f64>(d, m) - get<f64>(d, l) + get<f64>(e, l) / (g >= 0 ? g + root : g - root);
      let s: f64 = 1;
      let c: f64 = 1;
      let p: f64 = 0;
      let i = m - 1;
      let split = false;
      for (; i >= l; i--) {
        const f = s * get<f64>(e, i);
        const b = c * get<f64>(e, i);
        const r = hypotenuse(f, g);
        if (i + 1 < last) put<f64>(e, i + 1, r);
        if (r == 0) {
          split = true;
          break;
        }
        s = f / r;
        c = g / r;
        g = get<f64>(d, i + 1) - p;
        const t = (get<f64>(d, i) - g) * s + 2 * c * b;
        p = s * t;
        put<f64>(d, i + 1, g + p);
        g = c * t - b;
        rotate<T>(n, q + <usize>(i + 1) * ld, q + <usize>i * ld, <T>c, <T>s);
      }
      if (split) {
        // Underflow split the block; go on with what is left.
        put<f64>(d, i + 1, get<f64>(d, i + 1) - p);
      } else {
        put<f64>(d, l, get<f64>(d, l) - p);
        put<f64>(e, l, g);
      }
      if (m < last) put<f64>(e, m, 0);
    }
  }
  return true;
}

/** The n rows of q, `ld` bytes apart, ← the identity. */
export function identity<T>(n: i32, q: usize, ld: usize): void {
  for (let i = 0; i < n; i++) {
    memory.fill(q + <usize>i * ld, 0, bytes<T>(n));
    put<T>(q + <usize>i * ld, i, <T>1);
  }
}
