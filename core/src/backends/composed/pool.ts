/** Pooling by gathering what each window sees. */

import { sizeOf } from '../../shape.ts';
import type { Window } from '../../window.ts';
import type { Backend, Operand } from '../backend.ts';
import { withLayout } from '../operand.ts';
import { type Scratch, within } from './scratch.ts';
import { type Taps, tapsOf } from './tables.ts';

/** Pooling of images x [N, C, H, W] to [N, C, Ho, Wo]. Every window holds a pixel; its dilation is 1. */
export class PoolKernels {
  /** out (int32) ← row-major position in the plane of the first maximum of each window, or of its last NaN, as in PyTorch. */
  maxPoolIndex(this: Backend, x: Operand, out: Operand, window: Window): void {
    if (sizeOf(out.shape) === 0) return;
    const over = windowsOver(this, x, window);
    const { planes, positions, taps, index } = over;
    within(this, scratch => {
      // A tap in the padding is the window's first pixel once more, so the largest is a pixel of the window.
      const best = scratch.empty('int32', [planes, positions]);
      const [pixels, one] = [seen(scratch, x, over), [planes, positions, 1]];
      this.argReduce('argmax', pixels, 2, best);
      const places = withLayout(index, [planes, positions, taps], [0, taps, 1]);
      const largest = scratch.gather(places, 2, withLayout(best, one));
      const nan = scratch.empty('bool', pixels.shape);
      this.unary('isNaN', pixels, nan);
      const last = scratch.reduce('max', scratch.where(nan, places, -1), [2]);
      this.where(scratch.binary('ge', last, 0), last, largest, withLayout(out, one));
    });
  }

  /** out ← the mean of each window; the padding counts as zeros, or with `countIncludePad` false not at all. */
  avgPool(this: Backend, x: Operand, out: Operand, window: Window, countIncludePad: boolean): void {
    if (sizeOf(out.shape) === 0) return;
    const over = windowsOver(this, x, window);
    const { planes, positions, taps, inside } = over;
    within(this, scratch => {
      const pixels = seen(scratch, x, over);
      const sums = scratch.reduce('sum', inside === null ? pixels : scratch.where(inside, pixels, 0), [2]);
      const target = withLayout(out, [planes, positions, 1]);
      this.binary('div', sums, countIncludePad ? taps : over.count(x.dtype), target);
    });
  }

  /** out (like x) ← the transpose of `avgPool`: each gy shared evenly among what it is the mean of. */
  avgPoolGrad(this: Backend, gy: Operand, out: Operand, window: Window, countIncludePad: boolean): void {
    if (sizeOf(out.shape) === 0) return;
    const over = windowsOver(this, out, window);
    const { planes, pixels, positions, taps, index, inside } = over;
    within(this, scratch => {
      const grads = withLayout(scratch.packed(gy), [planes, positions, 1]);
      const shares = scratch.binary('div', grads, countIncludePad ? taps : over.count(gy.dtype));
      const spread = withLayout(shares, [planes, positions, taps], [positions, 1, 0]);
      const values = inside === null ? scratch.packed(spread) : scratch.where(inside, spread, 0);
      const flat = [planes, positions * taps];
      this.scatterAdd(withLayout(values, flat), 1, withLayout(index, flat, [0, 1]), withLayout(out, [planes, pixels]));
    });
  }
}

/** The table of windows over images [N, C, H, W], and their planes and pixels. */
function windowsOver(device: Backend, { shape }: Operand, window: Window): Taps & { planes: number; pixels: number } {
  const [n, c, h, w] = shape as [number, number, number, number];
  return { ...tapsOf(device, [h, w], window), planes: n * c, pixels: h * w };
}

/** The pixels [planes, positions, taps] of all windows. */
function seen(
  scratch: Scratch,
  x: Operand,
  { planes, pixels, positions, taps, index }: ReturnType<typeof windowsOver>,
) {
  const source = withLayout(scratch.packed(x), [planes, pixels]);
  const all = scratch.gather(source, 1, withLayout(index, [planes, positions * taps], [0, 1]));
  return withLayout(all, [planes, positions, taps]);
}
