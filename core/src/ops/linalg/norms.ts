/** What follows from singular values: norms and ranks of matrices, pseudoinverses and least squares. */

import { NdView, svd as svdOf } from '@otimes/linalg';
import { aBoolean, checkArgument, checkOptions, type Kind } from '../../check.ts';
import { describe, ShapeError } from '../../errors.ts';
import { arrayLike } from '../../fill.ts';
import { defineOp, type Op } from '../../op.ts';
import { normalizeAxis } from '../../shape.ts';
import { aTensor, type Tensor } from '../../tensor.ts';
import { abs, add, neg, sub } from '../elementwise.ts';
import { matmul } from '../matmul.ts';
import { max, min, norm, sum } from '../reduce.ts';
import { permute, unsqueeze } from '../view.ts';
import {
  batchOf,
  checkFinite,
  checkMatrices,
  checkRead,
  countOf,
  detached,
  epsOf,
  part,
  readAll,
  together,
  turn,
  writeAll,
} from './host.ts';
import { svdvals } from './spectral.ts';

/** The norms of `matrixNorm`. */
export type MatrixNorm = 'fro' | 'nuc' | 1 | -1 | 2 | -2 | number;

const ORDERS: readonly unknown[] = ['fro', 'nuc', 1, -1, 2, -2, Infinity, -Infinity];
const anOrder: Kind = {
  expected: "'fro', 'nuc', 1, -1, 2, -2, Infinity or -Infinity",
  is: v => ORDERS.includes(v),
  error: RangeError,
};
const twoAxes: Kind = {
  expected: 'two axes, such as [-2, -1]',
  is: v => Array.isArray(v) && v.length === 2 && v.every(Number.isInteger),
};

/** Options of `matrixNorm`. */
export type MatrixNormOptions = {
  /** The axes of rows and columns. Default [-2, -1]. */
  axis?: readonly [number, number];
  /** Leaves them with length 1. Default false. */
  keepdim?: boolean;
};

/**
 * A norm of matrices [..., m, n], of shape [...]: 'fro' √Σa², 'nuc' the sum of singular values, 2 and −2 the largest and the smallest, 1 and
 * −1 the largest and smallest sum of |a| in a column, ±Infinity the same of rows. Equal extrema share the gradient. 'nuc', 2 and −2 are
 * computed on the host.
 */
export function matrixNorm(a: Tensor, ord: MatrixNorm = 'fro', o: MatrixNormOptions = {}): Tensor {
  const op = 'linalg.matrixNorm';
  checkMatrices(op, a);
  checkArgument(op, 'ord', ord, anOrder);
  checkOptions(op, o, { axis: twoAxes, keepdim: aBoolean });
  const { axis = [-2, -1], keepdim = false } = o;
  const [rows, columns] = axis.map(one => normalizeAxis(op, one, a.rank)) as [number, number];
  if (rows === columns) throw new ShapeError(`${op}: axes [${axis.join(',')}] name one axis twice`);
  const rest = a.shape.map((_, i) => i).filter(i => i !== rows && i !== columns);
  const matrices = permute(a, [...rest, rows, columns]);
  const found = ofMatrices(op, matrices, ord);
  if (!keepdim) return found;
  return [rows, columns].sort((p, q) => p - q).reduce((x, at) => unsqueeze(x, at), found);
}

function ofMatrices(op: string, a: Tensor, ord: MatrixNorm): Tensor {
  if (ord === 'fro') return norm(a, [-2, -1]);
  if (ord === 'nuc' || ord === 2 || ord === -2) {
    const s = svdvals(checkRead(op, a));
    if (ord === 'nuc') return sum(s, -1);
    checkSome(op, a, ord);
    return ord === 2 ? max(s, -1) : min(s, -1);
  }
  checkSome(op, a, ord);
  const sums = sum(abs(a), Math.abs(Number(ord)) === 1 ? -2 : -1);
  return Number(ord) > 0 ? max(sums, -1) : min(sums, -1);
}

function checkSome(op: string, a: Tensor, ord: MatrixNorm): void {
  if (a.shape.at(-1) === 0 || a.shape.at(-2) === 0)
    throw new ShapeError(`${op}: expected rows and columns for norm ${ord}, got ${describe(a)}`);
}

/** Which singular values count as 0: those of at most max(`atol`, `rtol` · the largest). */
export type RankOptions = {
  /** Default 0. */
  atol?: number;
  /** Default max(m, n) · eps of the dtype, or 0 where `atol` is given and more than 0. */
  rtol?: number;
};

const aTolerance: Kind = { expected: 'a number ≥ 0', is: v => typeof v === 'number' && v >= 0, error: RangeError };
const RANK = { atol: aTolerance, rtol: aTolerance };

/** Singular values up to this count as 0. */
function leastOf(a: Tensor, largest: number, { atol = 0, rtol }: RankOptions): number {
  const most = Math.max(a.shape.at(-1)!, a.shape.at(-2)!);
  return Math.max(atol, (rtol ?? (atol > 0 ? 0 : most * epsOf(a.dtype))) * largest);
}

/** The ranks of matrices [..., m, n], int32 [...]: how many singular values do not count as 0. */
export function matrixRank(a: Tensor, o: RankOptions = {}): Tensor {
  const op = 'linalg.matrixRank';
  checkMatrices(op, a);
  checkOptions(op, o, RANK);
  const s = svdvals(detached(checkRead(op, a)));
  const k = s.shape.at(-1)!;
  const data = readAll(s);
  const ranks = Int32Array.from({ length: countOf(a) }, (_, i) => {
    const row = part(data, i, k);
    return row.filter(value => value > leastOf(a, row[0]!, o)).length;
  });
  return arrayLike(a, ranks, batchOf(a));
}

/** The pseudoinverse, from the singular value decomposition in the place of `a`. */
const pinvOp: Op<RankOptions> = defineOp<RankOptions>({
  name: 'linalg.pinv',
  shape: ([a]) => ({ shape: [...batchOf(a!), a!.shape.at(-1)!, a!.shape.at(-2)!], dtype: a!.dtype }),
  forward(_, [a], out, o) {
    const [m, n] = a!.shape.slice(-2) as [number, number];
    const [data, x] = [readAll(a!), new Float64Array(out.size)];
    for (let i = 0; i < countOf(a!) && m * n > 0; i++) {
      const matrix = part(data, i, m * n);
      checkFinite('linalg.pinv', a!, i, matrix);
      const { u, values, v } = svdOf(new NdView(matrix, [m, n]));
      const k = values.data.length;
      const least = leastOf(a!, values.data[0]!, o);
      const inverse = part(x, i, m * n);
      for (let p = 0; p < k; p++) {
        const value = values.data[p]!;
        if (value <= least) continue;
        for (let r = 0; r < n; r++)
          for (let c = 0; c < m; c++) inverse[r * m + c]! += (v.data[r * k + p]! / value) * u.data[c * k + p]!;
      }
    }
    writeAll(out, x);
  },
  // Golub & Pereyra 1973, equation 4.12, for matrices of constant rank.
  backward(gy, node) {
    const [a, y] = [node.input(0), node.output];
    const [g, yt] = [turn(gy), turn(y)];
    const rows = sub(g, matmul(a, matmul(y, g)));
    const columns = sub(g, matmul(matmul(g, y), a));
    const moved = neg(matmul(matmul(yt, gy), yt));
    return [add(add(moved, matmul(matmul(rows, y), yt)), matmul(yt, matmul(y, columns)))];
  },
});

/**
 * The Moore–Penrose pseudoinverses [..., n, m] of matrices [..., m, n]. Singular values of at most max(atol, rtol · the largest) count as 0.
 * The gradient is that among matrices of the same rank.
 */
export function pinv(a: Tensor, o: RankOptions = {}): Tensor {
  checkMatrices('linalg.pinv', a);
  checkOptions('linalg.pinv', o, RANK);
  return pinvOp([checkRead('linalg.pinv', a)], o);
}

/** What `lstsq` returns: solution [..., n, k], the ranks int32 [...], and the singular values [..., min(m, n)]. */
export type LeastSquares = { readonly solution: Tensor; readonly rank: Tensor; readonly singularValues: Tensor };

/**
 * x of least ‖a x − b‖, and of these the shortest, by singular values, of which those of at most `rtol` times the largest count as 0.
 *
 * @param a [..., m, n]
 * @param b [..., m, k]; leading axes broadcast
 * @param o `rtol` defaults to max(m, n) · eps of the dtype
 */
export function lstsq(a: Tensor, b: Tensor, o: { rtol?: number } = {}): LeastSquares {
  const op = 'linalg.lstsq';
  checkMatrices(op, a);
  checkArgument(op, 'b', b, aTensor);
  checkMatrices(op, b);
  checkOptions(op, o, { rtol: aTolerance });
  if (b.shape.at(-2) !== a.shape.at(-2))
    throw new ShapeError(`${op}: matrix and right side differ in rows: ${describe(a)} and ${describe(b)}`);
  const [left, right] = together(op, checkRead(op, a), b);
  return { solution: matmul(pinv(left, o), right), rank: matrixRank(left, o), singularValues: svdvals(left) };
}
