/** What a run tells of errors that are not its own: where a task threw, which file is damaged, which cannot be written; and when nobody listens. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { FormatError } from '@otimes/core';
import { readRun } from 'otimes-experiments';
import t from 'tap';
import { readRequest } from '../experiments/src/runner/run.ts';
import { law } from './helpers/law.ts';
import { root } from './helpers/packages.ts';
import { startNode } from './helpers/program.ts';
import { DOZEN, syntheticRun, writeRun } from './helpers/synthetic-run.ts';
import { TINY } from './helpers/tiny-experiments.ts';

const folder = t.testdir();
const MODULE = join(root, 'test/helpers/tiny-experiments.ts');
const BIN = join(root, 'experiments/bin/otimes-experiments.mjs');

/** The command line to its end; its output is closed once `enough` says so of what it wrote. */
async function command(args: readonly string[], enough: (out: string) => boolean = () => false) {
  const child = startNode([BIN, ...args], root);
  let [out, err] = ['', ''];
  child.stdout.on('data', text => {
    out += text;
    if (enough(out)) child.stdout.destroy();
  });
  child.stderr.on('data', text => {
    err += text;
  });
  const code = await new Promise<number | null>(done => child.on('close', done));
  return { code, out, err };
}

function configured(name: string, changes: object): string {
  const file = join(folder, `${name}.json`);
  writeFileSync(file, JSON.stringify({ ...TINY, ...changes }));
  return file;
}

law(t, 'where a task throws, the file and the line are told with the trial', async () => {
  const own = join(folder, 'own.ts');
  const lines = [
    `import { TASKS as ALL, CONTENDERS } from ${JSON.stringify(pathToFileURL(MODULE).href)};`,
    'export { CONTENDERS };',
    'const [rings] = ALL;',
    "export const TASKS = [{ ...rings, name: 'rings-3', async open(o) {",
    '  const task = await rings.open(o);',
    '  const evaluate = task.evaluate.bind(task);',
    '  let count = 0;',
    '  task.evaluate = (model, split) => {',
    "    if (++count === 3) throw new Error('there are three rings');",
    '    return evaluate(model, split);',
    '  };',
    '  return task;',
    '} }];',
  ];
  writeFileSync(own, lines.join('\n'));
  const config = configured('three', { task: 'rings-3', contenders: ['tiny-sgd'] });
  const out = join(folder, 'three');
  const {
    code,
    out: said,
    err,
  } = await command(['run', '--config', config, '--with', own, '--out', out, '--jobs', '1']);
  assert.equal(code, 1, said + err);
  assert.match(said, /tiny-sgd-tune-00 failed: there are three rings\n {4}at .*evaluate.*own\.ts:9:/);
  assert.doesNotMatch(said, /node:internal/);
  assert.match(err, /A trial failed: tiny-sgd-tune-00/);
});

law(t, 'list ends well where nobody reads to the end, and a run stops as by Ctrl-C', async () => {
  const list = await command(['list'], out => out.length > 0);
  assert.deepEqual([list.code, list.err], [0, '']);
  const config = configured('slow', { taskOptions: { wait: 20 } });
  const out = join(folder, 'slow');
  const args = ['run', '--config', config, '--with', MODULE, '--out', out, '--jobs', '1'];
  const run = await command(args, said => /^\[ 1\/10\]/m.test(said));
  assert.equal(run.code, 130, run.err);
  assert.match(run.err, /^Stopped\. What was done is kept/);
  assert.ok(readRun(out).trials.length < 10);
});

law(t, 'options.json and records that are damaged are refused by file and place', () => {
  const made = (name: string) =>
    writeRun(join(folder, name), syntheticRun({ contenders: DOZEN.filter(({ name }) => name === 'adamw') }));
  const options = { format: 1, data: null, device: 'cpu', threads: 1, workers: 0, modules: [], keepWeights: false };
  const home = made('damaged');
  const file = join(home, 'options.json');
  writeFileSync(file, JSON.stringify(options));
  assert.equal(readRequest(home).options.threads, 1);
  for (const [name, value, message] of [
    ['threads', 'two', /options\.json: \$\.threads: expected a whole number of 1 or more, got "two"/],
    ['modules', 'x.mjs', /options\.json: \$\.modules: expected a list, got "x\.mjs"/],
    ['data', 3, /options\.json: \$\.data: expected text, got 3/],
    ['device', undefined, /options\.json: \$\.device: expected text, got nothing/],
  ] as const) {
    writeFileSync(file, JSON.stringify({ ...options, [name]: value }));
    assert.throws(
      () => readRequest(home),
      (error: Error) => error instanceof FormatError && message.test(error.message),
      name,
    );
  }
  const path = join(home, 'trials', 'adamw-constant-seed-0.json');
  const record = JSON.parse(readFileSync(path, 'utf8'));
  writeFileSync(path, JSON.stringify({ ...record, checks: [], reached: null }));
  assert.throws(
    () => readRun(home),
    /seed-0\.json: \$\.checks: expected an evaluation, as 'budget' has, got a list of 0/,
  );
  writeFileSync(path, JSON.stringify({ ...record, checks: [], reached: null, outcome: 'diverged', reason: 'step 1' }));
  assert.equal(readRun(home).trials.find(({ id }) => id === record.id)!.checks.length, 0);
});

law(t, 'what cannot be written whole is told by its file, and the old file stays', async () => {
  const home = join(folder, 'full');
  const program = `
    import { mkdirSync } from 'node:fs';
    import { zeros } from '@otimes/core';
    import { save } from '@otimes/core/node';
    import { writeJson } from './experiments/src/runner/files.ts';
    mkdirSync('${home}');
    const said = [() => save('${home}/a.safetensors', { x: zeros([4096]) }), () => writeJson('${home}/b.json', 'x'.repeat(9999))].map(f => {
      try { return f(); } catch (error) { return error.message; }
    });
    console.log(JSON.stringify(said));`;
  // No file of more than 1 or 2 KB, an error and not a signal: as a disk that is full.
  const limited = `trap '' XFSZ; ulimit -f 2; exec "${process.execPath}" --conditions=@otimes/source --import tsx --input-type=module -e "$0"`;
  const child = spawn('sh', ['-c', limited, program], { cwd: root, env: { PATH: process.env.PATH! } });
  let said = '';
  child.stdout.on('data', text => {
    said += text;
  });
  await new Promise(done => child.on('close', done));
  const [tensors, json] = JSON.parse(said);
  assert.match(tensors, /full\/a\.safetensors.*EFBIG/);
  assert.match(json, /full\/b\.json.*EFBIG/);
});
