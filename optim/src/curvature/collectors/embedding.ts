/**
 * The collector of `Embedding`: y = Wᵀ e with one-hot vectors e, of which the layer has the indices alone. A of one-hot vectors is diagonal, with
 * how often each index comes; so the side of the table's rows is a vector, which nothing decomposes or turns.
 */

import { type Tensor, where } from '@otimes/core';
import { borrowGrad } from '@otimes/core/extend';
import type { Embedding, Parameter } from '@otimes/nn';
import type { Canonical, LayerBlock, Sharing } from '../block.ts';
import type { Collector } from '../collector.ts';
import { indexGram, indexRows } from '../one-hot.ts';
import type { Side } from '../side.ts';
import { computesAs } from './claim.ts';

/**
 * Claims every Embedding whose weight requires a gradient; `sharing` defaults to 'expand'. A class that extends Embedding and has a
 * `forward` of its own is not claimed.
 */
export const embeddingCollector: Collector = {
  name: 'embedding',
  collect(module, path, { sharing = 'expand' }) {
    if (!computesAs(module, 'Embedding')) return null;
    return module.weight.requiresGrad ? [new EmbeddingBlock(module, path, sharing)] : [];
  },
};

/** Of the gradient [dim, count], the transposed one of the table. */
class EmbeddingBlock implements LayerBlock {
  readonly collector = 'embedding';
  readonly oneHot = 'A';
  readonly inputAxes = 0;
  readonly path: string;
  readonly sharing: Sharing;
  readonly tap: Embedding;
  readonly parameters: readonly Parameter[];
  readonly dOut: number;
  readonly dIn: number;

  constructor(module: Embedding, path: string, sharing: Sharing) {
    this.path = path;
    this.sharing = sharing;
    this.tap = module;
    this.parameters = [module.weight];
    [this.dIn, this.dOut] = module.weight.shape as [number, number];
  }

  canonical(input: Tensor, gy: Tensor): Canonical {
    const { dIn: count, dOut: dim, tap } = this;
    const { dtype } = tap.weight;
    const batch = input.rank === 0 ? 1 : input.shape[0]!;
    const shared = input.shape.slice(1).reduce((product, n) => product * n, 1);
    const { at, g, share } = withoutPadding(
      input.reshape([batch, shared]),
      gy.reshape([batch, shared, dim]).astype(dtype),
      count,
      paddingOf(tap),
    );
    const rows = (x: Tensor) => indexRows(x, count, dtype);
    return {
      get a() {
        return rows(at);
      },
      inputs: { x: at, unfold: rows, areIndices: true },
      gramA: side => gram(side, at, g, share),
      g,
    };
  }

  gradient(): Tensor | null {
    return borrowGrad(this.tap.weight)?.transpose() ?? null;
  }

  add(update: Tensor, scale: number): void {
    this.tap.weight.addScaled_(update.transpose(), scale);
  }
}

/** The index of the row that is not trained, of an Embedding that has one. */
const paddingOf = (module: Embedding & { readonly paddingIdx?: number | null }): number | null =>
  module.paddingIdx ?? null;

/**
 * Indices where padding is `count`, which stands for no row, and no gradient there; and what A, a mean over all positions, is to be multiplied by to
 * be one over the others.
 */
function withoutPadding(at: Tensor, g: Tensor, count: number, padding: number | null) {
  if (padding === null) return { at, g, share: null };
  const isRow = at.ne(padding);
  const real = isRow.astype(g.dtype);
  return {
    at: where(isRow, at, count).astype('int32'),
    g: g.mul(real.unsqueeze(2)),
    share: real.sum().maximum(1).reciprocal().mul(at.size),
  };
}

/** `side.gram` of one-hot vectors, without making them unless the side wants a matrix. */
function gram(side: Side, at: Tensor, { dtype }: Tensor, share: Tensor | null): Tensor {
  const counts = indexGram(at, side.n, dtype);
  const all = side.turns ? side.gram(indexRows(at, side.n, dtype)) : side.isIdentity ? counts.mean() : counts;
  return share === null ? all : all.mul(share);
}
