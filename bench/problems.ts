/**
 * Small problems under the optimizers' defaults: how many steps to a target, whether anything diverges, and whether a weight that Adam
 * trains stays where it was.
 *
 *   npm run bench bench/problems.ts
 *   npm run bench bench/problems.ts -- --curve                      # Adam alone, for the targets
 *   npm run bench bench/problems.ts -- --only PINN,sin --seeds 5
 *   npm run bench bench/problems.ts -- --structure blocks           # the option of KFAC, EKFAC and STEVE
 *   npm run bench bench/problems.ts -- --optimizers 'KFAC|EKFAC' --options '{"damping":1e-3}'
 *   npm run bench bench/problems.ts -- --write docs/problems.md     # between its marks of the structure, or of 'defaults'
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Adam, adaptiveDamping, EKFAC, KFAC, type KroneckerOptions, Muon, STEVE } from '@otimes/optim';
import { PROBLEMS, type Problem } from './problems/problems.ts';
import { ADAM_LR, type Make, run } from './problems/run.ts';
import { faults, type Result, replaced, table } from './problems/table.ts';

const { values } = parseArgs({
  options: {
    optimizers: { type: 'string', default: 'Adam|KFAC|EKFAC|STEVE|Muon' },
    /** Parts of names of problems. */
    only: { type: 'string' },
    seeds: { type: 'string', default: '3' },
    structure: { type: 'string' },
    /** Further options of KFAC, EKFAC and STEVE, as JSON. */
    options: { type: 'string', default: '{}' },
    curve: { type: 'boolean', default: false },
    write: { type: 'string' },
  },
});

const STRUCTURES = ['exact', 'blocks', 'taps', 'channels', 'auto'] as const;
const structure = STRUCTURES.find(name => name === values.structure);
if (values.structure !== undefined && structure === undefined)
  throw new Error(`problems: expected a --structure of ${STRUCTURES.join(', ')}, got '${values.structure}'`);
/** Through text, as from any command line: the optimizers say what they know. */
const shared: KroneckerOptions = JSON.parse(JSON.stringify({ ...JSON.parse(values.options), structure }));

const CONTENDERS: Readonly<Record<string, Make>> = {
  Adam: model => new Adam(model.parameters(), { lr: ADAM_LR }),
  KFAC: model => new KFAC(model, shared),
  EKFAC: model => new EKFAC(model, shared),
  'KFAC, adaptive': model => new KFAC(model, { ...shared, damping: adaptiveDamping() }),
  'EKFAC, adaptive': model => new EKFAC(model, { ...shared, damping: adaptiveDamping() }),
  STEVE: model => new STEVE(model, shared),
  Muon: model => new Muon(model),
};

const names = values.optimizers.split('|');
for (const name of names)
  if (!(name in CONTENDERS))
    throw new Error(`problems: expected --optimizers of ${Object.keys(CONTENDERS).join(' | ')}, got '${name}'`);
const parts = values.only?.split(',');
const problems = PROBLEMS.filter(({ name }) => parts === undefined || parts.some(part => name.includes(part)));
const seeds = Array.from({ length: Number(values.seeds) }, (_, seed) => seed);

/** Adam's error at tenths of the limit, the worst seed of each. */
function curve(problem: Problem): void {
  const runs = seeds.map(seed => run(problem, CONTENDERS.Adam!, seed, { toLimit: true }));
  const at = Array.from({ length: 10 }, (_, i) => Math.round(((i + 1) * problem.limit) / 10));
  const errors = at.map(step =>
    Math.max(
      ...runs.map(({ errors }) => Math.min(...errors.filter(look => look.step <= step).map(({ error }) => error))),
    ),
  );
  console.log(`${problem.name.padEnd(34)} ${errors.map(e => e.toPrecision(2)).join('  ')}`);
}

function compare(): void {
  const results: Result[] = [];
  for (const problem of problems) {
    for (const name of names)
      results.push({ problem, name, runs: seeds.map(seed => run(problem, CONTENDERS[name]!, seed)) });
    process.stderr.write(`${problem.name}\n`);
  }
  const text = table(names, problems, results);
  console.log(text);
  for (const fault of faults(results)) console.log(fault);
  const { write } = values;
  if (write !== undefined)
    writeFileSync(write, replaced(readFileSync(write, 'utf8'), values.structure ?? 'defaults', text));
}

const start = process.cpuUsage();
if (values.curve) for (const problem of problems) curve(problem);
else compare();
const { user, system } = process.cpuUsage(start);
process.stderr.write(`${((user + system) / 1e6).toFixed(0)} CPU seconds\n`);
