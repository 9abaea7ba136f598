// Tests run from TypeScript sources: `--import` of this file hands Node what the compiler makes of each, with types taken out and a
// map back. What was compiled once is kept in node_modules/.cache, under a name that says all that it came from.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { register } from 'node:module';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';

const place = path => fileURLToPath(new URL(path, import.meta.url));
const CACHE = place('../node_modules/.cache/otimes');

// Node loads this file a second time, in the thread that answers for modules. Workers are plain JavaScript.
if (isMainThread) register(import.meta.url);

/** What decides, beside a source, what is made of it. */
const conditions = ['../tsconfig.base.json', '../node_modules/typescript/package.json', import.meta.url]
  .map(path => readFileSync(new URL(path, import.meta.url), 'utf8'))
  .join('\n');

async function compile(fileName, text) {
  const { default: ts } = await import('typescript');
  const { config } = ts.readConfigFile(place('../tsconfig.base.json'), ts.sys.readFile);
  const compilerOptions = {
    ...config.compilerOptions,
    module: 'ESNext',
    moduleResolution: 'Bundler',
    rewriteRelativeImportExtensions: false,
    declaration: false,
    declarationMap: false,
    composite: false,
    incremental: false,
    sourceMap: false,
    inlineSourceMap: true,
    inlineSources: true,
  };
  const { options } = ts.convertCompilerOptionsFromJson(compilerOptions, place('..'));
  return ts.transpileModule(text, { fileName, compilerOptions: options }).outputText;
}

/** Node's hook: what a module is. */
export async function load(url, context, next) {
  const { protocol, pathname } = new URL(url);
  if (protocol !== 'file:' || !pathname.endsWith('.ts') || pathname.includes('/node_modules/'))
    return next(url, context);
  const file = fileURLToPath(url);
  const text = readFileSync(file, 'utf8');
  const kept = `${CACHE}/${createHash('sha256').update([conditions, file, text].join('\n')).digest('hex')}.js`;
  let source;
  try {
    source = readFileSync(kept, 'utf8');
  } catch {
    source = await compile(file, text);
    mkdirSync(CACHE, { recursive: true });
    // Other processes may be at the same file.
    writeFileSync(`${kept}.${process.pid}`, source);
    renameSync(`${kept}.${process.pid}`, kept);
  }
  return { format: 'module', source, shortCircuit: true };
}
