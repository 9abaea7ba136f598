/** JPEG and PNG: pixels as libjpeg and libpng give them, every type of PNG by plain loops, and files that are broken. */

import assert from 'node:assert/strict';
import { deflateSync } from 'node:zlib';
import type { Picture } from '@otimes/data';
import { pictureDecoder } from '@otimes/data/node';
import fc from 'fast-check';
import t from 'tap';
import { golden } from './helpers/golden.ts';
import { chunk, jpegEncoder, PNG_SIGNATURE, png, pngHeader, pngOfRows } from './helpers/image-sets.ts';
import { law, property } from './helpers/law.ts';

const decode = await pictureDecoder();
const encode = await jpegEncoder();

type Recorded = Record<string, { file: string; pixels: string; wide?: number[] }>;
const recorded = golden<Recorded>('pictures');
const file = (name: string) => new Uint8Array(Buffer.from(recorded[name]!.file, 'base64'));
const pixels = (name: string) => [...Buffer.from(recorded[name]!.pixels, 'base64')];

const luma = (r: number, g: number, b: number) => 0.299 * r + 0.587 * g + 0.114 * b;
const plane = ({ data, height, width }: Picture, c: number) => [
  ...data.subarray(c * height * width, (c + 1) * height * width),
];

law(t, 'a JPEG or PNG has the pixels that libjpeg and libpng give, bit for bit: planes [3, height, width]', () => {
  const names = Object.keys(recorded).filter(name => name !== 'jpegCmyk' && name !== 'pngGrey16');
  assert.equal(names.length, 13);
  for (const name of names) {
    const picture = decode(file(name));
    assert.deepEqual([picture.channels, picture.height, picture.width], [3, 7, 11], name);
    assert.deepEqual([...picture.data], pixels(name), name);
  }
});

law(t, 'EXIF does not turn a picture, as in torchvision: one that is marked so has its stored height and width', () => {
  assert.ok(Buffer.from(file('jpegTurned')).includes('Exif'));
  const { height, width } = decode(file('jpegTurned'));
  assert.deepEqual([height, width], [7, 11]);
});

law(t, 'grey expands to three equal planes, and is one plane where one is asked for', () => {
  for (const name of ['jpegGrey', 'pngGrey']) {
    const [three, one] = [decode(file(name)), decode(file(name), { channels: 1 })];
    for (const c of [0, 1, 2]) assert.deepEqual(plane(three, c), [...one.data], name);
    assert.deepEqual([one.channels, one.height, one.width, one.data.length], [1, 7, 11, 77]);
  }
});

law(t, 'colours become grey by the luma of ITU-R BT.601, rounded', () => {
  for (const name of ['jpegBaseline', 'png', 'pngAlpha', 'pngPalette', 'pngPalette16']) {
    const [three, one] = [decode(file(name)), decode(file(name), { channels: 1 })];
    one.data.forEach((value, i) => {
      const exact = luma(plane(three, 0)[i]!, plane(three, 1)[i]!, plane(three, 2)[i]!);
      assert.ok(Math.abs(value - exact) <= 0.5 + 1e-2, `${name}: pixel ${i} is ${value}, luma ${exact}`);
    });
  }
});

law(t, '16 bits become the nearest 8', () => {
  const { data } = decode(file('pngGrey16'), { channels: 1 });
  assert.deepEqual(
    [...data],
    recorded.pngGrey16!.wide!.map(value => Math.round(value / 257)),
  );
});

// --- PNG by plain loops ---

/** PNG's types of colour: samples a pixel, and the depths that the format allows. */
const TYPES = [
  { color: 0, samples: 1, depths: [1, 2, 4, 8, 16] },
  { color: 2, samples: 3, depths: [8, 16] },
  { color: 3, samples: 1, depths: [1, 2, 4, 8] },
  { color: 4, samples: 2, depths: [8, 16] },
  { color: 6, samples: 4, depths: [8, 16] },
];
const pictures = fc
  .constantFrom(...TYPES.flatMap(({ depths, ...type }) => depths.map(depth => ({ ...type, depth }))))
  .chain(type =>
    fc.record({
      type: fc.constant(type),
      width: fc.integer({ min: 1, max: 13 }),
      height: fc.integer({ min: 1, max: 5 }),
      values: fc.infiniteStream(fc.nat(2 ** type.depth - 1)),
    }),
  );

/** Samples as bits, most significant first, filled up to a byte. */
function packed(row: readonly number[], depth: number): Uint8Array {
  const bits = row.map(value => value.toString(2).padStart(depth, '0')).join('');
  return Uint8Array.from({ length: Math.ceil(bits.length / 8) }, (_, i) =>
    Number.parseInt(bits.slice(8 * i, 8 * i + 8).padEnd(8, '0'), 2),
  );
}

law(t, 'PNGs of every type and depth have the pixels that plain loops give; alpha is left out', () => {
  property(
    pictures,
    ({ type: { color, samples, depth }, width, height, values }) => {
      const stream = values[Symbol.iterator]();
      const rows = Array.from({ length: height }, () =>
        Array.from({ length: width * samples }, () => stream.next().value as number),
      );
      const palette = Uint8Array.from({ length: 3 * 2 ** Math.min(depth, 8) }, (_, i) => (i * 91 + 7) & 255);
      const bytes = pngOfRows(
        pngHeader(width, height, depth, color),
        rows.map(row => packed(row, depth)),
        color === 3 ? palette : undefined,
      );
      const picture = decode(bytes);
      assert.deepEqual([picture.channels, picture.height, picture.width], [3, height, width]);
      for (let c = 0; c < 3; c++) {
        const sample = samples < 3 ? 0 : c;
        const expected = rows.flatMap(row =>
          Array.from({ length: width }, (_, x) => {
            const value = row[x * samples + sample]!;
            return color === 3 ? palette[3 * value + c]! : Math.round((value * 255) / (2 ** depth - 1));
          }),
        );
        assert.deepEqual(plane(picture, c), expected);
      }
    },
    200,
  );
});

// --- JPEG and the decoder ---

law(t, 'a JPEG of quality 95 is its picture within a few levels, grey, in colour and progressive', () => {
  const size = 24;
  const smooth = Uint8Array.from({ length: 3 * size * size }, (_, i) => 40 + 3 * (i % size) + ((i / size) | 0));
  for (const channels of [1, 3] as const)
    for (const progressive of [false, true]) {
      const planes = smooth.subarray(0, channels * size * size);
      const picture = decode(encode(planes, { channels, size, progressive }), { channels });
      assert.deepEqual([picture.channels, picture.height, picture.width], [channels, size, size]);
      picture.data.forEach((value, i) => {
        assert.ok(Math.abs(value - planes[i]!) <= 8, `${value}, stored ${planes[i]}`);
      });
    }
});

law(t, 'bytes decide what a file is, not its name; a view into a larger buffer is read as such', () => {
  const moved = (bytes: Uint8Array) => {
    const all = new Uint8Array(bytes.length + 9).fill(77);
    all.set(bytes, 5);
    return all.subarray(5, 5 + bytes.length);
  };
  for (const name of ['jpegProgressive', 'pngPalette4'])
    assert.deepEqual([...decode(moved(file(name)), { file: 'x.gif' }).data], pixels(name));
});

law(t, 'a picture that was decoded stays as it is while others are', () => {
  const first = decode(file('jpegBaseline'));
  decode(file('jpegSubsampled'));
  decode(file('png'));
  assert.deepEqual([...first.data], pixels('jpegBaseline'));
});

law(
  t,
  'the decoder is started once, and leaves no class ImageData among the globals, which tells browsers from Node',
  async () => {
    assert.equal(await pictureDecoder(), decode);
    assert.ok(!('ImageData' in globalThis));
  },
);

// --- hostile files ---

const jpeg = file('jpegBaseline');
/** Where the frame header of a JPEG begins. */
const frame = Buffer.from(jpeg).indexOf(Buffer.of(0xff, 0xc0));
const changed = (bytes: Uint8Array, at: number, ...to: number[]) => {
  const copy = Uint8Array.from(bytes);
  copy.set(to, at);
  return copy;
};
const tiny = png(new Uint8Array(12), { channels: 3, size: 2 });
const indexed = (depth: number, row: number[]) =>
  pngOfRows(pngHeader(8 / depth, 1, depth, 3), [Uint8Array.from(row)], Uint8Array.of(1, 2, 3, 4, 5, 6));
const withoutChunk = (type: string) => {
  const at = tiny.indexOf(type) - 4;
  return Buffer.concat([tiny.subarray(0, at), tiny.subarray(at + 12 + tiny.readUInt32BE(at))]);
};

/** Samples are missing at the end of pixels whose stream is whole. */
const SHORT = /not a whole PNG: its pixels take \d+ bytes, it has \d+$/;
const hostile: [string, Uint8Array, RegExp][] = [
  ['nothing', new Uint8Array(0), /neither JPEG nor PNG: it is empty/],
  ['text', Buffer.from('<html>no</html>'), /neither JPEG nor PNG: its first bytes are 3c 68 74 6d 6c 3e 6e 6f/],
  ['a GIF', Buffer.from('GIF89a'), /neither JPEG nor PNG: its first bytes are 47 49 46 38 39 61/],
  ["a JPEG's first two bytes", jpeg.subarray(0, 2), /not a whole JPEG: .*Premature end/],
  ["a JPEG's header", jpeg.subarray(0, 20), /not a whole JPEG: .*Premature end/],
  ['a JPEG that ends in its tables', jpeg.subarray(0, jpeg.length >> 1), /not a whole JPEG: .*Premature end/],
  ['a JPEG that ends in its pixels', jpeg.subarray(0, jpeg.length - 20), /not a whole JPEG: .*Premature end/],
  ['a JPEG without its last marker', jpeg.subarray(0, -2), /not a whole JPEG: .*Premature end/],
  ['a JPEG of 0 columns', changed(jpeg, frame + 7, 0, 0), /expected a picture with pixels, got 0 × 7/],
  ['a JPEG of 4 gigapixels', changed(jpeg, frame + 5, 255, 255, 255, 255), /at most 2²⁶ pixels, got 65535 × 65535/],
  ['a JPEG of 12 bits', changed(jpeg, frame + 4, 12), /not a whole JPEG: .*precision 12/],
  ['a JPEG in arithmetic coding', changed(jpeg, frame + 1, 0xc9), /not a whole JPEG: /],
  ['a JPEG of four inks', file('jpegCmyk'), /four inks \(CMYK\); save it as RGB or grey/],
  ["a PNG's signature", tiny.subarray(0, 8), /not a whole PNG: it ends in its header/],
  ['a PNG that ends in its pixels', tiny.subarray(0, -20), /not a whole PNG: it ends in the middle of a chunk/],
  ['a PNG without its end', tiny.subarray(0, -12), /not a whole PNG: it ends in the middle of a chunk/],
  ['a PNG with a wrong checksum', changed(tiny, 42, tiny[42]! ^ 1), /not a whole PNG: /],
  ['a PNG with a wrong checksum of its header', changed(tiny, 29, 0), /not a whole PNG: CRC mismatch .* IHDR/],
  ['a PNG without pixels', withoutChunk('IDAT'), /not a whole PNG: /],
  ['a PNG of 0 rows', pngOfRows(pngHeader(2, 0, 8, 0), []), /expected a picture with pixels, got 2 × 0/],
  [
    'a PNG of 2⁴⁰ pixels',
    pngOfRows(pngHeader(2 ** 20, 2 ** 20, 8, 0), []),
    /at most 2²⁶ pixels, got 1048576 × 1048576/,
  ],
  ['a PNG with a row too few', pngOfRows(pngHeader(2, 3, 8, 0), [Buffer.of(1, 2)]), /not a whole PNG: /],
  ['a PNG that ends in its last row', pngOfRows(pngHeader(3, 2, 8, 0), [Buffer.of(1, 2, 3), Buffer.of(4, 5)]), SHORT],
  ['one of 16 bits', pngOfRows(pngHeader(1, 1, 16, 2), [Buffer.of(1, 2, 3, 4, 5)]), SHORT],
  ['an interlaced one', pngOfRows(pngHeader(1, 2, 8, 2, 1), [Buffer.of(1, 2, 3), Buffer.of(4, 5)]), SHORT],
  ['a PNG of 3 bits', pngOfRows(pngHeader(2, 1, 3, 0), [Buffer.of(1)]), /not a whole PNG: invalid bit depth: 3/],
  ['a PNG of an unknown type', pngOfRows(pngHeader(2, 1, 8, 5), [Buffer.of(1, 2)]), /not a whole PNG: .*color type: 5/],
  ['a PNG with an unknown filter', pngFiltered(9), /not a whole PNG: .*filter.*9/i],
  ['a colour beyond the palette', indexed(4, [0x10 + 9]), /pixel 1 has the colour 9 of a palette of 2/],
  ['a palette that is missing', pngOfRows(pngHeader(2, 1, 8, 3), [Buffer.of(0, 1)]), /the colour 0 of a palette of 0/],
  ['two headers', twoHeaders(), /not a whole PNG: it has more than one header/],
  ['an interlaced PNG of 4 bits', pngOfRows(pngHeader(2, 1, 4, 0, 1), [Buffer.of(1)]), /interlaced PNG of 4 bits/],
];

function pngFiltered(filter: number): Buffer {
  const good = pngOfRows(pngHeader(2, 1, 8, 0), [Buffer.of(1, 2)]);
  const data = deflateSync(Buffer.of(filter, 1, 2));
  return Buffer.concat([good.subarray(0, 33), chunk('IDAT', data), good.subarray(-12)]);
}

function twoHeaders(): Buffer {
  const [small, large] = [pngHeader(1, 1, 8, 0), pngHeader(2, 2, 8, 0)];
  const rest = pngOfRows(large, [Buffer.of(1, 2), Buffer.of(3, 4)]).subarray(8);
  return Buffer.concat([PNG_SIGNATURE, small, rest]);
}

for (const [what, bytes, message] of hostile)
  law(t, `${what}: a FormatError that names the file`, () => {
    assert.throws(() => decode(bytes, { file: '/a/b.jpg' }), {
      name: 'FormatError',
      message: new RegExp(`^/a/b\\.jpg: .*${message.source}`, message.flags),
    });
    // And the decoder goes on.
    assert.deepEqual([...decode(jpeg).data], pixels('jpegBaseline'));
  });

law(t, 'a file that is cut off anywhere is a FormatError: nothing is half read', () => {
  for (const name of ['jpegSubsampled', 'jpegProgressive', 'png', 'pngInterlaced', 'pngPalette2']) {
    const bytes = file(name);
    // A JPEG that breaks off has its decoder made anew, which takes milliseconds.
    const step = name.startsWith('jpeg') ? 7 : 1;
    for (let length = bytes.length - 1; length >= 0; length -= step)
      assert.throws(() => decode(bytes.subarray(0, length)), { name: 'FormatError' }, `${name}, ${length} bytes`);
  }
});

law(t, 'bytes changed anywhere give a picture or a FormatError, never another error', () => {
  const changes = fc.record({
    name: fc.constantFrom('jpegBaseline', 'jpegProgressive', 'png', 'pngPalette4', 'pngGrey16'),
    at: fc.nat(500),
    to: fc.uint8Array({ minLength: 1, maxLength: 4 }),
  });
  property(
    changes,
    ({ name, at, to }) => {
      const bytes = file(name);
      try {
        decode(changed(bytes, at % (bytes.length - to.length), ...to));
      } catch (error) {
        assert.equal((error as Error).name, 'FormatError', String((error as Error).cause));
      }
    },
    400,
  );
});
