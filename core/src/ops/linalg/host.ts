/**
 * What the operations of linear algebra share: checks of their arguments, and the way of matrices [..., m, n] to the host, where
 * they are decomposed in float64 whatever their dtype, and back.
 */

import { type DType, isFloat, promote } from '../../dtype.ts';
import { DTypeError, describe, ShapeError } from '../../errors.ts';
import { arrayLike } from '../../fill.ts';
import { broadcastShapes, type Shape, sizeOf } from '../../shape.ts';
import { checkTensors, type Tensor } from '../../tensor.ts';
import { readsLater } from '../../values.ts';
import { cast } from '../cast.ts';
import { reciprocal, where } from '../elementwise.ts';
import { expand, transpose } from '../view.ts';

/** A matrix that an operation of linear algebra cannot take for its values: singular, or not positive definite. */
export class LinAlgError extends Error {
  override name = 'LinAlgError';
}

/** Throws unless `x` is a floating matrix, or a batch of them. */
export function checkMatrices(op: string, x: Tensor): Tensor {
  checkTensors(op, x);
  if (x.rank < 2) throw new ShapeError(`${op}: expected matrices [..., m, n], got ${describe(x)}`);
  if (!isFloat(x.dtype)) throw new DTypeError(`${op}: expected a floating tensor, got ${describe(x)}`);
  return x;
}

/** Throws unless they are square, too. */
export function checkSquare(op: string, x: Tensor): Tensor {
  checkMatrices(op, x);
  if (x.shape.at(-1) !== x.shape.at(-2))
    throw new ShapeError(`${op}: expected square matrices [..., n, n], got ${describe(x)}`);
  return x;
}

/** Throws on a device that is read with await: the decompositions run on the host. */
export function checkRead(op: string, x: Tensor): Tensor {
  if (readsLater(x))
    throw new TypeError(
      `${op}: it computes on the host, and tensors on '${x.device}' are read with await: take await x.cpu() for x, and ` +
        `to('${x.device}') for the result`,
    );
  return x;
}

/** Both in their common dtype, with common leading axes. */
export function together(op: string, a: Tensor, b: Tensor): [Tensor, Tensor] {
  const dtype = promote(a.dtype, b.dtype);
  const batch = broadcastShapes(op, batchOf(a), batchOf(b));
  const [left, right] = [a, b].map(x => expand(cast(x, dtype), [...batch, ...x.shape.slice(-2)]));
  return [left!, right!];
}

/** The leading axes of matrices. */
export const batchOf = (x: Tensor): Shape => x.shape.slice(0, -2);

/** A copy of the elements on the host, row-major. */
export const readAll = (x: Tensor): Float64Array => new Float64Array(x.storage.backend.read(x));

/** out ← row-major `data`. */
export function writeAll(out: Tensor, data: Float64Array): void {
  const source = arrayLike(out, out.dtype === 'float64' ? data : new Float32Array(data), out.shape);
  out.storage.backend.copy(source, out);
  source.storage.release();
}

/** Matrix `i` of the row-major `data` of matrices of `size` elements. */
export const part = (data: Float64Array, i: number, size: number): Float64Array =>
  data.subarray(i * size, (i + 1) * size);

/** 'the matrix', or 'matrix [1,2]' of a batch. */
export function whichOf(batch: Shape, i: number): string {
  if (batch.length === 0) return 'the matrix';
  const index = [...batch];
  let rest = i;
  for (let axis = batch.length - 1; axis >= 0; axis--) {
    index[axis] = rest % batch[axis]!;
    rest = Math.floor(rest / batch[axis]!);
  }
  return `matrix [${index.join(',')}]`;
}

/** Throws unless `matrix`, number i of `a`, is finite. */
export function checkFinite(op: string, a: Tensor, i: number, matrix: Float64Array): void {
  if (!matrix.every(Number.isFinite))
    throw new LinAlgError(`${op}: expected finite numbers, ${whichOf(batchOf(a), i)} of ${describe(a)} has others`);
}

/** The number of matrices. */
export const countOf = (x: Tensor): number => sizeOf(batchOf(x));

/** True on and below (above, for `upper`) diagonal `shift` of [m, n], above the main one for a positive shift. */
export function triangleOf(like: Tensor, m: number, n: number, upper: boolean, shift = 0): Tensor {
  const mask = new Uint8Array(m * n);
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) mask[i * n + j] = Number(upper ? j - i >= shift : j - i <= shift);
  return arrayLike(like, mask, [m, n]);
}

/** The same elements outside of the graph. */
export const detached = (x: Tensor): Tensor => x.make(x.storage, x.shape, x.strides, x.offset);

/** 1 / x, and 0 where `zero` holds. */
export const reciprocalBut = (zero: Tensor, x: Tensor): Tensor => where(zero, 0, reciprocal(where(zero, 1, x)));

/** The transposes of matrices. */
export const turn = (x: Tensor): Tensor => transpose(x, -2, -1);

/** The unit roundoff of a dtype, as `torch.finfo(dtype).eps`. */
export const epsOf = (dtype: DType): number => (dtype === 'float64' ? 2 ** -52 : 2 ** -23);
