/** The collector of `Linear`: rows of the input are `a`, rows of the output gradient are `g`; further axes share. */

import { concat, ones, type Tensor } from '@otimes/core';
import { type AnyModule, Linear, type Parameter } from '@otimes/nn';
import type { Canonical, KroneckerBlock, Sharing } from '../block.ts';
import type { Collector } from '../collector.ts';

/** Claims every Linear whose weight requires a gradient; `sharing` defaults to 'expand'. */
export const linearCollector: Collector = {
  name: 'linear',
  collect(module: AnyModule, path, { sharing = 'expand' }) {
    if (!(module instanceof Linear)) return null;
    return module.weight.requiresGrad ? [new LinearBlock(module, path, sharing)] : [];
  },
};

class LinearBlock implements KroneckerBlock {
  readonly collector = linearCollector.name;
  readonly path: string;
  readonly sharing: Sharing;
  readonly tap: Linear;
  readonly parameters: readonly Parameter[];
  readonly dOut: number;
  readonly dIn: number;
  readonly #weight: Parameter;
  /** Null where there is none, and where it is frozen: then the block has no homogeneous column. */
  readonly #bias: Parameter | null;

  constructor(module: Linear, path: string, sharing: Sharing) {
    this.tap = module;
    this.path = path;
    this.sharing = sharing;
    this.#weight = module.weight;
    this.#bias = module.bias?.requiresGrad ? module.bias : null;
    this.parameters = this.#bias === null ? [this.#weight] : [this.#weight, this.#bias];
    this.dOut = module.weight.shape[0]!;
    this.dIn = module.weight.shape[1]! + this.parameters.length - 1;
  }

  canonical(input: Tensor, gy: Tensor): Canonical {
    // [dIn] alone is a batch of one; [batch, dIn] shares nothing; the axes between batch and features share.
    const batch = input.rank === 1 ? 1 : input.shape[0]!;
    const shared = input.rank <= 2 ? 1 : input.size / (batch * input.shape.at(-1)!);
    const x = input.reshape([batch, shared, input.shape.at(-1)!]);
    const one = ones([batch, shared, 1], { dtype: x.dtype, device: x.device });
    return {
      a: this.#bias === null ? x : concat([x, one], 2),
      g: gy.reshape([batch, shared, this.dOut]),
    };
  }

  gradient(): Tensor | null {
    const weight = this.#weight.grad;
    if (weight === null) return null;
    const bias = this.#bias?.grad;
    return bias ? concat([weight, bias.unsqueeze(1)], 1) : weight;
  }

  add(update: Tensor, scale: number): void {
    const inputs = this.#weight.shape[1]!;
    this.#weight.addScaled_(update.narrow(1, 0, inputs), scale);
    this.#bias?.addScaled_(update.narrow(1, inputs, 1).squeeze(1), scale);
  }
}
