/**
 * Makes .gpu-pack/: all that a machine with a GPU and without network needs to run the GPU's benchmarks, examples and tests.
 * docs/gpu.md says how it is used.
 *
 *   npm run gpu-pack                     then, there:  sh .gpu-pack/run.sh NAME [ARGUMENTS]
 *   npm run gpu-pack -- FILE …           these programs too; files that are no programs lie beside
 *   npm run gpu-pack -- --no-box         the programs alone, where the box is made already or is not wanted
 *
 * What programs import is bundled from the sources; webgpu and koffi, which are no JavaScript, are in box.tar.xz beside Node
 * itself. That is made once: remove it to take another Node or webgpu.
 */

import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { basename, extname, join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { makeBox } from './gpu-pack/box.mjs';

const root = join(import.meta.dirname, '..');
const LIMIT = 40 * 2 ** 20;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    out: { type: 'string', default: join(root, '.gpu-pack') },
    'no-box': { type: 'boolean', default: false },
  },
});
const pack = resolve(options.out);
const files = join(pack, 'files');

/** Tests that are about files of the repository or a browser, and no GPU. */
const ELSEWHERE = ['gpu-pack', 'gpu-compiler', 'gpu-browser'].map(name => `${name}.test.ts`);

const isProgram = file => ['.ts', '.mts', '.js', '.mjs'].includes(extname(file));
const inFolder = (folder, wanted) =>
  readdirSync(join(root, folder))
    .filter(file => wanted.test(file) && !ELSEWHERE.includes(file))
    .map(file => join(root, folder, file));

/** Name → file, of what `run.sh NAME` runs. */
const programs = {
  probe: 'scripts/gpu-pack/probe.mjs',
  suite: 'scripts/gpu-pack/suite.mjs',
  demo: 'examples/gpu/main.ts',
};
const beside = [];
for (const file of [...inFolder('bench/gpu', /\.(ts|py)$/), ...positionals.map(file => resolve(file))]) {
  if (isProgram(file)) programs[basename(file, extname(file))] = file;
  else beside.push(file);
}
for (const file of inFolder('test', /^gpu.*\.test\.ts$/)) programs[`suites/${basename(file, '.test.ts')}`] = file;

rmSync(files, { recursive: true, force: true });
mkdirSync(files, { recursive: true });
await build({
  absWorkingDir: root,
  entryPoints: Object.entries(programs).map(([out, file]) => ({ in: file, out })),
  outdir: files,
  outExtension: { '.js': '.mjs' },
  // What several programs use is there once.
  splitting: true,
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  conditions: ['@otimes/source'],
  external: ['webgpu', 'koffi'],
  alias: { tap: join(root, 'scripts/gpu-pack/tap.ts') },
  // CommonJS within (gpu.js) requires modules of Node.
  banner: {
    js: "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);",
  },
  minifySyntax: true,
  minifyWhitespace: true,
  logLevel: 'warning',
});
for (const file of beside) cpSync(file, join(files, basename(file)));
// Where bundled tests look for them: beside the folder of the file that reads.
for (const file of inFolder('test/golden', /\.json$/)) cpSync(file, join(files, 'golden', basename(file)));
cpSync(join(root, 'scripts/gpu-pack/run.sh'), join(pack, 'run.sh'));
if (!options['no-box'] && !existsSync(join(pack, 'box.tar.xz'))) makeBox(root, join(pack, 'box.tar.xz'));

let bytes = 0;
for (const one of readdirSync(pack, { recursive: true, withFileTypes: true }))
  if (one.isFile()) bytes += statSync(join(one.parentPath, one.name)).size;
const names = Object.keys(programs).filter(name => !name.includes('/'));
console.log(`${relative(process.cwd(), pack)}: ${(bytes / 2 ** 20).toFixed(1)} MiB; sh run.sh ${names.join(' | ')}`);
if (bytes > LIMIT) {
  console.error(`gpu-pack: expected at most ${LIMIT / 2 ** 20} MiB`);
  process.exitCode = 1;
}
