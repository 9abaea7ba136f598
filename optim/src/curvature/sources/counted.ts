/** Statistics without the positions that no loss counts: the mean over inputs is one over the others. */

import { tensor, where } from '@otimes/core';
import type { Canonical, LayerBlock } from '../block.ts';
import { indexGram } from '../one-hot.ts';

type Options = { readonly block: LayerBlock; readonly isFurther: boolean };

/**
 * `canonical` has a gradient for each source. A position is left out where `counts` [batch, shared] is 0 and nothing comes back to it: inside of a
 * model rows that no loss counts may serve others, as words without a label do under attention. Of 'reduce', whole examples alone.
 */
export function withoutIgnored(
  canonical: readonly Canonical[],
  counts: Uint8Array,
  { block, isFurther }: Options,
): readonly Canonical[] {
  const first = canonical[0]!;
  // The columns of a further use are gradients, its rows one-hot.
  const arrived = isFurther ? canonical.map(({ a }) => a) : canonical.map(({ g }) => g);
  const reached = arrived.map(g => g.abs().max(2).dataSync());
  const [batch, shared] = first.g.shape as [number, number];
  const stays = counts.map((one, i) => Number(one !== 0 || reached.some(sizes => sizes[i] !== 0)));
  if (block.sharing === 'reduce' && !isFurther)
    for (let b = 0; b < batch; b++) {
      const example = stays.subarray(b * shared, (b + 1) * shared);
      if (example.includes(1)) example.fill(1);
    }
  if (!stays.includes(0)) return canonical;
  const { dtype, device } = first.g;
  const mask = tensor(stays, { shape: [batch, shared, 1] })
    .astype(dtype)
    .to(device);
  if (isFurther)
    return canonical.map(({ a, g }) => {
      const rows = g.mul(mask);
      return { a, g: rows, rows: rows.sum().item() };
    });
  const { inputs } = first;
  if (inputs?.areIndices) {
    const at = where(mask.squeeze(2).gt(0), inputs.x, block.dIn).astype('int32');
    const rows = at.ne(block.dIn).astype('float64').sum().item();
    return canonical.map(({ g }) => ({
      get a() {
        return inputs.unfold(at);
      },
      inputs: { ...inputs, x: at },
      gramA: () => indexGram(at, block.dIn, g.dtype),
      g,
      rows,
    }));
  }
  const a = first.a.mul(mask.astype(first.a.dtype));
  return canonical.map(({ g }) => ({ a, g, inputs, rows: rowsOf(first, stays) }));
}

/** Of rows that are padding already, at which a is 0, none is counted again. */
function rowsOf({ a, rows }: Canonical, stays: Uint8Array): number {
  if (rows === undefined) return stays.reduce((sum, one) => sum + one, 0);
  const sizes: ArrayLike<number> = a.abs().max(2).dataSync();
  const all = typeof rows === 'number' ? rows : rows.item();
  return stays.reduce((left, one, i) => left - Number(one === 0 && sizes[i] !== 0), all);
}
