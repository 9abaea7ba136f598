// The WebAssembly kernels of Cholesky and QR, as kernels.ts has that of the eigenproblem.

import { instantiateFactorise } from '@otimes/kernels';
import { describe, NotPositiveDefiniteError } from './errors.ts';
import { dtypeOf, placed, symmetric, typeOf, view } from './kernels.ts';
import type { AnyNdArray, Real, RealDtype } from './ndarray.ts';

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
    instantiateFactorise,
    operation,
    a,
    precision,
    exports => [
      Math.max(exports[`choleskyWork_${type}`](n), want === 'inverse' ? exports[`cholInverseWork_${type}`](n) : 0),
    ],
    (exports, { memory, scratch }, at, _, take, work) => {
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
    instantiateFactorise,
    exports => [l.byteLength, exports[`cholInverseWork_${type}`](n)],
    (exports, { memory, scratch }, at, work) => {
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
    instantiateFactorise,
    exports => [l.byteLength, x.byteLength, exports[`solveLowerWork_${type}`](n)],
    (exports, { memory, scratch }, at, xAt, work) => {
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
    instantiateFactorise,
    exports => [a.byteLength, q.byteLength, r.byteLength, exports[`qrWork_${type}`](m, n)],
    (exports, { memory, scratch }, at, qAt, rAt, work) => {
      view(memory, at!, a.length, dtype).set(a);
      exports[`qr_${type}`](m, n, at!, qAt!, rAt!, work!, scratch);
      q.set(view(memory, qAt!, q.length, dtype));
      r.set(view(memory, rAt!, r.length, dtype));
      return true;
    },
  );
  return done === true;
}
