/** Attention on the reference backend: each head by itself, each sum in float64. */

import type { TypedArray } from '../../../dtype.ts';
import type { Operand } from '../../backend.ts';
import { rowMajor } from '../../walk.ts';

type Head = {
  /** Of q, k and v: where position i begins. */
  readonly of: (i: number, length: number) => number;
  /** Of the weights: where the row of query i begins. */
  readonly row: (i: number) => number;
  readonly visible: (i: number, j: number) => boolean;
};

/** Sizes, and what each head has where. */
function headsOf(q: Operand, k: Operand, mask: Operand | null, heads: number, weights: Operand) {
  const [batch, t, features] = q.shape as [number, number, number];
  const s = k.shape[1]!;
  const place = weights.shape[3]!;
  const allowed = mask && rowMajor(mask);
  const each = (run: (head: Head) => void) => {
    for (let b = 0; b < batch; b++)
      for (let h = 0; h < heads; h++)
        run({
          of: (i, length) => (b * length + i) * features + (h * features) / heads,
          row: i => weights.offset + ((b * heads + h) * t + i) * place,
          visible: (i, j) => allowed === null || allowed[((mask!.shape.length === 3 ? b * t : 0) + i) * s + j] !== 0,
        });
  };
  return { t, s, d: features / heads, each };
}

function dot(n: number, a: TypedArray, i: number, b: TypedArray, j: number): number {
  let total = 0;
  for (let c = 0; c < n; c++) total += a[i + c]! * b[j + c]!;
  return total;
}

export function attention(
  q: Operand,
  k: Operand,
  v: Operand,
  mask: Operand | null,
  heads: number,
  weights: Operand,
  out: Operand,
): void {
  const [qs, ks, vs] = [rowMajor(q), rowMajor(k), rowMajor(v)];
  const [ws, ys] = [weights.storage.array, out.storage.array];
  const { t, s, d, each } = headsOf(q, k, mask, heads, weights);
  each(({ of, row, visible }) => {
    for (let i = 0; i < t; i++) {
      const scores = Float64Array.from({ length: s }, (_, j) =>
        visible(i, j) ? dot(d, qs, of(i, t), ks, of(j, s)) / Math.sqrt(d) : -Infinity,
      );
      const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
      const powers = scores.map(x => Math.exp(x - (largest === -Infinity ? 0 : largest)));
      const total = powers.reduce((a, b) => a + b, 0);
      for (let j = 0; j < s; j++) ws[row(i) + j] = powers[j]! / total;
      for (let c = 0; c < d; c++) {
        let y = 0;
        for (let j = 0; j < s; j++) y += ws[row(i) + j]! * vs[of(j, s) + c]!;
        ys[out.offset + of(i, t) + c] = y;
      }
    }
  });
}

export function attentionGrad(
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
  const [gs, qs, ks, vs] = [rowMajor(gy), rowMajor(q), rowMajor(k), rowMajor(v)];
  const ws = weights.storage.array;
  const { t, s, d, each } = headsOf(q, k, mask, heads, weights);
  const [gq, gk, gv] = [qs, ks, vs].map(x => new Float64Array(x.length)) as [Float64Array, Float64Array, Float64Array];
  each(({ of, row, visible }) => {
    for (let i = 0; i < t; i++) {
      const along = Float64Array.from({ length: s }, (_, j) => dot(d, gs, of(i, t), vs, of(j, s)));
      let mean = 0;
      for (let j = 0; j < s; j++) mean += along[j]! * ws[row(i) + j]!;
      for (let j = 0; j < s; j++) {
        const slope = visible(i, j) ? (ws[row(i) + j]! * (along[j]! - mean)) / Math.sqrt(d) : 0;
        for (let c = 0; c < d; c++) {
          gq[of(i, t) + c]! += slope * ks[of(j, s) + c]!;
          gk[of(j, s) + c]! += slope * qs[of(i, t) + c]!;
          gv[of(j, s) + c]! += ws[row(i) + j]! * gs[of(i, t) + c]!;
        }
      }
    }
  });
  for (const [x, values] of [[out, gq] as const, [kGrad, gk] as const, [vGrad, gv] as const])
    x.storage.array.set(values, x.offset);
}
