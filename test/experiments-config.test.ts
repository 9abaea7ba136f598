/** Experiments, files and command lines that are wrong: each error says where, what was expected, and what was probably meant. */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Experiment } from 'otimes-experiments';
import t from 'tap';
import { main } from '../experiments/src/cli.ts';
import { checkExperiment, differences, readExperiment } from '../experiments/src/config.ts';
import { loadLibrary } from '../experiments/src/library.ts';
import { didYouMean, editDistance } from '../experiments/src/nearest.ts';
import { ascending, quantile } from '../experiments/src/quantile.ts';
import { readJson, removeTemporaries, writeJson } from '../experiments/src/runner/files.ts';
import { lock } from '../experiments/src/runner/lock.ts';
import { shortened } from '../experiments/src/short.ts';
import { law } from './helpers/law.ts';
import { root } from './helpers/packages.ts';
import { TINY } from './helpers/tiny-experiments.ts';

const MODULE = join(root, 'test/helpers/tiny-experiments.ts');
const folder = t.testdir();
const library = await loadLibrary([MODULE]);

/** The message with which an experiment is refused. */
function refusal(change: Record<string, unknown>): string {
  try {
    checkExperiment('my.json', { ...TINY, ...change }, library);
  } catch (error) {
    assert.equal((error as Error).name, 'ConfigError');
    return (error as Error).message;
  }
  return 'is taken';
}

law(t, 'an experiment of the module and all presets of the package are taken as they are', () => {
  assert.equal(refusal({}), 'is taken');
  for (const preset of library.presets.values()) checkExperiment(preset.name, preset, library);
});

law(t, 'the experiment in the documentation can be run as it stands there', () => {
  const text = readFileSync(join(root, 'docs/experiments.md'), 'utf8');
  const [, json] = /^```json\n(.*?)^```$/ms.exec(text)!;
  checkExperiment('docs/experiments.md', JSON.parse(json!), library);
});

const { tuning } = TINY;
const lr = { scale: 'log', low: 1e-3, high: 1, default: 0.1 };
const spaces = (dimension: unknown) => ({ spaces: { 'tiny-sgd': { lr: dimension } } });
for (const [change, message] of [
  [{ epocs: 3 }, /^my\.json: there is no 'epocs', only name, .*; did you mean 'epochs'\?$/],
  [
    { tuning: { ...tuning, giveup: 2 } },
    /^my\.json: tuning: there is no 'giveup', only trials, seed, giveUp; did you mean 'giveUp'\?$/,
  ],
  [
    { contenders: ['tiny-sgd', 'tiny-stev'] },
    /^my\.json: contenders\[1\]: expected a contender of .*, got 'tiny-stev'; did you mean 'tiny-steve'\?$/,
  ],
  [{ contenders: ['tiny-sgd', 'tiny-sgd'] }, /^my\.json: contenders\[1\]: 'tiny-sgd' comes twice$/],
  [{ contenders: [] }, /^my\.json: contenders: expected a list of at least one, got \[\]$/],
  [{ task: 'ring' }, /^my\.json: task: expected a task of .*, got 'ring'; did you mean 'rings'\?$/],
  [
    { schedules: ['cosin'] },
    /^my\.json: schedules\[0\]: expected a schedule of constant, cosine, linear, got 'cosin'; did you mean 'cosine'\?$/,
  ],
  [{ epochs: 0 }, /^my\.json: epochs: expected a whole number of at least 1, got 0$/],
  [{ epochs: '3' }, /^my\.json: epochs: expected a whole number of at least 1, got '3'$/],
  [{ target: Number.NaN }, /^my\.json: target: expected a finite number, got NaN$/],
  [{ title: undefined }, /^my\.json: title: expected a text, got undefined$/],
  [{ tuning: { trials: 3, seed: 1000 } }, /^my\.json: tuning: expected 'giveUp', which is missing$/],
  [
    { tuning: { ...tuning, giveUp: 0.5 } },
    /^my\.json: tuning\.giveUp: expected a number of at least 1, or null, got 0\.5$/,
  ],
  [
    { tuning: { ...tuning, seed: 1 } },
    /^my\.json: tuning\.seed: expected a seed of none of the final runs, which have 0 to 1, got 1$/,
  ],
  [
    { tuning: { ...tuning, trials: 0 } },
    /^my\.json: tuning\.trials: expected a trial for each schedule, of which there are 2, got 0$/,
  ],
  [
    { finalists: 'each schedule', tuning: { ...tuning, trials: 1 } },
    /^my\.json: tuning\.trials: expected a trial for each schedule/,
  ],
  [{ name: '../up' }, /^my\.json: name: expected a name of letters, digits, dashes and slashes, got '\.\.\/up'$/],
  [{ kronecker: { a: () => {} } }, /^my\.json: kronecker: expected a record of JSON, got \{ a \}$/],
  [
    { contenders: ['soap'], kronecker: { refreshEvry: 5 } },
    /^my\.json: kronecker: there is no 'refreshEvry', only .*; did you mean 'refreshEvery'\?$/,
  ],
  [{ fixed: { sgdd: {} } }, /^my\.json: fixed: expected a contender of .*, got 'sgdd'; did you mean 'sgd'\?$/],
  [
    { fixed: { 'tiny-sgd': { lr: null } } },
    /^my\.json: fixed\.tiny-sgd\.lr: expected a number, a text, true or false, got null$/,
  ],
  [
    spaces({ ...lr, hihg: 1 }),
    /^my\.json: spaces\.tiny-sgd\.lr: there is no 'hihg', only scale, low, high, default; did you mean 'high'\?$/,
  ],
  [
    spaces({ ...lr, scale: 'lin' }),
    /^my\.json: spaces\.tiny-sgd\.lr\.scale: expected a scale of log, linear, choice, got 'lin'/,
  ],
  [spaces({ ...lr, low: 2 }), /^my\.json: spaces\.tiny-sgd\.lr\.high: expected a number above low, 2, got 1$/],
  [spaces({ ...lr, low: 0 }), /^my\.json: spaces\.tiny-sgd\.lr\.low: expected a number above 0 on a log scale, got 0$/],
  [
    spaces({ ...lr, default: 2 }),
    /^my\.json: spaces\.tiny-sgd\.lr\.default: expected a number from 0\.001 to 1, got 2$/,
  ],
  [
    spaces({ scale: 'choice', choices: [1, 2], default: 3 }),
    /^my\.json: spaces\.tiny-sgd\.lr\.default: expected one of the choices 1, 2, got 3$/,
  ],
  [spaces(5), /^my\.json: spaces\.tiny-sgd\.lr: expected a record, got 5$/],
] as [Record<string, unknown>, RegExp][])
  law(t, `a wrong experiment is told with file, place and what was meant: ${JSON.stringify(change)}`, () => {
    assert.match(refusal(change), message);
  });

law(t, 'a file that is not JSON, or no record, is told by its name', () => {
  const path = join(folder, 'broken.json');
  writeFileSync(path, '{ "name": ');
  assert.throws(() => readExperiment(path, library), /^ConfigError: .*broken\.json: .*JSON/);
  writeFileSync(path, '[1]');
  assert.throws(() => readExperiment(path, library), /^ConfigError: .*broken\.json: expected a record, got \[1\]$/);
  assert.throws(() => readExperiment(join(folder, 'none.json'), library), /^ConfigError: .*none\.json: ENOENT/);
});

law(t, 'differences are found at any depth, and none between equals', () => {
  assert.deepEqual(differences(TINY, structuredClone(TINY)), []);
  const other = { ...TINY, seeds: 3, tuning: { ...tuning, giveUp: null }, contenders: ['tiny-adam'], more: 1 };
  assert.deepEqual(differences(TINY, other), [
    'seeds: 2, now 3',
    'tuning.giveUp: 1.5, now null',
    'contenders: ["tiny-sgd","tiny-steve"], now ["tiny-adam"]',
    'more: nothing, now 1',
  ]);
});

law(t, 'the distance of texts counts insertions, deletions, exchanges and swaps', () => {
  const pairs = [
    ['', ''],
    ['a', ''],
    ['abc', 'abd'],
    ['abc', 'acb'],
    ['kitten', 'sitting'],
    ['trials', 'trails'],
  ] as const;
  assert.deepEqual(
    pairs.map(([a, b]) => editDistance(a, b)),
    [0, 1, 1, 1, 3, 1],
  );
  assert.deepEqual(
    pairs.map(([a, b]) => editDistance(b, a)),
    [0, 1, 1, 1, 3, 1],
  );
  assert.equal(didYouMean('zebra', ['epochs', 'seeds']), '');
  assert.equal(didYouMean('give_up', ['trials', 'giveUp']), "; did you mean 'giveUp'?");
});

// --- files ---

law(t, 'JSON is written whole; what is damaged or of another format is told by its file', () => {
  const path = join(folder, 'x.json');
  assert.equal(readJson(path), null);
  writeJson(path, { format: 1, x: 2 });
  assert.deepEqual(readJson(path), { format: 1, x: 2 });
  assert.throws(() => writeJson(path, { format: 1, x: 1n }), TypeError);
  assert.deepEqual(readJson(path), { format: 1, x: 2 });
  writeFileSync(`${path}.77.tmp`, 'half of');
  removeTemporaries(folder);
  assert.ok(!existsSync(`${path}.77.tmp`));
  for (const [text, message] of [
    ['{ "format": 2 }', /^FormatError: .*x\.json: expected an object of format 1, got format 2$/],
    ['[]', /^FormatError: .*x\.json: expected an object of format 1, got \[\]$/],
    ['{ "form', /^FormatError: .*x\.json: is not JSON: /],
  ] as const) {
    writeFileSync(path, text);
    assert.throws(() => readJson(path), message);
  }
});

law(t, 'a lock keeps others out, is given back, and one of a dead process is taken over, which is told', () => {
  const place = join(folder, 'locked');
  mkdirSync(place);
  const path = join(place, 'lock.json');
  const lines: string[] = [];
  const take = () => lock(place, line => lines.push(line));
  const release = take();
  assert.throws(take, /^LockedError: .*locked: is taken by another run of this process$/);
  release();
  assert.ok(!existsSync(path));
  const since = '2025-01-01T00:00:00.000Z';
  const leave = (holder: object) =>
    writeFileSync(path, JSON.stringify({ pid: process.pid, host: hostname(), since, ...holder }));
  // Nobody has number 2 ** 30: Linux ends at 2 ** 22.
  leave({ pid: 2 ** 30 });
  take()();
  assert.deepEqual(lines, [
    `Process ${2 ** 30}, which had this folder since ${since}, is gone: its lock is taken over.`,
  ]);
  leave({ pid: process.ppid });
  assert.throws(
    take,
    new RegExp(`is taken by process ${process.ppid}, since ${since}; if that is no run .*, remove .*lock\\.json`),
  );
  leave({ host: 'elsewhere' });
  assert.throws(take, /is taken by process \d+ on elsewhere, since/);
  writeFileSync(path, 'no JSON');
  assert.throws(take, /is taken by a lock that cannot be read; .*remove/);
});

law(t, 'quantiles are numbers of the list or lie linearly between two', () => {
  assert.deepEqual(
    [0, 0.25, 0.5, 0.75, 1].map(share => quantile(ascending([4, 1, 3, 2, 5]), share)),
    [1, 2, 3, 4, 5],
  );
  assert.equal(quantile([1, 2], 0.5), 1.5);
  assert.equal(quantile([7], 0.25), 7);
});

law(t, 'a shortened experiment is one that can be run, of at most two epochs and a seed', () => {
  for (const experiment of [
    TINY,
    { ...TINY, finalists: 'each schedule' } as Experiment,
    { ...TINY, short: { wait: 0 } },
  ]) {
    const short = shortened(experiment);
    checkExperiment('short', short, library);
    assert.deepEqual([short.epochs, short.seeds, short.tuning.trials], [2, 1, 2]);
  }
  assert.deepEqual(shortened({ ...TINY, short: { wait: 1 } }).taskOptions, { wait: 1 });
});

// --- the library and the command line ---

law(
  t,
  'modules of a program: one that exports nothing to run is refused, and so is a name that comes twice',
  async () => {
    const write = (name: string, text: string) => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    await assert.rejects(
      loadLibrary([write('a.mjs', 'export const x = 1;')]),
      /a\.mjs: expected a module that exports lists under TASKS, CONTENDERS or PRESETS, got \{ x \}/,
    );
    await assert.rejects(loadLibrary([MODULE, MODULE]), /there is a task 'rings' already/);
    const bad = write('b.mjs', "export const CONTENDERS = [{ name: 'A B' }];");
    await assert.rejects(
      loadLibrary([bad]),
      /b\.mjs: expected a contender's name of small letters, digits and dashes, got 'A B'/,
    );
    await assert.rejects(
      loadLibrary([write('c.mjs', "export const CONTENDERS = { name: 'a' };")]),
      /c\.mjs: expected a module that exports lists under/,
    );
    await assert.rejects(
      loadLibrary([write('d.mjs', 'export const CONTENDERS = [')]),
      /--with .*d\.mjs: Unexpected end/,
    );
    const good = { name: 'mine', label: 'Mine', family: 'first-order', space: { lr } };
    for (const [i, [change, message]] of (
      [
        [{ family: 'second' }, /expected family to be one of first-order, kronecker, quasi-newton, got 'second'/],
        [{ label: undefined }, /expected label to be a text, got undefined/],
        [{ space: undefined }, /space: expected a record, got undefined/],
        [{ space: { lr: { ...lr, low: 2 } } }, /space\.lr\.high: expected a number above low, 2, got 1/],
        [{ space: { lr: { ...lr, low: -1 } } }, /space\.lr\.low: expected a number above 0 on a log scale, got -1/],
      ] as [object, RegExp][]
    ).entries()) {
      const one = JSON.stringify({ ...good, ...change });
      const path = write(`e${i}.mjs`, `export const CONTENDERS = [{ ...${one}, make() {} }];`);
      await assert.rejects(loadLibrary([path]), new RegExp(`e${i}\\.mjs: contender 'mine'.*${message.source}`));
    }
    await assert.rejects(
      loadLibrary([write('f.mjs', `export const CONTENDERS = [${JSON.stringify(good)}];`)]),
      /contender 'mine': expected make to be a function, got undefined/,
    );
  },
);

/** The command line within this process: exit code and what it wrote. */
async function cli(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err]: [string[], string[]] = [[], []];
  const into = (list: string[]) => ({ isTTY: false, write: (text: string) => list.push(text) > 0 });
  const env = { PATH: process.env.PATH };
  const code = await main(args, { stdout: into(out), stderr: into(err), env } as Parameters<typeof main>[1]);
  return { code, out: out.join(''), err: err.join('') };
}

law(t, 'list shows every preset with how many trials it has', async () => {
  const { code, out } = await cli('list', '--with', MODULE);
  assert.equal(code, 0);
  assert.match(out, /^tiny: Rings\n {2}2 contenders, 3 settings of each, 2 seeds: 10 trials of at most 6 epochs\n/m);
  for (const name of library.presets.keys()) assert.ok(out.includes(`${name}: `), name);
});

for (const [args, message] of [
  [
    ['run', 'tinny', '--with', MODULE],
    /^otimes-experiments: there is no preset 'tinny', only .*; did you mean 'tiny'\?\n$/,
  ],
  [['run'], /^otimes-experiments: run: expected the name of a preset or --config, got neither\n$/],
  [['run', 'tiny', '--config', 'x.json'], /expected the name of a preset or --config, got both/],
  [
    ['run', 'tiny', '--with', MODULE, '--contenders', 'tiny-sgd,adma'],
    /tiny with --contenders tiny-sgd,adma: contenders\[1\]: expected a contender of .*, got 'adma'; did you mean 'adam'/,
  ],
  [
    ['run', 'tiny', '--with', MODULE, '--trials', '0', '--seeds', '2'],
    /: tiny with --seeds 2 --trials 0: tuning\.trials: expected a trial for each schedule, of which there are 2, got 0\n$/,
  ],
  [['run', 'tiny', '--sed', '3'], /error: unknown option '--sed'\n\(Did you mean --seeds\?\)/],
  [['run', 'tiny', '--seeds', 'x'], /argument 'x' is invalid. expected a whole number of at least 1\./],
  [['run', 'tiny', '--device', 'tpu'], /argument 'tpu' is invalid. Allowed choices are cpu, gpu\./],
  [['run', 'tiny', '--with', MODULE, '--data', 'x'], /--data x: the task 'rings' takes no folder/],
  [['run', 'tiny', '--with', MODULE, '--out', ''], /expected --out to be a folder, got ''/],
  [['run', 'tiny', '--with', 'nowhere.mjs'], /--with nowhere\.mjs: Cannot find module/],
  [['rnu', 'tiny'], /error: unknown command 'rnu'\n\(Did you mean run\?\)/],
  [['resume', join(folder, 'nowhere')], /nowhere: expected the folder of a run, found no experiment in it/],
] as const)
  law(
    t,
    `a wrong command line ends with 2 and says why: ${args.map(arg => arg.replace(root, '').replace(folder, '')).join(' ')}`,
    async () => {
      const { code, out, err } = await cli(...args);
      assert.match(err, message);
      assert.deepEqual([code, out], [2, '']);
    },
  );

law(t, '--version says which', async () => {
  const { code, out } = await cli('--version');
  assert.match(out, /^\d+\.\d+\.\d+/);
  assert.equal(code, 0);
});

law(t, 'help ends with 0', async () => {
  const { code, out } = await cli('run', '--help');
  assert.equal(code, 0);
  for (const option of ['--data', '--jobs', '--short', '--config', '--keep-weights'])
    assert.ok(out.includes(option), option);
});

law(t, 'run --short, again, and report: a run that is marked, is finished, and has a page', async () => {
  const out = join(folder, 'short');
  const given = [
    'run',
    'tiny',
    '--with',
    MODULE,
    '--out',
    out,
    '--short',
    '--contenders',
    'tiny-sgd',
    '--jobs',
    '1',
    '--note',
    'On a tray.',
  ];
  const first = await cli(...given);
  assert.equal(first.code, 0, first.err);
  assert.match(first.out, /^Runs tiny in .*short, 1 at a time, shortened: its numbers mean nothing\.\n/);
  assert.match(
    first.out,
    /^\[1\/3\] tiny-sgd-tune-00 \(lr 0\.1, momentum 0\.9, constant\): .* after \d+ steps.*; about \d+ s left$/m,
  );
  assert.match(first.out, /^Finished: .*report\.html/m);
  assert.equal(readJson<{ format: 1; short: boolean }>(join(out, 'experiment.json'))!.short, true);
  const second = await cli(...given);
  assert.deepEqual([second.code, second.out.includes('this run is finished')], [0, true]);
  await cli(...given, '--note', 'On a shelf.');
  const other = await cli(...given, '--epochs', '1');
  assert.equal(other.code, 2);
  assert.match(other.err, /short: has a run of another experiment:\n {2}epochs: 2, now 1\n/);
  const report = await cli('report', out, '--format', 'html');
  assert.deepEqual([report.code, report.out, report.err], [0, `${join(out, 'report.html')}\n`, '']);
  assert.ok(readFileSync(join(out, 'report.html'), 'utf8').includes('Rings'));
  assert.ok(readFileSync(join(out, 'report.html'), 'utf8').includes('Note: On a shelf.'));
});
