/** The walk that in-place kernels of the reference backend share. */

import { broadcastStrides, contiguousStrides, isContiguous, sizeOf } from '../../shape.ts';
import { Storage } from '../../storage.ts';
import type { Operand } from '../backend.ts';
import { lastStride, rowMajor, runStep, walkRows } from '../walk.ts';
import type { UpdateLoop } from './rows.ts';

/** `x`, or a copy where it shares the memory of `y` in another order: what is still to be read must not be overwritten. */
export function apart(x: Operand, y: Operand): Operand {
  if (x.storage.array !== y.storage.array || x === y) return x;
  const storage = new Storage(x.storage.backend, x.dtype, rowMajor(x).slice());
  return { storage, dtype: x.dtype, shape: x.shape, strides: contiguousStrides(x.shape), offset: 0 };
}

/** Runs `loop` over all rows of `y`, with `x` broadcast to it. */
export function update(y: Operand, x: Operand, loop: UpdateLoop, by = 1, keep = 1): void {
  const target = y.storage.array;
  const layout = apart(x, y);
  const source = layout.storage.array;
  const size = sizeOf(y.shape);
  const run = runStep(layout, size);
  if (run !== null && isContiguous(y)) {
    loop(target, y.offset, 1, source, layout.offset, run, size, by, keep);
    return;
  }
  const path = { strides: broadcastStrides('assign', layout, y.shape), offset: layout.offset };
  const [stepY, stepX] = [lastStride(y.strides), lastStride(path.strides)];
  const length = y.shape.at(-1) ?? 1;
  walkRows(y.shape, [y, path], (_, at) => loop(target, at[0]!, stepY, source, at[1]!, stepX, length, by, keep));
}
