/** Runs of an experiment made up with known answers: when each seed reaches the target, what a step costs, what diverges. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Check, Experiment, RunInfo, ScheduleName, TimingRecord, TrialRecord } from 'otimes-experiments';

export type SyntheticContender = {
  readonly name: string;
  /** Defaults to the name in capitals. */
  readonly label?: string;
  /** Defaults to 'first-order'. */
  readonly family?: RunInfo['families'][string];
  /** Steps after which the target is reached, by seed; null for a miss, 'diverged' for a run that ends at a quarter. */
  readonly steps: readonly (number | null | 'diverged')[];
  /** Milliseconds of CPU. */
  readonly step: number;
  /** Megabytes; defaults to 200. */
  readonly memory?: number;
  /** Test metric of all seeds; defaults to .96. */
  readonly test?: number;
  /** Learning rates of the tuning trials, and steps of each; defaults to the range's, the best in the middle. */
  readonly trials?: readonly (readonly [lr: number, steps: number | null | 'diverged'])[];
};

export type SyntheticOptions = {
  readonly contenders: readonly SyntheticContender[];
  readonly experiment?: Partial<Experiment>;
  readonly info?: Partial<RunInfo>;
  /** Whether there is a timing.json; defaults to true. */
  readonly timing?: boolean;
  /** Finals, timing and tuning of these are left out: as they are when a run is half done. */
  readonly unfinished?: readonly string[];
};

export type Synthetic = { info: RunInfo; trials: TrialRecord[]; timing: TimingRecord | null };

const [EPOCHS, STEPS, CHECKS] = [8, 50, 10];
const BUDGET = EPOCHS * STEPS;
const LR = { scale: 'log', low: 1e-4, high: 1e-1, default: 1e-3 } as const;
const TARGET = 0.9;

/** 0 … .1 … : rises from chance, crosses the target exactly at `hit`, and goes on to 1 − … without falling. */
function metricAt(step: number, hit: number): number {
  return step <= hit
    ? 0.1 + (TARGET - 0.1) * (step / hit) ** 0.4
    : TARGET + 0.08 * (1 - Math.exp((2 * (hit - step)) / BUDGET));
}

function record(
  c: SyntheticContender,
  o: {
    stage: 'tuning' | 'final';
    index: number;
    seed: number;
    lr: number;
    steps: number | null | 'diverged';
    schedule: ScheduleName;
  },
): TrialRecord {
  const diverged = o.steps === 'diverged';
  const hit = typeof o.steps === 'number' ? o.steps : null;
  const end = diverged ? BUDGET / 4 : o.stage === 'tuning' && hit !== null ? Math.ceil(hit / 5) * 5 : BUDGET;
  // Every fifth step, so that any multiple of 5 is met exactly.
  const checks = Array.from({ length: end / (STEPS / CHECKS) + 1 }, (_, i): Check => {
    const step = (i * STEPS) / CHECKS;
    const metric = hit === null ? (diverged ? 0.1 : 0.85 * (1 - Math.exp(-step / 100))) : metricAt(step, hit);
    return {
      step,
      epoch: step / STEPS,
      cpuSeconds: (1.1 * step * c.step) / 1000,
      seconds: (1.2 * step * c.step) / 1000,
      trainLoss: 2.3 * Math.exp((-2 * step) / (hit ?? BUDGET)) + 0.01,
      validation: { loss: 2.3 * (1.01 - metric), metric },
    };
  });
  const reached = checks.findIndex(({ validation }) => validation.metric >= TARGET);
  const kronecker = c.family === 'kronecker';
  const eigenvalues = (n: number, scale: number) =>
    Array.from({ length: n }, (_, i) => scale * Math.exp((-12 * (n - i)) / n));
  const name = o.stage === 'tuning' ? `tune-${String(o.index).padStart(2, '0')}` : `${o.schedule}-seed-${o.seed}`;
  return {
    format: 1,
    id: `${c.name}-${name}`,
    stage: o.stage,
    contender: c.name,
    setting: { lr: o.lr, weightDecay: 0.01 },
    schedule: o.schedule,
    seed: o.seed,
    outcome: diverged ? 'diverged' : o.stage === 'tuning' && hit !== null ? 'target' : 'budget',
    reason: diverged ? 'the loss is not finite at step 100' : null,
    checks,
    reached: reached < 0 ? null : reached,
    test: o.stage === 'final' && !diverged ? { loss: 0.2, metric: c.test ?? 0.96 } : null,
    steps: end,
    phases: {
      data: 0.1 * c.step * end * 1e-3,
      forward: 0.3 * c.step * end * 1e-3,
      backward: 0.4 * c.step * end * 1e-3,
      step: 0.3 * c.step * end * 1e-3,
      evaluate: 0.2 * c.step * end * 1e-3,
    },
    inside: kronecker ? { statistics: 0.5 * end, refresh: 0.8 * end, precondition: 0.2 * end, rest: 0.1 * end } : null,
    peakMemory: (c.memory ?? 200) * 1e6,
    spectra:
      kronecker && o.stage === 'final' && o.seed === 0
        ? [
            { path: 'layers.0', A: eigenvalues(40, 5), G: eigenvalues(16, 0.01) },
            { path: 'layers.2', A: [-1e-9, ...eigenvalues(60, 2)], G: eigenvalues(10, 0.1) },
          ]
        : null,
    resumed: 0,
  };
}

/** A contender's steps must be multiples of 5, its checks, up to the budget of 400. */
export function syntheticRun(o: SyntheticOptions): Synthetic {
  const { contenders, unfinished = [] } = o;
  const names = contenders.map(({ name }) => name);
  const by = <T>(of: (c: SyntheticContender) => T): Record<string, T> =>
    Object.fromEntries(contenders.map(c => [c.name, of(c)]));
  const experiment: Experiment = {
    name: 'made-up',
    title: 'Made up, MLP',
    about: 'Which of these optimizers is first at 90 %?',
    task: 'made-up',
    taskOptions: {},
    target: TARGET,
    targetFrom: 'It was made up.',
    epochs: EPOCHS,
    checksPerEpoch: CHECKS,
    seeds: Math.max(...contenders.map(({ steps }) => steps.length)),
    tuning: { trials: 3, seed: 1000, giveUp: 2 },
    schedules: ['constant'],
    finalists: 'best',
    contenders: names,
    kronecker: { refreshEvery: 10 },
    ...o.experiment,
  };
  const info: RunInfo = {
    format: 1,
    experiment,
    metric: { name: 'accuracy', unit: 'share', better: 'higher' },
    labels: by(({ name, label }) => label ?? name.toUpperCase()),
    families: by(({ family }) => family ?? 'first-order'),
    spaces: by(() => ({ lr: LR, weightDecay: { scale: 'choice', choices: [0, 0.01], default: 0.01 } })),
    samples: { train: 6400, validation: 1000, test: 2000 },
    parameters: 12_345,
    stepsPerEpoch: STEPS,
    versions: { node: '20.20.0', '@otimes/core': '0.1.0' },
    machine: { cpu: 'Example 9000', cores: 2, memory: 16e9, platform: 'linux x64', device: 'cpu' },
    started: '2026-01-02T03:04:05.000Z',
    short: false,
    ...o.info,
  };
  const [schedule] = experiment.schedules as [ScheduleName];
  const done = contenders.filter(({ name }) => !unfinished.includes(name));
  const trials = contenders.flatMap(c => {
    const best = c.steps.find(steps => typeof steps === 'number') ?? null;
    const tried = c.trials ?? [
      [1e-3, best === null ? null : Math.min(BUDGET, 2 * (best as number))],
      [1e-2, best],
      [1e-1, 'diverged'],
    ];
    const tuning = tried
      .slice(0, unfinished.includes(c.name) ? 1 : undefined)
      .map(([lr, steps], index) => record(c, { stage: 'tuning', index, seed: 1000, lr, steps, schedule }));
    const finals = c.steps.map((steps, seed) =>
      record(c, { stage: 'final', index: 0, seed, lr: c.trials?.[0]?.[0] ?? 1e-2, steps, schedule }),
    );
    return unfinished.includes(c.name) ? tuning : [...tuning, ...finals];
  });
  const timing: TimingRecord = {
    format: 1,
    rounds: 21,
    stepsPerRound: 10,
    contenders: done.map(({ name, step }) => ({
      contender: name,
      schedule,
      median: step / 1e3,
      quartiles: [(0.9 * step) / 1e3, (1.2 * step) / 1e3],
    })),
  };
  return { info, trials, timing: (o.timing ?? true) ? timing : null };
}

/** Writes it as runs do; the folder. */
export function writeRun(folder: string, { info, trials, timing }: Synthetic): string {
  mkdirSync(join(folder, 'trials'), { recursive: true });
  const write = (path: string, value: unknown) => writeFileSync(join(folder, path), JSON.stringify(value));
  write('experiment.json', info);
  for (const trial of trials) write(`trials/${trial.id}.json`, trial);
  if (timing !== null) write('timing.json', timing);
  return folder;
}

/** A dozen contenders of all families, as the large experiments have. */
export const DOZEN: readonly SyntheticContender[] = [
  { name: 'adamw', label: 'AdamW', steps: [220, 240, 200, 260, 230], step: 3.4 },
  { name: 'nadamw', label: 'NAdamW', steps: [215, 230, 190, 240, 235], step: 3.5 },
  { name: 'muon', label: 'Muon', steps: [150, 160, 140, 190, 170], step: 4.4, test: 0.972 },
  { name: 'schedule-free', label: 'Schedule-free AdamW', steps: [240, 250, 230, 260, 210], step: 3.6 },
  { name: 'sgd', label: 'SGD', steps: [330, null, 300, 390, null], step: 3.1, memory: 150 },
  { name: 'kfac', label: 'KFAC', family: 'kronecker', steps: [120, 140, 110, 'diverged', 130], step: 5.2 },
  { name: 'ekfac', label: 'EKFAC', family: 'kronecker', steps: [100, 120, 95, 105, 110], step: 5.5, memory: 240 },
  {
    name: 'steve',
    label: 'STEVE',
    family: 'kronecker',
    steps: [70, 90, 65, 80, 75],
    step: 5.3,
    memory: 260,
    trials: [
      [0.09, 70],
      [0.01, 120],
      [0.001, null],
    ],
  },
  { name: 'soap', label: 'SOAP', family: 'kronecker', steps: [80, 85, 90, 75, 80], step: 6.9, memory: 280 },
  { name: 'shampoo', label: 'Shampoo', family: 'kronecker', steps: [150, 170, 140, 160, 165], step: 7.5 },
  { name: 'kl-shampoo', label: 'KL-Shampoo', family: 'kronecker', steps: [100, 95, 110, 120, 105], step: 7.1 },
  { name: 'singd', label: 'SINGD', family: 'kronecker', steps: [130, 125, 140, 150, 120], step: 4.9 },
  { name: 'k-bfgs', label: 'K-BFGS', family: 'quasi-newton', steps: [200, 180, 210, null, 190], step: 6.1 },
];
