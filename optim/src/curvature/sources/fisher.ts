/**
 * Which Fisher the factors estimate, as output gradients to propagate from the model's output z [B, …]. Its rows are what the
 * loss is a mean over, and the factors are too: a model that flattens positions into its output has them all as rows.
 *
 * empirical: the gradient of the loss itself, nothing to add here. sampled: the gradient for targets drawn from the
 * model's own predictive distribution, a Monte Carlo estimate of the true Fisher. ggn: the columns of a square root of
 * the loss Hessian, exact (for these two losses the generalised Gauss–Newton matrix is the true Fisher; Martens 2020).
 */

import { arange, describe, type Generator, oneHot, randn, ShapeError, type Tensor, tensor, zeros } from '@otimes/core';
import { checkFinite, readsLater } from '@otimes/core/extend';
import type { LossReduction } from '../factors.ts';
import { type CountedRows, rootWeights } from './loss-rows.ts';

export type FisherKind = 'empirical' | 'sampled' | 'ggn';

/**
 * crossEntropy: z [B, C, …] are logits, the classes on axis 1, and every position of the further axes is a row. mse: any z, the
 * loss of a row z[b] is the mean over its elements (sum: the sum).
 */
export type FisherLoss = 'crossEntropy' | 'mse';

type SeedOptions = {
  readonly reduction: LossReduction;
  readonly rng: Generator;
  /**
   * Whether one example may have several rows. Columns of the Hessian then get a random sign row by row, since rows that meet in
   * a layer would add up: with signs their mixed products are 0 in expectation. A row alone gives the same bits either way.
   */
  readonly apart: boolean;
  /** Where they differ: what rows of the output count, for cross-entropy. For those that do not, nothing is drawn. */
  readonly counted: CountedRows | null;
};

/** How many rows an output has. */
export function rowsOf(loss: FisherLoss, { shape }: Tensor): number {
  const [batch = 1, , ...positions] = shape;
  return loss === 'crossEntropy' ? positions.reduce((product, n) => product * n, batch) : batch;
}

/**
 * Gradients of z, each like z and of ONE row's loss, whose outer products sum to the loss Hessian of every row:
 * one random gradient in expectation ('sampled'), or as many as the Hessian has rank ('ggn').
 */
export function fisherGradients(
  kind: 'sampled' | 'ggn',
  loss: FisherLoss,
  z: Tensor,
  { reduction, rng, apart, counted }: SeedOptions,
): Tensor[] {
  const drawn = drawing(rng, counted);
  const signed = (columns: Tensor[]) => (apart ? columns.map(column => column.mul(signs(column, drawn))) : columns);
  switch (loss) {
    case 'crossEntropy': {
      const p = probabilities(z);
      const seeds = kind === 'ggn' ? signed(softmaxColumns(p)) : [sampledSoftmax(p, drawn)];
      if (counted === null) return seeds.map(seed => likeLogits(seed, z));
      const roots = rootWeights(counted, z);
      return seeds.map(seed => likeLogits(seed, z).mul(roots));
    }
    case 'mse':
      return kind === 'ggn' ? signed(gaussianColumns(z, reduction)) : [sampledGaussian(z, reduction, rng)];
    default:
      throw new RangeError(`fisher: expected loss 'crossEntropy' or 'mse', got '${String(loss satisfies never)}'`);
  }
}

/** A uniform number for each row; 0 for one that counts for nothing. */
type Draws = (rows: number) => Float64Array;

const drawing =
  (rng: Generator, counted: CountedRows | null): Draws =>
  rows =>
    Float64Array.from({ length: rows }, (_, row) => (counted === null || counted.weights[row] ? rng.uniform() : 0));

/** ±1 for each row, [rows, 1, …]. */
function signs({ shape, dtype, device }: Tensor, drawn: Draws): Tensor {
  const values = drawn(shape[0]!).map(one => (one < 0.5 ? -1 : 1));
  return tensor(values, { shape: shape.map((n, i) => (i === 0 ? n : 1)) })
    .astype(dtype)
    .to(device);
}

/** Of z [B, C, …], by row: p [rows, C]. */
function probabilities(z: Tensor): Tensor {
  if (z.rank < 2)
    throw new ShapeError(`fisher: cross-entropy needs logits [batch, classes, …], the model returned ${describe(z)}`);
  return (z.rank === 2 ? z : z.permute(...classesLast(z)).reshape([-1, z.shape[1]!])).softmax(1);
}

/**
 * Throws where the loss's gradient says that the classes of z [B, …, C] stand on its last axis: it sums to 0 over the classes of a
 * row. On a device that is read with await the next read rejects.
 */
export function checkClasses(z: Tensor, gy: Tensor): void {
  if (z.rank < 3) return;
  const least = gy.abs().max().mul(1e-3);
  const left = (axis: number) => gy.sum(axis).abs().max();
  const fits = left(1)
    .le(least)
    .logicalOr(left(z.rank - 1).gt(least));
  const classes = z.shape[z.rank - 1]!;
  // 1/0 where it does not.
  checkFinite(
    fits.astype(gy.dtype).reciprocal(),
    () =>
      new ShapeError(
        `fisher: cross-entropy needs logits [batch, classes, …], the model returned ${describe(z)} with the classes last: ` +
          `return z.reshape(-1, ${classes}), or permute the last axis to axis 1`,
      ),
  );
}

/** The axes of z in an order with the classes last. */
const classesLast = ({ shape }: Tensor): number[] => [...shape.keys()].filter(axis => axis !== 1).concat(1);

/** Rows [rows, C] in the shape of z [B, C, …]. */
function likeLogits(rows: Tensor, z: Tensor): Tensor {
  if (z.rank === 2) return rows;
  const order = classesLast(z);
  return rows.reshape(order.map(axis => z.shape[axis]!)).permute(...order.map((_, axis) => order.indexOf(axis)));
}

/** diag(p) − p pᵀ = Σ_c √p_c (e_c − p) (√p_c (e_c − p))ᵀ. */
function softmaxColumns(p: Tensor): Tensor[] {
  const [batch, classes] = p.shape as [number, number];
  return Array.from({ length: classes }, (_, c) => {
    const label = oneHot(tensor(new Int32Array(batch).fill(c), { device: p.device }), classes, { dtype: p.dtype });
    return label.sub(p).mul(p.narrow(1, c, 1).sqrt());
  });
}

/** p − e_y with y drawn from p. */
function sampledSoftmax(p: Tensor, drawn: Draws): Tensor {
  const [batch, classes] = p.shape as [number, number];
  const draws = drawn(batch);
  if (readsLater(p)) return p.sub(drawnOnDevice(p, draws));
  const values = p.dataSync();
  const labels = new Int32Array(batch);
  for (let b = 0; b < batch; b++) {
    let left = draws[b]!;
    let c = 0;
    // The last class takes what rounding leaves over.
    while (c < classes - 1 && left >= values[b * classes + c]!) left -= values[b * classes + c++]!;
    labels[b] = c;
  }
  return p.sub(oneHot(tensor(labels, { device: p.device }), classes, { dtype: p.dtype }));
}

/** The same e_y, up to rounding, found where p is: y is the number of sums Σ_{c ≤ k} p_c that the uniform number has passed. */
function drawnOnDevice(p: Tensor, draws: Float64Array): Tensor {
  const { dtype, device } = p;
  const [batch, classes] = p.shape as [number, number];
  const uniform = tensor(draws).astype(dtype).to(device);
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

/** The Hessian of one row's loss is h I: 2/n for the mean over its n elements, 2 for the sum. */
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
