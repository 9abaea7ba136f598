/**
 * The packages as a stranger gets them: what is in the tarballs, and one program (test/bundlers/program.js) that gives the same
 * under plain Node by import and by require, bundled by esbuild, Rollup, webpack and Vite, in Node and in a browser.
 */

import assert from 'node:assert/strict';
import {
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { build, transform } from 'esbuild';
import { type Browser, chromium } from 'playwright-core';
import t from 'tap';
import { golden } from './helpers/golden.ts';
import { law } from './helpers/law.ts';
import { dangling, PACKAGES, pack, project, root, run, sourcesWithout } from './helpers/packages.ts';
import { BUNDLERS, CHROMIUM, testNeeding } from './helpers/requires.ts';

type Result = {
  readonly threads: number;
  readonly losses: Readonly<Record<'adam' | 'steve', readonly number[]>>;
  readonly product: number;
  readonly gpu: boolean;
};

// --- tarballs ---

/** Outside of the repository, whose node_modules nothing may come from. */
const folder = mkdtempSync(join(tmpdir(), 'otimes-packages-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const packed = await pack(folder);
const ours = packed.filter(({ name }) => name.startsWith('@otimes/'));
const sources = Object.fromEntries(
  ['program.js', 'page.js', 'worker.js', 'index.html'].map(name => [
    name,
    readFileSync(join(root, 'test/bundlers', name), 'utf8'),
  ]),
);
const tarballs = packed.map(({ filename }) => join(folder, filename.replace('@', '').replace('/', '-')));
const home = await project(join(folder, 'mine'), tarballs, {
  ...sources,
  'package.json': '{ "name": "mine", "private": true, "type": "module" }',
  'run.mjs': "import { program } from './program.js';\nconsole.log(JSON.stringify(await program()));\n",
  'run.cjs': readFileSync(join(root, 'test/bundlers/program.js'), 'utf8')
    .replace(/^import (\{[^}]*\}) from ('[^']+');/gm, 'const $1 = require($2);')
    .replace(/^import ('[^']+');/gm, 'require($1);')
    .replace('export async', 'async')
    .concat('program().then(result => console.log(JSON.stringify(result)));\n'),
});

const node = async (...args: string[]) => JSON.parse(await run(process.execPath, args, home)) as Result;
const expected = await node('run.mjs');

// NOTE: nothing is awaited out here once the first test is told: tap would take it for the end.
const always = await testNeeding(t);
const withBundlers = await testNeeding(t, 'bundlers');
const inBrowser = await testNeeding(t, 'chromium', 'bundlers');

law(t, 'a tarball has licence, README, sources and what its package.json and its maps name, and no build state', () => {
  assert.deepEqual(ours.map(({ name }) => name).sort(), PACKAGES.map(name => `@otimes/${name}`).sort());
  for (const { name, files } of ours) {
    const paths = files.map(({ path }) => path);
    for (const path of ['LICENSE', 'README.md', 'package.json', 'dist/index.js', 'dist/index.d.ts', 'src/index.ts'])
      assert.ok(paths.includes(path), `${name}: ${path}`);
    const strange = paths.filter(
      path => !/^(LICENSE|README\.md|package\.json|(dist|src)\/.*\.(js|ts|map))$/.test(path),
    );
    assert.deepEqual(strange, [], name);
    const installed = join(home, 'node_modules', name);
    assert.deepEqual([...dangling(installed), ...sourcesWithout(installed, files)], [], name);
  }
});

law(t, 'every package says what it is and where it comes from, under one licence, at one version', () => {
  const licence = readFileSync(join(root, 'LICENSE'), 'utf8');
  for (const name of PACKAGES) {
    const said = JSON.parse(readFileSync(join(root, name, 'package.json'), 'utf8'));
    assert.deepEqual([said.license, said.version, said.repository.directory], ['MIT', '0.1.0', name]);
    assert.ok(said.description && said.keywords.includes('otimes') && said.engines.node, name);
    assert.equal(
      readFileSync(join(root, name, 'LICENSE'), 'utf8'),
      licence,
      `${name}/LICENSE is that of the repository`,
    );
    for (const [dependency, version] of Object.entries(said.dependencies ?? {}))
      if (dependency.startsWith('@otimes/')) assert.equal(version, said.version, `${name}: ${dependency}`);
  }
});

law(t, 'nothing is installed beside the packages but what they name: no WebGPU for Node, and no gpu.js', () => {
  const names = readdirSync(join(home, 'node_modules')).filter(name => !name.startsWith('.'));
  const arrays = ['@types', 'iota-array', 'is-buffer', 'ndarray'];
  assert.deepEqual(names.sort(), ['@jsquash', '@otimes', 'fast-png', 'fflate', 'iobuffer', ...arrays].sort());
});

// --- the program ---

/** On any host: the same up to rounding, as engines fuse multiplication and addition or do not. */
function same(result: Result, threads: number): void {
  const rounded = ({ losses, product, ...rest }: Result) => ({ ...rest, threads });
  assert.deepEqual(rounded(result), rounded(expected));
  assert.equal(result.threads, threads);
  const numbers = ({ losses, product }: Result) => [...losses.adam, ...losses.steve, product];
  for (const [i, x] of numbers(result).entries()) {
    const y = numbers(expected)[i]!;
    assert.ok(Math.abs(x - y) <= 1e-3 * Math.abs(y), `number ${i}: ${x}, expected ${y}`);
  }
}

law(t, 'plain Node: it learns, on two threads, says that there is no WebGPU, and ends by itself', () => {
  assert.ok(expected.gpu);
  assert.equal(expected.threads, 2);
  for (const losses of Object.values(expected.losses)) assert.ok(losses.at(-1)! < losses[0]!, String(losses));
});

law(t, 'plain Node: require gives what import gives', async () => {
  const [major, minor] = process.versions.node.split('.').map(Number) as [number, number];
  if (major < 20 || (major === 20 && minor < 19) || (major === 22 && minor < 12)) return; // has no require of modules
  same(await node('run.cjs'), 2);
});

law(t, 'plain Node: JPEG and PNG are decoded by what is installed', async () => {
  const { jpegBaseline, png } = golden<Record<'jpegBaseline' | 'png', { file: string; pixels: string }>>('pictures');
  const program = `import { pictureDecoder } from '@otimes/data/node';
const decode = await pictureDecoder();
const pictures = ${JSON.stringify([jpegBaseline.file, png.file])}.map(file => decode(Buffer.from(file, 'base64')));
console.log(JSON.stringify(pictures.map(({ data }) => Buffer.from(data).toString('base64'))));
`;
  writeFileSync(join(home, 'pictures.mjs'), program);
  const pixels = JSON.parse(await run(process.execPath, ['pictures.mjs'], home));
  assert.deepEqual(pixels, [jpegBaseline.pixels, png.pixels]);
});

law(t, 'plain Node: threads read the pictures that a loop without them reads, and the program ends', async () => {
  const { png } = golden<{ png: { file: string } }>('pictures');
  const program = `import { writeFileSync } from 'node:fs';
import { Generator } from '@otimes/core';
import { ImageLoader, transforms } from '@otimes/data';
import { openSource } from '@otimes/data/node';
writeFileSync('one.png', Buffer.from('${png.file}', 'base64'));
const paths = Array(6).fill('one.png');
const source = await openSource({ kind: 'files', paths, labels: new Int32Array(6), classes: ['one'] });
const list = [transforms.randomResizedCrop(4), transforms.randomHorizontalFlip()];
const all = [];
for (const workers of [0, 2]) {
  const loader = new ImageLoader(source, { batchSize: 2, rng: new Generator(1), transforms: list, workers });
  for (const [images] of loader) all.push(String(images.toArray()));
  for await (const [images] of loader) all.push(String(images.toArray()));
}
console.log(all.length, new Set(all).size, all.slice(0, 6).every((one, i) => one === all[6 + i]));
`;
  writeFileSync(join(home, 'threads.mjs'), program);
  assert.equal(await run(process.execPath, ['threads.mjs'], home), '12 6 true');
});

law(
  t,
  'otimes-experiments: its tarball has what it names, lists what there is, runs its child processes and reports',
  async () => {
    const place = join(folder, 'league');
    const modules = join(place, 'node_modules');
    mkdirSync(modules, { recursive: true });
    await run('npm', ['pack', './experiments', '--ignore-scripts', '--pack-destination', place], root);
    const installed = join(modules, 'otimes-experiments');
    mkdirSync(installed);
    const tarball = readdirSync(place).find(name => name.endsWith('.tgz'))!;
    await run('tar', ['-xzf', join(place, tarball), '-C', installed, '--strip-components=1'], place);
    assert.deepEqual(dangling(installed), []);
    // All that others have made comes from the repository, what the house has made does not.
    symlinkSync(join(home, 'node_modules/@otimes'), join(modules, '@otimes'));
    for (const name of readdirSync(join(root, 'node_modules')))
      if (!name.startsWith('.') && !['@otimes', 'otimes-experiments', 'tsx', 'typescript', 'commander'].includes(name))
        symlinkSync(join(root, 'node_modules', name), join(modules, name));
    symlinkSync(join(root, 'experiments/node_modules/commander'), join(modules, 'commander'));
    const program = (...args: string[]) =>
      run(process.execPath, [join(installed, 'bin/otimes-experiments.mjs'), ...args], place);
    assert.match(await program('list'), /^digits-mlp: /m);
    const said = await program('run', 'digits-mlp', '--short', '--contenders', 'adamw', '--jobs', '1');
    assert.match(said, /^Finished: runs\/digits-mlp-short/m);
    assert.ok(existsSync(join(place, 'runs/digits-mlp-short/report.html')));
  },
);

law(t, 'esbuild: a tensor has its methods where nothing but it is imported', async () => {
  const { outputFiles } = await build({
    stdin: {
      contents: "import { tensor } from '@otimes/core'; console.log(tensor([1, 2]).mul(2).sum().item());",
      resolveDir: home,
    },
    ...{ bundle: true, format: 'esm', platform: 'browser', write: false, logLevel: 'silent', minify: true },
  });
  writeFileSync(join(home, 'small.mjs'), outputFiles[0]!.text);
  assert.equal(await run(process.execPath, ['small.mjs'], home), '6');
});

law(t, 'minified: optimizers and modules keep the names that messages call them by', async () => {
  const contents = `import * as nn from '@otimes/nn';
import * as optim from '@otimes/optim';
for (const [key, value] of Object.entries({ ...nn, ...optim }))
  if (value.prototype instanceof nn.Module || value.prototype instanceof optim.Optimizer)
    if (!['KroneckerPreconditioner', 'GradientOptimizer', 'MatrixOptimizer'].includes(key))
      console.log(key, Object.hasOwn(value, 'builtIn') ? value.builtIn : value.name);`;
  const o = { bundle: true, format: 'esm', platform: 'browser', minify: true, logLevel: 'silent' } as const;
  await build({ stdin: { contents, resolveDir: home }, ...o, outfile: join(home, 'names.mjs') });
  const names = (await run(process.execPath, ['names.mjs'], home)).split('\n').map(line => line.split(' '));
  assert.ok(names.length > 25);
  assert.deepEqual(
    names.filter(([key, name]) => key !== name),
    [],
  );
});

// --- types ---

const types = {
  'types.mts': `${sources['program.js']!.match(/^import [^;]*;$/gm)!.join('\n')}
import { load, save } from '@otimes/core/node';
import { fashionMnist } from '@otimes/data/node';
import { eigh } from '@otimes/linalg';
import { createKernels } from '@otimes/kernels';
import { type GpuInfo, gpuBackend } from '@otimes/gpu';
${['Generator', 'loadSafetensors', 'nextTask', 'randint', 'randn', 'saveSafetensors', 'scope', 'setThreads']
  .concat(['DataLoader', 'TensorDataset', 'Conv2d', 'crossEntropy', 'Flatten', 'Linear', 'ReLU', 'Sequential'])
  .concat(['Adam', 'KFAC', 'STEVE', 'load', 'save', 'fashionMnist', 'eigh', 'createKernels', 'gpuBackend'])
  .map(name => `void ${name};`)
  .join('\n')}
export const info: () => Promise<GpuInfo> = () => initGpu({ powerPreference: 'low-power', memoryLimit: 1e9 });
export const four: number = tensor([1, 3]).sum().item();
export const lower: number = new Linear(2, 2).weight.tril(-1).split(1)[0]!.item();
`,
};

const RESOLUTIONS = [
  ['--module', 'nodenext', '--moduleResolution', 'nodenext'],
  ['--module', 'esnext', '--moduleResolution', 'bundler'],
];

async function typeChecks(tsc: string, resolutions = RESOLUTIONS): Promise<void> {
  writeFileSync(join(home, 'types.mts'), types['types.mts']);
  const strict = ['--noEmit', '--strict', '--target', 'es2022', '--lib', 'es2022'];
  for (const resolution of resolutions)
    await run(process.execPath, [tsc, ...strict, ...resolution, '--skipLibCheck', 'false', 'types.mts'], home);
}

law(t, 'types: a strict project that checks declarations too, resolved as Node does and as bundlers do', () =>
  typeChecks(join(root, 'node_modules/typescript/bin/tsc')),
);

// --- bundlers ---

withBundlers('types: TypeScript 5.0 reads them', async t => {
  await typeChecks(join(BUNDLERS, 'typescript/bin/tsc'), RESOLUTIONS.slice(0, 1));
  t.pass('holds');
});

const TYPES: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript' };

/** Serves a folder to a cross-origin isolated page; its address. */
async function serve(folder: string): Promise<string> {
  const server = createServer(({ url = '/' }, response) => {
    const path = join(folder, url === '/' ? 'index.html' : url);
    const found = existsSync(path);
    response.writeHead(found ? 200 : 404, {
      'Content-Type': TYPES[extname(path)] ?? 'text/plain',
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Cross-Origin-Embedder-Policy': 'require-corp',
    });
    if (found) createReadStream(path).pipe(response);
    else response.end();
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

let browser: Browser | undefined;
t.teardown(() => browser?.close());

/** Bundles page and worker for browsers into a folder; the worker's script. */
async function bundle(bundler: string, out: string): Promise<string> {
  if (bundler !== 'esbuild')
    return run(process.execPath, [join(root, 'test/bundlers/build.mjs'), bundler, home, out], home);
  await build({
    entryPoints: ['page.js', 'worker.js'].map(name => join(home, name)),
    ...{ bundle: true, minify: true, format: 'esm', outdir: out, logLevel: 'silent' },
  });
  writeFileSync(join(out, 'index.html'), sources['index.html']!);
  return 'worker.js';
}

for (const bundler of ['rollup', 'vite'])
  withBundlers(
    `${bundler}: a program has the code of no operation, layer or optimizer that it does not call`,
    async t => {
      const { ADAM, ELSEWHERE }: { ADAM: string; ELSEWHERE: readonly string[] } = await import(
        new URL('../bench/bundle.mjs', import.meta.url).href
      );
      const wordsOf = async (name: string, program: string) => {
        const [from, to] = [join(home, name), join(folder, `${bundler}-${name}`)];
        mkdirSync(from, { recursive: true });
        for (const file of ['page.js', 'worker.js']) writeFileSync(join(from, file), program);
        writeFileSync(join(from, 'index.html'), '<script type="module" src="./page.js"></script>');
        await run(process.execPath, [join(root, 'test/bundlers/build.mjs'), bundler, from, to], home);
        const scripts = readdirSync(to, { recursive: true, encoding: 'utf8' }).filter(path => path.endsWith('.js'));
        // Rollup leaves comments, which may speak of anything.
        const texts = scripts.map(path => transform(readFileSync(join(to, path), 'utf8'), { minify: true }));
        const text = (await Promise.all(texts)).map(({ code }) => code).join('');
        return ELSEWHERE.filter(word => text.includes(word));
      };
      assert.deepEqual(await wordsOf('adam', ADAM), []);
      const others = "import { cumprod, lstm } from '@otimes/core'; console.log(cumprod, lstm);";
      const found = await wordsOf('others', others);
      assert.deepEqual(
        ['cumprod', 'lstm', 'silu', 'topk'].filter(word => found.includes(word)),
        ['cumprod', 'lstm'],
      );
      t.pass('holds');
    },
  );

for (const bundler of ['esbuild', 'rollup', 'webpack-development', 'webpack-production', 'vite']) {
  const out = join(folder, bundler);
  mkdirSync(out, { recursive: true });
  let script = '';
  const test = bundler === 'esbuild' ? always : withBundlers;

  test(`${bundler}: its bundle for browsers gives the same in Node, on one thread`, async t => {
    script = await bundle(bundler, out);
    writeFileSync(join(out, 'package.json'), '{ "type": "module" }');
    same(JSON.parse(await run(process.execPath, [script], out)), 1);
    t.pass('holds');
  });

  inBrowser(`${bundler}: in a browser, on the page, and on two threads in a worker`, async t => {
    browser ??= await chromium.launch({ executablePath: CHROMIUM!, args: ['--no-sandbox'] });
    const page = await browser.newPage();
    const errors: string[] = [];
    page.on('pageerror', error => errors.push(String(error.stack)));
    await page.goto(await serve(out));
    const reports = await page.evaluate<{ page: Result; worker: Result }>('reports').catch(error => error);
    await page.close();
    assert.deepEqual(errors, []);
    same(reports.page, 1);
    same(reports.worker, 2);
    t.pass('holds');
  });
}
