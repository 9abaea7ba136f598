/** The layers as functions of their inputs and weights. */

import { checkIndex, describe, type Generator, rand, ShapeError, type Tensor } from '@otimes/core';

/** x [..., in] · weightᵀ [in, out] + bias [out]. */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null = null): Tensor {
  if (x.rank === 0 || x.shape.at(-1) !== weight.shape[1])
    throw new ShapeError(`linear: expected an input [..., ${weight.shape[1]}], got ${describe(x)}`);
  const y = x.matmul(weight.transpose());
  return bias === null ? y : y.add(bias);
}

/** Zeroes elements with probability `p` and scales the rest by 1/(1−p), when `training`. */
export function dropout(x: Tensor, p: number, training: boolean, rng?: Generator): Tensor {
  if (!(p >= 0 && p < 1)) throw new RangeError(`dropout: expected a probability 0 ≤ p < 1, got ${p}`);
  if (!training || p === 0) return x;
  const kept = rand(x.shape, { device: x.device, ...(rng && { rng }) }).ge(p);
  return x.mul(kept.astype(x.dtype).mul(1 / (1 - p)));
}

/** (x − mean) / √(var + ε) over the last axes, which have the shape of `weight`; then · weight + bias (Ba et al. 2016). */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor | null, eps = 1e-5): Tensor {
  const lead = x.rank - weight.rank;
  if (lead < 0 || weight.shape.some((length, i) => length !== x.shape[lead + i]))
    throw new ShapeError(`layerNorm: expected an input [..., ${weight.shape.join(', ')}], got ${describe(x)}`);
  const axes = weight.shape.map((_, i) => lead + i);
  const centred = x.sub(x.mean(axes, { keepdim: true }));
  const variance = centred.square().mean(axes, { keepdim: true });
  const y = centred.div(variance.add(eps).sqrt()).mul(weight);
  return bias === null ? y : y.add(bias);
}

/** Rows of `weight` [count, dim] for int32 `indices` [...] → [..., dim]. Throws a RangeError for an index out of range. */
export function embedding(indices: Tensor, weight: Tensor): Tensor {
  checkIndex('embedding', indices, weight.shape[0]!);
  return weight.indexSelect(0, indices.reshape(-1)).reshape([...indices.shape, weight.shape[1]!]);
}
