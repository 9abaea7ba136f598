/** Shapes, strides and axes. Strides and offsets count elements, not bytes. */

import { anAxis, aShape, checkArgument, received, axes as someAxes } from './check.ts';
import { ShapeError } from './errors.ts';

export type Shape = readonly number[];

/** How the elements of a tensor lie in its storage. */
export type Layout = { readonly shape: Shape; readonly strides: readonly number[]; readonly offset: number };

export function sizeOf(shape: Shape): number {
  let size = 1;
  for (let i = 0; i < shape.length; i++) size *= shape[i]!;
  return size;
}

/** Strides of a row-major array without gaps. */
export function contiguousStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i]!;
  }
  return strides;
}

/** True if the elements follow each other in row-major order. Axes of length 1 and empty arrays do not care. */
export function isContiguous({ shape, strides }: Layout): boolean {
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    const length = shape[i]!;
    if (length === 0) return true;
    if (length !== 1) {
      if (strides[i] !== step) return false;
      step *= length;
    }
  }
  return true;
}

export function sameShape(a: Shape, b: Shape): boolean {
  if (a === b) return true;
  if (!Array.isArray(a) || !Array.isArray(b)) checkArgument('sameShape', 'both', Array.isArray(a) ? b : a, aShape);
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Throws unless every length is an integer ≥ 0, and there are at most 2⁵³ elements. */
export function checkShape(op: string, shape: Shape): Shape {
  checkArgument(op, 'shape', shape, aShape);
  let size = 1;
  for (const length of shape) {
    if (!Number.isInteger(length) || length < 0)
      throw new ShapeError(`${op}: a shape is made of integers ≥ 0, got [${shape.map(n => received(n)).join(',')}]`);
    size *= length || 1;
  }
  if (size > Number.MAX_SAFE_INTEGER) throw new ShapeError(`${op}: [${shape.join(',')}] has more than 2⁵³ elements`);
  return shape;
}

/** The common shape of `a` and `b` by NumPy's rule: aligned at the last axis, lengths equal or 1. */
export function broadcastShapes(op: string, a: Shape, b: Shape): Shape {
  if (sameShape(a, b)) return a;
  const rank = Math.max(a.length, b.length);
  const shape = new Array<number>(rank);
  for (let i = 1; i <= rank; i++) {
    const p = i <= a.length ? a[a.length - i]! : 1;
    const q = i <= b.length ? b[b.length - i]! : 1;
    if (p !== q && p !== 1 && q !== 1)
      throw new ShapeError(`${op}: shapes [${a.join(',')}] and [${b.join(',')}] do not broadcast (${p} against ${q})`);
    shape[rank - i] = p === 1 ? q : p;
  }
  return shape;
}

/** Strides that read `x` as if it had the shape `to`; broadcast axes get stride 0. */
export function broadcastStrides(op: string, x: Layout, to: Shape): readonly number[] {
  if (x.shape === to) return x.strides;
  const lead = to.length - x.shape.length;
  const strides = new Array<number>(to.length);
  for (let i = 0; i < to.length; i++) {
    const length = i < lead ? 1 : x.shape[i - lead]!;
    if (i >= lead && length === to[i]) strides[i] = x.strides[i - lead]!;
    else if (length === 1) strides[i] = 0;
    else throw new ShapeError(`${op}: [${x.shape.join(',')}] does not expand to [${to.join(',')}]`);
  }
  if (lead < 0) throw new ShapeError(`${op}: [${x.shape.join(',')}] does not expand to [${to.join(',')}]`);
  return strides;
}

/** An axis as 0 … rank−1; negative ones count from the end. */
export function normalizeAxis(op: string, axis: number, rank: number): number {
  if (typeof axis !== 'number') checkArgument(op, 'axis', axis, anAxis);
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank)
    throw new ShapeError(`${op}: axis ${axis} is out of range for a tensor of rank ${rank}`);
  return axis < 0 ? axis + rank : axis;
}

/** Several axes, ascending, each at most once; `undefined` means all of them. */
export function normalizeAxes(op: string, axis: number | readonly number[] | undefined, rank: number): number[] {
  if (axis === undefined) return Array.from({ length: rank }, (_, i) => i);
  if (typeof axis !== 'number' && !Array.isArray(axis)) checkArgument(op, 'axis', axis, someAxes);
  const axes = (typeof axis === 'number' ? [axis] : axis).map(a => normalizeAxis(op, a, rank));
  if (new Set(axes).size !== axes.length) throw new ShapeError(`${op}: axes [${axes.join(',')}] name one axis twice`);
  return axes.sort((a, b) => a - b);
}

/** The shape after a reduction over `axes`: those have length 1 (keepdim) or are gone. */
export function reducedShape(shape: Shape, axes: readonly number[], keepdim: boolean): number[] {
  return keepdim
    ? shape.map((length, i) => (axes.includes(i) ? 1 : length))
    : shape.filter((_, i) => !axes.includes(i));
}

/** Whether a layout of integers reads only elements that there are, of the `size` in memory. */
export function isWithin(layout: Layout, size: number): boolean {
  if (!Array.isArray(layout?.shape) || !Array.isArray(layout.strides)) return false;
  const { shape, strides, offset } = layout;
  if (shape.length !== strides.length || ![offset, ...shape, ...strides].every(Number.isInteger)) return false;
  if (shape.some(length => length < 0)) return false;
  if (sizeOf(shape) === 0) return true;
  let [first, last] = [offset, offset];
  shape.forEach((length, i) => {
    if (strides[i]! < 0) first += (length - 1) * strides[i]!;
    else last += (length - 1) * strides[i]!;
  });
  return first >= 0 && last < size;
}
