/** Transforms of pictures: PyTorch's numbers, one pass against one transform after the other, seeds, and lists as plain data. */

import assert from 'node:assert/strict';
import { Generator, type Tensor, tensor } from '@otimes/core';
import { channelStatistics, imageTransforms, type Picture, transforms as T, transformImages } from '@otimes/data';
import fc from 'fast-check';
import t from 'tap';
import { ImagePlan } from '../data/src/images/plan.ts';
import type { ImageTransform } from '../data/src/images/transform.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, type Stored } from './helpers/golden.ts';
import { law, property } from './helpers/law.ts';
import { planesOf, randomPicture, randomSource, slowly } from './helpers/pictures.ts';

const torch = golden<{
  cases: { interpolation: 'bilinear' | 'nearest'; antialias: boolean; x: Stored; y: Stored }[];
  nearest: { n: number; m: number; y: number[] }[];
}>('torch-resample');

/** One plane of pixels as a picture. */
const plane = (rows: number[][]): Picture => ({
  ...{ data: Uint8Array.from(rows.flat()), channels: 1, height: rows.length, width: rows[0]!.length },
});
/** The first channel of one transformed picture, in the units of bytes. */
const rowsOf = (x: Tensor): number[][] => (x.mul(255).round().toArray() as number[][][][])[0]![0]!;
const apply = (picture: Picture, ...list: ImageTransform[]) =>
  transformImages([picture], list, { rng: new Generator(1) });

law(t, "resize is PyTorch's interpolate, with antialias and without, larger and smaller", () => {
  assert.equal(torch.cases.length, 18);
  for (const { x, y, interpolation, antialias } of torch.cases) {
    const [channels, height, width] = x.shape as [1, number, number];
    // PyTorch's pictures have two channels: one after the other.
    const planes = [0, 1].map(c => ({
      ...{ data: Uint8Array.from(x.data.slice(c * height * width, (c + 1) * height * width)), height, width },
      channels: 1 as const,
    }));
    assert.equal(channels, 2);
    const size = y.shape.slice(1) as [number, number];
    const ours = transformImages(planes, [T.resize(size, { interpolation, antialias })]);
    mustBeClose(ours.mul(255).reshape(2, ...size), tensor(y.data, { shape: y.shape }), { atol: 2e-4, rtol: 0 });
  }
});

law(t, "the nearest pixel is PyTorch's, where float32 decides too", () => {
  for (const { n, m, y } of torch.nearest) {
    const picture = plane([Array.from({ length: n }, (_, i) => i & 255)]);
    const ours = apply(picture, T.resize([1, m], { interpolation: 'nearest' }));
    assert.deepEqual(
      rowsOf(ours)[0],
      y.map(i => i & 255),
    );
  }
});

law(t, 'a size of one number is the length of the shorter edge; the longer one is in proportion, rounded down', () => {
  const shapes = [
    [[40, 30], 20, [26, 20]],
    [[30, 40], 20, [20, 26]],
    [[5, 5], 3, [3, 3]],
  ] as const;
  for (const [[height, width], size, want] of shapes) {
    const picture = randomPicture([1, height, width], new Generator(1));
    assert.deepEqual(apply(picture, T.resize(size)).shape, [1, 1, ...want]);
  }
});

const modes = fc.constantFrom<'constant' | 'edge' | 'reflect' | 'symmetric'>(
  'constant',
  'edge',
  'reflect',
  'symmetric',
);
const padding = fc.oneof(
  fc.nat(9),
  fc.tuple(fc.nat(4), fc.nat(4)),
  fc.tuple(fc.nat(3), fc.nat(3), fc.nat(12), fc.nat(3)),
);
const pictures = fc.record({
  channels: fc.constantFrom(1 as const, 3 as const),
  height: fc.integer({ min: 1, max: 9 }),
  width: fc.integer({ min: 1, max: 9 }),
  seed: fc.nat(),
  index: fc.nat(1e6),
  key: fc.tuple(fc.nat(2 ** 32 - 1), fc.nat(2 ** 32 - 1)),
});

/** What the one pass writes. */
function quickly(picture: Picture, list: readonly ImageTransform[], key: readonly [number, number], index: number) {
  let out = new Float32Array(0);
  let shape: readonly number[] = [];
  const source = { picture: () => picture };
  new ImagePlan(imageTransforms(list)).fill('test', source, Int32Array.of(index), key, given => {
    shape = given;
    out = new Float32Array(given.reduce((a, b) => a * b));
    return out;
  });
  return { out, shape };
}

law(
  t,
  'crop, flip and normalize in one pass are padding, window, flip and arithmetic one after the other, to the last bit',
  () => {
    property(
      fc.tuple(pictures, padding, modes, fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 })),
      ([{ channels, height, width, seed, index, key }, padding, paddingMode, rows, cols]) => {
        const picture = randomPicture([channels, height, width], new Generator(seed));
        const size = [Math.min(rows, height), Math.min(cols, width)] as const;
        const each = (from: number) => Array.from({ length: channels }, (_, c) => from + c / 10);
        const fill = channels === 3 ? [0, 7, 255] : 13;
        const list = [
          T.randomCrop(size, { padding, paddingMode, fill }),
          T.randomHorizontalFlip(),
          T.normalize(each(0.3), each(0.2)),
        ];
        const { out, shape } = quickly(picture, list, key, index);
        assert.deepEqual(shape, [1, channels, ...size]);
        assert.deepEqual([...out], slowly(picture, list, key, index).flat(2));
      },
      200,
    );
  },
);

law(
  t,
  'crops of crops, flips and greys in any order, with one fill a channel too, are those one after the other',
  () => {
    const one = fc.constantFrom<(size: number, channels: number) => ImageTransform>(
      size => T.randomCrop(size, { padding: 2, fill: 9 }),
      (size, channels) => T.randomCrop(size, { padding: [4, 1, 0, 2], fill: [255, 7, 0].slice(0, channels) }),
      size => T.randomCrop(size, { padding: [3, 1, 0, 2], paddingMode: 'reflect' }),
      size => T.randomCrop(size),
      () => T.randomHorizontalFlip(),
      () => T.randomHorizontalFlip(1),
      () => T.grayscale(3),
      () => T.grayscale(1),
    );
    property(
      fc.tuple(pictures, fc.array(one, { maxLength: 6 })),
      ([{ channels, seed, index, key }, makers]) => {
        const picture = randomPicture([channels, 12, 10], new Generator(seed));
        let now: number = channels;
        // Each window is smaller than the one before.
        const list = makers.map((make, i) => {
          const made = make(9 - i, now);
          if (made.type === 'grayscale') now = made.numOutputChannels;
          return made;
        });
        const expected = slowly(picture, list, key, index).flat(2);
        assert.deepEqual([...quickly(picture, list, key, index).out], expected);
      },
      200,
    );
  },
);

law(
  t,
  'grey of equal channels in a frame of one colour is the frame in grey; of other than three channels it is none',
  () => {
    const picture = { data: new Uint8Array(12).fill(100), channels: 3, height: 2, width: 2 } as const;
    const framed = T.randomCrop([4, 4], { padding: 1, fill: [255, 0, 0] });
    for (const channels of [1, 3, 4]) {
      const plain = apply(picture, framed, T.grayscale(channels));
      assert.deepEqual(rowsOf(plain)[0]![0], 76);
      assert.deepEqual(apply(picture, T.grayscale(3), framed, T.grayscale(channels)).toArray(), plain.toArray());
    }
    const four = T.randomCrop([4, 4], { padding: 1, fill: [255, 0, 0, 9] });
    assert.throws(() => apply(picture, T.grayscale(4), four, T.grayscale()), {
      name: 'ShapeError',
      message: 'grayscale: expected 3 channels, or equal ones, got 4 of picture 0',
    });
    assert.deepEqual(apply(picture, T.grayscale(4), T.grayscale(2)).shape, [1, 2, 2, 2]);
  },
);

law(t, 'sizes between crops and flips are two products with matrices of weights', () => {
  property(
    fc.tuple(pictures, fc.integer({ min: 1, max: 14 }), fc.integer({ min: 1, max: 14 }), fc.boolean()),
    ([{ channels, seed, index, key }, rows, cols, antialias]) => {
      const picture = randomPicture([channels, 9, 8], new Generator(seed));
      const list = [
        T.randomCrop(8, { padding: 1 }),
        T.randomHorizontalFlip(),
        T.resize([rows, cols], { antialias }),
        T.randomCrop([rows, cols], { padding: 1, paddingMode: 'edge' }),
        T.grayscale(2),
        T.normalize(0.5, 0.25),
      ];
      const expected = slowly(picture, list, key, index).flat(2);
      mustBeClose(quickly(picture, list, key, index).out, Float64Array.from(expected), { atol: 1e-5, rtol: 0 });
    },
    60,
  );
});

law(t, 'flipping twice is nothing, and p = 0 flips nothing', () => {
  const picture = randomPicture([3, 4, 7], new Generator(3));
  const plain = apply(picture).toArray();
  assert.deepEqual(apply(picture, T.randomHorizontalFlip(1), T.randomHorizontalFlip(1)).toArray(), plain);
  assert.deepEqual(apply(picture, T.randomHorizontalFlip(0)).toArray(), plain);
  const back = (apply(picture, T.randomHorizontalFlip(1)).toArray() as number[][][][])[0]!.map(channel =>
    channel.map(row => [...row].reverse()),
  );
  assert.deepEqual([back], plain);
});

law(t, 'without transforms a batch is the bytes over 255', () => {
  const picture = randomPicture([3, 4, 5], new Generator(3));
  const bytes = planesOf(picture).flat(2);
  assert.deepEqual(
    [...apply(picture).dataSync()],
    bytes.map(x => Math.fround(x / 255)),
  );
});

law(
  t,
  'centerCrop starts at half of what is cut, rounded half to even as in torchvision, and pads smaller pictures with zeros',
  () => {
    const row = (n: number) => plane([Array.from({ length: n }, (_, i) => i + 1)]);
    const middle = (n: number, size: number) => rowsOf(apply(row(n), T.centerCrop([1, size])))[0];
    assert.deepEqual(middle(5, 2), [3, 4]);
    assert.deepEqual(middle(7, 2), [3, 4]);
    assert.deepEqual(middle(6, 2), [3, 4]);
    assert.deepEqual(middle(4, 3), [1, 2, 3]);
    assert.deepEqual(middle(3, 3), [1, 2, 3]);
    assert.deepEqual(middle(2, 5), [0, 1, 2, 0, 0]);
    assert.deepEqual(rowsOf(apply(row(4), T.centerCrop([2, 2]))), [
      [2, 3],
      [0, 0],
    ]);
  },
);

law(t, 'what randomResizedCrop takes has an area and a ratio in the ranges, and lies in the picture', () => {
  const [height, width] = [12, 20];
  // Each pixel says where it is.
  const picture = plane(
    Array.from({ length: height }, (_, y) => Array.from({ length: width }, (_, x) => y * width + x)),
  );
  const take = (seed: number) => {
    const o = { scale: [0.2, 0.6], ratio: [0.5, 2], interpolation: 'nearest' } as const;
    const rows = rowsOf(transformImages([picture], [T.randomResizedCrop(240, o)], { rng: new Generator(seed) }));
    const [first, last] = [rows[0]![0]!, rows.at(-1)!.at(-1)!];
    const [top, left] = [Math.floor(first / width), first % width];
    return { top, left, rows: Math.floor(last / width) - top + 1, cols: (last % width) - left + 1 };
  };
  const taken = Array.from({ length: 60 }, (_, seed) => take(seed));
  for (const { rows, cols } of taken) {
    // Both lengths are rounded.
    assert.ok(
      (rows + 0.5) * (cols + 0.5) >= 0.2 * height * width && (rows - 0.5) * (cols - 0.5) <= 0.6 * height * width,
    );
    assert.ok((cols + 0.5) / (rows - 0.5) >= 0.5 && (cols - 0.5) / (rows + 0.5) <= 2);
  }
  for (const what of ['top', 'left', 'rows', 'cols'] as const)
    assert.ok(new Set(taken.map(one => one[what])).size > 3, `${what} varies`);
});

law(t, 'randomResizedCrop of all of a picture is resize; where no ratio fits it takes the middle', () => {
  const square = randomPicture([3, 6, 6], new Generator(5));
  const all = T.randomResizedCrop(4, { scale: [1, 1], ratio: [1, 1] });
  assert.deepEqual(apply(square, all).toArray(), apply(square, T.resize([4, 4])).toArray());
  const o = { scale: [1, 1], ratio: [1, 1], interpolation: 'nearest' } as const;
  const wide = plane([
    [1, 2, 3, 4, 5, 6],
    [7, 8, 9, 10, 11, 12],
  ]);
  assert.deepEqual(rowsOf(apply(wide, T.randomResizedCrop(2, o))), [
    [3, 4],
    [9, 10],
  ]);
  const high = plane([[1], [2], [3]]);
  assert.deepEqual(rowsOf(apply(high, T.randomResizedCrop(1, o))), [[2]]);
  // No part of one column has a width of three rows or more: then it is the pixel in the middle.
  const pixel = [
    [2, 2],
    [2, 2],
  ];
  assert.deepEqual(rowsOf(apply(high, T.randomResizedCrop(2, { ratio: [3, 4] }))), pixel);
  assert.deepEqual(rowsOf(apply(plane([[1, 2, 3]]), T.randomResizedCrop(2, { ratio: [0.2, 0.3] }))), pixel);
});

law(t, 'what a picture becomes follows from key and index, whatever else is in the batch', () => {
  const source = randomSource(40);
  const list = [T.randomResizedCrop(5), T.randomHorizontalFlip(), T.randomCrop(5, { padding: 2 })];
  const read = (indices: number[], key: readonly [number, number]) => {
    let out = new Float32Array(0);
    new ImagePlan(list).fill('test', source, Int32Array.from(indices), key, shape => {
      out = new Float32Array(shape.reduce((a, b) => a * b));
      return out;
    });
    return Array.from({ length: indices.length }, (_, b) => String(out.slice(b * 75, (b + 1) * 75)));
  };
  const all = read(
    Array.from({ length: 40 }, (_, i) => i),
    [1, 2],
  );
  assert.deepEqual(read([7, 3, 39, 3], [1, 2]), [all[7], all[3], all[39], all[3]]);
  for (const key of [
    [1, 3],
    [2, 2],
  ] as const)
    assert.notDeepEqual(read([7], key), [all[7]]);
});

law(
  t,
  'channelStatistics is mean and standard deviation over all pixels, and normalize with them gives 0 and 1',
  () => {
    const source = randomSource(7, [3, 5, 4], 2);
    const told: number[][] = [];
    const { mean, std } = channelStatistics(source, { progress: (...x) => told.push(x) });
    const planes = Array.from({ length: 7 }, (_, i) => planesOf(source.picture(i)));
    for (const c of [0, 1, 2]) {
      const values = planes.flatMap(all => all[c]!.flat()).map(x => x / 255);
      const m = values.reduce((a, b) => a + b) / values.length;
      const variance = values.reduce((sum, x) => sum + (x - m) ** 2, 0) / values.length;
      mustBeClose([mean[c]!, std[c]!], [m, Math.sqrt(variance)], { atol: 1e-12, rtol: 0 });
    }
    assert.deepEqual(told.at(-1), [7, 7]);
    const all = transformImages(
      planes.map((_, i) => source.picture(i)),
      [T.normalize(mean, std)],
    );
    mustBeClose(all.mean([0, 2, 3]), [0, 0, 0], { atol: 1e-5, rtol: 0 });
    mustBeClose(all.var([0, 2, 3], { correction: 0 }), [1, 1, 1], { atol: 1e-5, rtol: 0 });
  },
);

law(t, 'a list of transforms is plain data: it survives JSON, and nothing changes it', () => {
  const list = imageTransforms([
    T.resize(9),
    T.randomResizedCrop([8, 7], { scale: [0.5, 1], ratio: [1, 2], antialias: false }),
    T.centerCrop(6),
    T.randomCrop(6, { padding: [1, 2], fill: [1, 2, 3], paddingMode: 'edge' }),
    T.randomHorizontalFlip(0.25),
    T.grayscale(),
    T.normalize([0.5], 0.25),
  ]);
  const kept = JSON.parse(JSON.stringify(list)) as ImageTransform[];
  assert.deepEqual(imageTransforms(kept), list);
  assert.ok(Object.isFrozen(list));
});
