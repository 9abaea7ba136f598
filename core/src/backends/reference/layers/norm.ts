/** Normalisation on the reference backend: walks over the rows of x, with the statistics and the weight broadcast beside it. */

import { broadcastStrides, contiguousStrides, type Layout, type Shape, sizeOf } from '../../../shape.ts';
import type { Operand } from '../../backend.ts';
import { lastStride, type Path, walkRows } from '../../walk.ts';

/** Where `x`, broadcast to the shape `to`, stands in a walk over that shape, and its step within a row. */
const pathTo = (x: Layout, to: Shape): Path & { step: number } => {
  const strides = broadcastStrides('normalize', x, to);
  return { strides, offset: x.offset, step: lastStride(strides) };
};

/** The same for an array of its own, of which every element stands for one group of elements of `to`. */
const pathOf = (shape: Shape, to: Shape) => pathTo({ shape, strides: contiguousStrides(shape), offset: 0 }, to);

export function normalize(
  x: Operand,
  weight: Operand,
  bias: Operand | null,
  eps: number,
  out: Operand,
  mean: Operand,
  variance: Operand,
): void {
  const { shape } = x;
  const length = shape.at(-1) ?? 1;
  const groups = sizeOf(mean.shape);
  const count = sizeOf(shape) / groups;
  const [xs, ws, bs, target] = [x.storage.array, weight.storage.array, bias?.storage.array, out.storage.array];
  const [px, pg, pw, pb] = [
    pathTo(x, shape),
    pathOf(mean.shape, shape),
    pathTo(weight, shape),
    bias && pathTo(bias, shape),
  ];

  const mu = new Float64Array(groups);
  walkRows(shape, [px, pg], (_, at) => {
    for (let k = 0, i = at[0]!, s = at[1]!; k < length; k++, i += px.step, s += pg.step) mu[s]! += xs[i]!;
  });
  for (let s = 0; s < groups; s++) mu[s]! /= count;

  const sigma2 = new Float64Array(groups);
  walkRows(shape, [px, pg], (_, at) => {
    for (let k = 0, i = at[0]!, s = at[1]!; k < length; k++, i += px.step, s += pg.step)
      sigma2[s]! += (xs[i]! - mu[s]!) ** 2;
  });
  for (let s = 0; s < groups; s++) sigma2[s]! /= count;

  walkRows(shape, [px, pg, pw, pb ?? pw], (start, at) => {
    for (let k = 0; k < length; k++) {
      const s = at[1]! + k * pg.step;
      const normal = (xs[at[0]! + k * px.step]! - mu[s]!) / Math.sqrt(sigma2[s]! + eps);
      const shift = bs === undefined ? 0 : bs[at[3]! + k * pb!.step]!;
      target[out.offset + start + k] = normal * ws[at[2]! + k * pw.step]! + shift;
    }
  });
  mean.storage.array.set(mu, mean.offset);
  variance.storage.array.set(sigma2, variance.offset);
}

export function normalizeInputGrad(
  gy: Operand,
  x: Operand,
  weight: Operand,
  eps: number,
  mean: Operand,
  variance: Operand,
  out: Operand,
): void {
  const { shape } = x;
  const length = shape.at(-1) ?? 1;
  const groups = sizeOf(mean.shape);
  const count = sizeOf(shape) / groups;
  const [gs, xs, ws, target] = [gy.storage.array, x.storage.array, weight.storage.array, out.storage.array];
  const [mu, scale] = [values(mean), values(variance).map(v => 1 / Math.sqrt(v + eps))];
  const paths = [pathTo(gy, shape), pathTo(x, shape), pathTo(weight, shape), pathOf(mean.shape, shape)] as const;
  const [pg, px, pw, ps] = paths;

  // The means of g and of g · x̂ in each group.
  const [meanG, meanGX] = [new Float64Array(groups), new Float64Array(groups)];
  walkRows(shape, paths, (_, at) => {
    for (let k = 0; k < length; k++) {
      const s = at[3]! + k * ps.step;
      const g = gs[at[0]! + k * pg.step]! * ws[at[2]! + k * pw.step]!;
      meanG[s]! += g / count;
      meanGX[s]! += (g * (xs[at[1]! + k * px.step]! - mu[s]!) * scale[s]!) / count;
    }
  });
  walkRows(shape, paths, (start, at) => {
    for (let k = 0; k < length; k++) {
      const s = at[3]! + k * ps.step;
      const g = gs[at[0]! + k * pg.step]! * ws[at[2]! + k * pw.step]!;
      const normal = (xs[at[1]! + k * px.step]! - mu[s]!) * scale[s]!;
      target[out.offset + start + k] = (g - meanG[s]! - normal * meanGX[s]!) * scale[s]!;
    }
  });
}

export function normalizeWeightGrad(
  gy: Operand,
  x: Operand,
  eps: number,
  mean: Operand,
  variance: Operand,
  out: Operand,
): void {
  const { shape } = x;
  const length = shape.at(-1) ?? 1;
  const [gs, xs] = [gy.storage.array, x.storage.array];
  const [mu, scale] = [values(mean), values(variance).map(v => 1 / Math.sqrt(v + eps))];
  const paths = [pathTo(gy, shape), pathTo(x, shape), pathOf(mean.shape, shape), pathOf(out.shape, shape)] as const;
  const [pg, px, ps, pw] = paths;
  const sums = new Float64Array(sizeOf(out.shape));
  walkRows(shape, paths, (_, at) => {
    for (let k = 0; k < length; k++) {
      const s = at[2]! + k * ps.step;
      const normal = (xs[at[1]! + k * px.step]! - mu[s]!) * scale[s]!;
      sums[at[3]! + k * pw.step]! += gs[at[0]! + k * pg.step]! * normal;
    }
  });
  out.storage.array.set(sums, out.offset);
}

export function normalizeGrads(
  gy: Operand,
  x: Operand,
  weight: Operand,
  eps: number,
  mean: Operand,
  variance: Operand,
  out: Operand,
  weightGrad: Operand,
  biasGrad: Operand,
): void {
  normalizeInputGrad(gy, x, weight, eps, mean, variance, out);
  normalizeWeightGrad(gy, x, eps, mean, variance, weightGrad);
  const { shape } = x;
  const length = shape.at(-1) ?? 1;
  const [pg, pb] = [pathTo(gy, shape), pathOf(biasGrad.shape, shape)];
  const gs = gy.storage.array;
  const sums = new Float64Array(sizeOf(biasGrad.shape));
  walkRows(shape, [pg, pb], (_, at) => {
    for (let k = 0; k < length; k++) sums[at[1]! + k * pb.step]! += gs[at[0]! + k * pg.step]!;
  });
  biasGrad.storage.array.set(sums, biasGrad.offset);
}

/** The elements of a contiguous operand, in float64. */
function values(x: Operand): Float64Array {
  return Float64Array.from(x.storage.array.subarray(x.offset, x.offset + sizeOf(x.shape)));
}
