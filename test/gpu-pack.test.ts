/** The pack for GPU machines: its programs bundle, its tests run without tap, and what benchmark and demo make of numbers. */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { rowsOf } from '../bench/gpu/parts/rows.ts';
import { markdown } from '../bench/gpu/parts/table.ts';
import { curves, distance, type Run } from '../examples/gpu/report.ts';
import { law } from './helpers/law.ts';
import { root } from './helpers/packages.ts';
import { startNode } from './helpers/program.ts';
import { testNeeding } from './helpers/requires.ts';

// NOTE: awaited before the first test is told, or tap would take the pause for the end.
const onGpu = await testNeeding(t, 'gpu');

/** Inside of the repository, whose node_modules stand in for the box. */
mkdirSync(join(root, '.build'), { recursive: true });
const folder = mkdtempSync(join(root, '.build/gpu-pack-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const run = async (...args: string[]): Promise<{ code: number | null; output: string }> => {
  const child = startNode(args, folder);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  const code = await new Promise<number | null>(done => child.on('close', done));
  return { code, output };
};

/** Tests of each kind of end, as tap's users write them. */
const SAMPLE = `
import assert from 'node:assert/strict';
import t from 'tap';
t.test('passes', t => { t.pass(); });
t.test('fails', async () => assert.equal(1 + 1, 3));
t.test('is skipped', { skip: 'no reason' }, () => {});
t.test('outer', t => {
  const order = [];
  t.test('first', async () => { await null; order.push(1); });
  t.test('second', () => { assert.deepEqual(order, [1]); });
});
t.test('never ends', () => new Promise(() => {}));
`;

law(
  t,
  'all programs of the pack are bundled; its runner tells what passed, failed, was skipped and did not end',
  async () => {
    writeFileSync(join(folder, 'sample.ts'), SAMPLE);
    const made = await run(join(root, 'scripts/gpu-pack.mjs'), '--no-box', '--out', folder, join(folder, 'sample.ts'));
    assert.equal(made.code, 0, made.output);
    const files = readdirSync(join(folder, 'files'));
    for (const name of ['probe', 'suite', 'bench', 'profile', 'demo']) assert.ok(files.includes(`${name}.mjs`), name);
    assert.ok(files.includes('torch_peer.py'));
    const suites = readdirSync(join(folder, 'files/suites')).map(file => file.replace('.mjs', '.test.ts'));
    for (const file of suites) assert.ok(readdirSync(join(root, 'test')).includes(file), file);
    assert.ok(suites.includes('gpu-ops.test.ts'));

    const { code, output } = await run(join(folder, 'files/sample.mjs'));
    assert.notEqual(code, 0);
    assert.match(output, /^ok passes/m);
    assert.match(output, /^NOT OK fails\nAssertionError.*\n\n2 !== 3/m);
    assert.match(output, /^skipped is skipped: no reason/m);
    assert.match(output, /^ok outer › second/m);
    assert.match(output, /^NOT OK never ends\nthe process ended within it/m);
    assert.match(output, /3 passed, 2 failed, 1 skipped\n$/);
  },
);

onGpu('a suite of the pack passes without tap', async () => {
  const log = join(folder, 'log');
  const suite = await run(join(folder, 'files/suite.mjs'), 'gpu-select', '--log', log);
  assert.equal(suite.code, 0, suite.output);
  const [, passed] = /(\d+) passed, 0 failed\n$/.exec(suite.output)!;
  assert.ok(Number(passed) > 0);
  assert.match(readFileSync(log, 'utf8'), /^ok /m);
});

const made = (losses: number[]): Run => ({ losses, times: losses.map(() => 1), parameters: 1, dispatches: 1 });

law(t, 'the demo tells the largest difference, and a NaN is none that is within anything', () => {
  const outcome = (cpu: number[], gpu: number[]) => ({ name: 'net', cpu: made(cpu), gpu: made(gpu) });
  assert.equal(distance(outcome([2, 1, 0.5], [2, 1.25, 0.5])), 0.25);
  assert.ok(Number.isNaN(distance(outcome([1, Number.NaN], [1, 1]))));
  assert.deepEqual(
    curves(outcome([3, 1], [3, 2]), text => text),
    ['  CPU  █▁  loss 3.000000 → 1.000000', '  GPU  █▅  loss 3.000000 → 2.000000'],
  );
});

law(t, 'each row of the benchmark is there once; a row that failed says why in the table', () => {
  for (const quick of [false, true]) {
    const titles = rowsOf(quick).map(({ title }) => title);
    assert.equal(new Set(titles).size, titles.length);
  }
  const [adam, steve] = ['Adam', 'STEVE'].map(
    name => rowsOf(true).find(({ title }) => title.startsWith('MLP') && title.endsWith(name))!,
  );
  const sample = { hostMs: 0.5, gpuMs: 1, dispatches: 18, submits: 0.5 };
  const text = markdown([
    { row: adam!, gpu: { ...sample, ms: 2 }, flops: 4e9, torch: { float32: 1 } },
    { row: steve!, gpu: { ...sample, ms: 3, gpuMs: null }, flops: 4e9 },
    { row: rowsOf(true).find(({ part }) => part === 'products')!, error: 'FAILED: no memory' },
  ]);
  assert.equal(
    text,
    `| Training steps | ms | rate | host, ms | GPU, ms | dispatches | submits | PyTorch float32, ms |
|---|---:|---:|---:|---:|---:|---:|---:|
| MLP 64-32-10, B 32, Adam | 2.00 | 2.00 TFLOP/s | 0.50 | 1.00 | 18 | 0.50 | 1.00 (0.50×) |
| MLP 64-32-10, B 32, STEVE | 3.00 (1.50 × Adam) | 1.33 TFLOP/s | 0.50 |  | 18 | 0.50 |  |

| Products | ms | rate |
|---|---:|---:|
| product 128³ | FAILED: no memory |  |`,
  );
});
