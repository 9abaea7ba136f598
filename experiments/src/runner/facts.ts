/** What a run's record says of its task, its software and its machine. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch, availableParallelism, cpus, release, type as system, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { gpuBackend } from '@otimes/gpu';
import type { Contender, Experiment, OpenTask, Task } from '../experiment.ts';
import { settingText } from '../format.ts';
import type { Machine } from '../record.ts';
import { type TrialPlan, tuningPlan } from '../search/settings.ts';
import { finalistsOf } from './choice.ts';
import type { TaskFacts } from './messages.ts';
import { Training } from './training.ts';

/** Packages of the house, with their own dependencies found from them. */
function versions(): Record<string, string> {
  const here = createRequire(import.meta.url);
  const below = createRequire(here.resolve('@otimes/core/package.json'));
  const versionOf = (file: string): string => JSON.parse(readFileSync(file, 'utf8')).version;
  const found = (require: NodeJS.Require, ...names: string[]) =>
    names.map(name => [`@otimes/${name}`, versionOf(require.resolve(`@otimes/${name}/package.json`))]);
  return {
    node: process.versions.node,
    'otimes-experiments': versionOf(fileURLToPath(new URL('../../package.json', import.meta.url))),
    ...Object.fromEntries([...found(below, 'kernels', 'linalg'), ...found(here, 'core', 'nn', 'data', 'optim', 'gpu')]),
  };
}

function machine(device: string): Machine {
  const gpu = gpuBackend();
  const adapter = device === 'gpu' && gpu !== null ? ` (${gpu.info.name})` : '';
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memory: totalmem(),
    platform: `${system()} ${release()} ${arch()}`,
    device: `${device}${adapter}`,
  };
}

/** With what it was made of in the message, since an optimizer does not know where its options come from. */
function made<T>(
  make: () => T,
  { kronecker }: Experiment,
  { name }: Contender,
  { setting }: Pick<TrialPlan, 'setting'>,
): T {
  try {
    return make();
  } catch (cause) {
    const shared = Object.keys(kronecker).length === 0 ? '' : `; kronecker ${JSON.stringify(kronecker)}`;
    throw new Error(`contender '${name}' with ${settingText(setting)}${shared}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** Makes every contender once with its defaults, or what is fixed, on a model of its own: what they refuse is thrown here. */
export async function factsOf(
  experiment: Experiment,
  { metric }: Task,
  task: OpenTask,
  contenders: readonly Contender[],
  device: string,
): Promise<TaskFacts> {
  if (metric.unit === 'share' && !(experiment.target > 0 && experiment.target <= 1))
    throw new RangeError(
      `${experiment.name}: target: expected a share above 0 and of at most 1, as ${metric.name} is one, got ${experiment.target}`,
    );
  let [parameters, stepsPerEpoch] = [0, 0];
  for (const contender of contenders) {
    const [trial] =
      experiment.tuning.trials > 0
        ? tuningPlan(experiment, contender)
        : finalistsOf(experiment, metric, contender, []).map(finalist => ({ ...finalist, seed: 0 }));
    const training = made(
      () => new Training({ experiment, task, contender, trial: trial! }),
      experiment,
      contender,
      trial!,
    );
    parameters = Array.from(training.model.parameters(), p => p.size).reduce((sum, size) => sum + size, 0);
    stepsPerEpoch = training.stepsPerEpoch;
    await training.close();
  }
  return {
    metric,
    labels: Object.fromEntries(contenders.map(({ name, label }) => [name, label])),
    families: Object.fromEntries(contenders.map(({ name, family }) => [name, family])),
    spaces: Object.fromEntries(contenders.map(one => [one.name, { ...one.space, ...experiment.spaces?.[one.name] }])),
    samples: task.samples,
    ...{ parameters, stepsPerEpoch },
    versions: versions(),
    machine: machine(device),
  };
}
