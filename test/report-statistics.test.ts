/** The statistics of reports: medians and ratios of times to a target, some of which were missed, paired over seeds. */

import assert from 'node:assert/strict';
import { Generator } from '@otimes/core';
import fc from 'fast-check';
import t from 'tap';
import { median } from '../experiments/src/quantile.ts';
import {
  type Pair,
  pairedRatio,
  sideOf,
  signTest,
  smallestP,
  spread,
  spreadOf,
  type Time,
  wins,
} from '../experiments/src/report/statistics.ts';
import { law, property } from './helpers/law.ts';

const close = (a: number, b: number, what = ''): void =>
  assert.ok(a === b || Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b)), `${what}: ${a}, expected ${b}`);
const reached = (value: number): Time => ({ value, missed: false });
const missed = (value: number): Time => ({ value, missed: true });
/** Few resamples: what holds, holds for any number. */
const FEW = { resamples: 200 };

const value = fc.double({ min: 1e-3, max: 1e3, noNaN: true });
const time: fc.Arbitrary<Time> = fc.record({ value, missed: fc.boolean() });
const pairsOf = (one: fc.Arbitrary<Time>, minLength = 1): fc.Arbitrary<Pair[]> =>
  fc.array(fc.record({ a: one, b: one }), { minLength, maxLength: 7 });
const finite = pairsOf(value.map(reached));
const scaled = ({ value, missed }: Time, by: number): Time => ({ value: by * value, missed });

// --- spread ---

law(t, 'the median is the middle value, or the mean of both; misses are larger than all', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(median([1, Infinity, 2]), 2);
  assert.equal(median([1, Infinity, Infinity]), Infinity);
  assert.equal(median([1, Infinity]), Infinity);
  assert.equal(median([]), Number.NaN);
});

law(t, 'half of the values lie on each side of the median, in whatever order they come', () =>
  property(fc.array(value, { minLength: 1, maxLength: 9 }), values => {
    const middle = median(values);
    assert.ok(2 * values.filter(x => x < middle).length <= values.length);
    assert.ok(2 * values.filter(x => x > middle).length <= values.length);
    assert.equal(median([...values].reverse()), middle);
  }),
);

law(t, 'mean and deviation are those of the sample, from 3 values on, and never of one with a miss', () => {
  const { mean, sd, min, max, n, misses } = spreadOf([2, 4, 9]);
  assert.deepEqual([n, misses, min, max, mean], [3, 0, 2, 9, 5]);
  close(sd!, Math.sqrt((9 + 1 + 16) / 2));
  for (const times of [
    [reached(1), reached(2)],
    [reached(1), reached(2), missed(3)],
  ])
    assert.deepEqual([spread(times).mean, spread(times).sd], [null, null]);
});

law(t, 'censoring is monotone: a miss in the place of a time lowers no number of the spread, and no ratio', () =>
  property(fc.tuple(finite, fc.nat(6)), ([pairs, i]) => {
    const censored = pairs.map((pair, k) => (k === i % pairs.length ? { ...pair, a: missed(pair.a.value) } : pair));
    const [before, after] = [pairs, censored].map(list => spread(list.map(({ a }) => a)));
    for (const key of ['median', 'min', 'max'] as const) assert.ok(after![key] >= before![key], key);
    const [exact, bounded] = [pairedRatio(pairs, FEW), pairedRatio(censored, FEW)];
    assert.equal(bounded.bound, 'at least');
    close(bounded.value!, exact.value!);
    if (exact.interval !== null) assert.deepEqual(bounded.interval, [exact.interval[0], Infinity]);
    assert.ok(wins(censored).won <= wins(pairs).won);
  }),
);

// --- ratios ---

law(t, 'a ratio is a geometric mean over seeds', () => {
  const pairs = [1, 2, 4].map(a => ({ a: reached(a), b: reached(1) }));
  close(pairedRatio(pairs).value!, 2);
});

law(t, 'scales: the unit does not matter, and a contender c times as slow has c times the ratio and the interval', () =>
  property(fc.tuple(finite, value), ([pairs, c]) => {
    const ratio = pairedRatio(pairs, FEW);
    const both = pairedRatio(
      pairs.map(({ a, b }) => ({ a: scaled(a, c), b: scaled(b, c) })),
      FEW,
    );
    const one = pairedRatio(
      pairs.map(({ a, b }) => ({ a: scaled(a, c), b })),
      FEW,
    );
    close(both.value!, ratio.value!, 'unit');
    close(one.value!, c * ratio.value!, 'scale');
    for (const k of [0, 1] as const)
      if (ratio.interval !== null) close(one.interval![k], c * ratio.interval[k], 'interval');
  }),
);

law(t, 'pairing: what a seed does to both contenders changes nothing, and nothing depends on the order of seeds', () =>
  property(
    fc.tuple(pairsOf(value.map(reached), 2), fc.array(value, { minLength: 7, maxLength: 7 })),
    ([pairs, luck]) => {
      const hard = pairs.map(({ a, b }, i) => ({ a: scaled(a, luck[i]!), b: scaled(b, luck[i]!) }));
      const [ratio, other] = [pairedRatio(pairs, FEW), pairedRatio(hard, FEW)];
      close(other.value!, ratio.value!);
      for (const k of [0, 1] as const) close(other.interval![k], ratio.interval![k]);
      close(pairedRatio([...pairs].reverse(), FEW).value!, ratio.value!);
      const sign = ({ won, lost }: ReturnType<typeof wins>) => [won, lost];
      assert.deepEqual(sign(wins([...pairs].reverse())), sign(wins(pairs)));
    },
  ),
);

law(t, 'the ratio the other way round is its inverse, with interval, bound and wins turned over', () =>
  property(pairsOf(time), pairs => {
    const turned = pairs.map(({ a, b }) => ({ a: b, b: a }));
    const [ratio, other] = [pairedRatio(pairs, FEW), pairedRatio(turned, FEW)];
    const bounds = { 'at least': 'at most', 'at most': 'at least', exact: 'exact', unknown: 'unknown' } as const;
    assert.equal(other.bound, bounds[ratio.bound]);
    assert.equal(other.value === null, ratio.value === null);
    if (ratio.value !== null) close(other.value!, 1 / ratio.value);
    if (ratio.interval !== null) {
      close(other.interval![0], 1 / ratio.interval[1], 'low');
      close(other.interval![1], 1 / ratio.interval[0], 'high');
    }
    const [forth, back] = [wins(pairs), wins(turned)];
    assert.deepEqual([back.won, back.lost, back.tied, back.p], [forth.lost, forth.won, forth.tied, forth.p]);
  }),
);

law(t, 'the value lies in its interval, and the same seed gives the same interval', () =>
  property(pairsOf(value.map(reached), 2), pairs => {
    const { value, interval } = pairedRatio(pairs, { resamples: 1000 });
    assert.ok(interval![0] <= value! * (1 + 1e-9) && value! <= interval![1] * (1 + 1e-9), `${value} in ${interval}`);
    assert.deepEqual(pairedRatio(pairs, { resamples: 1000 }).interval, interval);
  }),
);

law(t, 'a contender beside itself: exactly 1, an interval of that alone, nothing won', () => {
  const pairs = [3, 5, 8].map(x => ({ a: reached(x), b: reached(x) }));
  assert.deepEqual(pairedRatio(pairs), { n: 3, value: 1, bound: 'exact', interval: [1, 1] });
  assert.deepEqual(wins(pairs), { won: 0, lost: 0, tied: 3, p: 1 });
  assert.equal(sideOf(pairedRatio(pairs)), 'neither');
});

law(t, 'one seed has a ratio and no interval; none has neither; misses of both leave no ratio', () => {
  assert.deepEqual(pairedRatio([{ a: reached(1), b: reached(2) }]), {
    n: 1,
    value: 0.5,
    bound: 'exact',
    interval: null,
  });
  assert.deepEqual(pairedRatio([]), { n: 0, value: null, bound: 'unknown', interval: null });
  const both = [
    { a: missed(1), b: reached(2) },
    { a: reached(1), b: missed(2) },
  ];
  assert.deepEqual(pairedRatio(both), { n: 2, value: null, bound: 'unknown', interval: null });
  const [only] = both;
  assert.deepEqual(wins([only!, { a: missed(1), b: missed(1) }]), { won: 0, lost: 1, tied: 1, p: 1 });
});

law(t, 'a ratio lies below or above 1 where its whole interval does', () => {
  const at = (...as: number[]) => sideOf(pairedRatio(as.map(a => ({ a: reached(a), b: reached(1) }))));
  assert.deepEqual([at(0.5, 0.6, 0.7), at(2, 3, 4), at(0.5, 2, 1), at(0.5)], ['below', 'above', 'neither', 'neither']);
});

/** How often the interval of n pairs with a log ratio of .2 ± 1 contains what is true, in so many simulations. */
function coverage(n: number, simulations: number): number {
  const rng = new Generator(7);
  let covered = 0;
  for (let k = 0; k < simulations; k++) {
    const pairs = Array.from({ length: n }, () => {
      // What is common to both is large: unpaired, nothing would be seen.
      const seed = 3 * rng.normal();
      return { a: reached(Math.exp(seed + 0.2 + rng.normal())), b: reached(Math.exp(seed)) };
    });
    const [low, high] = pairedRatio(pairs, { resamples: 1000, seed: k }).interval!;
    if (low <= Math.exp(0.2) && Math.exp(0.2) <= high) covered++;
  }
  return covered / simulations;
}

law(t, 'coverage: of 40 seeds the 95 % interval contains the truth about so often, of 5 seeds clearly less', () => {
  const [many, few] = [coverage(40, 300), coverage(5, 300)];
  assert.ok(many >= 0.91 && many <= 0.98, `40 seeds: ${many}`);
  assert.ok(few >= 0.75 && few <= 0.9, `5 seeds: ${few}`);
});

// --- the sign test ---

/** By counting all outcomes of n throws. */
function bruteForce(won: number, lost: number): number {
  const n = won + lost;
  const uneven = Math.abs(won - lost);
  let count = 0;
  for (let throws = 0; throws < 2 ** n; throws++) {
    const heads = throws.toString(2).replaceAll('0', '').length;
    if (Math.abs(2 * heads - n) >= uneven) count++;
  }
  return count / 2 ** n;
}

law(t, 'the sign test counts the throws of a fair coin that are at least as uneven', () => {
  for (let n = 0; n <= 10; n++)
    for (let won = 0; won <= n; won++) close(signTest(won, n - won), bruteForce(won, n - won), `${won} of ${n}`);
});

law(t, 'of 3 seeds the sign test cannot go below .25, of 5 not below .0625', () => {
  assert.deepEqual([1, 3, 5, 6].map(smallestP), [1, 0.25, 0.0625, 0.03125]);
});
