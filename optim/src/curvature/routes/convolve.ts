/**
 * The three kernels of a convolution as operations of its layer's device. A device has them wherever there is such a layer; who
 * imports this file brings none, so that programs without convolutions stay as small as they are.
 */

import type { ConvGeometry, Op, Shape, Tensor, Window } from '@otimes/core';
import { defineBuiltIn } from '@otimes/core/extend';

/** Where the kernel goes, in one group, and the shapes of images, weight and output. */
export type Convolution = ConvGeometry & { readonly x: Shape; readonly w: Shape; readonly y: Shape };

/** The convolution of images x [N, C, H, W] with a weight [O, C, rows, columns], and its output [N, O, Ho, Wo], which may be empty. */
export function convolution(x: Shape, w: Shape, { kernel, stride, padding, dilation }: Window): Convolution {
  const places = [0, 1].map(i => {
    const room = x[2 + i]! + 2 * padding[i]! - dilation[i]! * (kernel[i]! - 1) - 1;
    return Math.max(0, Math.floor(room / stride[i]!) + 1);
  });
  return { kernel, stride, padding, dilation, groups: 1, x, w, y: [x[0]!, w[0]!, ...places] };
}

const forward: Op<Convolution> = defineBuiltIn<Convolution>({
  name: 'conv2d',
  shape: ([x], { y }) => ({ shape: y, dtype: x!.dtype }),
  forward: (backend, [x, w, bias], out, o) => backend.convForward(x!, w!, bias ?? null, out, o),
  backward: (gy, node) => [
    node.needs(0) ? inputGrad(gy, node.input(1), node.attrs) : null,
    node.needs(1) ? weightGrad(node.input(0), gy, node.attrs) : null,
    node.inputs.length === 3 && node.needs(2) ? gy.sum([0, 2, 3]) : null,
  ],
});

const byInput: Op<Convolution> = defineBuiltIn<Convolution>({
  name: 'convInputGrad',
  shape: ([gy], { x }) => ({ shape: x, dtype: gy!.dtype }),
  forward: (backend, [gy, w], out, o) => backend.convInputGrad(gy!, w!, out, o),
  backward: (ggx, node) => [
    node.needs(0) ? convolve(ggx, node.input(1), null, node.attrs) : null,
    node.needs(1) ? weightGrad(ggx, node.input(0), node.attrs) : null,
  ],
});

const byWeight: Op<Convolution> = defineBuiltIn<Convolution>({
  name: 'convWeightGrad',
  shape: ([x], { w }) => ({ shape: w, dtype: x!.dtype }),
  forward: (backend, [x, gy], out, o) => backend.convWeightGrad(x!, gy!, out, o),
  backward: (ggw, node) => [
    node.needs(0) ? inputGrad(node.input(1), ggw, node.attrs) : null,
    node.needs(1) ? convolve(node.input(0), ggw, null, node.attrs) : null,
  ],
});

/** x ∗ w + bias, [N, O, Ho, Wo]. */
export const convolve = (x: Tensor, w: Tensor, bias: Tensor | null, o: Convolution): Tensor =>
  forward(bias === null ? [x, w] : [x, w, bias], o);

/** The gradient of Σ gy · (x ∗ w) by x. */
export const inputGrad = (gy: Tensor, w: Tensor, o: Convolution): Tensor => byInput([gy, w], o);

/** The same by w. */
export const weightGrad = (x: Tensor, gy: Tensor, o: Convolution): Tensor => byWeight([x, gy], o);

/** A convolution by one tap, of images x [N, C, H, W]: a map of their channels by w [O, C, 1, 1]. */
export function pointwise(x: Shape, w: Shape): Convolution {
  const [one, none] = [
    [1, 1],
    [0, 0],
  ] as const;
  return convolution(x, w, { kernel: one, stride: one, padding: none, dilation: one });
}

/** The weight [O, C, 1, 1] of a map of channels by a matrix [O, C]. */
export const pointwiseWeight = (matrix: Tensor): Tensor => matrix.reshape([...matrix.shape, 1, 1]);

/** Images x [N, C, H, W] with the channels mapped by a matrix [O, C]. */
export function mapChannels(x: Tensor, matrix: Tensor): Tensor {
  const w = pointwiseWeight(matrix);
  return convolve(x, w, null, pointwise(x.shape, w.shape));
}
