/** Writing into tensors: how optimizers update parameters and running averages. Nothing here is recorded. */

import type { AdamOptions, MomentOptions, SgdOptions } from '../backends/backend.ts';
import { aNumber, checkArgument } from '../check.ts';
import { isFloat } from '../dtype.ts';
import { DTypeError, describe, GraphError, ShapeError } from '../errors.ts';
import { emptyLike } from '../fill.ts';
import { isRecording, noGrad } from '../graph.ts';
import { sameShape } from '../shape.ts';
import { checkSameDevice, checkTensors, type Tensor } from '../tensor.ts';
import { watching } from '../watch.ts';
import { cast } from './cast.ts';

/**
 * Checks the target and what is written to it, and counts the write, so that a backward that needs the old values says so
 * instead of using new ones.
 */
function target(op: string, y: Tensor, ...sources: readonly Tensor[]): void {
  for (const x of sources) writable(op, y, x);
  if (sources.length === 0) writable(op, y, y);
  if (y.size > 0 && y.strides.some((stride, i) => stride === 0 && y.shape[i]! > 1))
    throw new ShapeError(`${op}: ${describe(y)} repeats elements (expand), so a write to one is a write to several`);
  watching?.write(y);
  y.storage.version++;
}

/** Throws where writing `x` to `y` would lose a gradient, or they lie on two devices. */
function writable(op: string, y: Tensor, x: Tensor): void {
  if (isRecording()) {
    if (y.requiresGrad)
      throw new GraphError(`${op}: ${describe(y)} requires a gradient; change it inside noGrad(() => …)`);
    if (x.requiresGrad)
      throw new GraphError(`${op}: would lose the gradient of ${describe(x)}; use its detach(), or noGrad(() => …)`);
  }
  checkSameDevice(op, x, y.storage);
  // Before a kernel reads any address, because computing lazy elements may collect memory.
  y.storage.materialize();
  x.storage.materialize();
  y.storage.backend.endKernels?.();
}

function checkFits(op: string, y: Tensor, x: Tensor): void {
  checkTensors(op, x);
  const lead = y.rank - x.rank;
  if (lead < 0 || x.shape.some((length, i) => length !== 1 && length !== y.shape[i + lead]))
    throw new ShapeError(`${op}: ${describe(x)} does not broadcast to ${describe(y)}`);
}

/** Throws unless `o` has the constants of an update, all of them numbers. `sum` is that of all, which tells most mistakes. */
function checkConstants<O extends object>(op: string, sum: number, o: O, names: readonly (keyof O & string)[]): void {
  if (typeof sum === 'number' && !Number.isNaN(sum)) return;
  for (const name of names) checkArgument(op, name, o?.[name], aNumber);
}

const MOMENTS = ['beta1', 'beta2', 'eps', 'correction1', 'correction2'] as const;
const ADAM = [...MOMENTS, 'lr', 'keep'] as const;
const SGD = ['lr', 'momentum', 'gain', 'bufferWeight', 'gradientWeight'] as const;

/** y ← x, converted to the dtype of y and broadcast to its shape. Where int32 cannot hold an element, y stays as it was. */
export function copyInto(y: Tensor, x: Tensor, restores = false): void {
  checkFits('copy_', y, x);
  writable('copy_', y, x);
  const source = y.dtype === 'int32' && isFloat(x.dtype) ? wholeNumbers(x) : x;
  target('copy_', y, source);
  const { backend } = y.storage;
  if (restores && backend.restore !== undefined) backend.restore(y, source);
  else backend.assign(y, source);
}

/** The same of a state that was saved, which is written even where a check has failed and no read has told it yet. */
export const restoreInto = (y: Tensor, x: Tensor): void => copyInto(y, x, true);

/** x as int32, before anything is written. */
function wholeNumbers(x: Tensor): Tensor {
  try {
    return noGrad(() => cast(x, 'int32'));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new RangeError(error.message.replace('astype:', 'copy_:'), { cause: error });
  }
}

/** y ← keep y + α x, with x broadcast to y. */
export function addScaledInto(y: Tensor, x: Tensor, alpha: number, keep: number): void {
  checkFits('addScaled_', y, x);
  if (!isFloat(y.dtype)) throw new DTypeError(`addScaled_: expected a floating target, got ${describe(y)}`);
  if (typeof alpha !== 'number') checkArgument('addScaled_', 'alpha', alpha, aNumber);
  if (typeof keep !== 'number') checkArgument('addScaled_', 'keep', keep, aNumber);
  target('addScaled_', y, x);
  y.storage.backend.addScaled(y, x, alpha, keep);
}

/** y ← keep y + value x / d, with x and d broadcast to y. */
export function addcdivInto(y: Tensor, x: Tensor, d: Tensor, value: number, keep: number): void {
  checkFits('addcdiv_', y, x);
  checkFits('addcdiv_', y, d);
  if (!isFloat(y.dtype)) throw new DTypeError(`addcdiv_: expected a floating target, got ${describe(y)}`);
  if (typeof value !== 'number') checkArgument('addcdiv_', 'value', value, aNumber);
  if (typeof keep !== 'number') checkArgument('addcdiv_', 'keep', keep, aNumber);
  target('addcdiv_', y, x, d);
  y.storage.backend.addcdiv(y, x, d, value, keep);
}

/** y ← β y. */
export function scaleInto(y: Tensor, beta: number): void {
  if (!isFloat(y.dtype)) throw new DTypeError(`scale_: expected a floating target, got ${describe(y)}`);
  if (typeof beta !== 'number') checkArgument('scale_', 'beta', beta, aNumber);
  target('scale_', y);
  y.storage.backend.scale(y, beta);
}

/**
 * One update of Adam's moments m and v, in place, from the gradient g and its square (or `second` in the square's
 * place); returns the direction m̂ / (√v̂ + ε). See `Backend.moments`. All of one shape and floating dtype.
 */
export function adamMoments(m: Tensor, v: Tensor, g: Tensor, second: Tensor | null, o: MomentOptions): Tensor {
  const others = second === null ? [v, g] : [v, g, second];
  checkTensors('adamMoments', m, ...others);
  checkConstants('adamMoments', o?.beta1 + o?.beta2 + o?.eps + o?.correction1 + o?.correction2, o, MOMENTS);
  for (const x of others)
    if (!sameShape(x.shape, m.shape) || x.dtype !== m.dtype)
      throw new ShapeError(`adamMoments: expected tensors like m, ${describe(m)}, got ${describe(x)}`);
  if (!isFloat(m.dtype)) throw new DTypeError(`adamMoments: expected floating tensors, got ${describe(m)}`);
  if (!m.isContiguous || !v.isContiguous) throw new ShapeError('adamMoments: m and v must be contiguous');
  const sources = second === null ? [g] : [g, second];
  target('adamMoments', m, ...sources);
  target('adamMoments', v, ...sources);
  const out = emptyLike(m);
  m.storage.backend.moments(m, v, g, second, out, o);
  return out;
}

/** A tensor that a fused update of `p` by `g` writes to: like p, floating and contiguous. */
function updated(op: string, p: Tensor, x: Tensor, g: Tensor): void {
  checkLike(op, p, x);
  if (!isFloat(x.dtype)) throw new DTypeError(`${op}: expected floating tensors, got ${describe(x)}`);
  if (!x.isContiguous) throw new ShapeError(`${op}: expected a tensor without gaps, got ${describe(x)}`);
  writable(op, x, g);
  x.storage.version++;
}

function checkLike(op: string, p: Tensor, x: Tensor): void {
  if (!sameShape(x.shape, p.shape) || x.dtype !== p.dtype)
    throw new ShapeError(`${op}: expected tensors like p, ${describe(p)}, got ${describe(x)}`);
}

/** A whole step of Adam (or AdamW) in place, by one kernel: `adamMoments`, then p ← keep p − lr · direction. */
export function adamStep(p: Tensor, m: Tensor, v: Tensor, g: Tensor, o: AdamOptions): void {
  checkTensors('adamStep', p, m, v, g);
  checkLike('adamStep', p, g);
  const sum = o?.beta1 + o?.beta2 + o?.eps + o?.correction1 + o?.correction2 + o?.lr + o?.keep;
  checkConstants('adamStep', sum, o, ADAM);
  updated('adamStep', p, p, g);
  updated('adamStep', p, m, g);
  updated('adamStep', p, v, g);
  p.storage.backend.adam(p, m, v, g, o);
}

/** A step of SGD with momentum in place, by one kernel: buf ← momentum buf + gain g;  p ← p − lr (bufferWeight buf + gradientWeight g). */
export function sgdStep(p: Tensor, buf: Tensor, g: Tensor, o: SgdOptions): void {
  checkTensors('sgdStep', p, buf, g);
  checkLike('sgdStep', p, g);
  const sum = o?.lr + o?.momentum + o?.gain + o?.bufferWeight + o?.gradientWeight;
  checkConstants('sgdStep', sum, o, SGD);
  updated('sgdStep', p, p, g);
  updated('sgdStep', p, buf, g);
  p.storage.backend.sgd(p, buf, g, o);
}

/**
 * A gradient of a loss that was multiplied by `scale`, in place: g ← g / scale, and found ← 1 where an element of g is not finite. Both are
 * scalars on the device of g.
 */
export function unscale(g: Tensor, scale: Tensor, found: Tensor): void {
  const { backend } = g.storage;
  target('unscale', g, scale);
  target('unscale', found, g);
  if (backend.unscale !== undefined) backend.unscale(g, scale, found);
  else {
    found.copy_(found.maximum(g.isFinite().logicalNot().astype('float32').max()));
    g.copy_(g.div(scale));
  }
}
