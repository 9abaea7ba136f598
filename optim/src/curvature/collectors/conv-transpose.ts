/**
 * The collector of `ConvTranspose1d` and `ConvTranspose2d`: KFC (Grosse & Martens 2016) for the transpose of a convolution. Each pixel x_t
 * of the input is spread over a patch of the output, of which W [cOut·taps, cIn] x_t is what it adds there. So the pixel is `a`,
 * the patch of the output's gradient is `g`, and the pixels share: dW = Σ_t g_t x_tᵀ.
 */

import type { Tensor } from '@otimes/core';
import { borrowGrad } from '@otimes/core/extend';
import type { AnyModule, Parameter } from '@otimes/nn';
import type { Canonical, LayerBlock, Sharing } from '../block.ts';
import type { Collector } from '../collector.ts';
import { normOf, type Scalar } from '../scalar.ts';
import { computesAs } from './claim.ts';

/**
 * Claims every ConvTranspose1d and ConvTranspose2d whose weight requires a gradient; `sharing` defaults to 'expand'. Each group is a block
 * of its own, as of `Conv2d`. The bias is added once to a pixel of the output, however many patches that is in: it is no part of W x_t, and
 * `rest` trains it.
 */
export const convTransposeCollector: Collector = {
  name: 'convTranspose',
  collect(module, path, { sharing = 'expand' }) {
    if (!computesAs(module, 'ConvTranspose1d') && !computesAs(module, 'ConvTranspose2d')) return null;
    const { weight, groups } = module;
    if (!weight.requiresGrad) return [];
    return Array.from({ length: groups }, (_, group) => {
      const own = [...(path === '' ? [] : [path]), ...(groups === 1 ? [] : [`groups.${group}`])].join('.');
      return new TransposedBlock(module, { path: own, sharing, group });
    });
  },
};

/** What the block takes of the layer. */
type Tap = AnyModule & {
  /** [cIn, cOut/groups, …taps] */
  readonly weight: Parameter;
  readonly groups: number;
  /** The patches of y that the pixels of inputs [N, C, …sizes] are spread over: [N, pixels, channels·taps]. */
  unfold(y: Tensor, sizes: readonly number[]): Tensor;
};

class TransposedBlock implements LayerBlock {
  readonly collector = 'convTranspose';
  readonly path: string;
  readonly sharing: Sharing;
  readonly tap: Tap;
  readonly parameters: readonly Parameter[];
  readonly dOut: number;
  readonly dIn: number;
  readonly #group: number;
  readonly #weight: Parameter;

  constructor(tap: Tap, { path, sharing, group }: { path: string; sharing: Sharing; group: number }) {
    this.path = path;
    this.sharing = sharing;
    this.tap = tap;
    this.parameters = [tap.weight];
    this.dIn = tap.weight.shape[0]! / tap.groups;
    this.dOut = tap.weight.size / tap.weight.shape[0]!;
    this.#group = group;
    this.#weight = tap.weight;
  }

  canonical(input: Tensor, gy: Tensor): Canonical {
    const outputs = this.#weight.shape[1]!;
    const x = input.astype(this.#weight.dtype).narrow(1, this.#group * this.dIn, this.dIn);
    const own = gy.narrow(1, this.#group * outputs, outputs);
    return { a: x.flatten(2).transpose(1, 2), g: this.tap.unfold(own, input.shape.slice(2)) };
  }

  gradient(): Tensor | null {
    const weight = borrowGrad(this.#weight);
    return weight === null ? null : this.#rows(weight).flatten(1).transpose();
  }

  add(update: Tensor, scale: number): void {
    const own = this.#rows(this.#weight);
    own.addScaled_(update.transpose().reshape(own.shape), scale);
  }

  norm(): Scalar {
    return normOf([this.#rows(this.#weight.detach())]);
  }

  /** The input channels of the group, of the weight or its gradient; a view. */
  #rows(x: Tensor): Tensor {
    return this.tap.groups === 1 ? x : x.narrow(0, this.#group * this.dIn, this.dIn);
  }
}
