/** Sorting, and the first few in an order. Gradients go to the elements that were picked. */

import type { DeviceKernels } from '../backends/backend.ts';
import { bring } from '../backends/bring.ts';
import * as reference from '../backends/reference/layers/order.ts';
import * as wasm from '../backends/wasm/layers/order.ts';
import { aBoolean, anInteger, checkArgument, checkOptions } from '../check.ts';
import { isFloat } from '../dtype.ts';
import { describe, ShapeError } from '../errors.ts';
import { arrayLike, fullLike } from '../fill.ts';
import { defineOp, notDifferentiable } from '../op.ts';
import { normalizeAxis } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { cast } from './cast.ts';
import { composeInto } from './compose.ts';
import { and, eq, gt, logicalNot, lt, nan, ne, or, where } from './elementwise.ts';
import { gather } from './select.ts';
import { concat, narrow } from './slice.ts';
import { expand, reshape, transpose } from './view.ts';

bring<Required<Pick<DeviceKernels, 'argsort' | 'topk'>>>(reference, wasm);

/** Elements and where they came from, both [..., m]. */
type Keyed = { readonly key: Tensor; readonly place: Tensor };

/**
 * The positions in order along the last axis by a bitonic network (Batcher 1968): log²m / 2 rounds of comparisons between places that
 * are a power of 2 apart. Equal elements are told apart by where they came from, so that the order is that of a stable sort.
 */
function network(x: Tensor, descending: boolean): Tensor {
  const length = x.shape.at(-1)!;
  let m = 1;
  while (m < length) m *= 2;
  const rest = x.shape.slice(0, -1);
  const places = arrayLike(
    x,
    Int32Array.from({ length: m }, (_, i) => i),
    [m],
  );
  // What fills up the row comes last: NaN counts as largest, and equal ones came from before.
  const largest = isFloat(x.dtype) ? Number.NaN : 2147483647;
  const smallest = isFloat(x.dtype) ? -Infinity : -2147483648;
  const filler = fullLike('sort', x, descending ? smallest : largest, [...rest, m - length]);
  let now: Keyed = { key: concat([x, filler], -1), place: expand(places, [...rest, m]) };
  for (let size = 2; size <= m; size *= 2)
    for (let by = size / 2; by >= 1; by /= 2) now = round(now, m, size, by, descending);
  return narrow(now.place, rest.length, 0, length);
}

/** Puts pairs that are `by` apart in order: up and down in turn, by blocks of `size`. */
function round({ key, place }: Keyed, m: number, size: number, by: number, descending: boolean): Keyed {
  const rest = key.shape.slice(0, -1);
  const paired = (t: Tensor) => reshape(t, [...rest, m / (2 * by), 2, by]);
  const sides = (t: Tensor) => [0, 1].map(side => narrow(paired(t), rest.length + 1, side, 1)) as [Tensor, Tensor];
  const [a, b] = sides(key);
  const [i, j] = sides(place);
  const blocks = m / (2 * by);
  const down = Uint8Array.from({ length: blocks }, (_, block) =>
    Math.floor((block * 2 * by) / size) % 2 === 1 ? 1 : 0,
  );
  const late = comesLater(a, b, i, j, descending);
  const swap = ne(late, arrayLike(key, down, [blocks, 1, 1]));
  const swapped = (p: Tensor, q: Tensor) =>
    reshape(concat([where(swap, q, p), where(swap, p, q)], rest.length + 1), [...rest, m]);
  return { key: swapped(a, b), place: swapped(i, j) };
}

/** Whether a, from place i, comes after b, from place j. */
function comesLater(a: Tensor, b: Tensor, i: Tensor, j: Tensor, descending: boolean): Tensor {
  const [more, behind] = descending ? [lt(a, b), gt(i, j)] : [gt(a, b), gt(i, j)];
  if (!isFloat(a.dtype)) return or(more, and(eq(a, b), behind));
  const [p, q] = [nan(a), nan(b)];
  const beyond = descending ? and(q, logicalNot(p)) : and(p, logicalNot(q));
  return or(or(more, beyond), and(or(eq(a, b), and(p, q)), behind));
}

type Order = { readonly axis: number; readonly descending: boolean };

/** Booleans are sorted as 0 and 1. */
const sortable = (x: Tensor) => (x.dtype === 'bool' ? cast(x, 'int32') : x);

/** `network` along an axis. */
function networkAlong(x: Tensor, axis: number, descending: boolean): Tensor {
  return transpose(network(transpose(sortable(x), axis, -1), descending), axis, -1);
}

const argsortOp = defineOp<Order>({
  name: 'argsort',
  shape: ([x]) => ({ shape: x!.shape, dtype: 'int32' }),
  forward(backend, [x], out, { axis, descending }) {
    if (backend.argsort !== undefined) backend.argsort(x!, axis, descending, out);
    else if (out.size > 0) composeInto(backend, out, () => networkAlong(x!, axis, descending));
  },
  backward: notDifferentiable,
});

const topkOp = defineOp<{ readonly axis: number; readonly largest: boolean; readonly k: number }>({
  name: 'topk',
  shape: ([x], { axis, k }) => ({ shape: x!.shape.map((n, i) => (i === axis ? k : n)), dtype: 'int32' }),
  forward(backend, [x], out, { axis, largest, k }) {
    if (backend.topk !== undefined) backend.topk(x!, axis, largest, out);
    else if (out.size > 0) composeInto(backend, out, () => narrow(networkAlong(x!, axis, largest), axis, 0, k));
  },
  backward: notDifferentiable,
});

/** `descending` defaults to false. The order is stable on every device, whatever `stable` says. */
export type SortOptions = { descending?: boolean; stable?: boolean };

/** Elements in an order, and where they were along the axis (int32). */
export type Sorted = { values: Tensor; indices: Tensor };

/** A scalar as a row, as PyTorch sorts it. */
function placed(op: string, x: Tensor, axis: number): { row: Tensor; axis: number } {
  checkTensors(op, x);
  const row = x.rank === 0 ? reshape(x, [1]) : x;
  return { row, axis: normalizeAxis(op, axis, row.rank) };
}

function positions(op: string, x: Tensor, axis: number, o: SortOptions): { order: Tensor; row: Tensor; axis: number } {
  const at = placed(op, x, axis);
  checkOptions(op, o, { descending: aBoolean, stable: aBoolean });
  const order = argsortOp([sortable(at.row)], { axis: at.axis, descending: o.descending ?? false });
  return { order, ...at };
}

/**
 * The positions along `axis` (default the last) of the elements in ascending order, int32; of equals the first one first. NaN counts as
 * largest.
 */
export function argsort(x: Tensor, axis = -1, o: SortOptions = {}): Tensor {
  return reshape(positions('argsort', x, axis, o).order, x.shape);
}

/**
 * The elements along `axis` (default the last) in ascending order, and where they were; of equals the first one first. NaN counts as
 * largest. Gradients go to where the elements were.
 */
export function sort(x: Tensor, axis = -1, o: SortOptions = {}): Sorted {
  const { order, row, axis: at } = positions('sort', x, axis, o);
  return { values: reshape(gather(row, at, order), x.shape), indices: reshape(order, x.shape) };
}

/** `largest` defaults to true. The result is in order, whatever `sorted` says. */
export type TopkOptions = { largest?: boolean; sorted?: boolean };

/**
 * The `k` largest elements along `axis` (default the last), the largest first, and where they were (int32); with `largest: false` the
 * smallest. Of equals the first ones are taken. NaN counts as largest. Gradients go to where the elements were.
 *
 * @throws ShapeError unless 0 ≤ k ≤ the length of the axis
 */
export function topk(x: Tensor, k: number, along = -1, o: TopkOptions = {}): Sorted {
  checkTensors('topk', x);
  checkArgument('topk', 'k', k, anInteger);
  checkOptions('topk', o, { largest: aBoolean, sorted: aBoolean });
  const { row, axis } = placed('topk', x, along);
  if (k < 0 || k > row.shape[axis]!)
    throw new ShapeError(`topk: expected k in 0 … ${row.shape[axis]} for axis ${axis} of ${describe(x)}, got ${k}`);
  const order = topkOp([sortable(row)], { axis, largest: o.largest ?? true, k });
  const shaped = (t: Tensor) => (x.rank === 0 && k === 1 ? reshape(t, []) : t);
  return { values: shaped(gather(row, axis, order)), indices: shaped(order) };
}
