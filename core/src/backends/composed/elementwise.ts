/** Gradients of activations. */

import type { Backend, Operand, UnaryGradKernel } from '../backend.ts';
import { type Scratch, within } from './scratch.ts';

/** Elementwise kernels that follow from others. */
export class ElementwiseKernels {
  /** out ← gy · f′, where `a` is the argument of f for gelu and geluTanh, and the result for the others. */
  unaryGrad(this: Backend, kernel: UnaryGradKernel, gy: Operand, a: Operand, out: Operand): void {
    within(this, scratch => {
      if (kernel === 'relu') this.where(scratch.binary('gt', a, 0), gy, scratch.constant(0, gy.dtype), out);
      else this.binary('mul', gy, SLOPES[kernel](scratch, a), out);
    });
  }
}

const [ROOT, CUBE] = [Math.sqrt(2 / Math.PI), 0.044715];

/** f′ from the result of tanh and sigmoid, and from the argument of the others. */
const SLOPES: Record<Exclude<UnaryGradKernel, 'relu'>, (scratch: Scratch, a: Operand) => Operand> = {
  tanh: (s, y) => s.binary('sub', 1, s.unary('square', y)),
  sigmoid: (s, y) => s.binary('mul', y, s.binary('sub', 1, y)),
  // Φ(x) + x φ(x)
  gelu(s, far) {
    const x = near0(s, far);
    const cumulative = s.binary('mul', s.binary('add', s.unary('erf', s.binary('mul', x, Math.SQRT1_2)), 1), 0.5);
    const density = s.unary('exp', s.binary('mul', s.unary('square', x), -0.5));
    return s.binary('add', cumulative, s.binary('mul', s.binary('mul', x, density), 1 / Math.sqrt(2 * Math.PI)));
  },
  // ½ (1 + t) + ½ x (1 − t²) u′, where t = tanh u, u = √(2/π) (x + 0.044715 x³)
  geluTanh(s, far) {
    const x = near0(s, far);
    const square = s.unary('square', x);
    const u = s.binary('mul', s.binary('mul', x, s.binary('add', s.binary('mul', square, CUBE), 1)), ROOT);
    const t = s.unary('tanh', u);
    const slope = s.binary('mul', s.binary('add', s.binary('mul', square, 3 * CUBE), 1), ROOT);
    const curve = s.binary('mul', s.binary('mul', x, s.binary('sub', 1, s.unary('square', t))), slope);
    return s.binary('mul', s.binary('add', s.binary('add', t, 1), curve), 0.5);
  },
};

/** x no farther from 0 than 40, where both slopes are 0 and 1 already: x² stays finite. */
const near0 = (s: Scratch, x: Operand): Operand => s.binary('minimum', s.binary('maximum', x, -40), 40);
