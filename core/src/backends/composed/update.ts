/** Updates in place: everything is computed beside, and written by `assign`. */

import { promote } from '../../dtype.ts';
import type { AdamOptions, Backend, MomentOptions, Operand, SgdOptions } from '../backend.ts';
import { type Scratch, within } from './scratch.ts';

/** Updates in place, for optimizers. Everything is computed beside, and written by `assign`. */
export class UpdateKernels {
  /** In place: y ← keep y + α x, any layouts, `x` broadcast to `y`. */
  addScaled(this: Backend, y: Operand, x: Operand, alpha: number, keep: number): void {
    within(this, scratch => {
      const step = scratch.binary('mul', scratch.as(x, promote(x.dtype, y.dtype)), alpha);
      this.assign(y, added(scratch, y, step, keep));
    });
  }

  /** In place: y ← keep y + value x / d, any layouts, `x` and `d` broadcast to `y`. */
  addcdiv(this: Backend, y: Operand, x: Operand, d: Operand, value: number, keep: number): void {
    within(this, scratch => {
      const step = scratch.binary('mul', scratch.as(x, promote(x.dtype, y.dtype)), value);
      this.assign(y, added(scratch, y, scratch.binary('div', step, d), keep));
    });
  }

  /** In place: y ← β y, any layout. */
  scale(this: Backend, y: Operand, beta: number): void {
    within(this, scratch => this.assign(y, scratch.binary('mul', y, beta)));
  }

  /**
   * Adam's moments, in place, and the direction they give (Kingma & Ba 2015, Algorithm 1):
   * m ← β₁ m + (1−β₁) g;  v ← β₂ v + (1−β₂) s;  out ← (m / c₁) / (√(v / c₂) + ε), where s is `second`, or g² if null.
   * v below 1e-36 in float32 (1e-290 in float64) is set to 0, so that no arithmetic on denormal numbers follows.
   */
  moments(
    this: Backend,
    m: Operand,
    v: Operand,
    g: Operand,
    second: Operand | null,
    out: Operand,
    { beta1, beta2, eps, correction1, correction2 }: MomentOptions,
  ): void {
    within(this, scratch => {
      const first = added(scratch, m, scratch.binary('mul', g, 1 - beta1), beta1);
      const squares = scratch.binary('mul', second ?? scratch.unary('square', g), 1 - beta2);
      const sum = added(scratch, v, squares, beta2);
      const tiny = scratch.binary('lt', sum, v.dtype === 'float32' ? 1e-36 : 1e-290);
      const variance = scratch.where(scratch.unary('not', tiny), sum, 0);
      const root = scratch.unary('sqrt', scratch.binary('div', variance, correction2));
      this.binary('div', scratch.binary('div', first, correction1), scratch.binary('add', root, eps), out);
      this.assign(m, first);
      this.assign(v, variance);
    });
  }

  /** `moments` with g², then p ← keep p − lr · direction; p, m and v are contiguous. */
  adam(this: Backend, p: Operand, m: Operand, v: Operand, g: Operand, options: AdamOptions): void {
    within(this, scratch => {
      const direction = scratch.empty(p.dtype, p.shape);
      this.moments(m, v, g, null, direction, options);
      this.addScaled(p, direction, -options.lr, options.keep);
    });
  }

  /** In place: buf ← momentum buf + gain g;  p ← p − lr (bufferWeight buf + gradientWeight g); p and buf are contiguous. */
  sgd(this: Backend, p: Operand, buf: Operand, g: Operand, o: SgdOptions): void {
    within(this, scratch => {
      const momentum = added(scratch, buf, scratch.binary('mul', g, o.gain), o.momentum);
      const step = added(scratch, momentum, scratch.binary('mul', g, o.gradientWeight), o.bufferWeight);
      this.addScaled(p, step, -o.lr, 1);
      this.assign(buf, momentum);
    });
  }
}

/** keep y + x */
function added(scratch: Scratch, y: Operand, x: Operand, keep: number): Operand {
  return scratch.binary('add', keep === 1 ? y : scratch.binary('mul', y, keep), x);
}
