// The floors of the house: a package may import only packages on floors below it, as listed here, and only by name.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');

/** Package → what it may import. `optim/src/kronecker` may import nn as well, the rest of optim may not. */
const ALLOWED = {
  // '#host' is its own node.ts or browser.ts, by export condition.
  kernels: ['#host'],
  linalg: ['@otimes/kernels', 'ndarray'],
  core: ['@otimes/kernels', '@otimes/linalg', 'ndarray'],
  nn: ['@otimes/core', '@otimes/core/extend'],
  data: ['@otimes/core', '@otimes/core/extend'],
  optim: ['@otimes/core', '@otimes/core/extend', '@otimes/linalg', 'ndarray'],
};
const EXTRA = { 'optim/src/kronecker': ['@otimes/nn'] };
/** Entry points that run in Node alone; everything else must also bundle for a browser. */
const NODE_ONLY = ['core/src/node.ts', 'data/src/node.ts', 'kernels/src/node.ts'];

const files = folder =>
  readdirSync(folder).flatMap(name => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? files(path) : path.endsWith('.ts') ? [path] : [];
  });

const problems = [];
for (const [name, allowed] of Object.entries(ALLOWED)) {
  for (const file of files(join(root, name, 'src'))) {
    const path = relative(root, file).split(sep).join('/');
    const extra = Object.entries(EXTRA).flatMap(([prefix, names]) => (path.startsWith(`${prefix}/`) ? names : []));
    const source = readFileSync(file, 'utf8');
    // Bundlers drop a module of which nothing is used, and with it whatever it would have installed.
    if (/^import '/m.test(source)) problems.push(`${path}: imports a module for its side effects`);
    for (const [, specifier] of source.matchAll(/(?:^|[^.\w])(?:from|import)\s*\(?\s*'([^']+)'/gm)) {
      if (specifier.startsWith('.')) {
        const target = relative(join(root, name, 'src'), resolve(dirname(file), specifier));
        if (target.startsWith('..')) problems.push(`${path}: '${specifier}' leaves its package`);
      } else if (specifier.startsWith('node:')) {
        if (!NODE_ONLY.includes(path)) problems.push(`${path}: '${specifier}' would not bundle for a browser`);
      } else if (![...allowed, ...extra].includes(specifier)) {
        problems.push(`${path}: '${specifier}' is not on a floor below`);
      }
    }
  }
}
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log('direction: every import points down');
