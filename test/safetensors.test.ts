/** The safetensors format: exactness, the bytes of the Rust library, and saving without half-files. */

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
import { law } from './helpers/law.ts';
import { startNode } from './helpers/program.ts';
import { elementBytes, file } from './helpers/safetensors.ts';

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

law(t, 'load(save(x)) is x, bit for bit: dtypes, shapes, sizes 0, rank 0, views, names, alignments', async () => {
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

law(t, 'NaN payloads, infinities, signed zeros and subnormals survive', async t => {
  const bits = Uint32Array.of(0x7fc12345, 0xffc00001, 0x7f800000, 0xff800000, 0x80000000, 1, 0x807fffff);
  const x = tensor(new Float32Array(bits.buffer));
  t.strictSame(new Uint32Array(loadSafetensors(saveSafetensors({ x })).x!.dataSync().buffer), bits);
});

law(t, 'the bytes are those of the Rust library: padding, key order, order of tensors', async t => {
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

law(t, "a file as PyTorch writes it: BF16 and F16 weights, an I64 counter, BatchNorm's statistics", async t => {
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

law(t, 'all 65,536 values of F16 and of BF16 become the float32 of the same value', async t => {
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

law(t, 'other integers become int32, exactly or not at all', async t => {
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

law(t, 'what the format cannot hold is refused when it is saved', async t => {
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

law(t, 'load(path) is what save(path) got, metadata too; errors name the file', async t => {
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

law(t, 'a save that fails leaves the old file whole and nothing beside it', async t => {
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

law(t, 'a process killed while it saves leaves a whole file', async t => {
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

law(t, 'a save removes temporary files of processes that are gone, and no others', async t => {
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

law(t, 'bools are written as 0 and 1, whatever was written to their memory', async t => {
  const x = tensor([true, false]);
  (x.ndarray().data as Uint8Array).set([7, 0]);
  t.strictSame(loadSafetensors(saveSafetensors({ x })).x!.toArray(), [true, false]);
});
