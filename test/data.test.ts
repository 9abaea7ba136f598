/** Datasets, loaders, IDX files, digits and transforms: laws of batching, hostile files, and resuming where one was. */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import {
  arange,
  type DType,
  Generator,
  manualSeed,
  randn,
  type StateDict,
  type Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import {
  averagePool2,
  collate,
  DataLoader,
  type Dataset,
  digitsFromJson,
  gunzip,
  type IdxType,
  MappedDataset,
  normalize,
  parseIdx,
  randomSplit,
  Subset,
  standardize,
  TensorDataset,
  writeIdx,
} from '@otimes/data';
import { fashionMnist, readIdx } from '@otimes/data/node';
import fc from 'fast-check';
import t from 'tap';
import { loadDigits } from '../examples/digits/load.ts';

/** Samples [x, y] with x = [i, 10 i] and y = i. */
const numbered = (n: number) => {
  const y = arange(n);
  return new TensorDataset(
    y
      .astype('float32')
      .reshape(n, 1)
      .mul(tensor([[1, 10]])),
    y,
  );
};
const ids = (batch: readonly Tensor[]): number[] => Array.from(batch[1]!.dataSync());
const epochOf = (loader: Iterable<readonly Tensor[]>): number[][] => Array.from(loader, ids);
const epochLater = async (loader: AsyncIterable<readonly Tensor[]>): Promise<number[][]> => {
  const batches: number[][] = [];
  for await (const batch of loader) batches.push(ids(batch));
  return batches;
};
const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
/** Samples 0 … n−1 as promises, each after a while of its own; what `log` sees is when they began. */
const slow = (n: number, log: number[] = [], broken = -1): Dataset<Promise<number>> => ({
  length: n,
  async get(i) {
    log.push(i);
    for (let wait = (i * 7) % 5; wait >= 0; wait--) await null;
    if (i === broken) throw new Error(`sample ${i} is broken`);
    return i;
  },
});

const loaders = fc.record({
  n: fc.integer({ min: 1, max: 40 }),
  batchSize: fc.integer({ min: 1, max: 45 }),
  shuffle: fc.boolean(),
  dropLast: fc.boolean(),
  prefetch: fc.nat(5),
  seed: fc.nat(),
});

// ---- datasets

t.test('batch(indices) is the collation of get(i), through subsets of subsets too', async () => {
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

t.test('a random split is a partition, the same for the same seed', async () => {
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

t.test('map changes samples as they are read, and stays lazy', async t => {
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

t.test('collate stacks tensors and keeps the structure of a sample', async t => {
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

t.test('datasets refuse what they do not have', async t => {
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

// ---- loaders

t.test(
  'every sample appears exactly once in an epoch; dropLast leaves out only what does not fill a batch',
  async () => {
    await fc.assert(
      fc.asyncProperty(loaders, async ({ n, seed, ...o }) => {
        const loader = new DataLoader(numbered(n), { ...o, rng: new Generator(seed) });
        for (const batches of [epochOf(loader), await epochLater(loader)]) {
          assert.equal(batches.length, loader.length);
          assert.equal(loader.length, o.dropLast ? Math.floor(n / o.batchSize) : Math.ceil(n / o.batchSize));
          const full = o.dropLast ? batches : batches.slice(0, -1);
          for (const batch of full) assert.equal(batch.length, o.batchSize);
          const seen = sorted(batches.flat());
          assert.equal(new Set(seen).size, seen.length);
          if (!o.shuffle) assert.deepEqual(batches.flat(), range(seen.length));
          if (!o.dropLast) assert.deepEqual(seen, range(n));
        }
      }),
    );
  },
);

t.test('the same seed gives the same order, epoch by epoch, with for…of, for await, and any prefetch', async () => {
  await fc.assert(
    fc.asyncProperty(loaders, fc.nat(5), async ({ n, seed, ...o }, prefetch) => {
      const loader = (more?: object) => new DataLoader(numbered(n), { ...o, rng: new Generator(seed), ...more });
      const [a, b, c] = [loader(), loader(), loader({ prefetch })];
      for (let epoch = 0; epoch < 3; epoch++) {
        const batches = epochOf(a);
        assert.deepEqual(await epochLater(b), batches);
        assert.deepEqual(await epochLater(c), batches);
      }
    }),
    { numRuns: 50 },
  );
});

t.test('each epoch has a new order, and other use of the generator does not change it', async t => {
  const rng = new Generator(1);
  const loader = new DataLoader(numbered(50), { batchSize: 7, shuffle: true, rng });
  const first = epochOf(loader);
  rng.uniform();
  const second = epochOf(loader);
  t.notSame(first, second);
  const undisturbed = new DataLoader(numbered(50), { batchSize: 7, shuffle: true, rng: new Generator(1) });
  t.strictSame([epochOf(undisturbed), epochOf(undisturbed)], [first, second]);
  const global = () => {
    manualSeed(5);
    return epochOf(new DataLoader(numbered(50), { batchSize: 7, shuffle: true }));
  };
  t.strictSame(global(), global(), 'manualSeed');
});

t.test(
  'a loader that goes on from a state sees what the first one saw after it, from any batch of any epoch',
  async () => {
    await fc.assert(
      fc.asyncProperty(loaders, fc.nat(2), fc.nat(), fc.boolean(), async ({ n, seed, ...o }, epochs, at, later) => {
        const first = new DataLoader(numbered(n), { ...o, rng: new Generator(seed) });
        for (let epoch = 0; epoch < epochs; epoch++) epochOf(first);
        // A state between epochs, or, where batches > 0, in the body of the loop after so many.
        const batches = at % (first.length + 1);
        let state: StateDict = first.stateDict();
        const rest: number[][] = [];
        let count = 0;
        const see = (batch: readonly Tensor[]) => {
          if (++count <= batches) state = first.stateDict();
          else rest.push(ids(batch));
        };
        if (later) for await (const batch of first) see(batch);
        else for (const batch of first) see(batch);
        const second = new DataLoader(numbered(n), { ...o, rng: new Generator(seed + 1) });
        epochOf(second);
        second.loadStateDict(state);
        assert.deepEqual(later ? epochOf(second) : await epochLater(second), rest);
        assert.deepEqual(epochOf(second), epochOf(first), 'the epoch after');
      }),
    );
  },
);

t.test('leaving a loop ends the epoch: the state is then that of the next one', async t => {
  const loader = new DataLoader(numbered(20), { batchSize: 4, shuffle: true, rng: new Generator(3) });
  for (const _ of loader) break;
  for await (const _ of loader) break;
  t.equal(loader.stateDict().position!.item(), 0);
  const other = new DataLoader(numbered(20), { batchSize: 4, shuffle: true, rng: new Generator(9) });
  other.loadStateDict(loader.stateDict());
  t.strictSame(epochOf(other), epochOf(loader));
});

t.test('a state of another loader is refused', async t => {
  const loader = (o: object = {}, n = 10) => new DataLoader(numbered(n), { batchSize: 3, shuffle: true, ...o });
  const state = loader().stateDict();
  t.strictSame(Object.keys(state).sort(), ['batchSize', 'position', 'rng', 'samples']);
  t.throws(() => loader({ batchSize: 4 }).loadStateDict(state), {
    name: 'RangeError',
    message: /batchSize 3, this has 4/,
  });
  t.throws(() => loader({}, 11).loadStateDict(state), { name: 'RangeError', message: /samples 10, this has 11/ });
  t.throws(() => loader({ shuffle: false }).loadStateDict(state), {
    name: 'RangeError',
    message: /is shuffle the same/,
  });
  t.throws(() => loader().loadStateDict({}), { name: 'RangeError', message: /got nothing/ });
  for (const position of [-1, 5])
    t.throws(() => loader().loadStateDict({ ...state, position: tensor(position) }), { message: /at batch/ });
});

t.test('for…of over a dataset of promises throws a TypeError that says so, even where they fail', async t => {
  for (const broken of [-1, 0])
    t.throws(() => [...new DataLoader(slow(5, [], broken), { batchSize: 2 })], {
      name: 'TypeError',
      message: /use for await/,
    });
  const later = new DataLoader(numbered(4), { batchSize: 2, collate: async samples => samples.length });
  t.throws(() => [...later], { name: 'TypeError', message: /use for await/ });
  const seen: number[] = [];
  for await (const size of later) seen.push(size);
  t.strictSame(seen, [2, 2]);
});

t.test('for await begins at most prefetch batches beyond the one in use, and has them begun', async t => {
  for (const prefetch of [0, 1, 2, 9]) {
    const log: number[] = [];
    let used = 0;
    for await (const batch of new DataLoader(slow(12, log), { batchSize: 2, prefetch })) {
      t.strictSame(batch.toArray(), [2 * used, 2 * used + 1]);
      used++;
      t.strictSame(log, range(Math.min(12, 2 * (used + prefetch))), `prefetch ${prefetch}, batch ${used}`);
    }
    t.equal(used, 6);
  }
});

t.test('prefetch defaults to 2, and for…of holds one batch', async t => {
  const log: number[] = [];
  for await (const _ of new DataLoader(slow(20, log), { batchSize: 2 })) break;
  t.equal(log.length, 6);
  let reads = 0;
  const counted = numbered(20).map(sample => {
    reads++;
    return sample;
  });
  for (const _ of new DataLoader(counted, { batchSize: 2 })) break;
  t.equal(reads, 2);
});

t.test('an error in a sample surfaces at its batch; leaving before it is reached is silent', async t => {
  const unhandled: unknown[] = [];
  const listen = (error: unknown) => void unhandled.push(error);
  process.on('unhandledRejection', listen);
  const sync: Dataset<number> = {
    length: 8,
    get: i => {
      if (i === 5) throw new Error('sample 5 is broken');
      return i;
    },
  };
  for (const dataset of [slow(8, [], 5), sync]) {
    const loader = new DataLoader<Promise<number> | number, Tensor>(dataset, { batchSize: 2, prefetch: 3 });
    const seen: number[] = [];
    await t.rejects(
      async () => {
        for await (const batch of loader) seen.push(...batch.dataSync());
      },
      { message: 'sample 5 is broken' },
    );
    t.strictSame(seen, [0, 1, 2, 3]);
    for await (const _ of loader) break;
  }
  const seen: number[] = [];
  t.throws(
    () => {
      for (const batch of new DataLoader(sync, { batchSize: 2 })) seen.push(...batch.dataSync());
    },
    { message: 'sample 5 is broken' },
  );
  t.strictSame(seen, [0, 1, 2, 3]);
  const mixed: Dataset<Promise<number>> = {
    length: 2,
    get: i => {
      if (i === 1) throw new Error('at once');
      return Promise.reject(new Error('later'));
    },
  };
  await t.rejects(new DataLoader(mixed, { batchSize: 2 })[Symbol.asyncIterator]().next());
  await new Promise(resolve => setTimeout(resolve, 20));
  process.off('unhandledRejection', listen);
  t.strictSame(unhandled, []);
});

t.test('two loops over one loader do not disturb each other', async t => {
  const loader = new DataLoader(numbered(9), { batchSize: 2, shuffle: true, rng: new Generator(4) });
  const [a, b] = [loader[Symbol.iterator](), loader[Symbol.iterator]()];
  const [x, y]: number[][] = [[], []];
  for (let i = 0; i < loader.length; i++) {
    x!.push(...ids(a.next().value));
    y!.push(...ids(b.next().value));
  }
  t.strictSame([sorted(x!), sorted(y!)], [range(9), range(9)]);
  t.notSame(x, y);
});

t.test('a loader refuses options that make no batches', async t => {
  for (const batchSize of [0, -1, 1.5, NaN, Infinity])
    t.throws(() => new DataLoader(numbered(3), { batchSize }), { name: 'RangeError', message: /batchSize/ });
  for (const prefetch of [-1, 0.5])
    t.throws(() => new DataLoader(numbered(3), { batchSize: 1, prefetch }), {
      name: 'RangeError',
      message: /prefetch/,
    });
  t.throws(() => new DataLoader(new Subset(numbered(3), []), { batchSize: 1 }), { message: /no samples/ });
  const ragged: Dataset<Tensor> = { length: 2, get: i => zeros([i + 1]) };
  t.throws(() => [...new DataLoader(ragged, { batchSize: 2 })], { name: 'ShapeError', message: /float32\[1\]/ });
});

// ---- IDX

const INTEGERS: Record<Exclude<IdxType, 'float32' | 'float64'>, [number, number]> = {
  uint8: [0, 255],
  int8: [-128, 127],
  int16: [-32768, 32767],
  int32: [-2147483648, 2147483647],
};
const idxTensors = fc
  .tuple(
    fc.constantFrom<IdxType>('uint8', 'int8', 'int16', 'int32', 'float32', 'float64'),
    fc.array(fc.nat(4), { maxLength: 4 }),
  )
  .chain(([type, shape]) => {
    const size = shape.reduce((product, length) => product * length, 1);
    const dtype: DType = type === 'float32' || type === 'float64' ? type : 'int32';
    const element =
      type === 'float32'
        ? fc.float()
        : type === 'float64'
          ? fc.double()
          : fc.integer({ min: INTEGERS[type][0], max: INTEGERS[type][1] });
    return fc
      .array(element, { minLength: size, maxLength: size })
      .map(data => ({ type, x: tensor(data, { dtype, shape }) }));
  });

t.test('parseIdx(writeIdx(x)) is x, for every type, shape and alignment', async () => {
  fc.assert(
    fc.property(idxTensors, fc.nat(7), ({ type, x }, shift) => {
      const bytes = writeIdx(x, { type });
      const moved = new Uint8Array(bytes.length + 8).subarray(shift, shift + bytes.length);
      moved.set(bytes);
      const y = parseIdx(moved);
      assert.equal(y.dtype, x.dtype);
      assert.deepEqual(y.shape, x.shape);
      assert.deepEqual(y.dataSync(), x.dataSync());
    }),
  );
});

t.test('the bytes are those of the format', async t => {
  const images = tensor(
    [
      [0, 255],
      [7, 128],
    ],
    { dtype: 'int32' },
  );
  const bytes = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 255, 7, 128];
  t.strictSame([...writeIdx(images, { type: 'uint8' })], bytes);
  t.strictSame([...writeIdx(tensor([-2], { dtype: 'int32' }))], [0, 0, 12, 1, 0, 0, 0, 1, 255, 255, 255, 254]);
  t.strictSame([...writeIdx(tensor(1))], [0, 0, 13, 0, 63, 128, 0, 0]);
  t.strictSame([...writeIdx(tensor([true]))], [0, 0, 8, 1, 0, 0, 0, 1, 1]);
  const scaled = parseIdx(Uint8Array.from(bytes), { normalize: true });
  t.strictSame(scaled.dataSync(), Float32Array.of(0, 1, 7 / 255, 128 / 255));
  t.strictSame(parseIdx(Uint8Array.from(bytes), { limit: 1 }).toArray(), [[0, 255]]);
  t.strictSame(parseIdx(Uint8Array.from(bytes), { limit: 9 }).shape, [2, 2]);
  t.throws(() => parseIdx(Uint8Array.from(bytes), { limit: 0 }), { name: 'RangeError' });
  t.throws(() => parseIdx(writeIdx(images), { normalize: true }), { name: 'DTypeError', message: /has int32/ });
});

t.test('writeIdx refuses what a type cannot hold exactly', async t => {
  const refused: readonly (readonly [number, DType, IdxType])[] = [
    [256, 'int32', 'uint8'],
    [-1, 'int32', 'uint8'],
    [0.5, 'float32', 'uint8'],
    [NaN, 'float32', 'int16'],
    [0.1, 'float64', 'float32'],
    [16777217, 'int32', 'float32'],
  ];
  for (const [value, dtype, type] of refused)
    t.throws(() => writeIdx(tensor([value], { dtype }), { type }), {
      name: 'RangeError',
      message: `element 0 is ${value}, which ${type} cannot hold`,
    });
  t.throws(() => writeIdx(zeros(Array(256).fill(1))), { name: 'RangeError', message: /255 axes/ });
});

t.test('each kind of broken IDX file is a FormatError that names what is wrong', async t => {
  const big = [127, 255, 255, 255];
  const hostile: readonly (readonly [string, readonly number[], RegExp])[] = [
    ['no bytes', [], /at least 4 bytes/],
    ['three bytes', [0, 0, 8], /at least 4 bytes .* got 3/],
    ['a wrong first byte', [1, 0, 8, 0, 0], /two zero bytes, this one with 1 and 0/],
    ['a gzip file', [0x1f, 0x8b, 8, 0], /two zero bytes/],
    ['an unknown type', [0, 0, 10, 0, 0], /the code 10/],
    ['no lengths', [0, 0, 8, 1], /lengths of 1 axes end at byte 8, the file at 4/],
    ['255 axes', [0, 0, 8, 255, 0], /lengths of 255 axes/],
    ['a negative length', [0, 0, 8, 1, 255, 255, 255, 255], /negative length in \[-1\]/],
    ['lengths whose product overflows', [0, 0, 8, 3, ...big, ...big, ...big], /more than 2⁵³ elements/],
    ['an overflow times 0', [0, 0, 8, 4, ...big, ...big, ...big, 0, 0, 0, 0], /more than 2⁵³ elements/],
    ['gigabytes that are not there', [0, 0, 14, 1, ...big], /takes 17179869176 bytes, the file has 0: it is truncated/],
    ['a byte too few', [0, 0, 11, 1, 0, 0, 0, 2, 1, 2, 3], /int16\[2\] takes 4 bytes, the file has 3: it is truncated/],
    ['a byte too many', [0, 0, 8, 0, 1, 2], /uint8\[\] takes 1 bytes, the file has 2: it is too long/],
  ];
  for (const [what, bytes, message] of hostile)
    t.throws(() => parseIdx(Uint8Array.from(bytes)), { name: 'FormatError', message }, what);
});

t.test('gunzip is the inverse of gzip; a broken or oversized file is a FormatError', async t => {
  const bytes = Uint8Array.from({ length: 200000 }, (_, i) => (i * i) >> 7);
  const zipped = new Uint8Array(gzipSync(bytes));
  t.strictSame(await gunzip(zipped), bytes);
  t.strictSame(await gunzip(new Uint8Array(gzipSync(''))), new Uint8Array(0));
  const changed = (at: number) => zipped.map((byte, i) => (i === at ? byte ^ 0x55 : byte));
  const broken: readonly (readonly [string, Uint8Array])[] = [
    ['nothing', new Uint8Array(0)],
    ['no gzip', bytes],
    ['half a file', zipped.subarray(0, zipped.length >> 1)],
    ['no trailer', zipped.subarray(0, -8)],
    ['a changed checksum', changed(zipped.length - 6)],
    ['a changed length', changed(zipped.length - 2)],
  ];
  for (const [what, file] of broken) await t.rejects(gunzip(file), { name: 'FormatError', message: /gzip/ }, what);
  await t.rejects(gunzip(zipped, { limit: 1000 }), { name: 'FormatError', message: /more than 1000 bytes/ });
});

t.test('readIdx takes plain and gzip files and names the one that is broken', async t => {
  const folder = t.testdir();
  const path = join(folder, 'x');
  const x = tensor(
    [
      [1, -2],
      [3, 4],
    ],
    { dtype: 'int32' },
  );
  for (const bytes of [writeIdx(x), gzipSync(writeIdx(x))]) {
    writeFileSync(path, bytes);
    t.strictSame(readIdx(path).toArray(), x.toArray());
  }
  for (const bytes of [
    gzipSync(writeIdx(x)).subarray(0, -1),
    gzipSync('no idx'),
    Buffer.from('no idx'),
    Buffer.of(0x1f, 0x8b),
  ]) {
    writeFileSync(path, bytes);
    t.throws(() => readIdx(path), { name: 'FormatError', message: `${path}: ` });
  }
  t.throws(() => readIdx(join(folder, 'missing')), { code: 'ENOENT' });
});

t.test('Fashion-MNIST comes from its four files, with or without .gz', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'otimes-fashion-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const pixels = (n: number, shift: number) =>
    tensor(
      Int32Array.from({ length: n * 784 }, (_, i) => (i + shift) % 256),
      { shape: [n, 28, 28] },
    );
  const write = (name: string, x: Tensor, zip: boolean) => {
    const bytes = writeIdx(x, { type: 'uint8' });
    writeFileSync(join(folder, zip ? `${name}.gz` : name), zip ? gzipSync(bytes) : bytes);
  };
  write('train-images-idx3-ubyte', pixels(5, 0), true);
  write('train-labels-idx1-ubyte', tensor([9, 0, 0, 3, 1], { dtype: 'int32' }), true);
  write('t10k-images-idx3-ubyte', pixels(3, 9), false);
  write('t10k-labels-idx1-ubyte', tensor([2, 1, 1], { dtype: 'int32' }), false);
  const train = fashionMnist(folder);
  t.strictSame([train.images.dtype, train.images.shape], ['float32', [5, 28, 28]]);
  t.strictSame([train.labels.dtype, train.labels.toArray()], ['int32', [9, 0, 0, 3, 1]]);
  t.equal(train.images.slice(0, 0, 3).item(), Math.fround(3 / 255));
  t.strictSame([train.images.min().item(), train.images.max().item()], [0, 1]);
  const test = fashionMnist(folder, { split: 'test' });
  t.strictSame(
    [test.images.shape, test.labels.toArray()],
    [
      [3, 28, 28],
      [2, 1, 1],
    ],
  );
  const few = fashionMnist(folder, { limit: 2 });
  t.strictSame(
    [few.images.shape, few.labels.toArray()],
    [
      [2, 28, 28],
      [9, 0],
    ],
  );
  t.strictSame(few.images.dataSync(), train.images.slice([0, 2]).dataSync());

  write('t10k-labels-idx1-ubyte', tensor([2, 1], { dtype: 'int32' }), false);
  t.throws(() => fashionMnist(folder, { split: 'test' }), { name: 'ShapeError', message: /\[3,28,28\] and \[2\]/ });
  rmSync(join(folder, 'train-labels-idx1-ubyte.gz'));
  t.throws(() => fashionMnist(folder), { message: /train-labels-idx1-ubyte .*dataset-fashion-mnist/ });
  t.throws(() => fashionMnist(join(folder, 'none')), {
    message: /none\/train-images-idx3-ubyte .*dataset-fashion-mnist/,
  });
  mkdirSync(join(folder, 'empty'));
  t.throws(() => fashionMnist(join(folder, 'empty')), { message: /found neither/ });
});

// ---- digits and transforms

t.test('digits: a seeded split of every image with its label', async t => {
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

t.test('digits: a file of another structure is named', async t => {
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

t.test('the real digits: 8,000 and 2,000, every class in both, ink where its shape has it', async t => {
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

t.test('standardize gives every feature mean 0 and deviation 1; constant ones become 0', async () => {
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

t.test('normalize is (x − mean) / std, by channel where it is given a list', async t => {
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

t.test('averagePool2 keeps the mean of every image and halves its sides', async t => {
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
