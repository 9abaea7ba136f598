/** Memory on 'later', which is spoilt as soon as it is released, after the work that was entered before. */

import assert from 'node:assert/strict';
import { type DType, ones, registerBackend, type Storage, type Tensor, tensor } from '@otimes/core';
import { Handle, Tracker } from '@otimes/kernels';
import t from 'tap';
import { LaterBackend, LaterRegion, laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { checkGraph } from './suites/graphs.ts';
import { lifetimeFuzz } from './suites/lifetime.ts';

const later = laterDevice();
const { device } = later;

/** A queue over buffers that no garbage collector frees: a tracker does, and the next owner spoils them. */
class Buffers extends LaterBackend {
  readonly buffers = new Set<Storage>();
  readonly tracker: Tracker<Storage>;

  constructor() {
    super('buffers');
    const free = (buffer: Storage) => {
      this.buffers.delete(buffer);
      this.forget(buffer);
    };
    this.tracker = new Tracker(free, { budget: 1e6, count: 500 });
  }

  override allocate(dtype: DType, size: number): LaterRegion {
    if (this.tracker.due) this.tracker.collect();
    const buffer = super.allocate(dtype, size).host;
    this.buffers.add(buffer);
    const handle = new Handle(buffer, buffer.array.byteLength);
    this.tracker.add(handle);
    return new BufferRegion(this, handle);
  }
}

class BufferRegion extends LaterRegion {
  readonly #handle: Handle<Storage>;
  readonly #tracker: Tracker<Storage>;

  constructor(device: Buffers, handle: Handle<Storage>) {
    super(device, handle.resource!);
    this.#handle = handle;
    this.#tracker = device.tracker;
  }

  override release(): void {
    this.#tracker.release(this.#handle);
  }
}

const tracked = new Buffers();
registerBackend(tracked);

law(
  t,
  `backward and grad of 60 random graphs on ${device} give what they give where nothing is released early`,
  async () => {
    for (let seed = 0; seed < 60; seed++) assert.equal(await checkGraph(seed, device, 3 + (seed % 14)), null);
  },
);

for (const { device } of [later, tracked])
  law(t, `random programs on ${device} find every reachable tensor as they left it`, async () => {
    for (const seed of [1, 2]) {
      const report = await lifetimeFuzz({ device, seed, steps: 3000 });
      assert.deepEqual([report.corrupted, report.unexpected], [[], []]);
      assert.ok(
        Math.min(report.checks / 10, report.released, report.backward, report.refused) > 50,
        JSON.stringify(report),
      );
    }
  });

law(
  t,
  'buffers of tensors that nobody can reach go back in a synchronous loop, and those of reachable ones stay',
  async () => {
    const on = { device: tracked.device };
    const kept: Tensor[] = [];
    const before = tracked.tracker.stats.collections;
    let most = 0;
    for (let i = 0; i < 6000; i++) {
      const y = ones([50], on).mul(i);
      if (i % 100 === 0) kept.push(y);
      most = Math.max(most, tracked.buffers.size);
    }
    assert.ok(tracked.tracker.stats.collections > before + 2);
    // Between two collections the tracker takes 500 new ones, 2000 at most where collections are slow.
    assert.ok(most < 4000, `${most} of 12,000 buffers at once`);
    for (const [i, y] of kept.entries()) assert.deepEqual(await y.array(), Array(50).fill(100 * i));
    assert.deepEqual(await tensor([1.5], on).array(), [1.5]);
  },
);

law(t, 'nothing of this asked for values at once', () => {
  assert.deepEqual([later.instantReads, tracked.instantReads], [0, 0]);
});
