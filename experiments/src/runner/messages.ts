/** What the run and its child processes tell each other. */

import type { Experiment } from '../experiment.ts';
import type { RunInfo, TimingRecord } from '../record.ts';
import type { Finalist, TrialPlan } from '../search/settings.ts';
import type { TimingLimits } from './timing.ts';
import type { TrialProgress } from './trial.ts';

/** How a run was started, beside its experiment: a run's folder keeps it, so that it can go on. */
export type RunOptions = {
  /** Folder of the data set; null for none. */
  readonly data: string | null;
  readonly device: string;
  /** Threads of each trial. */
  readonly threads: number;
  /** Threads of each trial that prepare batches. */
  readonly workers: number;
  /** Files of modules with tasks, contenders and presets. */
  readonly modules: readonly string[];
  /** Whether the weights of final runs are kept. */
  readonly keepWeights: boolean;
};

/** What a child knows from its start. */
export type Setup = { readonly folder: string; readonly experiment: Experiment; readonly options: RunOptions };

/** What a task, once it is open, has to say. */
export type TaskFacts = Pick<
  RunInfo,
  'metric' | 'labels' | 'families' | 'spaces' | 'samples' | 'parameters' | 'stepsPerEpoch' | 'versions' | 'machine'
>;

export type Order =
  | { readonly kind: 'setup'; readonly setup: Setup }
  /** Opens the task, and makes every contender once, so that what is wrong is known before the first trial. */
  | { readonly kind: 'facts' }
  /** `giveUpAfter` null: never. */
  | { readonly kind: 'trial'; readonly trial: TrialPlan; readonly giveUpAfter: number | null }
  | {
      readonly kind: 'timing';
      readonly finalists: readonly Finalist[];
      /** Steps of a refresh period. */
      readonly period: number;
      readonly limits: TimingLimits;
    };

export type Answer =
  | { readonly kind: 'progress'; readonly progress: TrialProgress }
  | { readonly kind: 'facts'; readonly facts: TaskFacts }
  /** The record is in its file. */
  | { readonly kind: 'trial' }
  | { readonly kind: 'timing'; readonly timing: TimingRecord }
  /** It cannot go on, and ends. */
  | { readonly kind: 'failed'; readonly message: string; readonly stack: string };
