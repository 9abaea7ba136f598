/** The symmetric eigendecomposition and the singular value decomposition, and their gradients. */

import { eigh as eighOf, NdView, svd as svdOf } from '@otimes/linalg';
import { GraphError } from '../../errors.ts';
import { arrayLike } from '../../fill.ts';
import { defineOp, type Op } from '../../op.ts';
import type { Tensor } from '../../tensor.ts';
import { add, mul, sub } from '../elementwise.ts';
import { matmul } from '../matmul.ts';
import { narrow } from '../slice.ts';
import { reshape, unsqueeze } from '../view.ts';
import { mirrored } from './factor.ts';
import {
  batchOf,
  checkFinite,
  checkMatrices,
  checkRead,
  checkSquare,
  countOf,
  epsOf,
  part,
  readAll,
  reciprocalBut,
  turn,
  whichOf,
  writeAll,
} from './host.ts';

/** Row i as diag(xᵢ) times a matrix of those rows, and columns. */
const rowsBy = (x: Tensor, values: Tensor) => mul(x, unsqueeze(values, -1));
const columnsBy = (x: Tensor, values: Tensor) => mul(x, unsqueeze(values, -2));

/**
 * Where two of `values` [..., k] are equal up to a rounding of the largest: bool [..., k, k]. Their vectors may then be any others of the
 * same space, and the derivative of the vectors does not exist.
 *
 * @throws GraphError if the loss depends on vectors of two equal values, by what their gradients `g` [..., rows, k] are
 */
function ties(op: string, what: string, values: Tensor, ...g: Tensor[]): Tensor {
  const k = values.shape.at(-1)!;
  const data = readAll(values);
  const count = k === 0 ? 0 : data.length / k;
  const mask = new Uint8Array(count * k * k);
  const tied = new Set<number>();
  for (let b = 0; b < count; b++) {
    const row = part(data, b, k);
    const least = epsOf(values.dtype) * row.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0);
    for (let i = 0; i < k; i++)
      for (let j = 0; j < k; j++) {
        if (Math.abs(row[i]! - row[j]!) > least) continue;
        mask[(b * k + i) * k + j] = 1;
        if (i !== j) tied.add(b * k + i);
      }
  }
  if (tied.size > 0) for (const one of g) checkUnused(op, what, one, k, tied);
  return arrayLike(values, mask, [...values.shape, k]);
}

/** Throws unless the columns of g [..., rows, k] that `columns` names, b · k + j, are 0. */
function checkUnused(op: string, what: string, g: Tensor, k: number, columns: ReadonlySet<number>): void {
  const rows = g.shape.at(-2)!;
  const data = readAll(g);
  for (const column of columns) {
    const [b, j] = [Math.floor(column / k), column % k];
    for (let i = 0; i < rows; i++)
      if (data[(b * rows + i) * k + j] !== 0)
        throw new GraphError(
          `${op}: the loss depends on the vectors of ${what} ${j} of ${whichOf(g.shape.slice(0, -2), b)}, which equals another one ` +
            '(or 0, where the matrix is not square): their derivative does not exist there; that of the values alone does',
        );
  }
}

/** values [n] and vectors [n, n] of each matrix behind each other, [..., n + n²]. */
const eighOp: Op<null> = defineOp<null>({
  name: 'linalg.eigh',
  shape: ([a]) => ({ shape: [...batchOf(a!), a!.shape.at(-1)! * (1 + a!.shape.at(-1)!)], dtype: a!.dtype }),
  forward(_, [a], out) {
    const n = a!.shape.at(-1)!;
    const [data, x] = [readAll(a!), new Float64Array(out.size)];
    for (let i = 0; i < countOf(a!) && n > 0; i++) {
      const matrix = mirrored(n, part(data, i, n * n));
      checkFinite('linalg.eigh', a!, i, matrix);
      const { values, vectors } = eighOf(new NdView(matrix, [n, n]));
      x.set(values.data, i * n * (n + 1));
      x.set(vectors.data, i * n * (n + 1) + n);
    }
    writeAll(out, x);
  },
  // Giles 2008, section 3.1: V (diag(gλ) + F ∘ Vᵀ gV) Vᵀ with F[i, j] = 1 / (λ[j] − λ[i]), symmetric.
  backward(gy, node) {
    const n = node.inputs[0]!.shape.at(-1)!;
    const [{ values, vectors }, g] = [cutEigen(node.output, n), cutEigen(gy, n)];
    const tied = ties('linalg.eigh', 'eigenvalue', values, g.vectors);
    const gaps = sub(unsqueeze(values, -2), unsqueeze(values, -1));
    const inner = mul(reciprocalBut(tied, gaps), matmul(turn(vectors), g.vectors));
    const gx = matmul(add(matmul(vectors, inner), columnsBy(vectors, g.values)), turn(vectors));
    return [mul(add(gx, turn(gx)), 0.5)];
  },
});

function cutEigen(x: Tensor, n: number): Eigen {
  return {
    values: narrow(x, -1, 0, n),
    vectors: reshape(narrow(x, -1, n, n * n), [...x.shape.slice(0, -1), n, n]),
  };
}

/** What `eigh` returns: values [..., n], ascending, and vectors [..., n, n], of which column j belongs to value j. */
export type Eigen = { readonly values: Tensor; readonly vectors: Tensor };

/**
 * Eigenvalues and eigenvectors of symmetric matrices [..., n, n]: a = V diag(values) Vᵀ. The lower triangle of `a` alone is read, and `a`
 * counts as symmetric: so does its gradient. In each vector the first entry of the largest magnitude is positive.
 *
 * The gradient by vectors grows with 1 / (λⱼ − λᵢ); where two eigenvalues are equal up to a rounding of the largest, backward is a
 * GraphError if the loss depends on their vectors. Signs of vectors are a choice: a loss should not depend on them.
 *
 * @throws LinAlgError for numbers that are not finite
 */
export function eigh(a: Tensor): Eigen {
  checkSquare('linalg.eigh', a);
  return cutEigen(eighOp([checkRead('linalg.eigh', a)], null), a.shape.at(-1)!);
}

/** The eigenvalues [..., n] of symmetric matrices, ascending, as `eigh` has them; the gradient exists everywhere. */
export function eigvalsh(a: Tensor): Tensor {
  checkSquare('linalg.eigvalsh', a);
  return cutEigen(eighOp([checkRead('linalg.eigvalsh', a)], null), a.shape.at(-1)!).values;
}

/** u [m, k], s [k] and vh [k, n] of each matrix behind each other. */
const svdOp: Op<null> = defineOp<null>({
  name: 'linalg.svd',
  shape([a]) {
    const [m, n] = a!.shape.slice(-2) as [number, number];
    return { shape: [...batchOf(a!), Math.min(m, n) * (m + n + 1)], dtype: a!.dtype };
  },
  forward(_, [a], out) {
    const [m, n] = a!.shape.slice(-2) as [number, number];
    const k = Math.min(m, n);
    const [data, x] = [readAll(a!), new Float64Array(out.size)];
    for (let i = 0; i < countOf(a!) && k > 0; i++) {
      const matrix = part(data, i, m * n);
      checkFinite('linalg.svd', a!, i, matrix);
      const { u, values, v } = svdOf(new NdView(matrix, [m, n]));
      const one = part(x, i, k * (m + n + 1));
      one.set(u.data);
      one.set(values.data, m * k);
      for (let p = 0; p < k; p++) for (let q = 0; q < n; q++) one[m * k + k + p * n + q] = v.data[q * k + p]!;
    }
    writeAll(out, x);
  },
  // Townsend 2016, equations 31 to 33.
  backward(gy, node) {
    const [m, n] = node.inputs[0]!.shape.slice(-2) as [number, number];
    const [{ u, s, vh }, g] = [cutSingular(node.output, m, n), cutSingular(gy, m, n)];
    const gv = turn(g.vh);
    const v = turn(vh);
    const tied = ties('linalg.svd', 'singular value', s, g.u, gv);
    const [across, down] = [unsqueeze(s, -2), unsqueeze(s, -1)];
    // s[j]² − s[i]² without squares, whose rounding would be that of the largest.
    const f = mul(reciprocalBut(tied, sub(across, down)), reciprocalBut(zerosOf(tied, s), add(across, down)));
    const skew = (x: Tensor) => sub(x, turn(x));
    const left = columnsBy(mul(f, skew(matmul(turn(u), g.u))), s);
    const right = rowsBy(mul(f, skew(matmul(vh, gv))), s);
    let gx = matmul(add(matmul(u, add(left, right)), columnsBy(u, g.s)), vh);
    if (m === n) return [gx];
    const free = m > n ? g.u : gv;
    const inverse = reciprocalBut(vanishing(s, free), s);
    const outside = (basis: Tensor, x: Tensor) => sub(x, matmul(basis, matmul(turn(basis), x)));
    if (m > n) gx = add(gx, matmul(columnsBy(outside(u, g.u), inverse), vh));
    else gx = add(gx, matmul(u, turn(columnsBy(outside(v, gv), inverse))));
    return [gx];
  },
});

/** Where both of two of `s` are 0. */
function zerosOf(tied: Tensor, s: Tensor): Tensor {
  const k = s.shape.at(-1)!;
  const data = readAll(s);
  const mask = new Uint8Array(tied.size);
  for (let p = 0; p < mask.length; p++) {
    const [row, j] = [Math.floor(p / k), p % k];
    mask[p] = Number(data[row] === 0 && data[Math.floor(row / k) * k + j] === 0);
  }
  return arrayLike(s, mask, tied.shape);
}

/** Where `s` [..., k] is 0 up to a rounding of the largest; a GraphError if `g` [..., rows, k] is not 0 there. */
function vanishing(s: Tensor, g: Tensor): Tensor {
  const k = s.shape.at(-1)!;
  const data = readAll(s);
  const zero = new Set<number>();
  const mask = Uint8Array.from(data, (value, p) => {
    const small = value <= epsOf(s.dtype) * data[p - (p % k)]!;
    if (small) zero.add(p);
    return Number(small);
  });
  if (zero.size > 0) checkUnused('linalg.svd', 'singular value', g, k, zero);
  return arrayLike(s, mask, s.shape);
}

function cutSingular(x: Tensor, m: number, n: number): SVD {
  const k = Math.min(m, n);
  const batch = x.shape.slice(0, -1);
  return {
    u: reshape(narrow(x, -1, 0, m * k), [...batch, m, k]),
    s: narrow(x, -1, m * k, k),
    vh: reshape(narrow(x, -1, m * k + k, k * n), [...batch, k, n]),
  };
}

/** What `svd` returns: u [..., m, k], s [..., k] descending, and vh [..., k, n], the transpose of V. */
export type SVD = { readonly u: Tensor; readonly s: Tensor; readonly vh: Tensor };

/**
 * Reduced singular value decomposition: a [..., m, n] = u diag(s) vh, k = min(m, n), by one-sided Jacobi (Drmač & Veselić 2008).
 *
 * The gradient by u and vh grows with 1 / (sⱼ² − sᵢ²), and with 1 / s where the matrices are not square; where two singular values are
 * equal up to a rounding of the largest (or one is 0, of a matrix that is not square), backward is a GraphError if the loss depends on
 * their vectors. Signs of vectors are a choice, of u and vh together: a loss should not depend on them.
 *
 * @throws LinAlgError for numbers that are not finite
 */
export function svd(a: Tensor): SVD {
  const [m, n] = checkMatrices('linalg.svd', a).shape.slice(-2) as [number, number];
  return cutSingular(svdOp([checkRead('linalg.svd', a)], null), m, n);
}

/** The singular values [..., min(m, n)] of [..., m, n], descending, as `svd` has them; the gradient exists everywhere. */
export function svdvals(a: Tensor): Tensor {
  const [m, n] = checkMatrices('linalg.svdvals', a).shape.slice(-2) as [number, number];
  return cutSingular(svdOp([checkRead('linalg.svdvals', a)], null), m, n).s;
}
