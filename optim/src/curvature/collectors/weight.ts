/** What all layers y = W a + b have in common, wherever a comes from: the matrix [dW | db] and the homogeneous 1. */

import { concat, ones, type Tensor } from '@otimes/core';
import { borrowGrad } from '@otimes/core/extend';
import type { AnyModule, Parameter } from '@otimes/nn';
import type { Canonical, LayerBlock, Sharing } from '../block.ts';
import { normOf, type Scalar } from '../scalar.ts';

/** A layer with a weight [rows, …], whose further axes in row-major order are those of a, and a bias [rows]. */
export type WeightLayer = AnyModule & { readonly weight: Parameter; readonly bias: Parameter | null };

export type WeightBlockOptions = {
  readonly collector: string;
  readonly path: string;
  readonly sharing: Sharing;
  /** The rows of weight and bias that are the block's, [first, end); default all. */
  readonly rows?: readonly [number, number];
  /** Where the module has several of them; default its fields `weight` and `bias`. */
  readonly weights?: Pick<WeightLayer, 'weight' | 'bias'>;
};

export abstract class WeightBlock<M extends AnyModule = WeightLayer> implements LayerBlock {
  readonly collector: string;
  readonly path: string;
  readonly sharing: Sharing;
  readonly tap: M;
  readonly parameters: readonly Parameter[];
  readonly dOut: number;
  readonly dIn: number;
  /** The first of the block's rows. */
  protected readonly first: number;
  readonly #weight: Parameter;
  /** Null where there is none, and where it is frozen: then the block has no homogeneous column. */
  readonly #bias: Parameter | null;

  /** A module without a weight of its own says which one in `weights`. */
  constructor(module: M, o: WeightBlockOptions) {
    const own: AnyModule = module;
    const { collector, path, sharing, weights = own as WeightLayer } = o;
    const { weight, bias } = weights;
    const rows = o.rows ?? [0, weight.shape[0]!];
    this.collector = collector;
    this.path = path;
    this.sharing = sharing;
    this.tap = module;
    this.#weight = weight;
    this.#bias = bias?.requiresGrad ? bias : null;
    this.parameters = this.#bias === null ? [this.#weight] : [this.#weight, this.#bias];
    this.first = rows[0];
    this.dOut = rows[1] - rows[0];
    this.dIn = this.#weight.size / this.#weight.shape[0]! + this.parameters.length - 1;
  }

  abstract canonical(input: Tensor, gy: Tensor): Canonical;

  /** Whether `a` has a homogeneous 1. */
  get hasBias(): boolean {
    return this.#bias !== null;
  }

  /** An input in the dtype of the weight: the layer converts integers and other floats itself. */
  protected typed(x: Tensor): Tensor {
    return x.astype(this.#weight.dtype);
  }

  /** x [batch, shared, inputs] as the block's `a`: with the homogeneous 1 last where the block includes a bias. */
  protected homogeneous(x: Tensor): Tensor {
    if (this.#bias === null) return x;
    return concat([x, ones([x.shape[0]!, x.shape[1]!, 1], { dtype: x.dtype, device: x.device })], 2);
  }

  gradient(): Tensor | null {
    const weight = borrowGrad(this.#weight);
    if (weight === null) return null;
    const dW = asMatrix(this.#rows(weight));
    const bias = this.#bias && borrowGrad(this.#bias);
    return bias ? concat([dW, this.#rows(bias).unsqueeze(1).astype(dW.dtype)], 1) : dW;
  }

  add(update: Tensor, scale: number): void {
    const weight = this.#rows(this.#weight);
    const inputs = weight.size / this.dOut;
    const dW = update.narrow(1, 0, inputs);
    weight.addScaled_(weight.rank === 2 ? dW : dW.reshape(weight.shape), scale);
    const bias = this.#bias;
    if (bias !== null) this.#rows(bias).addScaled_(update.narrow(1, inputs, 1).squeeze(1).astype(bias.dtype), scale);
  }

  norm(): Scalar {
    return normOf(this.parameters.map(p => this.#rows(p.detach())));
  }

  /** The block's rows of the weight or bias, or of its gradient; a view. */
  #rows(x: Tensor): Tensor {
    return this.dOut === x.shape[0] ? x : x.narrow(0, this.first, this.dOut);
  }
}

const asMatrix = (x: Tensor): Tensor => (x.rank === 2 ? x : x.flatten(1));
