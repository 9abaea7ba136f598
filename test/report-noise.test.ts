/** What reports call a difference: intervals have the uncertainty of step times, and noise is no loss. Runs are made up. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Generator, randn } from '@otimes/core';
import { readRun, writeReport } from 'otimes-experiments';
import t from 'tap';
import { gapText, metricText } from '../experiments/src/report/format.ts';
import { type Pair, pairedRatio, roundsInterval } from '../experiments/src/report/statistics.ts';
import { compare, type Finalist, summarize } from '../experiments/src/report/summary.ts';
import { losses, significance } from '../experiments/src/report/words.ts';
import { law } from './helpers/law.ts';
import { DOZEN, type Synthetic, type SyntheticContender, syntheticRun, writeRun } from './helpers/synthetic-run.ts';

const home = t.testdir();
let count = 0;
const written = (run: Synthetic): string => writeRun(join(home, `run-${count++}`), run);
const pairs = (...ratios: readonly number[]): Pair[] =>
  ratios.map(ratio => ({ a: { value: ratio, missed: false }, b: { value: 1, missed: false } }));
/** Step times that scatter about 1, those of both by the same, and each by its own. */
function scattered(seed: number, own: number, n = 25) {
  const noise = randn([3, n], { rng: new Generator(seed), dtype: 'float64' }).dataSync();
  const times = (row: number) =>
    Array.from({ length: n }, (_, i) => Math.exp(0.3 * noise[i]! + own * noise[row * n + i]!));
  return { a: times(1), b: times(2) };
}
const width = ([low, high]: readonly [number, number]) => Math.log(high / low);

// --- intervals ---

law(t, 'seeds that agree have an interval all the same where step times scatter, and none where they do not', () => {
  const rounds = scattered(1, 0.1);
  const { interval, value } = pairedRatio(pairs(0.5, 0.5), { rounds });
  assert.ok(interval![0] < 0.5 && interval![1] > 0.5 && value === 0.5, String(interval));
  const [low, high] = roundsInterval(rounds)!;
  assert.ok(Math.abs(width(interval!) - Math.log(high / low)) < 0.02);
  assert.ok(width(pairedRatio(pairs(0.5, 0.5), { rounds: scattered(1, 0.2) }).interval!) > 1.5 * width(interval!));
  const steady = { a: Array(25).fill(2), b: Array(25).fill(3) };
  assert.deepEqual(pairedRatio(pairs(0.5, 0.6, 0.9), { rounds: steady }), pairedRatio(pairs(0.5, 0.6, 0.9)));
});

law(t, 'step times only widen an interval, and what slows both rounds alike does not', () => {
  const seeds = pairs(0.5, 0.6, 0.9, 0.7, 0.65);
  const alone = pairedRatio(seeds).interval!;
  assert.ok(width(pairedRatio(seeds, { rounds: scattered(2, 0.2) }).interval!) > width(alone));
  assert.ok(Math.abs(width(pairedRatio(seeds, { rounds: scattered(2, 0) }).interval!) - width(alone)) < 1e-12);
});

law(t, 'coverage: the interval of the ratio of two step times contains the truth about as often as it says', () => {
  let covered = 0;
  const cases = 120;
  for (let seed = 0; seed < cases; seed++) {
    const [low, high] = roundsInterval(scattered(seed, 0.15))!;
    if (low <= 1 && high >= 1) covered++;
  }
  assert.ok(covered / cases > 0.88, `${covered} of ${cases}`);
});

law(t, 'a report takes the rounds of timing.json into the interval of seconds, not of steps, and says so', () => {
  const run = syntheticRun({ contenders: DOZEN.filter(({ name }) => ['adamw', 'steve'].includes(name)) });
  const { a, b } = scattered(3, 0.2, 21);
  const contenders = run.timing!.contenders.map((one, i) => ({ ...one, perRound: [a, b][i]! }));
  const timed: Synthetic = { ...run, timing: { ...run.timing!, contenders, clock: 'cpu', warmSteps: 320 } };
  const [with_, without] = [timed, run].map(one => summarize(readRun(written(one)))) as [S, S];
  const interval = ({ finalists: [adamw, steve] }: S, measure: 'seconds' | 'steps') =>
    compare(steve!, adamw!, measure).ratio.interval!;
  assert.ok(width(interval(with_, 'seconds')) > 1.2 * width(interval(without, 'seconds')));
  assert.deepEqual(interval(with_, 'steps'), interval(without, 'steps'));
  const text = readFileSync(writeReport(written(timed)).markdown, 'utf8');
  assert.match(text, /those of seconds over the rounds of the timing as well/);
  assert.match(text, /after 320 steps or more that were not counted/);
  assert.match(readFileSync(writeReport(written(run)).markdown, 'utf8'), /for which step times count as exact/);
  const short = contenders.map((one, i) => (i === 1 ? { ...one, perRound: [1] } : one));
  assert.throws(
    () => readRun(written({ ...timed, timing: { ...timed.timing!, contenders: short } })),
    /contenders\[1\]\.perRound: expected a list of 21, as there are rounds, got a list of 1/,
  );
});
type S = ReturnType<typeof summarize>;

// --- what is said ---

const two = (a: Partial<SyntheticContender>, b: Partial<SyntheticContender> = {}): S => {
  const steps = [100, 110, 90, 100, 105, 95];
  const trials = [[0.01, 100] as const];
  const contenders = [
    { name: 'one', steps, step: 1, trials, ...a },
    { name: 'two', steps, step: 1, trials, ...b },
  ];
  return summarize(readRun(written(syntheticRun({ contenders }))));
};
const said = (s: S, name = 'one') => losses(s).find(({ one }) => one.contender === name)!.sentence;

law(t, 'memory that differs by less than 20 % and step times by less than 5 % are no loss, more is', () => {
  for (const field of ['memory', 'step'] as const) {
    const [base, word] = field === 'memory' ? [200, 'memory'] : [1, 'time per step'];
    const of = (factor: number) => two({ [field]: base * factor }, { [field]: base });
    const [less, more] = field === 'memory' ? [1.19, 1.21] : [1.04, 1.06];
    assert.match(said(of(less)), /^nowhere/, field);
    assert.match(said(of(more)), new RegExp(`${more} times the ${word} of TWO`));
  }
});

law(t, 'a contender has one memory, that of its hungriest process, whatever the order of its trials', () => {
  const run = syntheticRun({ contenders: [{ name: 'one', steps: [100, 100, 100], step: 1 }] });
  const trials = run.trials.map((trial, i) => ({ ...trial, peakMemory: (200 + ((5 * i) % 7)) * 1e6 }));
  const most = Math.max(...trials.map(({ peakMemory }) => peakMemory));
  const final = trials.filter(({ stage }) => stage === 'final');
  const other = final.map(
    trial => ({ ...trial, schedule: 'cosine', id: trial.id.replace('constant', 'cosine') }) as const,
  );
  const both = { ...run, trials: [...trials, ...other.map(trial => ({ ...trial, peakMemory: 1e8 }))] };
  const s = summarize(readRun(written(both)));
  assert.deepEqual(
    s.finalists.map(({ memory }: Finalist) => memory),
    [most, most],
  );
});

law(t, 'no interval is called significant with so few seeds that no test could be', () => {
  const of = (n: number) => {
    const all = compare(...pairOf(two({ steps: Array(n).fill(50) }, { steps: Array(n).fill(100) })), 'steps');
    return significance(all);
  };
  for (const n of [2, 3, 5])
    assert.match(of(n), /^Its interval lies below 1, which with \d seeds is no test of significance/);
  assert.match(of(6), /the difference is significant; by the sign test \(p = 0\.0313\) the difference is significant/);
});
const pairOf = ({ finalists: [a, b] }: S): [Finalist, Finalist] => [a!, b!];

law(t, 'shares have two decimals, halves go up, and differences are those of what is written', () => {
  const share = { name: 'accuracy', unit: 'share', better: 'higher' } as const;
  const plain = (text: string) => text.replaceAll('\u00a0', ' ');
  for (let k = 0; k <= 2000; k++)
    assert.equal(
      plain(metricText(k / 2000, share)),
      `${Math.floor(k / 20)}.${String((k % 20) * 5).padStart(2, '0')} %`,
    );
  assert.equal(plain(metricText(0.96045, share)), '96.05 %');
  assert.equal(plain(gapText(0.0015, share)), '0.15 points');
  const s = two({ test: 0.95904 }, { test: 0.96046 });
  assert.match(plain(said(s)), /0\.15 points of test accuracy behind TWO/);
});

law(t, 'before two trials of a contender have ended, nothing is said of the ends of ranges but that', () => {
  const run = syntheticRun({ contenders: DOZEN.slice(0, 2), timing: false });
  const text = (one: Synthetic) => readFileSync(writeReport(written(one)).markdown, 'utf8');
  assert.match(text({ ...run, trials: [] }), /cannot be said yet: of no contender two trials have ended/);
  const { spaces: _, ...info } = run.info;
  assert.match(text({ ...run, info }), /is not known: ranges were not recorded/);
});

law(t, 'what the command line changed of an experiment is told before all numbers', () => {
  const run = syntheticRun({ contenders: DOZEN.slice(0, 2), info: { changes: ['--epochs 4', '--seeds 3'] } });
  const text = readFileSync(writeReport(written(run)).markdown, 'utf8');
  assert.match(
    text,
    /Not as the experiment has it: --epochs 4, --seeds 3\. The target was chosen for another budget\./,
  );
});

law(t, 'Markdown begins with a title of the first level, and has no word of charts that it does not have', () => {
  const { markdown } = writeReport(written(syntheticRun({ contenders: DOZEN.slice(0, 3) })));
  const text = readFileSync(markdown, 'utf8');
  assert.match(text, /^# Made up, MLP\n/);
  assert.equal(text.match(/^# /gm)!.length, 1);
  assert.match(text, /^## Answer$/m);
  assert.ok(!/A ring|Dotted|Solid/.test(text), text.match(/.*(A ring|Dotted|Solid).*/)?.[0]);
});
