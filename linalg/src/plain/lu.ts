// LU factorisation with partial pivoting in plain TypeScript: Golub & Van Loan, Matrix Computations (4th ed.), §3.4.
// Rows are contiguous, so the elimination goes by rows: its order is k, i, j.

/** What `factorLu` leaves beside L and U: row i of P a is row order[i] of a, and det P. */
export type Pivoting = { readonly order: Int32Array; readonly parity: 1 | -1 };

/**
 * a [n, n] ← L below the diagonal, whose own ones are left out, and U on and above it, where P a = L U. The pivot is the first
 * element of its column of the largest magnitude, and NaN counts as largest. A column without any pivot is left as it is.
 */
export function factorLu(n: number, a: Float64Array): Pivoting {
  const order = Int32Array.from({ length: n }, (_, i) => i);
  let parity: 1 | -1 = 1;
  for (let k = 0; k < n; k++) {
    const row = pivotRow(n, a, k);
    if (row !== k) {
      swapRows(n, a, row, k);
      [order[row], order[k]] = [order[k]!, order[row]!];
      parity = parity === 1 ? -1 : 1;
    }
    const pivot = a[k * n + k]!;
    if (pivot === 0) continue;
    for (let i = k + 1; i < n; i++) {
      const factor = a[i * n + k]! / pivot;
      a[i * n + k] = factor;
      for (let j = k + 1; j < n; j++) a[i * n + j]! -= factor * a[k * n + j]!;
    }
  }
  return { order, parity };
}

function pivotRow(n: number, a: Float64Array, k: number): number {
  let [row, largest] = [k, -1];
  for (let i = k; i < n; i++) {
    const size = Math.abs(a[i * n + k]!);
    if (Number.isNaN(size)) return i;
    if (size > largest) [row, largest] = [i, size];
  }
  return row;
}

function swapRows(n: number, a: Float64Array, p: number, q: number): void {
  for (let j = 0; j < n; j++) {
    const kept = a[p * n + j]!;
    a[p * n + j] = a[q * n + j]!;
    a[q * n + j] = kept;
  }
}

/** A triangle of a matrix [n, n] as the one that is solved with; the rest of the matrix is not read. */
export type Triangle = {
  readonly upper: boolean;
  readonly transposed: boolean;
  /** Whether the diagonal counts as ones and is not read. */
  readonly unit: boolean;
};

/** x [n, k] ← T⁻¹ x, by substitution, for the triangle T of a [n, n] or its transpose. Division by 0 is as in IEEE 754. */
export function substitute(n: number, a: Float64Array, x: Float64Array, k: number, t: Triangle): void {
  const [down, across] = t.transposed ? [1, n] : [n, 1];
  const lower = t.upper === t.transposed;
  for (let step = 0; step < n; step++) {
    const i = lower ? step : n - 1 - step;
    for (let before = 0; before < step; before++) {
      const j = lower ? before : n - 1 - before;
      const factor = a[i * down + j * across]!;
      for (let c = 0; c < k; c++) x[i * k + c]! -= factor * x[j * k + c]!;
    }
    if (t.unit) continue;
    const divisor = a[i * n + i]!;
    for (let c = 0; c < k; c++) x[i * k + c]! /= divisor;
  }
}

/** a⁻¹ x, or a⁻ᵀ x if `transposed`, in an array of its own, for x [n, k] and what `factorLu` made of a. */
export function solveLu(
  n: number,
  lu: Float64Array,
  order: Int32Array,
  x: Float64Array,
  k: number,
  transposed: boolean,
): Float64Array {
  const [lower, upper] = [
    { upper: false, transposed, unit: true },
    { upper: true, transposed, unit: false },
  ];
  if (transposed) {
    const y = x.slice();
    substitute(n, lu, y, k, upper);
    substitute(n, lu, y, k, lower);
    const out = new Float64Array(n * k);
    for (let i = 0; i < n; i++) out.set(y.subarray(i * k, (i + 1) * k), order[i]! * k);
    return out;
  }
  const out = new Float64Array(n * k);
  for (let i = 0; i < n; i++) out.set(x.subarray(order[i]! * k, (order[i]! + 1) * k), i * k);
  substitute(n, lu, out, k, lower);
  substitute(n, lu, out, k, upper);
  return out;
}
