/** Which reads tell a check that failed, on devices that are read with await: a queue, and a dozen kernels behind one. */

import assert from 'node:assert/strict';
import { getBackend, ones, registerBackend, tensor } from '@otimes/core';
import { onFailure } from '@otimes/core/extend';
import { crossEntropy } from '@otimes/nn';
import { type KroneckerPreconditioner, STEVE } from '@otimes/optim';
import t from 'tap';
import { NarrowQueued, Queued } from './helpers/dozen.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { DeviceRun, deviceTasks } from './suites/device-runs.ts';

const queued = new Queued('queued');
const narrow = new NarrowQueued('narrow');
registerBackend(queued);
registerBackend(narrow);

for (const device of [laterDevice().device, queued.device, narrow.device]) {
  const on = { device };
  const check = (name: string, index: number) => {
    const at = tensor([index], { ...on, dtype: 'int32' });
    getBackend(device).checkIndex!(at, 3, (_, value) => new RangeError(`${name}: ${value}`));
  };

  law(t, `${device}: a read is told of the checks before its call, and of none after it`, async () => {
    const x = ones([2], on);
    const before = x.data();
    check('bad', 9);
    const after = x.data();
    assert.deepEqual([...(await before)], [1, 1]);
    await assert.rejects(after, { message: 'bad: 9' });
    assert.deepEqual(await x.array(), [1, 1]);
  });

  law(t, `${device}: all reads that were called under one failure reject with its error`, async () => {
    const [x, y] = [ones([2], on), ones([2], on)];
    check('first', 9);
    const reads = [x.data(), y.data()];
    check('good', 1);
    check('second', 8);
    reads.push(y.data());
    y.addScaled_(x, 1);
    for (const read of reads) await assert.rejects(read, { message: 'first: 9' });
    assert.deepEqual(await y.array(), [1, 1], 'and what was called before the first of them rejected is not written');
  });

  law(t, `${device}: a failure after one that was told is told itself, whatever reads were still open`, async () => {
    const [x, y] = [ones([2], on), ones([2], on)];
    check('first', 9);
    const [one, other] = [x.data(), y.data()];
    await one.catch(() => {
      check('second', 7);
      y.addScaled_(x, 100);
    });
    await assert.rejects(other, { message: 'first: 9' });
    await assert.rejects(y.data(), { message: 'second: 7' });
    assert.deepEqual(await y.array(), [1, 1]);
  });

  law(t, `${device}: what is called after a failure was told is written, whatever reads were still open`, async () => {
    const [x, y] = [ones([2], on), ones([2], on)];
    check('first', 9);
    const [one, other] = [x.data(), y.data()];
    await one.catch(() => {
      check('good', 1);
      y.addScaled_(x, 100);
    });
    await assert.rejects(other, { message: 'first: 9' });
    assert.deepEqual(await y.array(), [101, 101]);
  });

  law(t, `${device}: a read that peeks rejects with a failure and leaves it for another one to tell`, async () => {
    const x = ones([2], on);
    const { backend } = x.storage;
    assert.ok(backend.readAsync);
    check('bad', 9);
    await assert.rejects(backend.readAsync(x, true), { message: 'bad: 9' });
    x.scale_(5);
    await assert.rejects(x.data(), { message: 'bad: 9' });
    assert.deepEqual([...(await backend.readAsync(x, true))], [1, 1]);
  });

  const floats = device === narrow.device ? (['float32'] as const) : (['float32', 'float64'] as const);
  const outside = (value: number) => ({
    name: 'RangeError',
    message: `astype: int32 holds −2147483648 … 2147483647, got ${value}`,
  });

  law(
    t,
    `${device}: a float that int32 does not hold is told by the next read as what it is, and nothing is written before`,
    async () => {
      for (const dtype of floats)
        for (const bad of [3e9, 1e20, 2 ** 31, -3e9, -1e20, Number.NaN, Infinity, -Infinity, -(2 ** 31) - 256]) {
          // With gaps.
          const row = tensor([1, -2.5, bad, 1e30], { ...on, dtype })
            .reshape([2, 2])
            .narrow(1, 0, 1)
            .squeeze(1);
          const value = dtype === 'float32' ? Math.fround(bad) : bad;
          const [y, p] = [tensor([5, 6], { ...on, dtype: 'int32' }), ones([2], on)];
          for (const write of [() => row.astype('int32'), () => y.copy_(row), () => y.storage.backend.assign(y, row)]) {
            write();
            p.scale_(7);
            y.copy_(tensor([8, 9], { ...on, dtype: 'int32' }));
            await assert.rejects(p.data(), outside(value));
            assert.deepEqual(await p.array(), [1, 1]);
            assert.deepEqual(await y.array(), [5, 6]);
          }
          y.copy_(tensor([-1.9, 2.9], { ...on, dtype }));
          p.scale_(3);
          assert.deepEqual(await p.array(), [3, 3]);
          assert.deepEqual(await y.array(), [-1, 2]);
        }
    },
  );

  law(
    t,
    `${device}: int32 takes all floats that it holds, cut off toward 0, also broadcast and of no element`,
    async () => {
      const held = {
        float32: [-(2 ** 31), 2 ** 31 - 128, -0.9, 0.9],
        float64: [-(2 ** 31) - 0.9, 2 ** 31 - 0.1, -7.9, 7.9],
      };
      for (const dtype of floats) {
        const x = tensor(held[dtype], { ...on, dtype });
        const expected = held[dtype].map(value => Math.trunc(value) + 0);
        assert.deepEqual(await x.astype('int32').array(), expected);
        const y = tensor(
          Array.from({ length: 8 }, () => 3),
          { ...on, dtype: 'int32' },
        ).reshape([2, 4]);
        y.copy_(x);
        assert.deepEqual(await y.array(), [expected, expected]);
        y.storage.backend.assign(y, x.narrow(0, 3, 1));
        assert.deepEqual(
          ((await y.array()) as number[][])[1],
          Array.from({ length: 4 }, () => expected[3]),
        );
        assert.deepEqual(await x.narrow(0, 0, 0).astype('int32').array(), []);
      }
    },
  );

  law(t, `${device}: of several checks the first that failed is told, with its own value`, async () => {
    const convert = (value: number) => tensor([0, value], on).astype('int32');
    const orders: [() => void, object][][] = [
      [
        [() => check('bad', 9), { message: 'bad: 9' }],
        [() => convert(3e9), outside(3e9)],
      ],
      [
        [() => convert(4e9), outside(4e9)],
        [() => convert(5e9), outside(5e9)],
      ],
    ];
    for (const pair of orders)
      for (const [first, second] of [pair, [...pair].reverse()]) {
        const x = ones([2], on);
        convert(1);
        check('good', 1);
        first![0]();
        check('good', 1);
        convert(2);
        second![0]();
        await assert.rejects(x.data(), first![1]);
        assert.deepEqual(await x.array(), [1, 1]);
      }
  });

  const steve = () => {
    const lagging = { refreshEvery: 3, lr: 0.05, refresh: 'background', refreshLag: 2 } as const;
    return new DeviceRun<KroneckerPreconditioner>(device, deviceTasks.mlp, m => new STEVE(m, lagging));
  };
  const loss = ({ model, batches }: DeviceRun, labels = batches[0]!.y) =>
    crossEntropy(model.call(batches[0]!.x), labels);

  // Step 6 begins decompositions in the background, whose reads are called under the failure.
  for (const told of ['before', 'after'] as const)
    law(
      t,
      `${device}: a bad batch whose loss is read ${told} its step is told once, also where a refresh began with it`,
      async () => {
        const run = steve();
        await run.steps(6);
        const before = await run.parameters();
        run.optimizer.zeroGrad();
        const bad = loss(run, tensor([0, 1, 7, 3, 0, 1, 2, 3], { ...on, dtype: 'int32' }));
        bad.backward();
        const early = told === 'before' ? bad.number() : null;
        run.optimizer.step();
        await assert.rejects(early ?? bad.number(), { message: /^crossEntropy: label 7 at position 2/ });
        for (let i = 0; i < 4; i++) {
          run.optimizer.zeroGrad();
          const good = loss(run);
          good.backward();
          if (i === 0) assert.deepEqual(await run.parameters(), before, 'the bad batch wrote nothing');
          const last = await run.parameters();
          await run.optimizer.step();
          assert.notDeepEqual(await run.parameters(), last, `good batch ${i}`);
          assert.ok(Number.isFinite(await good.number()));
        }
        const { blocks, refreshes } = await run.optimizer.readReport();
        assert.equal(refreshes.failed, blocks.length, 'and the old bases stay');
      },
    );

  law(
    t,
    `${device}: a bad batch that nobody asked about is told by the next read, after its refresh failed`,
    async () => {
      const run = steve();
      await run.steps(6);
      const before = await run.parameters();
      run.optimizer.zeroGrad();
      loss(run, tensor([0, 1, 7, 3, 0, 1, 2, 3], { ...on, dtype: 'int32' })).backward();
      run.optimizer.step();
      for (let i = 0; i < 5; i++) await new Promise(resolve => setImmediate(resolve));
      await assert.rejects(run.parameters(), { message: /^crossEntropy: label 7 at position 2/ });
      assert.deepEqual(await run.parameters(), before);
      await run.steps(3);
      assert.ok(run.losses.every(Number.isFinite));
    },
  );

  law(
    t,
    `${device}: an undo that throws keeps neither others from running nor the error of the check from being told`,
    async () => {
      const x = ones([2], on);
      const ran: string[] = [];
      check('bad', 9);
      onFailure(x, () => ran.push('first'));
      onFailure(x, () => {
        ran.push('second');
        throw new Error('broken');
      });
      await assert.rejects(x.data(), (error: Error) => {
        assert.equal(error.message, 'bad: 9');
        assert.ok(error.cause instanceof AggregateError);
        assert.equal((error.cause.errors[0] as Error).message, 'broken');
        return true;
      });
      assert.deepEqual(ran, ['second', 'first']);
      assert.deepEqual(await x.array(), [1, 1]);
    },
  );
}

law(t, 'no conversion of a device is given a float that int32 does not hold', async () => {
  for (const device of [queued, narrow]) {
    assert.ok(device.truncated.length > 50);
    for (const values of await Promise.all(device.truncated))
      assert.ok(values.every(value => Math.trunc(value) >= -(2 ** 31) && value < 2 ** 31));
  }
});
