/** Rows of a table by their indices. */

import { checkIndex, describe, owningIntermediates, ShapeError, type Tensor, where } from '@otimes/core';
import { anInteger, aTensor, checkArgument, checkOptions } from '@otimes/core/extend';

/**
 * Rows of `weight` [count, dim] for int32 `indices` [...] → [..., dim]. Throws a RangeError for an index out of range; on
 * a device that is read with await, the next read rejects with it.
 *
 * @param o paddingIdx: an index 0 … count−1 whose row gets no gradient; default none
 */
export function embedding(indices: Tensor, weight: Tensor, o: { paddingIdx?: number } = {}): Tensor {
  checkArgument('embedding', 'indices', indices, aTensor);
  checkArgument('embedding', 'weight', weight, aTensor);
  checkOptions('embedding', o, { paddingIdx: anInteger });
  if (weight.rank !== 2) throw new ShapeError(`embedding: expected a weight [count, dim], got ${describe(weight)}`);
  checkIndex('embedding', indices, weight.shape[0]!);
  const { paddingIdx } = o;
  const rows = () => weight.indexSelect(0, indices.reshape(-1)).reshape([...indices.shape, weight.shape[1]!]);
  if (paddingIdx === undefined) return rows();
  return owningIntermediates(() => {
    const all = rows();
    return where(indices.eq(paddingIdx).unsqueeze(-1), all.detach(), all);
  });
}
