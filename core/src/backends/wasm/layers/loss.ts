/** Losses over a batch on the `wasm` backend. */

import { sizeOf } from '../../../shape.ts';
import type { Operand } from '../../backend.ts';
import * as reference from '../../reference/layers/loss.ts';
import type { Context } from '../context.ts';
import { rowMajor } from '../memory.ts';
import { addressOf, inMemory } from '../region.ts';

export function crossEntropy(
  c: Context,
  x: Operand,
  labels: Operand,
  stats: Operand,
  scale: number,
  out: Operand,
): void {
  if (!inMemory(stats)) return reference.crossEntropy(x, labels, stats, scale, out);
  const [logits, index] = [rowMajor(c, x), rowMajor(c, labels)];
  const [rows, classes] = x.shape as [number, number];
  const run = c.other.crossEntropy[x.dtype]!;
  const loss = run(rows, classes, addressOf(logits), addressOf(index), addressOf(stats));
  out.storage.array[out.offset] = scale * loss;
}

export function crossEntropyGrad(
  c: Context,
  gy: Operand,
  x: Operand,
  labels: Operand,
  stats: Operand,
  scale: number,
  out: Operand,
): void {
  if (!inMemory(stats) || !inMemory(out)) return reference.crossEntropyGrad(gy, x, labels, stats, scale, out);
  const [logits, index] = [rowMajor(c, x), rowMajor(c, labels)];
  const [rows, classes] = x.shape as [number, number];
  const factor = scale * scalarOf(gy);
  const run = c.other.crossEntropyBackward[x.dtype]!;
  run(rows, classes, addressOf(logits), addressOf(index), addressOf(stats), factor, addressOf(out));
}

export function squaredError(c: Context, a: Operand, b: Operand, scale: number, out: Operand): void {
  const [left, right] = [rowMajor(c, a), rowMajor(c, b)];
  const sum = c.other.squaredError[a.dtype]!(sizeOf(a.shape), addressOf(left), addressOf(right));
  out.storage.array[out.offset] = scale * sum;
}

export function squaredErrorGrad(c: Context, gy: Operand, a: Operand, b: Operand, scale: number, out: Operand): void {
  if (!inMemory(out)) return reference.squaredErrorGrad(gy, a, b, scale, out);
  const [left, right] = [rowMajor(c, a), rowMajor(c, b)];
  const factor = scale * scalarOf(gy);
  const run = c.other.squaredErrorBackward[a.dtype]!;
  run(sizeOf(a.shape), addressOf(left), addressOf(right), factor, addressOf(out));
}

/** The element of a tensor of one. */
const scalarOf = (x: Operand): number => x.storage.array[x.offset]!;
