// The laws of the kernels that check values, for both variants; and that signatures are the modules' own.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t from 'tap';
import { kernels as packed } from '../kernels/src/generated/kernels.gen.ts';
import { unpack } from '../kernels/src/packed.ts';
import { check, FLOATS, lawsOfBoth, length, make, offset, randoms } from './helpers/kernels.ts';
import { law } from './helpers/law.ts';

const lawOfBoth = lawsOfBoth(t);

/** Positions at which something is made bad, in a list of so many elements. */
const bad = fc.array(fc.nat(200), { maxLength: 3 });

lawOfBoth('firstOutside is the position of the first index that is below 0 or not below the length, or −1', bench => {
  const limit = fc.oneof(fc.constantFrom(0, 1, 2 ** 31 - 1), fc.integer({ min: 1, max: 1000 }));
  const outside = fc.constantFrom(-1, -(2 ** 31), 0, 1, 2 ** 31 - 1);
  check(
    fc.property(length, limit, bad, outside, offset, (n, end, places, by, at) => {
      const index = randoms(n, n).map(x => Math.floor(((x + 1) / 2) * end));
      for (const place of places) if (place < n) index[place] = by < 0 ? by : Math.min(2 ** 31 - 1, end + by);
      const want = index.findIndex(i => i < 0 || i >= end);
      assert.equal(
        bench.with(at, () => bench.call.firstOutside_i32(n, end, bench.put('i32', index))),
        want,
      );
    }),
    200,
  );
});

lawOfBoth('firstNotFinite is the position of the first element that is NaN or infinite, or −1', bench => {
  for (const type of FLOATS)
    check(
      fc.property(length, bad, fc.constantFrom(NaN, Infinity, -Infinity), offset, (n, places, by, at) => {
        const largest = type === 'f32' ? 3.4028234663852886e38 : Number.MAX_VALUE;
        const x = make(
          type,
          randoms(n, n).map((x, i) => [x, 0, -0, largest, -largest, 5e-324][i % 6]!),
        );
        for (const place of places) if (place < n) x[place] = by;
        const want = x.findIndex((value: number) => !Number.isFinite(value));
        assert.equal(
          bench.with(at, () => bench.call[`firstNotFinite_${type}`](n, bench.put(type, x))),
          want,
        );
      }),
      200,
    );
});

lawOfBoth('every kernel of this file was called above', bench => {
  assert.deepEqual(bench.uncalled('check'), []);
});

type Signatures = { signaturesIn(path: string): { check(module: string, bytes: Uint8Array): void } };

law(t, 'a signature that differs from its export, or lacks one, is an Error with the name', async () => {
  const root = new URL('../kernels/', import.meta.url);
  const { signaturesIn }: Signatures = await import(new URL('signatures.mjs', root).href);
  const text = readFileSync(fileURLToPath(new URL('signatures.txt', root)), 'utf8');
  const folder = mkdtempSync(join(tmpdir(), 'otimes-'));
  const checked = (from: string, to: string) => {
    assert.ok(text.includes(from));
    const path = join(folder, 'signatures.txt');
    writeFileSync(path, text.replace(from, to));
    signaturesIn(path).check('kernels', unpack(packed, 'relaxed'));
  };
  try {
    checked('', '');
    assert.throws(() => checked('* scale: f32 f64', '* scale: f32'), /scale_f64: has no signature/);
    assert.throws(
      () => checked('beta: f64)', 'beta: T)'),
      /scale_f32: the signature says \(i32 i32 i32 i32 i32 f32 ->\)/,
    );
    assert.throws(() => checked('scratch: scratch)', 'scratch: scratch, more: flag)'), /sgemm: the signature says/);
    assert.throws(() => checked('* norm: f32 f64', '* norm length: f32 f64'), /length_f32.*the module has \(nothing\)/);
    assert.throws(() => checked('beta: f64)', 'beta: factor)'), /there is no role 'factor'/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
