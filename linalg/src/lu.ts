// LU factorisation of general square matrices, and systems with them and with triangles.
import { describe, fail } from './errors.ts';
import { type AnyNdArray, expectArguments, output, type RealNdArray, readMatrix, readVector } from './ndarray.ts';
import { factorLu, type Pivoting, solveLu, substitute } from './plain/lu.ts';

/** P a = L U: both in one matrix, as `lu` makes it. */
export type Lu = Pivoting & {
  /** [n, n], float64: U on and above the diagonal, L below it; the ones on the diagonal of L are left out. */
  readonly factors: Float64Array;
  readonly n: number;
  /** The first pivot that is 0, so that a is singular, or −1. */
  readonly zero: number;
};

/**
 * LU with partial pivoting of a square matrix, in float64. Row i of P a is row `order[i]` of a, and `parity` is det P. A singular
 * matrix is no error: `zero` tells. NaN and infinities pass through. Throws when `a` is not square.
 */
export function lu(a: AnyNdArray): Lu {
  expectArguments('lu', [a]);
  const { rows: n, cols, data } = readMatrix('lu', a);
  if (n !== cols) fail('lu', 'expected a square matrix', describe(a));
  const { order, parity } = factorLu(n, data);
  let zero = -1;
  for (let i = n - 1; i >= 0; i--) if (data[i * n + i] === 0) zero = i;
  return { factors: data, n, order, parity, zero };
}

export type LuSolveOptions = {
  /** Solve with aᵀ in place of a; defaults to false. */
  readonly transpose?: boolean;
};

/** x with a x = b, or aᵀ x = b, for b [n] or [n, k]; float64, in the shape of b. Throws when a is singular, or b has other rows. */
export function luSolve(a: Lu, b: AnyNdArray, o: LuSolveOptions = {}): RealNdArray {
  expectArguments('luSolve', [b], o, { transpose: [true, false] });
  if (!(a?.factors instanceof Float64Array)) fail('luSolve', 'expected what lu makes', String(a));
  if (a.zero >= 0) fail('luSolve', 'singular matrix', `pivot ${a.zero} of [${a.n},${a.n}] is 0`);
  if (b.shape[0] !== a.n) fail('luSolve', 'matrix and right side differ in rows', `[${a.n},${a.n}]`, describe(b));
  const data = b.shape.length === 1 ? readVector('luSolve', b) : readMatrix('luSolve', b).data;
  const k = b.shape[1] ?? 1;
  return output(solveLu(a.n, a.factors, a.order, data, k, o.transpose ?? false), [...b.shape], 'float64');
}

export type TriangleOptions = {
  /** Which triangle of a is read; defaults to the lower one. */
  readonly upper?: boolean;
  /** Solve with the transpose; defaults to false. */
  readonly transpose?: boolean;
  /** The diagonal counts as ones and is not read; defaults to false. */
  readonly unitriangular?: boolean;
};

/**
 * x with T x = b for a triangle T of a [n, n] and b [n, k]; float64. NaN and infinities pass through. Throws for a zero on the
 * diagonal, and when shapes do not fit.
 */
export function substituteTriangle(a: AnyNdArray, b: AnyNdArray, o: TriangleOptions = {}): RealNdArray {
  const flags = [true, false];
  expectArguments('substituteTriangle', [a, b], o, { upper: flags, transpose: flags, unitriangular: flags });
  const { upper = false, transpose: transposed = false, unitriangular: unit = false } = o;
  const { rows: n, cols, data } = readMatrix('substituteTriangle', a);
  if (n !== cols) fail('substituteTriangle', 'expected a square matrix', describe(a));
  const x = readMatrix('substituteTriangle', b);
  if (x.rows !== n) fail('substituteTriangle', 'matrix and right side differ in rows', describe(a), describe(b));
  for (let i = 0; i < n && !unit; i++)
    if (data[i * n + i] === 0) fail('substituteTriangle', 'singular matrix', `${describe(a)} with 0 at [${i},${i}]`);
  substitute(n, data, x.data, x.cols, { upper, transposed, unit });
  return output(x.data, [n, x.cols], 'float64');
}
