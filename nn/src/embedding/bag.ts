/** Sums, means and maxima of rows of a table, bag by bag. */

import {
  checkIndex,
  DTypeError,
  describe,
  noGrad,
  owningIntermediates,
  ShapeError,
  sameShape,
  Tensor,
  tensor,
  where,
} from '@otimes/core';
import { aBoolean, aTensor, checkArgument, checkOptions, type Kind, oneOf, readsLater } from '@otimes/core/extend';
import { checkPositive, type Placement } from '../check.ts';
import type { Initial } from '../initial.ts';
import { Module } from '../module.ts';
import type { Parameter } from '../parameter.ts';
import { EMBEDDING, paddingOf, tableOf } from './embedding.ts';
import { embedding } from './lookup.ts';

type BagMode = 'sum' | 'mean' | 'max';

export type BagOptions = {
  /** Where each bag begins in a vector of indices: integers from 0 up. An array, or on a device that is read at once an int32 vector. */
  offsets?: readonly number[] | Tensor;
  /** Default 'mean'. */
  mode?: BagMode;
  /** By which rows are multiplied, like the indices; for 'sum' alone. */
  perSampleWeights?: Tensor;
  /** Whether the last offset is the end of the last bag, and begins none. Default false. */
  includeLastOffset?: boolean;
  /** An index that counts for nothing; default none. */
  paddingIdx?: number;
};

const someOffsets: Kind = {
  expected: 'an array of integers ≥ 0, or an int32 vector',
  is: v => v instanceof Tensor || (Array.isArray(v) && v.every(n => Number.isInteger(n) && n >= 0)),
};
const aMode = oneOf('sum', 'mean', 'max');

/**
 * What the rows of each bag come to, [bags, dim]; an empty bag gives zeros. Equal largest rows of 'max' share the gradient.
 *
 * @param indices int32 [bags, length], or a vector of all bags one after the other, with `offsets`
 * @param weight [count, dim]
 */
export function embeddingBag(indices: Tensor, weight: Tensor, o: BagOptions = {}): Tensor {
  const op = 'embeddingBag';
  checkArgument(op, 'indices', indices, aTensor);
  checkArgument(op, 'weight', weight, aTensor);
  checkOptions(op, o, {
    offsets: someOffsets,
    mode: aMode,
    perSampleWeights: aTensor,
    includeLastOffset: aBoolean,
    paddingIdx: EMBEDDING.paddingIdx,
  });
  const { mode = 'mean', perSampleWeights } = o;
  if (weight.rank !== 2) throw new ShapeError(`${op}: expected a weight [count, dim], got ${describe(weight)}`);
  if ((indices.rank !== 1 && indices.rank !== 2) || (indices.rank === 1) !== (o.offsets !== undefined))
    throw new ShapeError(`${op}: expected indices [bags, length], or a vector with offsets, got ${describe(indices)}`);
  if (perSampleWeights !== undefined && (mode !== 'sum' || !sameShape(perSampleWeights.shape, indices.shape)))
    throw new ShapeError(
      `${op}: expected perSampleWeights with mode 'sum', like the indices ${describe(indices)}, got '${mode}' and ${describe(perSampleWeights)}`,
    );
  const paddingIdx = paddingOf(op, weight.shape[0]!, o);
  checkIndex(op, indices, weight.shape[0]!);
  return owningIntermediates(() => {
    const bags = noGrad(() => placesOf(indices, o));
    const pick = (x: Tensor): Tensor =>
      bags === null ? x : x.indexSelect(0, bags.places).reshape(bags.shape as [number, number]);
    if (indices.size === 0 || bags?.shape[1] === 0)
      return weight
        .narrow(0, 0, 0)
        .sum(0, { keepdim: true })
        .expand(bags?.shape[0] ?? indices.shape[0]!, weight.shape[1]!);
    const rows = pick(indices);
    const taken = paddingIdx === null ? bags?.inside : rows.ne(paddingIdx).logicalAnd(bags?.inside ?? true);
    const each = embedding(rows, weight);
    const scaled = perSampleWeights === undefined ? each : each.mul(pick(perSampleWeights).unsqueeze(2));
    if (taken === undefined) return mode === 'sum' ? scaled.sum(1) : mode === 'mean' ? scaled.mean(1) : scaled.max(1);
    const mask = taken.unsqueeze(2);
    if (mode !== 'max') {
      const sum = where(mask, scaled, 0).sum(1);
      return mode === 'sum' ? sum : sum.div(taken.sum(1, { keepdim: true }).maximum(1));
    }
    const some = taken.any(1, { keepdim: true }).unsqueeze(2);
    return where(some, where(mask.logicalOr(some.logicalNot()), scaled, -Infinity), 0).max(1);
  });
}

/** Bags of a vector as rows of one length: where their elements lie, and which of them are inside. */
function placesOf(indices: Tensor, { offsets, includeLastOffset = false }: BagOptions) {
  if (offsets === undefined) return null;
  if (offsets instanceof Tensor && readsLater(offsets))
    throw new TypeError(
      `embeddingBag: expected offsets to be an array, since '${offsets.device}' is read with await: Array.from(await offsets.data())`,
    );
  if (offsets instanceof Tensor && offsets.dtype !== 'int32')
    throw new DTypeError(`embeddingBag: expected int32 offsets, got ${describe(offsets)}`);
  const given = offsets instanceof Tensor ? Array.from(offsets.dataSync()) : [...offsets];
  const ends = includeLastOffset ? given : [...given, indices.size];
  const isAscending = ends.every((end, i) => end <= indices.size && (i === 0 ? end === 0 : end >= ends[i - 1]!));
  if (!isAscending || ends.length === 0)
    throw new RangeError(
      `embeddingBag: expected ascending offsets from 0 to at most ${indices.size}, got [${given.slice(0, 8).join(', ')}]`,
    );
  const count = ends.length - 1;
  const longest = ends.slice(1).reduce((most, end, i) => Math.max(most, end - ends[i]!), 0);
  const [places, inside] = [new Int32Array(count * longest), new Int32Array(count * longest)];
  for (let bag = 0; bag < count; bag++)
    for (let place = ends[bag]!; place < ends[bag + 1]!; place++) {
      places[bag * longest + place - ends[bag]!] = place;
      inside[bag * longest + place - ends[bag]!] = 1;
    }
  const { device } = indices;
  const shape = [count, longest];
  return { shape, places: tensor(places, { device }), inside: tensor(inside, { device, shape }).eq(1) };
}

/** `embeddingBag` with a table that is trained. */
export class EmbeddingBag extends Module<
  [indices: Tensor, offsets?: readonly number[] | Tensor | null, perSampleWeights?: Tensor]
> {
  static readonly builtIn: string = 'EmbeddingBag';
  static override readonly tensors: readonly string[] = ['weight'];
  /** [count, dim], standard normal initially */
  weight: Parameter;
  readonly mode: BagMode;
  readonly includeLastOffset: boolean;
  readonly paddingIdx: number | null;

  /** @param o mode: default 'mean'; includeLastOffset, paddingIdx: as `embeddingBag`; init: as `Embedding` */
  constructor(
    count: number,
    dim: number,
    o: { mode?: BagMode; includeLastOffset?: boolean; paddingIdx?: number; init?: Initial } & Placement = {},
  ) {
    super();
    checkPositive('EmbeddingBag', { count, dim });
    checkOptions('EmbeddingBag', o, { mode: aMode, includeLastOffset: aBoolean, ...EMBEDDING });
    this.mode = o.mode ?? 'mean';
    this.includeLastOffset = o.includeLastOffset ?? false;
    this.paddingIdx = paddingOf('EmbeddingBag', count, o);
    this.weight = tableOf('EmbeddingBag', [count, dim], o, this.paddingIdx);
  }

  override forward(indices: Tensor, offsets?: readonly number[] | Tensor | null, perSampleWeights?: Tensor): Tensor {
    const { mode, includeLastOffset, paddingIdx } = this;
    return embeddingBag(indices, this.weight, {
      mode,
      includeLastOffset,
      ...(paddingIdx !== null && { paddingIdx }),
      ...(offsets && { offsets }),
      ...(perSampleWeights !== undefined && { perSampleWeights }),
    });
  }
}
