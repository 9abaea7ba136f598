/** What a run shows: on a terminal a bar for each trial that runs and one for all of them, elsewhere a line for each that has ended. */

import type { WriteStream } from 'node:tty';
import cliProgress, { type SingleBar } from 'cli-progress';
import type { Metric } from '../experiment.ts';
import { durationText, metricText, settingText } from '../format.ts';
import type { TrialRecord } from '../record.ts';
import type { TrialPlan } from '../search/settings.ts';
import { stepsToTarget } from './choice.ts';
import type { RunListener } from './run.ts';

/** A listener that shows what it hears until `stop`. */
export type Progress = RunListener & { stop(): void };

/** What a trial came to: `93.1 % after 240 steps (3.00 epochs), 4.1 s of CPU`. */
export function outcomeText(metric: Metric, record: TrialRecord): string {
  const { outcome, reason, reached, checks, test } = record;
  const last = checks.at(-1);
  const cost = last === undefined ? '' : `; ${last.cpuSeconds.toFixed(1)} s of CPU`;
  const end = last === undefined ? 'no evaluation' : metricText(metric, last.validation.metric);
  const at =
    reached === null
      ? `never at the target, ${end} after ${last?.step ?? 0} steps`
      : `target after ${stepsToTarget(record)} steps (${checks[reached]!.epoch.toFixed(2)} epochs)`;
  const how = {
    target: '',
    budget: reached === null || test === null ? '' : `, ${end} at the end`,
    'given up': ', given up',
    diverged: `, diverged (${reason})`,
  }[outcome];
  return `${at}${how}${cost}`;
}

/** The lines of a listener that writes them by `line`; bars are not its affair. */
class Lines {
  readonly #line: (text: string) => void;
  #metric!: Metric;
  total = 0;
  done = 0;

  constructor(line: (text: string) => void) {
    this.#line = line;
  }

  begin(total: number, done: number, metric: Metric): void {
    this.#metric = metric;
    this.total = total;
    this.done = done;
    if (done > 0) this.#line(`${done} of ${total} trials are done already.`);
  }

  ended({ id, setting, schedule }: TrialPlan, record: TrialRecord, secondsLeft: number | null): void {
    this.done++;
    const count = `[${String(this.done).padStart(String(this.total).length)}/${this.total}]`;
    const rest = secondsLeft === null || this.done === this.total ? '' : `; about ${durationText(secondsLeft)} left`;
    this.#line(`${count} ${id} (${settingText(setting)}, ${schedule}): ${outcomeText(this.#metric, record)}${rest}`);
  }

  failed({ id }: TrialPlan, message: string, where: readonly string[]): void {
    this.#line([`${id} failed: ${message}`, ...where].join('\n    '));
  }
}

/** Lines alone. */
export function plainProgress(write: (text: string) => void): Progress {
  const note = (text: string) => write(`${text}\n`);
  const lines = new Lines(note);
  return {
    note,
    begin: (total, done, metric) => lines.begin(total, done, metric),
    started() {},
    progress() {},
    ended: (trial, record, left) => lines.ended(trial, record, left),
    failed: (trial, message, where) => lines.failed(trial, message, where),
    stop() {},
  };
}

const WIDTH = 24;

type Payload = { readonly name: string; readonly note: string };

/** Bars at the lower edge, lines above them. */
export function liveProgress(stream: WriteStream): Progress {
  const bars = new cliProgress.MultiBar({
    stream,
    hideCursor: true,
    // Its handler would end the bars and let the run go on.
    gracefulExit: false,
    clearOnComplete: true,
    format(_options, { progress, value, total }, { name, note }: Payload) {
      const filled = Math.round(Math.min(1, progress) * WIDTH);
      return `${name.padEnd(28)} ${'━'.repeat(filled)}${'─'.repeat(WIDTH - filled)} ${value}/${total}  ${note}`;
    },
  });
  const payload = (name: string, note = ''): Payload => ({ name, note });
  const running = new Map<string, SingleBar>();
  const note = (text: string) => bars.log(`${text}\n`);
  const lines = new Lines(note);
  let whole: SingleBar | null = null;
  let metric: Metric | null = null;
  const remove = (id: string) => {
    const bar = running.get(id);
    if (bar !== undefined) bars.remove(bar);
    running.delete(id);
  };
  const tellWhole = (left: number | null) =>
    whole?.update(lines.done, payload('all trials', left === null ? '' : `about ${durationText(left)} left`));
  return {
    note,
    begin(total, done, of) {
      metric = of;
      lines.begin(total, done, of);
      whole = bars.create(total, done, payload('all trials'));
    },
    started({ id }) {
      running.set(id, bars.create(1, 0, payload(id)));
    },
    progress({ id }, { step, totalSteps, validation }) {
      const bar = running.get(id);
      bar?.setTotal(totalSteps);
      bar?.update(step, payload(id, validation === null ? '' : metricText(metric!, validation.metric)));
    },
    ended(trial, record, left) {
      remove(trial.id);
      lines.ended(trial, record, left);
      tellWhole(left);
    },
    failed(trial, message, where) {
      remove(trial.id);
      lines.failed(trial, message, where);
    },
    stop: () => bars.stop(),
  };
}
