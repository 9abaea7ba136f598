// The memory under the kernels: the pool, and what "reachable means valid" promises (a seeded fuzz against shadow copies).

import { setTimeout } from 'node:timers/promises';
import {
  type Block,
  collector,
  Handle,
  Heap,
  type HeapOptions,
  Memory,
  OutOfMemory,
  Pool,
  Tracker,
} from '@otimes/kernels';
import t from 'tap';
import { law } from './helpers/law.ts';

const MB = 2 ** 20;

/** Seeded integers in [0, n). */
function random(seed: number): (n: number) => number {
  let state = seed;
  return n => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

const memoryOf = (maximum: number, initial = MB) => Memory.create({ initial, maximum })!;
const heapOf = (maximum: number, o?: HeapOptions) => new Heap(memoryOf(maximum), o);

law(t, 'memory: address space is not resident memory, and content survives growth', async t => {
  const before = process.memoryUsage.rss();
  const large = Memory.create()!;
  t.ok(large.size >= 16 * MB);
  t.ok(process.memoryUsage.rss() - before < 64 * MB);

  for (const shared of [false, true]) {
    const memory = Memory.create({ initial: MB, maximum: 256 * MB, shared })!;
    memory.f64[12345] = Math.PI;
    const old = memory.f64;
    t.ok(memory.grow(100 * MB));
    t.ok(memory.size >= 100 * MB);
    t.equal(memory.f64[12345], Math.PI);
    t.equal(memory.f32.buffer, memory.u8.buffer);
    t.equal(old.length, shared ? MB / 8 : 0, 'views made before are as long as they were, or detached');
    t.not(old.buffer, memory.f64.buffer);
  }
  const memory = memoryOf(256 * MB);
  t.notOk(memory.grow(257 * MB), 'the maximum holds');
});

law(t, 'pool: blocks are aligned, large enough and apart; equal sizes are reused', async t => {
  const next = random(1);
  const pool = new Pool(memoryOf(512 * MB));
  const held = new Map<number, number>();
  let wasted = 0;
  for (let i = 0; i < 20_000; i++) {
    const before = pool.live;
    const bytes = next(4) === 0 ? next(300) : 1 + next(next(10) === 0 ? 400_000 : 9000);
    const at = pool.alloc(bytes);
    const got = pool.live - before;
    if (at % 64 !== 0 || got < bytes || got > Math.max(bytes * 1.25, bytes + 64) || held.has(at))
      throw new Error(`alloc(${bytes}) = ${at}, a block of ${got} bytes`);
    wasted += got - bytes;
    held.set(at, bytes);
    for (const [p, size] of held) {
      if (held.size < 300 && next(3) > 0) break;
      held.delete(p);
      pool.free(p, size);
      if (pool.alloc(size) !== p) throw new Error('a block just freed does not serve the next request of its size');
      pool.free(p, size);
    }
  }
  const sorted = [...held].sort(([p], [q]) => p - q);
  for (const [i, [p, bytes]] of sorted.entries())
    if (p + bytes > (sorted[i + 1]?.[0] ?? Infinity))
      throw new Error(`blocks at ${p} and ${sorted[i + 1]![0]} overlap`);
  for (const [p, bytes] of held) pool.free(p, bytes);
  t.equal(pool.live, 0);
  t.ok(wasted > 0);
});

law(t, 'pool: sizes that never come again do not use up the memory', async t => {
  const next = random(2);
  const pool = new Pool(memoryOf(512 * MB, 512 * MB));
  for (let step = 0; step < 400; step++) {
    const scale = 1 + next(64);
    const blocks = Array.from({ length: 8 }, () => 65536 * scale + next(65536));
    const at = blocks.map(bytes => pool.alloc(bytes));
    for (const [i, bytes] of blocks.entries()) pool.free(at[i]!, bytes);
  }
  const { reserved, peak } = pool.stats;
  t.ok(reserved < 4 * peak, `reserved ${reserved}, peak ${peak}`);
});

law(t, 'pool: merged blocks serve what no single one could, and are apart again', async t => {
  const next = random(3);
  const pool = new Pool(memoryOf(64 * MB));
  const small = Array.from({ length: 900 }, () => pool.alloc(65536));
  for (const at of small) pool.free(at, 65536);
  const large = pool.alloc(40 * MB);
  t.ok(large > 0);
  pool.free(large, 40 * MB);
  const held: [number, number][] = [];
  for (;;) {
    const bytes = 64 + next(MB);
    try {
      held.push([pool.alloc(bytes), bytes]);
    } catch (error) {
      t.match(error, { name: 'OutOfMemory', bytes });
      break;
    }
  }
  t.ok(pool.live > 48 * MB, `${pool.live} of 64 MB are in use before the pool gives up`);
  held.sort(([p], [q]) => p - q);
  for (let i = 1; i < held.length; i++)
    if (held[i - 1]![0] + held[i - 1]![1] > held[i]![0]) throw new Error('blocks overlap');
  t.throws(() => pool.alloc(5 * 2 ** 30), { name: 'OutOfMemory' });
});

law(t, 'heap: 0 corruptions in a fuzz of owners kept, dropped and released', async t => {
  type Owner = { block: Block; stamp: number };
  const next = random(4);
  const heap = heapOf(256 * MB, { budget: 8e6, count: 1000, maxScale: 2 });
  const sizes = [1, 8, 64, 100, 1000, 4096, 4097, 20_000, 200_000];
  let held: Owner[] = [];
  let checks = 0;
  const fill = ({ block, stamp }: Owner) => heap.memory.u8.fill(stamp, block.pointer, block.pointer + block.bytes);
  const check = ({ block, stamp }: Owner) => {
    const bytes = heap.memory.u8.subarray(block.pointer, block.pointer + block.bytes);
    for (let i = 0; i < bytes.length; i += 1 + (i >> 6))
      if (bytes[i] !== stamp) throw new Error(`corruption: byte ${i} of ${block.bytes}`);
    if (bytes.at(-1) !== stamp) throw new Error('corruption at the end');
    checks++;
  };
  const create = (): Owner => {
    const owner = { block: heap.allocate(sizes[next(sizes.length)]!)!, stamp: next(256) };
    fill(owner);
    return owner;
  };
  for (let i = 0; i < 20_000; i++) {
    const owner = create();
    const fate = next(6);
    if (fate === 0) held.push(owner);
    else if (fate < 3) {
      const other = create();
      check(owner);
      heap.release(owner.block);
      if (fate === 1) held.push(other);
    }
    if (held.length > 400) {
      for (const one of held) check(one);
      held = held.filter(one => {
        if (next(3) > 0) return true;
        if (next(2) > 0) heap.release(one.block);
        return false;
      });
    }
  }
  for (const one of held) check(one);
  const { collections } = heap.stats;
  t.ok(collections > 15, `${collections} collections, ${checks} checks`);
  held = [];
  heap.collect();
  heap.collect();
  t.ok(heap.stats.live < MB, `${heap.stats.live} bytes live when all owners are gone`);
});

for (const bytes of [64, 8192])
  law(t, `heap: 200,000 blocks of ${bytes} bytes in one synchronous loop stay within the budget`, async t => {
    const heap = heapOf(256 * MB, { budget: 16 * MB, maxScale: 4 });
    const kept: Block[] = [];
    for (let i = 0; i < 200_000; i++) {
      const block = heap.allocate(bytes)!;
      heap.memory.u8[block.pointer] = i & 255;
      if (i % 2000 === 0) kept.push(block);
    }
    t.ok(heap.stats.peak < 96 * MB, `peak ${heap.stats.peak}`);
    if (bytes > 4096) t.ok(heap.stats.collections > 0);
    for (const [i, block] of kept.entries())
      if (heap.memory.u8[block.pointer] !== ((i * 2000) & 255)) throw new Error(`block ${i} lost its content`);
  });

law(t, 'heap: a released block is reused at once and cannot be read', async t => {
  const heap = heapOf(64 * MB);
  for (const bytes of [100, 100_000]) {
    const block = heap.allocate(bytes)!;
    const at = block.pointer;
    heap.release(block);
    heap.release(block);
    t.throws(() => block.pointer, { name: 'ReferenceError' });
    t.equal(heap.allocate(bytes)!.pointer, at);
  }
});

law(t, 'heap: releasing leaves no work for collections', async t => {
  const heap = heapOf(64 * MB, { budget: MB, count: 100 });
  for (let i = 0; i < 100_000; i++) {
    const [p, q] = [heap.allocate(5000)!, heap.allocate(50)!];
    heap.release(p);
    heap.release(q);
  }
  t.equal(heap.stats.collections, 0);
});

law(t, 'heap: OutOfMemory comes after a collection, and says what is held', async t => {
  const heap = heapOf(64 * MB, { budget: 1e9 });
  for (let i = 0; i < 100; i++) heap.allocate(10 * MB);
  t.ok(heap.stats.collections > 0, 'garbage alone does not exhaust the memory');
  const held: Block[] = [];
  try {
    for (;;) held.push(heap.allocate(10 * MB)!);
  } catch (error) {
    if (!(error instanceof OutOfMemory)) throw error;
    t.equal(error.bytes, 10 * MB);
    t.match(
      error.message,
      /no room for 10485760 bytes; \d+ MB of 68 MB are held by \d blocks, the largest of 10485760/,
    );
  }
  t.ok(held.length >= 3);
  held.pop();
  t.ok(heap.allocate(10 * MB));
});

law(t, 'heap: OutOfMemory says so where no large block is held, or one, or nothing', async t => {
  const message = (heap: Heap, bytes: number) => {
    try {
      heap.allocate(bytes);
    } catch (error) {
      if (error instanceof OutOfMemory) return error.message;
    }
    return 'no error';
  };
  t.match(message(heapOf(64 * MB), 1000 * MB), /no room for \d+ bytes; 0 MB of 68 MB are held$/);
  const small = heapOf(64 * MB);
  const kept = [small.allocate(100)];
  t.match(message(small, 1000 * MB), / are held by blocks of at most 4096 bytes$/);
  kept.push(small.allocate(5 * MB));
  t.match(message(small, 1000 * MB), / are held by one block of 5242880 bytes$/);
  kept.push(small.allocate(6 * MB));
  t.match(message(small, 1000 * MB), / are held by 2 blocks, the largest of 6291456, 5242880 bytes$/);
  t.equal(kept.length, 3);
});

law(
  t,
  'tracker: any resource is freed once; the budget grows while collections take too much time, and shrinks again',
  async t => {
    const freed: string[] = [];
    let clock = 0;
    const wait = (ms: number) => {
      clock += ms;
    };
    const real = new Tracker<string>(name => freed.push(name), { budget: 100 });
    (() => {
      for (let i = 0; i < 6; i++) real.add(new Handle(`r${i}`, 30));
    })();
    t.ok(real.due);
    real.collect();
    real.collect();
    t.ok(freed.length >= 5 && new Set(freed).size === freed.length, freed.join());

    let cost = 5;
    const tracker = new Tracker<string>(() => {}, {
      budget: 100,
      maxScale: 4,
      collector: () => wait(cost),
      now: () => clock,
    });
    for (let i = 0; i < 4; i++) tracker.collect();
    t.equal(tracker.stats.budget, 400);
    cost = 0;
    for (let i = 0; i < 40; i++) {
      wait(5);
      tracker.collect();
    }
    t.equal(tracker.stats.budget, 100);
    // One slow collection among fast ones is the machine's, not the program's.
    cost = 2;
    wait(8);
    tracker.collect();
    t.equal(tracker.stats.budget, 100);
  },
);

law(t, 'tracker: a working set that swings costs no collections once its size is known', async t => {
  const heap = heapOf(256 * MB, { budget: MB, count: 1e6 });
  /** As a training step: a growing set of activations, all of it alive, then released. */
  const step = () => {
    const blocks = Array.from({ length: 400 }, () => heap.allocate(100_000)!);
    for (const block of blocks) heap.release(block);
  };
  step();
  const learning = heap.stats.collections;
  t.ok(learning > 2 && learning < 25, `${learning} collections before it is known`);
  for (let i = 0; i < 50; i++) step();
  t.equal(heap.stats.collections, learning);
  t.ok(heap.stats.peak < 53 * MB, `${heap.stats.peak} bytes, of which 40 MB were alive`);
});

law(t, 'tracker: garbage beside a working set that swings stays within an eighth of it, or the budget', async t => {
  const heap = heapOf(512 * MB, { budget: 4 * MB, maxScale: 4, now: () => 0 });
  for (let i = 0; i < 60; i++) {
    const blocks = Array.from({ length: 800 }, () => heap.allocate(100_000)!);
    for (let k = 0; k < 40; k++) heap.allocate(100_000);
    for (const block of blocks) heap.release(block);
  }
  const { peak, collections } = heap.stats;
  const [alive, each] = [800 * 114_688, 114_688];
  t.ok(peak > alive && peak < alive * 1.125 + 4 * MB + each, `${peak} bytes, of which ${alive} were alive at once`);
  t.ok(collections > 10, `${collections} collections`);
});

law(t, 'tracker: a working set that shrank is forgotten', async t => {
  const heap = heapOf(512 * MB, { budget: 4 * MB, maxScale: 1 });
  const blocks = Array.from({ length: 1000 }, () => heap.allocate(100_000)!);
  for (const block of blocks) heap.release(block);
  let most = 0;
  for (let i = 0; i < 10_000; i++) {
    heap.allocate(100_000);
    if (i > 8000) most = Math.max(most, heap.stats.live);
  }
  t.ok(most < 6 * MB, `${most} bytes of garbage when nothing else lives`);
});

law(t, 'without a synchronous collection: every budget of new bytes is handed over, whatever died before', async t => {
  const heap = heapOf(64 * MB, { collector: null, budget: MB });
  for (let round = 0; round < 12; round++) {
    (() => {
      for (let i = 0; i < 100; i++) heap.allocate(100_000);
    })();
    for (let i = 0; i < 40 && heap.stats.live > 2 * MB; i++) {
      await setTimeout(5);
      collector()!();
    }
    t.ok(heap.stats.live <= 2 * MB, `round ${round}: ${heap.stats.live} bytes that nobody was told of`);
  }
});

law(t, 'without a synchronous collection: memory comes back while the program awaits', async t => {
  const heap = heapOf(64 * MB, { collector: null, budget: MB });
  let kept: Block | null = null;
  (() => {
    for (let i = 0; i < 300; i++) {
      const block = heap.allocate(i % 2 ? 100_000 : 3000)!;
      if (i === 201) kept = block;
    }
    kept = heap.allocate(100_000);
    heap.memory.u8.fill(7, kept!.pointer, kept!.pointer + 100_000);
    heap.collect();
  })();
  const before = heap.stats.live;
  for (let i = 0; i < 20 && heap.stats.live > before / 4; i++) {
    await setTimeout(5);
    collector()!();
  }
  t.ok(heap.stats.live < before / 4, `${before} → ${heap.stats.live}`);
  const { pointer } = kept!;
  t.ok(heap.memory.u8.subarray(pointer, pointer + 100_000).every(x => x === 7));
});

law(t, 'without a synchronous collection: the soft limit is reported once', async t => {
  const said: string[] = [];
  const heap = heapOf(64 * MB, { collector: null, softLimit: 4 * MB, warn: message => said.push(message) });
  const blocks = Array.from({ length: 100 }, () => heap.allocate(100_000));
  t.ok(blocks.filter(block => block !== null).length < 42);
  t.equal(blocks.at(-1), null);
  blocks.length = 0;
  let again: Block | null = null;
  for (let i = 0; i < 20 && again === null; i++) {
    await setTimeout(5);
    collector()!();
    again = heap.allocate(100_000);
  }
  t.ok(again, 'what died is free again after an await');
  t.match(said, [/^otimes: more than 4 MB .* ordinary arrays/]);
  t.equal(said.length, 1);
});
