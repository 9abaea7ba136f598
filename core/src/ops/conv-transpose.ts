/** Transposes of convolutions, "deconvolutions": what maps the result of a convolution back to the size of its input. */

import { owningIntermediates } from '../scope.ts';
import type { Tensor } from '../tensor.ts';
import type { Pair } from '../window.ts';
import { convInputGrad, inPlanes } from './conv.ts';
import { type ConvCall, type Transposed, transposedCall } from './conv-check.ts';
import { add } from './elementwise.ts';
import { narrow, pad } from './slice.ts';
import { reshape } from './view.ts';

/** Options of `convTranspose2d`; those of two axes are a number or [rows, columns]. */
export type ConvTransposeOptions = Transposed<Pair>;

/**
 * The transpose of `conv2d` with the same stride, padding and dilation, plus a bias:
 * y[n, o, i·stride + p·dilation − padding, …] = Σ_{c, i, j} w[c, o, p, q] · x[n, c, i, j] over all i, p that lead there.
 *
 * @param x [N, C, H, W]
 * @param w [C, O/groups, kh, kw]
 * @returns [N, O, Ho, Wo] with Ho = (H − 1)·stride − 2·padding + dilation·(kh − 1) + outputPadding + 1
 */
export function convTranspose2d(x: Tensor, w: Tensor, o: ConvTransposeOptions = {}): Tensor {
  return transposedConvolved(transposedCall('convTranspose2d', x, w, o, 2));
}

/** The transposed convolution of a checked call along two axes. */
export function transposedConvolved({ operands, places, crop, ...window }: ConvCall): Tensor {
  const [x, w, bias] = operands as [Tensor, Tensor, Tensor | undefined];
  const { kernel, stride, padding, dilation, groups } = window;
  const lead = [x.shape[0]!, w.shape[1]! * groups];
  const into = (sizes: readonly number[], zeros: readonly number[]) => {
    const o = inPlanes({ ...window, padding: zeros });
    return convInputGrad([x, w], { ...o, x: [...lead, ...sizes], w: w.shape, y: x.shape });
  };
  return owningIntermediates(() => {
    let y: Tensor;
    if (crop.every((more, axis) => more < stride[axis]!)) y = into(places, padding);
    else {
      // No convolution of such a size has a result as large as x: the sums without padding, of which a part stays and zeros follow.
      const whole = kernel.map((taps, i) => (x.shape[i + 2]! - 1) * stride[i]! + dilation[i]! * (taps - 1) + 1);
      const kept = whole.map((size, i) => Math.max(0, Math.min(size - padding[i]!, places[i]!)));
      const part = kept.reduce(
        (t, size, i) => narrow(t, i + 2, size === 0 ? 0 : padding[i]!, size),
        into(
          whole,
          whole.map(() => 0),
        ),
      );
      y = pad(part, [[0, 0], [0, 0], ...kept.map((size, i) => [0, places[i]! - size] as const)]);
    }
    return bias === undefined ? y : add(y, reshape(bias, [bias.size, 1, 1]));
  });
}
