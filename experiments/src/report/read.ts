/** A run's folder as data, checked: a record that is damaged or of another format is an error that names the file and the place. */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { FormatError } from '@otimes/core';
import { aString, checkArgument } from '@otimes/core/extend';
import type { Dimension, Evaluation, Experiment } from '../experiment.ts';
import type { Check, RunInfo, TimingRecord, TrialRecord } from '../record.ts';
import {
  anything,
  count,
  flag,
  list,
  mapOf,
  nullable,
  number,
  numberFrom,
  object,
  oneOf,
  optional,
  positive,
  refuse,
  type Shape,
  text,
} from '../shape.ts';

/** What a folder has. `timing` is null until the run has ended. */
export type Run = {
  readonly folder: string;
  readonly info: RunInfo;
  /** Tuning by contender in the order of the trials, then finals by contender and seed. */
  readonly trials: readonly TrialRecord[];
  readonly timing: TimingRecord | null;
};

const schedule = oneOf('constant', 'cosine', 'linear');
const choice: Shape<number | string | boolean> = (value, at) =>
  ['number', 'string', 'boolean'].includes(typeof value)
    ? (value as number | string | boolean)
    : refuse(at, 'a number, text, true or false', value);
const setting = mapOf(choice);

const range = object({ scale: oneOf('log', 'linear'), low: number, high: number, default: number });
const choices = object({ scale: oneOf('choice'), choices: list(choice), default: choice });
const dimension: Shape<Dimension> = (value, at) => {
  const { scale } = object({ scale: oneOf('log', 'linear', 'choice') })(value, at);
  return scale === 'choice' ? choices(value, at) : range(value, at);
};
const json = mapOf(anything) as Shape<Experiment['taskOptions']>;

const experiment: Shape<Experiment> = (value, at) => {
  const { spaces, fixed, ...rest } = object({
    name: text,
    title: text,
    about: text,
    task: text,
    taskOptions: json,
    target: number,
    targetFrom: text,
    epochs: positive,
    checksPerEpoch: positive,
    seeds: count(),
    tuning: object({ trials: count(), seed: number, giveUp: nullable(positive) }),
    schedules: list(schedule),
    finalists: oneOf('best', 'each schedule'),
    contenders: list(text),
    spaces: optional(mapOf(mapOf(dimension))),
    fixed: optional(mapOf(setting)),
    kronecker: json,
  })(value, at);
  return { ...rest, ...(spaces && { spaces }), ...(fixed && { fixed }) };
};

const info = object({
  format: oneOf(1),
  experiment,
  metric: object({
    name: text,
    unit: oneOf('share', 'nats', 'number'),
    better: oneOf('higher', 'lower'),
  }),
  labels: mapOf(text),
  families: mapOf(oneOf('first-order', 'kronecker', 'quasi-newton')),
  spaces: optional(mapOf(mapOf(dimension))),
  samples: object({ train: count(), validation: count(), test: count() }),
  parameters: count(),
  stepsPerEpoch: count(1),
  versions: mapOf(text),
  machine: object({ cpu: text, cores: count(1), memory: positive, platform: text, device: text }),
  started: text,
  changes: optional(list(text)),
  note: optional(text),
  short: flag,
});
const runInfo: Shape<RunInfo> = (value, at) => {
  const { spaces, changes, note, ...rest } = info(value, at);
  return { ...rest, ...(spaces && { spaces }), ...(changes && { changes }), ...(note !== undefined && { note }) };
};

const evaluation: Shape<Evaluation> = object({ loss: number, metric: number });
/** A mean over no steps, or one that diverged, is null in JSON. */
const mean: Shape<number> = (value, at) => nullable(number)(value, at) ?? Number.NaN;
const check: Shape<Check> = object({
  step: count(),
  epoch: numberFrom(0),
  cpuSeconds: numberFrom(0),
  seconds: numberFrom(0),
  trainLoss: mean,
  validation: evaluation,
});

const trial: Shape<TrialRecord> = (value, at) => {
  const record = object({
    format: oneOf(1),
    id: text,
    stage: oneOf('tuning', 'final'),
    contender: text,
    setting,
    schedule,
    seed: count(),
    outcome: oneOf('target', 'budget', 'given up', 'diverged'),
    reason: nullable(text),
    checks: list(check),
    reached: nullable(count()),
    test: nullable(evaluation),
    steps: count(),
    phases: mapOf(numberFrom(0)),
    inside: nullable(mapOf(numberFrom(0))),
    peakMemory: numberFrom(0),
    spectra: nullable(list(object({ path: text, A: list(number), G: list(number) }))),
    resumed: count(),
  })(value, at);
  const { checks, reached, outcome } = record;
  if (checks.length === 0 && outcome !== 'diverged')
    refuse(`${at}.checks`, `an evaluation, as '${outcome}' has`, checks);
  if (reached !== null && reached >= checks.length)
    refuse(`${at}.reached`, `the index of one of ${checks.length} checks`, reached);
  for (const [i, { step }] of checks.entries())
    if (i > 0 && step <= checks[i - 1]!.step)
      refuse(`${at}.checks[${i}].step`, `a step after ${checks[i - 1]!.step}`, step);
  return record;
};

const measured = object({
  format: oneOf(1),
  rounds: count(1),
  stepsPerRound: count(1),
  clock: optional(oneOf('cpu', 'wall')),
  warmSteps: optional(count()),
  contenders: list(
    object({
      contender: text,
      schedule,
      median: positive,
      quartiles: (value, at): readonly [number, number] => {
        const two = list(numberFrom(0))(value, at);
        return two.length === 2 ? (two as [number, number]) : refuse(at, 'two numbers', value);
      },
      perRound: optional(list(positive)),
    }),
  ),
});
const timing: Shape<TimingRecord> = (value, at) => {
  const { contenders, clock, warmSteps, ...rest } = measured(value, at);
  for (const [i, { perRound }] of contenders.entries())
    if (perRound !== undefined && perRound.length !== rest.rounds)
      refuse(`${at}.contenders[${i}].perRound`, `a list of ${rest.rounds}, as there are rounds`, perRound);
  return {
    ...rest,
    ...(clock && { clock }),
    ...(warmSteps !== undefined && { warmSteps }),
    contenders: contenders.map(({ perRound, ...one }) => ({ ...one, ...(perRound && { perRound }) })),
  };
};

/** The values of a file by a shape. */
function file<T>(path: string, shape: Shape<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new FormatError(`readRun: ${path}: expected JSON: ${(error as Error).message}`, { cause: error });
  }
  // Before all else, so that a later format is not taken for a damaged one.
  const { format } = (value ?? {}) as { format?: unknown };
  if (format !== 1) refuse(`readRun: ${path}: format`, '1', format);
  return shape(value, `readRun: ${path}: $`);
}

/** Reads what a run has left in its folder so far. Throws a FormatError that names the file and the place for what is damaged. */
export function readRun(folder: string): Run {
  checkArgument('readRun', 'folder', folder, aString);
  const path = join(folder, 'experiment.json');
  if (!existsSync(path))
    throw new FormatError(`readRun: ${folder}: expected a run's folder, but it has no experiment.json`);
  const info = file(path, runInfo);
  const known = info.experiment.contenders;
  for (const name of known)
    if (info.labels[name] === undefined || info.families[name] === undefined)
      throw new FormatError(`readRun: ${path}: $: expected a label and a family of the contender '${name}'`);
  const expected = `one of ${known.join(', ')}`;

  const home = join(folder, 'trials');
  const names = existsSync(home) && statSync(home).isDirectory() ? readdirSync(home) : [];
  const trials = names
    .filter(name => name.endsWith('.json') && !name.startsWith('.'))
    .map(name => {
      const place = join(home, name);
      const record = file(place, trial);
      if (`${record.id}.json` !== name) refuse(`readRun: ${place}: $.id`, `'${name.slice(0, -5)}'`, record.id);
      if (!known.includes(record.contender)) refuse(`readRun: ${place}: $.contender`, expected, record.contender);
      return record;
    });
  const rank = ({ stage, contender }: TrialRecord) => (stage === 'final' ? 1e6 : 0) + known.indexOf(contender);
  const byNumbers = new Intl.Collator('en', { numeric: true });
  trials.sort((a, b) => rank(a) - rank(b) || a.seed - b.seed || byNumbers.compare(a.id, b.id));

  const end = join(folder, 'timing.json');
  const timed = existsSync(end) ? file(end, timing) : null;
  for (const [i, { contender }] of (timed?.contenders ?? []).entries())
    if (!known.includes(contender)) refuse(`readRun: ${end}: $.contenders[${i}].contender`, expected, contender);
  return { folder, info, trials, timing: timed };
}
