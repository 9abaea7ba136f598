/** Where elements are written by index, on the plain devices. */

import { contiguousStrides, type Shape } from '../../../shape.ts';
import type { Operand } from '../../backend.ts';
import { lastStride, rowMajor, walkRows } from '../../walk.ts';

/** Visits the elements j of `index` in row-major order, with where `full` has index[j] in place of the coordinate along `axis`. */
function written(
  full: Shape,
  index: Operand,
  axis: number,
  visit: (at: number, j: number, along: number) => void,
): void {
  const places = rowMajor(index);
  const strides = contiguousStrides(full);
  const stride = strides[axis]!;
  const path = { strides: strides.map((s, i) => (i === axis ? 0 : s)), offset: 0 };
  const steps = { strides: index.shape.map((_, i) => (i === axis ? 1 : 0)), offset: 0 };
  const [step, onward] = [lastStride(path.strides), lastStride(steps.strides)];
  const length = index.shape.at(-1)!;
  walkRows(index.shape, [path, steps], (start, [from, along]) => {
    for (let k = 0; k < length; k++)
      visit(from! + k * step + places[start + k]! * stride, start + k, along! + k * onward);
  });
}

export function lastWriter(index: Operand, axis: number, out: Operand): void {
  const target = out.storage.array;
  target.fill(-1, out.offset, out.offset + out.shape.reduce((a, b) => a * b, 1));
  written(out.shape, index, axis, (at, _, along) => {
    target[at] = along;
  });
}

export function scatterMax(x: Operand, src: Operand, axis: number, index: Operand, out: Operand): void {
  const [data, values, target] = [rowMajor(x), rowMajor(src), out.storage.array];
  target.set(data, out.offset);
  written(out.shape, index, axis, (at, j) => {
    const [old, value] = [target[at]!, values[j]!];
    if (value > old || Number.isNaN(value)) target[at] = value;
  });
}
