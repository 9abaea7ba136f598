/** Rotary position embedding (Su et al. 2021). */

import { DTypeError, describe, owningIntermediates, ShapeError, stack, type Tensor, tensor } from '@otimes/core';
import { aBoolean, aTensor, checkArgument, checkOptions, type Kind } from '@otimes/core/extend';

export type RotaryOptions = {
  /** Pair i turns by position · base^(−2i/D); default 10000. */
  base?: number;
  /**
   * Which features form pair i: 2i and 2i + 1 as in the paper (true, the default), or i and i + D/2 (false), as in the weights of
   * LLaMA and GPT-NeoX at Hugging Face.
   */
  interleaved?: boolean;
};

const aBase: Kind = { expected: 'a number above 1', is: v => typeof v === 'number' && v > 1 && v < Infinity };
const aPosition: Kind = {
  expected: 'an integer ≥ 0',
  is: v => Number.isInteger(v) && Number(v) >= 0,
  error: RangeError,
};

export const ROTARY = { base: aBase, interleaved: aBoolean };

/**
 * Turns each pair of features of x [..., T, D] by its position times the pair's frequency (Su et al. 2021, equation 34), so that
 * the product of a query and a key depends on the distance of their positions alone.
 *
 * @param o offset: the position of the first of the T rows, default 0; base and interleaved: see `RotaryOptions`
 * @throws ShapeError unless x has two axes and D is even; DTypeError for integers
 */
export function rotaryEmbedding(x: Tensor, o: RotaryOptions & { offset?: number } = {}): Tensor {
  checkArgument('rotaryEmbedding', 'x', x, aTensor);
  checkOptions('rotaryEmbedding', o, { ...ROTARY, offset: aPosition });
  const { base = 10000, interleaved = true, offset = 0 } = o;
  if (x.rank < 2 || x.shape.at(-1)! % 2 !== 0)
    throw new ShapeError(`rotaryEmbedding: expected x [..., T, D] with an even D, got ${describe(x)}`);
  if (x.dtype !== 'float32' && x.dtype !== 'float64')
    throw new DTypeError(`rotaryEmbedding: expected a floating tensor, got ${describe(x)}`);
  const [length, features] = x.shape.slice(-2) as [number, number];
  const half = features / 2;
  const angles = Float64Array.from(
    { length: length * half },
    (_, i) => (offset + Math.floor(i / half)) * base ** (-(i % half) / half),
  );
  return owningIntermediates(() => {
    const at = { shape: [length, half], dtype: x.dtype, device: x.device };
    const [cos, sin] = [tensor(angles.map(Math.cos), at), tensor(angles.map(Math.sin), at)];
    const lead = x.shape.slice(0, -1);
    const axis = interleaved ? -1 : -2;
    const pairs = x.reshape([...lead, ...(interleaved ? [half, 2] : [2, half])]);
    const part = (i: number) => pairs.narrow(axis, i, 1).squeeze(axis);
    const [a, b] = [part(0), part(1)];
    return stack([a.mul(cos).sub(b.mul(sin)), a.mul(sin).add(b.mul(cos))], axis).reshape(x.shape);
  });
}
