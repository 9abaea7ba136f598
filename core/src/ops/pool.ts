/** Pooling of images [N, C, H, W]: each channel by itself. */

import { bring } from '../backends/bring.ts';
import type { PoolKernels } from '../backends/composed/pool.ts';
import { withLayout } from '../backends/operand.ts';
import * as reference from '../backends/reference/layers/pool.ts';
import * as wasm from '../backends/wasm/layers/pool.ts';
import { aBoolean, checkOptions } from '../check.ts';
import { describe, ShapeError } from '../errors.ts';
import { emptyLike } from '../fill.ts';
import { defineOp, notDifferentiable, type Op } from '../op.ts';
import { type Shape, sizeOf } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import {
  lastTwo,
  type Pair,
  placesIn,
  tupleOf,
  WINDOW,
  type Window,
  type WindowOptions,
  type Windows,
} from '../window.ts';
import { checkVolumes } from './conv-check.ts';
import { mean } from './reduce.ts';
import { reshape } from './view.ts';

bring<PoolKernels>(reference, wasm);

/** Each in positions, one number or [rows, columns]: `stride` defaults to the kernel, `padding` to 0. */
export type PoolOptions = Omit<WindowOptions, 'dilation'>;

const POOL = { stride: WINDOW.stride, padding: WINDOW.padding };

export type Pool = Window & { readonly x: Shape; readonly y: Shape };

/** The windows of a pooling operation along so many axes. PyTorch's rule that padding is at most half of the kernel leaves none empty. */
export function poolCall(
  op: string,
  x: Tensor,
  kernel: number | readonly number[],
  { stride = kernel, padding = 0 }: { stride?: number | readonly number[]; padding?: number | readonly number[] },
  axes: number,
): Windows & { readonly places: readonly number[] } {
  checkVolumes(op, x, axes);
  const sizes = x.shape.slice(2);
  if (sizes.includes(0))
    throw new ShapeError(
      `${op}: expected ${['rows', 'planes', 'volumes'][axes - 1]} that are not empty, got ${describe(x)}`,
    );
  const window: Windows = {
    kernel: tupleOf(op, 'kernel', kernel, 1, axes),
    stride: tupleOf(op, 'stride', stride, 1, axes),
    padding: tupleOf(op, 'padding', padding, 0, axes),
    dilation: sizes.map(() => 1),
  };
  if (window.padding.some((p, axis) => 2 * p > window.kernel[axis]!))
    throw new RangeError(
      `${op}: expected padding to be at most half of the kernel ${window.kernel.join('×')}, ` +
        `got ${window.padding.join('×')}`,
    );
  return { ...window, places: placesIn(op, sizes, window) };
}

/** The same for planes. */
function poolOf(op: string, x: Tensor, kernel: number | Pair, o: PoolOptions): Pool {
  const { kernel: taps, stride, padding, dilation, places } = poolCall(op, x, kernel, o, 2);
  return planesOf(x, { kernel: taps, stride, padding, dilation }, places);
}

/** Windows over the planes of images x [N, C, H, W], with that many places. */
export function planesOf(x: Tensor, { kernel, stride, padding, dilation }: Windows, places: readonly number[]): Pool {
  const window = {
    kernel: lastTwo(kernel),
    stride: lastTwo(stride),
    padding: lastTwo(padding),
    dilation: lastTwo(dilation),
  };
  return { ...window, x: x.shape, y: [x.shape[0]!, x.shape[1]!, ...places] };
}

const maxPoolIndex = defineOp<Pool>({
  name: 'maxPool2d',
  shape: (_, { y }) => ({ shape: y, dtype: 'int32' }),
  forward: (backend, [x], out, attrs) => backend.maxPoolIndex(x!, out, attrs),
  backward: notDifferentiable,
});

/** Elements x [N, C, H·W] of the places [N, C, Ho·Wo] that `maxPoolIndex` gave. */
const pickOp: Op<Pool> = defineOp<Pool>({
  name: 'gather',
  shape: ([x, index]) => ({ shape: index!.shape, dtype: x!.dtype }),
  forward: (backend, [x, index], out) => backend.gather(x!, 2, index!, out),
  backward: (gy, node) => [maxPoolGrad([gy, node.input(1)], node.attrs), null],
});

const maxPoolGrad: Op<Pool> = defineOp<Pool>({
  name: 'maxPoolGrad',
  shape: ([gy], { x }) => ({ shape: [x[0]!, x[1]!, x[2]! * x[3]!], dtype: gy!.dtype }),
  forward(backend, [gy, index], out, pool) {
    if (backend.maxPoolGrad === undefined) return backend.scatterAdd(gy!, 2, index!, out);
    const images = (t: Tensor) => {
      const [n, c, step] = t.strides as [number, number, number];
      return withLayout(t, pool.y, [n, c, step * pool.y[3]!, step]);
    };
    backend.maxPoolGrad(images(gy!), images(index!), withLayout(out, pool.x), pool);
  },
  backward: (ggx, node) => [pickOp([ggx, node.input(1)], node.attrs), null],
});

/** [N, C, H, W] → [N, C, H·W] */
const flat = (t: Tensor) => reshape(t, [...t.shape.slice(0, 2), sizeOf(t.shape.slice(2))]);

/** Both of these at once, on devices that have it. The forward pass fills `index`, int32 [N, C, Ho, Wo]. */
const maxPoolOp = defineOp<Pool & { readonly index: Tensor }>({
  name: 'maxPool2d',
  shape: ([x], { y }) => ({ shape: y, dtype: x!.dtype }),
  forward: (backend, [x], out, attrs) => backend.maxPool!(x!, attrs.index, out, attrs),
  backward: (gy, { attrs }) => [reshape(maxPoolGrad([flat(gy), flat(attrs.index)], attrs), attrs.x)],
});

/** The largest value in each window; NaN wins. The gradient goes to the first of equal ones and to the last NaN, as in PyTorch. */
export function maxPool2d(x: Tensor, kernel: number | Pair, o: PoolOptions = {}): Tensor {
  checkOptions('maxPool2d', o, POOL);
  return maxPooled(x, poolOf('maxPool2d', x, kernel, o));
}

/** `maxPool2d` of a checked call. */
export function maxPooled(x: Tensor, pool: Pool): Tensor {
  if (x.storage.backend.maxPool !== undefined) return maxPoolOp([x], { ...pool, index: emptyLike(x, pool.y, 'int32') });
  return reshape(pickOp([flat(x), flat(maxPoolIndex([x], pool))], pool), pool.y);
}

type AvgPool = Pool & { readonly countIncludePad: boolean };

export const avgPoolOp: Op<AvgPool> = defineOp<AvgPool>({
  name: 'avgPool2d',
  shape: ([x], { y }) => ({ shape: y, dtype: x!.dtype }),
  forward: (backend, [x], out, attrs) => backend.avgPool(x!, out, attrs, attrs.countIncludePad),
  backward: (gy, { attrs }) => [avgPoolGrad([gy], attrs)],
});

const avgPoolGrad: Op<AvgPool> = defineOp<AvgPool>({
  name: 'avgPoolGrad',
  shape: ([gy], { x }) => ({ shape: x, dtype: gy!.dtype }),
  forward: (backend, [gy], out, attrs) => backend.avgPoolGrad(gy!, out, attrs, attrs.countIncludePad),
  backward: (ggx, { attrs }) => [avgPoolOp([ggx], attrs)],
});

/**
 * The mean of each window.
 *
 * @param o countIncludePad: whether the zeros around the plane count (default true, as in PyTorch)
 */
export function avgPool2d(
  x: Tensor,
  kernel: number | Pair,
  o: PoolOptions & { countIncludePad?: boolean } = {},
): Tensor {
  checkOptions('avgPool2d', o, { ...POOL, countIncludePad: aBoolean });
  const { countIncludePad = true } = o;
  return avgPoolOp([x], { ...poolOf('avgPool2d', x, kernel, o), countIncludePad });
}

/** The mean of each plane: [N, C, H, W] → [N, C]. */
export function globalAvgPool2d(x: Tensor): Tensor {
  checkVolumes('globalAvgPool2d', x, 2);
  return mean(x, [2, 3]);
}
