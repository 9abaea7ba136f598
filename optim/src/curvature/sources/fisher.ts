/**
 * Which Fisher the factors estimate, as output gradients to propagate from the model's output z [B, …].
 *
 * empirical: the gradient of the loss itself, nothing to add here. sampled: the gradient for targets drawn from the
 * model's own predictive distribution, a Monte Carlo estimate of the true Fisher. ggn: the columns of a square root of
 * the loss Hessian, exact (for these two losses the generalised Gauss–Newton matrix is the true Fisher; Martens 2020).
 */

import { arange, describe, type Generator, oneHot, randn, ShapeError, type Tensor, tensor, zeros } from '@otimes/core';
import { readsLater } from '@otimes/core/extend';
import type { LossReduction } from '../factors.ts';

export type FisherKind = 'empirical' | 'sampled' | 'ggn';

/** crossEntropy: z [B, C] are logits. mse: any z, the example's loss is the mean over its elements (sum: the sum). */
export type FisherLoss = 'crossEntropy' | 'mse';

/**
 * Gradients of z, each like z and of ONE example's loss, whose outer products sum to the loss Hessian of every example:
 * one random gradient in expectation ('sampled'), or as many as the Hessian has rank ('ggn').
 */
export function fisherGradients(
  kind: 'sampled' | 'ggn',
  loss: FisherLoss,
  z: Tensor,
  reduction: LossReduction,
  rng: Generator,
): Tensor[] {
  switch (loss) {
    case 'crossEntropy':
      return kind === 'ggn' ? softmaxColumns(z) : [sampledSoftmax(z, rng)];
    case 'mse':
      return kind === 'ggn' ? gaussianColumns(z, reduction) : [sampledGaussian(z, reduction, rng)];
    default:
      throw new RangeError(`fisher: expected loss 'crossEntropy' or 'mse', got '${String(loss satisfies never)}'`);
  }
}

function probabilities(z: Tensor): Tensor {
  if (z.rank !== 2)
    throw new ShapeError(`fisher: cross-entropy needs logits [batch, classes], the model returned ${describe(z)}`);
  return z.softmax(1);
}

/** diag(p) − p pᵀ = Σ_c √p_c (e_c − p) (√p_c (e_c − p))ᵀ. */
function softmaxColumns(z: Tensor): Tensor[] {
  const p = probabilities(z);
  const [batch, classes] = p.shape as [number, number];
  return Array.from({ length: classes }, (_, c) => {
    const label = oneHot(tensor(new Int32Array(batch).fill(c), { device: p.device }), classes, { dtype: p.dtype });
    return label.sub(p).mul(p.narrow(1, c, 1).sqrt());
  });
}

/** p − e_y with y drawn from p. */
function sampledSoftmax(z: Tensor, rng: Generator): Tensor {
  const p = probabilities(z);
  const [batch, classes] = p.shape as [number, number];
  if (readsLater(p)) return p.sub(drawnOnDevice(p, rng));
  const values = p.dataSync();
  const labels = new Int32Array(batch);
  for (let b = 0; b < batch; b++) {
    let left = rng.uniform();
    let c = 0;
    // The last class takes what rounding leaves over.
    while (c < classes - 1 && left >= values[b * classes + c]!) left -= values[b * classes + c++]!;
    labels[b] = c;
  }
  return p.sub(oneHot(tensor(labels, { device: p.device }), classes, { dtype: p.dtype }));
}

/** The same e_y, up to rounding, found where p is: y is the number of sums Σ_{c ≤ k} p_c that the uniform number has passed. */
function drawnOnDevice(p: Tensor, rng: Generator): Tensor {
  const { dtype, device } = p;
  const [batch, classes] = p.shape as [number, number];
  const uniform = tensor(Float64Array.from({ length: batch }, () => rng.uniform()))
    .astype(dtype)
    .to(device);
  let sums = p;
  for (let by = 1; by < classes; by *= 2) {
    const shifted = sums.narrow(1, 0, classes - by).pad([
      [0, 0],
      [by, 0],
    ]);
    sums = sums.add(shifted);
  }
  // Without the last one: its class takes what rounding leaves over.
  const passed = sums.narrow(1, 0, classes - 1).le(uniform.reshape([batch, 1]));
  const y = passed.astype(dtype).sum(1, { keepdim: true });
  return arange(0, classes, 1, { dtype, device }).eq(y).astype(dtype);
}

/** The Hessian of one example's loss is h I: 2/n for the mean over its n elements, 2 for the sum. */
function gaussianScale(z: Tensor, reduction: LossReduction): number {
  return Math.sqrt(reduction === 'mean' ? 2 / (z.size / z.shape[0]!) : 2);
}

function gaussianColumns(z: Tensor, reduction: LossReduction): Tensor[] {
  const n = z.size / z.shape[0]!;
  return Array.from({ length: n }, (_, i) => {
    const column = zeros([z.shape[0]!, n], { dtype: z.dtype, device: z.device });
    column.narrow(1, i, 1).addScaled_(tensor(1, { dtype: z.dtype, device: z.device }), gaussianScale(z, reduction));
    return column.reshape(z.shape);
  });
}

function sampledGaussian(z: Tensor, reduction: LossReduction, rng: Generator): Tensor {
  return randn(z.shape, { dtype: z.dtype, device: z.device, rng }).mul(gaussianScale(z, reduction));
}
