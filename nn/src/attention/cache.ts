/** What attention remembers of the positions that it has seen, so that a sequence can be continued position by position. */

import { concat, describe, ShapeError, type Tensor } from '@otimes/core';
import { aTensor, checkArgument } from '@otimes/core/extend';

/**
 * Keys and values of the positions so far, of one attention layer. Each call that is given it appends its own, and its queries
 * attend to all of them. A cache belongs to one layer and one batch; a new sequence takes a new one, or `clear()`.
 */
export class KVCache {
  /** [B, length, features], turned by their positions where the layer has rotary positions; null before the first call. */
  keys: Tensor | null = null;
  /** [B, length, features] */
  values: Tensor | null = null;

  /** How many positions it has. The next one that is appended has this number. */
  get length(): number {
    return this.keys?.shape[1] ?? 0;
  }

  /** Appends keys and values [B, S, features]; returns all of them. Throws a ShapeError and appends nothing if they do not fit. */
  append(keys: Tensor, values: Tensor): readonly [keys: Tensor, values: Tensor] {
    checkArgument('KVCache', 'keys', keys, aTensor);
    checkArgument('KVCache', 'values', values, aTensor);
    if (keys.rank !== 3 || keys.shape.join() !== values.shape.join())
      throw new ShapeError(
        `KVCache: expected keys and values [B, S, features], got ${describe(keys)} and ${describe(values)}`,
      );
    const { keys: before, values: valuesBefore } = this;
    if (before === null || valuesBefore === null) [this.keys, this.values] = [keys, values];
    else {
      const [batch, , features] = before.shape;
      if (keys.shape[0] !== batch || keys.shape[2] !== features)
        throw new ShapeError(
          `KVCache: expected keys [${batch}, S, ${features}] after those of ${this.length} positions, got ${describe(keys)}; ` +
            'a cache belongs to one layer and one batch',
        );
      [this.keys, this.values] = [concat([before, keys], 1), concat([valuesBefore, values], 1)];
    }
    // They outlive the call, and scopes around it.
    return [this.keys!.keep(), this.values!.keep()];
  }

  /** Forgets all positions. */
  clear(): void {
    this.keys = null;
    this.values = null;
  }
}
