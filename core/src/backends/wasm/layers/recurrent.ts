/** Recurrent layers on the `wasm` backend. */

import { recurrent as module } from '@otimes/kernels';
import type { Operand, RecurrentCell, RecurrentPass } from '../../backend.ts';
import * as reference from '../../reference/layers/recurrent.ts';
import { type Context, empty } from '../context.ts';
import { contextIn, type WasmBackend } from '../index.ts';
import { rowMajor } from '../memory.ts';
import { addressOf, inMemory } from '../region.ts';
import { kernelsOf } from './load.ts';

const kernels = kernelsOf(module, ['recur', 'recurBackward']);

/** As the kernels number them. */
const CELLS: Record<RecurrentCell, number> = { relu: 0, tanh: 1, lstm: 2, gru: 3 };

/** A packed weight serves all steps; with few steps, or few rows, packing would take longer than it saves. */
const [LEAST_STEPS, LEAST_ROWS] = [2, 3];

/** Memory for a packed matrix of n columns and k rows, whole lines of 32 bytes; null where it is not packed. */
function workFor(c: Context, { dtype }: Operand, steps: number, batch: number, n: number, k: number): Operand | null {
  if (steps < LEAST_STEPS || batch < LEAST_ROWS) return null;
  const line = dtype === 'float64' ? 4 : 8;
  return empty(c, { dtype, shape: [Math.ceil(n / line) * line, k] });
}

const addressOr0 = (x: Operand | null) => (x === null ? 0 : addressOf(x));

export function recur(
  this: WasmBackend,
  p: Operand,
  weight: Operand,
  bias: Operand | null,
  h: Operand,
  c: Operand | null,
  lengths: Operand | null,
  saved: Operand,
  before: Operand,
  pass: RecurrentPass,
  out: Operand,
): void {
  const context = contextIn(this);
  const { cell, reverse } = pass;
  if (![saved, before, out].every(inMemory))
    return reference.recur(p, weight, bias, h, c, lengths, saved, before, pass, out);
  const run = kernels(context).recur[out.dtype]!;
  const [steps, batch, width] = p.shape as [number, number, number];
  const hidden = weight.shape[1]!;
  const own = (x: Operand | null) => x && rowMajor(context, x);
  const [products, w, b, h0, c0, ends] = [own(p)!, own(weight)!, own(bias), own(h)!, own(c), own(lengths)];
  const work = workFor(context, weight, steps, batch, width, hidden);
  const strideOf = (x: Operand) => (x.shape[0] === steps ? batch * x.shape[2]! : 0);
  const [pp, pw, pb, ph, pc] = [addressOf(products), addressOf(w), addressOr0(b), addressOf(h0), addressOr0(c0)];
  const [pl, ps, pq, po, pk] = [
    addressOr0(ends),
    addressOf(saved),
    addressOf(before),
    addressOf(out),
    addressOr0(work),
  ];
  const [s, q] = [strideOf(saved), strideOf(before)];
  const { scratch } = context.kernels;
  run(CELLS[cell], reverse ? 1 : 0, steps, batch, hidden, pp, pw, pb, ph, pc, pl, ps, s, pq, q, po, pk, scratch);
}

export function recurGrad(
  this: WasmBackend,
  gy: Operand,
  weight: Operand,
  lengths: Operand | null,
  saved: Operand,
  before: Operand,
  pass: RecurrentPass,
  out: Operand,
  products: Operand | null,
  hGrad: Operand,
  cGrad: Operand | null,
): void {
  const context = contextIn(this);
  const { cell, reverse } = pass;
  const written = [out, hGrad, ...(products === null ? [] : [products]), ...(cGrad === null ? [] : [cGrad])];
  if (![saved, before, ...written].every(inMemory))
    return reference.recurGrad(gy, weight, lengths, saved, before, pass, out, products, hGrad, cGrad);
  const run = kernels(context).recurBackward[out.dtype]!;
  const [steps, batch, width] = out.shape as [number, number, number];
  const hidden = weight.shape[1]!;
  const [grads, w, ends] = [rowMajor(context, gy), rowMajor(context, weight), lengths && rowMajor(context, lengths)];
  const work = workFor(context, weight, steps, batch, hidden, width);
  const [pg, pw, pl, ps, pq] = [addressOf(grads), addressOf(w), addressOr0(ends), addressOf(saved), addressOf(before)];
  const [po, pp, ph, pc, pk] = [
    addressOf(out),
    addressOr0(products),
    addressOf(hGrad),
    addressOr0(cGrad),
    addressOr0(work),
  ];
  const { scratch } = context.kernels;
  run(CELLS[cell], reverse ? 1 : 0, steps, batch, hidden, pg, pw, pl, ps, pq, po, pp, ph, pc, pk, scratch);
}
