/**
 * Makes gpu/dist/gpujs.js, which tsc writes with imports of gpu.js, one file with what it imports, so that the package has no
 * dependency on gpu.js. To be run after `tsc -b`; a second time changes nothing.
 *
 *   node gpu/bundle.mjs
 *
 * gpu.js is pinned to one version, and esbuild by the lock, so the same sources give the same bytes.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
/** The folder of the package that a file of node_modules belongs to. */
function packageOf(file) {
  let folder = dirname(file);
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}

// Of acorn its ES module: the other looks for loaders of AMD, which bundlers stumble over.
const acorn = createRequire(createRequire(import.meta.url).resolve('gpu.js'))
  .resolve('acorn')
  .replace(/\.js$/, '.mjs');

/** The text of the file: licences, then code. */
export async function bundled() {
  const { outputFiles, metafile } = await build({
    entryPoints: [join(here, 'src/gpujs.ts')],
    absWorkingDir: here,
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'neutral',
    alias: { acorn },
    target: 'es2022',
    legalComments: 'none',
    metafile: true,
    write: false,
  });
  const foreign = Object.keys(metafile.inputs).filter(file => file.includes('node_modules/'));
  const folders = new Set(foreign.map(file => packageOf(join(here, file))));
  const notices = [...folders].sort().map(folder => {
    const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return `${name} ${version}\n\n${readFileSync(join(folder, 'LICENSE'), 'utf8').trim()}`;
  });
  return `/*!\nWith parts of:\n\n${notices.join('\n\n---\n\n')}\n*/\n${outputFiles[0].text}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const out = join(here, 'dist/gpujs.js');
  writeFileSync(out, await bundled());
  rmSync(`${out}.map`, { force: true });
}
