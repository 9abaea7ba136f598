/** Normalisation: sums over the normalised axes, and elementwise arithmetic around them. */

import type { Operand } from '@otimes/core';
import { type Context, operand, temporary } from './context.ts';
import { byGpuJs } from './elementwise.ts';
import { contiguousStrides, sizeOf } from './layouts.ts';
import { total } from './reduce.ts';

/** x̂ of x with mean m and variance v. */
const NORMAL = '(x - m) / Math.sqrt(v + eps)';

/** The axes over which means of that shape were taken. */
const axesOf = (mean: Operand) => mean.shape.map((_, axis) => axis).filter(axis => mean.shape[axis] === 1);

export function normalize(
  c: Context,
  x: Operand,
  weight: Operand,
  bias: Operand | null,
  eps: number,
  out: Operand,
  mean: Operand,
  variance: Operand,
): void {
  if (sizeOf(mean.shape) === 0) return;
  const axes = axesOf(mean);
  total(c, 'mean', x, axes, mean);
  total(c, 'variance', x, axes, variance, mean);
  const operands = { x, m: mean, v: variance, w: weight, eps };
  if (bias === null) byGpuJs(c, `return ${NORMAL} * w;`, operands, out);
  else byGpuJs(c, `return ${NORMAL} * w + b;`, { ...operands, b: bias }, out);
}

export function normalizeInputGrad(
  c: Context,
  gy: Operand,
  x: Operand,
  weight: Operand,
  eps: number,
  mean: Operand,
  variance: Operand,
  out: Operand,
): void {
  if (sizeOf(out.shape) === 0) return;
  const axes = axesOf(mean);
  const [g, along] = [temporary(c, 'float32', x.shape), temporary(c, 'float32', x.shape)];
  const [mg, ma] = [temporary(c, 'float32', mean.shape), temporary(c, 'float32', mean.shape)];
  byGpuJs(c, 'return gy * w;', { gy, w: weight }, g);
  byGpuJs(c, `return g * ${NORMAL};`, { g, x, m: mean, v: variance, eps }, along);
  total(c, 'mean', g, axes, mg);
  total(c, 'mean', along, axes, ma);
  const body = `return (g - mg - ${NORMAL} * ma) / Math.sqrt(v + eps);`;
  byGpuJs(c, body, { g, x, m: mean, v: variance, mg, ma, eps }, out);
}

export function normalizeWeightGrad(
  c: Context,
  gy: Operand,
  x: Operand,
  eps: number,
  mean: Operand,
  variance: Operand,
  out: Operand,
): void {
  if (sizeOf(out.shape) === 0) return;
  const lead = x.shape.length - out.shape.length;
  const axes = x.shape.map((_, axis) => axis).filter(axis => axis < lead || out.shape[axis - lead] !== x.shape[axis]);
  const terms = temporary(c, 'float32', x.shape);
  byGpuJs(c, `return gy * ${NORMAL};`, { gy, x, m: mean, v: variance, eps }, terms);
  const shape = x.shape.filter((_, axis) => !axes.includes(axis));
  total(c, 'sum', terms, axes, operand(out, { shape, strides: contiguousStrides(shape) }));
}
