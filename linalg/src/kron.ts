// Kronecker products and the vec operation. vec stacks COLUMNS, so (A ⊗ G) vec(D) = vec(G D Aᵀ): Golub & Van Loan,
// Matrix Computations (4th ed.), §1.3.6–1.3.7. For a layer's weight gradient D [dOut, dIn], A is [dIn, dIn] and G is
// [dOut, dOut].
import { describe, fail } from './errors.ts';
import { block, gemm, transposed } from './gemm.ts';
import {
  type AnyNdArray,
  expectArguments,
  output,
  type RealNdArray,
  readMatrix,
  readVector,
  resultDtype,
} from './ndarray.ts';

/** The dense a [p, q] ⊗ b [r, s] → [p r, q s], whose (i, j) block is a[i,j] · b. `kronMatvec` does without it. */
export function kron(a: AnyNdArray, b: AnyNdArray): RealNdArray {
  expectArguments('kron', [a, b]);
  const left = readMatrix('kron', a);
  const right = readMatrix('kron', b);
  const shape = [left.rows * right.rows, left.cols * right.cols];
  const out = new Float64Array(shape[0]! * shape[1]!);
  let p = 0;
  for (let i = 0; i < left.rows; i++) {
    for (let k = 0; k < right.rows; k++) {
      for (let j = 0; j < left.cols; j++) {
        const x = left.data[i * left.cols + j]!;
        for (let l = 0; l < right.cols; l++) out[p++] = x * right.data[k * right.cols + l]!;
      }
    }
  }
  return output(out, shape, resultDtype(a, b));
}

/**
 * (a ⊗ g) v without the product: a [p, q], g [m, n], v [q n] → [p m], in O(p q n + p n m) or O(q n m + p q m),
 * whichever is less. Neither factor needs to be square or symmetric. Throws when v has another length.
 */
export function kronMatvec(a: AnyNdArray, g: AnyNdArray, v: AnyNdArray): RealNdArray {
  expectArguments('kronMatvec', [a, g, v]);
  const { rows: p, cols: q, data: A } = readMatrix('kronMatvec', a);
  const { rows: m, cols: n, data: G } = readMatrix('kronMatvec', g);
  const x = readVector('kronMatvec', v);
  if (x.length !== q * n) fail('kronMatvec', `expected a vector of ${q} · ${n}`, describe(a), describe(g), describe(v));
  // v = vec(D) read row by row is Dᵀ [q, n], and the transposed result is A Dᵀ Gᵀ [p, m].
  const D = block(x, 0, n);
  const Gt = transposed(block(G, 0, n));
  const out = new Float64Array(p * m);
  if (p * n * (q + m) <= q * m * (n + p)) {
    const left = new Float64Array(p * n);
    gemm(p, n, q, 1, block(A, 0, q), D, block(left, 0, n));
    gemm(p, m, n, 1, block(left, 0, n), Gt, block(out, 0, m));
  } else {
    const right = new Float64Array(q * m);
    gemm(q, m, n, 1, D, Gt, block(right, 0, m));
    gemm(p, m, q, 1, block(A, 0, q), block(right, 0, m), block(out, 0, m));
  }
  return output(out, [p * m], resultDtype(a, g, v));
}

/** The columns of m [rows, cols], one after the other: [rows · cols]. */
export function vec(m: AnyNdArray): RealNdArray {
  expectArguments('vec', [m]);
  const { rows, cols, data } = readMatrix('vec', m);
  return output(flip(rows, cols, data), [rows * cols], resultDtype(m));
}

/** The matrix [rows, cols] whose columns, one after the other, are v. Throws when v has another length. */
export function unvec(v: AnyNdArray, rows: number, cols: number): RealNdArray {
  expectArguments('unvec', [v]);
  if (![rows, cols].every(n => Number.isInteger(n) && n >= 0))
    fail('unvec', 'expected rows and columns as integers ≥ 0', String(rows), String(cols));
  const data = readVector('unvec', v);
  if (data.length !== rows * cols) fail('unvec', `expected a vector of ${rows} · ${cols}`, describe(v));
  return output(flip(cols, rows, data), [rows, cols], resultDtype(v));
}

/** Row-major [rows, cols] → row-major [cols, rows]. */
function flip(rows: number, cols: number, data: Float64Array): Float64Array {
  const out = new Float64Array(data.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) out[j * rows + i] = data[i * cols + j]!;
  return out;
}
