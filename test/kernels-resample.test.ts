// Interpolation along an axis: the kernels against plain loops, between guards.

import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { check, EPS, FLOATS, lawsOfBoth, mustBeWithin, randoms } from './helpers/kernels.ts';

const lawOfBoth = lawsOfBoth(t);

const cases = fc.record({
  outer: fc.nat(9),
  length: fc.integer({ min: 1, max: 6 }),
  inner: fc.oneof(fc.constant(1), fc.nat(12)),
  count: fc.nat(7),
  both: fc.boolean(),
  offset: fc.nat(3),
  seed: fc.nat(999),
  type: fc.constantFrom(...FLOATS),
});

lawOfBoth('resample weighs two elements, or takes one, and resampleBackward is its transpose', bench => {
  check(
    fc.property(cases, ({ outer, length, inner, count, both, offset, seed, type }) => {
      const round = (x: number) => (type === 'f32' ? Math.fround(x) : x);
      const [x, dy] = [outer * length * inner, outer * count * inner].map((n, i) => randoms(n, seed + i).map(round));
      const index = (k: number) =>
        randoms(count, seed + k).map(v => Math.min(length - 1, Math.floor(((v + 1) / 2) * length)));
      const [left, right] = [index(2), index(3)];
      const weight = randoms(count, seed + 4).map(v => round((v + 1) / 2));
      const expected = [new Array<number>(dy!.length).fill(0), new Array<number>(x!.length).fill(0)] as const;
      for (let o = 0; o < outer; o++)
        for (let j = 0; j < count; j++)
          for (let i = 0; i < inner; i++) {
            const place = (o * count + j) * inner + i;
            const taps = both
              ? [[left[j]!, 1 - weight[j]!] as const, [right[j]!, weight[j]!] as const]
              : [[left[j]!, 1] as const];
            for (const [k, w] of taps) {
              const from = (o * length + k) * inner + i;
              expected[0][place]! += w * x![from]!;
              expected[1][from]! += w * dy![place]!;
            }
          }
      const actual = bench.with(offset, () => {
        const [px, pg] = [bench.put(type, x!), bench.put(type, dy!)];
        const [pl, pr, pw] = [
          bench.put('i32', left),
          both ? bench.put('i32', right) : 0,
          both ? bench.put(type, weight) : 0,
        ];
        const [y, gx] = [bench.room(type, dy!.length), bench.room(type, x!.length)];
        bench.call[`resample_${type}`](outer, length, inner, count, px, pl, pr, pw, y);
        bench.call[`resampleBackward_${type}`](outer, length, inner, count, pg, pl, pr, pw, gx);
        return [bench.read(type, y, dy!.length), bench.read(type, gx, x!.length)];
      });
      for (const [i, name] of ['result', 'gradient'].entries())
        mustBeWithin(actual[i]!, expected[i]!, () => 2 * (2 + 2 * count) * EPS[type], name);
    }),
    200,
  );
  assert.deepEqual(bench.uncalled('resample'), []);
});
