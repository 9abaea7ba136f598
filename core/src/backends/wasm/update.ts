/** Updates in place on the `wasm` backend: those of tensors, and whole steps of optimizers. */

import { bytesPerElement } from '../../dtype.ts';
import { broadcastStrides, isContiguous, sameShape, sizeOf } from '../../shape.ts';
import type { AdamOptions, MomentOptions, Operand, SgdOptions } from '../backend.ts';
import * as reference from '../reference/update.ts';
import type { Context } from './context.ts';
import { resident, rowMajor, through } from './memory.ts';
import { walkPlanes } from './planes.ts';
import { addressOf, inMemory } from './region.ts';

export function addScaled(c: Context, y: Operand, x: Operand, alpha: number, keep: number): void {
  const run = c.other.addScaled[y.dtype];
  if (run === undefined || x.dtype !== y.dtype || x.storage === y.storage || !holds(y, alpha, keep))
    return reference.addScaled(y, x, alpha, keep);
  if (!inMemory(y)) return through(c, [y], ([to]) => addScaled(c, to!, x, alpha, keep));
  const source = resident(c, x);
  const [px, py] = [addressOf(source), addressOf(y)];
  const bytes = bytesPerElement(y.dtype);
  const from = { strides: broadcastStrides('addScaled', source, y.shape), offset: 0 };
  walkPlanes(
    y.shape,
    [{ strides: y.strides, offset: 0 }, from],
    (rows, cols, _, at, { row, col }) =>
      run(rows, cols, py + at[0]! * bytes, row[0]!, col[0]!, px + at[1]! * bytes, row[1]!, col[1]!, alpha, keep),
    true,
  );
}

export function addcdiv(c: Context, y: Operand, x: Operand, d: Operand, value: number, keep: number): void {
  const run = c.other.addcdiv[y.dtype];
  const fits = (s: Operand) => s.dtype === y.dtype && s.storage !== y.storage && sameShape(s.shape, y.shape);
  if (run === undefined || !isContiguous(y) || !fits(x) || !fits(d) || !holds(y, value, keep))
    return reference.addcdiv(y, x, d, value, keep);
  if (!inMemory(y)) return through(c, [y], ([to]) => addcdiv(c, to!, x, d, value, keep));
  const [numerator, divisor] = [rowMajor(c, x), rowMajor(c, d)];
  run(sizeOf(y.shape), addressOf(y), addressOf(numerator), addressOf(divisor), value, keep);
}

export function scale(c: Context, y: Operand, beta: number): void {
  const run = c.other.scale[y.dtype];
  if (run === undefined || !holds(y, beta)) return reference.scale(y, beta);
  if (!inMemory(y)) return through(c, [y], ([to]) => scale(c, to!, beta));
  const [address, bytes] = [addressOf(y), bytesPerElement(y.dtype)];
  walkPlanes(
    y.shape,
    [{ strides: y.strides, offset: 0 }],
    (rows, cols, _, at, { row, col }) => run(rows, cols, address + at[0]! * bytes, row[0]!, col[0]!, beta),
    true,
  );
}

export function moments(
  c: Context,
  m: Operand,
  v: Operand,
  g: Operand,
  second: Operand | null,
  out: Operand,
  o: MomentOptions,
): void {
  const run = c.other.moments[m.dtype];
  if (run === undefined) return reference.moments(m, v, g, second, out, o);
  if (!inMemory(m) || !inMemory(v) || !inMemory(out))
    return through(c, [m, v, out], ([m, v, out]) => moments(c, m!, v!, g, second, out!, o));
  const gradient = rowMajor(c, g);
  const squares = second === null ? null : rowMajor(c, second);
  const [pm, pv, pg, ps] = [addressOf(m), addressOf(v), addressOf(gradient), squares === null ? 0 : addressOf(squares)];
  const { beta1, beta2, eps, correction1, correction2 } = o;
  run(sizeOf(m.shape), pm, pv, pg, ps, beta1, beta2, eps, correction1, correction2, addressOf(out));
}

export function adam(c: Context, p: Operand, m: Operand, v: Operand, g: Operand, o: AdamOptions): void {
  const run = c.other.adam[p.dtype];
  if (run === undefined) return reference.adam(p, m, v, g, o);
  if (!inMemory(p) || !inMemory(m) || !inMemory(v))
    return through(c, [p, m, v], ([p, m, v]) => adam(c, p!, m!, v!, g, o));
  const gradient = rowMajor(c, g);
  const [pm, pv, pg, pp] = [addressOf(m), addressOf(v), addressOf(gradient), addressOf(p)];
  run(sizeOf(p.shape), pm, pv, pg, o.beta1, o.beta2, o.eps, o.correction1, o.correction2, pp, o.lr, o.keep);
}

export function sgd(c: Context, p: Operand, buf: Operand, g: Operand, o: SgdOptions): void {
  const run = c.other.sgd[p.dtype];
  if (run === undefined) return reference.sgd(p, buf, g, o);
  if (!inMemory(p) || !inMemory(buf)) return through(c, [p, buf], ([p, buf]) => sgd(c, p!, buf!, g, o));
  const gradient = rowMajor(c, g);
  const [pp, pb, pg] = [addressOf(p), addressOf(buf), addressOf(gradient)];
  run(sizeOf(p.shape), pp, pb, pg, o.lr, o.momentum, o.gain, o.bufferWeight, o.gradientWeight);
}

/** Whether kernels of y's dtype may round the factors to it: in the range of float32 they keep their digits. */
const holds = (y: Operand, a: number, b = 1): boolean => y.dtype === 'float64' || (inRange(a) && inRange(b));
const inRange = (x: number) => x === Math.fround(x) || (Math.abs(x) > 1e-36 && Math.abs(x) < 3e38);
