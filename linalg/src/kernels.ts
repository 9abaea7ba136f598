// The WebAssembly kernels. They work in a memory of the package's own, into which operands are copied and out of which
// results are (n² numbers for n³ operations); it comes with the first call. Each function answers null or false where there
// are no kernels or no room for a matrix (eigh of float64 beyond [11000, 11000]), and plain TypeScript has to do.

import {
  type EigenExports,
  type GemmExports,
  instantiate,
  instantiateEigen,
  Memory,
  type Variant,
  variants,
  type WasmMemory,
} from '@otimes/kernels';
import { describe } from './errors.ts';
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

/** Makes the exports of a module. */
export type Module<Exports extends object> = (memory: WasmMemory, products: GemmExports, variant: Variant) => Exports;

export type Room = {
  readonly variant: Variant;
  readonly memory: Memory;
  readonly products: GemmExports;
  /** The exports of the modules that were asked for. */
  readonly instances: Map<Module<object>, object>;
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
  const free = align(START + products.gemmScratch());
  room = { variant, memory, products, instances: new Map(), scratch: START, free };
  return room;
}

function exportsOf<Exports extends object>(
  { instances, memory, products, variant }: Room,
  module: Module<Exports>,
): Exports {
  const exports = (instances.get(module) as Exports | undefined) ?? module(memory.wasm, products, variant);
  instances.set(module, exports);
  return exports;
}

/** Calls `run` with the exports of a module and addresses of areas of so many bytes. */
export function placed<Exports extends object, R>(
  module: Module<Exports>,
  sizes: (exports: Exports) => number[],
  run: (exports: Exports, room: Room, ...at: number[]) => R,
): R | null {
  const found = open();
  if (found === null) return null;
  const exports = exportsOf(found, module);
  let end = found.free;
  const addresses = sizes(exports).map(size => {
    const at = end;
    end = Math.ceil((at + size) / 64) * 64;
    return at;
  });
  if (!found.memory.grow(end)) return null;
  if (found.memory.size > KEEP) room = undefined;
  return run(exports, found, ...addresses);
}

export const typeOf = (dtype: RealDtype) => (dtype === 'float32' ? 'f32' : 'f64');
const bytesOf = (dtype: RealDtype) => (dtype === 'float32' ? 4 : 8);
export const dtypeOf = (a: Real): RealDtype => (a.BYTES_PER_ELEMENT === 4 ? 'float32' : 'float64');

/** An area of the memory as an array. */
export function view(memory: Memory, at: number, length: number, dtype: RealDtype): Real {
  const first = at / bytesOf(dtype);
  return (dtype === 'float32' ? memory.f32 : memory.f64).subarray(first, first + length);
}

/**
 * Calls `run` with the address of a copy of a [n, n], its max|a|, a way to take out the matrix that comes to stand there,
 * and the other areas. Small asymmetries are averaged away in the copy; null where `a` is none that the operation takes.
 */
export function symmetric<Exports extends Pick<EigenExports, 'symmetrise_f32' | 'symmetrise_f64'>, R>(
  module: Module<Exports>,
  operation: string,
  a: AnyNdArray,
  precision: RealDtype,
  sizes: (exports: Exports, matrix: number) => number[],
  run: (exports: Exports, room: Room, a: number, max: number, take: (dtype: RealDtype) => Real, ...at: number[]) => R,
): R | null {
  const data = rowMajor(operation, a);
  const [n = 0, cols] = a.shape;
  if (n !== cols) return null;
  const matrix = n * n * bytesOf(precision);
  return placed(
    module,
    exports => [matrix, ...sizes(exports, matrix)],
    (exports, room, at, ...rest) => {
      view(room.memory, at!, n * n, precision).set(data);
      const max = exports[`symmetrise_${typeOf(precision)}`](n, at!, symmetryTolerance(a));
      if (max < 0) return null;
      const take = (dtype: RealDtype) => {
        const found = view(room.memory, at!, n * n, precision);
        return dtype === precision ? found.slice() : converted(found, dtype);
      };
      return run(exports, room, at!, max, take, ...rest);
    },
  );
}

/** Values [n] ascending and eigenvectors in the columns of vectors [n, n], as `eigh` returns them. */
export function eighKernel(a: AnyNdArray, precision: RealDtype): { values: Float64Array; vectors: Real } | null {
  const type = typeOf(precision);
  const n = a.shape[0]!;
  return symmetric(
    instantiateEigen,
    'eigh',
    a,
    precision,
    (exports, matrix) => [8 * n, matrix, exports[`eighWork_${type}`](n)],
    (exports, { memory, scratch }, at, max, take, valuesAt, vectorsAt, work) => {
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
    instantiateEigen,
    () => [byteLength, byteLength, byteLength],
    (_, { memory, products, scratch }, from, to, out) => {
      view(memory, from!, n * n, dtype).set(basis);
      view(memory, to!, n * n, dtype).set(vectors);
      const product = dtype === 'float32' ? products.sgemm : products.dgemm;
      product(n, n, n, from!, 1, n, to!, n, 1, out!, n, 0, 0, 0, 1, 0, 0, 0, scratch);
      return view(memory, out!, n * n, dtype).slice();
    },
  );
}
