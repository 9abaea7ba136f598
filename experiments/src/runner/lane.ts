/** One contender's way through a run: tuning trials in order, the choice, then the final runs in any order. */

import { isDeepStrictEqual } from 'node:util';
import type { Contender, Experiment, Metric } from '../experiment.ts';
import type { TrialRecord } from '../record.ts';
import { type Finalist, finalPlan, type TrialPlan, tuningId, tuningPlan } from '../search/settings.ts';
import { finalistsOf, giveUpAfter } from './choice.ts';
import { filesOf, readJson } from './files.ts';

export type NextTrial = { readonly trial: TrialPlan; readonly giveUpAfter: number };

/** Whether the folder has a record of every trial: of all tuning, and of each finalist with all seeds. */
export function isComplete(experiment: Experiment, folder: string): boolean {
  const has = ({ id }: { readonly id: string }) => readJson(filesOf(folder).record(id)) !== null;
  return experiment.contenders.every(contender => {
    const tuned = Array.from({ length: experiment.tuning.trials }, (_, i) => ({ id: tuningId(contender, i) }));
    const whole = experiment.schedules.filter(schedule =>
      finalPlan(experiment, { contender, setting: {}, schedule }).every(has),
    );
    return tuned.every(has) && whole.length * experiment.seeds >= finalsOf(experiment);
  });
}

/** How many final runs a contender has. */
export const finalsOf = ({ finalists, schedules, tuning, seeds }: Experiment): number =>
  seeds * (finalists === 'best' && tuning.trials > 0 ? 1 : schedules.length);

export class Lane {
  readonly contender: Contender;
  readonly #experiment: Experiment;
  readonly #metric: Metric;
  readonly #tuning: readonly TrialPlan[];
  readonly #records = new Map<string, TrialRecord>();
  readonly #folder: string;
  readonly #totalSteps: number | undefined;
  /** Those that run or came to grief. */
  readonly #taken = new Set<string>();
  #finalists: readonly Finalist[] | null = null;
  #finals: readonly TrialPlan[] = [];

  /** Takes up the records that are in the folder. @param totalSteps of the whole budget, which records of it must have */
  constructor(experiment: Experiment, metric: Metric, contender: Contender, folder: string, totalSteps?: number) {
    this.contender = contender;
    this.#folder = folder;
    this.#totalSteps = totalSteps;
    this.#experiment = experiment;
    this.#metric = metric;
    this.#tuning = tuningPlan(experiment, contender);
    this.#takeUp(this.#tuning);
    this.#choose();
  }

  get finalists(): readonly Finalist[] | null {
    return this.#finalists;
  }

  get records(): readonly TrialRecord[] {
    return [...this.#records.values()];
  }

  /** Trials that are not done, those that run included. */
  get left(): { readonly tuning: number; readonly final: number } {
    const done = this.records.filter(({ stage }) => stage === 'tuning').length;
    const finals = this.#records.size - done;
    return { tuning: this.#tuning.length - done, final: finalsOf(this.#experiment) - finals };
  }

  /** What can begin now, or null: tuning goes in order, since a trial may be given up by what those before it reached. */
  next(): NextTrial | null {
    const isOpen = ({ id }: TrialPlan) => !this.#records.has(id) && !this.#taken.has(id);
    if (this.#finalists !== null) {
      const trial = this.#finals.find(isOpen);
      return trial === undefined ? null : { trial, giveUpAfter: Infinity };
    }
    const index = this.#tuning.findIndex(({ id }) => !this.#records.has(id));
    const trial = this.#tuning[index]!;
    if (!isOpen(trial)) return null;
    // Where each schedule has a finalist, its trials are compared with each other alone.
    const isRival = ({ schedule }: TrialPlan) => this.#experiment.finalists === 'best' || schedule === trial.schedule;
    const earlier = this.#tuning
      .slice(0, index)
      .filter(isRival)
      .map(({ id }) => this.#records.get(id)!);
    return { trial, giveUpAfter: giveUpAfter(this.#experiment.tuning.giveUp, earlier) };
  }

  take({ id }: TrialPlan): void {
    this.#taken.add(id);
  }

  done(record: TrialRecord): void {
    this.#records.set(record.id, record);
    if (this.#finalists === null) this.#choose();
  }

  #choose(): void {
    if (!this.#tuning.every(({ id }) => this.#records.has(id))) return;
    const trials = this.#tuning.map(({ id }) => this.#records.get(id)!);
    this.#finalists = finalistsOf(this.#experiment, this.#metric, this.contender, trials);
    this.#finals = this.#finalists.flatMap(finalist => finalPlan(this.#experiment, finalist));
    this.#takeUp(this.#finals);
  }

  #takeUp(trials: readonly TrialPlan[]): void {
    for (const trial of trials) {
      const path = filesOf(this.#folder).record(trial.id);
      const record = readJson<TrialRecord>(path);
      if (record !== null) this.#records.set(trial.id, checked(path, record, trial, this.#totalSteps));
    }
  }
}

/** Spaces are part of the program: another version may plan other trials. */
function checked(path: string, record: TrialRecord, trial: TrialPlan, totalSteps?: number): TrialRecord {
  if (record.outcome === 'budget' && totalSteps !== undefined && record.steps !== totalSteps)
    throw new Error(
      `${path}: used its whole budget of ${record.steps} steps, and the experiment now has ${totalSteps}: begin a new run in another folder`,
    );
  for (const name of ['id', 'stage', 'contender', 'setting', 'schedule', 'seed'] as const)
    if (!isDeepStrictEqual(record[name], trial[name]))
      throw new Error(
        `${path}: has ${name} ${JSON.stringify(record[name])}, and the experiment now says ${JSON.stringify(trial[name])}; ` +
          'this run was made by another version, begin a new one in another folder',
      );
  return record;
}
