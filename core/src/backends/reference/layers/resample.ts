/** Interpolation along an axis on the reference backend, in float64. */

import { sizeOf } from '../../../shape.ts';
import type { Operand } from '../../backend.ts';
import { rowMajor } from '../../walk.ts';

/** Calls `run` for each place of `result` [outer, count, inner] with the elements of `source` that it is made of, and their weights. */
function eachTap(
  axis: number,
  [source, result]: readonly [Operand, Operand],
  [left, right, weight]: readonly [Operand, Operand | null, Operand | null],
  run: (place: number, from: number, weight: number) => void,
): void {
  const [outer, inner] = [sizeOf(source.shape.slice(0, axis)), sizeOf(source.shape.slice(axis + 1))];
  const [length, count] = [source.shape[axis]!, result.shape[axis]!];
  const taps: (readonly [indices: ArrayLike<number>, weightOf: (w: number) => number])[] = [
    [rowMajor(left), right === null ? () => 1 : w => 1 - w],
  ];
  if (right !== null) taps.push([rowMajor(right), w => w]);
  const weights = weight && rowMajor(weight);
  for (let o = 0; o < outer; o++)
    for (let j = 0; j < count; j++)
      for (const [indices, weightOf] of taps)
        for (let i = 0; i < inner; i++)
          run((o * count + j) * inner + i, (o * length + indices[j]!) * inner + i, weightOf(weights?.[j] ?? 1));
}

export function resample(
  x: Operand,
  axis: number,
  left: Operand,
  right: Operand | null,
  weight: Operand | null,
  out: Operand,
): void {
  const [xs, ys] = [rowMajor(x), new Float64Array(sizeOf(out.shape))];
  eachTap(axis, [x, out], [left, right, weight], (place, from, w) => {
    ys[place]! += w * xs[from]!;
  });
  out.storage.array.set(ys, out.offset);
}

export function resampleGrad(
  gy: Operand,
  axis: number,
  left: Operand,
  right: Operand | null,
  weight: Operand | null,
  out: Operand,
): void {
  const [gs, gx] = [rowMajor(gy), new Float64Array(sizeOf(out.shape))];
  eachTap(axis, [out, gy], [left, right, weight], (place, to, w) => {
    gx[to]! += w * gs[place]!;
  });
  out.storage.array.set(gx, out.offset);
}
