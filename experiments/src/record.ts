/**
 * What runs leave on disk, and reports are made of.
 *
 *     FOLDER/experiment.json           RunInfo
 *     FOLDER/trials/ID.json            TrialRecord, of each trial that has ended
 *     FOLDER/trials/ID.safetensors     the checkpoint of a trial that has not
 *     FOLDER/timing.json               TimingRecord, the last thing that a run does
 *     FOLDER/report.html, report.md    made from these alone
 */

import type { Evaluation, Experiment, Metric, ScheduleName, Setting, Space } from './experiment.ts';

export type Machine = {
  readonly cpu: string;
  readonly cores: number;
  /** Bytes. */
  readonly memory: number;
  readonly platform: string;
  /** Of the tensors: 'cpu', 'gpu'; with the adapter's name where there is one. */
  readonly device: string;
};

export type RunInfo = {
  readonly format: 1;
  readonly experiment: Experiment;
  readonly metric: Metric;
  /** Labels of contenders by name. */
  readonly labels: Readonly<Record<string, string>>;
  readonly families: Readonly<Record<string, 'first-order' | 'kronecker' | 'quasi-newton'>>;
  /** Where each contender is tuned: its own space, with the experiment's dimensions in the place of its own. */
  readonly spaces?: Readonly<Record<string, Space>>;
  readonly samples: { readonly train: number; readonly validation: number; readonly test: number };
  readonly parameters: number;
  readonly stepsPerEpoch: number;
  /** Package → version, 'node' too. */
  readonly versions: Readonly<Record<string, string>>;
  readonly machine: Machine;
  /** ISO 8601. */
  readonly started: string;
  /** Options of the command line that changed the experiment: '--epochs 4'. */
  readonly changes?: readonly string[];
  /** What a reader of reports must know of the data or the machine, in the words of who ran it. */
  readonly note?: string;
  /** Whether it is shortened for a test; then nothing of it is a result. */
  readonly short: boolean;
};

/** The state of a run at an evaluation. */
export type Check = {
  readonly step: number;
  /** A fraction within an epoch. */
  readonly epoch: number;
  /** Of training so far, without evaluations: of the process's CPU time, and by the clock. */
  readonly cpuSeconds: number;
  readonly seconds: number;
  /** Mean over the steps since the last check. */
  readonly trainLoss: number;
  readonly validation: Evaluation;
};

export type TrialRecord = {
  readonly format: 1;
  /** 'steve-tune-03', 'steve-cosine-seed-2'. */
  readonly id: string;
  readonly stage: 'tuning' | 'final';
  readonly contender: string;
  readonly setting: Setting;
  readonly schedule: ScheduleName;
  readonly seed: number;
  /**
   * 'target': ended there (tuning). 'budget': used all epochs. 'given up': see `tuning.giveUp`. 'diverged': loss, gradient or weights were
   * not finite, or the optimizer refused them; the checks until then count.
   */
  readonly outcome: 'target' | 'budget' | 'given up' | 'diverged';
  /** In words, for 'diverged'. */
  readonly reason: string | null;
  /** At step 0 too. */
  readonly checks: readonly Check[];
  /** The first check at the target or better, its index; null for none. */
  readonly reached: number | null;
  /** Once, after the last step of a final run that did not diverge. */
  readonly test: Evaluation | null;
  readonly steps: number;
  /** CPU seconds of the whole run by phase: 'data', 'forward', 'backward', 'step', 'evaluate'. */
  readonly phases: Readonly<Record<string, number>>;
  /** Milliseconds inside of a Kronecker optimizer's step, by its own report; null for others. */
  readonly inside: Readonly<Record<string, number>> | null;
  /** Bytes: the largest resident set of the process. */
  readonly peakMemory: number;
  /** Eigenvalues of the factors at the end, ascending, at most 200 of each side evenly by rank; final runs of seed 0. */
  readonly spectra:
    | readonly { readonly path: string; readonly A: readonly number[]; readonly G: readonly number[] }[]
    | null;
  /** How often it went on from a checkpoint. */
  readonly resumed: number;
};

/** What a step costs, once it is warm: the finalists in turn in one process, so that all have the same machine. */
export type TimingRecord = {
  readonly format: 1;
  /** A round is one refresh period of each or several, as many as the quickest needs for 20 ms: its seconds over its steps. */
  readonly rounds: number;
  readonly stepsPerRound: number;
  /** What the seconds are: of CPU, which is the default, or by the clock where a device of its own computes. */
  readonly clock?: 'cpu' | 'wall';
  /** Steps of the contender that had the fewest before the first round. */
  readonly warmSteps?: number;
  /** Finalists of a contender that differ in the schedule, or in the rate, have the same numbers: their steps are measured once. */
  readonly contenders: readonly {
    readonly contender: string;
    readonly schedule: ScheduleName;
    /** Seconds a step: median over rounds and the quartiles. */
    readonly median: number;
    readonly quartiles: readonly [number, number];
    /** Seconds a step of each round; rounds of the same place in the lists were made at about the same time. */
    readonly perRound?: readonly number[];
  }[];
};
