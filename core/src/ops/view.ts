/** Views (no copies): reshape, permute, transpose, expand, squeeze, flatten. */

import { ShapeError } from '../errors.ts';
import { defineOp, type Op } from '../op.ts';
import {
  broadcastStrides,
  checkShape,
  contiguousStrides,
  type Layout,
  normalizeAxes,
  normalizeAxis,
  type Shape,
  sameShape,
  sizeOf,
} from '../shape.ts';
import type { Tensor } from '../tensor.ts';

const reshapeView: Op<{ shape: Shape; strides: readonly number[] }> = defineOp<{
  shape: Shape;
  strides: readonly number[];
}>({
  name: 'reshape',
  view: (x, { shape, strides }) => ({ shape, strides, offset: x.offset }),
  backward: (gy, node) => [reshape(gy, node.inputs[0]!.shape)],
});

/** `shape` with its one −1 replaced by what is left. */
function resolveShape(x: Tensor, shape: Shape): Shape {
  const open = shape.indexOf(-1);
  if (open !== shape.lastIndexOf(-1))
    throw new ShapeError(`reshape: expected at most one −1, got [${shape.join(',')}]`);
  if (open < 0) return checkShape('reshape', shape);
  const others = shape.filter((_, i) => i !== open);
  if (others.includes(-1)) throw new ShapeError(`reshape: one length may be −1, got [${shape.join(',')}]`);
  const known = sizeOf(checkShape('reshape', others));
  if (known === 0 && x.size === 0)
    throw new ShapeError(`reshape: −1 in [${shape.join(',')}] could be any length, since the others have no elements`);
  const missing = x.size / known;
  if (!Number.isInteger(missing))
    throw new ShapeError(
      `reshape: [${x.shape.join(',')}] has ${x.size} elements, which do not fill [${shape.join(',')}]`,
    );
  return shape.map((length, i) => (i === open ? missing : length));
}

/** Strides that read `x` with another shape of the same size, or null where its elements do not lie that way. */
function stridesFor(x: Layout, shape: Shape): number[] | null {
  if (sizeOf(shape) === 0) return contiguousStrides(shape);
  // Both shapes split into runs of axes of equal size; within a run the old axes must lie without gaps.
  const old = x.shape.map((length, i) => ({ length, stride: x.strides[i]! })).filter(axis => axis.length !== 1);
  const strides = new Array<number>(shape.length);
  let from = 0;
  for (let to = 0; to < shape.length; ) {
    if (shape[to] === 1) {
      strides[to++] = 0;
      continue;
    }
    const firstNew = to;
    const firstOld = from;
    let sizeNew = shape[to++]!;
    let sizeOld = old[from++]!.length;
    while (sizeNew !== sizeOld) {
      if (sizeNew < sizeOld) sizeNew *= shape[to++]!;
      else sizeOld *= old[from++]!.length;
    }
    for (let i = firstOld; i < from - 1; i++)
      if (old[i]!.stride !== old[i + 1]!.stride * old[i + 1]!.length) return null;
    let stride = old[from - 1]!.stride;
    for (let i = to - 1; i >= firstNew; i--) {
      strides[i] = stride;
      stride *= shape[i]!;
    }
  }
  return strides;
}

/** The same elements in row-major order with another shape; one length may be −1. A view wherever strides allow it. */
export function reshape(x: Tensor, to: Shape): Tensor {
  const shape = resolveShape(x, to);
  if (sizeOf(shape) !== x.size)
    throw new ShapeError(`reshape: [${x.shape.join(',')}] has ${x.size} elements, [${to.join(',')}] does not`);
  if (sameShape(shape, x.shape)) return x;
  const strides = stridesFor(x, shape);
  if (strides !== null) return reshapeView([x], { shape, strides });
  const copy = clone(x);
  return reshapeView([copy], { shape, strides: contiguousStrides(shape) });
}

const cloneOp: Op<null> = defineOp<null>({
  name: 'clone',
  shape: ([x]) => x!,
  forward: (backend, [x], out) => backend.copy(x!, out),
  backward: gy => [gy],
});

/** A contiguous copy. */
export function clone(x: Tensor): Tensor {
  return cloneOp([x], null);
}

/** `x` itself where its elements lie in row-major order without gaps, else a copy that does. */
export function contiguous(x: Tensor): Tensor {
  return x.isContiguous ? x : clone(x);
}

const permuteView: Op<readonly number[]> = defineOp<readonly number[]>({
  name: 'permute',
  view: (x, axes) => ({ shape: axes.map(a => x.shape[a]!), strides: axes.map(a => x.strides[a]!), offset: x.offset }),
  backward: (gy, { attrs: axes }) => [
    permuteView(
      [gy],
      axes.map((_, i) => axes.indexOf(i)),
    ),
  ],
});

/** Axis i of the result is axis `axes[i]` of `x`. */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  const order = axes.map(a => normalizeAxis('permute', a, x.rank));
  if (order.length !== x.rank || new Set(order).size !== x.rank)
    throw new ShapeError(`permute: expected each of ${x.rank} axes once, got [${axes.join(',')}]`);
  return permuteView([x], order);
}

/** Swaps two axes, by default the last two. */
export function transpose(x: Tensor, a = -2, b = -1): Tensor {
  const [p, q] = [normalizeAxis('transpose', a, x.rank), normalizeAxis('transpose', b, x.rank)];
  return permuteView(
    [x],
    x.shape.map((_, i) => (i === p ? q : i === q ? p : i)),
  );
}

const expandView: Op<Shape> = defineOp<Shape>({
  name: 'expand',
  view: (x, shape) => ({ shape, strides: broadcastStrides('expand', x, shape), offset: x.offset }),
  backward: gy => [gy],
});

/** Axes of length 1, and new leading ones, repeated to `shape` without a copy; −1 keeps a length. */
export function expand(x: Tensor, shape: Shape): Tensor {
  const lead = shape.length - x.rank;
  const target = checkShape(
    'expand',
    shape.map((length, i) => (length === -1 && i >= lead ? x.shape[i - lead]! : length)),
  );
  return sameShape(target, x.shape) ? x : expandView([x], target);
}

/** Without the axes of length 1, or without those named (an error if one is longer). */
export function squeeze(x: Tensor, axis?: number | readonly number[]): Tensor {
  const named = axis === undefined ? null : normalizeAxes('squeeze', axis, x.rank);
  for (const a of named ?? [])
    if (x.shape[a] !== 1)
      throw new ShapeError(`squeeze: axis ${a} of [${x.shape.join(',')}] has length ${x.shape[a]}, not 1`);
  return reshape(
    x,
    x.shape.filter((length, i) => (named === null ? length !== 1 : !named.includes(i))),
  );
}

/** With a new axis of length 1 at `axis`. */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  const at = normalizeAxis('unsqueeze', axis, x.rank + 1);
  return reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
}

/** Axes `start` … `end` merged into one; by default all of them. A scalar becomes [1]. */
export function flatten(x: Tensor, start = 0, end = -1): Tensor {
  if (x.rank === 0) return reshape(x, [1]);
  const [from, to] = [normalizeAxis('flatten', start, x.rank), normalizeAxis('flatten', end, x.rank)];
  if (from > to) throw new ShapeError(`flatten: start axis ${start} lies after end axis ${end}`);
  return reshape(x, [...x.shape.slice(0, from), sizeOf(x.shape.slice(from, to + 1)), ...x.shape.slice(to + 1)]);
}
