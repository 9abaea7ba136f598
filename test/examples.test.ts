/**
 * The demo: its chart, pictures, table and verdict on runs made up here, and its promises about exit codes and output. And
 * what the other examples promise.
 */

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tensor } from '@otimes/core';
import fc from 'fast-check';
import t from 'tap';
import { parseOptions as parseTextOptions } from '../examples/char-transformer/options.ts';
import { decode, encode, TEXT } from '../examples/char-transformer/text.ts';
import { parseOptions } from '../examples/digits/options.ts';
import { drawDigit, kroneckerProduct, sideBySide } from '../examples/digits/preview.ts';
import { misses, table, verdict } from '../examples/digits/report.ts';
import { parameterCount } from '../examples/digits/train.ts';
import { chart } from '../examples/shared/chart.ts';
import { percent, type Run, reached } from '../examples/shared/run.ts';
import { isLive, styles } from '../examples/shared/terminal.ts';
import { type Outcome, program } from './helpers/example.ts';
import { law } from './helpers/law.ts';

const COLORS = ['#111111', '#225588', '#338833', '#cc5500'];

/** A run whose accuracy climbs in steps of one epoch, a second each, ten steps of falling loss an epoch. */
function made(name: string, accuracies: number[], o: { secondsPerEpoch?: number; color?: string } = {}): Run {
  const secondsPerEpoch = o.secondsPerEpoch ?? 1;
  const steps = 10 * (accuracies.length - 1);
  return {
    name,
    color: o.color ?? COLORS[0]!,
    settings: 'lr 0.1',
    losses: Array.from({ length: steps }, (_, i) => ({ epoch: (i + 1) / 10, loss: 2.3 * 0.9 ** i })),
    checks: accuracies.map((accuracy, epoch) => ({ epoch, seconds: epoch * secondsPerEpoch, accuracy })),
    seconds: (accuracies.length - 1) * secondsPerEpoch,
  };
}

/** Throws unless every element closes in order, and every attribute has a value in quotes. */
function checkXml(text: string): void {
  const open: string[] = [];
  const rest = text.replace(
    /<(\/?)([\w:-]+)((?:\s+[\w:-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(\/?)>/g,
    (_, close, name, _a, self) => {
      if (close) assert.equal(name, open.pop(), `</${name}> closes another element`);
      else if (!self) open.push(name);
      return '';
    },
  );
  assert.deepEqual(open, [], 'elements left open');
  assert.ok(!/[<>]/.test(rest), `not a tag: ${rest.match(/.{0,40}[<>].{0,40}/)?.[0]}`);
  assert.ok(!/&(?!amp;|lt;|gt;|quot;|#\d+;)/.test(rest), 'an ampersand that is no entity');
}

law(
  t,
  'chart: well-formed SVG with a stroke in the legend and one curve in each of the three panels for every run',
  async () => {
    const runs = COLORS.map((color, i) => made(`Number ${i}`, [0.1, 0.8, 0.9 + i / 100, 0.95], { color }));
    const svg = chart(runs, { title: 'a < b & c', subtitle: '"quoted"', target: 0.92 });
    checkXml(svg);
    assert.match(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
    const curves = [...svg.matchAll(/<g ([^>]*)><path d="([^"]*)"/g)].filter(([, g]) => g!.includes('fill="none"'));
    const colors = curves.map(([, g]) => /stroke="(#\w+)"/.exec(g!)?.[1]);
    assert.deepEqual(colors, [...COLORS, ...COLORS, ...COLORS, ...COLORS]);
    for (const [, , d] of curves) assert.match(d!, /^M[\d.,LMC-]+$/, 'no NaN in a path');
    for (const run of runs) assert.ok(svg.includes(`>${run.name}<`), 'the legend names it');
    assert.ok(svg.includes('target 92 %'));
  },
);

law(t, 'chart: a target out of reach, a diverged run and a single run are drawn too', async () => {
  const diverged: Run = { ...made('gone', [0.1]), losses: [{ epoch: 0.1, loss: 2.3 }] };
  for (const runs of [[made('only', [0.1, 0.5])], [made('a', [0.1, 0.5]), diverged], [diverged]]) {
    const svg = chart(runs, { title: 't', subtitle: 's', target: 0.99 });
    checkXml(svg);
    assert.ok(!svg.includes('NaN'), svg.match(/.{60}NaN.{20}/)?.[0]);
    assert.ok(svg.includes('did not reach 99 %'));
  }
});

law(t, 'preview: two pixels a character, margins left and right gone', async () => {
  const rows = [
    [0, 1, 0.1, 0, 0],
    [0, 0, 0.9, 0, 0],
    [0, 1, 0, 1, 0],
    [0, 1, 0, 0, 0],
  ];
  assert.deepEqual(drawDigit(rows), ['▀▄ ', '█ ▀']);
  assert.deepEqual(drawDigit([[0, 0]]), ['']);
  const lines = sideBySide(
    [
      ['█▀', '▄▄'],
      ['▀', ' '],
    ],
    ['4', '1'],
    ['='],
  ).split('\n');
  assert.deepEqual(
    lines,
    ['█▀   =   ▀', '▄▄', '4        1'].map(line => line.trimEnd()),
  );
});

law(t, 'preview: the pixels of the picture are the pixels of the image', async () => {
  const image = fc.array(fc.array(fc.integer({ min: 0, max: 1 }), { minLength: 5, maxLength: 5 }), {
    minLength: 6,
    maxLength: 6,
  });
  fc.assert(
    fc.property(image, rows => {
      const ink = drawDigit(rows).join('');
      const count = (block: string) => ink.split(block).length - 1;
      assert.equal(
        count('▀') + count('▄') + 2 * count('█'),
        rows.flat().reduce((a, b) => a + b, 0),
      );
    }),
  );
});

law(t, 'preview: 2 ⊗ 3 = 6 where the set has these digits, nothing where it has not', async () => {
  const images = tensor(new Float32Array(3 * 16).fill(1), { shape: [3, 4, 4] });
  const picture = kroneckerProduct({ images, labels: tensor([6, 3, 2], { dtype: 'int32' }) }, 5);
  assert.deepEqual(picture.split('\n'), [
    '████   ⊗   ████   =   ████',
    '████       ████       ████',
    ' 2          3          6',
  ]);
  assert.equal(kroneckerProduct({ images, labels: tensor([6, 3, 1], { dtype: 'int32' }) }), '');
});

law(t, 'report: the numbers of the table are those of the runs', async () => {
  const runs = [
    made('Slow', [0.1, 0.5, 0.9, 0.91, 0.95], { secondsPerEpoch: 0.25 }),
    made('Quick', [0.1, 0.96, 0.93], { secondsPerEpoch: 2 }),
    made('Never', [0.1, 0.5], { secondsPerEpoch: 2 }),
  ];
  const rows = table(runs, 0.94)
    .split('\n')
    .filter(line => line.startsWith('│'))
    .map(line =>
      line
        .split('│')
        .slice(1, -1)
        .map(cell => cell.trim()),
    );
  assert.deepEqual(rows, [
    ['optimizer', 'settings', 'epochs', 'seconds', 'steps', 'final'],
    ['', '', 'to 94 %', 'to 94 %', 'per s', 'accuracy'],
    ['Slow', 'lr 0.1', '4.00', '1.00', '40', '95.0 %'],
    ['Quick', 'lr 0.1', '1.00', '2.00', '5', '93.0 %'],
    ['Never', 'lr 0.1', '–', '–', '5', '50.0 %'],
  ]);
  assert.ok(table(runs, 0.94, styles(true)).includes('\x1b[1m1.00\x1b[22m'), 'the best is bold');
  assert.deepEqual(misses(runs, 0.94), ['Never did not reach 94 %: at best 50 %']);
});

law(t, 'report: the verdict follows from the numbers, whoever wins', async () => {
  const sprinter = made('Sprinter', [0.1, 0.5, 0.9], { secondsPerEpoch: 0.5 });
  const thinker = made('Thinker', [0.1, 0.9, 0.9], { secondsPerEpoch: 3 });
  const both = made('Both', [0.1, 0.9], { secondsPerEpoch: 0.1 });
  assert.equal(
    verdict([sprinter, thinker], 0.9),
    'Thinker reached 90 % in the fewest epochs (1.00), Sprinter in the least time (1.00 s).\n' +
      "Of Sprinter's epochs and of its seconds needed: Thinker 0.50 and 3.00.",
  );
  assert.equal(
    verdict([sprinter, thinker, both], 0.9),
    'Thinker and Both reached 90 % in the fewest epochs (1.00), Both in the least time (0.10 s).\n' +
      "Of Sprinter's epochs and of its seconds needed: Thinker 0.50 and 3.00; Both 0.50 and 0.10.",
  );
  assert.equal(
    verdict([sprinter, both], 0.9),
    'Both reached 90 % in the fewest epochs (1.00) and the least time (0.10 s).\n' +
      "Of Sprinter's epochs and of its seconds needed: Both 0.50 and 0.10.",
  );
  assert.equal(
    verdict([sprinter, made('Never', [0.1, 0.2])], 0.9),
    'Only Sprinter reached 90 %: after 2.00 epochs, 1.00 s.',
  );
  assert.equal(verdict([sprinter], 0.99), 'Nobody reached 99 %.');
});

law(t, 'run: reached is the first check at the target or above', async () => {
  const run = made('x', [0.1, 0.8, 0.9, 0.7, 0.95]);
  assert.equal(reached(run, 0.9)?.epoch, 2);
  assert.equal(reached(run, 0.92)?.epoch, 4);
  assert.equal(reached(run, 0.96), undefined);
  assert.deepEqual([percent(0.94), percent(0.9437), percent(0.99999, 2)], ['94 %', '94.4 %', '100 %']);
  assert.equal(parameterCount(), 8 * 10 + 16 * 73 + 10 * 145);
});

law(t, 'terminal: ANSI codes for a terminal only, and not where NO_COLOR is set', async () => {
  const terminal = { isTTY: true } as typeof process.stdout;
  assert.equal(isLive(terminal, {}), true);
  assert.equal(isLive(terminal, { NO_COLOR: '1' }), false);
  assert.equal(isLive(terminal, { TERM: 'dumb' }), false);
  assert.equal(isLive({ isTTY: false } as typeof process.stdout, {}), false);
  assert.equal(styles(false).bold('x'), 'x');
});

law(t, 'options: what is wrong is named', async () => {
  const names = ['Adam', 'STEVE'];
  const { only, target, epochs, samples } = parseOptions(['--short', '--only', 'Steve', '--epochs', '3'], names);
  assert.deepEqual({ only, target, epochs, samples }, { only: ['steve'], target: 0.8, epochs: 3, samples: 2000 });
  assert.deepEqual(parseOptions([], names).only, ['adam', 'steve']);
  assert.equal(parseOptions(['--help'], names).help, true);
  for (const [args, message] of [
    [['--sped', '3'], /--sped/],
    [['fast'], /fast/],
    [['--epochs', '0'], /--epochs: expected a whole number of 1 or more, got '0'/],
    [['--epochs', 'x'], /got 'x'/],
    [['--seed', ''], /--seed/],
    [['--target', '94'], /--target: expected a share of 0 … 1, got '94'/],
    [['--only', 'adam,sgd'], /expected optimizers of adam, steve, got 'sgd'/],
  ] as const)
    assert.throws(() => parseOptions(args, names), message);
});

const demo = (...args: string[]): Promise<Outcome> => program('digits', ...args);

const folder = mkdtempSync(join(tmpdir(), 'otimes-demo-'));
t.teardown(() => rmSync(folder, { recursive: true }));

law(t, 'demo --short: all four reach the target; plain output, a chart, exit code 0', async () => {
  const path = join(folder, 'deep', 'chart.svg');
  const { code, stdout, stderr } = await demo('--short', '--out', path);
  assert.equal(code, 0, stderr);
  assert.equal(stderr, '');
  assert.ok(!stdout.includes('\x1b') && !stdout.includes('\r'));
  for (const name of ['Adam', 'KFAC', 'EKFAC', 'STEVE'])
    assert.match(stdout, new RegExp(`^${name}: 80 % after \\d+\\.\\d+ epochs, \\d+\\.\\d\\d s \\(60 steps, `, 'm'));
  assert.match(stdout, /⊗/);
  checkXml(readFileSync(path, 'utf8'));
});

law(t, 'demo with a target that nobody reaches: exit code 1, the optimizers named on stderr', async () => {
  const path = join(folder, 'missed.svg');
  const { code, stderr } = await demo(
    '--short',
    '--epochs',
    '1',
    '--target',
    '0.9999',
    '--only',
    'adam,steve',
    '--out',
    path,
  );
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^digits: Adam did not reach 99\.99 %: at best [\d.]+ %\ndigits: STEVE did not reach 99\.99 %: .*\n$/,
  );
  assert.ok(existsSync(path));
});

law(t, 'demo with an option that does not exist: usage on stderr, exit code 2', async () => {
  const wrong = await demo('--sped');
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /--sped[\s\S]*Usage: npm run demo/);
  assert.equal(wrong.stdout, '');
});

law(
  t,
  'custom-collector: STEVE finds the multiplication table of the quaternions through a collector from outside',
  async () => {
    const { code, stdout, stderr } = await program('custom-collector');
    assert.equal(code, 0, stderr);
    assert.equal(stderr, '');
    assert.match(stdout, /^bilinear: a block of 4 × 16, trained by STEVE\n/);
    assert.match(stdout, /^ {3}k {3}j {2}-i {2}-1$/m);
  },
);

law(t, 'char-transformer: STEVE learns the poem to its target, and the model goes on by itself', async () => {
  const { code, stdout, stderr } = await program('char-transformer', '--steps', '120', '--target', '1.9');
  assert.equal(stderr, '');
  assert.equal(code, 0);
  assert.ok(!stdout.includes('\x1b'));
  assert.match(stdout, /^Jabberwocky: 935 characters, 45 different ones\.$/m);
  assert.match(stdout, /^STEVE with lr 0\.01, 120 steps of 16 × 64 characters\.$/m);
  assert.match(stdout, /^step 120 {3}loss [01]\.\d{3} {3}\d+\.\d s$/m);
  const said = stdout.slice(stdout.indexOf("'Twas "));
  assert.equal([...said.trimEnd()].length > 250, true, said);
});

law(t, 'char-transformer: a missed target is exit code 1, and a wrong option is named with exit code 2', async () => {
  const missed = await program('char-transformer', '--optimizer', 'adam', '--steps', '5', '--prompt', 'He ');
  assert.equal(missed.code, 1);
  assert.match(missed.stdout, /^Adam with lr 0\.005, 5 steps/m);
  assert.match(missed.stdout, /^He /m);
  assert.match(missed.stderr, /^char-transformer: the loss did not reach 0\.2, but \d\.\d{3}\n$/);
  for (const [args, message] of [
    [['--optimizer', 'sgd'], /--optimizer: expected adam or steve, got 'sgd'/],
    [['--steps', '0'], /--steps: expected a whole number of 1 or more, got '0'/],
    [['--prompt', 'X'], /--prompt: the text has no 'X'/],
    [['--temperature', 'hot'], /--temperature: expected a number of 0 or more, got 'hot'/],
  ] as const)
    assert.throws(() => parseTextOptions(args), message);
  const wrong = await program('char-transformer', '--step', '3');
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /--step[\s\S]*Usage: npm run demo:text/);
  assert.equal(decode(encode(TEXT)), TEXT);
});
