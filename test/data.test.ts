/** Datasets, digits and transforms. */

import assert from 'node:assert/strict';
import { arange, Generator, randn, type Tensor, tensor, zeros } from '@otimes/core';
import {
  averagePool2,
  collate,
  DataLoader,
  digitsFromJson,
  MappedDataset,
  normalize,
  randomSplit,
  Subset,
  standardize,
  TensorDataset,
} from '@otimes/data';
import fc from 'fast-check';
import t from 'tap';
import { loadDigits } from '../examples/digits/load.ts';
import { ids, numbered, range, sorted } from './helpers/data.ts';
import { law } from './helpers/law.ts';

// ---- datasets

law(t, 'batch(indices) is the collation of get(i), through subsets of subsets too', async () => {
  fc.assert(
    fc.property(fc.array(fc.nat(9), { minLength: 1 }), fc.infiniteStream(fc.nat()), (outer, picks) => {
      const dataset = new Subset(new Subset(numbered(10), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]), outer);
      const indices = Int32Array.from([...picks.take(5)], pick => pick % outer.length);
      const fast = dataset.batch!(indices);
      const plain = collate(Array.from(indices, i => dataset.get(i)));
      assert.deepEqual(fast.map(String), plain.map(String));
      assert.deepEqual(
        ids(fast),
        Array.from(indices, i => 9 - outer[i]!),
      );
    }),
    { numRuns: 50 },
  );
});

law(t, 'a random split is a partition, the same for the same seed', async () => {
  fc.assert(
    fc.property(fc.array(fc.nat(6), { minLength: 1, maxLength: 4 }), fc.nat(), (lengths, seed) => {
      const n = lengths.reduce((sum, length) => sum + length, 0);
      if (n === 0) return;
      const split = () => randomSplit(numbered(n), lengths, new Generator(seed)).map(part => [...part.indices]);
      const parts = split();
      assert.deepEqual(
        parts.map(part => part.length),
        lengths,
      );
      assert.deepEqual(sorted(parts.flat()), range(n));
      assert.deepEqual(split(), parts);
    }),
  );
  const [train, test] = randomSplit(numbered(5), [3, 2]);
  assert.equal(train.length + test.length, 5);
});

law(t, 'map changes samples as they are read, and stays lazy', async t => {
  let reads = 0;
  const mapped = numbered(6).map(([x, y], index) => {
    reads++;
    return { x: x.mul(2), y, index };
  });
  t.equal(reads, 0);
  t.strictSame(mapped.get(3).x.toArray(), [6, 60]);
  const [batch] = new DataLoader(mapped, { batchSize: 4 });
  t.strictSame(batch!.x.shape, [4, 2]);
  t.strictSame([batch!.index.dtype, batch!.index.toArray()], ['float32', [0, 1, 2, 3]]);
  t.equal(reads, 5, 'one batch, no more');
  t.equal(new MappedDataset(mapped, s => s.index).map(i => i + 1).get(5), 6);
});

law(t, 'collate stacks tensors and keeps the structure of a sample', async t => {
  const batch = collate([
    { x: tensor([1, 2]), label: 3, pair: [true, tensor(1, { dtype: 'int32' })] as const },
    { x: tensor([3, 4]), label: 5, pair: [false, tensor(2, { dtype: 'int32' })] as const },
  ]);
  t.strictSame(
    [batch.x, batch.label, ...batch.pair].map(x => [x.dtype, x.toArray()]),
    [
      [
        'float32',
        [
          [1, 2],
          [3, 4],
        ],
      ],
      ['float32', [3, 5]],
      ['bool', [true, false]],
      ['int32', [1, 2]],
    ],
  );
  const wrong: (readonly [unknown[], string, RegExp])[] = [
    [[zeros([2]), zeros([3])], 'ShapeError', /sample is float32\[2\] at first and float32\[3\] at position 1/],
    [[[zeros([2])], [zeros([2], { dtype: 'int32' })]], 'ShapeError', /sample\[0\] is float32\[2\] .* int32\[2\]/],
    [[{ x: [1] }, { x: [1, 2] }], 'ShapeError', /sample\.x is a list of 1 at first and a list of 2/],
    [[{ a: 1 }, { b: 1 }], 'ShapeError', /sample is \{ a \} at first and \{ b \}/],
    [[1, true], 'ShapeError', /sample is a number at first and a boolean/],
    [[zeros([1]), 1], 'ShapeError', /and a number at position 1/],
    [[{ name: 'x' }], 'TypeError', /no rule for sample\.name, a string/],
    [[null], 'TypeError', /no rule for sample, null/],
    [[new Date()], 'TypeError', /no rule for sample, a Date; give the loader/],
    [[{ y: new Float32Array(2) }], 'TypeError', /no rule for sample\.y, a Float32Array; make it a tensor\(…\), or/],
    [[{ y: new Int32Array(2) }], 'TypeError', /no rule for sample\.y, an Int32Array/],
    [[], 'RangeError', /at least one sample/],
    [[{ id: 1 }, { id: 16777217 }], 'RangeError', /sample\.id is 16777217, which float32 does not hold; .*int32/],
    [[1700000000123], 'RangeError', /sample is 1700000000123, .*tensor\(1700000000123, \{ dtype: 'float64' \}\)/],
    [[1e300], 'RangeError', /float32 does not hold/],
  ];
  for (const [samples, name, message] of wrong) t.throws(() => collate(samples), { name, message });
  // What float32 rounds is no integer, or one that no double tells from its neighbours.
  const rounded = [0.1, 1700000000.5, 1e20, Infinity, NaN, 2 ** 30];
  t.strictSame(collate(rounded).toArray(), rounded.map(Math.fround));
});

law(t, 'datasets refuse what they do not have', async t => {
  t.throws(() => new TensorDataset(), { name: 'ShapeError', message: /got none/ });
  t.throws(() => new TensorDataset(zeros([])), { name: 'ShapeError' });
  t.throws(() => new TensorDataset(zeros([2, 3]), zeros([3])), { name: 'ShapeError', message: /got \[2,3\], \[3\]/ });
  for (const index of [-1, 3, 0.5, NaN])
    t.throws(() => numbered(3).get(index), { name: 'RangeError' }, `get(${index})`);
  t.throws(() => new Subset(numbered(3), [0, 3]), { name: 'RangeError', message: /index 3 .* 3 samples/ });
  t.throws(() => new Subset(numbered(3), [0.5]), { name: 'RangeError' });
  t.throws(() => new Subset(numbered(3), [0]).get(1), { name: 'RangeError' });
  t.throws(() => randomSplit(numbered(3), [1, 1]), { name: 'RangeError', message: /add up to the dataset's 3/ });
  t.throws(() => randomSplit(numbered(3), [4, -1]), { name: 'RangeError' });
});

// ---- digits and transforms

law(t, 'digits: a seeded split of every image with its label', async t => {
  // Image k of digit d has the value (10 d + k) / 100 everywhere.
  const files = range(10).map(d => ({ data: range(d + 1).flatMap(k => Array(784).fill((10 * d + k) / 100)) }));
  const { train, test } = digitsFromJson(files, { test: 15, seed: 1 });
  t.strictSame([train.images.shape, test.images.shape, train.labels.dtype], [[40, 28, 28], [15, 28, 28], 'int32']);
  const seen = [train, test].flatMap(({ images, labels }) =>
    Array.from(labels.dataSync(), (label, i) => {
      const [low, high] = [images.slice(i).min().item(), images.slice(i).max().item()];
      assert.equal(low, high);
      assert.equal(Math.floor(Math.round(low * 100) / 10), label);
      return Math.round(low * 100);
    }),
  );
  t.strictSame(sorted(seen), sorted(range(10).flatMap(d => range(d + 1).map(k => 10 * d + k))));
  const again = (seed: number) => [...digitsFromJson(files, { test: 15, seed }).train.labels.dataSync()];
  t.strictSame(again(1), [...train.labels.dataSync()]);
  t.notSame(again(2), again(1));
});

law(t, 'digits: a file of another structure is named', async t => {
  const good = range(10).map(() => ({ data: Array<unknown>(784).fill(0) }));
  const given = (digit: number, file: unknown) => good.map((own, d) => (d === digit ? file : own));
  const refused = (files: readonly unknown[], message: RegExp) =>
    t.throws(() => digitsFromJson(files, { test: 1 }), { name: 'FormatError', message });
  refused(good.slice(1), /10 digits, got 9/);
  for (const file of [null, 3, {}, { data: 'x' }]) refused(given(4, file), /digit 4 has no list 'data'/);
  refused(given(4, { data: [] }), /digit 4 has 0 numbers/);
  refused(given(4, { data: Array(785).fill(0) }), /digit 4 has 785 numbers, expected a multiple of 784/);
  for (const value of [1.5, -1, NaN, '1', null])
    refused(given(7, { data: [...Array(783).fill(0), value] }), /number 783 of digit 7 is/);
  for (const test of [0, 10, 1.5, -1])
    t.throws(() => digitsFromJson(good, { test }), { name: 'RangeError', message: /1 … 9 of the 10/ });
});

law(t, 'the real digits: 8,000 and 2,000, every class in both, ink where its shape has it', async t => {
  const { train, test } = loadDigits();
  t.strictSame(
    [train.images.shape, test.images.shape],
    [
      [8000, 28, 28],
      [2000, 28, 28],
    ],
  );
  t.strictSame([train.images.min().item(), train.images.max().item()], [0, 1]);
  const counts = (labels: Tensor) => range(10).map(d => labels.eq(d).astype('int32').sum().item());
  t.strictSame(
    counts(train.labels).map((n, d) => n + counts(test.labels)[d]!),
    [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978],
  );
  for (const n of counts(test.labels)) t.ok(n > 150, `${n} of a class in the test set`);
  // The nearest mean image of a class, arg min |x − m|² = arg max x·m − |m|²/2, tells most digits of the test set.
  const labels = train.labels.dataSync();
  const scores = range(10).map(d => {
    const rows = tensor(Int32Array.from(range(8000).filter(i => labels[i] === d)));
    const mean = train.images.indexSelect(0, rows).mean(0);
    return test.images.mul(mean).sum([1, 2]).sub(mean.square().sum().div(2)).dataSync();
  });
  const right = Array.from(test.labels.dataSync()).filter((label, i) => scores.every(s => s[i]! <= scores[label]![i]!));
  t.ok(right.length > 1500, `${right.length} of 2000 are nearest to the mean of their class`);
});

law(t, 'standardize gives every feature mean 0 and deviation 1; constant ones become 0', async () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.integer({ min: 2, max: 30 }),
      fc.double({ min: -50, max: 50, noNaN: true }),
      (seed, n, shift) => {
        const rng = new Generator(seed);
        const x = randn([n, 3], { rng, dtype: 'float64' })
          .mul(tensor([[1, 7, 0]], { dtype: 'float64' }))
          .add(shift);
        const { mean, std, apply } = standardize(x);
        const z = apply(x);
        const near = (y: Tensor, expected: number[]) =>
          y.dataSync().forEach((value, i) => void assert.ok(Math.abs(value - expected[i]!) < 1e-6, `${y}`));
        near(z.mean(0), [0, 0, 0]);
        near(z.square().mean(0), [1, 1, 0]);
        near(apply(x.slice([0, 1])), [...z.slice([0, 1]).dataSync()]);
        near(z.mul(std).add(mean).sub(x).flatten(), Array(3 * n).fill(0));
      },
    ),
  );
});

law(t, 'normalize is (x − mean) / std, by channel where it is given a list', async t => {
  const x = randn([2, 3, 4, 5], { rng: new Generator(1), dtype: 'float64' });
  const y = normalize(x, [1, 2, 3], [2, 4, 8]);
  for (const c of range(3))
    t.strictSame(
      y.slice(null, c).toArray(),
      x
        .slice(null, c)
        .sub(c + 1)
        .div(2 ** (c + 1))
        .toArray(),
    );
  t.strictSame(normalize(x, 0.5, 2).toArray(), x.sub(0.5).div(2).toArray());
  t.strictSame(normalize(x, x.mean(0), 2).toArray(), x.sub(x.mean(0)).div(2).toArray());
  t.equal(normalize(zeros([1, 2, 2]), 0, 1).dtype, 'float32');
  t.throws(() => normalize(x, [1, 2], 1), { name: 'ShapeError', message: /\[\.\.\., 2, h, w\]/ });
  t.throws(() => normalize(x, 0, 0), { name: 'RangeError', message: /std of 0/ });
  t.throws(() => normalize(x, 0, [1, 0, 1]), { name: 'RangeError', message: /std of 0/ });
  t.throws(() => normalize(arange(4).reshape(1, 2, 2), 0, 1), { name: 'DTypeError', message: /got int32/ });
  t.throws(() => standardize(arange(4)), { name: 'DTypeError' });
  t.throws(() => standardize(zeros([0, 2])), { name: 'ShapeError' });
});

law(t, 'averagePool2 keeps the mean of every image and halves its sides', async t => {
  const x = randn([3, 4, 6], { rng: new Generator(2), dtype: 'float64' });
  const y = averagePool2(x);
  t.strictSame(y.shape, [3, 2, 3]);
  t.ok(
    y
      .mean([1, 2])
      .sub(x.mean([1, 2]))
      .abs()
      .max()
      .item() < 1e-12,
  );
  t.strictSame(
    averagePool2(
      tensor([
        [1, 2, 5, 5],
        [3, 4, 5, 9],
      ]),
    ).toArray(),
    [[2.5, 6]],
  );
  t.throws(() => averagePool2(zeros([1, 3, 4])), { name: 'ShapeError', message: /\[1,3,4\]/ });
  t.throws(() => averagePool2(zeros([4])), { name: 'ShapeError' });
});
