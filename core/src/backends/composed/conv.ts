/** Convolution and patches by gathering, adding up and matrix products. */

import { sizeOf } from '../../shape.ts';
import type { Window } from '../../window.ts';
import type { Backend, ConvGeometry, Operand } from '../backend.ts';
import { perChannel, withLayout } from '../operand.ts';
import { within } from './scratch.ts';
import { tapsOf } from './tables.ts';

/**
 * Convolution of images x [N, C, H, W] with weights w [O, C/groups, kh, kw] to y [N, O, Ho, Wo], and its two transposes:
 * one form Σ gy·w·x, differentiated by gy, by x and by w. `out` has the shape of what is asked for.
 */
export class ConvKernels {
  /** out [N, Ho·Wo, C·kh·kw] ← the patches of x, positions row-major, each (channel, row, column); zeros outside. */
  unfold(this: Backend, x: Operand, out: Operand, window: Window): void {
    const [n, c, h, w] = x.shape as Four;
    if (sizeOf(out.shape) === 0) return;
    // Planes without pixels have windows where there is padding.
    if (sizeOf(x.shape) === 0) return this.fill(0, out);
    const { positions: p, taps: t, index, inside } = tapsOf(this, [h, w], window);
    within(this, scratch => {
      const planes = withLayout(scratch.packed(x), [n, c, h * w]);
      const seen = scratch.gather(planes, 2, withLayout(index, [n, c, p * t], [0, 0, 1]));
      const patches = withLayout(seen, [n, p, c, t], [c * p * t, t, p * t, 1]);
      const target = withLayout(out, [n, p, c, t]);
      if (inside === null) return this.copy(patches, target);
      this.where(withLayout(inside, [p, 1, t]), patches, scratch.constant(0, x.dtype), target);
    });
  }

  /** out [N, C, H, W] ← patches x [N, Ho·Wo, C·kh·kw] added up where they overlap. */
  fold(this: Backend, x: Operand, out: Operand, window: Window): void {
    const [n, c, h, w] = out.shape as Four;
    if (sizeOf(x.shape) === 0) return this.fill(0, out);
    if (sizeOf(out.shape) === 0) return;
    const { positions: p, taps: t, index, inside } = tapsOf(this, [h, w], window);
    const [image, position, element] = x.strides as [number, number, number];
    within(this, scratch => {
      const patches = withLayout(x, [n, c, p, t], [image, t * element, position, element]);
      const values = inside === null ? scratch.packed(patches) : scratch.where(inside, patches, 0);
      const planes = withLayout(out, [n, c, h * w]);
      this.scatterAdd(withLayout(values, [n, c, p * t]), 2, withLayout(index, [n, c, p * t], [0, 0, 1]), planes);
    });
  }

  /**
   * out [I, I] ← Σ p pᵀ over the patches p [I] that `unfold` gives, all images and positions, exactly symmetric; with `ones`
   * [I + 1, I + 1], for patches with a 1 behind.
   */
  patchGram(this: Backend, x: Operand, out: Operand, window: Window, ones: boolean): void {
    const [n, , h, w] = x.shape as Four;
    const { positions } = tapsOf(this, [h, w], window);
    const width = out.shape[0]!;
    const elements = ones ? width - 1 : width;
    within(this, scratch => {
      const patches = scratch.empty(x.dtype, [n, positions, elements]);
      this.unfold(x, patches, window);
      if (!ones) return this.gram(patches, out);
      const rows = scratch.empty(x.dtype, [n, positions, width]);
      this.fill(1, rows);
      this.assign(withLayout(rows, patches.shape, rows.strides), patches);
      this.gram(rows, out);
    });
  }

  /** out (y) ← x ∗ w + bias [O] */
  convForward(this: Backend, x: Operand, w: Operand, bias: Operand | null, out: Operand, geometry: ConvGeometry): void {
    if (sizeOf(out.shape) === 0) return;
    const { g, o, k, p } = sizesOf(w, out, geometry);
    const n = x.shape[0]!;
    within(this, scratch => {
      const patches = scratch.empty(x.dtype, [n, p, g * k]);
      this.unfold(x, patches, geometry);
      this.matmul(
        withLayout(scratch.packed(w), [g, o, k]),
        withLayout(patches, [n, g, k, p], [p * g * k, k, 1, g * k]),
        withLayout(out, [n, g, o, p]),
      );
      if (bias !== null) this.binary('add', out, perChannel(bias), out);
    });
  }

  /** out (like x) ← the gradient of Σ gy · (x ∗ w) by x */
  convInputGrad(this: Backend, gy: Operand, w: Operand, out: Operand, geometry: ConvGeometry): void {
    if (sizeOf(out.shape) === 0) return;
    const { g, o, k, p } = sizesOf(w, gy, geometry);
    const n = gy.shape[0]!;
    within(this, scratch => {
      const grads = withLayout(scratch.packed(gy), [n, g, p, o], [g * o * p, o * p, 1, p]);
      const patches = scratch.empty(gy.dtype, [n, g, p, k]);
      this.matmul(grads, withLayout(scratch.packed(w), [g, o, k]), patches);
      const byPosition = scratch.packed(withLayout(patches, [n, p, g, k], [g * p * k, k, p * k, 1]));
      this.fold(withLayout(byPosition, [n, p, g * k]), out, geometry);
    });
  }

  /** out (like w) ← the gradient of Σ gy · (x ∗ w) by w */
  convWeightGrad(this: Backend, x: Operand, gy: Operand, out: Operand, geometry: ConvGeometry): void {
    if (sizeOf(out.shape) === 0) return;
    const { g, o, k, p } = sizesOf(out, gy, geometry);
    const n = x.shape[0]!;
    if (n === 0) return this.fill(0, out);
    within(this, scratch => {
      const patches = scratch.empty(x.dtype, [n, p, g * k]);
      this.unfold(x, patches, geometry);
      // Images and positions are one axis, which the product sums over.
      const grads = withLayout(scratch.packed(gy), [g, o, n, p], [o * p, p, g * o * p, 1]);
      this.matmul(
        withLayout(scratch.packed(grads), [g, o, n * p]),
        withLayout(patches, [g, n * p, k], [k, g * k, 1]),
        withLayout(out, [g, o, k]),
      );
    });
  }
}

type Four = [number, number, number, number];

/** Sizes of a convolution as batched products: groups, outputs and inputs of a group's kernel, positions. */
function sizesOf(w: Operand, y: Operand, { groups }: ConvGeometry) {
  const [outputs, share, kh, kw] = w.shape as Four;
  return { g: groups, o: outputs / groups, k: share * kh * kw, p: y.shape[2]! * y.shape[3]! };
}
