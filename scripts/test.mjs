// Runs tap and closes with the plain line 'N passed, N failed, N skipped', above it why something was skipped; tap's exit code
// is kept. Coverage, with its floors, is measured where CI is set.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';

const tap = join(dirname(createRequire(import.meta.url).resolve('tap/package.json')), 'dist', 'esm', 'run.mjs');
const coverage = process.env.CI ? [] : ['--disable-coverage'];
const args = [tap, '--reporter=tap', ...coverage, ...process.argv.slice(2)];
const child = spawn(process.execPath, args, { stdio: ['inherit', 'pipe', 'inherit'] });

let tail = '';
/** Reason → how many tests it skipped. */
const skipped = new Map();
createInterface({ input: child.stdout }).on('line', line => {
  process.stdout.write(`${line}\n`);
  tail = `${tail}${line}\n`.slice(-65536);
  const reason = / # SKIP (.*)$/.exec(line)?.[1];
  if (reason) skipped.set(reason, (skipped.get(reason) ?? 0) + 1);
});
child.on('close', (code, signal) => {
  const totals = /^# \{ total: \d+(?:, pass: (\d+))?(?:, fail: (\d+))?(?:, skip: (\d+))?.*\}$/gm;
  const last = [...tail.matchAll(totals)].at(-1);
  // No totals means that tap itself did not get to its end: that is a failure, not an empty success.
  for (const [reason, count] of skipped) console.log(`skipped ${count}: ${reason}`);
  if (last) console.log(`${last[1] ?? 0} passed, ${last[2] ?? 0} failed, ${last[3] ?? 0} skipped`);
  else console.log('0 passed, 1 failed, 0 skipped');
  process.exitCode = signal || !last ? 1 : (code ?? 1);
});
