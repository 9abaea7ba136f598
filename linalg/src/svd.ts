// The singular value decomposition: scaled on the way in, by QR and rotations of R.
import type { NdArray } from 'ndarray';
import { eigh } from './eigh.ts';
import { block, gemm, transposed } from './gemm.ts';
import {
  type AnyNdArray,
  expectArguments,
  normalise,
  output,
  type RealNdArray,
  readFinite,
  resultDtype,
} from './ndarray.ts';
import { ndarrayOf } from './ndview.ts';
import { jacobiSvd, turned } from './plain/svd.ts';
import { factorQr } from './qr.ts';

/** values [k], descending, ≥ 0 and always float64; u [m, k] and v [n, k], columns j belonging to values[j]; k = min(m, n). */
export type Singular = { values: NdArray<Float64Array>; u: RealNdArray; v: RealNdArray };

/**
 * Reduced singular value decomposition: a [m, n] = u diag(values) vᵀ, u and v of orthonormal columns, also where values are 0. By
 * QR and one-sided Jacobi (Drmač & Veselić 2008), after scaling to max|a| near 1, in float64 whatever the dtype. Errors of values
 * are relative to the largest. Throws when `a` is not a finite matrix.
 */
export function svd(a: AnyNdArray): Singular {
  expectArguments('svd', [a]);
  const { rows, cols, data } = readFinite('svd', a);
  const scale = normalise(data);
  const wide = rows < cols;
  const [m, n] = wide ? [cols, rows] : [rows, cols];
  const [q, r] = [new Float64Array(m * n), new Float64Array(n * n)];
  factorQr(m, n, wide ? flipped(rows, cols, data) : data, q, r);
  const found = jacobiSvd(n, r, n < WORTH ? undefined : preturned(n, r));
  const values = found.values.map(value => value * scale);
  const left = turned(m, n, q, found.u);
  const right = flipped(n, n, found.v);
  const dtype = resultDtype(a);
  const [u, v] = wide ? [right, left] : [left, right];
  return { values: ndarrayOf(values, [n]), u: output(u, [rows, n], dtype), v: output(v, [cols, n], dtype) };
}

/** From how many rows on the eigenvectors of R Rᵀ save more rotations than they cost. */
const WORTH = 24;

/**
 * The rows of R turned by the eigenvectors of R Rᵀ, in place, and these as rows. What that leaves for rotations are the directions whose
 * values are below √ε of the largest, of which R Rᵀ has lost the digits: one or two sweeps in the place of eight.
 */
function preturned(n: number, r: Float64Array): Float64Array {
  const gram = new Float64Array(n * n);
  gemm(n, n, n, 1, block(r, 0, n), transposed(block(r, 0, n)), block(gram, 0, n));
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) gram[j * n + i] = gram[i * n + j]!;
  const { vectors } = eigh(ndarrayOf(gram, [n, n]));
  const u = new Float64Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) u[i * n + j] = vectors.get(j, i);
  const turnedRows = new Float64Array(n * n);
  gemm(n, n, n, 1, block(u, 0, n), block(r, 0, n), block(turnedRows, 0, n));
  r.set(turnedRows);
  return u;
}

/** x [rows, cols] as [cols, rows]. */
function flipped(rows: number, cols: number, x: Float64Array): Float64Array {
  const out = new Float64Array(x.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) out[j * rows + i] = x[i * cols + j]!;
  return out;
}
