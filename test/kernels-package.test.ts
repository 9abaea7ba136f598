// The choice of a variant, and that @otimes/kernels works from source, built, and bundled for a browser.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { createKernels, sharedVariant, variants } from '@otimes/kernels';
import { type BuildOptions, build } from 'esbuild';
import t from 'tap';
import { kernels as packed } from '../kernels/src/generated/kernels.gen.ts';
import { unpack } from '../kernels/src/packed.ts';
import { wasm } from '../kernels/src/wasm.ts';
import { law } from './helpers/law.ts';

const MB = 2 ** 20;
const PACKAGE = resolve(import.meta.dirname, '../kernels');

/** Seeded integers in [0, n). */
function random(seed: number): (n: number) => number {
  let state = seed;
  return n => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

law(t, 'a variant is chosen by running it, and a shared memory needs one flag', async t => {
  t.ok(variants().includes('simd'));
  const kernels = createKernels({ memory: { initial: 8 * MB } })!;
  t.equal(kernels.variant, variants()[0]);
  t.equal(kernels.scratch % 64, 0);
  for (const variant of variants()) {
    const bytes = unpack(packed, variant);
    const shared = sharedVariant(bytes);
    const changed = [...shared.keys()].filter(i => shared[i] !== bytes[i]);
    t.equal(changed.length, 1);
    t.strictSame([bytes[changed[0]!], shared[changed[0]!]], [1, 3]);
  }
  t.throws(() => sharedVariant(new Uint8Array(8)), { name: 'TypeError' });
});

law(t, 'modules come out of the decoder as they went in', async t => {
  // The package that packed them unpacks them as well, by code that has nothing in common with ours.
  const lzma = createRequire(import.meta.url)('lzma') as {
    compress(bytes: Uint8Array, level: number): number[];
    decompress(packed: Uint8Array): ArrayLike<number>;
  };
  const arrangement: { arranged(module: Uint8Array): Uint8Array } = await import(join(PACKAGE, 'arrange.mjs'));
  const arranged = Uint8Array.from(lzma.decompress(Buffer.from(packed.packed, 'base64')));
  t.equal(arranged.length, packed.size);
  const relaxed = unpack(packed, 'relaxed');
  t.ok(wasm!.validate(relaxed));
  t.equal(Buffer.compare(arrangement.arranged(relaxed), arranged), 0);

  // Only relaxed SIMD has these instructions; a product and a sum take the place of each.
  const count = (bytes: Uint8Array, ...wanted: number[]) =>
    bytes.reduce((n, _, i) => n + (wanted.every((byte, k) => bytes[i + k] === byte) ? 1 : 0), 0);
  const simd = unpack(packed, 'simd');
  const [singles, doubles] = [count(relaxed, 0xfd, 0x85, 0x02), count(relaxed, 0xfd, 0x87, 0x02)];
  t.ok(singles > 100 && doubles > 100);
  t.strictSame([count(simd, 0xfd, 0x85, 0x02), count(simd, 0xfd, 0x87, 0x02)], [0, 0]);
  t.equal(count(simd, 0xfd, 0xe6, 0x01) - count(relaxed, 0xfd, 0xe6, 0x01), singles);
  t.equal(count(simd, 0xfd, 0xf2, 0x01) - count(relaxed, 0xfd, 0xf2, 0x01), doubles);
  t.ok(wasm!.validate(simd));

  const draw = random(5);
  const bytes = (length: number, byte: (i: number) => number) => Uint8Array.from({ length }, (_, i) => byte(i));
  const block = bytes(20_000, () => draw(256));
  const inputs = [
    Uint8Array.of(7),
    new Uint8Array(50_000), // one repeat of the greatest length after another
    block, // nothing to match
    bytes(90_000, i => block[i % 20_000]! ^ (draw(300) === 0 ? 1 : 0)), // far matches that end, and go on
    bytes(20_000, () => draw(3)), // matches everywhere
  ];
  for (const bytes of inputs) {
    // As the arrangement of a module without functions.
    const head = new Uint8Array(Int32Array.of(12 + bytes.length, bytes.length, bytes.length).buffer);
    const whole = Buffer.concat([head, bytes]);
    const again = {
      decoder: packed.decoder,
      packed: Buffer.from(lzma.compress(whole, 2)).toString('base64'),
      size: whole.length,
    };
    t.equal(Buffer.compare(unpack(again, 'relaxed'), bytes), 0, `${bytes.length} bytes`);
  }
});

law(t, 'the package works built, and bundled from either form for Node and for browsers', async t => {
  const root = t.testdir();
  const folder = join(root, 'node_modules/@otimes/kernels');
  mkdirSync(folder, { recursive: true });
  cpSync(join(PACKAGE, 'package.json'), join(folder, 'package.json'));
  cpSync(join(PACKAGE, 'src'), join(folder, 'src'), { recursive: true });
  const tsc = resolve(PACKAGE, '../node_modules/typescript/bin/tsc');
  const output = ['--outDir', join(folder, 'dist'), '--tsBuildInfoFile', join(root, 'info')];
  execFileSync(process.execPath, [tsc, '-p', PACKAGE, ...output]);
  const main = join(root, 'main.mjs');
  writeFileSync(
    main,
    `import { collector, createKernels, gemm, variants } from '@otimes/kernels';
    const kernels = createKernels({ memory: { initial: 2 ** 23 } });
    const { f32 } = kernels.memory;
    const { pointer } = kernels.heap.allocate(12);
    f32[pointer / 4] = 6; f32[pointer / 4 + 1] = 7;
    gemm(kernels, { dtype: 'float32', m: 1, n: 1, k: 1, a: pointer, aRow: 1, aCol: 1, b: pointer + 4, bRow: 1, bCol: 1, c: pointer + 8, cRow: 1 });
    console.log(JSON.stringify([f32[pointer / 4 + 2], variants(), collector() !== null]));`,
  );
  const run = (file: string) => JSON.parse(execFileSync(process.execPath, [file], { encoding: 'utf8' })) as unknown[];
  t.strictSame(run(main), [42, variants(), true], 'built');
  const without = join(root, 'without.mjs');
  writeFileSync(
    without,
    `globalThis.WebAssembly = undefined;
    const { createKernels, variants } = await import('@otimes/kernels');
    console.log(JSON.stringify([createKernels(), variants()]));`,
  );
  t.strictSame(run(without), [null, []], 'without WebAssembly');

  const bundle = async (name: string, o: BuildOptions) => {
    const outfile = join(root, `${name}.mjs`);
    await build({ entryPoints: [main], bundle: true, format: 'esm', outfile, logLevel: 'silent', ...o });
    return { text: readFileSync(outfile, 'utf8'), outfile };
  };
  for (const conditions of [[], ['@otimes/source']]) {
    const name = `${conditions.length}`;
    const forNode = await bundle(`node${name}`, { platform: 'node', conditions });
    t.strictSame(run(forNode.outfile), [42, variants(), true]);
    const forBrowser = await bundle(`browser${name}`, { platform: 'browser', conditions });
    t.notMatch(forBrowser.text, /["']node:|setFlagsFromString|expose-gc/);
    const [product, , sync] = run(forBrowser.outfile);
    t.strictSame([product, sync], [42, false]);
  }
});
