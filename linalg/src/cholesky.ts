// Cholesky factorisation and what follows from it: solving and inverting symmetric positive definite matrices.
import { describe, fail, NotPositiveDefiniteError } from './errors.ts';
import { choleskyKernel, cholInverseKernel, solveLowerKernel } from './kernels-factorise.ts';
import {
  type AnyNdArray,
  converted,
  expectArguments,
  expectPrecision,
  forLower,
  output,
  PRECISION,
  type PrecisionOptions,
  type Real,
  type RealDtype,
  type RealNdArray,
  readFinite,
  readMatrix,
  readSymmetric,
  readVector,
  resultDtype,
} from './ndarray.ts';
import { plainCholesky, plainCholInverse, plainSolveLower } from './plain/factorise.ts';
import { type Complete, replaced } from './solver.ts';

const ownCholInverse: Complete['cholInverse'] = (n, l) => {
  if (!cholInverseKernel(n, l)) plainCholInverse(n, l);
};
const ownSolveLower: Complete['solveLower'] = (n, l, x, k, transposed) => {
  if (!solveLowerKernel(n, l, x, k, transposed)) plainSolveLower(n, l, x, k, transposed);
};
/** x [n, k] ← L⁻¹ x, or L⁻ᵀ x if `transposed`. */
const solveLower: Complete['solveLower'] = (...x) => (replaced().solveLower ?? ownSolveLower)(...x);

/**
 * Lower triangular L [n, n] with a = L Lᵀ and a positive diagonal; the upper triangle is zero.
 * Throws when `a` is not square, finite, symmetric (1e-6 of max|a| for float32, 1e-12 otherwise), and a
 * `NotPositiveDefiniteError` that names the first pivot that is not positive.
 */
export function cholesky(a: AnyNdArray, o: PrecisionOptions = {}): RealNdArray {
  expectArguments('cholesky', [a], o, PRECISION);
  const { precision = 'float64' } = o;
  const l = factor('cholesky', a, precision, resultDtype(a));
  return output(l, [...a.shape], resultDtype(a));
}

/**
 * x with (L Lᵀ) x = b, for b [n] or [n, k]; x has b's shape. Reads the lower triangle of L only.
 * Throws when L is not square, not finite or has a zero on its diagonal, or when b has another number of rows.
 */
export function cholSolve(l: AnyNdArray, b: AnyNdArray, o: PrecisionOptions = {}): RealNdArray {
  expectArguments('cholSolve', [l, b], o, PRECISION);
  const { precision = 'float64' } = o;
  const { n, data, x, k } = readSystem('cholSolve', l, b, precision);
  solveLower(n, data, x, k, false);
  solveLower(n, data, x, k, true);
  return output(x, [...b.shape], resultDtype(l, b));
}

export type TriangularOptions = PrecisionOptions & {
  /** Solve with Lᵀ in place of L; defaults to false. */
  readonly transpose?: boolean;
};

/**
 * x with L x = b, or Lᵀ x = b, for b [n] or [n, k]; x has b's shape. Reads the lower triangle of L only, so an upper
 * triangular r is solved as `solveTriangular(r.transpose(1, 0), b, { transpose: true })`. Throws as `cholSolve` does.
 */
export function solveTriangular(l: AnyNdArray, b: AnyNdArray, o: TriangularOptions = {}): RealNdArray {
  expectArguments('solveTriangular', [l, b], o, { ...PRECISION, transpose: [true, false] });
  const { transpose = false, precision = 'float64' } = o;
  const { n, data, x, k } = readSystem('solveTriangular', l, b, precision);
  solveLower(n, data, x, k, transpose);
  return output(x, [...b.shape], resultDtype(l, b));
}

/**
 * x with a x = b for a symmetric positive definite a [n, n] and b [n] or [n, k], by way of a = L Lᵀ. Not for general
 * matrices. Throws as `cholesky` does, and when b has another number of rows.
 */
export function solve(a: AnyNdArray, b: AnyNdArray, o: PrecisionOptions = {}): RealNdArray {
  expectArguments('solve', [a, b], o, PRECISION);
  const { precision = 'float64' } = o;
  const l = factor('solve', a, precision, precision);
  const n = a.shape[0]!;
  expectPrecision('solve', precision, a, b);
  const { x, k } = readRight('solve', a, n, b, precision);
  solveLower(n, l, x, k, false);
  solveLower(n, l, x, k, true);
  return output(x, [...b.shape], resultDtype(a, b));
}

/**
 * The inverse of a symmetric positive definite matrix [n, n], exactly symmetric. Not for general matrices: by way of
 * a = L Lᵀ, a⁻¹ = L⁻ᵀ L⁻¹. Throws as `cholesky` does.
 */
export function inverse(a: AnyNdArray, o: PrecisionOptions = {}): RealNdArray {
  expectArguments('inverse', [a], o, PRECISION);
  const { precision = 'float64' } = o;
  expectPrecision('inverse', precision, a);
  const { cholesky, cholInverse } = replaced(a.shape[0]);
  if (cholesky === undefined && cholInverse === undefined) {
    const found = choleskyKernel('inverse', a, precision, 'inverse', resultDtype(a));
    if (found !== null) return output(found, [...a.shape], resultDtype(a));
  }
  const x = factor('inverse', a, precision, precision);
  const n = a.shape[0]!;
  (replaced().cholInverse ?? ownCholInverse)(n, x);
  forLower(n, (lower, upper) => {
    x[upper] = x[lower]!;
  });
  return output(x, [n, n], resultDtype(a));
}

/** L [n, n], zero above the diagonal, in a fresh array of `dtype` or `precision`. */
function factor(operation: string, a: AnyNdArray, precision: RealDtype, dtype: RealDtype): Real {
  expectPrecision(operation, precision, a);
  const found =
    replaced(a.shape[0]).cholesky === undefined ? choleskyKernel(operation, a, precision, 'factor', dtype) : null;
  if (found !== null) return found;
  const { rows: n, data } = readSymmetric(operation, a);
  const l = converted(data, precision);
  const pivot = (replaced().cholesky ?? plainCholesky)(n, l);
  if (pivot >= 0) throw new NotPositiveDefiniteError(operation, describe(a), pivot, l[pivot * n + pivot]!);
  for (let i = 0; i < n; i++) l.fill(0, i * n + i + 1, (i + 1) * n);
  return l;
}

function readSystem(operation: string, l: AnyNdArray, b: AnyNdArray, precision: RealDtype) {
  const { rows: n, cols, data } = readFinite(operation, l);
  expectPrecision(operation, precision, l, b);
  if (n !== cols) fail(operation, 'expected a square factor', describe(l));
  for (let i = 0; i < n; i++) {
    if (data[i * n + i] === 0) fail(operation, 'singular factor', `${describe(l)} with 0 at [${i},${i}]`);
  }
  return { n, data: converted(data, precision), ...readRight(operation, l, n, b, precision) };
}

/** A right side b [n] or [n, k] as x [n, k]. */
function readRight(operation: string, left: AnyNdArray, n: number, b: AnyNdArray, precision: RealDtype) {
  if (b.shape.length !== 1 && b.shape.length !== 2) fail(operation, 'expected a vector or a matrix', describe(b));
  const what = operation === 'solve' ? 'matrix' : 'factor';
  if (b.shape[0] !== n) fail(operation, `${what} and right side differ in rows`, describe(left), describe(b));
  const x = b.shape.length === 1 ? readVector(operation, b) : readMatrix(operation, b).data;
  return { x: converted(x, precision), k: b.shape[1] ?? 1 };
}
