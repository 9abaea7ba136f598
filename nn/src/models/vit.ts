/** The vision transformer (Dosovitskiy et al. 2021). */

import { concat, describe, type Pair, pairOf, ShapeError, type Tensor, zeros } from '@otimes/core';
import { aNumber, checkArgument, checkOptions } from '@otimes/core/extend';
import { TransformerBlock } from '../attention/transformer-block.ts';
import { insides } from '../calls.ts';
import {
  aProbability,
  checkPositive,
  PLACEMENT,
  type Placement,
  placed,
  requiredOptions,
  withoutRng,
} from '../check.ts';
import { Sequential } from '../containers/sequential.ts';
import { Conv2d } from '../convolution/conv2d.ts';
import { normal } from '../init.ts';
import { Linear } from '../linear.ts';
import { Module } from '../module.ts';
import { LayerNorm } from '../normalization/layer.ts';
import { Parameter } from '../parameter.ts';

export type VitOptions = Placement & {
  /** Pixels, a number or [rows, columns]; a multiple of `patch`. */
  imageSize: number | Pair;
  /** Side of a patch in pixels, a number or [rows, columns]. */
  patch: number | Pair;
  /** Features of a token. */
  dim: number;
  /** Number of transformer blocks. */
  depth: number;
  heads: number;
  classes: number;
  /** Of the images; default 3. */
  channels?: number;
  /** Hidden features of a block as a multiple of `dim`; default 4. */
  mlpRatio?: number;
  /** Probability in the blocks; default 0. */
  dropout?: number;
};

/**
 * Images [N, channels, H, W] → logits [N, classes]: a token for each patch, one more for the class, learned positions,
 * pre-norm blocks, and a linear head on the class token. Positions start normal with standard deviation 0.02.
 */
export class VisionTransformer extends Module {
  static readonly builtIn: string = 'VisionTransformer';
  static override readonly tensors: readonly string[] = ['classToken', 'position'];
  readonly embed: Conv2d;
  /** [1, 1, dim] */
  classToken: Parameter;
  /** [1, 1 + patches, dim], the class token first, then the patches row-major */
  position: Parameter;
  readonly blocks: Sequential;
  readonly norm: LayerNorm;
  readonly head: Linear;
  readonly imageSize: Pair;

  constructor(o: VitOptions) {
    super();
    checkArgument('vit', 'options', o, requiredOptions);
    const { imageSize, patch: side, dim, depth, heads, classes, channels = 3, ...rest } = o;
    checkOptions('vit', rest, { mlpRatio: aNumber, dropout: aProbability, ...PLACEMENT });
    checkPositive('vit', { dim, depth, heads, classes, channels });
    this.imageSize = pairOf('vit', 'imageSize', imageSize, 1);
    const patch = pairOf('vit', 'patch', side, 1);
    const [rows, columns] = [this.imageSize[0] / patch[0], this.imageSize[1] / patch[1]];
    if (!Number.isInteger(rows) || !Number.isInteger(columns))
      throw new RangeError(
        `vit: expected imageSize to be a multiple of patch, got ${this.imageSize.join('×')} and ${patch.join('×')}`,
      );
    const at = placed(o);
    this.embed = new Conv2d(channels, dim, patch, { ...at, stride: patch });
    this.classToken = new Parameter(zeros([1, 1, dim], withoutRng(at)));
    this.position = new Parameter(normal([1, 1 + rows * columns, dim], 0.02, at));
    this.blocks = new Sequential(...Array.from({ length: depth }, () => new TransformerBlock(dim, heads, rest)));
    this.norm = new LayerNorm(dim, at);
    this.head = new Linear(dim, classes, at);
  }

  override forward(x: Tensor): Tensor {
    const { imageSize, embed } = this;
    const shape = [embed.weight.shape[1], ...imageSize];
    if (x.rank !== 4 || x.shape.slice(1).join() !== shape.join())
      throw new ShapeError(`vit: expected an input [N, ${shape.join(', ')}], got ${describe(x)}`);
    return insides(this, () => this.#forward(x));
  }

  #forward(x: Tensor): Tensor {
    const { embed, classToken } = this;
    const patches = embed.call(x).flatten(2).transpose(1, 2);
    const tokens = concat([classToken.expand([x.shape[0]!, 1, -1]), patches], 1).add(this.position);
    const y = this.norm.call(this.blocks.call(tokens));
    return this.head.call(y.slice(null, 0));
  }
}

export function vit(o: VitOptions): VisionTransformer {
  return new VisionTransformer(o);
}

/** ViT-S/16: 384 features, 12 blocks of 6 heads, patches of 16 pixels; imageSize defaults to 224. */
export function vitS16(
  o: Omit<VitOptions, 'imageSize' | 'patch' | 'dim' | 'depth' | 'heads'> & { imageSize?: number | Pair },
): VisionTransformer {
  checkArgument('vitS16', 'options', o, requiredOptions);
  return new VisionTransformer({ imageSize: 224, ...o, patch: 16, dim: 384, depth: 12, heads: 6 });
}
