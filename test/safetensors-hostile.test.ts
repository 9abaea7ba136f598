/** Broken and hostile files of safetensors. */

import assert from 'node:assert/strict';
import { FormatError, loadSafetensors, type StateDict, saveSafetensors, tensor, zeros } from '@otimes/core';
import fc from 'fast-check';
import t from 'tap';
import { law } from './helpers/law.ts';
import { elementBytes, file } from './helpers/safetensors.ts';

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

law(t, 'each kind of broken file is a FormatError that names what is wrong', async t => {
  for (const [what, bytes, message] of HOSTILE)
    t.throws(() => loadSafetensors(bytes), { name: 'FormatError', message }, what);
});

law(t, 'names and metadata keys such as __proto__ are names like any other', async t => {
  const bytes = file(
    `{"__metadata__":{"__proto__":"p"},"__proto__":${F32('[]', 0, 4)},"toString":${F32('[]', 4, 8)}}`,
    zerosOf(8),
  );
  const state = loadSafetensors(bytes);
  t.strictSame(Object.keys(state), ['__proto__', 'toString']);
  t.equal(Object.getPrototypeOf(state), Object.prototype);
  t.notOk('dtype' in {});
});

law(t, 'a random change of a valid file gives a FormatError or tensors that its header still describes', async t => {
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

law(t, 'random bytes are never anything but a FormatError', async () => {
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
