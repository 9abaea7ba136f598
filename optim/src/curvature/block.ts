/** Blocks: weight matrices whose curvature is approximated by A ⊗ G, one block each. */

import type { Handle, Tensor, Window } from '@otimes/core';
import type { AnyModule, Module, Parameter } from '@otimes/nn';
import type { Scalar } from './scalar.ts';
import type { Side } from './side.ts';

/** A weight matrix of a model, its gradient, and how it is changed. */
export interface MatrixBlock {
  /** Dotted path of the layer in the model, '' for the model itself. */
  readonly path: string;
  /** What the block updates. */
  readonly parameters: readonly Parameter[];
  /** Rows of the gradient matrix, and the size of G. */
  readonly dOut: number;
  /** Columns of the gradient matrix, the homogeneous one included, and the size of A. */
  readonly dIn: number;

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

/** How the positions that share a weight enter the factors (Eschenhagen et al. 2023, §3). */
export type Sharing = 'expand' | 'reduce';

/** What inputs [batch, shared, dIn] are made of. */
export type Inputs = {
  /** [batch, …] */
  readonly x: Tensor;
  readonly unfold: (x: Tensor) => Tensor;
  /** Whether x, int32 [batch, shared], has the places of ones in vectors that are 0 elsewhere, and dIn for no one. Default false. */
  readonly areIndices?: boolean | undefined;
};

/**
 * The canonical form of a layer's statistics, after which there are no cases: inputs a [batch, shared, dIn] with the
 * homogeneous 1 last where the layer has a bias, and output gradients g [batch, shared, dOut]. Axis 0 is the batch.
 */
export type Canonical = {
  readonly a: Tensor;
  readonly g: Tensor;
  /**
   * What all positions of all examples add to the factor A as its side packs it, `side.gram(a)`, where it can be computed without
   * making `a`; then `a` may be a getter. Of an exact side that is Σ a aᵀ, [dIn, dIn].
   */
  readonly gramA?: ((side: Side) => Tensor) | undefined;
  /**
   * What `a` is made of by `unfold`, x [batch, …], where that is smaller: kept in the place of `a` for second moments of examples.
   * `unfold` takes some of the examples too.
   */
  readonly inputs?: Inputs | undefined;
  /**
   * How many of the positions of all examples count, where some are padding, at which a and g are 0: a number, or a scalar where it stands in
   * values of the device. Default: all.
   */
  readonly rows?: number | Tensor | undefined;
};

/** A layer y = x Wᵀ + b of which the whole weight and bias are trained, so that it can be computed in another basis. */
export type AffineLayer = {
  readonly module: Module;
  /** [dOut, inputs] */
  readonly weight: Parameter;
  /** [dOut], or null where there is none. */
  readonly bias: Parameter | null;
  readonly window?: undefined;
};

/** A convolution y = x ∗ W + b in one group, of which the whole weight and bias are trained. */
export type ConvolutionLayer = {
  readonly module: Module;
  /** [dOut, channels, rows, columns] */
  readonly weight: Parameter;
  /** [dOut], or null where there is none. */
  readonly bias: Parameter | null;
  readonly window: Window;
};

/** A layer that can be computed in another basis. */
export type TurnableLayer = AffineLayer | ConvolutionLayer;

/** A module that multiplies by the matrix of a block. */
export interface BlockUse {
  /** The module whose input and output gradient are collected. */
  readonly tap: AnyModule;
  /** Whether the tap's input is of indices, one a position, and not of vectors. Default false. */
  readonly takesIndices?: boolean | undefined;

  /** The tap's input and output gradient in canonical form. Scales nothing. */
  canonical(input: Tensor, gy: Tensor): Canonical;
}

/** The weight matrix of a layer whose inputs and output gradients are collected. What a collector hands over. */
export interface LayerBlock extends MatrixBlock, BlockUse {
  /** Name of the collector that made it. */
  readonly collector: string;
  readonly sharing: Sharing;
  /** How many taps each channel of `a` has, whose coordinates follow each other: of a convolution's kernel. Default 1. */
  readonly taps?: number | undefined;
  /** Whether the last coordinate of `a` is the homogeneous 1. Default false. */
  readonly hasBias?: boolean | undefined;
  /**
   * Other modules with the same matrix, which use it in another way: with inputs of another size and meaning, so that their second moments are
   * those of a product of their own. D is the sum over all uses, of which none may be missing.
   */
  readonly further?: readonly BlockUse[] | undefined;

  /** The side whose vectors are one-hot or 0: its factor is diagonal, whatever structure is asked for. */
  readonly oneHot?: 'A' | 'G' | undefined;
  /** Whether the tap's input is of indices, one a position, and not of vectors. Default false. */
  readonly takesIndices?: boolean | undefined;

  /** Set by blocks that are such a layer: only they can leave the path of projected gradients. */
  readonly layer?: TurnableLayer | undefined;

  /**
   * In the place of a hook on the tap, for a weight whose products are neither its input nor its output: calls `see` in each forward pass
   * for each use of the weight.
   */
  listen?(see: See): Handle;
}

/**
 * Takes a use of a weight: a tensor whose first axis is the batch, the tensor whose gradient is wanted, and the canonical form of what that
 * is. The tensors are dropped once backward has passed them.
 */
export type See = (input: Tensor, output: Tensor, canonical: (gy: Tensor) => Canonical) => void;

/** An older name of `LayerBlock`. */
export type KroneckerBlock = LayerBlock;
