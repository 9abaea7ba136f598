/** Loaders: laws of batching and order, prefetching, errors, and resuming where one was. */

import assert from 'node:assert/strict';
import { Generator, manualSeed, type StateDict, type Tensor, tensor, zeros } from '@otimes/core';
import { DataLoader, type Dataset, Subset } from '@otimes/data';
import fc from 'fast-check';
import t from 'tap';
import { ids, numbered, range, sorted } from './helpers/data.ts';
import { law } from './helpers/law.ts';

const epochOf = (loader: Iterable<readonly Tensor[]>): number[][] => Array.from(loader, ids);
const epochLater = async (loader: AsyncIterable<readonly Tensor[]>): Promise<number[][]> => {
  const batches: number[][] = [];
  for await (const batch of loader) batches.push(ids(batch));
  return batches;
};
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

law(
  t,
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

law(t, 'the same seed gives the same order, epoch by epoch, with for…of, for await, and any prefetch', async () => {
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

law(t, 'each epoch has a new order, and other use of the generator does not change it', async t => {
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

law(
  t,
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

law(t, 'leaving a loop ends the epoch: the state is then that of the next one', async t => {
  const loader = new DataLoader(numbered(20), { batchSize: 4, shuffle: true, rng: new Generator(3) });
  for (const _ of loader) break;
  for await (const _ of loader) break;
  t.equal(loader.stateDict().position!.item(), 0);
  const other = new DataLoader(numbered(20), { batchSize: 4, shuffle: true, rng: new Generator(9) });
  other.loadStateDict(loader.stateDict());
  t.strictSame(epochOf(other), epochOf(loader));
});

law(t, 'a state of another loader is refused', async t => {
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

law(t, 'for…of over a dataset of promises throws a TypeError that says so, even where they fail', async t => {
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

law(t, 'for await begins at most prefetch batches beyond the one in use, and has them begun', async t => {
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

law(t, 'prefetch defaults to 2, and for…of holds one batch', async t => {
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

law(t, 'an error in a sample surfaces at its batch; leaving before it is reached is silent', async t => {
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

law(t, 'two loops over one loader do not disturb each other', async t => {
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

law(t, 'a loader refuses options that make no batches', async t => {
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
