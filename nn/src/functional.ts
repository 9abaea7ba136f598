/** The layers as functions of their inputs and weights. */

import {
  type Conv1dOptions,
  type Conv3dOptions,
  type ConvOptions,
  type ConvTranspose1dOptions,
  type ConvTransposeOptions,
  conv1d as convolution1d,
  conv2d as convolution2d,
  conv3d as convolution3d,
  DTypeError,
  describe,
  type Generator,
  owningIntermediates,
  rand,
  type Tensor,
  convTranspose1d as transposed1d,
  convTranspose2d as transposed2d,
  where,
} from '@otimes/core';
import { aBoolean, aTensor, checkArgument } from '@otimes/core/extend';
import { aProbability, PLACEMENT, requiredOptions } from './check.ts';

export {
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveMaxPool1d,
  adaptiveMaxPool2d,
  attention,
  avgPool1d,
  avgPool2d,
  avgPool3d,
  batchNorm,
  batchNormEval,
  cosineSimilarity,
  elu,
  groupNorm,
  layerNorm,
  leakyRelu,
  linear,
  logSigmoid,
  maxPool1d,
  maxPool2d,
  maxPool3d,
  mish,
  pairwiseDistance,
  selu,
  silu,
  softplus,
} from '@otimes/core';
export {
  celu,
  glu,
  hardsigmoid,
  hardswish,
  hardtanh,
  logSoftmax,
  prelu,
  relu6,
  softmax,
  softsign,
} from './activations/functions.ts';
export { rotaryEmbedding } from './attention/rotary.ts';
export { bilinear } from './bilinear.ts';
export { alphaDropout, dropout1d, dropout2d, dropout3d } from './channel-dropout.ts';
export { embeddingBag } from './embedding/bag.ts';
export { embedding } from './embedding/lookup.ts';
export { rmsNorm } from './normalization/rms-norm.ts';

/** x [N, C, L] ∗ weight [O, C/groups, k] + bias [O], the convolution of core with a bias. */
export function conv1d(x: Tensor, weight: Tensor, bias: Tensor | null = null, o?: Conv1dOptions): Tensor {
  if (o !== undefined) checkArgument('conv1d', 'options', o, requiredOptions);
  return convolution1d(x, weight, { ...o, bias });
}

/** x [N, C, H, W] ∗ weight [O, C/groups, kh, kw] + bias [O], the convolution of core with a bias. */
export function conv2d(x: Tensor, weight: Tensor, bias: Tensor | null = null, o?: ConvOptions): Tensor {
  if (o !== undefined) checkArgument('conv2d', 'options', o, requiredOptions);
  return convolution2d(x, weight, { ...o, bias });
}

/** x [N, C, D, H, W] ∗ weight [O, C/groups, kd, kh, kw] + bias [O], the convolution of core with a bias. */
export function conv3d(x: Tensor, weight: Tensor, bias: Tensor | null = null, o?: Conv3dOptions): Tensor {
  if (o !== undefined) checkArgument('conv3d', 'options', o, requiredOptions);
  return convolution3d(x, weight, { ...o, bias });
}

/** The transpose of `conv1d`: x [N, C, L], weight [C, O/groups, k], plus bias [O]. */
export function convTranspose1d(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  o?: ConvTranspose1dOptions,
): Tensor {
  if (o !== undefined) checkArgument('convTranspose1d', 'options', o, requiredOptions);
  return transposed1d(x, weight, { ...o, bias });
}

/** The transpose of `conv2d`: x [N, C, H, W], weight [C, O/groups, kh, kw], plus bias [O]. */
export function convTranspose2d(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  o?: ConvTransposeOptions,
): Tensor {
  if (o !== undefined) checkArgument('convTranspose2d', 'options', o, requiredOptions);
  return transposed2d(x, weight, { ...o, bias });
}

/** Zeroes elements with probability `p` and scales the rest by 1/(1−p), when `training`. */
export function dropout(x: Tensor, p: number, training: boolean, rng?: Generator): Tensor {
  checkArgument('dropout', 'x', x, aTensor);
  checkArgument('dropout', 'p', p, aProbability);
  checkArgument('dropout', 'training', training, aBoolean);
  if (rng !== undefined) checkArgument('dropout', 'rng', rng, PLACEMENT.rng);
  if (!training || p === 0) return x;
  return owningIntermediates(() => {
    const kept = rand(x.shape, { device: x.device, ...(rng && { rng }) }).ge(p);
    return x.mul(kept.astype(x.dtype).mul(1 / (1 - p)));
  });
}

/**
 * Attention weights, softmax(q kᵀ / √dHead) (Vaswani et al. 2017, section 3.2.1).
 *
 * @param q [..., T, dHead], k [..., S, dHead]
 * @param mask bool, broadcast to [..., T, S]: true where the query may attend. A query that may attend to no key gets NaN.
 * @returns [..., T, S], rows that sum to 1
 */
export function attentionWeights(q: Tensor, k: Tensor, mask?: Tensor): Tensor {
  for (const [name, one] of Object.entries({ q, k, ...(mask !== undefined && { mask }) }))
    checkArgument('attentionWeights', name, one, aTensor);
  const scores = q.mul(1 / Math.sqrt(q.shape.at(-1)!)).matmul(k.transpose());
  if (mask === undefined) return scores.softmax(-1);
  if (mask.dtype !== 'bool') throw new DTypeError(`attention: expected a bool mask, got ${describe(mask)}`);
  return where(mask, scores, -Infinity).softmax(-1);
}
