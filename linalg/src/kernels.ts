// The WebAssembly kernels. They work in a memory of the package's own, into which operands are copied and out of which
// results are (n² numbers for n³ operations); it comes with the first call. Each function answers null or false where there
// are no kernels or no room for a matrix (eigh of float64 beyond [11000, 11000]), and plain TypeScript has to do.

import {
  type GemmExports,
  instantiate,
  instantiateLinalg,
  type LinalgExports,
  Memory,
  variants,
} from '@otimes/kernels';
import { describe, NotPositiveDefiniteError } from './errors.ts';
import {
  type AnyNdArray,
  converted,
  powerOfTwo,
  type Real,
  type RealDtype,
  resultDtype,
  rowMajor,
  symmetryTolerance,
} from './ndarray.ts';

/** Bytes of memory that outlive a call; a larger one is given back. eigh of float64 [2500, 2500] fits. */
const KEEP = 256 * 2 ** 20;
/** Where to begin: address 0 means "none" to some kernels. */
const START = 1024;
const align = (address: number) => (address + 63) & ~63;

type Room = {
  readonly memory: Memory;
  readonly exports: LinalgExports;
  readonly products: GemmExports;
  /** Address of what products pack into. */
  readonly scratch: number;
  /** Where operands may begin. */
  readonly free: number;
};

let room: Room | undefined;

/** Null without SIMD, and where the system lends no memory. */
function open(): Room | null {
  if (room !== undefined) return room;
  const variant = variants()[0];
  const memory = Memory.create({ initial: 4 * 2 ** 20, shared: false });
  const products = memory === null || variant === undefined ? null : instantiate(memory.wasm, { variant });
  if (memory === null || variant === undefined || products === null) return null;
  const exports = instantiateLinalg(memory.wasm, products, variant);
  room = { memory, exports, products, scratch: START, free: align(START + products.gemmScratch()) };
  return room;
}

/** Calls `run` with addresses of areas of so many bytes. */
function placed<R>(sizes: (exports: LinalgExports) => number[], run: (room: Room, ...at: number[]) => R): R | null {
  const found = open();
  if (found === null) return null;
  let end = found.free;
  const addresses = sizes(found.exports).map(size => {
    const at = end;
    end = Math.ceil((at + size) / 64) * 64;
    return at;
  });
  if (!found.memory.grow(end)) return null;
  if (found.memory.size > KEEP) room = undefined;
  return run(found, ...addresses);
}

const typeOf = (dtype: RealDtype) => (dtype === 'float32' ? 'f32' : 'f64');
const bytesOf = (dtype: RealDtype) => (dtype === 'float32' ? 4 : 8);
const dtypeOf = (a: Real): RealDtype => (a.BYTES_PER_ELEMENT === 4 ? 'float32' : 'float64');

/** An area of the memory as an array. */
function view(memory: Memory, at: number, length: number, dtype: RealDtype): Real {
  const first = at / bytesOf(dtype);
  return (dtype === 'float32' ? memory.f32 : memory.f64).subarray(first, first + length);
}

/**
 * Calls `run` with the address of a copy of a [n, n], its max|a|, a way to take out the matrix that comes to stand there,
 * and the other areas. Small asymmetries are averaged away in the copy; null where `a` is none that the operation takes.
 */
function symmetric<R>(
  operation: string,
  a: AnyNdArray,
  precision: RealDtype,
  sizes: (exports: LinalgExports, matrix: number) => number[],
  run: (room: Room, a: number, max: number, take: (dtype: RealDtype) => Real, ...at: number[]) => R,
): R | null {
  const data = rowMajor(operation, a);
  const [n = 0, cols] = a.shape;
  if (n !== cols) return null;
  const matrix = n * n * bytesOf(precision);
  return placed(
    exports => [matrix, ...sizes(exports, matrix)],
    (room, at, ...rest) => {
      view(room.memory, at!, n * n, precision).set(data);
      const max = room.exports[`symmetrise_${typeOf(precision)}`](n, at!, symmetryTolerance(a));
      if (max < 0) return null;
      const take = (dtype: RealDtype) => {
        const found = view(room.memory, at!, n * n, precision);
        return dtype === precision ? found.slice() : converted(found, dtype);
      };
      return run(room, at!, max, take, ...rest);
    },
  );
}

/** Values [n] ascending and eigenvectors in the columns of vectors [n, n], as `eigh` returns them. */
export function eighKernel(a: AnyNdArray, precision: RealDtype): { values: Float64Array; vectors: Real } | null {
  const type = typeOf(precision);
  const n = a.shape[0]!;
  return symmetric(
    'eigh',
    a,
    precision,
    (exports, matrix) => [8 * n, matrix, exports[`eighWork_${type}`](n)],
    ({ memory, exports, scratch }, at, max, take, valuesAt, vectorsAt, work) => {
      const scale = powerOfTwo(max);
      if (scale !== 1) exports[`divide_${type}`](n * n, scale, at);
      if (exports[`eigh_${type}`](n, at, valuesAt!, vectorsAt!, work!, scratch) === 0)
        throw new Error(`eigh: divide and conquer did not converge: ${describe(a)}`);
      const values = memory.f64.slice(valuesAt! / 8, valuesAt! / 8 + n);
      if (scale !== 1) for (let i = 0; i < n; i++) values[i]! *= scale;
      return { values, vectors: take(resultDtype(a)) };
    },
  );
}

/** basisᵀ · vectors of [n, n] in their dtype, as the worker in the background and core's `matmul` compute it. */
export function rotationKernel(n: number, basis: Real, vectors: Real): Real | null {
  const dtype = dtypeOf(vectors);
  const { byteLength } = vectors;
  return placed(
    () => [byteLength, byteLength, byteLength],
    ({ memory, products, scratch }, from, to, out) => {
      view(memory, from!, n * n, dtype).set(basis);
      view(memory, to!, n * n, dtype).set(vectors);
      const product = dtype === 'float32' ? products.sgemm : products.dgemm;
      product(n, n, n, from!, 1, n, to!, n, 1, out!, n, 0, 0, 0, 1, 0, 0, 0, scratch);
      return view(memory, out!, n * n, dtype).slice();
    },
  );
}

/** L [n, n] with zeros above the diagonal, or (L Lᵀ)⁻¹, as an array of dtype. Throws as `operation` does. */
export function choleskyKernel(
  operation: string,
  a: AnyNdArray,
  precision: RealDtype,
  want: 'factor' | 'inverse',
  dtype: RealDtype,
): Real | null {
  const type = typeOf(precision);
  const n = a.shape[0]!;
  return symmetric(
    operation,
    a,
    precision,
    exports => [
      Math.max(exports[`choleskyWork_${type}`](n), want === 'inverse' ? exports[`cholInverseWork_${type}`](n) : 0),
    ],
    ({ memory, exports, scratch }, at, _, take, work) => {
      const pivot = exports[`cholesky_${type}`](n, at, work!, scratch);
      if (pivot >= 0) {
        const value = view(memory, at, n * n, precision)[pivot * (n + 1)]!;
        throw new NotPositiveDefiniteError(operation, describe(a), pivot, value);
      }
      if (want === 'factor') exports[`lowerOnly_${type}`](n, at);
      else {
        exports[`cholInverse_${type}`](n, at, work!, scratch);
        exports[`mirror_${type}`](n, at);
      }
      return take(dtype);
    },
  );
}

/** As in `Solver`, and so are the next two; false where plain TypeScript has to do. */
export function cholInverseKernel(n: number, l: Real): boolean {
  const dtype = dtypeOf(l);
  const type = typeOf(dtype);
  const done = placed(
    exports => [l.byteLength, exports[`cholInverseWork_${type}`](n)],
    ({ memory, exports, scratch }, at, work) => {
      view(memory, at!, l.length, dtype).set(l);
      exports[`cholInverse_${type}`](n, at!, work!, scratch);
      l.set(view(memory, at!, l.length, dtype));
      return true;
    },
  );
  return done === true;
}

export function solveLowerKernel(n: number, l: Real, x: Real, k: number, transposed: boolean): boolean {
  const dtype = dtypeOf(l);
  const type = typeOf(dtype);
  const done = placed(
    exports => [l.byteLength, x.byteLength, exports[`solveLowerWork_${type}`](n)],
    ({ memory, exports, scratch }, at, xAt, work) => {
      view(memory, at!, l.length, dtype).set(l);
      view(memory, xAt!, x.length, dtype).set(x);
      exports[`solveLower_${type}`](n, at!, xAt!, k, transposed ? 1 : 0, work!, scratch);
      x.set(view(memory, xAt!, x.length, dtype));
      return true;
    },
  );
  return done === true;
}

export function qrKernel(m: number, n: number, a: Real, q: Real, r: Real): boolean {
  const dtype = dtypeOf(a);
  const type = typeOf(dtype);
  const done = placed(
    exports => [a.byteLength, q.byteLength, r.byteLength, exports[`qrWork_${type}`](m, n)],
    ({ memory, exports, scratch }, at, qAt, rAt, work) => {
      view(memory, at!, a.length, dtype).set(a);
      exports[`qr_${type}`](m, n, at!, qAt!, rAt!, work!, scratch);
      q.set(view(memory, qAt!, q.length, dtype));
      r.set(view(memory, rAt!, r.length, dtype));
      return true;
    },
  );
  return done === true;
}
