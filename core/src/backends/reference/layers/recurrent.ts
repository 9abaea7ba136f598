/** Recurrent layers on the reference backend: unit by unit, each sum in float64. */

import type { TypedArray } from '../../../dtype.ts';
import type { Operand, RecurrentPass } from '../../backend.ts';
import { rowMajor } from '../../walk.ts';

const logistic = (x: number) => 1 / (1 + Math.exp(-x));

/** The steps in the order in which they run, with the sequences that take part in each. */
function* stepsOf(steps: number, batch: number, { reverse }: RecurrentPass, lengths: Operand | null) {
  const ends = lengths && rowMajor(lengths);
  for (let s = 0; s < steps; s++) {
    const t = reverse ? steps - 1 - s : s;
    yield { t, active: Array.from({ length: batch }, (_, b) => ends === null || ends[b]! > t) };
  }
}

/** Where what belongs to sequence b at step t begins; a tensor for one step has the last one. */
const placeIn = (x: Operand, steps: number) => (t: number, b: number) =>
  x.offset + ((x.shape[0] === steps ? t : 0) * x.shape[1]! + b) * x.shape[2]!;

export function recur(
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
  const [steps, batch, width] = p.shape as [number, number, number];
  const n = weight.shape[1]!;
  const [ps, ws, bs] = [rowMajor(p), rowMajor(weight), bias && rowMajor(bias)];
  const [ys, kept, befores] = [out.storage.array, saved.storage.array, before.storage.array];
  const [at, savedAt, beforeAt] = [
    placeIn({ ...out, shape: [steps, batch, n] }, steps),
    placeIn(saved, steps),
    placeIn(before, steps),
  ];
  ys.set(rowMajor(h), at(steps, 0));
  if (c !== null) ys.set(rowMajor(c), at(steps + 1, 0));
  for (const { t, active } of stepsOf(steps, batch, pass, lengths))
    for (let b = 0; b < batch; b++) {
      const [state, memory] = [at(steps, b), at(steps + 1, b)];
      befores.set(ys.slice(state, state + n), beforeAt(t, b));
      // [gate · n + unit]
      const sums = Float64Array.from({ length: width }, (_, row) => {
        let sum = bs === null ? 0 : bs[row]!;
        for (let j = 0; j < n; j++) sum += ws[row * n + j]! * ys[state + j]!;
        return sum;
      });
      if (!active[b]) {
        ys.fill(0, at(t, b), at(t, b) + n);
        kept.fill(0, savedAt(t, b), savedAt(t, b) + saved.shape[2]!);
        continue;
      }
      const x = Float64Array.from({ length: width }, (_, i) => ps[(t * batch + b) * width + i]!);
      for (let j = 0; j < n; j++) {
        const gate = (k: number) => x[k * n + j]! + sums[k * n + j]!;
        const keep = (...values: number[]) =>
          values.forEach((value, k) => {
            kept[savedAt(t, b) + k * n + j] = value;
          });
        let y: number;
        if (pass.cell === 'lstm') {
          const [i, f, g, o] = [logistic(gate(0)), logistic(gate(1)), Math.tanh(gate(2)), logistic(gate(3))];
          const old = ys[memory + j]!;
          const fresh = f * old + i * g;
          keep(i, f, g, o, old, Math.tanh(fresh));
          ys[memory + j] = fresh;
          y = o * Math.tanh(fresh);
        } else if (pass.cell === 'gru') {
          const [r, z, q] = [logistic(gate(0)), logistic(gate(1)), sums[2 * n + j]!];
          const fresh = Math.tanh(x[2 * n + j]! + r * q);
          keep(r, z, q, fresh);
          y = fresh + z * (ys[state + j]! - fresh);
        } else {
          y = pass.cell === 'tanh' ? Math.tanh(gate(0)) : Math.max(0, gate(0));
          keep(y);
        }
        ys[at(t, b) + j] = y;
      }
      ys.copyWithin(state, at(t, b), at(t, b) + n);
    }
}

/** The gradients by the products of the input and of the state, gate by gate, and what goes past them to h and c. */
function unitGrad(
  { cell }: RecurrentPass,
  saved: TypedArray,
  at: (k: number) => number,
  before: number,
  d: number,
  dc: number,
): { p: number[]; q: number[]; h: number; c: number } {
  const kept = (k: number) => saved[at(k)]!;
  if (cell === 'lstm') {
    const [i, f, g, o, old, top] = [kept(0), kept(1), kept(2), kept(3), kept(4), kept(5)];
    const all = dc + d * o * (1 - top * top);
    const p = [all * g * i * (1 - i), all * old * f * (1 - f), all * i * (1 - g * g), d * top * o * (1 - o)];
    return { p, q: p, h: 0, c: all * f };
  }
  if (cell === 'gru') {
    const [r, z, q, fresh] = [kept(0), kept(1), kept(2), kept(3)];
    const dn = d * (1 - z) * (1 - fresh * fresh);
    const [dr, dz] = [dn * q * r * (1 - r), d * (before - fresh) * z * (1 - z)];
    return { p: [dr, dz, dn], q: [dr, dz, dn * r], h: d * z, c: 0 };
  }
  const y = kept(0);
  const p = [cell === 'tanh' ? d * (1 - y * y) : y > 0 ? d : 0];
  return { p, q: p, h: 0, c: 0 };
}

export function recurGrad(
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
  const [steps, batch, width] = out.shape as [number, number, number];
  const n = weight.shape[1]!;
  const [gs, ws] = [rowMajor(gy), rowMajor(weight)];
  const [kept, befores] = [saved.storage.array, before.storage.array];
  const [savedAt, beforeAt] = [placeIn(saved, steps), placeIn(before, steps)];
  const size = batch * n;
  const dh = Float64Array.from(gs.subarray(steps * size, (steps + 1) * size));
  const dc = Float64Array.from({ length: size }, (_, i) => (cGrad === null ? 0 : gs[(steps + 1) * size + i]!));
  const [ps, qs] = [new Float64Array(steps * batch * width), new Float64Array(steps * batch * width)];
  for (const { t, active } of [...stepsOf(steps, batch, pass, lengths)].reverse())
    for (let b = 0; b < batch; b++) {
      if (!active[b]) continue;
      const row = (t * batch + b) * width;
      for (let j = 0; j < n; j++) {
        const unit = b * n + j;
        const d = gs[t * size + unit]! + dh[unit]!;
        const old = befores[beforeAt(t, b) + j]!;
        const grads = unitGrad(pass, kept, k => savedAt(t, b) + k * n + j, old, d, dc[unit]!);
        for (const [k, value] of grads.p.entries()) ps[row + k * n + j] = value;
        for (const [k, value] of grads.q.entries()) qs[row + k * n + j] = value;
        dh[unit] = grads.h;
        dc[unit] = grads.c;
      }
      for (let i = 0; i < width; i++) for (let j = 0; j < n; j++) dh[b * n + j]! += qs[row + i]! * ws[i * n + j]!;
    }
  for (const [x, values] of [[out, ps] as const, [products, qs] as const, [hGrad, dh] as const, [cGrad, dc] as const])
    x?.storage.array.set(values, x.offset);
}
