/**
 * The collector of a weight W [count, dim] that embeddings and the Linear of the output share: z = W h, and y = Wᵀ e with one-hot e. One block has both
 * uses. In D = Σ r cᵀ the columns' side is c = h of the one and the gradient of the other, the rows' side r the gradient of the one and e of the other.
 */

import { borrowGrad } from '@otimes/core/extend';
import type { Embedding, Linear } from '@otimes/nn';
import type { LayerBlock, Sharing } from '../block.ts';
import type { Collector } from '../collector.ts';
import { computesAs } from './claim.ts';
import { lookup } from './embedding.ts';
import { linearRows } from './linear.ts';

/**
 * Claims one Linear and every Embedding whose weight is the same parameter, as one block with the path of the Linear, whose bias is left to
 * `rest`; `sharing` is that of the Linear and defaults to 'expand'. Asked before the collectors of both layers.
 */
export const tiedCollector: Collector = {
  name: 'tied',
  collect(module, path, { sharing = 'expand', model }) {
    const weight: unknown = Reflect.get(module, 'weight');
    const tied = [...(model?.namedModules().values() ?? [])].filter(other => Reflect.get(other, 'weight') === weight);
    const tables = tied.filter(other => computesAs(other, 'Embedding'));
    const [head, second] = tied.filter(other => computesAs(other, 'Linear'));
    const others = tied.length - tables.length;
    if (!head?.weight.requiresGrad || second !== undefined || others > 1 || tables.length === 0) return null;
    return module === head ? [blockOf(head, tables, path, sharing)] : [];
  },
};

function blockOf(tap: Linear, tables: readonly Embedding[], path: string, sharing: Sharing): LayerBlock {
  const { weight } = tap;
  const [dOut, dIn] = weight.shape as [number, number];
  return {
    collector: 'tied',
    path,
    sharing,
    tap,
    parameters: [weight],
    dOut,
    dIn,
    oneHot: 'G',
    canonical: (input, gy) => linearRows(input.astype(weight.dtype), gy),
    further: tables.map(table => ({
      tap: table,
      takesIndices: true,
      canonical(input, gy) {
        const { at, g, real, rows } = lookup(table, input, gy);
        // One-hot vectors are as large as the gradient of the logits, which is there too.
        return { a: g, g: rows(at), gramA: side => side.gram(g), rows: real };
      },
    })),
    gradient: () => borrowGrad(weight),
    add: (update, scale) => void weight.addScaled_(update, scale),
  };
}
