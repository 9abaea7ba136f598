/** The layers as functions of their inputs and weights. */

import {
  type ConvOptions,
  checkIndex,
  conv2d as convolution,
  DTypeError,
  describe,
  type Generator,
  owningIntermediates,
  rand,
  ShapeError,
  type Tensor,
  where,
} from '@otimes/core';
import { aBoolean, aTensor, checkArgument } from '@otimes/core/extend';
import { aProbability, PLACEMENT, requiredOptions } from './check.ts';

export { attention, batchNorm, batchNormEval, groupNorm, layerNorm, linear } from '@otimes/core';
export { rotaryEmbedding } from './attention/rotary.ts';

/** x [N, C, H, W] ∗ weight [O, C/groups, kh, kw] + bias [O], the convolution of core with a bias. */
export function conv2d(x: Tensor, weight: Tensor, bias: Tensor | null = null, o?: ConvOptions): Tensor {
  if (o !== undefined) checkArgument('conv2d', 'options', o, requiredOptions);
  return convolution(x, weight, { ...o, bias });
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

/**
 * Rows of `weight` [count, dim] for int32 `indices` [...] → [..., dim]. Throws a RangeError for an index out of range; on
 * a device that is read with await, the next read rejects with it.
 */
export function embedding(indices: Tensor, weight: Tensor): Tensor {
  checkArgument('embedding', 'indices', indices, aTensor);
  checkArgument('embedding', 'weight', weight, aTensor);
  if (weight.rank !== 2) throw new ShapeError(`embedding: expected a weight [count, dim], got ${describe(weight)}`);
  checkIndex('embedding', indices, weight.shape[0]!);
  return weight.indexSelect(0, indices.reshape(-1)).reshape([...indices.shape, weight.shape[1]!]);
}
