// The way between scijs ndarrays and the algorithms. Outside: any dtype, strides, offset. Inside there is one
// canonical form, contiguous row-major float64, and the way out is a fresh row-major ndarray.
import type { Data, NdArray } from 'ndarray';
import { describe, fail } from './errors.ts';
import { ndarrayOf } from './ndview.ts';

/** What every function takes: an ndarray of numbers; any dtype, strides (negative too) and offset. */
export type AnyNdArray = NdArray<Data<number>>;
export type Real = Float32Array | Float64Array;
/** What every function returns: fresh, row-major; float32 if all inputs are float32, else float64. */
export type RealNdArray = NdArray<Real>;
export type RealDtype = 'float32' | 'float64';

export type PrecisionOptions = {
  /**
   * Of the arithmetic. Defaults to 'float64', whatever the dtype. 'float32', which float32 input alone may ask for, takes
   * about 0.6 of the time and is accurate to about 1e-6 of the norm.
   */
  readonly precision?: RealDtype;
};

/**
 * Checks the arguments of a public function: throws unless `arrays` are ndarrays within their data, and `o` a plain object of options in `known`, each
 * one of the values listed there (null: any).
 */
export function expectArguments(
  operation: string,
  arrays: readonly AnyNdArray[],
  o: object = {},
  known: Readonly<Record<string, readonly unknown[] | null>> = {},
): void {
  arrays.forEach((a: unknown, i) => {
    if (!isNdArray(a)) fail(operation, `expected argument ${i} to be an ndarray`, show(a));
    expectWithin(operation, a as AnyNdArray);
  });
  const names = Object.keys(known);
  const prototype = o === null ? undefined : Object.getPrototypeOf(o);
  if (typeof o !== 'object' || (prototype !== Object.prototype && prototype !== null))
    fail(operation, `expected options${names.map(name => ` ${name}`)}`, show(o));
  for (const [name, value] of Object.entries(o)) {
    const values = known[name];
    if (values === undefined) fail(operation, `there is no option '${name}'`, `known: ${names.join(', ') || 'none'}`);
    if (values !== null && value !== undefined && !values.includes(value))
      fail(operation, `expected ${name} to be ${values.join(' or ')}`, show(value));
  }
}

/** Values that `precision` takes. */
export const PRECISION = { precision: ['float32', 'float64'] };

const isNdArray = (a: unknown): boolean =>
  typeof a === 'object' && a !== null && 'data' in a && 'stride' in a && 'offset' in a && 'dtype' in a && 'shape' in a;

/** Throws where an ndarray reads elements that its data do not have. */
function expectWithin(operation: string, a: AnyNdArray): void {
  const { data, shape, stride, offset } = a;
  let fits = Number.isInteger(offset) && shape.length === stride.length;
  let [first, last] = [offset, offset];
  for (let i = 0; i < shape.length; i++) {
    const [length, step] = [shape[i]!, stride[i]!];
    fits &&= Number.isInteger(length) && length >= 0 && Number.isInteger(step);
    if (step < 0) first += (length - 1) * step;
    else last += (length - 1) * step;
  }
  if (fits && (shape.includes(0) || (first >= 0 && last < data.length))) return;
  const came = `${describe(a)} with strides [${stride}] and offset ${offset}`;
  fail(operation, `expected an ndarray within the ${data.length} elements of its data`, came);
}

function show(value: unknown): string {
  if (typeof value === 'object' && value !== null)
    return 'ndarray' in value ? 'a tensor, whose ndarray() is one' : Object.prototype.toString.call(value);
  return typeof value === 'function' ? 'a function' : String(value);
}

/** Throws where float32 arithmetic is asked for and not all inputs are float32: it could overflow. */
export function expectPrecision(operation: string, precision: RealDtype, ...inputs: AnyNdArray[]): void {
  if (precision === 'float32' && resultDtype(...inputs) !== 'float32')
    fail(operation, "precision 'float32' expects float32", ...inputs.map(describe));
}

/** A matrix inside the package: element (i, j) is data[i * cols + j], and the data are ours to overwrite. */
export type Dense = { readonly rows: number; readonly cols: number; readonly data: Float64Array };

/** Largest |a[i,j] − a[j,i]| / max|a| that passes as rounding: 1e-6 for float32, 1e-12 otherwise. */
export const symmetryTolerance = (a: AnyNdArray): number => (a.dtype === 'float32' ? 1e-6 : 1e-12);

export const resultDtype = (...inputs: AnyNdArray[]): RealDtype =>
  inputs.every(a => a.dtype === 'float32') ? 'float32' : 'float64';

/** `data` (row-major, ours) as the ndarray that leaves the package; copied only where the type changes. */
export const output = (data: Real, shape: number[], dtype: RealDtype): RealNdArray =>
  ndarrayOf(converted(data, dtype), shape);

/** `data` itself where it has the type, else a copy. */
export function converted(data: Real, dtype: RealDtype): Real {
  const bytes = dtype === 'float32' ? 4 : 8;
  if (data.BYTES_PER_ELEMENT === bytes) return data;
  return bytes === 4 ? new Float32Array(data) : new Float64Array(data);
}

export const zeros = (length: number, dtype: RealDtype): Real =>
  dtype === 'float32' ? new Float32Array(length) : new Float64Array(length);

export function expectRank(operation: string, rank: 1 | 2, a: AnyNdArray): void {
  if (a.dtype.startsWith('big')) fail(operation, 'expected numbers', describe(a));
  if (a.shape.length !== rank) fail(operation, `expected a ${rank === 1 ? 'vector' : 'matrix'}`, describe(a));
}

/** A fresh float64 copy of any matrix. */
export function readMatrix(operation: string, a: AnyNdArray): Dense {
  expectRank(operation, 2, a);
  const rows = a.shape[0]!;
  const cols = a.shape[1]!;
  return { rows, cols, data: copy(a, rows, cols, a.stride[0]!, a.stride[1]!) };
}

/** A fresh float64 copy of any vector. */
export function readVector(operation: string, a: AnyNdArray): Float64Array {
  expectRank(operation, 1, a);
  return copy(a, a.shape[0]!, 1, a.stride[0]!, 0);
}

/** A fresh copy of a matrix without NaN and infinities; throws with the index of the first. */
export function readFinite(operation: string, a: AnyNdArray): Dense {
  const dense = readMatrix(operation, a);
  const { data, cols } = dense;
  for (let p = 0; p < data.length; p++) {
    if (!Number.isFinite(data[p]!)) {
      const index = `${Math.floor(p / cols)},${p % cols}`;
      fail(operation, 'expected finite numbers', `${describe(a)} with ${data[p]} at [${index}]`);
    }
  }
  return dense;
}

/** A fresh copy of a finite symmetric matrix; what `symmetryTolerance` lets pass is averaged away. Throws otherwise. */
export function readSymmetric(operation: string, a: AnyNdArray): Dense {
  const dense = readFinite(operation, a);
  const { rows: n, cols, data } = dense;
  if (n !== cols) fail(operation, 'expected a square matrix', describe(a));
  const max = maxAbs(data);
  const tolerance = symmetryTolerance(a);
  forLower(n, (p, q) => {
    const lower = data[p]!;
    const upper = data[q]!;
    if (lower === upper) return;
    if (Math.abs(lower - upper) > tolerance * max) {
      const [i, j] = [Math.floor(p / n), p % n];
      const came = `${describe(a)} with [${j},${i}] = ${upper} and [${i},${j}] = ${lower}`;
      fail(operation, `expected a symmetric matrix (within ${tolerance.toExponential(0)} of max|a| = ${max})`, came);
    }
    data[p] = data[q] = 0.5 * lower + 0.5 * upper;
  });
  return dense;
}

/** Indices of each entry below the diagonal of an [n, n] and of its mirror image, in tiles for the cache's sake. */
export function forLower(n: number, visit: (lower: number, upper: number) => void): void {
  const TILE = 32;
  for (let i0 = 0; i0 < n; i0 += TILE) {
    for (let j0 = 0; j0 <= i0; j0 += TILE) {
      for (let i = i0; i < Math.min(i0 + TILE, n); i++) {
        for (let j = j0; j < Math.min(j0 + TILE, i); j++) visit(i * n + j, j * n + i);
      }
    }
  }
}

function maxAbs(data: Float64Array): number {
  let max = 0;
  for (let p = 0; p < data.length; p++) {
    const x = Math.abs(data[p]!);
    if (x > max) max = x;
  }
  return max;
}

/** The power of two at or just below max > 0, and 1 for 0: what `normalise` divides by. */
export const powerOfTwo = (max: number): number =>
  max === 0 ? 1 : 2 ** Math.max(-1074, Math.min(1023, Math.floor(Math.log2(max))));

/**
 * Divides by `powerOfTwo` of max|data| and returns it, so that squares neither overflow nor vanish. A power of two,
 * because then scaling and unscaling round nothing; divided by, because the reciprocal of a denormal overflows.
 */
export function normalise(data: Float64Array): number {
  const scale = powerOfTwo(maxAbs(data));
  if (scale !== 1) for (let p = 0; p < data.length; p++) data[p] = data[p]! / scale;
  return scale;
}

/** The elements of a matrix in row-major order: where they lie if they lie so, else a float64 copy. Only to be read. */
export function rowMajor(operation: string, a: AnyNdArray): Real {
  expectRank(operation, 2, a);
  const { data, offset } = a;
  const [rows = 0, cols = 0] = a.shape;
  const inOrder = (a.stride[1] === 1 || cols === 1) && (a.stride[0] === cols || rows === 1);
  if (inOrder && (data instanceof Float64Array || data instanceof Float32Array))
    return data.subarray(offset, offset + rows * cols);
  return readMatrix(operation, a).data;
}

function copy(a: AnyNdArray, rows: number, cols: number, rowStride: number, colStride: number): Float64Array {
  const { offset } = a;
  const out = new Float64Array(rows * cols);
  if (a.data instanceof Float64Array && (colStride === 1 || cols === 1) && (rowStride === cols || rows === 1)) {
    out.set(a.data.subarray(offset, offset + out.length));
    return out;
  }
  const data = elements(a.data);
  for (let i = 0, p = 0; i < rows; i++) {
    for (let j = 0, q = offset + i * rowStride; j < cols; j++, q += colStride) out[p++] = data[q]!;
  }
  return out;
}

/** Something with plain indices; ndarray's generic storage (an object with get and set) is copied into an array. */
function elements(data: Data<number>): ArrayLike<number> {
  return 'get' in data ? Array.from({ length: data.length }, (_, i) => data.get(i)) : data;
}
