/** Parts of tensors and repetitions: views wherever strides can say it. */

import { aCount, checkArgument, type Kind, received, axes as someAxes } from '../check.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { arrayLike } from '../fill.ts';
import { broadcastStrides, checkShape, normalizeAxes, normalizeAxis, type Shape } from '../shape.ts';
import { checkTensors, isTensor, type Tensor } from '../tensor.ts';
import { readsLater } from '../values.ts';
import { indexSelect } from './select.ts';
import { concat, narrow, slice } from './slice.ts';
import { clone, expand, flatten, permute, reshape, squeeze, transpose, unsqueeze } from './view.ts';

const lengths: Kind = {
  expected: 'a length, an integer ≥ 1, or an array of lengths',
  is: v => aCount.is(v) || (Array.isArray(v) && v.every(Number.isInteger)),
};

/**
 * Views of `x` along `axis` (default 0), one after the other: each `length` long, the last what is left, or as long as the array
 * says, whose sum is the axis.
 */
export function split(x: Tensor, length: number | readonly number[], axis = 0): Tensor[] {
  checkTensors('split', x);
  checkArgument('split', 'length', length, lengths);
  const a = normalizeAxis('split', axis, x.rank);
  const whole = x.shape[a]!;
  const parts =
    typeof length === 'number'
      ? Array.from({ length: Math.max(1, Math.ceil(whole / length)) }, (_, i) => Math.min(length, whole - i * length))
      : length;
  if (parts.some(n => n < 0) || parts.reduce((sum, n) => sum + n, 0) !== whole)
    throw new ShapeError(
      `split: expected lengths ≥ 0 whose sum is ${whole}, axis ${a} of ${describe(x)}, got [${parts.join(',')}]`,
    );
  let start = 0;
  return parts.map(n => {
    start += n;
    return narrow(x, a, start - n, n);
  });
}

/**
 * Views of `x` along `axis` (default 0): at most `count`, equally long but for the last. As in PyTorch there may be fewer: 5
 * rows in 4 chunks are 2, 2 and 1.
 */
export function chunk(x: Tensor, count: number, axis = 0): Tensor[] {
  checkTensors('chunk', x);
  checkArgument('chunk', 'count', count, aCount);
  const a = normalizeAxis('chunk', axis, x.rank);
  // Of an axis without elements, as many as were wanted.
  if (x.shape[a] === 0) return Array.from({ length: count }, () => narrow(x, a, 0, 0));
  return split(x, Math.ceil(x.shape[a]! / count), a);
}

/** The views of `x` at each index of `axis` (default 0), without that axis. */
export function unbind(x: Tensor, axis = 0): Tensor[] {
  checkTensors('unbind', x);
  const a = normalizeAxis('unbind', axis, x.rank);
  return Array.from({ length: x.shape[a]! }, (_, i) => squeeze(narrow(x, a, i, 1), a));
}

/** A view of `x` from the end to the beginning of one axis, or of several. */
export function flip(x: Tensor, axes: number | readonly number[]): Tensor {
  checkTensors('flip', x);
  if (axes === undefined) checkArgument('flip', 'axes', null, someAxes);
  const all = normalizeAxes('flip', axes, x.rank);
  if (all.length === 0) return x;
  return slice(
    x,
    x.shape.map((_, i) => (all.includes(i) ? [null, null, -1] : null)),
  );
}

const integers: Kind = {
  expected: 'an integer or an array of integers',
  is: v => Number.isInteger(v) || (Array.isArray(v) && v.every(Number.isInteger)),
};

/**
 * `x` moved along axes by as many places as `shifts` says; what leaves at the end comes in at the beginning. Without `axes` the
 * elements move in row-major order. A copy.
 */
export function roll(x: Tensor, shifts: number | readonly number[], axes?: number | readonly number[]): Tensor {
  checkTensors('roll', x);
  checkArgument('roll', 'shifts', shifts, integers);
  const by = typeof shifts === 'number' ? [shifts] : shifts;
  if (axes === undefined) {
    if (by.length !== 1)
      throw new ShapeError(`roll: expected one shift where no axes are given, got [${by.join(',')}]`);
    return reshape(rolled(flatten(x), by[0]!, 0), x.shape);
  }
  checkArgument('roll', 'axes', axes, someAxes);
  const along = typeof axes === 'number' ? [axes] : axes;
  if (along.length !== by.length)
    throw new ShapeError(`roll: expected a shift for each axis, got [${by.join(',')}] and axes [${along.join(',')}]`);
  if (along.length === 0) return clone(x);
  return along.reduce((y, axis, i) => rolled(y, by[i]!, normalizeAxis('roll', axis, x.rank)), x);
}

function rolled(x: Tensor, shift: number, axis: number): Tensor {
  const length = x.shape[axis]!;
  const first = length === 0 ? 0 : ((-shift % length) + length) % length;
  return concat([narrow(x, axis, first, length - first), narrow(x, axis, 0, first)], axis);
}

const repetitions: Kind = {
  expected: 'an array of integers ≥ 0',
  is: v => Array.isArray(v) && v.every(n => Number.isInteger(n) && n >= 0),
};

/**
 * `x` side by side with itself, `repeats[i]` times along axis i, as `torch.tile` and `np.tile`: the shorter of shape and repeats gets
 * leading ones. A copy; a view where no axis longer than 1 is repeated.
 */
export function tile(x: Tensor, repeats: readonly number[]): Tensor {
  checkTensors('tile', x);
  checkArgument('tile', 'repeats', repeats, repetitions);
  const rank = Math.max(x.rank, repeats.length);
  const shape = [...new Array<number>(rank - x.rank).fill(1), ...x.shape];
  const times = [...new Array<number>(rank - repeats.length).fill(1), ...repeats];
  if (times.every((n, i) => n === 1 || shape[i] === 1))
    return expand(
      x,
      shape.map((n, i) => n * times[i]!),
    );
  const wide = expand(
    reshape(
      x,
      shape.flatMap(n => [1, n]),
    ),
    shape.flatMap((n, i) => [times[i]!, n]),
  );
  return reshape(
    wide,
    shape.map((n, i) => n * times[i]!),
  );
}

const counts: Kind = {
  expected: 'an integer ≥ 0, an array of such, or an int32 vector',
  is: v => (Number.isInteger(v) && Number(v) >= 0) || repetitions.is(v) || isTensor(v),
};

/**
 * Each slice along `axis` several times in a row: all of them `repeats` times, or slice i `repeats[i]` times. Without `axis` the
 * elements in row-major order. A copy; a view where strides can say it, as for one time.
 *
 * @throws TypeError for a tensor of counts on a device that is read with await; `await counts.data()` is an array of them
 */
export function repeatInterleave(x: Tensor, repeats: number | ArrayLike<number> | Tensor, axis?: number): Tensor {
  checkTensors('repeatInterleave', x);
  const given = ArrayBuffer.isView(repeats) ? Array.from(repeats as Int32Array) : repeats;
  checkArgument('repeatInterleave', 'repeats', given, counts);
  if (axis === undefined) return repeatInterleave(flatten(x), repeats, 0);
  const a = normalizeAxis('repeatInterleave', axis, x.rank);
  if (typeof given === 'number') {
    const wide = unsqueeze(x, a + 1);
    const shape = x.shape.map((n, i) => (i === a ? n * given : n));
    return reshape(
      expand(
        wide,
        wide.shape.map((n, i) => (i === a + 1 ? given : n)),
      ),
      shape,
    );
  }
  const each = isTensor(given) ? countsOf(given) : Array.from(given);
  if (each.length !== x.shape[a])
    throw new ShapeError(
      `repeatInterleave: expected ${x.shape[a]} counts for axis ${a} of ${describe(x)}, got ${each.length}`,
    );
  const index = Int32Array.from(each.flatMap((n, i) => new Array<number>(n).fill(i)));
  return indexSelect(x, a, arrayLike(x, index, [index.length]));
}

function countsOf(repeats: Tensor): number[] {
  if (repeats.rank !== 1)
    throw new ShapeError(`repeatInterleave: expected a vector of counts, got ${describe(repeats)}`);
  if (repeats.dtype !== 'int32')
    throw new DTypeError(`repeatInterleave: expected int32 counts, got ${describe(repeats)}`);
  if (readsLater(repeats))
    throw new TypeError(
      `repeatInterleave: the shape of the result depends on values, and those on '${repeats.device}' are read with await; ` +
        'repeatInterleave(x, await counts.data(), axis) takes them as an array',
    );
  const all = Array.from(repeats.dataSync());
  const bad = all.find(n => n < 0);
  if (bad !== undefined) throw new RangeError(`repeatInterleave: expected counts ≥ 0, got ${bad}`);
  return all;
}

/** A view with axes `a` and `b` swapped. */
export function swapaxes(x: Tensor, a: number, b: number): Tensor {
  checkTensors('swapaxes', x);
  return transpose(x, normalizeAxis('swapaxes', a, x.rank), normalizeAxis('swapaxes', b, x.rank));
}

/** A view in which axis `source` (or axes) stands in place `destination` (or places); the others keep their order. */
export function movedim(
  x: Tensor,
  source: number | readonly number[],
  destination: number | readonly number[],
): Tensor {
  checkTensors('movedim', x);
  checkArgument('movedim', 'source', source, integers);
  checkArgument('movedim', 'destination', destination, integers);
  const [moved, places] = [source, destination].map(one =>
    (typeof one === 'number' ? [one] : one).map(axis => normalizeAxis('movedim', axis, x.rank)),
  ) as [number[], number[]];
  const distinct = [moved, places].every(all => new Set(all).size === all.length);
  if (moved.length !== places.length || !distinct)
    throw new ShapeError(
      `movedim: expected as many places as axes, each once, got ${received(source)} and ${received(destination)}`,
    );
  const others = x.shape.map((_, i) => i).filter(i => !moved.includes(i));
  return permute(
    x,
    x.shape.map((_, i) => (places.includes(i) ? moved[places.indexOf(i)]! : others.shift()!)),
  );
}

/** A view with axes of length 1, and new leading ones, repeated to `shape`: `expand` by NumPy's name. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  checkTensors('broadcastTo', x);
  broadcastStrides('broadcastTo', x, checkShape('broadcastTo', shape));
  return expand(x, shape);
}
