/** Starts peers as processes and measures them in turn: A B A B …, only one of them at work at a time. */

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const bench = dirname(here);
export const root = dirname(bench);

/** One thread everywhere: tfjs-wasm has one in Node, jax-js starts workers only in browsers. */
const ONE_THREAD = { OMP_NUM_THREADS: '1', OPENBLAS_NUM_THREADS: '1', MKL_NUM_THREADS: '1' };
const env = { ...process.env, ...ONE_THREAD };

/** The npm packages that the peers are; versions come from what is installed. */
export const PACKAGES = {
  'tfjs-wasm': '@tensorflow/tfjs-backend-wasm',
  'jax-js': '@jax-js/jax',
  'numpy-ts': 'numpy-ts',
  'ml-matrix': 'ml-matrix',
};
const MODULES = { 'tfjs-wasm': 'tfjs', 'jax-js': 'jax-js', 'numpy-ts': 'numpy-ts', 'ml-matrix': 'ml-matrix' };
const PYTHON = { NumPy: ['numpy', 'numpy_peer'], PyTorch: ['torch', 'torch_peer'] };
export const PEERS = [...Object.keys(PACKAGES), ...Object.keys(PYTHON)];

export const missingPackages = () =>
  Object.values(PACKAGES).filter(name => !existsSync(join(bench, 'node_modules', name)));

/** The first Python that has the module, or null: $PYTHON, python3, /usr/bin/python3. */
function pythonWith(module) {
  const candidates = [process.env.PYTHON, 'python3', '/usr/bin/python3'].filter(Boolean);
  return candidates.find(python => spawnSync(python, ['-c', `import ${module}`], { env }).status === 0) ?? null;
}

/** A file of bench, and otimes with it, as a user's build would have it: one file, from the sources. */
export async function bundle(name) {
  const { build } = await import('esbuild');
  const outfile = join(bench, '.build', `${name.split('/').at(-1)}.mjs`);
  await build({
    entryPoints: [join(bench, `${name}.ts`)],
    bundle: true,
    platform: 'node',
    format: 'esm',
    conditions: ['@otimes/source'],
    // Some of what is bundled is CommonJS.
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
    outfile,
    logLevel: 'error',
  });
  return outfile;
}

/** name → {command, version}; a peer that is not on this machine is left out. */
export async function findPeers() {
  const found = new Map();
  const worker = join(here, 'worker.mjs');
  const { version } = JSON.parse(readFileSync(join(root, 'core', 'package.json'), 'utf8'));
  found.set('otimes', { command: [process.execPath, worker, await bundle('peers/otimes')], version });
  const withBlas = await bundle('peers/otimes-blas');
  const { blas } = await import(pathToFileURL(withBlas).href).catch(error => ({ blas: error }));
  if (blas instanceof Error) console.error(`otimes + BLAS is left out: ${blas.message}`);
  else
    found.set('otimes + BLAS', {
      command: [process.execPath, worker, withBlas],
      version,
      blas: `${blas.library}: ${blas.config}`,
    });
  for (const [name, folder] of Object.entries(PACKAGES)) {
    const manifest = join(bench, 'node_modules', folder, 'package.json');
    if (!existsSync(manifest)) continue;
    const command = [process.execPath, worker, join(here, `${MODULES[name]}.mjs`)];
    found.set(name, { command, version: JSON.parse(readFileSync(manifest, 'utf8')).version });
  }
  for (const [name, [module, file]] of Object.entries(PYTHON)) {
    const python = pythonWith(module);
    if (python === null) continue;
    const command = [python, join(here, 'worker.py'), file];
    const { stdout } = spawnSync(command[0], [...command.slice(1), '--version'], { env, encoding: 'utf8' });
    found.set(name, { command, ...JSON.parse(stdout) });
  }
  return found;
}

/** One living process that answers requests in order. */
export class Peer {
  #child;
  #lines;
  #errors = '';

  constructor(name, [program, ...args]) {
    this.name = name;
    this.#child = spawn(program, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stderr.on('data', chunk => {
      this.#errors = (this.#errors + chunk).slice(-2000);
    });
    // Writing to a process that has ended; that it ended is told by its output.
    this.#child.stdin.on('error', () => {});
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async ask(request) {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    for (;;) {
      const { value: line, done } = await this.#lines.next();
      if (done) throw new Error(`${this.name} ended: ${this.#errors}`);
      if (!line.startsWith('{')) continue; // a library greets
      const answer = JSON.parse(line);
      if (answer.error) throw new Error(`${this.name}: ${answer.error}`);
      return answer;
    }
  }

  end() {
    this.#child.stdin.end();
  }
}

export function median(xs) {
  const sorted = [...xs].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/**
 * Milliseconds a unit of work, median of the rounds, for each contender {peer, task, args} that is here; name → ms. A
 * contender whose result is not finite, or differs from the first one's by more than `tolerance` (relative), is left out,
 * and why is said; the first one must work.
 */
export async function interleave(peers, contenders, { rounds, sample, warm, clock, tolerance }) {
  const running = new Set();
  for (const [name, { peer, task, args }] of Object.entries(contenders))
    if (peers.has(peer)) running.add({ name, task, args, process: new Peer(name, peers.get(peer).command), ms: [] });
  const [first] = running;
  const attempt = async (contender, ask) => {
    try {
      return await ask(contender);
    } catch (error) {
      if (contender === first) throw error;
      console.error(`  left out: ${error.message}`);
      contender.process.end();
      running.delete(contender);
    }
  };

  let expected;
  const prepare = async ({ name, task, args, process }) => {
    const { check } = await process.ask({ prepare: task, args, warm });
    expected ??= check;
    const near = tolerance === undefined || Math.abs(check - expected) <= tolerance * Math.abs(expected);
    if (!Number.isFinite(check) || !near) throw new Error(`${name}: ${task} gives ${check}, otimes ${expected}`);
  };
  const measure = async ({ process, ms }) => void ms.push((await process.ask({ sample }))[clock]);

  try {
    for (const contender of running) await attempt(contender, prepare);
    for (let round = 0; round < rounds; round++) for (const contender of running) await attempt(contender, measure);
  } finally {
    for (const { process } of running) process.end();
  }
  return Object.fromEntries([...running].map(({ name, ms }) => [name, median(ms)]));
}

/** CPU milliseconds from the start of a process to the first result of a task, in turn; name → ms. */
export function coldStarts(peers, contenders, rounds) {
  const ms = new Map();
  for (let round = 0; round < rounds; round++)
    for (const [name, { peer, task, args }] of Object.entries(contenders)) {
      if (!peers.has(peer)) continue;
      const [program, ...rest] = peers.get(peer).command;
      const { stdout } = spawnSync(program, [...rest, '--once', task, JSON.stringify(args)], { env, encoding: 'utf8' });
      const line = stdout.split('\n').findLast(text => text.startsWith('{'));
      if (line === undefined) throw new Error(`${name} did not start`);
      ms.set(name, [...(ms.get(name) ?? []), JSON.parse(line).cpu]);
    }
  return Object.fromEntries([...ms].map(([name, list]) => [name, median(list)]));
}

/** Size in bytes of a file of one of the packages, gzipped. */
export async function gzippedFile(path) {
  const { gzipSync } = await import('node:zlib');
  return gzipSync(readFileSync(createRequire(join(bench, 'package.json')).resolve(path))).length;
}
