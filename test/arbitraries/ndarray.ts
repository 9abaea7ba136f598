// Random ndarrays: matrices of small integers laid out in every way scijs allows. Integers, so that products are exact
// in each dtype and laws can be asked for without a tolerance.
import fc from 'fast-check';
import ndarray, { type NdArray } from 'ndarray';

const MAKERS = {
  float64: (n: number) => new Float64Array(n),
  float32: (n: number) => new Float32Array(n),
  int32: (n: number) => new Int32Array(n),
  array: (n: number) => new Array<number>(n).fill(0),
  generic: (n: number) => {
    const values = new Array<number>(n).fill(0);
    const set = (i: number, x: number) => {
      values[i] = x;
    };
    return { get: (i: number) => values[i]!, set, length: n };
  },
};
export type Dtype = keyof typeof MAKERS;
export const dtypes: readonly Dtype[] = ['float64', 'float32', 'int32', 'array', 'generic'];

/** How a matrix lies in memory. Steps may be negative; `padding` rows and columns lie before it. */
export type Layout = { dtype: Dtype; transposed: boolean; rowStep: number; colStep: number; padding: number };

export const layout = (among: readonly Dtype[] = dtypes): fc.Arbitrary<Layout> =>
  fc.record({
    dtype: fc.constantFrom(...among),
    transposed: fc.boolean(),
    rowStep: fc.constantFrom(1, -1, 2, -2, 3),
    colStep: fc.constantFrom(1, -1, 2, -2, 3),
    padding: fc.nat(2),
  });

/** A view [rows, cols] with the given entries (row-major), surrounded by 1e9 that nobody should read. */
export function laidOut(rows: number, cols: number, values: ArrayLike<number>, how: Layout): NdArray {
  const { dtype, transposed, rowStep, colStep, padding } = how;
  const height = rows * Math.abs(rowStep);
  const width = cols * Math.abs(colStep);
  const shape = [height + padding, width + padding];
  const data = MAKERS[dtype](shape[0]! * shape[1]!);
  const base: NdArray = transposed ? ndarray(data, [shape[1]!, shape[0]!]).transpose(1, 0) : ndarray(data, shape);
  for (let i = 0; i < shape[0]!; i++) for (let j = 0; j < shape[1]!; j++) base.set(i, j, 1e9);
  const view = base.lo(padding, padding).hi(height, width).step(rowStep, colStep);
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) view.set(i, j, values[i * cols + j]!);
  return view;
}

/** A matrix [rows, cols] of integers in −8 … 8, laid out at random. */
export const matrix = (rows: number, cols: number, among?: readonly Dtype[]): fc.Arbitrary<NdArray> =>
  fc
    .tuple(fc.array(fc.integer({ min: -8, max: 8 }), { minLength: rows * cols, maxLength: rows * cols }), layout(among))
    .map(([values, how]) => laidOut(rows, cols, values, how));

/** A vector [n] of integers in −8 … 8: a row or a column of some matrix. */
export const vector = (n: number, among?: readonly Dtype[]): fc.Arbitrary<NdArray> =>
  fc
    .boolean()
    .chain(row =>
      row ? matrix(1, n, among).map(m => m.pick(0, null)) : matrix(n, 1, among).map(m => m.pick(null, 0)),
    );

/** A size from 0 (by default) up to 6. */
export const size = (min = 0, max = 6): fc.Arbitrary<number> => fc.integer({ min, max });

/** Several sizes at once. */
export const sizes = (count: number, min = 0, max = 6): fc.Arbitrary<number[]> =>
  fc.array(size(min, max), { minLength: count, maxLength: count });

/** A symmetric matrix [n, n] of integers. */
export const symmetricMatrix = (n: number, among?: readonly Dtype[]): fc.Arbitrary<NdArray> =>
  matrix(n, n, among).map(a => {
    for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) a.set(i, j, a.get(j, i));
    return a;
  });

/** A symmetric positive definite matrix XᵀX + 4 I [n, n] of integers, its eigenvalues at least 4. */
export const definiteMatrix = (n: number, among?: readonly Dtype[]): fc.Arbitrary<NdArray> =>
  fc.tuple(matrix(n, n, ['array']), layout(among)).map(([x, how]) => {
    const values: number[] = [];
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        let sum = i === j ? 4 : 0;
        for (let k = 0; k < n; k++) sum += x.get(k, i) * x.get(k, j);
        values.push(sum);
      }
    }
    return laidOut(n, n, values, how);
  });
