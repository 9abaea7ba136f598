/** Tensors like others, evenly spaced numbers, and grids. */

import { aCount, aNumber, checkArgument, checkOptions, type OptionKinds, oneOf } from './check.ts';
import { filled, fromArray, TENSOR, type TensorOptions } from './create.ts';
import { allocateArray, isFloat } from './dtype.ts';
import { DTypeError, describe, ShapeError } from './errors.ts';
import { expand, reshape } from './ops/view.ts';
import { RANDOM, type RandomOptions, rand, randn } from './random.ts';
import { checkTensors, someTensors, type Tensor } from './tensor.ts';

/** The options, with dtype and device of `x` where they say nothing. */
function like<O extends TensorOptions>(op: string, x: Tensor, o: O, kinds: OptionKinds<O>): O {
  checkTensors(op, x);
  checkOptions(op, o, kinds);
  return { ...o, dtype: o.dtype ?? x.dtype, device: o.device ?? x.device };
}

/** Zeros of the shape of `x`, of its dtype and on its device unless the options say otherwise. */
export function zerosLike(x: Tensor, o: TensorOptions = {}): Tensor {
  const options = like('zerosLike', x, o, TENSOR);
  return filled('zerosLike', x.shape, 0, options);
}

/** Ones of the shape of `x`, of its dtype and on its device unless the options say otherwise. */
export function onesLike(x: Tensor, o: TensorOptions = {}): Tensor {
  const options = like('onesLike', x, o, TENSOR);
  return filled('onesLike', x.shape, 1, options);
}

/** `value` in the shape of `x`, of its dtype and on its device unless the options say otherwise. */
export function fullLike(x: Tensor, value: number, o: TensorOptions = {}): Tensor {
  const options = like('fullLike', x, o, TENSOR);
  return filled('fullLike', x.shape, value, options);
}

function randomLike(op: string, x: Tensor, o: RandomOptions): RandomOptions {
  const options = like(op, x, o, RANDOM);
  if (!isFloat(options.dtype!))
    throw new DTypeError(`${op}: expected a floating dtype, got ${options.dtype}; the option dtype may name one`);
  return options;
}

/** Uniform in [0, 1), of the shape of `x`, of its dtype and on its device unless the options say otherwise. */
export function randLike(x: Tensor, o: RandomOptions = {}): Tensor {
  const options = randomLike('randLike', x, o);
  return rand(x.shape, options);
}

/** Standard normal, of the shape of `x`, of its dtype and on its device unless the options say otherwise. */
export function randnLike(x: Tensor, o: RandomOptions = {}): Tensor {
  const options = randomLike('randnLike', x, o);
  return randn(x.shape, options);
}

/** `count` numbers from `start` to `end`, both included, at equal distances. The ends are exact. */
function spaced(
  op: string,
  start: number,
  end: number,
  count: number,
  f: (x: number) => number,
  o: TensorOptions,
): Tensor {
  checkArgument(op, 'start', start, aNumber);
  checkArgument(op, 'end', end, aNumber);
  checkArgument(op, 'steps', count, aSteps);
  const dtype = o.dtype ?? 'float32';
  if (!isFloat(dtype))
    throw new DTypeError(`${op}: expected a floating dtype, got ${dtype}; astype converts the result`);
  const data = allocateArray(dtype, count);
  const last = Math.max(1, count - 1);
  const whole = end - start;
  const step = Math.abs(whole) === Infinity ? end / last - start / last : whole / last;
  // From the nearer end, so that the result is symmetric. 0 · ∞ is no number.
  const from = (first: number, i: number, by: number) => (i === 0 ? first : first + i * by);
  for (let i = 0; i < count; i++)
    data[i] = f(i < count / 2 || count === 1 ? from(start, i, step) : from(end, count - 1 - i, -step));
  return fromArray(data, [count], o);
}

const aSteps = { ...aCount, expected: 'an integer ≥ 0', is: (v: unknown) => Number.isInteger(v) && Number(v) >= 0 };

/** `steps` numbers from `start` to `end`, both included, at equal distances. float32 unless `dtype` says float64. */
export function linspace(start: number, end: number, steps: number, o: TensorOptions = {}): Tensor {
  checkOptions('linspace', o, TENSOR);
  return spaced('linspace', start, end, steps, x => x, o);
}

/** `base` to the power of `linspace(start, end, steps)`; `base` is 10 by default. float32 unless `dtype` says float64. */
export function logspace(start: number, end: number, steps: number, o: TensorOptions & { base?: number } = {}): Tensor {
  checkOptions('logspace', o, { ...TENSOR, base: aNumber });
  const { base = 10 } = o;
  return spaced('logspace', start, end, steps, x => base ** x, o);
}

/**
 * Coordinates of a grid: views of the vectors, each along an axis of its own and repeated along the others. `indexing` 'ij' (default, as in
 * PyTorch) counts axes as vectors, 'xy' swaps the first two, as for images [rows, columns].
 */
export function meshgrid(vectors: readonly Tensor[], o: { indexing?: 'ij' | 'xy' } = {}): Tensor[] {
  checkArgument('meshgrid', 'vectors', vectors, someTensors);
  checkOptions('meshgrid', o, { indexing: oneOf('ij', 'xy') });
  const wrong = vectors.find(x => x.rank !== 1);
  if (wrong !== undefined) throw new ShapeError(`meshgrid: expected vectors, got ${describe(wrong)}`);
  const axisOf = (i: number) => (o.indexing === 'xy' && i < 2 && vectors.length > 1 ? 1 - i : i);
  const shape = vectors.map((_, i) => vectors[axisOf(i)]!.size);
  return vectors.map((x, i) =>
    expand(
      reshape(
        x,
        shape.map((n, axis) => (axis === axisOf(i) ? n : 1)),
      ),
      shape,
    ),
  );
}
