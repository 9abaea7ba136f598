/** Padding of the ends of axes: with a constant, or with what lies inside. */

import { aNumber, checkArgument, checkOptions, oneOf, received } from '../check.ts';
import { describe, ShapeError } from '../errors.ts';
import { emptyLike } from '../fill.ts';
import { defineOp, type Op } from '../op.ts';
import { owningIntermediates } from '../scope.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { pad as padConstant } from './slice.ts';
import { clone } from './view.ts';

/** What stands beyond the ends: see `pad`. */
export type PadMode = 'constant' | 'reflect' | 'replicate' | 'circular';

/** `mode` defaults to 'constant', `value` to 0. */
export type PadOptions = { mode?: PadMode; value?: number };

type Ends = { readonly axis: number; readonly before: number; readonly after: number; readonly mode: PadMode };

/** Places `start`, `start + step`, … of `axis`; with a step of 0 the same one `count` times. */
function places(x: Tensor, axis: number, start: number, step: number, count: number): Tensor {
  const [shape, strides] = [[...x.shape], [...x.strides]];
  shape[axis] = count;
  strides[axis] = step * x.strides[axis]!;
  return x.make(x.storage, shape, strides, x.offset + start * x.strides[axis]!);
}

/** Of an axis of that length, those that stand before it and those behind it: [first place, step, how many]. */
function sourcesOf(length: number, { before, after, mode }: Ends): readonly (readonly [number, number, number])[] {
  if (mode === 'reflect')
    return [
      [before, -1, before],
      [length - 2, -1, after],
    ];
  if (mode === 'circular')
    return [
      [length - before, 1, before],
      [0, 1, after],
    ];
  return [
    [0, 0, before],
    [length - 1, 0, after],
  ];
}

/** One axis with its ends. */
const padAxis: Op<Ends> = defineOp<Ends>({
  name: 'pad',
  shape: ([x], { axis, before, after }) => ({
    shape: x!.shape.map((n, i) => (i === axis ? before + n + after : n)),
    dtype: x!.dtype,
  }),
  forward(backend, [x], out, ends) {
    const { axis, before } = ends;
    const length = x!.shape[axis]!;
    backend.assign(places(out, axis, before, 1, length), x!);
    sourcesOf(length, ends).forEach(([first, step, count], i) => {
      if (count === 0) return;
      const to = places(out, axis, i === 0 ? 0 : before + length, 1, count);
      backend.assign(to, places(x!, axis, first, step, count));
    });
  },
  backward: (gy, { attrs }) => [foldAxis([gy], attrs)],
});

/** The adjoint: each end is added to where its elements came from. */
const foldAxis: Op<Ends> = defineOp<Ends>({
  name: 'padGrad',
  shape: ([gy], { axis, before, after }) => ({
    shape: gy!.shape.map((n, i) => (i === axis ? n - before - after : n)),
    dtype: gy!.dtype,
  }),
  forward(backend, [gy], out, ends) {
    const { axis, before } = ends;
    const length = out.shape[axis]!;
    backend.assign(out, places(gy!, axis, before, 1, length));
    sourcesOf(length, ends).forEach(([first, step, count], i) => {
      if (count === 0) return;
      let end = places(gy!, axis, i === 0 ? 0 : before + length, 1, count);
      if (step === 0) {
        const total = emptyLike(
          out,
          out.shape.map((n, j) => (j === axis ? 1 : n)),
        );
        backend.reduce('sum', end, [axis], total);
        end = total;
      }
      backend.addScaled(places(out, axis, first, step, end.shape[axis]!), end, 1, 1);
    });
  },
  backward: (ggx, { attrs }) => [padAxis([ggx], attrs)],
});

/**
 * `x` with more elements at the ends of its axes: `pads[i]` = [before, after] for axis i; missing trailing axes get none. `mode` says
 * what they are: 'constant' is `value`; 'reflect' is what lies inside, mirrored at the first and the last element, which are not
 * repeated; 'replicate' repeats these; 'circular' goes on at the other end. As torch.nn.functional.pad, which counts axes from the last.
 *
 * @throws ShapeError where the axis is too short: reflect pads must be less than its length, circular ones at most that
 */
export function pad(x: Tensor, pads: readonly (readonly [number, number])[], o: PadOptions = {}): Tensor {
  checkTensors('pad', x);
  checkOptions('pad', o, { mode: oneOf('constant', 'reflect', 'replicate', 'circular'), value: aNumber });
  const { mode = 'constant', value } = o;
  if (mode === 'constant') return padConstant(x, pads, value);
  if (value !== undefined)
    checkArgument('pad', 'value', value, { expected: `left out in mode '${mode}'`, is: () => false });
  const isPair = (pair: unknown) =>
    Array.isArray(pair) && pair.length === 2 && pair.every(p => Number.isInteger(p) && p >= 0);
  if (!Array.isArray(pads) || pads.length > x.rank || !pads.every(isPair))
    throw new ShapeError(`pad: expected at most ${x.rank} pairs of integers ≥ 0, got ${received(pads)}`);
  const most = { reflect: -1, circular: 0, replicate: Infinity }[mode];
  const all = pads.flatMap(([before, after], axis): Ends[] => {
    const length = x.shape[axis]!;
    const widest = Math.max(before, after);
    if (widest > 0 && (length === 0 || widest > length + most))
      throw new ShapeError(
        `pad: mode '${mode}' adds at most ${length === 0 ? 0 : length + most} elements at an end of axis ${axis} of ${describe(x)}, got ` +
          `[${before}, ${after}]`,
      );
    return widest === 0 ? [] : [{ axis, before, after, mode }];
  });
  // The last axis first, while the others are short.
  return all.length === 0 ? clone(x) : owningIntermediates(() => all.reduceRight((y, ends) => padAxis([y], ends), x));
}
