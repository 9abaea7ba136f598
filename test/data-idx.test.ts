/** IDX files and gzip: round trips, their bytes, and hostile files. */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type DType, type Tensor, tensor, zeros } from '@otimes/core';
import { gunzip, type IdxType, parseIdx, writeIdx } from '@otimes/data';
import { fashionMnist, readIdx } from '@otimes/data/node';
import fc from 'fast-check';
import t from 'tap';
import { law } from './helpers/law.ts';

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

law(t, 'parseIdx(writeIdx(x)) is x, for every type, shape and alignment', async () => {
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

law(t, 'the bytes are those of the format', async t => {
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

law(t, 'writeIdx refuses what a type cannot hold exactly', async t => {
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

law(t, 'each kind of broken IDX file is a FormatError that names what is wrong', async t => {
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

law(t, 'gunzip is the inverse of gzip; a broken or oversized file is a FormatError', async t => {
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

law(t, 'readIdx takes plain and gzip files and names the one that is broken', async t => {
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

law(t, 'Fashion-MNIST comes from its four files, with or without .gz', async t => {
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
