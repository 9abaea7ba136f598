/** otimes-experiments: tuned, resumable comparisons of optimizers, with a report. */

export type {
  Batches,
  Contender,
  Dimension,
  Evaluation,
  Experiment,
  Json,
  JsonRecord,
  MakeContext,
  Metric,
  OpenOptions,
  OpenTask,
  ScheduleName,
  Setting,
  Space,
  Task,
  Trainer,
  TrainerReport,
} from './experiment.ts';
export type { Check, Machine, RunInfo, TimingRecord, TrialRecord } from './record.ts';
export { type Format, type ReportOptions, type Run, readRun, type Written, writeReport } from './report/index.ts';
export { runTrial, type TrialOptions, type TrialProgress } from './runner/trial.ts';
export { type Finalist, finalPlan, type TrialPlan, tuningPlan } from './search/settings.ts';
