/**
 * The collector of `Embedding`: y = Wᵀ e with one-hot vectors e, of which the layer has the indices alone. A of one-hot vectors is diagonal, with
 * how often each index comes; so the side of the table's rows is a vector, which nothing decomposes or turns.
 */

import { type Tensor, where } from '@otimes/core';
import { borrowGrad } from '@otimes/core/extend';
import type { Embedding } from '@otimes/nn';
import type { LayerBlock } from '../block.ts';
import type { Collector } from '../collector.ts';
import { indexGram, indexRows } from '../one-hot.ts';
import { computesAs } from './claim.ts';
import { linearRows } from './linear.ts';

/**
 * Claims every Embedding whose weight requires a gradient. Its positions are shared by 'expand' whatever is asked for: a mean of one-hot vectors
 * is none. A class that extends Embedding and has a
 * `forward` of its own is not claimed.
 */
export const embeddingCollector: Collector = {
  name: 'embedding',
  collect(module, path) {
    if (!computesAs(module, 'Embedding')) return null;
    return module.weight.requiresGrad ? [blockOf(module, path)] : [];
  },
};

/** Of the gradient [dim, count], the transposed one of the table. */
function blockOf(tap: Embedding, path: string): LayerBlock {
  const { weight } = tap;
  const [dIn, dOut] = weight.shape as [number, number];
  return {
    collector: 'embedding',
    path,
    sharing: 'expand',
    tap,
    parameters: [weight],
    dOut,
    dIn,
    oneHot: 'A',
    takesIndices: true,
    canonical(input, gy) {
      const { at, g, real, rows } = lookup(tap, input, gy);
      return {
        get a() {
          return rows(at);
        },
        inputs: { x: at, unfold: rows, areIndices: true },
        gramA: () => indexGram(at, dIn, g.dtype),
        rows: real,
        g,
      };
    },
    gradient: () => borrowGrad(weight)?.transpose() ?? null,
    add: (update, scale) => void weight.addScaled_(update.transpose(), scale),
  };
}

/** What a lookup of indices comes to, as one-hot vectors: `at`, int32 [batch, shared], and g [batch, shared, dim]. */
export type Lookup = {
  /** `count` where there is padding, which stands for no row, and no gradient comes there. */
  readonly at: Tensor;
  readonly g: Tensor;
  /** How many positions are no padding, where some may be. */
  readonly real: Tensor | undefined;
  readonly rows: (at: Tensor) => Tensor;
};

export function lookup(module: Embedding, input: Tensor, gy: Tensor): Lookup {
  const { dtype, shape } = module.weight;
  const [count] = shape as [number];
  const { a, g } = linearRows(input.unsqueeze(-1), gy.astype(dtype));
  const at = a.squeeze(2);
  const rows = (x: Tensor) => indexRows(x, count, dtype);
  const padding = paddingOf(module);
  if (padding === null) return { at, g, real: undefined, rows };
  const isRow = at.ne(padding);
  const real = isRow.astype(dtype);
  return { at: where(isRow, at, count).astype('int32'), g: g.mul(real.unsqueeze(2)), real: real.sum(), rows };
}

/** The index of the row that is not trained, of an Embedding that has one. */
const paddingOf = (module: Embedding & { readonly paddingIdx?: number | null }): number | null =>
  module.paddingIdx ?? null;
