/** Convolutions along one axis, as those of images with one row. */

import type { Tensor } from '../tensor.ts';
import { convolved } from './conv.ts';
import { type ConvCall, type Convolved, convCall, type Transposed, transposedCall } from './conv-check.ts';
import { transposedConvolved } from './conv-transpose.ts';
import { squeeze, unsqueeze } from './view.ts';

/** Options of `conv1d`. */
export type Conv1dOptions = Convolved<readonly [number]>;
/** Options of `convTranspose1d`. */
export type ConvTranspose1dOptions = Transposed<readonly [number]>;

/** The same call for images of one row. */
function inOneRow({ operands, groups, ...o }: ConvCall): ConvCall {
  const [x, w, ...bias] = operands as [Tensor, Tensor, Tensor?];
  const images = [unsqueeze(x, 2), unsqueeze(w, 2), ...bias.filter(b => b !== undefined)];
  return {
    operands: images,
    groups,
    kernel: [1, ...o.kernel],
    stride: [1, ...o.stride],
    padding: [0, ...o.padding],
    dilation: [1, ...o.dilation],
    crop: [0, ...o.crop],
    places: [1, ...o.places],
  };
}

/**
 * y[n, o, i] = Σ_{c, p} w[o, c, p] · x[n, c, i·stride + p·dilation − padding], with zeros around x.
 *
 * @param x [N, C, L]
 * @param w [O, C/groups, k]
 * @returns [N, O, Lo]
 */
export function conv1d(x: Tensor, w: Tensor, o: Conv1dOptions = {}): Tensor {
  return squeeze(convolved(inOneRow(convCall('conv1d', x, w, o, 1))), 2);
}

/**
 * The transpose of `conv1d` with the same stride, padding and dilation, plus a bias; see `convTranspose2d`.
 *
 * @param x [N, C, L]
 * @param w [C, O/groups, k]
 * @returns [N, O, (L − 1)·stride − 2·padding + dilation·(k − 1) + outputPadding + 1]
 */
export function convTranspose1d(x: Tensor, w: Tensor, o: ConvTranspose1dOptions = {}): Tensor {
  return squeeze(transposedConvolved(inOneRow(transposedCall('convTranspose1d', x, w, o, 1))), 2);
}
