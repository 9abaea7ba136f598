/** Systems of linear equations, inverses and determinants, by LU with partial pivoting (Golub & Van Loan 2013, §3.4), and powers. */

import { type Lu, lu, luSolve, NdView, substituteTriangle, svd } from '@otimes/linalg';
import { aBoolean, anInteger, checkArgument, checkOptions } from '../../check.ts';
import { describe, ShapeError } from '../../errors.ts';
import { arrayLike, fullLike } from '../../fill.ts';
import { defineOp, type Op } from '../../op.ts';
import { sameShape } from '../../shape.ts';
import { aTensor, type Tensor } from '../../tensor.ts';
import { lt, mul, neg, sub, where } from '../elementwise.ts';
import { matmul } from '../matmul.ts';
import { sum } from '../reduce.ts';
import { narrow } from '../slice.ts';
import { clone, squeeze, unsqueeze } from '../view.ts';
import {
  batchOf,
  checkMatrices,
  checkRead,
  checkSquare,
  countOf,
  detached,
  LinAlgError,
  part,
  readAll,
  together,
  triangleOf,
  turn,
  whichOf,
  writeAll,
} from './host.ts';

/** LU of each matrix. */
function factorsOf(a: Tensor): Lu[] {
  const n = a.shape.at(-1)!;
  const data = readAll(a);
  return Array.from({ length: countOf(a) }, (_, i) => lu(new NdView(part(data, i, n * n), [n, n])));
}

function singular(op: string, a: Tensor, i: number, pivot: number): LinAlgError {
  return new LinAlgError(`${op}: ${whichOf(batchOf(a), i)} is singular: pivot ${pivot} of ${describe(a)} is 0`);
}

/** `op` names the caller; `lu`, of a, is filled by the first call that needs it. */
type SolveAttrs = { readonly op: string; readonly transposed: boolean; readonly factors: { lu: Lu[] | null } };

/** a⁻¹ b, or a⁻ᵀ b, of a [..., n, n] and b [..., n, k]. */
const solveOp: Op<SolveAttrs> = defineOp<SolveAttrs>({
  name: 'linalg.solve',
  shape: ([, b]) => ({ shape: b!.shape, dtype: b!.dtype }),
  forward(_, [a, b], out, { op, transposed, factors }) {
    factors.lu ??= factorsOf(a!);
    const [n, k] = b!.shape.slice(-2) as [number, number];
    const [right, x] = [readAll(b!), new Float64Array(b!.size)];
    factors.lu.forEach((one, i) => {
      if (one.zero >= 0) throw singular(op, a!, i, one.zero);
      const found = luSolve(one, new NdView(part(right, i, n * k), [n, k]), { transpose: transposed });
      x.set(found.data, i * n * k);
    });
    writeAll(out, x);
  },
  backward(gy, node) {
    const { transposed } = node.attrs;
    const a = node.input(0);
    const g = solveOp([a, gy], { ...node.attrs, transposed: !transposed });
    if (!node.needs(0)) return [null, g];
    const x = node.output;
    return [neg(transposed ? matmul(x, turn(g)) : matmul(g, turn(x))), g];
  },
});

/**
 * x with a x = b.
 *
 * @param a [..., n, n]
 * @param b [..., n, k], or [n], or [..., n] with the leading axes of `a`; others broadcast
 * @returns in the shape of `b`
 * @throws LinAlgError that names the matrix of the batch if one is singular: a pivot is exactly 0
 */
export function solve(a: Tensor, b: Tensor): Tensor {
  const op = 'linalg.solve';
  checkSquare(op, a);
  checkArgument(op, 'b', b, aTensor);
  const vectors = b.rank === 1 || (b.rank === a.rank - 1 && sameShape(b.shape, a.shape.slice(0, -1)));
  const right = checkMatrices(op, vectors ? unsqueeze(b, -1) : b);
  if (right.shape.at(-2) !== a.shape.at(-1))
    throw new ShapeError(`${op}: matrix and right side differ in rows: ${describe(a)} and ${describe(b)}`);
  const [left, rest] = together(op, checkRead(op, a), right);
  const x = solveOp([left, rest], { op, transposed: false, factors: { lu: null } });
  return vectors ? squeeze(x, -1) : x;
}

const invOp: Op<null> = defineOp<null>({
  name: 'linalg.inv',
  shape: ([a]) => ({ shape: a!.shape, dtype: a!.dtype }),
  forward(_, [a], out) {
    const n = a!.shape.at(-1)!;
    const x = new Float64Array(a!.size);
    factorsOf(a!).forEach((one, i) => {
      if (one.zero >= 0) throw singular('linalg.inv', a!, i, one.zero);
      x.set(luSolve(one, new NdView(identity(n), [n, n])).data, i * n * n);
    });
    writeAll(out, x);
  },
  backward(gy, { output }) {
    const y = turn(output);
    return [neg(matmul(matmul(y, gy), y))];
  },
});

function identity(n: number): Float64Array {
  const data = new Float64Array(n * n);
  for (let i = 0; i < n; i++) data[i * n + i] = 1;
  return data;
}

/** The inverses of square matrices [..., n, n]. `solve` is more accurate and faster where they would be multiplied. @throws LinAlgError as `solve` */
export function inv(a: Tensor): Tensor {
  return invOp([checkRead('linalg.inv', checkSquare('linalg.inv', a))], null);
}

/** ∂ det / ∂ a [..., n, n], det(a) a⁻ᵀ where that exists: U diag(Π of the other singular values) Vᵀ, with the sign of det U det V. */
const cofactorOp: Op<null> = defineOp<null>({
  name: 'linalg.det',
  shape: ([a]) => ({ shape: a!.shape, dtype: a!.dtype }),
  forward(_, [a], out) {
    const n = a!.shape.at(-1)!;
    const [data, x] = [readAll(a!), new Float64Array(a!.size)];
    for (let i = 0; i < countOf(a!); i++) {
      // NaN and infinities have no singular values.
      const matrix = part(data, i, n * n);
      x.set(matrix.every(Number.isFinite) ? cofactors(n, matrix) : matrix.map(() => NaN), i * n * n);
    }
    writeAll(out, x);
  },
  backward(g, node) {
    const a = node.input(0);
    const y = turn(inv(a));
    const shares = sum(mul(g, y), [-2, -1], { keepdim: true });
    const scale = unsqueeze(unsqueeze(det(a), -1), -1);
    return [mul(scale, sub(mul(shares, y), matmul(matmul(y, turn(g)), y)))];
  },
});

function cofactors(n: number, a: Float64Array): Float64Array {
  const { u, values, v } = svd(new NdView(a, [n, n]));
  const sign = [u, v].map(one => lu(one)).reduce((s, one) => s * Math.sign(determinant(one)), 1);
  const out = new Float64Array(n * n);
  for (let k = 0; k < n; k++) {
    let others = sign;
    for (let j = 0; j < n; j++) if (j !== k) others *= values.data[j]!;
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) out[i * n + j]! += others * u.data[i * n + k]! * v.data[j * n + k]!;
  }
  return out;
}

function determinant({ n, factors, parity }: Lu): number {
  let product: number = parity;
  for (let i = 0; i < n; i++) product *= factors[i * n + i]!;
  return product;
}

const detOp: Op<null> = defineOp<null>({
  name: 'linalg.det',
  shape: ([a]) => ({ shape: batchOf(a!), dtype: a!.dtype }),
  forward: (_, [a], out) => writeAll(out, Float64Array.from(factorsOf(a!), determinant)),
  backward: (gy, node) => [mul(unsqueeze(unsqueeze(gy, -1), -1), cofactorOp([node.input(0)], null))],
});

/**
 * The determinants of square matrices [..., n, n], of shape [...]; 1 for n = 0. Singular ones have a gradient, too, the cofactors, but
 * no second one: that is a LinAlgError.
 */
export function det(a: Tensor): Tensor {
  return detOp([checkRead('linalg.det', checkSquare('linalg.det', a))], null);
}

/** sign and log|det| side by side: [..., 2]. */
const slogdetOp: Op<null> = defineOp<null>({
  name: 'linalg.slogdet',
  shape: ([a]) => ({ shape: [...batchOf(a!), 2], dtype: a!.dtype }),
  forward(_, [a], out) {
    const found = factorsOf(a!).flatMap(({ n, factors, parity }) => {
      let sign: number = parity;
      let log = 0;
      for (let i = 0; i < n; i++) {
        const pivot = factors[i * n + i]!;
        sign *= Math.sign(pivot);
        log += Math.log(Math.abs(pivot));
      }
      return [sign + 0, log]; // no −0
    });
    writeAll(out, Float64Array.from(found));
  },
  backward: (gy, node) => [mul(unsqueeze(narrow(gy, -1, 1, 1), -1), turn(inv(node.input(0))))],
});

/** What `slogdet` returns: det = sign · exp(logabsdet), both of shape [...]. */
export type SignAndLog = { readonly sign: Tensor; readonly logabsdet: Tensor };

/**
 * Sign and logarithm of determinants of [..., n, n], which may be beyond any float: det = sign · exp(logabsdet). A singular matrix has
 * sign 0 and logabsdet −∞, and no gradient: backward is a LinAlgError. The sign has none anyway.
 */
export function slogdet(a: Tensor): SignAndLog {
  const both = slogdetOp([checkRead('linalg.slogdet', checkSquare('linalg.slogdet', a))], null);
  const column = (x: Tensor, i: number) => squeeze(narrow(x, -1, i, 1), -1);
  return { sign: column(detached(both), 0), logabsdet: column(both, 1) };
}

/** log det of square matrices [..., n, n]: −∞ where it is 0, NaN where it is negative. */
export function logdet(a: Tensor): Tensor {
  const { sign, logabsdet } = slogdet(a);
  return where(lt(sign, 0), NaN, logabsdet);
}

type TriangleAttrs = { readonly upper: boolean; readonly transposed: boolean; readonly unit: boolean };

/** T⁻¹ b, or T⁻ᵀ b, for a triangle T of a [..., n, n] and b [..., n, k]. */
export const triangleOp: Op<TriangleAttrs> = defineOp<TriangleAttrs>({
  name: 'linalg.solveTriangular',
  shape: ([, b]) => ({ shape: b!.shape, dtype: b!.dtype }),
  forward(_, [a, b], out, { upper, transposed, unit }) {
    const [n, k] = b!.shape.slice(-2) as [number, number];
    const [left, right, x] = [readAll(a!), readAll(b!), new Float64Array(b!.size)];
    for (let i = 0; i < countOf(a!); i++) {
      const matrix = part(left, i, n * n);
      for (let row = 0; row < n && !unit; row++)
        if (matrix[row * n + row] === 0)
          throw new LinAlgError(
            `linalg.solveTriangular: ${whichOf(batchOf(a!), i)} is singular: ${describe(a!)} with 0 at [${row},${row}]`,
          );
      const o = { upper, transpose: transposed, unitriangular: unit };
      const found = substituteTriangle(new NdView(matrix, [n, n]), new NdView(part(right, i, n * k), [n, k]), o);
      x.set(found.data, i * n * k);
    }
    writeAll(out, x);
  },
  backward(gy, node) {
    const { upper, transposed, unit } = node.attrs;
    const a = node.input(0);
    const g = triangleOp([a, gy], { ...node.attrs, transposed: !transposed });
    if (!node.needs(0)) return [null, g];
    const x = node.output;
    const n = a.shape.at(-1)!;
    const all = neg(transposed ? matmul(x, turn(g)) : matmul(g, turn(x)));
    return [where(triangleOf(a, n, n, upper, unit ? (upper ? 1 : -1) : 0), all, 0), g];
  },
});

/** Options of `solveTriangular`. */
export type SolveTriangularOptions = {
  /** Which triangle of `a` is read, the upper or the lower one. */
  upper: boolean;
  /** Solves T x = b; false solves x T = b. Default true. */
  left?: boolean;
  /** The diagonal counts as ones and is not read. Default false. */
  unitriangular?: boolean;
  /** Solves with Tᵀ in the place of T. Default false. */
  transpose?: boolean;
};

/**
 * x with T x = b, for the triangle T of `a` that `upper` names. The other one is not read, and gets no gradient.
 *
 * @param a [..., n, n]
 * @param b [..., n, k], or [..., k, n] with `left: false`; leading axes broadcast
 * @throws LinAlgError that names the matrix of the batch if there is a 0 on a diagonal
 */
export function solveTriangular(a: Tensor, b: Tensor, o: SolveTriangularOptions): Tensor {
  const op = 'linalg.solveTriangular';
  checkSquare(op, a);
  checkMatrices(op, b);
  checkOptions(op, o, { upper: aBoolean, left: aBoolean, unitriangular: aBoolean, transpose: aBoolean });
  checkArgument(op, 'upper', o?.upper, aBoolean);
  const { upper, left = true, unitriangular: unit = false, transpose = false } = o;
  if (b.shape.at(left ? -2 : -1) !== a.shape.at(-1))
    throw new ShapeError(
      `${op}: matrix and right side differ in ${left ? 'rows' : 'columns'}: ${describe(a)} and ${describe(b)}`,
    );
  const [matrix, right] = together(op, checkRead(op, a), left ? b : turn(b));
  // x T = b is Tᵀ xᵀ = bᵀ.
  const x = triangleOp([matrix, right], { upper, transposed: transpose === left, unit });
  return left ? x : turn(x);
}

/** a [..., n, n] multiplied n times by itself, by repeated squares; of the inverse for n < 0, the identity for n = 0. */
export function matrixPower(a: Tensor, n: number): Tensor {
  const op = 'linalg.matrixPower';
  checkSquare(op, a);
  checkArgument(op, 'n', n, anInteger);
  const order = a.shape.at(-1)!;
  const base = n < 0 ? inv(a) : a;
  let square = base;
  let result: Tensor | null = null;
  for (let rest = Math.abs(n); rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result = result === null ? square : matmul(result, square);
    if (rest > 1) square = matmul(square, square);
  }
  if (result !== null) return result === a ? clone(a) : result;
  const one = identity(order);
  // Of a all the same, with derivatives 0, so that a program need not tell this power from others.
  return where(
    fullLike(op, a, 1, [], 'bool'),
    arrayLike(a, a.dtype === 'float64' ? one : new Float32Array(one), [order, order]),
    a,
  );
}
