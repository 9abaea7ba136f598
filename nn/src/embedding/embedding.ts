/** A table of vectors. */

import { noGrad, type Tensor, zeros } from '@otimes/core';
import { anInteger, checkArgument, checkOptions } from '@otimes/core/extend';
import { checkPositive, PLACEMENT, type Placement } from '../check.ts';
import { normal } from '../init.ts';
import { anInitial, drawn, type Initial } from '../initial.ts';
import { Module } from '../module.ts';
import type { Parameter } from '../parameter.ts';
import { embedding } from './lookup.ts';

export type EmbeddingOptions = Placement & {
  /** An index whose row starts at zero and gets no gradient; a negative one counts from the end. Default: none. */
  paddingIdx?: number;
  /** Makes the weight [count, dim]; default standard normal. */
  init?: Initial;
};

/** The table of an embedding; the row of `paddingIdx` (0 … count−1, or null) is zero. */
export function tableOf(
  layer: string,
  [count, dim]: readonly [number, number],
  o: EmbeddingOptions,
  paddingIdx: number | null,
): Parameter {
  const { init, rng, dtype, device } = o;
  const at = { ...(init && { init }), ...(rng && { rng }), ...(dtype && { dtype }), ...(device && { device }) };
  const weight = drawn(layer, 'weight', [count, dim], at, (shape, place) => normal(shape, 1, place));
  if (paddingIdx !== null && init === undefined)
    noGrad(() => weight.narrow(0, paddingIdx, 1).copy_(zeros([1], { dtype: weight.dtype, device: weight.device })));
  return weight;
}

/** `paddingIdx` counted from 0, or null. */
export function paddingOf(layer: string, count: number, { paddingIdx }: { paddingIdx?: number }): number | null {
  if (paddingIdx === undefined) return null;
  checkArgument(layer, 'paddingIdx', paddingIdx, {
    expected: `an integer in ${-count} … ${count - 1}`,
    is: v => Number.isInteger(v) && Number(v) >= -count && Number(v) < count,
    error: RangeError,
  });
  return paddingIdx < 0 ? paddingIdx + count : paddingIdx;
}

export const EMBEDDING = { paddingIdx: anInteger, init: anInitial, ...PLACEMENT };

/** int32 indices [...] → their rows [..., dim]. Rows are standard normal initially. */
export class Embedding extends Module {
  static readonly builtIn: string = 'Embedding';
  static override readonly tensors: readonly string[] = ['weight'];
  /** [count, dim] */
  weight: Parameter;
  readonly paddingIdx: number | null;

  constructor(count: number, dim: number, o: EmbeddingOptions = {}) {
    super();
    checkPositive('Embedding', { count, dim });
    checkOptions('Embedding', o, EMBEDDING);
    this.paddingIdx = paddingOf('Embedding', count, o);
    this.weight = tableOf('Embedding', [count, dim], o, this.paddingIdx);
  }

  override forward(indices: Tensor): Tensor {
    const { paddingIdx } = this;
    return embedding(indices, this.weight, paddingIdx === null ? {} : { paddingIdx });
  }
}
