// QR factorisation.
import { qrKernel } from './kernels-factorise.ts';
import {
  type AnyNdArray,
  converted,
  expectArguments,
  expectPrecision,
  normalise,
  output,
  PRECISION,
  type PrecisionOptions,
  type RealNdArray,
  readFinite,
  resultDtype,
  zeros,
} from './ndarray.ts';
import { plainQr } from './plain/factorise.ts';
import { type Complete, replaced } from './solver.ts';

const ownQr: Complete['qr'] = (m, n, a, q, r) => {
  if (!qrKernel(m, n, a, q, r)) plainQr(m, n, a, q, r);
};

/** As in `Solver`, by whoever does the arithmetic. */
export const factorQr: Complete['qr'] = (...x) => (replaced().qr ?? ownQr)(...x);

/**
 * Reduced QR: a [m, n] = q r with k = min(m, n), q [m, k] of orthonormal columns, r [k, n] upper triangular with a
 * non-negative diagonal (so q and r are unique when a has full rank). Errors are relative to ‖a‖. Throws when `a` is not
 * a finite matrix.
 */
export function qr(a: AnyNdArray, o: PrecisionOptions = {}): { q: RealNdArray; r: RealNdArray } {
  expectArguments('qr', [a], o, PRECISION);
  const { precision = 'float64' } = o;
  expectPrecision('qr', precision, a);
  const { rows: m, cols: n, data } = readFinite('qr', a);
  const scale = normalise(data);
  const k = Math.min(m, n);
  const q = zeros(m * k, precision);
  const r = zeros(k * n, precision);
  factorQr(m, n, converted(data, precision), q, r);
  const dtype = resultDtype(a);
  const unscaled = converted(r, 'float64');
  if (scale !== 1) for (let p = 0; p < unscaled.length; p++) unscaled[p]! *= scale;
  return { q: output(q, [m, k], dtype), r: output(unscaled, [k, n], dtype) };
}
