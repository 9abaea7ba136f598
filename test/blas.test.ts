/**
 * A native BLAS in place of the kernels, through tensors: against the kernels themselves and against the reference backend, and
 * what is said where it cannot be loaded. Debian's OpenBLAS: apt-get install libopenblas0 libopenblas64-0.
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import {
  Generator,
  getBackend,
  manualSeed,
  patchGram,
  ReferenceBackend,
  randint,
  randn,
  registerBackend,
  releaseBlas,
  setConvolution,
  setThreads,
  type Tensor,
  useBlas,
} from '@otimes/core';
import { openBlas } from '@otimes/kernels';
import { cholesky, cholSolve, eigh, inverse, NotPositiveDefiniteError, setSolver } from '@otimes/linalg';
import { type AnyModule, Conv2d, crossEntropy, Flatten, Linear, MaxPool2d, mlp, ReLU, Sequential } from '@otimes/nn';
import { Adam } from '@otimes/optim';
import { build } from 'esbuild';
import ndarray from 'ndarray';
import t from 'tap';
import { allclose, difference } from './helpers/allclose.ts';
import { EPS } from './helpers/blas.ts';
import {
  entries,
  families,
  gaussian,
  gram,
  narrowFamilies,
  symmetric,
  toFloat32,
  wideFamilies,
} from './helpers/ndarray.ts';
import { testNeeding } from './helpers/requires.ts';

/** All of it needs the two libraries. */
const test = await testNeeding(t, 'openblas');

/** Losses of three steps, and what the parameters are then. */
function training(model: AnyModule, shape: number[]): number[] {
  const optimizer = new Adam(model.parameters(), { lr: 1e-2 });
  manualSeed(3);
  const losses: number[] = [];
  for (let i = 0; i < 3; i++) {
    const [x, y] = [randn(shape), randint(0, 10, [shape[0]!])];
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x) as Tensor, y);
    loss.backward();
    optimizer.step();
    losses.push(loss.item());
  }
  return [...losses, ...[...model.parameters()].flatMap(p => Array.from(p.dataSync().slice(0, 50)))];
}
const models = {
  mlp: () => {
    manualSeed(1);
    return training(mlp([100, 90, 10]), [64, 100]);
  },
  cnn: () => {
    manualSeed(2);
    const model = new Sequential(
      ...[new Conv2d(1, 8, 3, { padding: 1 }), new ReLU(), new MaxPool2d(2)],
      ...[new Conv2d(8, 16, 3, { padding: 1 }), new ReLU(), new MaxPool2d(2)],
      ...[new Flatten(), new Linear(16 * 49, 10)],
    );
    return training(model, [16, 1, 28, 28]);
  },
};

test('training with it is training without it up to rounding, and releaseBlas gives every bit back', async t => {
  const all = () => Object.values(models).map(run => run());
  const product = () => {
    manualSeed(9);
    return randn([90, 1000])
      .matmul(randn([1000, 80]))
      .dataSync()
      .slice();
  };
  // Adam's first steps are ±lr whatever a gradient's size, so near 0 its rounding decides: only sums of the same products compare.
  setConvolution('direct');
  const before = [...all(), product()];
  const info = await useBlas();
  t.match(info, { kind: 'OpenBLAS', threads: 1 });
  const during = [...all(), product()];
  for (const [i, values] of during.entries())
    allclose(t, Array.from(values), Array.from(before[i]!), { rtol: 1e-3, atol: 1e-4 });
  t.strictNotSame(during[2], before[2], 'the library adds up in another order');
  t.equal((await useBlas('libopenblas64.so.0', { threads: 2 })).threads, 2, 'another replaces it');
  allclose(t, Array.from(product()), Array.from(before[2]!), { rtol: 1e-3, atol: 1e-4 });
  releaseBlas();
  releaseBlas();
  t.strictSame([...all(), product()], before);
  setConvolution('auto');
});

test('second moments of patches by it are those of the kernels up to rounding, and exactly symmetric', async t => {
  // Channels, side, stride; patches of the last one do not fit at a time.
  const cases = [
    [8, 192, 5, 1],
    [8, 48, 9, 2],
    [1300, 48, 8, 2],
  ] as const;
  for (const [n, channels, side, stride] of cases)
    for (const ones of [false, true]) {
      const x = randn([n, channels, side, side], { rng: new Generator(n) });
      const second = () => patchGram(x, [3, 3], { stride, padding: 1 }, { ones });
      releaseBlas();
      const own = second().dataSync();
      await useBlas();
      const result = second();
      const native = result.dataSync();
      const scale = Array.from(native).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      allclose(t, Array.from(native), Array.from(own), { rtol: 0, atol: 1e-5 * scale });
      t.ok(
        native.some((value, i) => value !== own[i]),
        'the library adds up in another order',
      );
      t.equal(result.sub(result.transpose(0, 1)).abs().max().item(), 0);
    }
  releaseBlas();
});

test('threads of the kernels change no bit of what is computed beside it', async t => {
  const all = () => Object.values(models).map(run => run());
  await useBlas();
  const one = all();
  await setThreads(2);
  t.strictSame(all(), one);
  releaseBlas();
  await setThreads(1);
});

test('eigh, cholesky and inverse by LAPACK are those of the kernels, on every family', async t => {
  const { override: _, info: __, ...lapack } = await openBlas();
  t.teardown(() => setSolver(null));
  const all = { ...families, ...wideFamilies, ...narrowFamilies };
  for (const [name, make] of Object.entries(all))
    for (const narrow of [false, true]) {
      if (narrow && name in wideFamilies) continue;
      const a = narrow ? toFloat32(make(60)) : make(60);
      const precision = narrow ? 'float32' : 'float64';
      setSolver(null);
      const plain = eigh(a, { precision });
      setSolver(lapack);
      const { values, vectors } = eigh(a, { precision });
      const largest = Math.max(...entries(plain.values).map(Math.abs));
      const tolerance = 60 * (narrow ? EPS.f32 : EPS.f64) * 10 * largest;
      const wanted = entries(plain.values);
      const worst = entries(values).reduce((max, x, i) => Math.max(max, Math.abs(x - wanted[i]!)), 0);
      t.ok(worst <= tolerance, `${name}: values ${worst} ≤ ${tolerance}`);
      let off = 0;
      for (let i = 0; i < 60; i++)
        for (let j = 0; j < 60; j++) {
          let image = 0;
          for (let k = 0; k < 60; k++) image += a.get(i, k) * vectors.get(k, j);
          off = Math.max(off, Math.abs(image - values.get(j) * vectors.get(i, j)));
        }
      t.ok(off <= tolerance, `${name}: ‖A V − V Λ‖ ${off} ≤ ${tolerance}`);
    }
  const definite = symmetric(80, (i, j) => (i === j ? 2 : 0) + 1 / (1 + j - i));
  const indefinite = symmetric(80, (i, j) => (i === j ? (i === 50 ? -1 : 2) : 0));
  setSolver(null);
  const plain = [cholesky(definite), inverse(definite), cholSolve(cholesky(definite), gaussian(80, 3))];
  setSolver(lapack);
  const native = [cholesky(definite), inverse(definite), cholSolve(cholesky(definite), gaussian(80, 3))];
  for (const [i, x] of native.entries()) allclose(t, entries(x), entries(plain[i]!), { rtol: 1e-11, atol: 1e-13 });
  t.throws(() => cholesky(indefinite), { name: 'NotPositiveDefiniteError', pivot: 50, value: -1 });
  t.throws(() => inverse(indefinite), NotPositiveDefiniteError);
  t.throws(() => eigh(ndarray(Float64Array.of(1, NaN, NaN, 1), [2, 2])), /expected finite numbers/);
});

test('useBlas gives large matrices to LAPACK, and releaseBlas takes them back', async t => {
  const same = (x: number[], y: number[]) => x.every((value, i) => Object.is(value, y[i]));
  const [a, small] = [gram(520, 530, 5), gram(100, 110, 5)];
  const results = () => [entries(cholesky(a)), entries(cholesky(small))] as const;
  const [large, little] = results();
  await useBlas();
  const native = results();
  t.equal(difference(native[0], large, { rtol: 1e-6, atol: 1e-10 }), null);
  t.notOk(same(native[0], large));
  t.ok(same(native[1], little), 'small ones stay with the kernels');
  releaseBlas();
  const after = results();
  t.ok(same(after[0], large) && same(after[1], little));
});

test('what is missing is named, and all stays as it was', async t => {
  const product = () => {
    manualSeed(9);
    return randn([90, 1000])
      .matmul(randn([1000, 80]))
      .dataSync()
      .slice();
  };
  const plain = product();
  const { library } = await useBlas();
  const native = product();
  const refused = async (expected: RegExp, ...x: Parameters<typeof useBlas>) => {
    await t.rejects(useBlas(...x), { message: expected });
    t.strictSame(product(), native, 'the one in use stays');
  };
  await refused(
    /^useBlas: found no \/nowhere\/libblas\.so\. .*apt install libopenblas0.*brew install openblas.*useBlas\('\/path/,
    '/nowhere/libblas.so',
  );
  await refused(/^useBlas: libc\.so\.6 has no cblas_sgemm, /, 'libc.so.6');
  for (const threads of [0, 1.5, NaN])
    await refused(/^useBlas: expected a positive whole number of threads, got/, library, { threads });
  releaseBlas();
  t.strictSame(product(), plain);

  const cpu = getBackend('cpu');
  registerBackend(new ReferenceBackend('cpu'));
  await t.rejects(useBlas(), {
    message: /^useBlas: expected the WebAssembly backend as the device 'cpu', got one in plain TypeScript/,
  });
  registerBackend(cpu);
});

test('bundled: without koffi, with it, and for a browser', async t => {
  // Outside of the repository, whose node_modules has koffi.
  const folder = mkdtempSync(join(tmpdir(), 'otimes-blas-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const bundle = async (platform: 'node' | 'browser') => {
    const outfile = join(folder, `${platform}.mjs`);
    await build({
      stdin: {
        contents: `import { tensor, useBlas } from '@otimes/core';
        const x = tensor(new Float32Array(40000).fill(1), { shape: [200, 200] });
        const said = await useBlas().then(info => info.kind, error => error.message);
        console.log(JSON.stringify([said, x.matmul(x).dataSync()[39999]]));`,
        resolveDir: import.meta.dirname,
      },
      ...{ bundle: true, format: 'esm', platform, outfile, logLevel: 'silent', minify: true },
      conditions: ['@otimes/source'],
      // ndarray is CommonJS.
      banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
    });
    return outfile;
  };
  const run = (file: string) => {
    const { stdout, stderr, status } = spawnSync('env', ['-i', process.execPath, file], { encoding: 'utf8' });
    t.equal(status, 0, `${file} ends by itself: ${stderr}`);
    return JSON.parse(stdout) as unknown[];
  };
  const forNode = await bundle('node');
  t.match(run(forNode), [/^useBlas: the package koffi, .*npm install koffi .*'koffi'/, 200]);
  mkdirSync(join(folder, 'node_modules'));
  const koffi = dirname(createRequire(import.meta.url).resolve('koffi'));
  symlinkSync(koffi, join(folder, 'node_modules/koffi'));
  t.strictSame(run(forNode), ['OpenBLAS', 200]);
  const forBrowser = await bundle('browser');
  t.notMatch(readFileSync(forBrowser, 'utf8'), /koffi|cblas|openblas_/);
  t.strictSame(run(forBrowser), ['useBlas: native libraries need Node; here the WebAssembly kernels do the work', 200]);
});

test('the reference backend agrees, through tensors', async t => {
  await useBlas();
  for (const dtype of ['float32', 'float64'] as const)
    for (const [left, right] of [
      [
        [70, 50],
        [50, 60],
      ],
      [
        [3, 40, 50],
        [50, 60],
      ],
      [
        [2, 3, 40, 50],
        [3, 50, 60],
      ],
      [
        [40, 3, 50],
        [40, 50, 1],
      ],
    ] as const) {
      const [a, b] = [randn([...left], { dtype }), randn([...right], { dtype })];
      const expected = a.to('reference').matmul(b.to('reference'));
      allclose(t, a.matmul(b), expected.to('cpu'), { rtol: 1e-4, atol: dtype === 'float32' ? 1e-4 : 1e-11 });
    }
  releaseBlas();
});
