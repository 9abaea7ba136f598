// Implicit QL for small symmetric tridiagonal matrices, the leaves of divide and conquer. Golub & Van Loan, Matrix
// Computations (4th ed.), §8.3.5 (there as QR); EISPACK's tql2.

/** Unit roundoff of float64. */
export const EPS = 2 ** -53;

const MAX_SWEEPS = 60;

/**
 * Eigenvalues of the tridiagonal matrix with diagonal d[o … o+n) and off-diagonal e[o … o+n−1), left unsorted in d; e
 * is destroyed. Rows o … o+n of q [·, ld] receive the rotations in columns o … o+n: start from identity there, and row
 * o+i ends as the eigenvector of d[o+i] (eigenvectors as rows, so that a rotation works on contiguous memory). Expects
 * a matrix whose norm, other blocks included, is near 1 or above.
 */
export function implicitQL(o: number, n: number, d: Float64Array, e: Float64Array, q: Float64Array, ld: number): void {
  const last = o + n - 1;
  let size = EPS;
  for (let l = o; l <= last; l++) {
    // As in tql2, e counts as zero against the largest row so far, not against its neighbours: a matrix graded from
    // large to small would not converge otherwise. The error is still below EPS times the norm, and with a norm near 1
    // nothing under EPS² matters, whatever its block looks like.
    size = Math.max(size, Math.abs(d[l]!) + Math.abs(e[l]!));
    for (let sweep = 0; ; sweep++) {
      // The block [l, m] does not split; m = l means that d[l] is an eigenvalue.
      let m = l;
      while (m < last && Math.abs(e[m]!) > EPS * size) m++;
      if (m === l) break;
      if (sweep === MAX_SWEEPS) throw new Error(`eigh: QL did not converge in ${MAX_SWEEPS} sweeps`);

      // Wilkinson's shift, from the top of the block; then chase the bulge upwards.
      let g = (d[l + 1]! - d[l]!) / (2 * e[l]!);
      const root = Math.hypot(g, 1);
      g = d[m]! - d[l]! + e[l]! / (g >= 0 ? g + root : g - root);
      let s = 1;
      let c = 1;
      let p = 0;
      let i = m - 1;
      for (; i >= l; i--) {
        const f = s * e[i]!;
        const b = c * e[i]!;
        const r = Math.hypot(f, g);
        e[i + 1] = r;
        if (r === 0) break;
        s = f / r;
        c = g / r;
        g = d[i + 1]! - p;
        const t = (d[i]! - g) * s + 2 * c * b;
        p = s * t;
        d[i + 1] = g + p;
        g = c * t - b;
        rotateRows(q, (i + 1) * ld + o, i * ld + o, n, c, s);
      }
      if (i >= l) {
        // Underflow split the block; go on with what is left.
        d[i + 1]! -= p;
        e[m] = 0;
      } else {
        d[l]! -= p;
        e[l] = g;
        e[m] = 0;
      }
    }
  }
}

/** Rows x, y of q ← c x + s y, c y − s x. */
export function rotateRows(q: Float64Array, x: number, y: number, length: number, c: number, s: number): void {
  for (let j = 0; j < length; j++) {
    const a = q[x + j]!;
    const b = q[y + j]!;
    q[x + j] = c * a + s * b;
    q[y + j] = c * b - s * a;
  }
}
