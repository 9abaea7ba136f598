/**
 * Runs the test files of the pack, one process after the other, and prints what failed.
 *
 *   suite [PART …] [--budget SECONDS] [--log FILE]     those whose name has a PART, by default all
 *
 * With a budget no file is begun after it; what was left out is said. All lines go to the log. Exit code 1 where a test failed or
 * a file did not come to its end.
 */

import { spawn } from 'node:child_process';
import { appendFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { budget: { type: 'string', default: 'Infinity' }, log: { type: 'string', default: 'suite.log' } },
});
const folder = join(import.meta.dirname, 'suites');
const names = readdirSync(folder)
  .map(file => file.replace('.mjs', ''))
  .filter(name => positionals.length === 0 || positionals.some(part => name.includes(part)))
  .sort((a, b) => a.length - b.length);
if (names.length === 0) throw new Error(`suite: expected parts of names in ${folder}, got ${positionals.join(', ')}`);

/** Runs one. Lines 'ok …' go to the log only. */
function run(name) {
  const child = spawn(process.execPath, [join(folder, `${name}.mjs`)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // A test that finds no GPU fails here.
    env: { ...process.env, REQUIRE_ALL: '1' },
  });
  let last = '';
  const take = line => {
    appendFileSync(values.log, `${line}\n`);
    if (/^\d+ passed, \d+ failed/.test(line)) last = line;
    else if (!line.startsWith('ok ')) console.log(line);
  };
  const streams = [child.stdout, child.stderr].map(input => createInterface({ input }).on('line', take));
  const closed = Promise.all(streams.map(lines => new Promise(done => lines.on('close', done))));
  return new Promise(done => {
    child.on('close', (code, signal) => closed.then(() => done({ last, code, signal })));
  });
}

writeFileSync(values.log, '');
const begun = performance.now();
const seconds = () => (performance.now() - begun) / 1000;
const left = [];
let [passed, failed] = [0, 0];
for (const name of names) {
  if (seconds() > Number(values.budget)) {
    left.push(name);
    continue;
  }
  const from = seconds();
  const { last, code, signal } = await run(name);
  const [, good, bad] = /^(\d+) passed, (\d+) failed/.exec(last) ?? [null, 0, 1];
  passed += Number(good);
  failed += Number(bad);
  const end = last === '' ? ` NOT OK: no end was reached, exit ${signal ?? code}` : last;
  console.log(`${name}: ${end}, ${(seconds() - from).toFixed(1)} s`);
}
if (left.length > 0) console.log(`not run within ${values.budget} s: ${left.join(', ')}`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
