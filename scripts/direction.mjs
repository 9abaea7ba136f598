// The floors of the house: a package may import only packages on floors below it, as listed here, and only by name. Within a
// package no file may lead back to itself by imports of values; those of types disappear and may.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository, or for the test of this script a folder that looks like one. */
const root = resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), '..'));

/** Package → what it may import. Curvature and the optimizers on it may import nn as well, the rest of optim may not. */
const ALLOWED = {
  // '#host' is its own node.ts or browser.ts, by export condition, and so are '#automatic' and '#readers'.
  kernels: ['#automatic', '#host'],
  linalg: ['@otimes/kernels', 'ndarray'],
  core: ['@otimes/kernels', '@otimes/linalg', 'ndarray'],
  nn: ['@otimes/core', '@otimes/core/extend'],
  data: [
    ...['#readers', '@otimes/core', '@otimes/core/extend'],
    // Decoders, which are loaded when a picture is read from a file.
    ...['@jsquash/jpeg/codec/dec/mozjpeg_dec.js', 'fast-png'],
  ],
  gpu: [
    ...['#host', '@otimes/core', '@otimes/core/extend', '@otimes/kernels'],
    // Bundled into the package: gpu/bundle.mjs.
    ...['acorn', 'gpu.js/src/backend/web-gpu/kernel.js', 'gpu.js/src/input.js'],
  ],
  optim: ['@otimes/core', '@otimes/core/extend', '@otimes/linalg', 'ndarray'],
  experiments: [
    ...['@otimes/core', '@otimes/core/extend', '@otimes/core/node', '@otimes/data', '@otimes/data/node'],
    ...['@otimes/gpu', '@otimes/nn', '@otimes/optim'],
    ...['@observablehq/plot', 'cli-progress', 'cli-table3', 'commander', 'linkedom'],
  ],
};
/**
 * Folders inside of packages that are floors of their own: from the rest of the package a file there may import the files that are
 * listed, and no others, not for types either.
 */
const FLOORS = {
  // Curvature knows nothing of optimizers.
  'optim/src/curvature': ['optim/src/check.ts', 'optim/src/state-dict.ts'],
};
const EXTRA = {
  'optim/src/curvature': ['@otimes/nn'],
  'optim/src/kronecker': ['@otimes/nn'],
  'optim/src/matrix': ['@otimes/nn'],
};
/** Files that import values of each other in a circle all the same, in the order of `cycles`, with the reason. */
const KNOWN_CYCLES = {};
/**
 * Layers inside of a package, the lowest first: files and folders of its `src`. A file may import values from its own layer and
 * from those below.
 */
const LAYERS = {
  core: [
    ['check', 'convolution', 'dtype', 'errors', 'precise', 'shape', 'task', 'watch', 'window'],
    ['device'],
    ['storage'],
    ['scope'],
    ['graph', 'pass', 'print', 'tensor', 'untrained'],
    ['fill', 'nested', 'values'],
    ['backends'],
    ['op'],
    ['ops'],
    ['autograd', 'lazy', 'loss-rows'],
    ['methods', 'methods-elementwise'],
    ['blas', 'create', 'like', 'random', 'safetensors', 'sampling', 'threads'],
    ['checkpoint', 'transforms'],
    ['extend', 'index', 'methods-door', 'node'],
  ],
};
/** Entry points and a package that run in Node alone, and folders of what only these import; everything else must also bundle for a browser. */
const NODE_ONLY = [
  ...['core/src/node.ts', 'data/src/node.ts', 'data/src/images/files/'],
  ...['data/src/images/workers/node.ts', 'data/src/images/workers/thread.ts'],
  ...['kernels/src/automatic-node.ts', 'kernels/src/node.ts', 'experiments/'],
];
const nodeOnly = path => NODE_ONLY.some(entry => (entry.endsWith('/') ? path.startsWith(entry) : path === entry));

const files = folder =>
  readdirSync(folder).flatMap(name => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? files(path) : path.endsWith('.ts') ? [path] : [];
  });

/**
 * What a file imports or re-exports from its own package in a way that runs that file: `export *` does, and so do braces with
 * nothing but types in them, of which the compiler leaves `import {}`. Only `import type` and `export type` disappear.
 */
const valueImports = source =>
  [...source.matchAll(/^(?:import|export)\s+(?!type\b(?!\s*,))([^;'"]*?)\s*from\s*'(\.[^']+)'/gm)].map(
    ([, , specifier]) => specifier,
  );

/** The layer of a file, by the longest entry that its path begins with; −1 if none does. */
const layerOf = (layers, path) => {
  let [found, length] = [-1, 0];
  layers.forEach((entries, i) => {
    for (const entry of entries)
      if ((path === `${entry}.ts` || path.startsWith(`${entry}/`)) && entry.length > length)
        [found, length] = [i, entry.length];
  });
  return found;
};

/** The circles of a graph, file → imported files: each as its files in sorted order, those that reach each other. */
const cycles = graph => {
  const reached = new Map();
  for (const start of graph.keys()) {
    const seen = new Set();
    const next = [...graph.get(start)];
    for (let file = next.pop(); file !== undefined; file = next.pop()) {
      if (seen.has(file)) continue;
      seen.add(file);
      next.push(...(graph.get(file) ?? []));
    }
    reached.set(start, seen);
  }
  const circles = [...graph.keys()]
    .filter(file => reached.get(file).has(file))
    .map(file =>
      [...reached.get(file)]
        .filter(other => reached.get(other)?.has(file))
        .sort()
        .join(', '),
    );
  return [...new Set(circles)];
};

const problems = [];
for (const [name, allowed] of Object.entries(ALLOWED)) {
  const graph = new Map();
  for (const file of files(join(root, name, 'src'))) {
    const path = relative(root, file).split(sep).join('/');
    const extra = Object.entries(EXTRA).flatMap(([prefix, names]) => (path.startsWith(`${prefix}/`) ? names : []));
    const source = readFileSync(file, 'utf8');
    const targets = valueImports(source).map(specifier => resolve(dirname(file), specifier));
    graph.set(
      path,
      targets.map(target => relative(root, target).split(sep).join('/')),
    );
    // Bundlers drop a module of which nothing is used, and with it whatever it would have installed.
    if (/^import '/m.test(source)) problems.push(`${path}: imports a module for its side effects`);
    for (const [, specifier] of source.matchAll(/(?:^|[^.\w])(?:from|import)\s*\(?\s*'([^']+)'/gm)) {
      if (specifier.startsWith('.')) {
        const target = relative(join(root, name, 'src'), resolve(dirname(file), specifier));
        if (target.startsWith('..')) problems.push(`${path}: '${specifier}' leaves its package`);
        const inside = `${name}/src/${target.split(sep).join('/')}`;
        for (const [floor, below] of Object.entries(FLOORS))
          if (path.startsWith(`${floor}/`) && !inside.startsWith(`${floor}/`) && !below.includes(inside))
            problems.push(`${path}: '${specifier}' is on a floor above ${floor}`);
      } else if (specifier.startsWith('node:')) {
        if (!nodeOnly(path)) problems.push(`${path}: '${specifier}' would not bundle for a browser`);
      } else if (![...allowed, ...extra].includes(specifier)) {
        problems.push(`${path}: '${specifier}' is not on a floor below`);
      }
    }
  }
  const layers = LAYERS[name];
  const layer = path => layerOf(layers, path.slice(`${name}/src/`.length));
  if (layers !== undefined)
    for (const [path, targets] of graph) {
      if (layer(path) < 0) problems.push(`${path}: has no place among the layers of ${name}, see LAYERS`);
      for (const target of targets)
        if (layer(target) > layer(path)) problems.push(`${path}: imports ${target}, which lies in a layer above`);
    }
  for (const circle of cycles(graph))
    if (!(circle in KNOWN_CYCLES)) problems.push(`${circle}: import values of each other in a circle`);
}
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log('direction: every import points down');
