/** The safetensors format: exactness, the bytes of the Rust library, hostile files, and saving without half-files. */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import {
  type DType,
  FormatError,
  loadSafetensors,
  type StateDict,
  saveSafetensors,
  type Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import { load, loadMetadata, save } from '@otimes/core/node';
import fc from 'fast-check';
import t from 'tap';
import { startNode } from './helpers/program.ts';

/** A file by its header's text, as it is (no padding added), and its data. */
function file(header: string, data: ArrayLike<number> = [], length?: bigint): Uint8Array {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

const latin = (text: string): number[] => Array.from(text, c => c.charCodeAt(0));
const scratch = (): string => {
  const folder = mkdtempSync(join(tmpdir(), 'otimes-safetensors-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
};

const values: Record<DType, fc.Arbitrary<number>> = {
  float64: fc.double(),
  float32: fc.float(),
  int32: fc.integer(),
  bool: fc.nat(1),
};

/** A tensor that is a view in one of several ways: contiguous, transposed, strided, reversed, with an offset, expanded. */
const tensors: fc.Arbitrary<Tensor> = fc
  .tuple(
    fc.constantFrom<DType>('float64', 'float32', 'int32', 'bool'),
    fc.array(fc.nat(4), { maxLength: 4 }),
    fc.constantFrom('plain', 'transposed', 'strided', 'reversed', 'offset', 'expanded'),
  )
  .chain(([dtype, shape, view]) => {
    const size = shape.reduce((product, length) => product * length, 1);
    return fc.array(values[dtype], { minLength: size, maxLength: size }).map(data => {
      const x = tensor(data, { dtype, shape });
      if (x.rank === 0) return view === 'expanded' ? x.expand([3]) : x;
      if (view === 'transposed') return x.permute(shape.map((_, i) => shape.length - 1 - i));
      if (view === 'strided') return x.slice([null, null, 2]);
      if (view === 'reversed') return x.slice([null, null, -1]);
      if (view === 'offset') return x.slice([1, null]);
      if (view === 'expanded') return x.unsqueeze(0).expand([2, ...shape]);
      return x;
    });
  });

const dicts = fc.dictionary(
  fc
    .oneof(fc.string({ unit: 'grapheme' }), fc.constantFrom('__proto__', 'constructor', '0', '10', 'a.0.weight', ''))
    .filter(name => name !== '__metadata__'),
  tensors,
  { maxKeys: 6 },
);

/** Throws unless the tensors agree in name, dtype, shape and every bit. */
function sameDict(actual: StateDict, expected: StateDict): void {
  assert.deepEqual(Object.keys(actual).sort(), Object.keys(expected).sort());
  for (const [name, x] of Object.entries(expected)) {
    assert.equal(actual[name]!.dtype, x.dtype, name);
    assert.deepEqual(actual[name]!.shape, x.shape, name);
    assert.deepEqual(elementBytes(actual[name]!), elementBytes(x), name);
  }
}

function elementBytes(x: Tensor): Uint8Array {
  return new Uint8Array(x.dataSync().buffer);
}

t.test('load(save(x)) is x, bit for bit: dtypes, shapes, sizes 0, rank 0, views, names, alignments', async () => {
  fc.assert(
    fc.property(dicts, fc.option(fc.dictionary(fc.string(), fc.string())), fc.nat(7), (dict, metadata, shift) => {
      const bytes = saveSafetensors(dict, metadata ?? undefined);
      const moved = new Uint8Array(bytes.length + 8).subarray(shift, shift + bytes.length);
      moved.set(bytes);
      sameDict(loadSafetensors(moved), dict);
      // What was written has one canonical form.
      assert.deepEqual(saveSafetensors(loadSafetensors(bytes), metadata ?? undefined), bytes);
    }),
    { numRuns: 300 },
  );
});

t.test('NaN payloads, infinities, signed zeros and subnormals survive', async t => {
  const bits = Uint32Array.of(0x7fc12345, 0xffc00001, 0x7f800000, 0xff800000, 0x80000000, 1, 0x807fffff);
  const x = tensor(new Float32Array(bits.buffer));
  t.strictSame(new Uint32Array(loadSafetensors(saveSafetensors({ x })).x!.dataSync().buffer), bits);
});

t.test('the bytes are those of the Rust library: padding, key order, order of tensors', async t => {
  // The first four are the expectations of the library's own tests.
  t.strictSame([...saveSafetensors({})], [8, 0, 0, 0, 0, 0, 0, 0, ...latin('{}      ')]);
  t.strictSame(
    [...saveSafetensors({}, { framework: 'pt' })],
    [40, 0, 0, 0, 0, 0, 0, 0, ...latin('{"__metadata__":{"framework":"pt"}}     ')],
  );
  const six = [0, 0, 0, 0, 0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, 128, 64, 0, 0, 160, 64];
  const range = tensor([0, 1, 2, 3, 4, 5]);
  t.strictSame(
    [...saveSafetensors({ 'attn.0': range.reshape(1, 2, 3) })],
    [64, 0, 0, 0, 0, 0, 0, 0, ...latin('{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}'), ...six],
  );
  t.strictSame(
    [...saveSafetensors({ attn0: range.reshape(1, 1, 2, 3) })],
    [
      72,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      ...latin('{"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       '),
      ...six,
    ],
  );
  const header =
    '{"__metadata__":{"epoch":"3"},' +
    '"z":{"dtype":"F64","shape":[],"data_offsets":[0,8]},' +
    '"10":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},' +
    '"9":{"dtype":"F32","shape":[0,2],"data_offsets":[12,12]},' +
    '"\uffee":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},' +
    '"\u{1f600}":{"dtype":"F32","shape":[1],"data_offsets":[16,20]},' +
    '"b":{"dtype":"I32","shape":[1],"data_offsets":[20,24]},' +
    '"a":{"dtype":"BOOL","shape":[2],"data_offsets":[24,26]}}';
  const padded = header + ' '.repeat((8 - (new TextEncoder().encode(header).length % 8)) % 8);
  const data = [0, 0, 0, 0, 0, 0, 240, 63, 0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 255, 255, 255, 255, 1, 0];
  t.strictSame(
    saveSafetensors(
      {
        a: tensor([true, false]),
        b: tensor([-1], { dtype: 'int32' }),
        '\u{1f600}': tensor([3]),
        '\uffee': tensor([2]),
        9: zeros([0, 2]),
        10: tensor([1]),
        z: tensor(1, { dtype: 'float64' }),
      },
      { epoch: '3' },
    ),
    file(padded, data),
  );
});

t.test("a file as PyTorch writes it: BF16 and F16 weights, an I64 counter, BatchNorm's statistics", async t => {
  const header =
    '{"__metadata__":{"format":"pt"},' +
    '"bn.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[0,8]},' +
    '"bn.running_var":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},' +
    '"fc.weight":{"dtype":"BF16","shape":[2,2],"data_offsets":[16,24]},' +
    '"fc.bias":{"dtype":"F16","shape":[4],"data_offsets":[24,32]}}';
  const bytes = file(header + ' '.repeat((8 - (header.length % 8)) % 8), [
    ...[0x39, 0x30, 0, 0, 0, 0, 0, 0],
    ...[0, 0, 0, 0x3f, 0, 0, 0xc0, 0x3f],
    ...[0x80, 0x3f, 0x49, 0xc0, 0x80, 0x7f, 0x01, 0x00],
    ...[0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00, 0xff, 0x7b],
  ]);
  const state = loadSafetensors(bytes);
  t.strictSame(
    Object.entries(state).map(([name, x]) => [name, x.dtype, x.shape, x.toArray()]),
    [
      ['bn.num_batches_tracked', 'int32', [], 12345],
      ['bn.running_var', 'float32', [2], [0.5, 1.5]],
      [
        'fc.weight',
        'float32',
        [2, 2],
        [
          [1, -3.140625],
          [Infinity, 2 ** -133],
        ],
      ],
      ['fc.bias', 'float32', [4], [1, -2, 2 ** -24, 65504]],
    ],
  );
});

t.test('all 65,536 values of F16 and of BF16 become the float32 of the same value', async t => {
  const data = new Uint8Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer);
  const read = (dtype: string) =>
    loadSafetensors(file(`{"x":{"dtype":"${dtype}","shape":[65536],"data_offsets":[0,131072]}}`, data)).x!.dataSync();
  const half = (bits: number, exponentBits: number, fractionBits: number): number => {
    const sign = bits >> 15 === 1 ? -1 : 1;
    const exponent = (bits >> fractionBits) & (2 ** exponentBits - 1);
    const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
    const bias = 2 ** (exponentBits - 1) - 1;
    if (exponent === 2 * bias + 1) return fraction === 0 ? sign * Infinity : NaN;
    return sign * (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias));
  };
  const [f16, bf16] = [read('F16'), read('BF16')];
  for (let i = 0; i < 65536; i++)
    if (!Object.is(f16[i], half(i, 5, 10)) || !Object.is(bf16[i], half(i, 8, 7)))
      t.fail(`bits ${i}: ${f16[i]} and ${bf16[i]}, expected ${half(i, 5, 10)} and ${half(i, 8, 7)}`);
});

t.test('other integers become int32, exactly or not at all', async t => {
  const one = (dtype: string, data: readonly number[], length = 1) =>
    loadSafetensors(file(`{"n":{"dtype":"${dtype}","shape":[${length}],"data_offsets":[0,${data.length}]}}`, data)).n!;
  t.strictSame(one('I8', [0x80, 0x7f], 2).toArray(), [-128, 127]);
  t.strictSame(one('U8', [0x80, 0xff], 2).toArray(), [128, 255]);
  t.strictSame(one('I16', [0, 0x80, 1, 0], 2).toArray(), [-32768, 1]);
  t.strictSame(one('U16', [0, 0x80, 1, 0], 2).toArray(), [32768, 1]);
  t.strictSame(one('U32', [255, 255, 255, 127]).toArray(), [2147483647]);
  t.strictSame(one('I64', [0, 0, 0, 128, 255, 255, 255, 255]).toArray(), [-2147483648]);
  t.strictSame(one('U64', [255, 255, 255, 127, 0, 0, 0, 0]).toArray(), [2147483647]);
  t.equal(one('I64', Array(8).fill(255)).dtype, 'int32');
  t.throws(
    () => one('U32', [0, 0, 0, 128]),
    new FormatError("safetensors: tensor 'n' holds 2147483648 at element 0, int32 cannot"),
  );
  t.throws(() => one('I64', [255, 255, 255, 127, 255, 255, 255, 255]), /'n' holds -2147483649/);
  t.throws(() => one('U64', Array(8).fill(255)), /'n' holds 18446744073709551615/);
});

const F32 = (shape: string, begin: unknown, end: unknown) =>
  `{"dtype":"F32","shape":${shape},"data_offsets":[${begin},${end}]}`;
const zerosOf = (length: number) => new Uint8Array(length);

const HOSTILE: readonly (readonly [what: string, bytes: Uint8Array, message: RegExp])[] = [
  ['no bytes', new Uint8Array(0), /at least 8 bytes .* got 0/],
  ['7 bytes', new Uint8Array(7), /at least 8 bytes .* got 7/],
  ['an empty header', file(''), /not JSON/],
  ['a header beyond the file', file('{}', [], 3n), /header has 3 bytes, the file ends after 2/],
  [
    'a header length of 2⁶⁴ − 1',
    file('{}', [], 18446744073709551615n),
    /18446744073709551615 bytes is beyond the limit/,
  ],
  ['a header length of 100 MB and one', file('{}', [], 100000001n), /100000001 bytes is beyond the limit/],
  ['a header that is not UTF-8', file('{}', [0xff], 3n), /not UTF-8/],
  ['a byte order mark', file('\ufeff{}'), /not JSON/],
  ['a header that is not JSON', file('{"a":}'), /not JSON/],
  ['a header with a zero byte', file('{}\0'), /not JSON/],
  ['an array', file('[]'), /must be a JSON object, got \[\]/],
  ['a number', file('12'), /must be a JSON object, got 12/],
  ['null', file('null'), /must be a JSON object, got null/],
  ['a space before the header', file(' {}'), /must be a JSON object from its first byte on, got " " before it/],
  ['arrays a million deep', file('['.repeat(1e6) + ']'.repeat(1e6)), /must be a JSON object/],
  ['objects a million deep', file(`${'{"a":'.repeat(1e6)}1${'}'.repeat(1e6)}`), /expected a dtype, got nothing/],
  ['a shape a million deep', file(`{"a":${F32(`${'['.repeat(1e6)}${']'.repeat(1e6)}`, 0, 0)}}`), /shape/],
  ['a million escapes', file(`{"a":"${'\\"'.repeat(1e6)}"}`), /expected an object/],
  ['a tensor twice', file(`{"a":${F32('[]', 0, 4)},"a":${F32('[]', 0, 4)}}`, zerosOf(4)), /the key 'a' twice/],
  [
    'a tensor twice, once escaped',
    file(`{"a":${F32('[]', 0, 4)},"\\u0061" :${F32('[]', 4, 8)}}`, zerosOf(8)),
    /'a' twice/,
  ],
  [
    'a dtype twice',
    file('{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}', zerosOf(4)),
    /'dtype' twice/,
  ],
  ['metadata twice', file('{"__metadata__":{},"__metadata__":{}}'), /'__metadata__' twice/],
  ['a tensor that is a number', file('{"a":3}'), /'a': expected an object, got 3/],
  ['a tensor that is an array', file('{"a":[[1]]}'), /'a': expected an object, got \[an array\]/],
  ['__proto__ that is a number', file('{"__proto__":3}'), /'__proto__': expected an object/],
  ['no dtype', file('{"a":{"shape":[],"data_offsets":[0,4]}}', zerosOf(4)), /'a': expected a dtype, got nothing/],
  [
    'a dtype of no kind',
    file('{"a":{"dtype":7,"shape":[],"data_offsets":[0,4]}}', zerosOf(4)),
    /'a': expected a dtype, got 7/,
  ],
  [
    'a dtype that we lack',
    file('{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}', [0]),
    /'a': no dtype 'F8_E4M3'/,
  ],
  [
    'a dtype from the prototype',
    file('{"a":{"dtype":"constructor","shape":[1],"data_offsets":[0,1]}}', [0]),
    /no dtype 'constructor'/,
  ],
  ['no shape', file('{"a":{"dtype":"F32","data_offsets":[0,4]}}', zerosOf(4)), /'a': expected a shape .* got nothing/],
  ['a negative length', file(`{"a":${F32('[-1]', 0, 4)}}`, zerosOf(4)), /'a': expected a shape .* got \[-1\]/],
  ['two negative lengths', file(`{"a":${F32('[-1,-1]', 0, 4)}}`, zerosOf(4)), /'a': expected a shape/],
  ['a length of −0', file(`{"a":${F32('[-0]', 0, 0)}}`), /'a': expected a shape/],
  ['a fractional length', file(`{"a":${F32('[1.5]', 0, 6)}}`, zerosOf(6)), /'a': expected a shape .* got \[1.5\]/],
  ['a length as text', file(`{"a":${F32('["1"]', 0, 4)}}`, zerosOf(4)), /'a': expected a shape .* got \["1"\]/],
  ['a length beyond 2⁵³', file(`{"a":${F32('[9007199254740993]', 0, 4)}}`, zerosOf(4)), /'a': expected a shape/],
  [
    'a product beyond 2⁵³',
    file(`{"a":${F32('[4294967296,4294967296]', 0, 0)}}`),
    /'a': a shape of more than 2⁵³ elements/,
  ],
  ['a product beyond 2⁵³, times 0', file(`{"a":${F32('[4294967296,4294967296,0]', 0, 0)}}`), /more than 2⁵³/],
  ['a product beyond every number', file(`{"a":${F32(`[${Array(99).fill(2 ** 40)}]`, 0, 0)}}`), /more than 2⁵³/],
  ['no offsets', file('{"a":{"dtype":"F32","shape":[]}}', zerosOf(4)), /'a': expected data_offsets .* got nothing/],
  [
    'three offsets',
    file('{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4,4]}}', zerosOf(4)),
    /'a': expected data_offsets/,
  ],
  ['a negative offset', file(`{"a":${F32('[]', -4, 0)}}`, zerosOf(4)), /'a': expected data_offsets .* got \[-4,0\]/],
  ['a fractional offset', file(`{"a":${F32('[]', 0.5, 4.5)}}`, zerosOf(5)), /'a': expected data_offsets/],
  ['an infinite offset', file(`{"a":${F32('[]', 0, '1e999')}}`, zerosOf(4)), /'a': expected data_offsets/],
  ['reversed offsets', file(`{"a":${F32('[]', 4, 0)}}`, zerosOf(4)), /'a': data_offsets are reversed: 4 … 0/],
  ['offsets beyond the data', file(`{"a":${F32('[2]', 0, 8)}}`, zerosOf(4)), /'a' ends at byte 8, the data at 4/],
  ['a tensor of terabytes', file(`{"a":${F32('[1099511627776]', 0, 4398046511104)}}`), /ends at byte 4398046511104/],
  [
    'offsets too narrow for the shape',
    file(`{"a":${F32('[2]', 0, 4)}}`, zerosOf(4)),
    /F32\[2\] takes 8 bytes, data_offsets span 4/,
  ],
  [
    'offsets too wide for the shape',
    file(`{"a":${F32('[]', 0, 8)}}`, zerosOf(8)),
    /F32\[\] takes 4 bytes, data_offsets span 8/,
  ],
  [
    'an overlap',
    file(`{"a":${F32('[2]', 0, 8)},"b":${F32('[2]', 4, 12)}}`, zerosOf(12)),
    /an overlap before tensor 'b'/,
  ],
  [
    'the same bytes twice',
    file(`{"a":${F32('[]', 0, 4)},"b":${F32('[]', 0, 4)}}`, zerosOf(4)),
    /an overlap before tensor 'b'/,
  ],
  ['a gap', file(`{"a":${F32('[]', 0, 4)},"b":${F32('[]', 8, 12)}}`, zerosOf(12)), /a gap before tensor 'b'/],
  ['a gap at the start', file(`{"a":${F32('[]', 4, 8)}}`, zerosOf(8)), /a gap before tensor 'a'/],
  [
    'an empty tensor inside another',
    file(`{"a":${F32('[2]', 0, 8)},"b":${F32('[0]', 4, 4)}}`, zerosOf(8)),
    /an overlap before/,
  ],
  ['trailing bytes', file(`{"a":${F32('[]', 0, 4)}}`, zerosOf(5)), /1 bytes after the last tensor/],
  ['data without tensors', file('{}', [1]), /1 bytes after the last tensor/],
  ['metadata that is a list', file('{"__metadata__":["a"]}'), /__metadata__ must be an object, got \['a'\]/],
  ['metadata that is null', file('{"__metadata__":null}'), /__metadata__ must be an object, got null/],
  ['metadata with a number', file('{"__metadata__":{"epoch":3}}'), /__metadata__ 'epoch' must be a string, got 3/],
  [
    'a boolean of 2',
    file('{"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}', [1, 2]),
    /BOOL tensor 'a' holds 2 at element 1/,
  ],
];

t.test('each kind of broken file is a FormatError that names what is wrong', async t => {
  for (const [what, bytes, message] of HOSTILE)
    t.throws(() => loadSafetensors(bytes), { name: 'FormatError', message }, what);
});

t.test('names and metadata keys such as __proto__ are names like any other', async t => {
  const bytes = file(
    `{"__metadata__":{"__proto__":"p"},"__proto__":${F32('[]', 0, 4)},"toString":${F32('[]', 4, 8)}}`,
    zerosOf(8),
  );
  const state = loadSafetensors(bytes);
  t.strictSame(Object.keys(state), ['__proto__', 'toString']);
  t.equal(Object.getPrototypeOf(state), Object.prototype);
  t.notOk('dtype' in {});
});

t.test('a random change of a valid file gives a FormatError or tensors that its header still describes', async t => {
  const original = saveSafetensors(
    {
      w: tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]),
      b: tensor([true, false, true]),
      n: tensor(7, { dtype: 'int32' }),
      e: zeros([0, 3], { dtype: 'float64' }),
    },
    { note: 'a "quoted" text' },
  );
  const dataAt = original.length - (24 + 3 + 4);
  let survived = 0;
  const change = fc.tuple(fc.nat(original.length - 1), fc.nat(255));
  fc.assert(
    fc.property(
      fc.array(change, { minLength: 1, maxLength: 4 }),
      fc.option(fc.nat(original.length)),
      (changes, cut) => {
        const bytes = original.slice(0, cut ?? undefined);
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        let state: StateDict;
        try {
          state = loadSafetensors(bytes);
        } catch (error) {
          if (error instanceof FormatError) return;
          throw error;
        }
        survived++;
        const total = Object.values(state).reduce((sum, x) => sum + elementBytes(x).length, 0);
        assert.ok(total <= bytes.length);
        // The header is as before: then each tensor is exactly its part of the data.
        if (changes.every(([at]) => at >= dataAt)) {
          const parts = ['w', 'n', 'b'].map(name => elementBytes(state[name]!));
          assert.deepEqual(Buffer.concat(parts), Buffer.from(bytes.subarray(dataAt)));
        }
      },
    ),
    { numRuns: 3000 },
  );
  t.ok(survived > 0, 'some changes touch nothing that can be checked');
});

t.test('random bytes are never anything but a FormatError', async () => {
  const anything = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.tuple(fc.json(), fc.uint8Array({ maxLength: 16 })).map(([header, data]) => file(header, data)),
    fc
      .dictionary(
        fc.string(),
        fc.record({ dtype: fc.constantFrom('F32', 'I64', 'x'), shape: fc.jsonValue(), data_offsets: fc.jsonValue() }),
      )
      .map(header => file(JSON.stringify(header))),
  );
  fc.assert(
    fc.property(anything, bytes => {
      try {
        loadSafetensors(bytes);
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
      }
    }),
    { numRuns: 1000 },
  );
});

t.test('what the format cannot hold is refused when it is saved', async t => {
  t.throws(() => saveSafetensors({ __metadata__: zeros([1]) }), { name: 'FormatError', message: /__metadata__/ });
  t.throws(() => saveSafetensors({ '\ud800': zeros([1]) }), { name: 'FormatError', message: /not valid Unicode/ });
  const metadata = JSON.parse('{"epoch":3}') as Record<string, string>;
  t.throws(() => saveSafetensors({}, metadata), { name: 'FormatError', message: /'epoch' must be a string/ });
  const wrong = (tensors: object) => () => saveSafetensors(tensors as StateDict);
  t.throws(wrong({ model: { weight: zeros([1]) } }), {
    name: 'TypeError',
    message: /tensors by name, got \{ model \}; 'model' is \{ weight \}: flatten it, to names such as 'model\.weight'/,
  });
  t.throws(wrong({ a: zeros([1]), b: new Uint8Array(1) }), /'b' is a Uint8Array: make it a tensor\(…\)/);
});

t.test('load(path) is what save(path) got, metadata too; errors name the file', async t => {
  const path = join(scratch(), 'model.safetensors');
  const state = {
    'fc.weight': tensor([
      [1, 2],
      [3, 4],
    ]).transpose(),
    n: tensor(3, { dtype: 'int32' }),
  };
  save(path, state, { epoch: '3', __proto__x: 'y' });
  sameDict(load(path), state);
  t.strictSame(loadMetadata(path), { epoch: '3', __proto__x: 'y' });
  t.strictSame(new Uint8Array(readFileSync(path)), saveSafetensors(state, { epoch: '3', __proto__x: 'y' }));
  save(path, state);
  t.strictSame(loadMetadata(path), {}, 'an overwrite leaves nothing of the old file');
  writeFileSync(path, 'no such format');
  t.throws(() => load(path), { name: 'FormatError', message: `${path}: safetensors: a header of ` });
  t.throws(() => load(`${path}.missing`), { code: 'ENOENT' });
});

t.test('a save that fails leaves the old file whole and nothing beside it', async t => {
  const folder = scratch();
  const path = join(folder, 'model.safetensors');
  save(path, { x: tensor([1, 2, 3]) });
  const released = zeros([4]);
  released.storage.release();
  t.throws(() => save(path, { x: zeros([9]), released }), { name: 'ReleasedError' });
  sameDict(load(path), { x: tensor([1, 2, 3]) });
  mkdirSync(join(folder, 'taken'));
  t.throws(() => save(join(folder, 'taken'), { x: zeros([1]) }), 'a name that cannot be replaced');
  t.throws(() => save(join(folder, 'missing', 'x'), { x: zeros([1]) }), { code: 'ENOENT' });
  t.strictSame(readdirSync(folder).sort(), ['model.safetensors', 'taken']);
});

t.test('a process killed while it saves leaves a whole file', async t => {
  const path = join(scratch(), 'model.safetensors');
  const program = `
    import { full } from '@otimes/core';
    import { save } from '@otimes/core/node';
    for (let i = 0; ; i++) {
      save(${JSON.stringify(path)}, { x: full([500000], i), i: full([], i) });
      if (i === 2) process.stdout.write('saved');
    }`;
  const node = ['--conditions=@otimes/source', '--import', 'tsx', '--input-type=module', '--eval', program];
  for (const wait of [3, 20]) {
    const child = startNode(node);
    await once(child.stdout, 'data');
    await new Promise(resolve => setTimeout(resolve, wait));
    child.kill('SIGKILL');
    await once(child, 'exit');
    const { x, i } = load(path);
    t.ok(i!.item() >= 2);
    t.equal(x!.eq(i!).all().item(), 1, 'all of one save');
  }
  save(path, {});
  t.strictSame(readdirSync(dirname(path)), [basename(path)], 'what the killed ones left is gone');
});

t.test('a save removes temporary files of processes that are gone, and no others', async t => {
  const folder = scratch();
  const path = join(folder, 'model.safetensors');
  const child = startNode(['--eval', '']);
  await once(child, 'exit');
  const temporary = (owner: string, name = path): string => `${name}.${owner}-${randomUUID()}.tmp`;
  const before = new Date(Date.now() - 1000 * process.uptime() - 60_000);
  const [dead, old] = [temporary(`${hostname()}-${child.pid}`), temporary(`${hostname()}-${process.pid}`)];
  const others = [
    temporary(`${hostname()}-${process.pid}`),
    temporary(`${hostname()}-${process.ppid}`),
    temporary(`elsewhere-${child.pid}`),
    temporary(`${hostname()}-${child.pid}`, join(folder, 'other')),
    `${path}.tmp`,
  ];
  for (const file of [dead, old, ...others]) writeFileSync(file, 'x');
  utimesSync(old, before, before);
  save(path, {});
  t.strictSame(readdirSync(folder).sort(), [path, ...others].map(file => basename(file)).sort());
});

t.test('bools are written as 0 and 1, whatever was written to their memory', async t => {
  const x = tensor([true, false]);
  (x.ndarray().data as Uint8Array).set([7, 0]);
  t.strictSame(loadSafetensors(saveSafetensors({ x })).x!.toArray(), [true, false]);
});
