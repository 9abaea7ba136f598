/**
 * How many epochs, and how many seconds, does each optimizer need to reach a test accuracy? The same network, initial
 * weights and batches for all of them. Three stages: a grid of settings with few seeds; the best of each optimizer with
 * all seeds; and what a step costs, the optimizers in turn. How a target is chosen: `--curve`, which looks at Adam alone.
 *
 *   npm run bench bench/epochs.ts -- --task digits-cnn --curve
 *   npm run bench bench/epochs.ts -- --task digits-cnn
 *   npm run bench bench/epochs.ts -- --task fashion-vit --log vit.jsonl     # goes on where it was stopped
 */

import { parseArgs } from 'node:util';
import { setThreads } from '@otimes/core';
import { RunLog } from './epochs/log.ts';
import { type Run, reached } from './epochs/run.ts';
import { CONTENDERS, type Common, describe, type Setting, settings } from './epochs/settings.ts';
import { TASKS } from './epochs/tasks.ts';
import { stepTimes } from './epochs/time.ts';

// One thread, whose CPU time is the figure.
await setThreads(1);

const { values } = parseArgs({
  options: {
    task: { type: 'string', default: 'digits-cnn' },
    /** With the images: of Fashion-MNIST, or of CIFAR-10 for the task cifar-resnet. */
    folder: { type: 'string', default: '/usr/share/datasets/fashion-mnist' },
    optimizers: { type: 'string', default: 'adam,kfac,ekfac,steve' },
    // From the middle outwards: what comes late is given up early.
    lrs: { type: 'string', default: '0.01,0.003,0.03,0.001,0.1' },
    dampings: { type: 'string', default: '0.01,0.003,0.03,0.001,0.1' },
    /** Of the first stage, and of the second. */
    tuning: { type: 'string', default: '2' },
    seeds: { type: 'string', default: '5' },
    /** Settings of each optimizer that reach the second stage. */
    finalists: { type: 'string', default: '2' },
    /** A run is a miss after so many, in the second stage after twice as many. */
    epochs: { type: 'string', default: '12' },
    /** Refresh periods of each optimizer in the third stage. */
    rounds: { type: 'string', default: '31' },
    target: { type: 'string' },
    refresh: { type: 'string', default: '10' },
    'factor-every': { type: 'string', default: '10' },
    /** 'expand' or 'reduce', of all blocks. */
    sharing: { type: 'string' },
    /** A file of runs, one a line; those in it are not made again. */
    log: { type: 'string' },
    /** Prints Adam's accuracy after each epoch instead. */
    curve: { type: 'boolean', default: false },
  },
});

const numbers = (text: string) => text.split(',').map(Number);
const [lrs, dampings] = [numbers(values.lrs), numbers(values.dampings)];
const seeds = Array.from({ length: Number(values.seeds) }, (_, seed) => seed);
const epochs = Number(values.epochs);
const makeTask = TASKS[values.task];
if (makeTask === undefined)
  throw new Error(`epochs: expected a --task of ${Object.keys(TASKS).join(', ')}, got '${values.task}'`);
const task = makeTask(values.folder);
const target = Number(values.target ?? task.target);
const refreshEvery = Number(values.refresh);
const common: Common = {
  refreshEvery,
  factorEvery: Number(values['factor-every']),
  ...(task.sharing && { sharing: task.sharing }),
  ...(values.sharing && { sharing: values.sharing === 'reduce' ? 'reduce' : 'expand' }),
};
const make = (name: string, setting: Setting) => CONTENDERS[name]!.make(setting, common);

const log = new RunLog(values.log);

function runOf(name: string, setting: Setting, o: { seed: number; epochs: number; target: number }): Run {
  const key = JSON.stringify({ task: values.task, name, ...setting, ...(name !== 'adam' && common), seed: o.seed });
  return log.runOf(key, task, make(name, setting), o);
}

// --- the stages -------------------------------------------------------------------------------------------------------------

const mean = (xs: readonly number[]) => xs.reduce((a, b) => a + b, 0) / xs.length;
const show = (x: number, limit?: number) => (x === Infinity ? `>${limit}` : x.toFixed(2));

/** Epochs and steps to the target, one of each seed; Infinity for a miss within the limit. */
type Result = { setting: Setting; limit: number; epochs: number[]; steps: number[] };

function result(setting: Setting, runs: readonly Run[], limit: number): Result {
  const checks = runs.map(run => reached(run, target, limit));
  return {
    setting,
    limit,
    epochs: checks.map(c => c?.epoch ?? Infinity),
    steps: checks.map(c => c?.steps ?? Infinity),
  };
}

function line(name: string, { setting, limit, epochs }: Result): string {
  const each = epochs.map(x => show(x, limit)).join(' ');
  return `  ${name.padEnd(5)} ${describe(setting).padEnd(24)} ${show(mean(epochs), limit).padStart(5)} epochs (${each})`;
}

/** The settings that reach the target, best first. One is given up at half as many epochs again as the best so far. */
function tune(name: string): Setting[] {
  const results: Result[] = [];
  for (const setting of settings(name, { lrs, dampings, rest: task.rest })) {
    const limit = Math.min(epochs, Math.ceil(1.5 * Math.min(...results.map(r => mean(r.epochs)))));
    const runs: Run[] = [];
    for (const seed of seeds.slice(0, Number(values.tuning))) {
      runs.push(runOf(name, setting, { seed, epochs: limit, target }));
      if (!reached(runs.at(-1)!, target, limit)) break;
    }
    results.push(result(setting, runs, limit));
    console.log(line(name, results.at(-1)!));
  }
  const hits = results.filter(r => mean(r.epochs) < Infinity);
  return hits.sort((a, b) => mean(a.epochs) - mean(b.epochs)).map(({ setting }) => setting);
}

function compare(names: readonly string[]): void {
  const finalists = names.flatMap(name =>
    tune(name)
      .slice(0, Number(values.finalists))
      .map(setting => ({ name, setting, runs: [] as Run[] })),
  );
  for (const seed of seeds)
    for (const { name, setting, runs } of finalists)
      runs.push(runOf(name, setting, { seed, epochs: 2 * epochs, target }));
  const times = stepTimes(
    task,
    finalists.map(({ name, setting }) => make(name, setting)),
    refreshEvery,
    Number(values.rounds),
  );
  console.log(`\nthe best of each with ${seeds.length} seeds:`);
  for (const [i, { name, setting, runs }] of finalists.entries()) {
    const found = result(setting, runs, 2 * epochs);
    const { total, phases } = times[i]!;
    const seconds = (mean(found.steps) * total) / 1000;
    console.log(`${line(name, found)}, ${seconds.toFixed(2)} s at ${total.toFixed(2)} ms a step`);
    const parts = Object.entries(phases ?? {}).map(([phase, ms]) => `${phase} ${ms.toFixed(2)}`);
    if (parts.length > 0) console.log(`        of which ${parts.join(', ')}`);
  }
}

function curve(): void {
  for (const setting of settings('adam', { lrs, dampings })) {
    const runs = seeds.map(seed => runOf('adam', setting, { seed, epochs, target: Infinity }));
    console.log(`  ${describe(setting)}: best test accuracy within 1, 2, … epochs, mean and lowest of the seeds`);
    for (let epoch = 1; epoch <= epochs; epoch++) {
      const best = runs.map(({ checks }) => Math.max(...checks.map(c => (c.epoch <= epoch ? c.accuracy : 0))));
      console.log(`    ${mean(best).toFixed(4)}  ${Math.min(...best).toFixed(4)}`);
    }
  }
}

console.log(
  `${values.task}: test accuracy ${target}, refresh every ${refreshEvery} steps, statistics every ${common.factorEvery}`,
);
if (values.curve) curve();
else compare(values.optimizers.split(','));
