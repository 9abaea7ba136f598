/**
 * The table of all questions: a row for each, otimes and every peer in a column, and beside each peer how many times as
 * fast (or as small) otimes is. Targets are in questions/; what misses its target is marked.
 *
 *   npm run bench                          all questions
 *   npm run bench -- --only eigh,sgemm     some of them
 *   npm run bench -- --quick               short samples, to see that it runs
 *   npm run bench -- --clock wall          wall time instead of the CPU time of all threads of each process
 */

import { readdirSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import * as run from './peers/run.mjs';

const { values: options } = parseArgs({
  options: {
    only: { type: 'string' },
    quick: { type: 'boolean', default: false },
    clock: { type: 'string', default: 'cpu' },
  },
});

const missing = run.missingPackages();
if (missing.length > 0) {
  console.error(`Missing peers: ${missing.join(', ')}. They are not needed for anything else; to have them:

    npm ci --prefix bench

Single programs run without them: npm run bench bench/overhead.ts`);
  process.exit(1);
}

const folder = join(dirname(fileURLToPath(import.meta.url)), 'questions');
const ORDER = ['sgemm', 'training', 'networks', 'blas', 'overhead', 'eigh', 'cholesky', 'kronecker', 'size'];
const all = readdirSync(folder)
  .map(file => file.replace('.mjs', ''))
  .sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b));
const names = options.only?.split(',') ?? all;
const unknown = names.filter(name => !all.includes(name));
if (unknown.length > 0) {
  console.error(`bench: expected --only some of ${all.join(', ')}, got ${unknown.join(', ')}`);
  process.exit(1);
}

const peers = await run.findPeers();
const settings = {
  ...(options.quick ? { rounds: 3, sample: 0.03, warm: 0.1 } : { rounds: 7, sample: 0.25, warm: 1 }),
  clock: options.clock,
};
const contenders = (task, args, others) =>
  Object.fromEntries(['otimes', ...others].map(peer => [peer, { peer, task, args }]));
const tools = {
  ...run,
  peers,
  interleave: (list, extra) => run.interleave(peers, list, { ...settings, ...extra }),
  compare: (task, args, others, extra) =>
    run.interleave(peers, contenders(task, args, others), { ...settings, ...extra }),
  coldStarts: (task, args, others) =>
    run.coldStarts(peers, contenders(task, args, others), options.quick ? 1 : settings.rounds),
};

console.log(`${new Date().toISOString().slice(0, 10)}, ${cpus().length} × ${cpus()[0].model}, Node ${process.version}`);
console.log([...peers].map(([name, { version, blas }]) => `${name} ${version}${blas ? ` (${blas})` : ''}`).join(', '));
for (const name of run.PEERS)
  if (!peers.has(name)) console.log(`${name} is not on this machine: its column stays empty`);
for (const [name, { blas }] of peers)
  if (blas && !/openblas|mkl|blis/i.test(blas))
    console.log(`NOTE: ${name} computes its products with ${blas}, which may be a slow reference library`);
console.log(
  `One thread, ${options.clock === 'cpu' ? 'CPU' : 'wall'} time, median of ${settings.rounds} interleaved rounds of ` +
    `${settings.sample} s. (n×): otimes is n times as fast, or as small.\n`,
);

const columns = ['otimes', ...run.PEERS];
const table = [['', ...columns]];
const digits = x => (x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2));

function cells({ question, unit, values, note, targets = {}, limit, larger = false, scale = 1 }) {
  const ours = values.otimes;
  const above = limit !== undefined && ours > limit;
  const beside = name => {
    if (values[name] === undefined) return '';
    const ratio = larger ? ours / values[name] : values[name] / ours;
    const miss = ratio < targets[name] ? ` ✗ ${targets[name]}` : '';
    return `${digits(values[name] * scale)} (${digits(ratio)}×${miss})`;
  };
  const own = digits(ours * scale) + (note ? ` (${note})` : '') + (above ? ` ✗ ${limit}` : '');
  return [`${question}, ${unit}`, own, ...run.PEERS.map(beside)];
}

for (const name of names) {
  process.stderr.write(`${name} …\n`);
  const { rows } = await import(pathToFileURL(join(folder, `${name}.mjs`)).href);
  for await (const row of rows(tools)) {
    table.push(cells(row));
    process.stderr.write(`  ${table.at(-1).filter(Boolean).join('  ')}\n`);
  }
}

const used = table[0].map((_, column) => column === 0 || table.slice(1).some(row => row[column] !== ''));
const shown = table.map(row => row.filter((_, column) => used[column]));
const widths = shown[0].map((_, column) => Math.max(3, ...shown.map(row => row[column].length)));
const line = row => `| ${row.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`;
console.log(line(shown[0]));
console.log(`|${widths.map(width => '-'.repeat(width + 2)).join('|')}|`);
for (const row of shown.slice(1)) console.log(line(row));
console.log('\n✗ n: below the target of n times (above, for a size).');
