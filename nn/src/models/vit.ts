/** The vision transformer (Dosovitskiy et al. 2021), as timm computes it. `fromTimm` takes states of timm's. */

import { concat, describe, type Pair, pairOf, ShapeError, type StateDict, Tensor, zeros } from '@otimes/core';
import { aBoolean, aNumber, anEps, checkArgument, isPlainObject, oneOf } from '@otimes/core/extend';
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
import { Identity } from '../containers/shapes.ts';
import { Conv2d } from '../convolution/conv2d.ts';
import { normal } from '../init.ts';
import { Linear } from '../linear.ts';
import { Module } from '../module.ts';
import { LayerNorm } from '../normalization/layer.ts';
import { Parameter } from '../parameter.ts';
import { checkModelOptions } from './options.ts';
import { recomputed } from './recomputed.ts';

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
  /** Added to the variances of all norms; default 1e-6, as in timm. */
  layerNormEps?: number;
  /** What the head sees: the class token (default), or the mean of the patches' tokens, timm's `global_pool='avg'`. */
  pool?: 'token' | 'mean';
  /**
   * Whether there is a class token. Default: where the head sees it. timm keeps one that no head sees with `global_pool='avg'`, unless
   * `class_token=False` says otherwise: true here takes its weights.
   */
  classToken?: boolean;
  /** Whether the last norm follows the pooling, as `fcNorm`, and not the blocks, as `norm`; default: with `pool: 'mean'`, as in timm. */
  fcNorm?: boolean;
  /**
   * Whether backward computes each block again instead of keeping what lies inside of it: less memory, a second forward pass, the same
   * gradients, also after `eval()` or `train()`. See `checkpoint` of `@otimes/core`. KFAC, EKFAC and STEVE refuse it where they draw labels (`fisher: 'sampled'`). Default false.
   */
  checkpoint?: boolean;
};

const SIZES = ['imageSize', 'patch', 'dim', 'depth', 'heads', 'classes', 'channels'] as const;
const OPTIONS = {
  mlpRatio: aNumber,
  dropout: aProbability,
  layerNormEps: anEps,
  pool: oneOf('token', 'mean'),
  classToken: aBoolean,
  fcNorm: aBoolean,
  checkpoint: aBoolean,
  ...PLACEMENT,
};

/** A block that backward computes again. */
class RecomputedBlock extends TransformerBlock {
  override forward(x: Tensor): Tensor {
    return recomputed([this], y => super.forward(y), x);
  }
}

/**
 * Images [N, channels, H, W] → logits [N, classes]: a token for each patch, one more for the class, learned positions,
 * pre-norm blocks, a norm, and a linear head on the class token or the mean of the others. Positions start normal with standard
 * deviation 0.02.
 */
export class VisionTransformer extends Module {
  static readonly builtIn: string = 'VisionTransformer';
  static override readonly tensors: readonly string[] = ['classToken', 'position'];
  readonly embed: Conv2d;
  /** [1, 1, dim] */
  classToken: Parameter | null;
  /** [1, tokens, dim], the class token first if there is one, then the patches row-major */
  position: Parameter;
  readonly blocks: Sequential;
  /** After the blocks, of all tokens. */
  readonly norm: LayerNorm | Identity;
  /** Of what is pooled. */
  readonly fcNorm: LayerNorm | Identity;
  readonly head: Linear;
  readonly imageSize: Pair;
  readonly pool: 'token' | 'mean';

  constructor(o: VitOptions) {
    super();
    checkModelOptions('vit', o, SIZES, OPTIONS);
    const { imageSize, patch: side, dim, depth, heads, classes, channels = 3, ...rest } = o;
    checkPositive('vit', { dim, depth, heads, classes, channels });
    this.imageSize = pairOf('vit', 'imageSize', imageSize, 1);
    const patch = pairOf('vit', 'patch', side, 1);
    const [rows, columns] = [this.imageSize[0] / patch[0], this.imageSize[1] / patch[1]];
    if (!Number.isInteger(rows) || !Number.isInteger(columns))
      throw new RangeError(
        `vit: expected imageSize to be a multiple of patch, got ${this.imageSize.join('×')} and ${patch.join('×')}`,
      );
    const { pool = 'token', classToken = pool === 'token', fcNorm = pool === 'mean', layerNormEps = 1e-6 } = rest;
    if (pool === 'token' && !classToken) throw new TypeError("vit: expected a class token for pool 'token', got false");
    this.pool = pool;
    const at = placed(o);
    const { mlpRatio = 4, dropout = 0, checkpoint: isRecomputed = false } = rest;
    const Block = isRecomputed ? RecomputedBlock : TransformerBlock;
    const block = () => new Block(dim, heads, { mlpRatio, dropout, layerNormEps, ...at });
    const norm = () => new LayerNorm(dim, { eps: layerNormEps, ...at });
    const tokens = Number(classToken) + rows * columns;
    this.embed = new Conv2d(channels, dim, patch, { ...at, stride: patch });
    this.classToken = classToken ? new Parameter(zeros([1, 1, dim], withoutRng(at))) : null;
    this.position = new Parameter(normal([1, tokens, dim], 0.02, at));
    this.blocks = new Sequential(...Array.from({ length: depth }, block));
    this.norm = fcNorm ? new Identity() : norm();
    this.fcNorm = fcNorm ? norm() : new Identity();
    this.head = new Linear(dim, classes, at);
  }

  override forward(x: Tensor): Tensor {
    const { imageSize, embed } = this;
    const shape = [embed.weight.shape[1], ...imageSize];
    if (x.rank !== 4 || x.shape.slice(1).join() !== shape.join())
      throw new ShapeError(`vit: expected an input [N, ${shape.join(', ')}], got ${describe(x)}`);
    return insides(this, () => this.#forward(x));
  }

  /** As that of `Module`. Positions of another image size are an error that says so: `resizePositions` makes them fit. */
  override loadStateDict(state: StateDict, o: { strict?: boolean } = {}): void {
    if (isPlainObject(state) && !('position' in state) && 'pos_embed' in state)
      throw new TypeError(
        "vit: nothing was loaded, since these are timm's names; write loadStateDict(fromTimm(state))",
      );
    const value: unknown = isPlainObject(state) ? state.position : undefined;
    if (value instanceof Tensor) {
      const [own, theirs] = [this.position.shape, value.shape];
      if (theirs.length === 3 && theirs[1] !== own[1] && theirs[2] === own[2])
        throw new ShapeError(
          `vit: nothing was loaded, since position expects ${own[1]} tokens of images of ${this.imageSize.join('×')} pixels, got ` +
            `${theirs[1]}; resizePositions makes positions of another image size fit`,
        );
    }
    super.loadStateDict(state, o);
  }

  #forward(x: Tensor): Tensor {
    const { embed, classToken } = this;
    const patches = embed.call(x).flatten(2).transpose(1, 2);
    const all = classToken === null ? patches : concat([classToken.expand([x.shape[0]!, 1, -1]), patches], 1);
    const y = this.norm.call(this.blocks.call(all.add(this.position)));
    const seen = this.pool === 'token' ? y.slice(null, 0) : this.#patchesOf(y).mean(1);
    return this.head.call(this.fcNorm.call(seen));
  }

  #patchesOf(tokens: Tensor): Tensor {
    return this.classToken === null ? tokens : tokens.slice(null, [1]);
  }
}

export function vit(o: VitOptions): VisionTransformer {
  return new VisionTransformer(o);
}

/**
 * ViT-S/16: images of 224 pixels, patches of 16, 384 features, 12 blocks of 6 heads, 22.1 million parameters with 1000 classes. Each
 * can be another.
 */
export function vitS16(
  o: Omit<VitOptions, 'imageSize' | 'patch' | 'dim' | 'depth' | 'heads'> & Partial<VitOptions>,
): VisionTransformer {
  checkArgument('vitS16', 'options', o, requiredOptions);
  return new VisionTransformer({ imageSize: 224, patch: 16, dim: 384, depth: 12, heads: 6, ...o });
}
