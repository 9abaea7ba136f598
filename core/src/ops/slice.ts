/** Parts of tensors: slices as views, their inverse (placing a tensor into a larger one), and joining tensors. */

import { aNumber, checkArgument, type Kind, received } from '../check.ts';
import { promote, toElement } from '../dtype.ts';
import { ShapeError } from '../errors.ts';
import { defineOp, type Op } from '../op.ts';
import { type Layout, normalizeAxis, type Shape, sameShape } from '../shape.ts';
import { someTensors, type Tensor } from '../tensor.ts';
import { cast } from './cast.ts';
import { clone, squeeze, unsqueeze } from './view.ts';

/** Where a slice begins along each axis, its step, and its shape. */
type Window = { readonly start: readonly number[]; readonly step: readonly number[]; readonly shape: Shape };

function windowOf(x: Layout, { start, step, shape }: Window): Layout {
  return {
    shape,
    strides: x.strides.map((stride, i) => stride * step[i]!),
    offset: x.strides.reduce((offset, stride, i) => offset + stride * start[i]!, x.offset),
  };
}

const sliceView: Op<Window> = defineOp<Window>({
  name: 'slice',
  view: windowOf,
  backward: (gy, { inputs, attrs }) => [place([gy], { into: inputs[0]!.shape, window: attrs, value: 0 })],
});

export const place: Op<{ into: Shape; window: Window; value: number }> = defineOp<{
  into: Shape;
  window: Window;
  value: number;
}>({
  name: 'place',
  shape: ([x], { into }) => ({ shape: into, dtype: x!.dtype }),
  forward(backend, [x], out, { window, value }) {
    backend.fill(value, out);
    const { shape, strides, offset } = windowOf(out, window);
    backend.assign(out.make(out.storage, shape, strides, offset), x!);
  },
  backward: (gy, { attrs }) => [sliceView([gy], attrs.window)],
});

const aRange: Kind = {
  expected: '[start, stop, step], an index or null',
  is: v => v === null || (Array.isArray(v) && v.length <= 3),
};

/** A range along one axis: `[start, stop, step]` as in Python, an index that drops the axis, or null for all of it. */
export type Range = readonly [start?: number | null, stop?: number | null, step?: number] | number | null;

/** `x[start:stop:step, …]` with Python's rules; ranges stand for the leading axes. Negative steps are views too. */
export function slice(x: Tensor, ranges: readonly Range[], op = 'slice'): Tensor {
  if (ranges.length > x.rank) throw new ShapeError(`${op}: ${ranges.length} ranges for a tensor of rank ${x.rank}`);
  const start: number[] = [];
  const step: number[] = [];
  const shape: number[] = [];
  const dropped: number[] = [];
  x.shape.forEach((length, axis) => {
    const range = ranges[axis] ?? null;
    if (typeof range === 'number') {
      if (!Number.isInteger(range) || range < -length || range >= length)
        throw new ShapeError(`${op}: index ${range} is out of range for axis ${axis} of length ${length}`);
      start.push(range < 0 ? range + length : range);
      step.push(1);
      shape.push(1);
      dropped.push(axis);
      return;
    }
    checkArgument('slice', `range ${axis}`, range, aRange);
    const by = range?.[2] ?? 1;
    const bounds = [range?.[0], range?.[1]].filter(b => b !== null && b !== undefined);
    if (!Number.isInteger(by) || by === 0 || !bounds.every(b => Number.isInteger(b) || Math.abs(b) === Infinity))
      throw new ShapeError(`slice: expected integers and a step other than 0 for axis ${axis}, got [${range}]`);
    const [low, high] = by > 0 ? [0, length] : [-1, length - 1];
    const bound = (value: number | null | undefined, fallback: number) => {
      if (value === null || value === undefined) return fallback;
      return Math.min(Math.max(value < 0 ? value + length : value, low), high);
    };
    const from = bound(range?.[0], by > 0 ? low : high);
    const to = bound(range?.[1], by > 0 ? high : low);
    const count = Math.max(0, Math.ceil((to - from) / by));
    start.push(count === 0 ? 0 : from);
    step.push(by);
    shape.push(count);
  });
  const window = sliceView([x], { start, step, shape });
  return dropped.length === 0 ? window : squeeze(window, dropped);
}

/** `length` slices along `axis` from `start` on. */
export function narrow(x: Tensor, axis: number, start: number, length: number): Tensor {
  const a = normalizeAxis('narrow', axis, x.rank);
  if (!Number.isInteger(start) || !Number.isInteger(length) || start < 0 || length < 0 || start + length > x.shape[a]!)
    throw new ShapeError(`narrow: ${start} … ${start + length} is out of range for axis ${a} of length ${x.shape[a]}`);
  return sliceView([x], {
    start: x.shape.map((_, i) => (i === a ? start : 0)),
    step: x.shape.map(() => 1),
    shape: x.shape.map((full, i) => (i === a ? length : full)),
  });
}

/** Surrounds `x` with `value`: `pads[i]` = [before, after] for axis i; missing trailing axes get none. */
export function pad(x: Tensor, pads: readonly (readonly [number, number])[], value = 0): Tensor {
  const isPair = (pair: unknown) =>
    Array.isArray(pair) && pair.length === 2 && pair.every(p => Number.isInteger(p) && p >= 0);
  if (!Array.isArray(pads) || pads.length > x.rank || !pads.every(isPair))
    throw new ShapeError(`pad: expected at most ${x.rank} pairs of integers ≥ 0, got ${received(pads)}`);
  checkArgument('pad', 'value', value, aNumber);
  const start = x.shape.map((_, i) => pads[i]?.[0] ?? 0);
  const element = toElement('pad', value, x.dtype);
  const into = x.shape.map((length, i) => length + start[i]! + (pads[i]?.[1] ?? 0));
  return place([x], { into, window: { start, step: x.shape.map(() => 1), shape: x.shape }, value: element });
}

const concatOp: Op<number> = defineOp<number>({
  name: 'concat',
  shape: (x, axis) => ({
    shape: x[0]!.shape.map((length, i) => (i === axis ? x.reduce((sum, t) => sum + t.shape[axis]!, 0) : length)),
    dtype: x[0]!.dtype,
  }),
  forward(backend, x, out, axis) {
    let offset = 0;
    for (const part of x) {
      backend.assign(out.make(out.storage, part.shape, out.strides, offset * out.strides[axis]!), part);
      offset += part.shape[axis]!;
    }
  },
  backward(gy, { inputs, attrs: axis }) {
    let offset = 0;
    return inputs.map(x => {
      const part = x.requiresGrad ? narrow(gy, axis, offset, x.shape[axis]!) : null;
      offset += x.shape[axis]!;
      return part;
    });
  },
});

/** Tensors joined along an axis, in their common dtype; the other lengths must agree. */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  checkArgument('concat', 'tensors', tensors, someTensors);
  const [first] = tensors;
  if (first === undefined) throw new ShapeError('concat: expected at least one tensor, got none');
  const a = normalizeAxis('concat', axis, first.rank);
  for (const x of tensors)
    if (x.rank !== first.rank || x.shape.some((length, i) => i !== a && length !== first.shape[i]))
      throw new ShapeError(
        `concat: expected [${first.shape.map((n, i) => (i === a ? '*' : n)).join(',')}], got [${x.shape.join(',')}]`,
      );
  if (tensors.length === 1) return clone(first);
  const dtype = tensors.map(x => x.dtype).reduce(promote);
  return concatOp(
    tensors.map(x => cast(x, dtype)),
    a,
  );
}

/** Tensors of one shape joined along a new axis. */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  checkArgument('stack', 'tensors', tensors, someTensors);
  const [first] = tensors;
  if (first === undefined) throw new ShapeError('stack: expected at least one tensor, got none');
  for (const x of tensors)
    if (!sameShape(x.shape, first.shape))
      throw new ShapeError(`stack: shapes [${first.shape.join(',')}] and [${x.shape.join(',')}] differ`);
  return concat(
    tensors.map(x => unsqueeze(x, normalizeAxis('stack', axis, first.rank + 1))),
    axis,
  );
}
