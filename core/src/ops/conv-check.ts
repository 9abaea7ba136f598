/** What a call of a convolution along 1 to 3 axes must be, and where its kernel goes. */

import { aNumber, checkOptions, type OptionKinds, oneOf, orNull } from '../check.ts';
import { isFloat, promote } from '../dtype.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { aTensor, checkTensors, type Tensor } from '../tensor.ts';
import { aTuple, placesIn, tupleOf, type Windows } from '../window.ts';
import { cast } from './cast.ts';

/** Zeros on each side, a number for all axes or one for each, or a rule: 'valid' is none, 'same' as many as keep the size. */
export type Padding<Sizes> = number | Sizes | 'same' | 'valid';

/**
 * Each in positions, a number for all axes or one for each: `stride` and `dilation` default to 1, `padding` to 0. With 'same', for
 * stride 1, an odd number of zeros has the larger part at the end, as in PyTorch. `groups` (default 1) splits input and
 * output channels into as many independent convolutions; `bias` [O] (default none) is added to each output channel.
 */
export type Convolved<Sizes> = {
  stride?: number | Sizes;
  padding?: Padding<Sizes>;
  dilation?: number | Sizes;
  groups?: number;
  bias?: Tensor | null;
};

/**
 * Each in positions: `stride` and `dilation` default to 1, `padding` to 0, all as of the convolution whose transpose this is. `outputPadding`
 * (default 0) is added to the size of the result at its end, and less than stride or dilation. `groups`, `bias` [O]: as of a convolution.
 */
export type Transposed<Sizes> = Omit<Convolved<Sizes>, 'padding'> & {
  padding?: number | Sizes;
  outputPadding?: number | Sizes;
};

const AXES = ['', 'L', 'H, W', 'D, H, W'];
const KERNEL = ['', 'k', 'kh, kw', 'kd, kh, kw'];

/** Throws unless `x` is a floating [N, C, …] of so many further axes. */
export function checkVolumes(op: string, x: Tensor, axes: number): void {
  checkTensors(op, x);
  if (x.rank !== axes + 2) throw new ShapeError(`${op}: expected an input [N, C, ${AXES[axes]}], got ${describe(x)}`);
  if (!isFloat(x.dtype)) throw new DTypeError(`${op}: expected a floating tensor, got ${describe(x)}`);
}

type Options = Convolved<readonly number[]> & { outputPadding?: number | readonly number[] };

/** The kinds of the options of a convolution along so many axes. */
export function convOptions(axes: number): OptionKinds<Convolved<readonly number[]>> {
  const [tuple, rule] = [aTuple(axes), oneOf('same', 'valid')];
  const padding = { expected: `${tuple.expected}, 'same' or 'valid'`, is: (v: unknown) => tuple.is(v) || rule.is(v) };
  return { stride: tuple, padding, dilation: tuple, groups: aNumber, bias: orNull(aTensor) };
}

/** Zeros around each axis, and how many of the first results of a convolution with stride 1 are then to be left out. */
export function paddingOf(
  op: string,
  padding: number | readonly number[] | string,
  { kernel, stride, dilation }: Omit<Windows, 'padding'>,
): { padding: readonly number[]; crop: readonly number[] } {
  const none = kernel.map(() => 0);
  if (padding === 'valid') return { padding: none, crop: none };
  if (typeof padding !== 'string') return { padding: tupleOf(op, 'padding', padding, 0, kernel.length), crop: none };
  if (stride.some(step => step !== 1))
    throw new RangeError(`${op}: expected stride 1 with padding 'same', got ${stride.join('×')}`);
  const all = kernel.map((taps, axis) => dilation[axis]! * (taps - 1));
  return { padding: all.map(zeros => Math.ceil(zeros / 2)), crop: all.map(zeros => zeros % 2) };
}

/** A checked call: where the kernel goes, and x, w and bias in their common dtype. */
export type ConvCall = Windows & {
  readonly groups: number;
  readonly operands: readonly Tensor[];
  /** The sizes of the result along the last axes. */
  readonly places: readonly number[];
  /** How many of the first results along each axis are left out. */
  readonly crop: readonly number[];
};

function checkGroups(op: string, groups: number): void {
  if (!Number.isInteger(groups) || groups < 1)
    throw new RangeError(`${op}: expected groups to be an integer ≥ 1, got ${groups}`);
}

function checkWeight(op: string, w: Tensor, axes: number, channels: string): void {
  if (w.rank !== axes + 2)
    throw new ShapeError(`${op}: expected a weight [${channels}, ${KERNEL[axes]}], got ${describe(w)}`);
  if (!isFloat(w.dtype)) throw new DTypeError(`${op}: expected a floating weight, got ${describe(w)}`);
}

function operandsOf(op: string, x: Tensor, w: Tensor, bias: Tensor | null, outputs: number): Tensor[] {
  if (bias !== null && (bias.rank !== 1 || bias.shape[0] !== outputs || !isFloat(bias.dtype)))
    throw new ShapeError(`${op}: expected a floating bias [${outputs}], got ${describe(bias)}`);
  const inputs = bias === null ? [x, w] : [x, w, bias];
  const dtype = inputs.map(t => t.dtype).reduce(promote);
  return inputs.map(t => cast(t, dtype));
}

/** A call of a convolution of x [N, C, …] with w [O, C/groups, …]. */
export function convCall(op: string, x: Tensor, w: Tensor, o: Options, axes: number): ConvCall {
  checkTensors(op, x, w);
  checkOptions<Convolved<readonly number[]>>(op, o, convOptions(axes));
  const groups = o.groups ?? 1;
  checkVolumes(op, x, axes);
  checkWeight(op, w, axes, 'O, C/groups');
  checkGroups(op, groups);
  const [outputs, share] = w.shape as [number, number];
  const channels = x.shape[1]!;
  if (channels % groups !== 0 || outputs % groups !== 0)
    throw new ShapeError(
      `${op}: ${groups} groups do not divide the channels of the input ${describe(x)} and of the weight ${describe(w)}`,
    );
  if (share * groups !== channels)
    throw new ShapeError(
      `${op}: the weight ${describe(w)}${groups === 1 ? '' : ` in ${groups} groups`} takes ${share * groups} channels, ` +
        `the input ${describe(x)} has ${channels}`,
    );
  const kernel = tupleOf<readonly number[]>(op, 'kernel', w.shape.slice(2), 1, axes);
  const stride = tupleOf(op, 'stride', o.stride ?? 1, 1, axes);
  const dilation = tupleOf(op, 'dilation', o.dilation ?? 1, 1, axes);
  const { padding, crop } = paddingOf(op, o.padding ?? 0, { kernel, stride, dilation });
  const window = { kernel, stride, padding, dilation };
  const places = placesIn(op, x.shape.slice(2), window);
  return { ...window, groups, crop, places, operands: operandsOf(op, x, w, o.bias ?? null, outputs) };
}

/** A call of the transpose of a convolution, of x [N, C, …] with w [C, O/groups, …]; `places` are the sizes of its result. */
export function transposedCall(
  op: string,
  x: Tensor,
  w: Tensor,
  o: Transposed<readonly number[]>,
  axes: number,
): ConvCall {
  checkTensors(op, x, w);
  const tuple = aTuple(axes);
  checkOptions<Transposed<readonly number[]>>(op, o, { ...convOptions(axes), padding: tuple, outputPadding: tuple });
  const groups = o.groups ?? 1;
  checkVolumes(op, x, axes);
  checkWeight(op, w, axes, 'C, O/groups');
  checkGroups(op, groups);
  const [channels, share] = w.shape as [number, number];
  if (x.shape[1] !== channels || channels % groups !== 0)
    throw new ShapeError(
      `${op}: the weight ${describe(w)} takes ${channels} channels in ${groups} groups, the input ${describe(x)} has ${x.shape[1]}`,
    );
  const kernel = tupleOf<readonly number[]>(op, 'kernel', w.shape.slice(2), 1, axes);
  const stride = tupleOf(op, 'stride', o.stride ?? 1, 1, axes);
  const padding = tupleOf(op, 'padding', o.padding ?? 0, 0, axes);
  const dilation = tupleOf(op, 'dilation', o.dilation ?? 1, 1, axes);
  const more = tupleOf(op, 'outputPadding', o.outputPadding ?? 0, 0, axes);
  if (more.some((n, axis) => n >= Math.max(stride[axis]!, dilation[axis]!)))
    throw new RangeError(
      `${op}: expected outputPadding to be less than stride or dilation, got ${more.join('×')} for ` +
        `${stride.join('×')} and ${dilation.join('×')}`,
    );
  const places = x.shape.slice(2).map((size, axis) => {
    const whole = (size - 1) * stride[axis]! + dilation[axis]! * (kernel[axis]! - 1) + 1;
    return whole - 2 * padding[axis]! + more[axis]!;
  });
  if (places.some(size => size < 1) || x.shape.slice(2).some(size => size < 1))
    throw new ShapeError(
      `${op}: expected a result of at least one position along each axis, got ${places.join('×')} from ${describe(x)}`,
    );
  const operands = operandsOf(op, x, w, o.bias ?? null, share * groups);
  return { kernel, stride, padding, dilation, groups, crop: more, places, operands };
}
