/** Normalisation by means and elementwise arithmetic, in the dtype of the statistics. */

import { reducedShape, sizeOf } from '../../shape.ts';
import type { Backend, Operand } from '../backend.ts';
import { withLayout } from '../operand.ts';
import { type Scratch, within } from './scratch.ts';

/**
 * Normalisation. `mean` and `variance` have the shape of x with the normalised axes as length 1: the last ones for layer
 * norm, all but the channels for batch norm. `weight` and `bias` broadcast to x. x̂ = (x − mean) / √(variance + eps).
 */
export class NormKernels {
  /**
   * out ← x̂ · weight + bias; fills `mean` and `variance` (Σ (x − mean)² / n), which are contiguous and float64, or float32 on
   * a device without float64. There a variance ends at 3.4e38: with some |x − mean| > 1.8e19 it is infinite, and x̂ is 0.
   */
  normalize(
    this: Backend,
    x: Operand,
    weight: Operand,
    bias: Operand | null,
    eps: number,
    out: Operand,
    mean: Operand,
    variance: Operand,
  ): void {
    if (sizeOf(mean.shape) === 0) return;
    const { dtype } = mean;
    const axes = meanAxes(mean);
    within(this, scratch => {
      const elements = scratch.as(x, dtype);
      this.reduce('mean', elements, axes, mean);
      this.reduce('mean', scratch.unary('square', scratch.binary('sub', elements, mean)), axes, variance);
      const y = scratch.binary('mul', normalized(scratch, x, eps, mean, variance).normal, scratch.as(weight, dtype));
      this.copy(bias === null ? y : scratch.binary('add', y, scratch.as(bias, dtype)), out);
    });
  }

  /** out (like x) ← (g − mean(g) − x̂ · mean(g · x̂)) / √(variance + eps), where g = gy · weight. */
  normalizeInputGrad(
    this: Backend,
    gy: Operand,
    x: Operand,
    weight: Operand,
    eps: number,
    mean: Operand,
    variance: Operand,
    out: Operand,
  ): void {
    if (sizeOf(out.shape) === 0) return;
    const { dtype } = mean;
    const axes = meanAxes(mean);
    within(this, scratch => {
      const { normal, deviation } = normalized(scratch, x, eps, mean, variance);
      const g = scratch.binary('mul', scratch.as(gy, dtype), scratch.as(weight, dtype));
      const along = scratch.reduce('mean', scratch.binary('mul', g, normal), axes);
      const rest = scratch.binary('sub', g, scratch.reduce('mean', g, axes));
      const straight = scratch.binary('sub', rest, scratch.binary('mul', normal, along));
      this.copy(scratch.binary('div', straight, deviation), out);
    });
  }

  /** out (like the weight) ← gy · x̂, summed over the axes along which the weight was broadcast. */
  normalizeWeightGrad(
    this: Backend,
    gy: Operand,
    x: Operand,
    eps: number,
    mean: Operand,
    variance: Operand,
    out: Operand,
  ): void {
    if (sizeOf(out.shape) === 0) return;
    const axes = weightAxes(x, out);
    within(this, scratch => {
      const { normal } = normalized(scratch, x, eps, mean, variance);
      const terms = scratch.binary('mul', scratch.as(gy, mean.dtype), normal);
      const sums = scratch.reduce('sum', terms, axes);
      const shape = reducedShape(x.shape, axes, false);
      this.copy(withLayout(sums, shape), withLayout(out, shape));
    });
  }
}

/** The axes over which means of that shape were taken. */
export const meanAxes = (mean: Operand): number[] => [...mean.shape.keys()].filter(axis => mean.shape[axis] === 1);

/** The axes of x along which a weight is broadcast. Where x has length 1 too there is nothing to sum. */
export function weightAxes(x: Operand, weight: Operand): number[] {
  const lead = x.shape.length - weight.shape.length;
  return [...x.shape.keys()].filter(axis => axis < lead || weight.shape[axis - lead] !== x.shape[axis]);
}

/** x̂, and √(variance + eps). */
function normalized(scratch: Scratch, x: Operand, eps: number, mean: Operand, variance: Operand) {
  const deviation = scratch.unary('sqrt', scratch.binary('add', variance, eps));
  const rest = scratch.binary('sub', scratch.as(x, mean.dtype), mean);
  return { normal: scratch.binary('div', rest, deviation), deviation };
}
