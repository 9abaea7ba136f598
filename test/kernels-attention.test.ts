// Attention as one kernel: each head by plain loops; the bits, the NaN and the ∞ of the products and the softmax that it stands for.

import assert from 'node:assert/strict';
import { attention, type DType, Generator, grad, randn, type Tensor, tensor, where } from '@otimes/core';
import { MultiHeadAttention } from '@otimes/nn';
import fc from 'fast-check';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { type Bench, check, EPS, FLOATS, lawsOfBoth, mustBeWithin, randoms } from './helpers/kernels.ts';
import { law, property } from './helpers/law.ts';

const lawOfBoth = lawsOfBoth(t);

/** Whether position i of sentence b may attend to position j. */
type Mask = (b: number, i: number, j: number) => boolean;
const MASKS: Record<string, Mask | null> = {
  none: null,
  causal: (_, i, j) => j <= i,
  /** Sentences of different lengths. */
  ends: (b, _, j) => j < 3 + 5 * b,
  window: (_, i, j) => j <= i && j > i - 4,
  scattered: (b, i, j) => (7 * i + 3 * j + b) % 5 > 1,
  'nothing for some': (_, i, j) => i % 3 !== 1 && j <= i,
};
const bytesOf = (mask: Mask, batch: number, t: number, s: number) =>
  Uint8Array.from({ length: batch * t * s }, (_, n) =>
    Number(mask(Math.floor(n / (t * s)), Math.floor(n / s) % t, n % s)),
  );

type Case = { batch: number; heads: number; t: number; s: number; d: number };

/** Result and gradients by plain loops, with the sums of absolute values that bound rounding. */
function plain({ batch, heads, t, s, d }: Case, shows: Mask, [q, k, v, dy]: number[][]) {
  const row = heads * d;
  const [y, dq, dk, dv] = [t, t, s, s].map(n => new Array<number>(batch * n * row).fill(0)) as [
    number[],
    number[],
    number[],
    number[],
  ];
  for (let b = 0; b < batch; b++)
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < t; i++) {
        const at = (n: number, j: number) => (b * n + j) * row + h * d;
        const dot = (a: number[], x: number, c: number[], z: number) => {
          let total = 0;
          for (let n = 0; n < d; n++) total += a[x + n]! * c[z + n]!;
          return total;
        };
        const seen = Array.from({ length: s }, (_, j) => j).filter(j => shows(b, i, j));
        if (seen.length === 0) continue;
        const powers = seen.map(j => Math.exp(dot(q!, at(t, i), k!, at(s, j)) / Math.sqrt(d)));
        const sum = powers.reduce((a, x) => a + x, 0);
        const along = seen.map(j => dot(dy!, at(t, i), v!, at(s, j)));
        const mean = along.reduce((a, x, n) => a + (x * powers[n]!) / sum, 0);
        for (const [n, j] of seen.entries()) {
          const weight = powers[n]! / sum;
          const slope = (weight * (along[n]! - mean)) / Math.sqrt(d);
          for (let c = 0; c < d; c++) {
            y[at(t, i) + c]! += weight * v![at(s, j) + c]!;
            dq[at(t, i) + c]! += slope * k![at(s, j) + c]!;
            dk[at(s, j) + c]! += slope * q![at(t, i) + c]!;
            dv[at(s, j) + c]! += weight * dy![at(t, i) + c]!;
          }
        }
      }
  return [y, dq, dk, dv];
}

const cases = fc.record({
  batch: fc.integer({ min: 1, max: 2 }),
  heads: fc.integer({ min: 1, max: 3 }),
  t: fc.oneof(fc.integer({ min: 1, max: 30 }), fc.constantFrom(64, 261)),
  s: fc.oneof(fc.integer({ min: 1, max: 30 }), fc.constantFrom(64, 270)),
  d: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constantFrom(16, 32)),
  mask: fc.constantFrom('none', 'causal', 'ends', 'window'),
  type: fc.constantFrom(...FLOATS),
});

/** Calls both kernels on operands between guards. */
function called(bench: Bench, { batch, heads, t, s, d }: Case, type: 'f32' | 'f64', mask: Mask | null, x: number[][]) {
  const [row, place] = [heads * d, Math.ceil(s / 8) * 8];
  return bench.with(0, () => {
    const [q, k, v, dy] = x.map(values => bench.put(type, values)) as [number, number, number, number];
    const hides = mask === null ? 0 : bench.put('bool', bytesOf(mask, batch, t, s));
    const w = bench.room(type, batch * heads * t * place);
    const [y, dq, dk, dv] = [t, t, s, s].map(n => bench.room(type, batch * n * row)) as [
      number,
      number,
      number,
      number,
    ];
    const { scratch } = bench;
    const sizes = [batch, heads, t, s, d, row, q, k, v, hides, t * s, w, place] as const;
    bench.call[`attention_${type}`](...sizes, y, scratch);
    bench.call[`attentionBackward_${type}`](...sizes, dy, dq, dk, dv, scratch);
    return [y, dq, dk, dv].map((at, i) => bench.read(type, at, batch * (i < 2 ? t : s) * row));
  });
}

lawOfBoth('attention and its gradients are those of plain loops over each head', bench => {
  check(
    fc.property(cases, ({ mask, type, ...sizes }) => {
      const { batch, heads, t, s, d } = sizes;
      const shows = MASKS[mask]!;
      const x = [t, s, s, t].map((n, i) => randoms(batch * n * heads * d, 11 + i));
      const expected = plain(sizes, shows ?? (() => true), x);
      // A row that sees nothing, which plain loops leave out, is NaN.
      const blind = (b: number, i: number) =>
        shows !== null && !Array.from({ length: s }).some((_, j) => shows(b, i, j));
      if (Array.from({ length: batch * t }).some((_, n) => blind(Math.floor(n / t), n % t))) return;
      const actual = called(bench, sizes, type, shows, x);
      // Elements are below 1, and so are weights, slopes times 4 and their sums over what is seen; gradients add up over t.
      for (const [i, name] of ['result', 'by q', 'by k', 'by v'].entries())
        mustBeWithin(actual[i]!, expected[i]!, () => 16 * (i < 2 ? s : t + d) * EPS[type] + 16 * d * EPS[type], name);
    }),
    60,
  );
  assert.deepEqual(bench.uncalled('attention'), []);
});

// --- what it stands for ---------------------------------------------------------------------------------------------------

/** The same in products and a softmax. */
function composed(q: Tensor, k: Tensor, v: Tensor, heads: number, mask: Tensor | null): Tensor {
  const split = (x: Tensor) => x.reshape([x.shape[0]!, x.shape[1]!, heads, -1]).permute(0, 2, 1, 3);
  const d = q.shape[2]! / heads;
  const scores = split(q)
    .mul(1 / Math.sqrt(d))
    .matmul(split(k).transpose());
  const hides = mask && (mask.rank === 3 ? mask.unsqueeze(1) : mask);
  const weights = (hides === null ? scores : where(hides, scores, -Infinity)).softmax(-1);
  return weights.matmul(split(v)).permute(0, 2, 1, 3).reshape(q.shape);
}

const masked = (mask: Mask | null, batch: number, t: number, s: number) =>
  mask && tensor(bytesOf(mask, batch, t, s), { shape: [batch, t, s], dtype: 'bool' });

/** Result and gradients of both. */
function both(
  { batch, heads, t, s, d }: Case,
  mask: Mask | null,
  dtype: DType,
  seed: number,
  spoil = (x: Tensor) => x,
) {
  const rng = new Generator(seed);
  const make = (n: number) => spoil(randn([batch, n, heads * d], { dtype: dtype as 'float32', rng }));
  const [q, k, v, gy] = [make(t), make(s), make(s), make(t)] as [Tensor, Tensor, Tensor, Tensor];
  const bools = masked(mask, batch, t, s);
  return [attention, composed].map(f => {
    const leaves = [q, k, v].map(x => {
      const leaf = x.detach();
      leaf.requiresGrad = true;
      return leaf;
    });
    const y = f(leaves[0]!, leaves[1]!, leaves[2]!, heads, bools);
    return [y, ...grad(y, leaves, { gy })].map(x => x.dataSync());
  }) as [Float32Array[], Float32Array[]];
}

law(
  t,
  'from 13 positions on attention and its gradients have the bits of the products and the softmax they stand for',
  () => {
    for (const dtype of ['float32', 'float64'] as const)
      for (const [name, mask] of Object.entries(MASKS))
        for (const sizes of [
          { batch: 2, heads: 2, t: 64, s: 64, d: 32 },
          { batch: 1, heads: 3, t: 13, s: 37, d: 5 },
          { batch: 1, heads: 1, t: 520, s: 300, d: 16 },
        ]) {
          const [ours, theirs] = both(sizes, mask, dtype, 3);
          // −0 and 0 are one number: a sum that begins later has lost the sign of an empty one.
          for (const [i, values] of ours.entries())
            for (const [n, x] of values.entries())
              if (x !== theirs[i]![n] && !(Number.isNaN(x) && Number.isNaN(theirs[i]![n])))
                throw new Error(`${dtype}, mask ${name}, output ${i}: at ${n} ${x}, composed ${theirs[i]![n]}`);
        }
  },
);

law(t, 'NaN and ∞ go where products and softmax take them, hidden by a mask or not', () => {
  const spoilt = fc.record({
    sizes: fc.record({
      batch: fc.constant(1),
      heads: fc.constantFrom(1, 2),
      t: fc.integer({ min: 1, max: 20 }),
      s: fc.integer({ min: 1, max: 20 }),
      d: fc.constantFrom(1, 3, 8),
    }),
    mask: fc.constantFrom(...Object.keys(MASKS)),
    dtype: fc.constantFrom('float32', 'float64'),
    seed: fc.nat(1000),
    values: fc.array(fc.constantFrom(Number.NaN, Infinity, -Infinity, 3e38), { minLength: 4, maxLength: 4 }),
    share: fc.constantFrom(0.02, 0.2),
  });
  property(
    spoilt,
    ({ sizes, mask, dtype, seed, values, share }) => {
      const left = [...values];
      const rng = new Generator(seed);
      const spoil = (x: Tensor) => {
        const bad = left.pop()!;
        const data = x.dataSync();
        const dice = randn([data.length], { rng }).dataSync();
        const limit = share === 0.2 ? 1.3 : 2.3;
        return tensor(
          data.map((value, i) => (dice[i]! > limit ? bad : value)),
          { shape: x.shape },
        );
      };
      const [ours, theirs] = both(sizes, MASKS[mask]!, dtype as DType, seed, spoil);
      for (const [i, y] of ours.entries())
        mustBeClose(y, theirs[i]!, dtype === 'float32' ? { rtol: 1e-4, atol: 1e-4 } : {}, `output ${i}`);
    },
    300,
  );
});

law(t, 'who hooks, observes or replaces the dropout of attention sees the weights, and the result stays', () => {
  const rng = new Generator(1);
  const x = randn([2, 5, 4], { rng, dtype: 'float64' });
  const layer = new MultiHeadAttention(4, 2, { rng, dtype: 'float64' });
  const mask = masked(MASKS.causal!, 2, 5, 5)!;
  const plainly = layer.call(x, mask);
  const seen: Tensor[] = [];
  const handle = layer.dropout.onForward((_, __, weights) => void seen.push(weights as Tensor));
  mustBeClose(layer.call(x, mask), plainly);
  assert.deepEqual(
    seen.map(w => w.shape),
    [[2, 2, 5, 5]],
  );
  mustBeClose(seen[0]!.sum(-1).reshape([20]), new Float64Array(20).fill(1));
  handle.remove();
  const half = layer.dropout.substitute(weights => weights.mul(0.5));
  mustBeClose(layer.call(x, mask).sub(layer.o.bias!), plainly.sub(layer.o.bias!).mul(0.5));
  half.remove();
  const dropping = new MultiHeadAttention(4, 2, { dropout: 0.5, rng: new Generator(2), dtype: 'float64' });
  dropping.loadStateDict(layer.stateDict());
  assert.notDeepEqual(dropping.call(x, mask).dataSync(), plainly.dataSync());
  mustBeClose(dropping.eval().call(x, mask), plainly);
});
