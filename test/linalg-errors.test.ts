// Errors of @otimes/linalg say which operation, what it expects and what came.

import {
  cholesky,
  cholSolve,
  eigh,
  eighAll,
  eighInBackground,
  eighJacobi,
  inverse,
  kron,
  kronMatvec,
  matmul,
  NotPositiveDefiniteError,
  qr,
  solve,
  solveTriangular,
  unvec,
  vec,
} from '@otimes/linalg';
import ndarray, { type NdArray } from 'ndarray';
import { onEach } from './helpers/linalg.ts';
import { build, rowOf, symmetric, toFloat32 } from './helpers/ndarray.ts';

onEach('errors say which operation, what it expects and what came', async t => {
  const f64 = (rows: number, cols: number) => build(rows, cols, (i, j) => (i === j ? 1 : 0));
  const v3 = rowOf([1, 2, 3]);
  const spoiled = (x: number) => build(2, 3, (i, j) => (i === 1 && j === 2 ? x : 1));
  const notANumber = build(3, 3, (i, j) => (i === 2 && j === 0 ? Number.NaN : 1));
  const lopsided = build(2, 2, (i, j) => 2 * i + j);
  // @ts-expect-error: the types forbid it
  const bigint: NdArray = ndarray(new BigInt64Array(1), [1, 1]);
  const cases: [string, () => unknown][] = [
    ['matmul: inner dimensions differ: float64[2,3] and float64[4,5]', () => matmul(f64(2, 3), f64(4, 5))],
    [
      'matmul: inner dimensions differ: float32[2,3]ᵀ and float64[3,2]',
      () => matmul(toFloat32(f64(2, 3)), f64(3, 2), { transposeA: true }),
    ],
    ['matmul: expected a matrix: float64[3]', () => matmul(f64(2, 3), v3)],
    ['matmul: expected numbers: bigint64[1,1]', () => matmul(bigint, f64(1, 1))],
    ['kron: expected a matrix: float64[3]', () => kron(v3, v3)],
    [
      'kronMatvec: expected a vector of 3 · 5: float64[2,3] and float64[4,5] and float64[3]',
      () => kronMatvec(f64(2, 3), f64(4, 5), v3),
    ],
    ['kronMatvec: expected a vector: float64[3,1]', () => kronMatvec(f64(1, 3), f64(1, 1), f64(3, 1))],
    ['unvec: expected a vector of 2 · 2: float64[3]', () => unvec(v3, 2, 2)],
    ['eigh: expected a square matrix: float64[2,3]', () => eigh(f64(2, 3))],
    ['eigh: expected a matrix: float64[3]', () => eigh(v3)],
    [
      'eigh: expected a symmetric matrix (within 1e-12 of max|a| = 3): float64[2,2] with [0,1] = 1 and [1,0] = 2',
      () => eigh(lopsided),
    ],
    [
      'inverse: expected a symmetric matrix (within 1e-6 of max|a| = 3): float32[2,2] with [0,1] = 1 and [1,0] = 2',
      () => inverse(toFloat32(lopsided)),
    ],
    ['cholesky: expected a square matrix: float64[2,3]', () => cholesky(f64(2, 3))],
    ['cholSolve: expected a square factor: float64[2,3]', () => cholSolve(f64(2, 3), v3)],
    ['solveTriangular: singular factor: float64[2,2] with 0 at [0,0]', () => solveTriangular(lopsided, f64(2, 2))],
    ['solve: expected a square matrix: float64[2,3]', () => solve(f64(2, 3), v3)],
    ['solve: matrix and right side differ in rows: float64[2,2] and float64[3]', () => solve(f64(2, 2), v3)],
    ...[eigh, cholesky, inverse, qr].map((f): [string, () => unknown] => [
      `${f.name}: precision 'float32' expects float32: float64[2,2]`,
      () => f(f64(2, 2), { precision: 'float32' }),
    ]),
    [
      "solve: precision 'float32' expects float32: float32[2,2] and float64[2,2]",
      () => solve(toFloat32(f64(2, 2)), f64(2, 2), { precision: 'float32' }),
    ],
    ['cholSolve: factor and right side differ in rows: float64[2,2] and float64[3]', () => cholSolve(f64(2, 2), v3)],
    ['cholSolve: singular factor: float64[2,2] with 0 at [0,0]', () => cholSolve(lopsided, f64(2, 2))],
    [
      'cholSolve: expected a vector or a matrix: float64[1,1,1]',
      () => cholSolve(f64(1, 1), ndarray(new Float64Array(1), [1, 1, 1])),
    ],
    ['qr: expected finite numbers: float64[2,3] with Infinity at [1,2]', () => qr(spoiled(Number.POSITIVE_INFINITY))],
    ['qr: expected finite numbers: float64[2,3] with NaN at [1,2]', () => qr(spoiled(Number.NaN))],
    ['cholSolve: expected finite numbers: float64[3,3] with NaN at [2,0]', () => cholSolve(notANumber, v3)],
    ...[eigh, eighJacobi, cholesky, inverse].map((f): [string, () => unknown] => [
      `${f.name}: expected finite numbers: float64[3,3] with NaN at [2,0]`,
      () => f(notANumber),
    ]),
  ];
  for (const [message, run] of cases) t.throws(run, new Error(message), message);

  const indefinite = symmetric(60, (i, j) => (i === j ? (i === 55 ? -3 : 1) : 0));
  for (const f of [cholesky, inverse]) {
    const message = `${f.name}: expected a positive definite matrix: pivot 55 of float64[60,60] is -3`;
    t.throws(() => f(indefinite), new Error(message));
    const error = t.throws(() => f(indefinite), NotPositiveDefiniteError);
    t.match(error, { pivot: 55, value: -3 });
  }
  t.match(
    t.throws(() => cholesky(symmetric(2, () => 0))),
    { pivot: 0, value: 0 },
    'semidefinite is not enough',
  );
});

onEach(
  'an ndarray that reaches beyond its data is refused by every function, and one without elements is not',
  async t => {
    const data = new Float64Array(8).fill(1);
    // The package rounds an offset that it is given.
    const square = (offset: number, stride: number[] = [2, 1]) =>
      Object.assign(ndarray(data, [2, 2], stride), { offset });
    const beyond = [square(5), square(-1), square(Number.NaN), square(0.5), square(0, [0.5, 1]), square(0, [-2, 1])];
    const good = f64Square();
    const calls: [string, (a: NdArray) => unknown][] = [
      ...[eigh, eighJacobi, cholesky, inverse, qr, vec].map((f): [string, (a: NdArray) => unknown] => [f.name, f]),
      ['eighAll', a => eighAll([good, a])],
      ['eighInBackground', a => eighInBackground(a)],
      ['eighInBackground', a => eighInBackground(good, { from: a })],
      ...[matmul, kron, solve, cholSolve, solveTriangular].flatMap((f): [string, (a: NdArray) => unknown][] => [
        [f.name, a => f(a, good)],
        [f.name, a => f(good, a)],
      ]),
      ['kronMatvec', a => kronMatvec(good, a, ndarray(data, [4]))],
      ['unvec', a => unvec(a, 2, 2)],
    ];
    for (const [name, call] of calls)
      for (const a of beyond)
        t.throws(() => call(a), { message: new RegExp(`^${name}: expected an ndarray within the 8 `) });
    t.throws(
      () => eigh(ndarray(new Float64Array(3), [2, 2])),
      new Error(
        'eigh: expected an ndarray within the 3 elements of its data: float64[2,2] with strides [2,1] and offset 0',
      ),
    );
    t.strictSame(matmul(square(7, [-2, -1]).hi(2, 2), good).shape, [2, 2], 'to the first and the last element');
    t.strictSame(matmul(ndarray(new Float64Array(0), [0, 2]), good).shape, [0, 2]);
  },
);

const f64Square = () => build(2, 2, (i, j) => (i === j ? 2 : 1));
