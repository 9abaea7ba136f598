/**
 * What an experiment is made of. A *task* has data, a network and a metric. A *contender* is an optimizer with the space of settings in
 * which it is tuned. An *experiment* is plain data: a task, contenders, a target, seeds, a budget.
 */

import type { StateDict, Tensor } from '@otimes/core';
import type { Module } from '@otimes/nn';

/** What an evaluation measures beside the loss. */
export type Metric = {
  /** As tables and charts write it: 'accuracy'. */
  readonly name: string;
  /** How numbers are written: 'share' in per cent, 'nats' and 'number' as they are. */
  readonly unit: 'share' | 'nats' | 'number';
  readonly better: 'higher' | 'lower';
};

/** Mean loss over a split, and the metric there. */
export type Evaluation = { readonly loss: number; readonly metric: number };

/** The batches of one training run in order, without end. What a batch B is, the task knows. */
export interface Batches<B> {
  readonly stepsPerEpoch: number;
  /** The rest of the epoch: all of it, or after `loadStateDict` what was left. */
  epoch(): AsyncIterable<B>;
  /** The position, to go on from there to the same bits. In the body of a loop the current batch counts as done. */
  stateDict(): StateDict;
  loadStateDict(state: StateDict): void;
  /** Ends worker threads. */
  close?(): void | Promise<void>;
}

/** A task whose data are loaded. */
// biome-ignore lint/suspicious/noExplicitAny: what a batch is, only the task knows
export interface OpenTask<B = any> {
  /** Samples of each split. */
  readonly samples: { readonly train: number; readonly validation: number; readonly test: number };
  /** The same weights for the same seed, whatever the optimizer. */
  model(seed: number): Module;
  /** The same batches for the same seed, whatever the optimizer. */
  batches(seed: number): Batches<B>;
  /** The loss that is differentiated, a scalar. */
  loss(model: Module, batch: B): Tensor;
  /** Leaves no trace in the model, whose mode (train or eval) is as it was. */
  evaluate(model: Module, split: 'validation' | 'test'): Promise<Evaluation>;
  close?(): void | Promise<void>;
}

/** A value of JSON. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };
export type JsonRecord = { readonly [name: string]: Json };

export type OpenOptions = {
  /** Folder of the data set, as `--data` gives it; null for none. */
  readonly data: string | null;
  readonly device: string;
  /** Threads that prepare batches; 0 for none. */
  readonly workers: number;
  /** The experiment's `taskOptions`. A name or a value that the task does not know is an error. */
  readonly options: JsonRecord;
};

export interface Task {
  readonly name: string;
  /** A sentence: data, network, loss. */
  readonly about: string;
  readonly metric: Metric;
  /** What `--data` must be, in words; null where the task needs no folder. */
  readonly data: string | null;
  open(o: OpenOptions): Promise<OpenTask>;
}

/** Hyperparameters of an optimizer, by the names of its options. */
export type Setting = Readonly<Record<string, number | string | boolean>>;

/** One hyperparameter: evenly on a log scale, evenly, or one of a list; and what it is where nobody tunes it. */
export type Dimension =
  | { readonly scale: 'log' | 'linear'; readonly low: number; readonly high: number; readonly default: number }
  | {
      readonly scale: 'choice';
      readonly choices: readonly (number | string | boolean)[];
      readonly default: number | string | boolean;
    };

export type Space = Readonly<Record<string, Dimension>>;

/** What trains: the library's `Optimizer`, or one that evaluates the loss several times a step, as L-BFGS. */
export interface Trainer {
  lr: number;
  /** Runs `closure` once or more: it clears the gradients, computes the loss with its gradients, and returns the loss. */
  step(closure: () => Tensor): void | Promise<void>;
  /** Before and after an evaluation: schedule-free methods show their averaged weights in between. */
  eval?(): void;
  train?(): void;
  stateDict(): StateDict;
  loadStateDict(state: StateDict): void;
  /** Spectra and times of a Kronecker optimizer, as its `report()`. */
  report?(): Promise<TrainerReport>;
  /** Removes hooks. */
  detach?(): void;
}

/** What records keep of `readReport()`. */
export type TrainerReport = {
  readonly milliseconds: Readonly<Record<string, number>>;
  readonly blocks: readonly {
    readonly path: string;
    readonly spectrum: { readonly A: readonly number[]; readonly G: readonly number[] } | null;
  }[];
};

/** What a contender knows of the run that it is made for. */
export type MakeContext = {
  readonly seed: number;
  readonly stepsPerEpoch: number;
  /** Options that all Kronecker optimizers of the experiment share: refreshEvery, factorEvery, sharing …; others ignore them. */
  readonly kronecker: JsonRecord;
};

export interface Contender {
  /** As in experiments and files: 'steve'. */
  readonly name: string;
  /** As in tables: 'STEVE'. */
  readonly label: string;
  readonly family: 'first-order' | 'kronecker' | 'quasi-newton';
  readonly space: Space;
  /** A setting or an option that the optimizer does not know is an error. */
  make(model: Module, setting: Setting, context: MakeContext): Trainer;
}

/** The learning rate over a run: as it is, or by a cosine or a line to 0 at the end of the budget. */
export type ScheduleName = 'constant' | 'cosine' | 'linear';

/** Plain data, which a run's folder keeps as it is. */
export type Experiment = {
  readonly name: string;
  readonly title: string;
  /** What it asks, and of what. */
  readonly about: string;
  /** Of a task. */
  readonly task: string;
  readonly taskOptions: JsonRecord;
  /** Of the task's metric on the validation split: what the time is taken to. */
  readonly target: number;
  /** How it was chosen, a sentence. */
  readonly targetFrom: string;
  /** Of every run at most. */
  readonly epochs: number;
  /** Evaluations on the validation split, evenly over an epoch. */
  readonly checksPerEpoch: number;
  /** Runs of the final stage for each finalist, with seeds 0, 1, …. */
  readonly seeds: number;
  readonly tuning: {
    /** Settings for each contender; the first is its default one. 0: contenders run with `fixed` settings or their defaults. */
    readonly trials: number;
    /** Of weights, batches and settings; none of the final stage. */
    readonly seed: number;
    /**
     * A trial ends after so many times the steps of the best earlier trial of its contender, where each schedule has a finalist of the
     * same schedule; null: never.
     */
    readonly giveUp: number | null;
  };
  readonly schedules: readonly ScheduleName[];
  /** Who runs with all seeds: a contender's best setting, or the best of each schedule. */
  readonly finalists: 'best' | 'each schedule';
  /** Names of contenders. */
  readonly contenders: readonly string[];
  /** Narrower or other dimensions for some contenders. */
  readonly spaces?: Readonly<Record<string, Space>>;
  /** Settings that are not tuned, by contender. */
  readonly fixed?: Readonly<Record<string, Setting>>;
  /** `MakeContext.kronecker`. */
  readonly kronecker: JsonRecord;
  /** Task options of a run with `--short`, over the others: fewer samples. */
  readonly short?: JsonRecord;
  /** What a run takes, in words, for lists: 'about 10 minutes on two cores'. */
  readonly takes?: string;
};
