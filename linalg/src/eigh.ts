// The symmetric eigenproblem: scaled on the way in, sorted and with definite signs on the way out.

import type { NdArray } from 'ndarray';
import { eighKernel } from './kernels.ts';
import {
  type AnyNdArray,
  converted,
  expectArguments,
  expectPrecision,
  normalise,
  PRECISION,
  type PrecisionOptions,
  type Real,
  type RealDtype,
  type RealNdArray,
  readSymmetric,
  resultDtype,
  zeros,
} from './ndarray.ts';
import { ndarrayOf } from './ndview.ts';
import { plainEigh } from './plain/eigh.ts';
import { replaced } from './solver.ts';

/** values [n], ascending and always float64; vectors [n, n], column j belonging to values[j]. */
export type Eigen = { values: NdArray<Float64Array>; vectors: RealNdArray };

/**
 * Eigendecomposition of a real symmetric matrix: a [n, n] = V diag(values) Vᵀ with V orthogonal.
 *
 * By Householder tridiagonalisation and divide and conquer (Cuppen 1981, Gu & Eisenstat 1995), after scaling to max|a|
 * near 1, in float64 whatever the dtype (see `precision`). Accurate relative to ‖a‖: eigenvalues smaller than
 * 1e-16 ‖a‖ are rounding, possibly negative. Signs: in each vector the first entry whose magnitude is within 1e-6 of the
 * largest is positive.
 *
 * Throws when `a` is not square, has an entry that is not finite, or is not symmetric; asymmetry up to 1e-6 of max|a|
 * for float32 and 1e-12 otherwise counts as rounding and is averaged away.
 */
export function eigh(a: AnyNdArray, o: PrecisionOptions = {}): Eigen {
  expectArguments('eigh', [a], o, PRECISION);
  const { precision = 'float64' } = o;
  expectPrecision('eigh', precision, a);
  const found = replaced(a.shape[0]).eigh === undefined ? eighKernel(a, precision) : null;
  if (found !== null) {
    const { values, vectors } = found;
    return { values: ndarrayOf(values, [values.length]), vectors: ndarrayOf(vectors, [...a.shape]) };
  }
  const { rows: n, data } = readSymmetric('eigh', a);
  const scale = normalise(data);
  const rows = converted(data, precision);
  const values = zeros(n, precision);
  (replaced().eigh ?? plainEigh)(n, rows, values);
  return eigenOutput(values, rows, scale, resultDtype(a));
}

/** Sorts, undoes the scaling, fixes signs and turns eigenvectors from rows of `rows` [n, n] into columns. */
export function eigenOutput(values: Real, rows: Real, scale: number, dtype: RealDtype): Eigen {
  const n = values.length;
  const order = Array.from(values.keys()).sort((i, j) => values[i]! - values[j]!);
  const sorted = Float64Array.from(order, i => values[i]! * scale);
  const signs = order.map(i => signOf(rows.subarray(i * n, (i + 1) * n)));
  const columns = zeros(n * n, dtype);
  // In tiles, or every write would be another cache line.
  const TILE = 16;
  for (let j = 0; j < n; j += TILE) {
    const end = Math.min(n, j + TILE);
    for (let i = 0; i < n; i++) {
      for (let l = j; l < end; l++) columns[i * n + l] = signs[l]! * rows[order[l]! * n + i]!;
    }
  }
  return { values: ndarrayOf(sorted, [n]), vectors: ndarrayOf(columns, [n, n]) };
}

function signOf(vector: Real): 1 | -1 {
  let largest = 0;
  for (let i = 0; i < vector.length; i++) {
    const x = Math.abs(vector[i]!);
    if (x > largest) largest = x;
  }
  const bound = largest * (1 - 1e-6);
  for (let i = 0; i < vector.length; i++) if (Math.abs(vector[i]!) >= bound) return vector[i]! < 0 ? -1 : 1;
  return 1;
}
