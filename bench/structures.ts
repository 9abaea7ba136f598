/**
 * What do cheaper factors cost in epochs? Small networks under STEVE with the exact factors and with structured ones, to a test
 * accuracy: the same weights and batches, and the same settings for all. A Markdown table of means ± standard errors over seeds; the
 * ratio to the exact factors is that of the means, its ± from the differences seed by seed. A quarter of an epoch is the resolution.
 *
 *   npm run bench bench/structures.ts                                                    three tasks, 5 seeds
 *   npm run bench bench/structures.ts -- --structure taps,blocks --block-dim 64 --tasks digits-cnn
 *   npm run bench bench/structures.ts -- --variant 'identity={"maxFactorDim":64}'        options of your own, also several times
 *   npm run bench bench/structures.ts -- --tasks cifar-resnet --cifar FOLDER             its binary version, data_batch_1.bin …
 *   npm run bench bench/structures.ts -- --log FILE                                      goes on where it was stopped
 *   npm run bench bench/structures.ts -- --into docs/results.md                          the table also goes there
 */

import { parseArgs } from 'node:util';
import { setThreads } from '@otimes/core';
import { Adam, EKFAC, KFAC, type KroneckerOptions, STEVE } from '@otimes/optim';
import { RunLog } from './epochs/log.ts';
import { type Make, type Run, reached } from './epochs/run.ts';
import { TASKS } from './epochs/tasks.ts';
import { markdown, putInto } from './into.ts';

const { values } = parseArgs({
  options: {
    tasks: { type: 'string', default: 'digits-cnn,fashion-cnn,fashion-resnet' },
    /** With Fashion-MNIST. */
    folder: { type: 'string', default: '/usr/share/datasets/fashion-mnist' },
    /** The folder with CIFAR-10 for the task cifar-resnet. */
    cifar: { type: 'string' },
    /** Beside 'exact', which is always there. */
    structure: { type: 'string', default: 'taps,channels,blocks' },
    /** Of 'blocks': small, as the factors here are. */
    'block-dim': { type: 'string', default: '32' },
    /** NAME=OPTIONS as JSON. */
    variant: { type: 'string', multiple: true, default: [] },
    optimizer: { type: 'string', default: 'steve' },
    lr: { type: 'string', default: '0.01' },
    seeds: { type: 'string', default: '5' },
    /** A run is a miss after so many, and counts as that. */
    epochs: { type: 'string', default: '10' },
    refresh: { type: 'string', default: '10' },
    'factor-every': { type: 'string', default: '10' },
    log: { type: 'string' },
    into: { type: 'string' },
  },
});

// Times are CPU time.
await setThreads(1);
const OPTIMIZERS = { steve: STEVE, kfac: KFAC, ekfac: EKFAC };
const Optimizer = OPTIMIZERS[values.optimizer as keyof typeof OPTIMIZERS];
if (Optimizer === undefined)
  throw new Error(
    `structures: expected --optimizer of ${Object.keys(OPTIMIZERS).join(', ')}, got '${values.optimizer}'`,
  );

const lr = Number(values.lr);
/** Refreshes within the step, so that runs repeat. */
const common = {
  lr,
  refreshEvery: Number(values.refresh),
  factorEvery: Number(values['factor-every']),
  refresh: 'sync',
} as const;
const limit = Number(values.epochs);
const seeds = Array.from({ length: Number(values.seeds) }, (_, seed) => seed);
const names = values.tasks.split(',');

/** Options by the name of the variant; null is Adam. */
const variants = new Map<string, Record<string, unknown> | null>([
  ['Adam', null],
  ['exact', { structure: 'exact' }],
]);
for (const structure of values.structure.split(',').filter(Boolean))
  if (structure === 'blocks') {
    const blockDim = Number(values['block-dim']);
    variants.set(`blocks of ${blockDim}`, { structure, blockDim });
  } else variants.set(structure, { structure });
for (const text of values.variant) {
  const at = text.indexOf('=');
  if (at < 1) throw new Error(`structures: expected --variant NAME=JSON, got '${text}'`);
  variants.set(text.slice(0, at), JSON.parse(text.slice(at + 1)));
}

const make = (options: Record<string, unknown> | null): Make =>
  options === null
    ? model => new Adam(model.parameters(), { lr })
    : model => new Optimizer(model, { ...common, ...options } as KroneckerOptions);

const log = new RunLog(values.log);

/** Epochs of each seed, a miss counting as the limit; how many missed, and CPU milliseconds a step. */
type Result = { readonly epochs: number[]; readonly misses: number; readonly step: number };

function resultOf(runs: readonly Run[], target: number): Result {
  const checks = runs.map(run => reached(run, target, limit));
  const last = runs.flatMap(run => run.checks.at(-1) ?? []);
  return {
    epochs: checks.map(c => c?.epoch ?? limit),
    misses: checks.filter(c => c === undefined).length,
    step: mean(last.map(c => (1000 * c.seconds) / c.steps)),
  };
}

const mean = (xs: readonly number[]) => xs.reduce((a, b) => a + b, 0) / xs.length;
function standardError(xs: readonly number[]): number {
  const middle = mean(xs);
  return Math.sqrt(xs.reduce((sum, x) => sum + (x - middle) ** 2, 0) / (xs.length - 1) / xs.length);
}
const withError = (x: number, error: number) => `${x.toFixed(2)} ± ${error.toFixed(2)}`;

const table = [['', 'epochs', 'over exact', 'each seed', 'ms a step']];
for (const name of names) {
  const makeTask = TASKS[name];
  if (makeTask === undefined)
    throw new Error(`structures: expected --tasks of ${Object.keys(TASKS).join(', ')}, got '${name}'`);
  const isCifar = name.startsWith('cifar');
  if (isCifar && values.cifar === undefined) throw new Error(`structures: ${name} needs --cifar FOLDER`);
  const task = makeTask(isCifar ? values.cifar! : values.folder);
  const { target } = task;
  const results = new Map<string, Result>();
  for (const [variant, options] of variants) {
    const runs: Run[] = [];
    for (const seed of seeds) {
      const optimizer = options === null ? { lr } : { name: values.optimizer, ...common, ...options };
      runs.push(
        log.runOf(JSON.stringify({ task: name, ...optimizer, seed }), task, make(options), {
          seed,
          epochs: limit,
          target,
        }),
      );
      const at = reached(runs.at(-1)!, target, limit);
      process.stderr.write(
        `${name}, ${variant}, seed ${seed}: ${at ? `${at.epoch.toFixed(2)} epochs` : `not within ${limit}`}\n`,
      );
    }
    results.set(variant, resultOf(runs, target));
  }
  const { epochs: base } = results.get('exact')!;
  for (const [variant, { epochs, misses, step }] of results) {
    const ratio = mean(epochs) / mean(base);
    // To first order the relative error of a ratio of means is that of the mean of these.
    const error = standardError(epochs.map((x, i) => x - ratio * base[i]!)) / mean(base);
    table.push([
      `${name} to ${target}: ${variant}`,
      withError(mean(epochs), standardError(epochs)) + (misses > 0 ? ` (${misses} missed)` : ''),
      variant === 'exact' ? '1' : withError(ratio, error),
      epochs.map(x => x.toFixed(2)).join(' '),
      step.toFixed(2),
    ]);
  }
}
const settings = `${values.optimizer}, lr ${lr}, refreshEvery ${common.refreshEvery}, factorEvery ${common.factorEvery}, ${seeds.length} seeds`;
const document = `${new Date().toISOString().slice(0, 10)}; ${settings}; Adam with the same lr; a miss counts as ${limit} epochs.\n\n${markdown(table)}`;
console.log(document);
if (values.into !== undefined) putInto(values.into, 'bench/structures', document);
