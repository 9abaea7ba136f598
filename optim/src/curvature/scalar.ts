/** Values of tensors, where they are needed on the host. */

import { stack, Tensor } from '@otimes/core';
import { held, readsLater } from '@otimes/core/extend';

/** A number; or a tensor of one element on a device that is read with await, because a step does not wait for it there. */
export type Scalar = number | Tensor;

/** The element of `x`; `x` itself where that has to be awaited. */
export const scalarOf = (x: Tensor): Scalar => (readsLater(x) ? x : x.item());

/** `now`, held in the place of `before`, whose memory is given back. */
export function replaced(before: Scalar | boolean | null, now: Tensor): Tensor {
  if (typeof before === 'object') before?.storage.release();
  return held(now);
}

/** Makes `x` again, which `replaced` may have given back meanwhile; within the scope of the call. */
export function remembered<T>(x: T): () => T | Tensor {
  if (!(x instanceof Tensor)) return () => x;
  const copy = x.clone();
  return () => held(copy.clone());
}

/** The Euclidean norm of all elements of several tensors. */
export function normOf(tensors: readonly Tensor[]): Scalar {
  const norms = tensors.map(x => x.norm());
  return readsLater(norms[0]!) ? stack(norms).norm() : Math.hypot(...norms.map(norm => norm.item()));
}

export function times(x: Scalar, y: Scalar): Scalar {
  if (typeof x !== 'number') return x.mul(y);
  return typeof y === 'number' ? x * y : y.mul(x);
}
