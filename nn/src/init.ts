/**
 * Initial weights. A weight [out, in, …] has fan-in in·(receptive field) and fan-out out·(receptive field), as in
 * PyTorch. `rng` defaults to the generator that `manualSeed` seeds, `dtype` to float32, `device` to 'cpu'.
 */

import {
  type DType,
  defaultGenerator,
  type Generator,
  rand,
  randn,
  type Shape,
  ShapeError,
  type Tensor,
  tensor,
} from '@otimes/core';
import { aNumber, aShape, checkArgument, checkOptions, type OptionKinds, oneOf } from '@otimes/core/extend';
import { PLACEMENT, placed, withoutRng } from './check.ts';

export type InitOptions = {
  rng?: Generator | undefined;
  dtype?: DType | undefined;
  device?: string | undefined;
};

const OPTIONS = { ...PLACEMENT, gain: aNumber };

function checkInit<O extends object>(
  op: string,
  shape: Shape,
  o: O,
  kinds: OptionKinds<O>,
  numbers: Record<string, number> = {},
): void {
  checkArgument(op, 'shape', shape, aShape);
  for (const [name, value] of Object.entries(numbers)) checkArgument(op, name, value, aNumber);
  checkOptions(op, o, kinds);
}

/** Uniform in [low, high). */
export function uniform(shape: Shape, low: number, high: number, o: InitOptions = {}): Tensor {
  checkInit('uniform', shape, o, PLACEMENT, { low, high });
  return rand(shape, placed(o))
    .mul(high - low)
    .add(low);
}

/** Normal with mean 0 unless given. */
export function normal(shape: Shape, std: number, o: InitOptions & { mean?: number } = {}): Tensor {
  checkInit('normal', shape, o, { ...PLACEMENT, mean: aNumber }, { std });
  return randn(shape, placed(o))
    .mul(std)
    .add(o.mean ?? 0);
}

/** Normal with mean 0, redrawn outside ±`cut` standard deviations (default 2). */
export function truncatedNormal(shape: Shape, std: number, o: InitOptions & { cut?: number } = {}): Tensor {
  checkInit('truncatedNormal', shape, o, { ...PLACEMENT, cut: aNumber }, { std });
  const cut = o.cut ?? 2;
  if (!(cut > 0)) throw new RangeError(`truncatedNormal: expected a cut above 0, got ${cut}`);
  const rng = o.rng ?? defaultGenerator();
  const data = new Float64Array(shape.reduce((size, length) => size * length, 1));
  for (let i = 0; i < data.length; i++) {
    let z = rng.normal();
    while (Math.abs(z) > cut) z = rng.normal();
    data[i] = z * std;
  }
  return tensor(data, { shape, ...withoutRng(placed(o)), dtype: o.dtype ?? 'float32' });
}

function fans(shape: Shape): { fanIn: number; fanOut: number } {
  if (shape.length < 2) throw new ShapeError(`init: fans need a weight of rank ≥ 2, got [${shape.join(',')}]`);
  const field = shape.slice(2).reduce((size, length) => size * length, 1);
  return { fanIn: shape[1]! * field, fanOut: shape[0]! * field };
}

/** Uniform in ±gain·√(6 / (fan-in + fan-out)) (Glorot & Bengio 2010). */
export function xavierUniform(shape: Shape, o: InitOptions & { gain?: number } = {}): Tensor {
  checkInit('xavierUniform', shape, o, OPTIONS);
  const { fanIn, fanOut } = fans(shape);
  const bound = (o.gain ?? 1) * Math.sqrt(6 / (fanIn + fanOut));
  return uniform(shape, -bound, bound, placed(o));
}

/** Normal with standard deviation gain·√(2 / (fan-in + fan-out)) (Glorot & Bengio 2010). */
export function xavierNormal(shape: Shape, o: InitOptions & { gain?: number } = {}): Tensor {
  checkInit('xavierNormal', shape, o, OPTIONS);
  const { fanIn, fanOut } = fans(shape);
  return normal(shape, (o.gain ?? 1) * Math.sqrt(2 / (fanIn + fanOut)), placed(o));
}

/** Uniform in ±gain·√(3 / fan-in) (He et al. 2015); gain √2 suits ReLU, 1/√3 is the default of Linear. */
export function kaimingUniform(shape: Shape, o: InitOptions & { gain?: number } = {}): Tensor {
  checkInit('kaimingUniform', shape, o, OPTIONS);
  const bound = (o.gain ?? Math.SQRT2) * Math.sqrt(3 / fans(shape).fanIn);
  return uniform(shape, -bound, bound, placed(o));
}

/** Normal with standard deviation gain/√fan-in (He et al. 2015), or √fan-out by `mode`; gain √2 suits ReLU. */
export function kaimingNormal(
  shape: Shape,
  o: InitOptions & { gain?: number; mode?: 'fanIn' | 'fanOut' } = {},
): Tensor {
  checkInit('kaimingNormal', shape, o, { ...OPTIONS, mode: oneOf('fanIn', 'fanOut') });
  return normal(shape, (o.gain ?? Math.SQRT2) / Math.sqrt(fans(shape)[o.mode ?? 'fanIn']), placed(o));
}
