/** Attention on the `wasm` backend. */

import { attention as module } from '@otimes/kernels';
import { sizeOf } from '../../../shape.ts';
import type { Operand } from '../../backend.ts';
import * as reference from '../../reference/layers/attention.ts';
import { contextIn, type WasmBackend } from '../index.ts';
import { fill, rowMajor } from '../memory.ts';
import { addressOf, inMemory } from '../region.ts';
import { kernelsOf } from './load.ts';

const kernels = kernelsOf(module, ['attention', 'attentionBackward']);

/** Batch, heads, positions of q and of k, features of a head and of all; and from one mask to the next. */
function sizesOf(q: Operand, k: Operand, mask: Operand | null, heads: number) {
  const [batch, t, features] = q.shape as [number, number, number];
  const s = k.shape[1]!;
  return { batch, t, s, d: features / heads, row: features, next: mask?.shape.length === 3 ? t * s : 0 };
}

export function attention(
  this: WasmBackend,
  q: Operand,
  k: Operand,
  v: Operand,
  mask: Operand | null,
  heads: number,
  weights: Operand,
  out: Operand,
): void {
  const c = contextIn(this);
  if (![weights, out].every(inMemory)) return reference.attention(q, k, v, mask, heads, weights, out);
  const run = kernels(c).attention[out.dtype]!;
  const { batch, t, s, d, row, next } = sizesOf(q, k, mask, heads);
  const [queries, keys, values, hides] = [rowMajor(c, q), rowMajor(c, k), rowMajor(c, v), mask && rowMajor(c, mask)];
  const [pq, pk, pv, pm] = [
    addressOf(queries),
    addressOf(keys),
    addressOf(values),
    hides === null ? 0 : addressOf(hides),
  ];
  const [pw, po, place] = [addressOf(weights), addressOf(out), weights.shape[3]!];
  run(batch, heads, t, s, d, row, pq, pk, pv, pm, next, pw, place, po, c.kernels.scratch);
}

export function attentionGrad(
  this: WasmBackend,
  gy: Operand,
  q: Operand,
  k: Operand,
  v: Operand,
  mask: Operand | null,
  heads: number,
  weights: Operand,
  out: Operand,
  kGrad: Operand,
  vGrad: Operand,
): void {
  const c = contextIn(this);
  if (![weights, out, kGrad, vGrad].every(inMemory))
    return reference.attentionGrad(gy, q, k, v, mask, heads, weights, out, kGrad, vGrad);
  if (sizeOf(out.shape) === 0) {
    for (const one of [kGrad, vGrad]) fill(c, 0, one);
    return;
  }
  const run = kernels(c).attentionBackward[out.dtype]!;
  const { batch, t, s, d, row, next } = sizesOf(q, k, mask, heads);
  const [grads, queries, keys, values] = [rowMajor(c, gy), rowMajor(c, q), rowMajor(c, k), rowMajor(c, v)];
  const hides = mask && rowMajor(c, mask);
  const [pg, pq, pk, pv] = [addressOf(grads), addressOf(queries), addressOf(keys), addressOf(values)];
  const [pm, pw, place] = [hides === null ? 0 : addressOf(hides), addressOf(weights), weights.shape[3]!];
  const [po, pdk, pdv] = [addressOf(out), addressOf(kGrad), addressOf(vGrad)];
  const { scratch } = c.kernels;
  run(batch, heads, t, s, d, row, pq, pk, pv, pm, next, pw, place, pg, po, pdk, pdv, scratch);
}
