/** Which positions may attend to which: masks of attention, checked and put together. */

import { arange, DTypeError, describe, ShapeError, Tensor } from '@otimes/core';
import { aBoolean, anInstance, aTensor, checkArgument, isPlainObject, type OptionKinds } from '@otimes/core/extend';
import { KVCache } from './cache.ts';

/** What a call of an attention may say. T queries attend to S keys, those in the cache included. */
export type AttendOptions = {
  /** Whether a query attends to no key after it: query t to keys s ≤ t + positions in the cache. Default false. */
  causal?: boolean | undefined;
  /** bool [B, S]: TRUE where there is a key to attend to, false at padding. PyTorch's `key_padding_mask` is the other way round. */
  keyPaddingMask?: Tensor | undefined;
  /**
   * bool [T, S], [B, T, S] or [B, heads, T, S]: TRUE where the query may attend to the key, as in PyTorch's
   * `scaled_dot_product_attention`; that of its `MultiheadAttention` is the other way round. Or a floating tensor of such a shape,
   * which is added to the scores, in all of them alike.
   */
  attnMask?: Tensor | undefined;
  /** Keys and values of earlier calls, to which those of this one are appended. */
  cache?: KVCache | undefined;
};

export const ATTEND: OptionKinds<AttendOptions> = {
  causal: aBoolean,
  keyPaddingMask: aTensor,
  attnMask: aTensor,
  cache: anInstance(KVCache, 'a KVCache', v => (isPlainObject(v) ? 'new KVCache() makes one' : '')),
};

/** Sizes of a call: batch, heads, queries, keys, and the position of the first query among the keys. */
export type Extent = {
  readonly batch: number;
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
  readonly offset: number;
  readonly device: string;
};

/** `allowed` is bool, `added` floating; each null where nothing is hidden or added, and of a shape that `attnMask` may have. */
export type Masks = { readonly allowed: Tensor | null; readonly added: Tensor | null };

const MEANING =
  "; true is where a query may attend, the opposite of PyTorch's MultiheadAttention: give mask.logicalNot() of such a one";

/** [T, S], true for keys s ≤ offset + t; null where that is all of them. */
export function causalMask({ queries, keys, offset, device }: Omit<Extent, 'batch' | 'heads'>): Tensor | null {
  if (offset + 1 >= keys) return null;
  const at = { device };
  return arange(offset, offset + queries, 1, at)
    .unsqueeze(1)
    .ge(arange(0, keys, 1, at));
}

/** The masks of a call of `op` in one. Throws for shapes and dtypes that do not fit. */
export function masksOf(op: string, o: AttendOptions, extent: Extent): Masks {
  const { batch, heads, queries, keys } = extent;
  const all: Tensor[] = [];
  let added: Tensor | null = null;
  if (o.causal) {
    const mask = causalMask(extent);
    if (mask !== null) all.push(mask);
  }
  if (o.attnMask !== undefined) {
    const mask = checkedMask(op, o.attnMask, [
      [queries, keys],
      [batch, queries, keys],
      [batch, heads, queries, keys],
    ]);
    if (mask.dtype === 'bool') all.push(mask);
    else if (mask.dtype === 'int32')
      throw new DTypeError(`attention: expected a bool mask or a floating one, got ${describe(mask)}${MEANING}`);
    else added = mask;
  }
  if (o.keyPaddingMask !== undefined) {
    if (o.keyPaddingMask.shape.join() !== [batch, keys].join())
      throw new ShapeError(
        `${op}: expected a keyPaddingMask [${batch}, ${keys}], got ${describe(o.keyPaddingMask)}${MEANING}`,
      );
    all.push(checkedBool(o.keyPaddingMask, 'keyPaddingMask').unsqueeze(1).expand(batch, queries, keys));
  }
  // As they broadcast to each other: [T, S] and [B, T, S] do, and [B, T, S] to all heads with an axis more.
  const rank = Math.max(0, ...all.map(mask => mask.rank));
  const aligned = all.map(mask => (rank === 4 && mask.rank === 3 ? mask.unsqueeze(1) : mask));
  return { allowed: aligned.length === 0 ? null : aligned.reduce((a, b) => a.logicalAnd(b)), added };
}

/** The mask of a call `attention.call(x, mask)`, [T, S] or [B, T, S]. */
export function plainMask(op: string, mask: Tensor, { batch, queries, keys }: Extent): Tensor {
  if (!(mask instanceof Tensor)) checkArgument(op, 'mask', mask, aTensor);
  return checkedBool(
    checkedMask(op, mask, [
      [queries, keys],
      [batch, queries, keys],
    ]),
    'bool mask',
  );
}

function checkedMask(op: string, mask: Tensor, shapes: readonly (readonly number[])[]): Tensor {
  const known = shapes.map(shape => shape.join());
  if (known.includes(mask.shape.join())) return mask;
  const names = shapes.map(shape => `[${shape.join(', ')}]`);
  const last = names.pop();
  throw new ShapeError(`${op}: expected a mask ${names.join(', ')} or ${last}, got ${describe(mask)}`);
}

function checkedBool(mask: Tensor, name: string): Tensor {
  if (mask.dtype === 'bool') return mask;
  const a = name === 'bool mask' ? 'a bool mask' : `a bool ${name}`;
  throw new DTypeError(`attention: expected ${a}, got ${describe(mask)}`);
}
