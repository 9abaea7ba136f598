/** Cholesky and QR, whose factors are unique, and their gradients. */

import { cholesky as choleskyOf, NdView, NotPositiveDefiniteError, qr as qrOf } from '@otimes/linalg';
import { aBoolean, checkOptions } from '../../check.ts';
import { describe } from '../../errors.ts';
import { defineOp, type Op } from '../../op.ts';
import type { Tensor } from '../../tensor.ts';
import { add, mul, sub, where } from '../elementwise.ts';
import { matmul } from '../matmul.ts';
import { concat, narrow } from '../slice.ts';
import { reshape } from '../view.ts';
import {
  batchOf,
  checkMatrices,
  checkRead,
  checkSquare,
  countOf,
  LinAlgError,
  part,
  readAll,
  triangleOf,
  turn,
  whichOf,
  writeAll,
} from './host.ts';
import { triangleOp } from './solve.ts';

const choleskyOp: Op<null> = defineOp<null>({
  name: 'linalg.cholesky',
  shape: ([a]) => ({ shape: a!.shape, dtype: a!.dtype }),
  forward(_, [a], out) {
    const n = a!.shape.at(-1)!;
    const [data, x] = [readAll(a!), new Float64Array(a!.size)];
    for (let i = 0; i < countOf(a!) && n > 0; i++) {
      const matrix = mirrored(n, part(data, i, n * n));
      const which = whichOf(batchOf(a!), i);
      if (!matrix.every(Number.isFinite))
        throw new LinAlgError(`linalg.cholesky: expected finite numbers, ${which} of ${describe(a!)} has others`);
      try {
        x.set(choleskyOf(new NdView(matrix, [n, n])).data, i * n * n);
      } catch (error) {
        if (!(error instanceof NotPositiveDefiniteError)) throw error;
        throw new LinAlgError(
          `linalg.cholesky: ${which} is not positive definite: its leading minor of order ${error.pivot + 1} is not, by ` +
            `pivot ${error.value}, in ${describe(a!)}`,
        );
      }
    }
    writeAll(out, x);
  },
  // Murray 2016, equation 10: L⁻ᵀ Φ(Lᵀ gL) L⁻¹, symmetric.
  backward(gy, node) {
    const l = node.output;
    const n = l.shape.at(-1)!;
    const all = matmul(turn(l), gy);
    const strict = where(triangleOf(l, n, n, false, -1), all, 0);
    const halves = mul(sub(where(triangleOf(l, n, n, false), all, 0), strict), 0.5);
    const inner = triangleOp([l, add(strict, halves)], { upper: false, transposed: true, unit: false });
    const g = triangleOp([l, turn(inner)], { upper: false, transposed: true, unit: false });
    return [mul(add(g, turn(g)), 0.5)];
  },
});

/** A copy in which the upper triangle is the lower one. */
export function mirrored(n: number, a: Float64Array): Float64Array {
  const out = a.slice();
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) out[j * n + i] = out[i * n + j]!;
  return out;
}

/**
 * Lower triangular L [..., n, n] with a = L Lᵀ and a positive diagonal, or with `upper` its transpose. The lower triangle of `a` alone
 * is read, and `a` counts as symmetric: so does its gradient.
 *
 * @throws LinAlgError that names matrix and leading minor if one is not positive definite
 */
export function cholesky(a: Tensor, o: { upper?: boolean } = {}): Tensor {
  const op = 'linalg.cholesky';
  checkSquare(op, a);
  checkOptions(op, o, { upper: aBoolean });
  const l = choleskyOp([checkRead(op, a)], null);
  return o.upper ? turn(l) : l;
}

/** q [m, k] and r [k, n] of each matrix behind each other, [..., m k + k n]. */
const qrOp: Op<null> = defineOp<null>({
  name: 'linalg.qr',
  shape([a]) {
    const [m, n] = a!.shape.slice(-2) as [number, number];
    return { shape: [...batchOf(a!), Math.min(m, n) * (m + n)], dtype: a!.dtype };
  },
  forward(_, [a], out) {
    const [m, n] = a!.shape.slice(-2) as [number, number];
    const [data, x] = [readAll(a!), new Float64Array(out.size)];
    const [size, cut] = [Math.min(m, n) * (m + n), Math.min(m, n) * m];
    for (let i = 0; i < countOf(a!) && m * n > 0; i++) {
      const matrix = part(data, i, m * n);
      if (!matrix.every(Number.isFinite))
        throw new LinAlgError(`linalg.qr: expected finite numbers, ${whichOf(batchOf(a!), i)} has others`);
      const { q, r } = qrOf(new NdView(matrix, [m, n]));
      x.set(q.data, i * size);
      x.set(r.data, i * size + cut);
    }
    writeAll(out, x);
  },
  backward(gy, node) {
    const a = node.inputs[0]!;
    const [m, n] = a.shape.slice(-2) as [number, number];
    const [{ q, r }, { q: gq, r: gr }] = [cut(node.output, m, n), cut(gy, m, n)];
    if (m >= n) return [tallGradient(q, r, gq, gr)];
    // a = [x, y] with x = q u and y = q v (Roberts & Roberts 2020).
    const [u, v] = [narrow(r, -1, 0, m), narrow(r, -1, m, n - m)];
    const [gu, gv] = [narrow(gr, -1, 0, m), narrow(gr, -1, m, n - m)];
    const y = matmul(q, v);
    return [concat([tallGradient(q, u, add(gq, matmul(y, turn(gv))), gu), matmul(q, gv)], -1)];
  },
});

/** (gQ + Q copyltu(R gRᵀ − gQᵀ Q)) R⁻ᵀ, of which copyltu mirrors the lower triangle (Walter & Lehmann 2010). */
function tallGradient(q: Tensor, r: Tensor, gq: Tensor, gr: Tensor): Tensor {
  const n = r.shape.at(-1)!;
  const all = sub(matmul(r, turn(gr)), matmul(turn(gq), q));
  const strict = where(triangleOf(r, n, n, false, -1), all, 0);
  const symmetric = add(where(triangleOf(r, n, n, false), all, 0), turn(strict));
  const left = add(gq, matmul(q, symmetric));
  return turn(triangleOp([r, turn(left)], { upper: true, transposed: false, unit: false }));
}

function cut(x: Tensor, m: number, n: number): QR {
  const k = Math.min(m, n);
  const batch = x.shape.slice(0, -1);
  return {
    q: reshape(narrow(x, -1, 0, m * k), [...batch, m, k]),
    r: reshape(narrow(x, -1, m * k, k * n), [...batch, k, n]),
  };
}

/** What `qr` returns. */
export type QR = { readonly q: Tensor; readonly r: Tensor };

/**
 * Reduced QR: a [..., m, n] = q r, with k = min(m, n), q [..., m, k] of orthonormal columns, r [..., k, n] upper triangular. The diagonal
 * of r is ≥ 0, so that both are unique where the first k columns are independent; LAPACK's, PyTorch's and NumPy's may have other signs.
 * Where those columns are dependent there is no gradient: backward is a LinAlgError.
 *
 * @throws LinAlgError for numbers that are not finite
 */
export function qr(a: Tensor): QR {
  const [m, n] = checkMatrices('linalg.qr', a).shape.slice(-2) as [number, number];
  return cut(qrOp([checkRead('linalg.qr', a)], null), m, n);
}
