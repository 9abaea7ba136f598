/**
 * Convolution (cross-correlation, as everywhere in the field) of images, and their patches. The three kernels of a
 * convolution are the three derivatives of one trilinear form Σ gy·w·x, so the gradients of each are the other two.
 */

import type { ConvGeometry } from '../backends/backend.ts';
import { bring } from '../backends/bring.ts';
import type { ConvKernels } from '../backends/composed/conv.ts';
import * as reference from '../backends/reference/layers/conv.ts';
import * as wasm from '../backends/wasm/layers/conv.ts';
import { aBoolean, checkOptions } from '../check.ts';
import { isFloat } from '../dtype.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { defineOp, type Op } from '../op.ts';
import type { Shape } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import {
  lastTwo,
  type Pair,
  pairOf,
  WINDOW,
  type Window,
  type WindowOptions,
  type Windows,
  windowOf,
  windowsIn,
} from '../window.ts';
import { type ConvCall, type Convolved, checkVolumes, convCall } from './conv-check.ts';
import { add } from './elementwise.ts';
import { matmulOp } from './matmul.ts';
import { sum } from './reduce.ts';
import { narrow } from './slice.ts';
import { transpose } from './view.ts';

bring<ConvKernels>(reference, wasm);

/** Where the kernel goes, and the shapes of input, weight and output. */
export type Conv = ConvGeometry & { readonly x: Shape; readonly w: Shape; readonly y: Shape };

export const convForward: Op<Conv> = defineOp<Conv>({
  name: 'conv2d',
  shape: ([x], { y }) => ({ shape: y, dtype: x!.dtype }),
  forward: (backend, [x, w, bias], out, attrs) => backend.convForward(x!, w!, bias ?? null, out, attrs),
  backward: (gy, node) => [
    node.needs(0) ? convInputGrad([gy, node.input(1)], node.attrs) : null,
    node.needs(1) ? convWeightGrad([node.input(0), gy], node.attrs) : null,
    node.inputs.length === 3 && node.needs(2) ? sum(gy, [0, 2, 3]) : null,
  ],
});

export const convInputGrad: Op<Conv> = defineOp<Conv>({
  name: 'convInputGrad',
  shape: ([gy], { x }) => ({ shape: x, dtype: gy!.dtype }),
  forward: (backend, [gy, w], out, attrs) => backend.convInputGrad(gy!, w!, out, attrs),
  backward: (ggx, node) => [
    node.needs(0) ? convForward([ggx, node.input(1)], node.attrs) : null,
    node.needs(1) ? convWeightGrad([ggx, node.input(0)], node.attrs) : null,
  ],
});

export const convWeightGrad: Op<Conv> = defineOp<Conv>({
  name: 'convWeightGrad',
  shape: ([x], { w }) => ({ shape: w, dtype: x!.dtype }),
  forward: (backend, [x, gy], out, attrs) => backend.convWeightGrad(x!, gy!, out, attrs),
  backward: (ggw, node) => [
    node.needs(0) ? convInputGrad([node.input(1), ggw], node.attrs) : null,
    node.needs(1) ? convForward([node.input(0), ggw], node.attrs) : null,
  ],
});

/** Options of `conv2d`; those of two axes are a number or [rows, columns]. */
export type ConvOptions = Convolved<Pair>;

/**
 * y[n, o, i, j] = Σ_{c, p, q} w[o, c, p, q] · x[n, c, i·stride + p·dilation − padding, …], with zeros around x.
 *
 * @param x [N, C, H, W]
 * @param w [O, C/groups, kh, kw]
 * @returns [N, O, Ho, Wo]
 */
export function conv2d(x: Tensor, w: Tensor, o: ConvOptions = {}): Tensor {
  return convolved(convCall('conv2d', x, w, o, 2));
}

/** The convolution of a checked call along two axes. */
export function convolved({ operands, places, crop, ...geometry }: ConvCall): Tensor {
  const [x, w] = operands as [Tensor, Tensor];
  const y = [x.shape[0]!, w.shape[0]!, ...places];
  const whole = convForward(operands, { ...inPlanes(geometry), x: x.shape, w: w.shape, y });
  return cropped(whole, crop);
}

/** What of a window along two or three axes is in the planes. */
export const inPlanes = ({
  kernel,
  stride,
  padding,
  dilation,
  groups,
}: Windows & { groups: number }): ConvGeometry => ({
  kernel: lastTwo(kernel),
  stride: lastTwo(stride),
  padding: lastTwo(padding),
  dilation: lastTwo(dilation),
  groups,
});

/** y [N, O, …] without the first results along the last axes. */
export function cropped(y: Tensor, crop: readonly number[]): Tensor {
  return crop.reduce((t, first, axis) => (first === 0 ? t : narrow(t, axis + 2, first, t.shape[axis + 2]! - first)), y);
}

type Patches = Window & { readonly images: Shape; readonly patches: Shape };

const unfoldOp: Op<Patches> = defineOp<Patches>({
  name: 'unfold',
  shape: ([x], { patches }) => ({ shape: patches, dtype: x!.dtype }),
  forward: (backend, [x], out, attrs) => backend.unfold(x!, out, attrs),
  backward: (gy, { attrs }) => [foldOp([gy], attrs)],
});

const foldOp: Op<Patches> = defineOp<Patches>({
  name: 'fold',
  shape: ([x], { images }) => ({ shape: images, dtype: x!.dtype }),
  forward: (backend, [x], out, attrs) => backend.fold(x!, out, attrs),
  backward: (gy, { attrs }) => [unfoldOp([gy], attrs)],
});

/**
 * The patches that a kernel sees (im2col), one a row: [N, C, H, W] → [N, Ho·Wo, C·kh·kw], positions row-major, each
 * patch in the order channel, kernel row, kernel column, which is that of `weight.flatten(1)`. Outside are zeros.
 *
 * NOTE: PyTorch's `unfold` gives the transpose of each matrix.
 */
export function unfold(x: Tensor, kernel: number | Pair, o: WindowOptions = {}): Tensor {
  return unfoldOp([x], patchesOf('unfold', x, kernel, o));
}

function patchesOf(op: string, x: Tensor, kernel: number | Pair, o: WindowOptions): Patches {
  checkVolumes(op, x, 2);
  checkOptions(op, o, WINDOW);
  const [images, channels, rows, columns] = x.shape as [number, number, number, number];
  const window = windowOf(op, kernel, o);
  const [ho, wo] = windowsIn(op, [rows, columns], window);
  const patches = [images, ho * wo, channels * window.kernel[0] * window.kernel[1]];
  return { ...window, images: x.shape, patches };
}

const patchGramOp: Op<Patches & { readonly ones: boolean }> = defineOp<Patches & { readonly ones: boolean }>({
  name: 'patchGram',
  shape([x], { patches, ones }) {
    const size = patches[2]! + (ones ? 1 : 0);
    return { shape: [size, size], dtype: x!.dtype };
  },
  forward: (backend, [x], out, { ones, ...window }) => backend.patchGram(x!, out, window, ones),
  // By a patch p: the elements of (gy + gyᵀ) p, of which the homogeneous 1 takes the last column.
  backward(gy, node) {
    const size = node.attrs.patches[2]!;
    const rows = narrow(add(gy, transpose(gy)), 1, 0, size);
    const patches = unfoldOp([node.input(0)], node.attrs);
    const grads = matmulOp([patches, narrow(rows, 0, 0, size)], null);
    return [foldOp([node.attrs.ones ? add(grads, narrow(rows, 0, size, 1)) : grads], node.attrs)];
  },
});

/**
 * The second moments of the patches that a kernel sees, `gram(unfold(x, kernel, o))`, without the patches themselves: for
 * x [N, C, H, W] the matrix Σ p pᵀ over all images and positions, [I, I] with I = C·kh·kw in the order of `unfold`, exactly
 * symmetric. With `ones` (default false) each patch has a homogeneous 1 behind its elements, and the matrix is [I + 1, I + 1].
 *
 * @throws ShapeError, DTypeError, RangeError as `unfold`
 */
export function patchGram(
  x: Tensor,
  kernel: number | Pair,
  o: WindowOptions = {},
  more: { ones?: boolean } = {},
): Tensor {
  checkOptions('patchGram', more, { ones: aBoolean });
  return patchGramOp([x], { ...patchesOf('patchGram', x, kernel, o), ones: more.ones ?? false });
}

/** Adds patches [N, Ho·Wo, C·kh·kw] up where they overlap, into images [N, C, …size]: the transpose of `unfold`. */
export function fold(x: Tensor, size: Pair, kernel: number | Pair, o: WindowOptions = {}): Tensor {
  checkTensors('fold', x);
  checkOptions('fold', o, WINDOW);
  const window = windowOf('fold', kernel, o);
  const plane = pairOf('fold', 'size', size, 0);
  const [ho, wo] = windowsIn('fold', plane, window);
  const taps = window.kernel[0] * window.kernel[1];
  const [images, positions, features] = x.shape;
  if (x.rank !== 3 || positions !== ho * wo || features! % taps !== 0)
    throw new ShapeError(`fold: expected patches [N, ${ho * wo}, a multiple of ${taps}], got ${describe(x)}`);
  if (!isFloat(x.dtype)) throw new DTypeError(`fold: expected a floating tensor, got ${describe(x)}`);
  return foldOp([x], { ...window, images: [images!, features! / taps, ...plane], patches: x.shape });
}
