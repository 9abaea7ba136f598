/** A block: one weight matrix whose Fisher block is approximated by A ⊗ G. What a collector hands over. */

import type { Tensor } from '@otimes/core';
import type { AnyModule, Module, Parameter } from '@otimes/nn';
import type { Scalar } from './scalar.ts';

/** How the positions that share a weight enter the factors (Eschenhagen et al. 2023, §3). */
export type Sharing = 'expand' | 'reduce';

/**
 * The canonical form of a layer's statistics, after which there are no cases: inputs a [batch, shared, dIn] with the
 * homogeneous 1 last where the layer has a bias, and output gradients g [batch, shared, dOut].
 */
export type Canonical = {
  readonly a: Tensor;
  readonly g: Tensor;
  /** Σ a aᵀ over examples and positions, [dIn, dIn], where that is to be had without making `a`; then `a` may be a getter. */
  readonly gramA?: (() => Tensor) | undefined;
};

/** A layer y = x Wᵀ + b of which the whole weight and bias are trained, so that it can be computed in another basis. */
export type AffineLayer = {
  readonly module: Module;
  /** [dOut, inputs] */
  readonly weight: Parameter;
  /** [dOut], or null where there is none. */
  readonly bias: Parameter | null;
};

export interface KroneckerBlock {
  /** Dotted path of the layer in the model, '' for the model itself. */
  readonly path: string;
  /** Name of the collector that made it. */
  readonly collector: string;
  readonly sharing: Sharing;
  /** The module whose input and output gradient are collected. */
  readonly tap: AnyModule;
  /** What the block updates. */
  readonly parameters: readonly Parameter[];
  /** Rows of the gradient matrix, and the size of G. */
  readonly dOut: number;
  /** Columns of the gradient matrix, the homogeneous one included, and the size of A. */
  readonly dIn: number;

  /** Set by blocks that are such a layer: only they can leave the path of projected gradients. */
  readonly layer?: AffineLayer | undefined;

  /** The tap's input and output gradient in canonical form. Scales nothing. */
  canonical(input: Tensor, gy: Tensor): Canonical;
  /** The gradient as a matrix [dOut, dIn], or null if backward has left none. */
  gradient(): Tensor | null;
  /** Parameters ← parameters + scale · update, for an update [dOut, dIn]. */
  add(update: Tensor, scale: number): void;
  /**
   * ‖[W b]‖ of what `add` changes: a number, or a tensor of one element on a device that is read with await. Default: that of
   * all `parameters`.
   */
  norm?(): Scalar;
}
