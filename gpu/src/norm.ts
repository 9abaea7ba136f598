/** Normalisation: sums over the normalised axes, and elementwise arithmetic around them. */

import type { Operand } from '@otimes/core';
import { meanAxes, reducedShape, sizeOf, weightAxes, withLayout } from '@otimes/core/extend';
import { type Context, temporary } from './context.ts';
import { byGpuJs } from './elementwise.ts';
import { total } from './reduce.ts';

/** x̂ of x with mean m and variance v. */
const NORMAL = '(x - m) / Math.sqrt(v + eps)';

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
  const axes = meanAxes(mean);
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
  const axes = meanAxes(mean);
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
  const axes = weightAxes(x, out);
  const terms = temporary(c, 'float32', x.shape);
  byGpuJs(c, `return gy * ${NORMAL};`, { gy, x, m: mean, v: variance, eps }, terms);
  total(c, 'sum', terms, axes, withLayout(out, reducedShape(x.shape, axes, false)));
}
