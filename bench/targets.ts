/**
 * What target suits a preset of otimes-experiments? Looks at AdamW alone, with the trials that the preset tunes it by, each to the end
 * of the budget with some seeds: the best value on the validation split so far after every tenth of the budget, the mean of the seeds, and that of the
 * seed which is last. The target is what the best of these settings reaches by the middle with every seed: a mean would be missed by about half of the
 * seeds there, and by more of them at a setting that one seed chose.
 *
 *   npm run bench bench/targets.ts -- digits-cnn                       # --data FOLDER, --seeds 3, --contender steve …
 */

import { parseArgs } from 'node:util';
import { setThreads } from '@otimes/core';
import { CONTENDERS } from '../experiments/src/contenders/index.ts';
import { PRESETS } from '../experiments/src/presets/index.ts';
import { runTrial } from '../experiments/src/runner/trial.ts';
import { tuningPlan } from '../experiments/src/search/settings.ts';
import { TASKS } from '../experiments/src/tasks/index.ts';

await setThreads(1);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    data: { type: 'string' },
    seeds: { type: 'string', default: '3' },
    trials: { type: 'string' },
    contender: { type: 'string', default: 'adamw' },
  },
});

const named = <T extends { readonly name: string }>(what: string, list: readonly T[], name: string): T => {
  const found = list.find(one => one.name === name);
  if (found === undefined)
    throw new RangeError(`targets: expected a ${what} of ${list.map(one => one.name).join(', ')}, got '${name}'`);
  return found;
};

const experiment = named('preset', PRESETS, positionals[0] ?? '');
const definition = named('task', TASKS, experiment.task);
const contender = named('contender', CONTENDERS, values.contender);
const { metric } = definition;
const task = await definition.open({
  data: values.data ?? null,
  device: 'cpu',
  workers: 0,
  options: experiment.taskOptions,
});
const parameters = task
  .model(0)
  .parameters()
  .reduce((sum, { size }) => sum + size, 0);
const seeds = Array.from({ length: Number(values.seeds) }, (_, seed) => seed);
const trials = Number(values.trials ?? experiment.tuning.trials);
const [best, worst] = metric.better === 'higher' ? [Math.max, Math.min] : [Math.min, Math.max];
const TENTHS = Array.from({ length: 10 }, (_, i) => (i + 1) / 10);
const MIDDLE = 4;
const lasts: number[] = [];

console.log(
  `${experiment.name}: ${contender.label}, ${parameters} parameters, ${experiment.epochs} epochs of ` +
    `${task.batches(0).stepsPerEpoch} steps, ${seeds.length} seeds; ${metric.name} after .1, .2, … of the budget`,
);
const plans = tuningPlan({ ...experiment, tuning: { ...experiment.tuning, trials } }, contender);
for (const { setting, schedule } of plans) {
  const curves: number[][] = [];
  let [seconds, steps] = [0, 0];
  for (const seed of seeds) {
    const trial = {
      id: `${contender.name}-${seed}`,
      stage: 'final',
      contender: contender.name,
      setting,
      schedule,
      seed,
    } as const;
    const { checks, outcome, reason } = await runTrial({ experiment, metric, task, contender, trial });
    if (outcome === 'diverged') console.log(`  seed ${seed} diverged: ${reason}`);
    curves.push(
      TENTHS.map(tenth =>
        best(...checks.filter(({ epoch }) => epoch <= tenth * experiment.epochs + 1e-9).map(c => c.validation.metric)),
      ),
    );
    seconds += checks.at(-1)!.cpuSeconds;
    steps += checks.at(-1)!.step;
  }
  const written = (x: number): string => (metric.unit === 'share' ? (100 * x).toFixed(1) : x.toPrecision(3));
  const mean = TENTHS.map((_, i) => curves.reduce((sum, curve) => sum + curve[i]!, 0) / curves.length);
  const last = TENTHS.map((_, i) => worst(...curves.map(curve => curve[i]!)));
  console.log(`  ${schedule.padEnd(8)} ${JSON.stringify(setting)}, ${((1000 * seconds) / steps).toFixed(2)} ms a step`);
  console.log(`    mean ${mean.map(written).join(' ')}`);
  console.log(`    last ${last.map(written).join(' ')}`);
  lasts.push(last[MIDDLE]!);
}
console.log(`By the middle, the best of the last: ${metric.unit === 'share' ? 100 * best(...lasts) : best(...lasts)}`);
await task.close?.();
