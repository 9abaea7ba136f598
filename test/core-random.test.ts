/** Random numbers. */

import assert from 'node:assert/strict';
import {
  arange,
  defaultGenerator,
  Generator,
  manualSeed,
  ones,
  rand,
  randint,
  randn,
  type TypedArray,
} from '@otimes/core';
import fc from 'fast-check';
import ndarray, { type NdArray } from 'ndarray';
import t from 'tap';
import { shape } from './arbitraries/tensor.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';

law(t, 'a seed gives these numbers, everywhere and for ever', () => {
  const rng = new Generator(42);
  const first = [rng.bits(), rng.bits(), rng.uniform(), rng.normal(), rng.integer(0, 1000)];
  assert.deepEqual(first, [660444221, 3652823732, 0.018084542542176507, 0.26752683279886763, 111]);
  assert.deepEqual([...new Generator(42).permutation(5)], [2, 4, 3, 0, 1]);
  manualSeed(42);
  assert.equal(defaultGenerator().bits(), first[0]);
});

law(t, 'the same seed gives the same tensors; another seed, or a negative or large one, gives others', () => {
  const draw = (seed: number) => randn([4], { rng: new Generator(seed) }).toArray();
  const seeds = [0, 1, -1, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1];
  for (const seed of seeds) assert.deepEqual(draw(seed), draw(seed));
  assert.equal(new Set(seeds.map(seed => String(draw(seed)))).size, seeds.length);
  manualSeed(3);
  const x = rand([4]).toArray();
  manualSeed(3);
  assert.deepEqual(rand([4]).toArray(), x);
});

law(t, 'rand of float32 is the upper 24 bits of each draw, whoever draws them, and leaves the generator there', () => {
  class Own extends Generator {
    override bits(): number {
      return super.bits();
    }
  }
  for (const device of ['cpu', 'reference'])
    for (const seed of [0, 1, 7, 2 ** 31, -5]) {
      const [rng, own, twin] = [new Generator(seed), new Own(seed), new Generator(seed)];
      const expected = Array.from({ length: 35 }, () => (twin.bits() >>> 8) / 16777216);
      assert.deepEqual(rand([5, 7], { rng, device }).reshape(-1).toArray(), expected);
      assert.deepEqual(rand([5, 7], { rng: own, device }).reshape(-1).toArray(), expected);
      assert.deepEqual(rng.getState(), twin.getState());
      assert.deepEqual(own.getState(), twin.getState());
    }
});

/** How far a sample's distribution function is from the uniform one, times √n: above 1.95 once in a thousand. */
function kolmogorov(sample: Float64Array): number {
  const sorted = sample.slice().sort();
  const n = sorted.length;
  return Math.sqrt(n) * sorted.reduce((d, x, i) => Math.max(d, x - i / n, (i + 1) / n - x), 0);
}

law(t, 'rand is uniform on [0, 1)', () => {
  const x = rand([50000], { rng: new Generator(5), dtype: 'float64' });
  assert.ok(x.min().item() >= 0 && x.max().item() < 1);
  assert.ok(kolmogorov(x.dataSync() as Float64Array) < 1.95);
});

law(t, 'randn is standard normal, in both floating dtypes', () => {
  for (const dtype of ['float32', 'float64'] as const) {
    const x = randn([50000], { rng: new Generator(6), dtype });
    assert.equal(x.dtype, dtype);
    // Through its distribution function a normal number becomes a uniform one.
    const u = x.astype('float64').mul(Math.SQRT1_2).erf().add(1).div(2);
    assert.ok(kolmogorov(u.dataSync() as Float64Array) < 1.95);
    mustBeClose([x.mean().item(), x.var().item()], [0, 1], { atol: 0.03 });
  }
});

law(t, 'rand in float32 never reaches 1', () => {
  const high = new Generator(0);
  high.bits = () => 4294967295;
  assert.ok(rand([1], { rng: high }).item() < 1);
  assert.ok(high.uniform() < 1);
});

law(t, 'integer() and randint cover their range evenly', () => {
  const counts = new Array<number>(7).fill(0);
  const rng = new Generator(8);
  for (let i = 0; i < 70000; i++) counts[rng.integer(-3, 4) + 3]!++;
  // χ² with 6 degrees of freedom is above 22.5 once in a thousand.
  assert.ok(counts.reduce((chi, n) => chi + (n - 10000) ** 2 / 10000, 0) < 22.5);
  const low = -2147483648;
  const wide = Array.from({ length: 1000 }, () => rng.integer(low, 2147483648));
  assert.ok(wide.every(x => x >= low && x < 2147483648) && wide.some(x => x < 0) && wide.some(x => x > 0));
  const x = randint(2, 5, [1000], { rng });
  assert.deepEqual([x.dtype, x.min().item(), x.max().item()], ['int32', 2, 4]);
  assert.equal(randint(0, 9, [3], { dtype: 'float32' }).dtype, 'float32');
});

law(t, 'integer() favours no value where the range does not divide 2³²', () => {
  const words = [4294967295, 4294967294, 5];
  const rng = new Generator(0);
  rng.bits = () => words.shift()!;
  // 2³² mod 3 = 1: only the last word is rejected.
  assert.deepEqual([rng.integer(0, 3), words], [2, [5]]);
});

law(t, 'a permutation holds each number once, and each order comes up', () => {
  const rng = new Generator(9);
  assert.deepEqual(
    [...rng.permutation(100)].sort((a, b) => a - b),
    [...arange(100).dataSync()],
  );
  const orders = new Set(Array.from({ length: 200 }, () => String(rng.permutation(3))));
  assert.equal(orders.size, 6);
  assert.deepEqual([...rng.permutation(0)], []);
});

law(t, 'split() gives generators that do not repeat each other, and is itself reproducible', () => {
  const parent = new Generator(10);
  const [a, b] = [parent.split(), parent.split()];
  const draws = [a, b, parent].flatMap(rng => Array.from({ length: 300 }, () => rng.bits()));
  assert.ok(new Set(draws).size > 895);
  assert.equal(new Generator(10).split().bits(), draws[0]);
});

law(t, 'a generator goes on from its state as if nothing had happened', () => {
  const rng = new Generator(11);
  rng.normal();
  const state = rng.getState();
  const next = [rng.bits(), rng.normal(), rng.integer(0, 10)];
  const other = new Generator(0);
  other.setState(state);
  assert.deepEqual([other.bits(), other.normal(), other.integer(0, 10)], next);
  other.setState([...state]);
  assert.equal(other.bits(), next[0]);
});

law(
  t,
  'an ndarray of a tensor is, through any chain of views, what the package ndarray makes of the same memory',
  () => {
    const step = fc.tuple(
      fc.constantFrom('hi' as const, 'lo' as const, 'step' as const, 'transpose' as const, 'pick' as const),
      fc.array(fc.integer({ min: -2, max: 3 }), { minLength: 3, maxLength: 3 }),
    );
    // Axes of equal strides have no order among them.
    const order = (a: NdArray<TypedArray>) => a.order.map(i => Math.abs(a.stride[i]!));
    const tell = (a: NdArray<TypedArray>) => [a.shape, a.stride, a.offset, a.dtype, a.size, a.dimension, order(a)];
    fc.assert(
      fc.property(shape({ maxRank: 3 }), fc.array(step, { maxLength: 4 }), (s, chain) => {
        let own = ones(s).ndarray();
        let theirs = ndarray(own.data, [...s]);
        for (const [name, numbers] of chain) {
          // The package has a special value for a pick from nothing.
          if (own.dimension === 0) break;
          const given = numbers.slice(0, own.dimension);
          const args =
            name === 'transpose'
              ? given.map((_, i) => i).sort((a, b) => given[a]! - given[b]!)
              : given.map(n => (name === 'step' && n === 0 ? 1 : n));
          own = own[name](...args);
          theirs = theirs[name](...args);
          assert.deepEqual(tell(own), tell(theirs), `${name}(${args})`);
        }
        const at = own.shape.map(() => 0);
        if (!own.shape.every(length => length > 0)) return;
        own.set(...at, 7);
        assert.equal(theirs.get(...at), own.get(...at));
        assert.equal(theirs.index(...at), own.index(...at));
      }),
    );
  },
);
