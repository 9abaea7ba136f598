/** Losses on the reference backend, in float64 and rounded once. */

import type { Operand } from '../../backend.ts';
import { rowMajor } from '../../walk.ts';

const scalarOf = (x: Operand): number => x.storage.array[x.offset]!;

export function crossEntropy(x: Operand, labels: Operand, stats: Operand, scale: number, out: Operand): void {
  const [rows, classes] = x.shape as [number, number];
  const [logits, index, kept] = [rowMajor(x), rowMajor(labels), stats.storage.array];
  let loss = 0;
  for (let r = 0; r < rows; r++) {
    const row = logits.subarray(r * classes, (r + 1) * classes);
    let largest = -Infinity;
    for (const value of row) largest = Math.max(largest, value);
    // A row of −∞ alone gives NaN, as its softmax is.
    if (largest === -Infinity) largest = 0;
    let sum = 0;
    for (const value of row) sum += Math.exp(value - largest);
    kept[stats.offset + 2 * r] = largest;
    kept[stats.offset + 2 * r + 1] = Math.log(sum);
    loss += Math.log(sum) - (row[index[r]!]! - largest);
  }
  out.storage.array[out.offset] = scale * loss;
}

export function crossEntropyGrad(
  gy: Operand,
  x: Operand,
  labels: Operand,
  stats: Operand,
  scale: number,
  out: Operand,
): void {
  const [rows, classes] = x.shape as [number, number];
  const [logits, index, kept, target] = [rowMajor(x), rowMajor(labels), stats.storage.array, out.storage.array];
  const factor = scale * scalarOf(gy);
  for (let r = 0; r < rows; r++) {
    const [largest, logSum] = [kept[stats.offset + 2 * r]!, kept[stats.offset + 2 * r + 1]!];
    for (let c = 0; c < classes; c++) {
      const i = r * classes + c;
      target[i] = factor * (Math.exp(logits[i]! - largest - logSum) - (c === index[r] ? 1 : 0));
    }
  }
}

export function squaredError(a: Operand, b: Operand, scale: number, out: Operand): void {
  const [p, q] = [rowMajor(a), rowMajor(b)];
  let sum = 0;
  for (let i = 0; i < p.length; i++) sum += (p[i]! - q[i]!) ** 2;
  out.storage.array[out.offset] = scale * sum;
}

export function squaredErrorGrad(gy: Operand, a: Operand, b: Operand, scale: number, out: Operand): void {
  const [p, q, target] = [rowMajor(a), rowMajor(b), out.storage.array];
  const factor = scale * scalarOf(gy);
  for (let i = 0; i < p.length; i++) target[i] = factor * (p[i]! - q[i]!);
}
