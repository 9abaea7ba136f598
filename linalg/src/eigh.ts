// The symmetric eigenproblem in four steps: scale, reduce to tridiagonal form, divide and conquer, transform back.

import ndarray, { type NdArray } from 'ndarray';
import { divideAndConquer } from './divide.ts';
import { applyReflectors } from './householder.ts';
import {
  type AnyNdArray,
  normalise,
  output,
  type RealDtype,
  type RealNdArray,
  readSymmetric,
  resultDtype,
} from './ndarray.ts';
import { tridiagonalise } from './tridiagonal.ts';

/** values [n], ascending and always float64; vectors [n, n], column j belonging to values[j]. */
export type Eigen = { values: NdArray<Float64Array>; vectors: RealNdArray };

/**
 * Eigendecomposition of a real symmetric matrix: a [n, n] = V diag(values) Vᵀ with V orthogonal.
 *
 * Works in float64 whatever the dtype, after scaling to max|a| near 1, and is accurate relative to ‖a‖: eigenvalues
 * smaller than 1e-16 ‖a‖ are rounding, possibly negative. Signs: in each vector the first entry whose magnitude is
 * within 1e-6 of the largest is positive.
 *
 * Throws when `a` is not square, has an entry that is not finite, or is not symmetric; asymmetry up to 1e-6 of max|a|
 * for float32 and 1e-12 otherwise counts as rounding and is averaged away.
 */
export function eigh(a: AnyNdArray): Eigen {
  const { rows: n, data } = readSymmetric('eigh', a);
  const scale = normalise(data);
  const { diagonal, offDiagonal, reflectors } = tridiagonalise(n, data);
  const { values, rows } = divideAndConquer(diagonal, offDiagonal);
  // Eigenvectors of a are H₀ … H₍n₋₂₎ times those of the tridiagonal matrix.
  applyReflectors(reflectors, 0, n - 1, rows, 0, n, 'descending');
  return eigenOutput(values, rows, scale, resultDtype(a));
}

/** Sorts, undoes the scaling, fixes signs and turns eigenvectors from rows of `rows` [n, n] into columns. */
export function eigenOutput(values: Float64Array, rows: Float64Array, scale: number, dtype: RealDtype): Eigen {
  const n = values.length;
  const order = Array.from(values.keys()).sort((i, j) => values[i]! - values[j]!);
  const sorted = Float64Array.from(order, i => values[i]! * scale);
  const signs = order.map(i => signOf(rows.subarray(i * n, (i + 1) * n)));
  const columns = new Float64Array(n * n);
  // In tiles, or every write would be another cache line.
  const TILE = 16;
  for (let j = 0; j < n; j += TILE) {
    const end = Math.min(n, j + TILE);
    for (let i = 0; i < n; i++) {
      for (let l = j; l < end; l++) columns[i * n + l] = signs[l]! * rows[order[l]! * n + i]!;
    }
  }
  return { values: ndarray(sorted, [n]), vectors: output(columns, [n, n], dtype) };
}

function signOf(vector: Float64Array): 1 | -1 {
  let largest = 0;
  for (let i = 0; i < vector.length; i++) largest = Math.max(largest, Math.abs(vector[i]!));
  const leading = vector.find(x => Math.abs(x) >= largest * (1 - 1e-6)) ?? 0;
  return leading < 0 ? -1 : 1;
}
