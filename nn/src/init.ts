/**
 * Initial weights. A weight [out, in, …] has fan-in in·(receptive field) and fan-out out·(receptive field), as in
 * PyTorch. `rng` defaults to the generator that `manualSeed` seeds, `dtype` to float32, `device` to 'cpu'.
 */

import {
  type DType,
  DTypeError,
  defaultGenerator,
  full,
  type Generator,
  rand,
  randn,
  type Shape,
  ShapeError,
  type Tensor,
  tensor,
} from '@otimes/core';
import { checkArgument, checkOptions, checkShape, type Kind, type OptionKinds, oneOf } from '@otimes/core/extend';
import { PLACEMENT, placed, withoutRng } from './check.ts';

export type InitOptions = {
  rng?: Generator | undefined;
  dtype?: DType | undefined;
  device?: string | undefined;
};

const aFiniteNumber: Kind = { expected: 'a finite number', is: Number.isFinite };
const aScale: Kind = { expected: 'a finite number ≥ 0', is: v => Number.isFinite(v) && Number(v) >= 0 };

const aCut: Kind = { expected: 'a number above 0', is: v => typeof v === 'number' && v > 0, error: RangeError };

const OPTIONS = { ...PLACEMENT, gain: aScale };

/** Throws in the name of `op`, which draws floating numbers. */
function checkInit<O extends InitOptions>(op: string, shape: Shape, o: O, kinds: OptionKinds<O>): void {
  checkShape(op, shape);
  checkOptions(op, o, kinds);
  if (o.dtype === 'int32' || o.dtype === 'bool')
    throw new DTypeError(`${op}: expected a floating dtype, got ${o.dtype}`);
}

/** One number everywhere. `rng` is taken, as by the others, and draws nothing. */
export function constant(shape: Shape, value: number, o: InitOptions = {}): Tensor {
  checkArgument('constant', 'value', value, aFiniteNumber);
  checkInit('constant', shape, o, PLACEMENT);
  return full(shape, value, withoutRng(placed(o)));
}

/** Zeros, for `init: { bias: zeros }` of a layer. */
export function zeros(shape: Shape, o: InitOptions = {}): Tensor {
  return constant(shape, 0, o);
}

/** Ones. */
export function ones(shape: Shape, o: InitOptions = {}): Tensor {
  return constant(shape, 1, o);
}

/** Uniform in [low, high), with low ≤ high. */
export function uniform(shape: Shape, low: number, high: number, o: InitOptions = {}): Tensor {
  for (const [name, value] of Object.entries({ low, high })) checkArgument('uniform', name, value, aFiniteNumber);
  checkInit('uniform', shape, o, PLACEMENT);
  if (low > high) throw new RangeError(`uniform: expected low ≤ high, got ${low} and ${high}`);
  return rand(shape, placed(o))
    .mul(high - low)
    .add(low);
}

/** Normal with mean 0 unless given, and a standard deviation ≥ 0. */
export function normal(shape: Shape, std: number, o: InitOptions & { mean?: number } = {}): Tensor {
  checkArgument('normal', 'std', std, aScale);
  checkInit('normal', shape, o, { ...PLACEMENT, mean: aFiniteNumber });
  return randn(shape, placed(o))
    .mul(std)
    .add(o.mean ?? 0);
}

/** Normal with mean 0, redrawn outside ±`cut` standard deviations (default 2). */
export function truncatedNormal(shape: Shape, std: number, o: InitOptions & { cut?: number } = {}): Tensor {
  checkArgument('truncatedNormal', 'std', std, aScale);
  checkInit('truncatedNormal', shape, o, { ...PLACEMENT, cut: aCut });
  const cut = o.cut ?? 2;
  const rng = o.rng ?? defaultGenerator();
  const data = new Float64Array(shape.reduce((size, length) => size * length, 1));
  for (let i = 0; i < data.length; i++) {
    let z = rng.normal();
    while (Math.abs(z) > cut) z = rng.normal();
    data[i] = z * std;
  }
  return tensor(data, { shape, ...withoutRng(placed(o)), dtype: o.dtype ?? 'float32' });
}

function fans(op: string, shape: Shape): { fanIn: number; fanOut: number } {
  if (shape.length < 2) throw new ShapeError(`${op}: fans need a weight of rank ≥ 2, got [${shape.join(',')}]`);
  const field = shape.slice(2).reduce((size, length) => size * length, 1);
  return { fanIn: shape[1]! * field, fanOut: shape[0]! * field };
}

/** Uniform in ±gain·√(6 / (fan-in + fan-out)) (Glorot & Bengio 2010). */
export function xavierUniform(shape: Shape, o: InitOptions & { gain?: number } = {}): Tensor {
  checkInit('xavierUniform', shape, o, OPTIONS);
  const { fanIn, fanOut } = fans('xavierUniform', shape);
  const bound = (o.gain ?? 1) * Math.sqrt(6 / (fanIn + fanOut));
  return uniform(shape, -bound, bound, placed(o));
}

/** Normal with standard deviation gain·√(2 / (fan-in + fan-out)) (Glorot & Bengio 2010). */
export function xavierNormal(shape: Shape, o: InitOptions & { gain?: number } = {}): Tensor {
  checkInit('xavierNormal', shape, o, OPTIONS);
  const { fanIn, fanOut } = fans('xavierNormal', shape);
  return normal(shape, (o.gain ?? 1) * Math.sqrt(2 / (fanIn + fanOut)), placed(o));
}

/** Uniform in ±gain·√(3 / fan-in) (He et al. 2015); gain √2 suits ReLU, 1/√3 is the default of Linear. */
export function kaimingUniform(shape: Shape, o: InitOptions & { gain?: number } = {}): Tensor {
  checkInit('kaimingUniform', shape, o, OPTIONS);
  const bound = (o.gain ?? Math.SQRT2) * Math.sqrt(3 / fans('kaimingUniform', shape).fanIn);
  return uniform(shape, -bound, bound, placed(o));
}

/** Normal with standard deviation gain/√fan-in (He et al. 2015), or √fan-out by `mode`; gain √2 suits ReLU. */
export function kaimingNormal(
  shape: Shape,
  o: InitOptions & { gain?: number; mode?: 'fanIn' | 'fanOut' } = {},
): Tensor {
  checkInit('kaimingNormal', shape, o, { ...OPTIONS, mode: oneOf('fanIn', 'fanOut') });
  return normal(shape, (o.gain ?? Math.SQRT2) / Math.sqrt(fans('kaimingNormal', shape)[o.mode ?? 'fanIn']), placed(o));
}
