/**
 * Convolution of volumes [N, C, D, H, W], as that of images: the slices that a kernel sees at one depth are channels of an image.
 * Those copies of slices live as long as a kernel runs, and not with the graph. As in two dimensions the three forms are the three
 * derivatives of one trilinear form.
 */

import type { Backend } from '../backends/backend.ts';
import { noGrad } from '../graph.ts';
import { defineOp, type Op } from '../op.ts';
import { scope } from '../scope.ts';
import type { Shape } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import type { Windows } from '../window.ts';
import { type Conv, convForward, convInputGrad, convWeightGrad, cropped, inPlanes } from './conv.ts';
import { type Convolved, convCall } from './conv-check.ts';
import { add } from './elementwise.ts';
import { sum } from './reduce.ts';
import { narrow, pad, place, slice, stack } from './slice.ts';
import { permute, reshape } from './view.ts';

type Volumes = Windows & { readonly groups: number; readonly x: Shape; readonly w: Shape; readonly y: Shape };
type Five = readonly [number, number, number, number, number];

/** Options of `conv3d`; those of three axes are a number or [depth, rows, columns]. */
export type Conv3dOptions = Convolved<readonly [depth: number, rows: number, columns: number]>;

/** The convolution of images of slices: x [N·Do, C·kd, H, W], w [O, C/groups·kd, kh, kw], y [N·Do, O, Ho, Wo]. */
function ofSlices(o: Volumes): Conv {
  const { x, w, y } = o;
  const images = x[0]! * y[2]!;
  return {
    ...inPlanes(o),
    x: [images, x[1]! * w[2]!, ...x.slice(3)],
    w: [w[0]!, w[1]! * w[2]!, ...w.slice(3)],
    y: [images, y[1]!, ...y.slice(3)],
  };
}

/** The depths that tap `k` reads in a volume with its padding. */
const depthsOf = ({ stride, dilation, y }: Volumes, k: number) =>
  [k * dilation[0]!, k * dilation[0]! + (y[2]! - 1) * stride[0]! + 1, stride[0]!] as const;

/** x [N, C, D, H, W] → [N·Do, C·kd, H, W]: at each depth of the output the slices that the kernel sees. */
export function slicesSeen(x: Tensor, o: Volumes): Tensor {
  const zeros = o.padding[0]!;
  const padded =
    zeros === 0
      ? x
      : pad(x, [
          [0, 0],
          [0, 0],
          [zeros, zeros],
        ]);
  const byDepth = permute(padded, [0, 2, 1, 3, 4]);
  const taps = Array.from({ length: o.w[2]! }, (_, k) => slice(byDepth, [null, depthsOf(o, k)]));
  return reshape(taps.length === 1 ? taps[0]! : stack(taps, 3), ofSlices(o).x);
}

/** The transpose of that. */
function slicesAdded(seen: Tensor, o: Volumes): Tensor {
  const [n, c, depth, h, w] = o.x as Five;
  const [zeros, taps] = [o.padding[0]!, o.w[2]!];
  const all = reshape(seen, [n, o.y[2]!, c, taps, h, w]);
  const into = [n, c, depth + 2 * zeros, h, w];
  const added = Array.from({ length: taps }, (_, k) => {
    const own = permute(reshape(narrow(all, 3, k, 1), [n, o.y[2]!, c, h, w]), [0, 2, 1, 3, 4]);
    const [start, , step] = depthsOf(o, k);
    const window = { start: [0, 0, start, 0, 0], step: [1, 1, step, 1, 1], shape: own.shape };
    return place([own], { into, window, value: 0 });
  }).reduce((sum, one) => add(sum, one));
  return narrow(added, 2, zeros, depth);
}

/** y [N, O, Do, Ho, Wo] → [N·Do, O, Ho, Wo] */
const depthsApart = (y: Tensor, o: Volumes) => reshape(permute(y, [0, 2, 1, 3, 4]), ofSlices(o).y);

/** out ← what `run` computes, of which nothing else stays. */
const computed = (backend: Backend, out: Tensor, run: () => Tensor): void =>
  noGrad(() => scope(() => backend.copy(run(), out)));

const volumesForward: Op<Volumes> = defineOp<Volumes>({
  name: 'conv3d',
  shape: ([x], { y }) => ({ shape: y, dtype: x!.dtype }),
  forward: (backend, [x, w, ...bias], out, o) =>
    computed(backend, out, () => {
      const planes = ofSlices(o);
      const y = convForward([slicesSeen(x!, o), reshape(w!, planes.w), ...bias], planes);
      const [n, outputs, depth, rows, columns] = o.y as Five;
      return permute(reshape(y, [n, depth, outputs, rows, columns]), [0, 2, 1, 3, 4]);
    }),
  backward: (gy, node) => [
    node.needs(0) ? volumesInputGrad([gy, node.input(1)], node.attrs) : null,
    node.needs(1) ? volumesWeightGrad([node.input(0), gy], node.attrs) : null,
    node.inputs.length === 3 && node.needs(2) ? sum(gy, [0, 2, 3, 4]) : null,
  ],
});

const volumesInputGrad: Op<Volumes> = defineOp<Volumes>({
  name: 'conv3dInputGrad',
  shape: ([gy], { x }) => ({ shape: x, dtype: gy!.dtype }),
  forward: (backend, [gy, w], out, o) =>
    computed(backend, out, () => {
      const planes = ofSlices(o);
      return slicesAdded(convInputGrad([depthsApart(gy!, o), reshape(w!, planes.w)], planes), o);
    }),
  backward: (ggx, node) => [
    node.needs(0) ? volumesForward([ggx, node.input(1)], node.attrs) : null,
    node.needs(1) ? volumesWeightGrad([ggx, node.input(0)], node.attrs) : null,
  ],
});

const volumesWeightGrad: Op<Volumes> = defineOp<Volumes>({
  name: 'conv3dWeightGrad',
  shape: ([x], { w }) => ({ shape: w, dtype: x!.dtype }),
  forward: (backend, [x, gy], out, o) =>
    computed(backend, out, () => reshape(convWeightGrad([slicesSeen(x!, o), depthsApart(gy!, o)], ofSlices(o)), o.w)),
  backward: (ggw, node) => [
    node.needs(0) ? volumesInputGrad([node.input(1), ggw], node.attrs) : null,
    node.needs(1) ? volumesForward([node.input(0), ggw], node.attrs) : null,
  ],
});

/**
 * y[n, o, d, i, j] = Σ_{c, r, p, q} w[o, c, r, p, q] · x[n, c, d·stride + r·dilation − padding, …], with zeros around x.
 *
 * @param x [N, C, D, H, W]
 * @param w [O, C/groups, kd, kh, kw]
 * @returns [N, O, Do, Ho, Wo]
 */
export function conv3d(x: Tensor, w: Tensor, o: Conv3dOptions = {}): Tensor {
  const { operands, places, crop, ...window } = convCall('conv3d', x, w, o, 3);
  const shapes = { x: x.shape, w: w.shape, y: [x.shape[0]!, w.shape[0]!, ...places] };
  return cropped(volumesForward(operands, { ...window, ...shapes }), crop);
}
