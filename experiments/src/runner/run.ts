/** A whole run: trials in child processes, several side by side, then the timing. What is in the folder already is not done again. */

import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { differences } from '../config.ts';
import type { Experiment, Metric } from '../experiment.ts';
import { durationText } from '../format.ts';
import { find, loadLibrary } from '../library.ts';
import type { RunInfo, TrialRecord } from '../record.ts';
import type { TrialPlan } from '../search/settings.ts';
import { count, flag, list, nullable, object, oneOf, text } from '../shape.ts';
import { Child, framesOf } from './child.ts';
import { Estimate } from './estimate.ts';
import { filesOf, readJson, removeTemporaries, writeJson } from './files.ts';
import { finalsOf, isComplete, Lane, type NextTrial } from './lane.ts';
import { lock } from './lock.ts';
import type { Answer, Order, RunOptions, Setup, TaskFacts } from './messages.ts';
import { longestTiming, type TimingLimits } from './timing.ts';
import type { TrialProgress } from './trial.ts';

/** What a run tells while it goes. */
export type RunListener = {
  /** A line that is worth reading. */
  note(line: string): void;
  /** Trials in all, and those that are done already. */
  begin(total: number, done: number, metric: Metric): void;
  started(trial: TrialPlan): void;
  progress(trial: TrialPlan, progress: TrialProgress): void;
  /** @param secondsLeft of the whole run; null where nobody knows */
  ended(trial: TrialPlan, record: TrialRecord, secondsLeft: number | null): void;
  /** @param where lines of the stack, without those of Node */
  failed(trial: TrialPlan, message: string, where: readonly string[]): void;
};

export type RunRequest = {
  readonly folder: string;
  readonly experiment: Experiment;
  readonly options: RunOptions;
  readonly short: boolean;
  /** As RunInfo has them. */
  readonly changes?: readonly string[];
  readonly note?: string;
  /** Trials side by side. */
  readonly jobs: number;
  readonly listener: RunListener;
  /** How long steps are measured; a shortened run does that in a moment. */
  readonly timing?: TimingLimits;
  /** Of child processes; default this one's. */
  readonly env?: NodeJS.ProcessEnv;
  /** Ends the run: children are killed, what they had until their last epoch stays. */
  readonly signal?: AbortSignal;
};

/** 'finished': all is done. 'failed': some trials are not. 'stopped': by the signal. The run can go on after either. */
export type RunOutcome = { readonly status: 'finished' | 'failed' | 'stopped'; readonly failed: readonly string[] };

/** The folder has a run of something else. */
export class OtherRunError extends Error {
  override name = 'OtherRunError';
}

type KeptOptions = RunOptions & { readonly format: 1 };

const keptOptions = object({
  format: oneOf(1),
  data: nullable(text),
  device: text,
  threads: count(1),
  workers: count(),
  modules: list(text),
  keepWeights: flag,
});

/** How the run in a folder was started. Throws where there is none. */
export function readRequest(folder: string): Pick<RunRequest, 'experiment' | 'options' | 'short'> {
  const files = filesOf(folder);
  const info = readJson<RunInfo>(files.experiment);
  const kept = readJson<KeptOptions>(files.options);
  if (info === null && kept !== null)
    throw new Error(
      `${folder}: the run in it was ended before its first trial, so that there is nothing to go on with: begin it anew, with run and --out ${folder}`,
    );
  if (info === null || kept === null)
    throw new Error(`${folder}: expected the folder of a run, found no experiment in it`);
  const { format: _, ...options }: KeptOptions = keptOptions(kept, `${files.options}: $`);
  return { experiment: info.experiment, options, short: info.short };
}

/** Of an experiment what that of a part has too: its contenders, with their spaces and what is fixed for them, and as many seeds. */
function partOf(experiment: Experiment, part: Experiment): Experiment {
  const known = new Set(part.contenders);
  const cut = <T>(all: Readonly<Record<string, T>> = {}) =>
    Object.fromEntries(Object.entries(all).filter(([name]) => known.has(name)));
  const { contenders, spaces, fixed, seeds } = experiment;
  return {
    ...experiment,
    // Their order is that of tables, and nothing else.
    contenders: part.contenders.filter(name => contenders.includes(name)),
    seeds: Math.min(seeds, part.seeds),
    spaces: cut(spaces),
    fixed: cut(fixed),
  };
}

/**
 * Whether the folder has a part of this run: all of it, or one with fewer contenders or seeds, whose trials are the same. Throws an OtherRunError that
 * lists what differs, where it has a run of another experiment.
 */
export function isBegun({ folder, ...now }: Pick<RunRequest, 'folder' | 'experiment' | 'options' | 'short'>): boolean {
  if (readJson(filesOf(folder).experiment) === null) return false;
  const before = readRequest(folder);
  // What the results do not depend on may change: where the data lie, and what is kept.
  const essence = ({ experiment, options: { device, threads, workers }, short }: typeof before) =>
    JSON.parse(JSON.stringify({ ...partOf(experiment, before.experiment), device, threads, workers, short }));
  const different = differences(essence(before), essence(now));
  if (different.length === 0) return true;
  throw new OtherRunError(
    `${folder}: has a run of another experiment:\n${different.map(line => `  ${line}`).join('\n')}\n` +
      'Choose another folder with --out, or remove this one.',
  );
}

/** Whether all of this run is done: every trial and the timing. Throws a FormatError for a record that is damaged. */
export function isFinished(folder: string, experiment: Experiment): boolean {
  const files = filesOf(folder);
  const info = readJson<RunInfo>(files.experiment);
  return (
    info !== null &&
    readJson(files.timing) !== null &&
    isWhole(info.experiment, experiment) &&
    isComplete(experiment, folder)
  );
}

/** The options with which a run goes on: weights of final runs are kept where they were before. */
function goingOn({ folder, options, listener }: RunRequest): RunOptions {
  const { keepWeights } = readRequest(folder).options;
  if (options.keepWeights && !keepWeights)
    listener.note('Weights are kept from here on: final runs that are done have none.');
  return { ...options, keepWeights: options.keepWeights || keepWeights };
}

/** Of a run that is finished. */
export function setNote(folder: string, note: string): void {
  const { experiment: path } = filesOf(folder);
  writeJson(path, { ...readJson<RunInfo>(path)!, note });
}

const isWhole = (before: Experiment, now: Experiment): boolean =>
  now.contenders.every(name => before.contenders.includes(name)) && now.seeds <= before.seeds;

/** Does what is left of a run. Throws what the task or a contender refuses before the first trial; a LockedError; an OtherRunError. */
export async function runExperiment(request: RunRequest): Promise<RunOutcome> {
  const { folder, listener } = request;
  mkdirSync(filesOf(folder).trials, { recursive: true });
  const release = lock(folder, listener.note);
  let run: Run | null = null;
  try {
    for (const place of [folder, filesOf(folder).trials]) removeTemporaries(place);
    const options = isBegun(request) ? goingOn(request) : request.options;
    run = new Run({ ...request, options });
    writeJson(filesOf(folder).options, { format: 1, ...options } satisfies KeptOptions);
    return await run.toEnd();
  } finally {
    await run?.close();
    // Nothing was begun: the task or a contender refused it.
    if (!existsSync(filesOf(folder).experiment)) rmSync(filesOf(folder).options, { force: true });
    release();
  }
}

/** A child, and the contender that it trains: no other, so that its memory is that contender's. */
type Worker = { readonly child: Child; readonly contender: string };

type Found = { readonly lane: Lane; readonly next: NextTrial };

/** Cold steps: numbers of shortened runs mean nothing. */
const SHORT_TIMING: TimingLimits = { warmSteps: 0, warmSeconds: 0, roundSeconds: 0, rounds: 3, seconds: 0 };

class Stopped extends Error {}

class Run {
  readonly #request: RunRequest;
  readonly #children = new Set<Child>();
  readonly #failed: string[] = [];
  #lanes: readonly Lane[] = [];
  #estimate!: Estimate;

  constructor(request: RunRequest) {
    this.#request = request;
  }

  async toEnd(): Promise<RunOutcome> {
    const { signal, experiment, listener, folder, jobs } = this.#request;
    const stop = () => void this.close();
    signal?.addEventListener('abort', stop);
    try {
      const info = await this.#facts();
      const { contenders } = await loadLibrary(this.#request.options.modules);
      const totalSteps = experiment.epochs * info.stepsPerEpoch;
      this.#lanes = experiment.contenders.map(
        name => new Lane(experiment, info.metric, find('contender', contenders, name), folder, totalSteps),
      );
      this.#estimate = new Estimate(experiment, info.stepsPerEpoch);
      const each = experiment.tuning.trials + finalsOf(experiment);
      const done = this.#lanes.reduce((sum, { records }) => sum + records.length, 0);
      listener.begin(each * this.#lanes.length, done, info.metric);
      // What was measured for other finalists is not theirs.
      if (done < each * this.#lanes.length) rmSync(filesOf(folder).timing, { force: true });
      await Promise.all(Array.from({ length: jobs }, () => this.#work()));
      if (signal?.aborted) return { status: 'stopped', failed: this.#failed };
      if (this.#failed.length > 0) return { status: 'failed', failed: this.#failed };
      await this.#time();
      return { status: 'finished', failed: [] };
    } catch (error) {
      if (signal?.aborted) return { status: 'stopped', failed: this.#failed };
      throw error;
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }

  /** Ends all children. */
  async close(): Promise<void> {
    await Promise.all([...this.#children].map(child => this.#end(child)));
  }

  /** The run's record, which is written at its beginning, and compared when it goes on. */
  async #facts(): Promise<RunInfo> {
    const { folder, experiment, short, changes: changed = [], note, listener } = this.#request;
    const child = this.#start('the task');
    const { facts } = (await this.#ask(child, { kind: 'facts' })) as Answer & { kind: 'facts' };
    await this.#end(child);
    const { experiment: path } = filesOf(folder);
    const before = readJson<RunInfo>(path);
    if (before === null) {
      const started = new Date().toISOString();
      const info: RunInfo = {
        format: 1,
        experiment,
        ...facts,
        started,
        ...(changed.length > 0 && { changes: changed }),
        ...(note !== undefined && { note }),
        short,
      };
      writeJson(path, info);
      return info;
    }
    for (const name of ['samples', 'parameters', 'stepsPerEpoch'] as const)
      if (!isDeepStrictEqual(before[name], facts[name]))
        throw new OtherRunError(
          `${folder}: was begun with ${name} ${JSON.stringify(before[name])}, and now there are ${JSON.stringify(facts[name])}: ` +
            'the data or the task are not the same',
        );
    for (const line of changes(before, facts)) listener.note(line);
    const noted = note === undefined ? before : { ...before, note };
    if (isWhole(before.experiment, experiment)) {
      if (noted.note !== before.note) writeJson(path, noted);
      return noted;
    }
    const added = experiment.contenders.filter(name => !before.experiment.contenders.includes(name));
    const more = [...added, ...(experiment.seeds > before.experiment.seeds ? [`${experiment.seeds} seeds`] : [])];
    listener.note(`The run gets more: ${more.join(', ')}. What a step costs is measured anew.`);
    const { changes: _, ...rest } = noted;
    const { labels, families, spaces } = facts;
    const info: RunInfo = {
      ...rest,
      ...{ experiment, labels, families },
      ...(spaces !== undefined && { spaces }),
      ...(changed.length > 0 && { changes: changed }),
    };
    rmSync(filesOf(folder).timing, { force: true });
    writeJson(path, info);
    return info;
  }

  /** One after the other what can begin, until nothing is left or all that is left waits for what failed. */
  async #work(): Promise<void> {
    let worker: Worker | null = null;
    while (!this.#request.signal?.aborted) {
      const found = this.#next(worker?.contender ?? null);
      if (found !== null) {
        const turn: Promise<Worker | null> = this.#turn(worker, found);
        this.#turns.add(turn);
        worker = await turn.finally(() => this.#turns.delete(turn));
        continue;
      }
      if (worker !== null) await this.#end(worker.child);
      worker = null;
      if (this.#turns.size === 0) return;
      // A trial of another worker may open the way for more.
      await Promise.race(this.#turns);
    }
  }

  /** Trials that are begun, by whom they are done. */
  readonly #turns = new Set<Promise<Worker | null>>();

  /** One trial, by that worker if it is of the same contender. Resolves to the worker for the next one; null where there is none. */
  async #turn(worker: Worker | null, { lane, next }: Found): Promise<Worker | null> {
    const { name } = lane.contender;
    let child = worker?.child;
    if (worker !== null && worker.contender !== name) {
      await this.#end(worker.child);
      child = undefined;
    }
    child ??= this.#start(name);
    if (await this.#trial(child, lane, next)) return { child, contender: name };
    await this.#end(child);
    return null;
  }

  /** The first trial that can begin: of the same contender, else of one that nobody works on, else of any. */
  #next(contender: string | null): Found | null {
    const free = this.#lanes.flatMap(lane => {
      const next = lane.next();
      return next === null ? [] : [{ lane, next }];
    });
    const own = free.find(({ lane }) => lane.contender.name === contender);
    const found = own ?? free.find(({ lane }) => !this.#busy.has(lane)) ?? free[0] ?? null;
    found?.lane.take(found.next.trial);
    return found;
  }

  readonly #busy = new Set<Lane>();

  /** Whether the trial ended, be it by divergence; false where the child died or threw, which is told. */
  async #trial(child: Child, lane: Lane, { trial, giveUpAfter }: NextTrial): Promise<boolean> {
    const { listener, folder, jobs } = this.#request;
    const start = performance.now();
    this.#busy.add(lane);
    listener.started(trial);
    try {
      const limit = giveUpAfter === Infinity ? null : giveUpAfter;
      await this.#ask(child, { kind: 'trial', trial, giveUpAfter: limit }, progress =>
        listener.progress(trial, progress),
      );
      const record = readJson<TrialRecord>(filesOf(folder).record(trial.id));
      if (record === null) throw new Error('its record is not there');
      lane.done(record);
      this.#estimate.add(record, (performance.now() - start) / 1000);
      listener.ended(trial, record, this.#estimate.left(this.#lanes, jobs));
      return true;
    } catch (error) {
      if (this.#request.signal?.aborted) return false;
      this.#failed.push(trial.id);
      listener.failed(trial, error instanceof Error ? error.message : String(error), framesOf(error));
      return false;
    } finally {
      this.#busy.delete(lane);
    }
  }

  async #time(): Promise<void> {
    const { folder, experiment, short, listener, timing = {} } = this.#request;
    if (isFinished(folder, experiment)) return;
    const finalists = this.#lanes.flatMap(lane => lane.finalists ?? []);
    const limits = short ? SHORT_TIMING : timing;
    listener.note(
      `What a step costs: ${finalists.length === 1 ? 'one finalist' : `${finalists.length} finalists in turn`}, in a process of its own; ` +
        `at most ${durationText(longestTiming(finalists.length, limits))} or so.`,
    );
    const { refreshEvery } = experiment.kronecker;
    const period = typeof refreshEvery === 'number' ? refreshEvery : 10;
    const child = this.#start('timing');
    const order: Order = { kind: 'timing', finalists, period, limits };
    const answer = (await this.#ask(child, order)) as Answer & { kind: 'timing' };
    await this.#end(child);
    writeJson(filesOf(folder).timing, answer.timing);
  }

  /** @param name of what it does, before the lines that it writes */
  #start(name: string): Child {
    const { folder, experiment, options, env = process.env, listener } = this.#request;
    const setup: Setup = { folder, experiment, options };
    const child = new Child(setup, env, line => listener.note(`${name}: ${line}`));
    this.#children.add(child);
    return child;
  }

  #ask(child: Child, order: Order, onProgress?: (progress: TrialProgress) => void): Promise<Answer> {
    if (this.#request.signal?.aborted) throw new Stopped('stopped');
    return child.ask(order, onProgress);
  }

  async #end(child: Child): Promise<void> {
    await child.kill();
    this.#children.delete(child);
  }
}

/** What is not as it was when the run began, in words: its times are not comparable then. */
function changes(before: RunInfo, now: TaskFacts): string[] {
  const name = ['machine', 'versions'] as const;
  return name.flatMap(part =>
    differences(before[part], now[part]).map(line => `Not as when this run began: ${part}: ${line}.`),
  );
}
