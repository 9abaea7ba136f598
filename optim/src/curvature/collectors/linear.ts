/** The collector of `Linear`: rows of the input are `a`, rows of the output gradient are `g`; further axes share. */

import type { Tensor } from '@otimes/core';
import { Linear } from '@otimes/nn';
import type { AffineLayer, Canonical } from '../block.ts';
import type { Collector } from '../collector.ts';
import { computesAs } from './claim.ts';
import { WeightBlock, type WeightBlockOptions } from './weight.ts';

/**
 * Claims every Linear whose weight requires a gradient; `sharing` defaults to 'expand'. A class that extends Linear and has a `forward`
 * of its own is not claimed.
 */
export const linearCollector: Collector = {
  name: 'linear',
  collect(module, path, { sharing = 'expand' }) {
    if (!computesAs(module, 'Linear')) return null;
    return linearBlocks(module, { collector: 'linear', path, sharing });
  },
};

/** The block of a Linear, none if its weight is frozen. */
export function linearBlocks(module: Linear, o: WeightBlockOptions): LinearBlock[] {
  return module.weight.requiresGrad ? [new LinearBlock(module, o)] : [];
}

class LinearBlock extends WeightBlock<Linear> {
  readonly layer: AffineLayer | undefined;

  constructor(module: Linear, o: WeightBlockOptions) {
    super(module, o);
    const { weight, bias } = module;
    // Another copy of the package may compute in another way, a frozen bias is no part of the block, and one frame has one dtype.
    const fits = bias === null || (bias.requiresGrad && bias.dtype === weight.dtype);
    const plain = module.forward === Linear.prototype.forward && fits;
    this.layer = plain ? { module, weight, bias } : undefined;
  }

  override canonical(input: Tensor, gy: Tensor): Canonical {
    const { a, g } = linearRows(this.typed(input), gy);
    return { a: this.homogeneous(a), g };
  }
}

/** [dIn] alone is a batch of one; [batch, dIn] shares nothing; the axes between batch and features share. */
export function linearRows(input: Tensor, gy: Tensor): { readonly a: Tensor; readonly g: Tensor } {
  const batch = input.rank === 1 ? 1 : input.shape[0]!;
  const shared = input.shape.slice(1, -1).reduce((product, n) => product * n, 1);
  const rows = (x: Tensor) => x.reshape([batch, shared, x.shape.at(-1)!]);
  return { a: rows(input), g: rows(gy) };
}
