/** Orders of elements on the `wasm` backend. */

import { order as module } from '@otimes/kernels';
import { sizeOf } from '../../../shape.ts';
import type { Operand } from '../../backend.ts';
import * as reference from '../../reference/layers/order.ts';
import { empty } from '../context.ts';
import { contextIn, type WasmBackend } from '../index.ts';
import { rowMajor, spanOf } from '../memory.ts';
import { addressOf, inMemory } from '../region.ts';
import { kernelsOf } from './load.ts';

const kernels = kernelsOf(module, ['sortWork', 'argsort', 'topk']);

export function argsort(this: WasmBackend, x: Operand, axis: number, descending: boolean, out: Operand): void {
  const c = contextIn(this);
  const run = kernels(c).argsort[x.dtype];
  if (run === undefined || !inMemory(out)) return reference.argsort(x, axis, descending, out);
  if (sizeOf(out.shape) === 0) return;
  const { outer, length, inner } = spanOf(x.shape, [axis])!;
  const bytes = kernels(c).sortWork[x.dtype]!(length);
  const work = empty(c, { dtype: 'float64', shape: [Math.ceil(bytes / 8)] });
  const source = rowMajor(c, x);
  run(outer, length, inner, addressOf(source), descending ? 1 : 0, addressOf(out), addressOf(work));
}

/** Many of a row, in the order of all of it, are the sort's. */
const MOST = 128;

export function topk(this: WasmBackend, x: Operand, axis: number, largest: boolean, out: Operand): void {
  const c = contextIn(this);
  const run = kernels(c).topk[x.dtype];
  const k = out.shape[axis]!;
  if (run === undefined || !inMemory(out)) return reference.topk(x, axis, largest, out);
  if (sizeOf(out.shape) === 0) return;
  if (k > MOST) {
    const all = empty(c, { dtype: 'int32', shape: x.shape });
    argsort.call(this, x, axis, largest, all);
    this.copy({ ...all, shape: out.shape }, out);
    return;
  }
  const { outer, length, inner } = spanOf(x.shape, [axis])!;
  const work = empty(c, { dtype: 'float64', shape: [2 * k] });
  const source = rowMajor(c, x);
  run(outer, length, inner, k, addressOf(source), largest ? 1 : 0, addressOf(out), addressOf(work));
}
