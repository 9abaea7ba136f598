/**
 * Layer, batch and group normalisation: (x − mean) / √(variance + ε) · weight + bias. They differ in the axes over which
 * mean and variance are taken, and are one operation.
 */

import { bring } from '../backends/bring.ts';
import type { NormKernels } from '../backends/composed/norm.ts';
import * as reference from '../backends/reference/layers/norm.ts';
import * as wasm from '../backends/wasm/layers/norm.ts';
import { aNumber, checkArgument } from '../check.ts';
import { widestFloat } from '../device.ts';
import { isFloat, promote } from '../dtype.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { emptyLike } from '../fill.ts';
import { isRecording } from '../graph.ts';
import { defineOp, notDifferentiable, type Op } from '../op.ts';
import { reducedShape, sizeOf } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { cast, castOp } from './cast.ts';
import { add, div, mul, sqrt, square, sub } from './elementwise.ts';
import { centred, mean } from './reduce.ts';
import { reshape } from './view.ts';

bring<NormKernels>(reference, wasm);

/** The forward pass fills `mean` and `variance`, float64 where the device has it, in the shape of x with the normalised axes as length 1. */
type Statistics = {
  readonly axes: readonly number[];
  readonly eps: number;
  readonly mean: Tensor;
  readonly variance: Tensor;
};

const normalizeOp: Op<Statistics> = defineOp<Statistics>({
  name: 'normalize',
  shape: ([x]) => x!,
  forward: (backend, [x, weight, bias], out, { eps, mean, variance }) =>
    backend.normalize(x!, weight!, bias ?? null, eps, out, mean, variance),
  backward(gy, node) {
    const [x, weight] = [node.input(0), node.input(1)];
    const bias = node.inputs.length === 3 ? [gy] : [];
    const { backend } = x.storage;
    // The kernels have no gradients of their own; where those are asked for, the same is written in tensor operations.
    if (isRecording()) return [...gradients(gy, x, weight, node.attrs), ...bias];
    if (backend.normalizeGrads !== undefined && node.needs(0) && node.needs(1)) {
      const [weightGrad, biasGrad] = [emptyLike(weight), emptyLike(weight)];
      const gx = allGrads([gy, x, weight], { ...node.attrs, weightGrad, biasGrad });
      return [gx, weightGrad, ...bias.map(() => biasGrad)];
    }
    return [
      node.needs(0) ? inputGrad([gy, x, weight], node.attrs) : null,
      node.needs(1) ? weightGrad([gy, x, weight], node.attrs) : null,
      ...bias,
    ];
  },
});

/**
 * By x: (g − mean(g) − x̂ · mean(g · x̂)) / √(variance + ε), where g = gy · weight and x̂ is the normalised x (Ioffe &
 * Szegedy 2015, section 3). By the weight: Σ gy · x̂.
 */
function gradients(gy: Tensor, x: Tensor, weight: Tensor, { axes, eps }: Statistics): [Tensor, Tensor] {
  const average = (t: Tensor) => mean(t, axes, { keepdim: true });
  const rest = centred(x, axes);
  const deviation = sqrt(add(average(square(rest)), eps));
  const normal = div(rest, deviation);
  const g = mul(gy, weight);
  const gx = div(sub(sub(g, average(g)), mul(normal, average(mul(g, normal)))), deviation);
  return [gx, mul(gy, normal)];
}

const inputGrad = defineOp<Statistics>({
  name: 'normalizeInputGrad',
  shape: ([, x]) => x!,
  forward: (backend, [gy, x, weight], out, { eps, mean, variance }) =>
    backend.normalizeInputGrad(gy!, x!, weight!, eps, mean, variance, out),
  backward: notDifferentiable,
});

const weightGrad = defineOp<Statistics>({
  name: 'normalizeWeightGrad',
  shape: ([, , weight]) => weight!,
  forward: (backend, [gy, x], out, { eps, mean, variance }) =>
    backend.normalizeWeightGrad(gy!, x!, eps, mean, variance, out),
  backward: notDifferentiable,
});

/** Both of these, and Σ gy, on devices that compute them together. */
const allGrads = defineOp<Statistics & { readonly weightGrad: Tensor; readonly biasGrad: Tensor }>({
  name: 'normalizeGrads',
  shape: ([, x]) => x!,
  forward: (backend, [gy, x, weight], out, { eps, mean, variance, weightGrad, biasGrad }) =>
    backend.normalizeGrads!(gy!, x!, weight!, eps, mean, variance, out, weightGrad, biasGrad),
  backward: notDifferentiable,
});

/** `weight` and `bias` broadcast to x; statistics over `axes`. */
function normalize(op: string, x: Tensor, axes: readonly number[], weight: Tensor, bias: Tensor | null, eps: number) {
  checkArgument(op, 'eps', eps, aNumber);
  const inputs = bias === null ? [x, weight] : [x, weight, bias];
  for (const t of inputs)
    if (!isFloat(t.dtype)) throw new DTypeError(`${op}: expected floating tensors, got ${describe(t)}`);
  const dtype = inputs.map(t => t.dtype).reduce(promote);
  const shape = reducedShape(x.shape, axes, true);
  const wide = widestFloat(x.storage.backend);
  const statistics = { mean: emptyLike(x, shape, wide), variance: emptyLike(x, shape, wide) };
  const y = normalizeOp(
    inputs.map(t => cast(t, dtype)),
    { axes, eps, ...statistics },
  );
  return { y, ...statistics };
}

/**
 * Mean 0 and variance 1 over the last axes, which have the shape of `weight`, then · weight + bias (Ba et al. 2016).
 * `eps` is added to the variance. On a device without float64 the variance is infinite where |x − mean| > 1.8e19, and y is `bias`.
 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor | null = null, eps = 1e-5): Tensor {
  checkTensors('layerNorm', x, weight);
  const lead = x.rank - weight.rank;
  if (lead < 0 || weight.shape.some((length, i) => length !== x.shape[lead + i]))
    throw new ShapeError(`layerNorm: expected an input [..., ${weight.shape.join(', ')}], got ${describe(x)}`);
  checkLike('layerNorm', weight, bias);
  const axes = weight.shape.map((_, i) => lead + i);
  return normalize('layerNorm', x, axes, weight, bias, eps).y;
}

/**
 * Mean 0 and variance 1 in each channel over batch and positions, then · weight + bias (Ioffe & Szegedy 2015). Large numbers
 * as in `layerNorm`.
 *
 * @param x [N, C, …]
 * @param weight [C], as is `bias`
 * @returns y, and the statistics of the batch [C]: `variance` is Σ (x − mean)² / n, the biased one, outside of the graph
 */
export function batchNorm(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  eps = 1e-5,
): { y: Tensor; mean: Tensor; variance: Tensor } {
  const channels = checkChannels('batchNorm', x, weight, bias);
  if (x.size <= channels)
    throw new ShapeError(`batchNorm: expected more than one value in each channel to train on, got ${describe(x)}`);
  const axes = x.shape.flatMap((_, i) => (i === 1 ? [] : [i]));
  const wide = (t: Tensor) => perChannel(t, x.rank);
  const { y, mean, variance } = normalize('batchNorm', x, axes, wide(weight), bias && wide(bias), eps);
  // Copies, because backward needs the originals as they are.
  const copy = (t: Tensor) => castOp([reshape(t, [channels])], y.dtype);
  return { y, mean: copy(mean), variance: copy(variance) };
}

/** The same affine map for every batch, by a given `mean` and `variance` [C]: `batchNorm` in evaluation. */
export function batchNormEval(
  x: Tensor,
  mean: Tensor,
  variance: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  eps = 1e-5,
): Tensor {
  checkChannels('batchNormEval', x, weight, bias);
  checkArgument('batchNormEval', 'eps', eps, aNumber);
  checkTensors('batchNormEval', mean, variance);
  for (const t of [mean, variance]) checkLike('batchNormEval', weight, t);
  const wide = (t: Tensor) => perChannel(t, x.rank);
  // The mean first: x · scale and mean · scale have no digits in common with their difference where x is far from 0.
  const y = mul(sub(x, wide(mean)), wide(div(weight, sqrt(add(variance, eps)))));
  return bias === null ? y : add(y, wide(bias));
}

/**
 * Mean 0 and variance 1 over the positions and the channels of each group, then · weight + bias for each channel (Wu & He
 * 2018). x is [N, C, …], weight and bias are [C]. Large numbers as in `layerNorm`.
 */
export function groupNorm(x: Tensor, groups: number, weight: Tensor, bias: Tensor | null = null, eps = 1e-5): Tensor {
  const channels = checkChannels('groupNorm', x, weight, bias);
  if (!Number.isInteger(groups) || groups < 1 || channels % groups !== 0)
    throw new ShapeError(`groupNorm: ${groups} groups do not divide the ${channels} channels of ${describe(x)}`);
  const split = [groups, channels / groups, 1];
  const grouped = reshape(x, [x.shape[0]!, groups, channels / groups, sizeOf(x.shape.slice(2))]);
  const affine = [weight, bias].map(t => t && reshape(t, split));
  return reshape(normalize('groupNorm', grouped, [2, 3], affine[0]!, affine[1]!, eps).y, x.shape);
}

/** [C] → [C, 1, …], as it broadcasts against [N, C, …] of that rank. */
const perChannel = (t: Tensor, rank: number) => reshape(t, [t.size, ...new Array<number>(rank - 2).fill(1)]);

function checkChannels(op: string, x: Tensor, weight: Tensor, bias: Tensor | null): number {
  checkTensors(op, x, weight);
  if (weight.rank !== 1) throw new ShapeError(`${op}: expected a weight [C], got ${describe(weight)}`);
  if (x.rank < 2 || x.shape[1] !== weight.size)
    throw new ShapeError(`${op}: expected an input [N, ${weight.size}, …], got ${describe(x)}`);
  checkLike(op, weight, bias);
  return weight.size;
}

function checkLike(op: string, weight: Tensor, other: Tensor | null): void {
  if (other !== null) checkTensors(op, other);
  if (other !== null && other.shape.join() !== weight.shape.join())
    throw new ShapeError(`${op}: expected ${describe(other)} to have the shape of the weight ${describe(weight)}`);
}
