/** Attention of several heads (Vaswani et al. 2017). */

import { attention, describe, ShapeError, Tensor, where, zeros } from '@otimes/core';
import {
  aBoolean,
  aCount,
  aTensor,
  checkArgument,
  checkOptions,
  isPlainObject,
  type Kind,
  received,
} from '@otimes/core/extend';
import { insides, keepAll } from '../calls.ts';
import { aProbability, checkPositive, PLACEMENT, type Placement, placed, withoutRng } from '../check.ts';
import type { Dropout } from '../dropout.ts';
import { uniform } from '../init.ts';
import { Linear } from '../linear.ts';
import { Module } from '../module.ts';
import { Parameter } from '../parameter.ts';
import { AttentionDropout, isIdle } from './attention-dropout.ts';
import { ATTEND, type AttendOptions, type Extent, type Masks, masksOf, plainMask } from './masks.ts';
import { ROTARY, type RotaryOptions, rotaryEmbedding } from './rotary.ts';

export type AttentionOptions = Placement & {
  /** Of the four linear layers; default true. */
  bias?: boolean;
  /** Probability of dropping an attention weight in training; default 0. */
  dropout?: number;
  /** Features of the keys' input; default dModel. */
  kdim?: number;
  /** Features of the values' input; default dModel. */
  vdim?: number;
  /** Whether queries and keys are turned by their positions (see `rotaryEmbedding`), and how; default false. */
  rotary?: boolean | RotaryOptions;
};

/** Asks a call for the attention weights beside the output. */
export type NeedWeights = AttendOptions & {
  needWeights: true;
  /** Their mean over the heads (default), or those of each head. */
  averageAttnWeights?: boolean;
};

/** (x), (x, options), (x, mask), or (query, key, value, options). */
export type AttentionInputs = [query: Tensor, key?: Second, value?: Tensor | undefined, o?: AttendOptions | undefined];

type Second = Tensor | AttendOptions | undefined;

const aRotary: Kind = {
  expected: 'true, false or options such as { base, interleaved }',
  is: v => typeof v === 'boolean' || isPlainObject(v),
};
const OPTIONS = { bias: aBoolean, dropout: aProbability, kdim: aCount, vdim: aCount, rotary: aRotary, ...PLACEMENT };
const CALL = { ...ATTEND, needWeights: aBoolean, averageAttnWeights: aBoolean };

/**
 * Queries attend to keys and get a mean of values: softmax(q kᵀ / √dHead) v in each head, then the linear map `o`. Head h has the
 * features h·dHead … (h+1)·dHead−1 of q, k and v, as in PyTorch. The batch comes first:
 *
 * ```ts
 * // fragment
 * attention.call(x);                                   // x [B, T, dModel] to itself
 * attention.call(x, { causal: true });
 * attention.call(query, key, value);                   // [B, T, dModel], [B, S, kdim], [B, S, vdim] → [B, T, dModel]
 * attention.call(query, key, value, { keyPaddingMask });
 * const [y, weights] = attention.call(x, { needWeights: true }); // [B, T, dModel], [B, T, S]
 * ```
 *
 * In masks `true` means MAY attend, where PyTorch's `MultiheadAttention` has true for what may not: `mask.logicalNot()` of
 * such a mask is right here. See `AttendOptions`. `attention.call(x, mask)` with a bool mask [T, T] or [B, T, T] is
 * `{ attnMask: mask }`. A query that may attend to nothing gets NaN.
 *
 * Weights of q, k and v start as those of `torch.nn.MultiheadAttention` do (uniform in ±√(6 / (rows + columns)) of its
 * packed matrix) and biases at 0. States of it are loaded through `fromPyTorch`.
 */
export class MultiHeadAttention extends Module<AttentionInputs> {
  static readonly builtIn: string = 'MultiHeadAttention';
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly o: Linear;
  readonly dropout: Dropout;
  readonly heads: number;
  /** dModel, kdim, vdim */
  readonly #features: readonly [number, number, number];
  readonly #rotary: RotaryOptions | null;
  /** The weights of the call that is running, if it wants them. */
  #weights: Tensor | null = null;
  #wantsWeights = false;

  constructor(dModel: number, heads: number, o: AttentionOptions = {}) {
    super();
    checkOptions('MultiHeadAttention', o, OPTIONS);
    checkPositive('MultiHeadAttention', { dModel, heads });
    if (dModel % heads !== 0)
      throw new RangeError(`MultiHeadAttention: expected heads to divide dModel, got ${heads} for ${dModel}`);
    const { kdim = dModel, vdim = dModel, bias = true, rotary = false } = o;
    if (typeof rotary === 'object') checkOptions('MultiHeadAttention', rotary, ROTARY);
    if (rotary !== false && (dModel / heads) % 2 !== 0)
      throw new RangeError(
        `MultiHeadAttention: expected an even number of features a head for rotary positions, got ${dModel / heads}`,
      );
    this.#rotary = rotary === true ? {} : rotary === false ? null : rotary;
    this.heads = heads;
    this.#features = [dModel, kdim, vdim];
    const packed = kdim === dModel && vdim === dModel;
    const at = placed(o);
    const projection = (dIn: number) => {
      const layer = new Linear(dIn, dModel, { bias, ...at });
      const bound = Math.sqrt(6 / (dIn + (packed ? 3 : 1) * dModel));
      layer.weight = new Parameter(uniform([dModel, dIn], -bound, bound, at));
      return withoutBias(layer, at);
    };
    this.q = projection(dModel);
    this.k = projection(kdim);
    this.v = projection(vdim);
    this.o = withoutBias(new Linear(dModel, dModel, { bias, ...at }), at);
    this.dropout = new AttentionDropout(o.dropout ?? 0, at);
  }

  override call(x: Tensor, o: NeedWeights): [y: Tensor, weights: Tensor];
  override call(query: Tensor, key: Tensor, value: Tensor, o: NeedWeights): [y: Tensor, weights: Tensor];
  override call(x: Tensor, mask?: Second): Tensor;
  override call(query: Tensor, key: Tensor, value: Tensor, o?: AttendOptions | undefined): Tensor;
  override call(...inputs: AttentionInputs): Tensor | [y: Tensor, weights: Tensor] {
    const o: unknown = inputs.at(-1);
    if (!isPlainObject(o) || o.needWeights !== true) return super.call(...inputs);
    const before = this.#wantsWeights;
    this.#wantsWeights = true;
    try {
      const y = super.call(...inputs);
      const weights = this.#weights;
      if (weights === null) throw new Error('MultiHeadAttention: the forward pass that ran instead gave no weights');
      return [y, o.averageAttnWeights === false ? weights : weights.mean(1)];
    } finally {
      this.#wantsWeights = before;
      this.#weights = null;
    }
  }

  override forward(query: Tensor, second?: Second, third?: Tensor, fourth?: AttendOptions): Tensor {
    const crossed = third !== undefined;
    if (!crossed && fourth !== undefined) throw alone('key and value', second, third);
    if (crossed && !(second instanceof Tensor && third instanceof Tensor)) throw alone('key and value', second, third);
    const [key, value] = crossed ? [second as Tensor, third] : [query, query];
    const given = crossed ? fourth : second;
    const o: AttendOptions = given instanceof Tensor || given === undefined ? {} : given;
    checkOptions('MultiHeadAttention', o, CALL);
    const [dModel, kdim, vdim] = this.#features;
    checkInput('an input', 'T', query, dModel);
    checkInput('a key', 'S', key, kdim);
    checkInput('a value', 'S', value, vdim);
    if (key.shape[0] !== query.shape[0] || value.shape[0] !== query.shape[0] || key.shape[1] !== value.shape[1])
      throw new ShapeError(
        `MultiHeadAttention: expected one batch, and as many keys as values, got ${[query, key, value].map(describe).join(', ')}`,
      );
    return insides(this, () => this.#attend(query, key, value, o, given instanceof Tensor ? given : null));
  }

  #attend(query: Tensor, key: Tensor, value: Tensor, o: AttendOptions, mask: Tensor | null): Tensor {
    const [batch, queries] = query.shape as [number, number];
    const offset = o.cache?.length ?? 0;
    const { heads } = this;
    const extent: Extent = { batch, heads, queries, keys: offset + key.shape[1]!, offset, device: query.device };
    const masks =
      mask === null ? masksOf('MultiHeadAttention', o, extent) : one(plainMask('MultiHeadAttention', mask, extent));
    const q = this.#turned(this.q.call(query), offset);
    let [k, v]: readonly Tensor[] = [this.#turned(this.k.call(key), offset), this.v.call(value)] as const;
    if (o.cache !== undefined) [k, v] = o.cache.append(k!, v!);
    const seen = this.#wantsWeights || !isIdle(this.dropout) || masks.added !== null || masks.allowed?.rank === 4;
    return this.o.call(seen ? this.#composed(q, k!, v!, masks) : attention(q, k!, v!, heads, masks.allowed));
  }

  /** The same in tensor operations, where somebody sees the weights or the kernel knows no such mask. */
  #composed(q: Tensor, k: Tensor, v: Tensor, { allowed, added }: Masks): Tensor {
    const scale = 1 / Math.sqrt(q.shape[2]! / this.heads);
    const overHeads = (mask: Tensor) => (mask.rank === 3 ? mask.unsqueeze(1) : mask);
    let scores = this.#split(q).mul(scale).matmul(this.#split(k).transpose());
    if (added !== null) scores = scores.add(overHeads(added));
    if (allowed !== null) scores = where(overHeads(allowed), scores, -Infinity);
    const weights = this.dropout.call(scores.softmax(-1));
    if (this.#wantsWeights) {
      keepAll([weights]);
      this.#weights = weights;
    }
    return weights
      .matmul(this.#split(v))
      .permute(0, 2, 1, 3)
      .reshape([...q.shape]);
  }

  /** Queries or keys, turned by their positions if the layer has rotary ones. */
  #turned(x: Tensor, offset: number): Tensor {
    if (this.#rotary === null) return x;
    return rotaryEmbedding(this.#split(x), { ...this.#rotary, offset })
      .permute(0, 2, 1, 3)
      .reshape([...x.shape]);
  }

  /** [B, T, dModel] → [B, heads, T, dHead] */
  #split(x: Tensor): Tensor {
    const [batch, length, features] = x.shape as [number, number, number];
    return x.reshape([batch, length, this.heads, features / this.heads]).permute(0, 2, 1, 3);
  }
}

function checkInput(what: string, positions: string, x: Tensor, features: number): void {
  if (!(x instanceof Tensor)) checkArgument('MultiHeadAttention', what, x, aTensor);
  if (x.rank !== 3 || x.shape[2] !== features)
    throw new ShapeError(`MultiHeadAttention: expected ${what} [B, ${positions}, ${features}], got ${describe(x)}`);
}

const one = (allowed: Tensor): Masks => ({ allowed, added: null });

const alone = (what: string, second: unknown, third: unknown) =>
  new TypeError(
    `MultiHeadAttention: expected ${what} to be tensors, got ${received(second)} and ${received(third)}; ` +
      'a call is (x, options) or (query, key, value, options)',
  );

/** A layer whose bias, if it has one, is 0. */
function withoutBias(layer: Linear, at: Placement): Linear {
  if (layer.bias !== null) layer.bias = new Parameter(zeros(layer.bias.shape, withoutRng(at)));
  return layer;
}
