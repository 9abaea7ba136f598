/** Datasets, loaders and transforms on devices. */

import assert from 'node:assert/strict';
import { Generator, ones, randn, type Tensor, tensor } from '@otimes/core';
import {
  averagePool2,
  DataLoader,
  type Dataset,
  digitsFromJson,
  normalize,
  parseIdx,
  randomSplit,
  standardize,
  TensorDataset,
  writeIdx,
} from '@otimes/data';
import type { Test } from 'tap';
import { mustBeClose } from '../helpers/allclose.ts';
import { law } from '../helpers/law.ts';

export const x = randn([11, 2, 4, 4], { rng: new Generator(1) });
export const y = tensor(Int32Array.from({ length: 11 }, (_, i) => i));

const valuesIn = (batches: readonly (readonly Tensor[])[]) =>
  Promise.all(batches.map(batch => Promise.all(batch.map(one => one.array()))));

/** Samples by index, one at a time. */
export function dataset<T>(get: (index: number) => T): Dataset<T> {
  return { length: 11, get };
}

export const shuffled = (seed: number) => ({ batchSize: 4, shuffle: true, rng: new Generator(seed) });

/** @param devices 'cpu' among them @param awaited the one of them that is read with await */
export function dataLaws(t: Test, devices: readonly string[], awaited: string): void {
  const others = devices.filter(device => device !== 'cpu');

  law(
    t,
    'batches of tensors on a device are there, and the same as on the CPU, with for…of and for await',
    async () => {
      const expected = await valuesIn([...new DataLoader(new TensorDataset(x, y), shuffled(2))]);
      for (const device of others) {
        const data = new TensorDataset(x.to(device), y.to(device));
        for (const one of [data, randomSplit(data, [11], new Generator(0))[0]]) {
          const [plain, awaited]: [Tensor[][], Tensor[][]] = [[], []];
          for (const batch of new DataLoader(one, shuffled(2))) plain.push(batch);
          for await (const batch of new DataLoader(one, shuffled(2))) awaited.push(batch);
          for (const batch of [...plain, ...awaited])
            assert.deepEqual(
              batch.map(one => one.device),
              [device, device],
            );
          assert.deepEqual(await valuesIn(awaited), await valuesIn(plain));
          if (one === data) assert.deepEqual(await valuesIn(plain), expected);
        }
      }
    },
  );

  law(t, 'with the option device, batches of every kind of dataset arrive there', async () => {
    const datasets = {
      tensors: new TensorDataset(x, y),
      'a subset': randomSplit(new TensorDataset(x, y), [5, 6], new Generator(1))[1],
      records: dataset(i => ({ x: x.slice(i), more: { label: i, odd: i % 2 === 1 }, both: [i, y.slice(i)] as const })),
      promises: dataset(async i => ({ x: x.slice(i) })),
    };
    for (const device of devices)
      for (const [name, data] of Object.entries<Dataset<object | Promise<object>>>(datasets)) {
        const leaves = (value: unknown): Tensor[] =>
          value !== null && typeof value === 'object' && !('dtype' in value)
            ? Object.values(value).flatMap(leaves)
            : [value as Tensor];
        const [here, there]: [Tensor[][], Tensor[][]] = [[], []];
        for await (const batch of new DataLoader(data, shuffled(3))) here.push(leaves(batch));
        for await (const batch of new DataLoader(data, { ...shuffled(3), device })) there.push(leaves(batch));
        if (name !== 'promises')
          for (const batch of new DataLoader(data, { ...shuffled(3), device })) there.push(leaves(batch));
        for (const batch of there) for (const one of batch) assert.equal(one.device, device, name);
        const expected = await valuesIn(here);
        assert.deepEqual(await valuesIn(there.slice(0, here.length)), expected);
        if (name !== 'promises') assert.deepEqual(await valuesIn(there.slice(here.length)), expected);
      }
  });

  law(
    t,
    'what a collate of the program’s own returns arrives too; what is no tensor, list or record stays as it is',
    () => {
      const made = new Date();
      const collate = (samples: number[]) => ({ all: tensor(samples), made, names: ['a'], none: null });
      const [batch] = new DataLoader(
        dataset(i => i),
        { batchSize: 3, collate, device: awaited },
      );
      assert.equal(batch!.all.device, awaited);
      assert.equal(batch!.made, made);
      assert.deepEqual([batch!.names, batch!.none], [['a'], null]);
    },
  );

  law(t, 'a loader goes on where another one was, on every device', async () => {
    for (const device of devices) {
      const make = (seed: number) => new DataLoader(new TensorDataset(x, y), { ...shuffled(seed), device });
      const whole = make(4);
      const expected = [...whole, ...whole];
      const first = make(4);
      const seen: Tensor[][] = [];
      let state = first.stateDict();
      for (const batch of first) {
        seen.push(batch);
        state = first.stateDict();
        if (seen.length === 2) break;
      }
      const second = make(5);
      second.loadStateDict(state);
      seen.push(...second, ...second);
      assert.deepEqual(await valuesIn(seen), await valuesIn(expected));
    }
  });

  law(t, 'transforms give the same on every device, on which their results are', async () => {
    const transforms: Record<string, (images: Tensor) => Tensor[]> = {
      'normalize by numbers': images => [normalize(images, 0.5, 2)],
      'normalize by lists': images => [normalize(images, [0.5, 1], [2, 4])],
      'normalize by tensors': images => [normalize(images, images.mean(0), images.var(0).sqrt())],
      standardize: images => {
        const constant = images.mul(tensor([0, 1, 1, 1], { device: images.device }));
        const { mean, std, apply } = standardize(constant);
        return [mean, std, apply(images)];
      },
      averagePool2: images => [averagePool2(images)],
    };
    for (const [name, transform] of Object.entries(transforms)) {
      const expected = await Promise.all(transform(x).map(one => one.data()));
      for (const device of others) {
        const results = transform(x.to(device));
        for (const [i, one] of results.entries()) {
          assert.equal(one.device, device);
          mustBeClose(await one.data(), expected[i]!, {}, name);
        }
      }
    }
  });

  law(
    t,
    'statistics of one device serve sets of every other, and those that must be awaited say what to do',
    async () => {
      const [mean, std] = [x.mean(0), x.var(0).sqrt()];
      const expected = await Promise.all([standardize(x).apply(x).data(), normalize(x, mean, std).data()]);
      for (const from of devices)
        for (const device of devices) {
          const { apply } = standardize(x.to(from));
          const given = [mean.to(from), std.to(from)] as const;
          const runs = [
            () => apply(x.to(device)),
            () => normalize(x.to(device), given[0], 1).div(std.to(device)),
            () => normalize(x.sub(mean).to(device), 0, given[1]),
          ];
          for (const [i, run] of runs.entries()) {
            if (from === awaited && device !== awaited) {
              assert.throws(run, {
                name: 'TypeError',
                message: [
                  `standardize: the training set was on '${awaited}', which is read with await, and the set on '${device}': standardize ` +
                    "the training set on 'cpu', whose statistics are copied to any device, or move this set",
                  `normalize: mean is on '${awaited}', which is read with await, and the set on '${device}': give await mean.cpu(), which ` +
                    'is copied to any device',
                  `normalize: std is on '${awaited}', which is read with await, and the set on '${device}': give await std.cpu(), which ` +
                    'is copied to any device',
                ][i],
              });
              continue;
            }
            const result = run();
            assert.equal(result.device, device);
            mustBeClose(await result.data(), expected[Math.min(i, 1)]!);
          }
        }
    },
  );

  law(
    t,
    'normalize by a std of 0 is an error: at once, or at the next read, and nothing is written in between',
    async () => {
      const message = /normalize: cannot divide by a std of 0/;
      for (const device of devices)
        for (const std of [0, [1, 0], tensor([1, 0, 1, 1], { device })]) {
          const images = x.to(device);
          if (device !== awaited) {
            assert.throws(() => normalize(images, 0, std), message);
            continue;
          }
          const weight = ones([2], { device });
          weight.addScaled_(normalize(images, 0, std).slice(0, 0, 0, [0, 2]), 1);
          await assert.rejects(weight.data(), message);
          assert.deepEqual(await weight.array(), [1, 1]);
        }
    },
  );

  law(t, 'files are read onto a device', async () => {
    const bytes = writeIdx(
      tensor(
        [
          [1, 2],
          [3, 255],
        ],
        { dtype: 'int32' },
      ),
      { type: 'uint8' },
    );
    const pixel = (digit: number) => ({ data: Array.from({ length: 784 * 2 }, (_, i) => (i % (digit + 2)) / 11) });
    const files = Array.from({ length: 10 }, (_, digit) => pixel(digit));
    const sets = digitsFromJson(files, { test: 5 });
    for (const device of devices) {
      const read = parseIdx(bytes, { device, normalize: true });
      assert.equal(read.device, device);
      assert.deepEqual(await read.array(), parseIdx(bytes, { normalize: true }).toArray());
      const there = digitsFromJson(files, { test: 5, device });
      for (const part of ['train', 'test'] as const)
        for (const key of ['images', 'labels'] as const) {
          assert.equal(there[part][key].device, device);
          assert.deepEqual(await there[part][key].array(), sets[part][key].toArray());
        }
    }
    assert.throws(() => writeIdx(ones([2], { device: awaited })), /await t\.data\(\)/);
  });
}
