/** The command line: list, run, resume, report. */

import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import type { WriteStream } from 'node:tty';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { ConfigError, checkExperiment, readExperiment } from './config.ts';
import type { Experiment } from './experiment.ts';
import { find, type Library, loadLibrary } from './library.ts';
import { type ReportOptions, writeReport } from './report/index.ts';
import { filesOf } from './runner/files.ts';
import { finalsOf } from './runner/lane.ts';
import type { RunOptions } from './runner/messages.ts';
import { liveProgress, plainProgress } from './runner/progress.ts';
import { isBegun, isFinished, type RunRequest, readRequest, runExperiment, setNote } from './runner/run.ts';
import { shortened } from './short.ts';

/** Where the command line writes, and what it knows of its surroundings. */
export type Surroundings = {
  readonly stdout: Pick<WriteStream, 'write' | 'isTTY'> & {
    on?(event: 'error', listener: (error: Error) => void): unknown;
  };
  readonly stderr: Pick<WriteStream, 'write'>;
  readonly env: NodeJS.ProcessEnv;
  /** Ends a run as Ctrl-C does. */
  readonly signal?: AbortSignal;
};

/** What `run` and `resume` take. */
type Given = {
  readonly config?: string;
  readonly with?: readonly string[];
  readonly data?: string;
  readonly out?: string;
  readonly device: 'cpu' | 'gpu';
  readonly jobs?: number;
  readonly threads: number;
  readonly workers: number;
  readonly seeds?: number;
  readonly trials?: number;
  readonly epochs?: number;
  readonly contenders?: readonly string[];
  readonly short?: boolean;
  readonly keepWeights?: boolean;
  readonly note?: string;
};

const SUCCESS = 0;
const FAILURE = 1;
/** A wrong command line, or an experiment that cannot be run. */
const WRONG = 2;
/** As shells have it for Ctrl-C. */
const STOPPED = 130;

const whole =
  (least: number) =>
  (text: string): number => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isInteger(value) || value < least)
      throw new InvalidArgumentError(`expected a whole number of at least ${least}.`);
    return value;
  };
function positive(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value > 0 && value < Infinity))
    throw new InvalidArgumentError('expected a positive number.');
  return value;
}
const names = (text: string): string[] => text.split(',').map(name => name.trim());
const collect = (path: string, before: readonly string[] = []): string[] => [...before, path];

/** Runs the command of these arguments to its end. Resolves to the exit code: 0, 1 where something failed, 2 for a wrong call, 130 for Ctrl-C. */
export async function main(args: readonly string[], given: Surroundings = process): Promise<number> {
  let code = SUCCESS;
  const around = untilClosed(given);
  const program = new Command('otimes-experiments')
    .description('Tuned, resumable comparisons of optimizers, with a report.')
    .exitOverride()
    .configureOutput({
      writeOut: text => void around.stdout.write(text),
      writeErr: text => void around.stderr.write(text),
    })
    .showHelpAfterError('(--help says what there is)');
  const modules = () =>
    new Option(
      '--with <file>',
      'a module of your own that exports TASKS, CONTENDERS or PRESETS; may come several times',
    ).argParser(collect);
  const jobs = () =>
    new Option('--jobs <n>', 'trials side by side; default: as many as there are cores for').argParser(whole(1));
  program
    .command('list')
    .description('What can be run.')
    .addOption(modules())
    .action(async ({ with: files = [] }: Pick<Given, 'with'>) => {
      around.stdout.write(list(await loadLibrary(files)));
    });
  program
    .command('run')
    .description('Runs an experiment, or goes on with it where its folder has a part of it.')
    .argument('[name]', 'of a preset, see list')
    .option('--config <file>', 'an experiment of your own as JSON, in the place of a name')
    .addOption(modules())
    .option('--data <folder>', 'of the data set')
    .option('--out <folder>', 'of the run; default: runs/NAME')
    .addOption(new Option('--device <name>', 'that computes').choices(['cpu', 'gpu']).default('cpu'))
    .addOption(jobs())
    .option('--threads <n>', 'threads of each trial; CPU times are for 1', whole(1), 1)
    .option('--workers <n>', 'threads of each trial that prepare batches', whole(0), 0)
    .option('--seeds <n>', 'runs of each finalist, in the place of what the experiment says', whole(1))
    .option('--trials <n>', 'settings of each contender, likewise', whole(0))
    .option('--epochs <n>', 'budget of each trial, likewise', whole(1))
    .option('--contenders <a,b>', 'a part of the contenders', names)
    .option('--short', 'a test of a minute or less, whose numbers mean nothing')
    .option('--keep-weights', 'keeps the weights of final runs')
    .option('--note <text>', 'at the top of the report: what its readers must know of the data or the machine')
    .action(async (name: string | undefined, given: Given) => {
      code = await run(requestOf(name, given, await loadLibrary(given.with ?? [])), given.jobs, around);
    });
  program
    .command('resume')
    .description('Goes on with the run in a folder.')
    .argument('<folder>', 'as --out of run')
    .option('--data <folder>', 'of the data set, if it lies elsewhere now')
    .addOption(jobs())
    .action(async (folder: string, { data, jobs }: Pick<Given, 'data' | 'jobs'>) => {
      const { experiment, options, short } = readRequest(folder);
      checkExperiment(filesOf(folder).experiment, experiment, await loadLibrary(options.modules));
      const now = data === undefined ? options : { ...options, data: resolve(data) };
      code = await run({ folder, experiment, short, options: now }, jobs, around);
    });
  program
    .command('report')
    .description('Writes the report of a run, or of several with a league table.')
    .argument('<folders...>', 'of runs')
    .option('--out <folder>', 'for the files; of one run by default its own folder')
    .option('--baseline <contender>', 'beside which all others have a ratio as well')
    .option('--focus <contender>', 'of a league: with columns of its own (default: "steve")')
    .addOption(
      new Option(
        '--margin <ratio>',
        'of a league: the ratio of seconds that counts as clearly quicker (default: .77)',
      ).argParser(positive),
    )
    .addOption(new Option('--format <what>', 'which files').choices(['both', 'html', 'markdown']).default('both'))
    .action((folders: string[], o: ReportOptions) => {
      for (const file of writeReport(folders, o).files) around.stdout.write(`${file}\n`);
    });
  program.version(version(), '--version', 'which it is');
  try {
    await program.parseAsync([...args], { from: 'user' });
    return code;
  } catch (error) {
    // What commander has to say it has said.
    if (error instanceof CommanderError) return error.exitCode === 0 ? SUCCESS : WRONG;
    const { name, message } = error as Error;
    around.stderr.write(`otimes-experiments: ${message}\n`);
    return name === 'ChildFailed' || name === 'ChildDied' || name === 'LockedError' ? FAILURE : WRONG;
  }
}

/** Where nobody reads the output any more, as `head` when it has enough, a run stops as by Ctrl-C, and what is shorter ends unheard. */
function untilClosed({ stdout, stderr, env, signal }: Surroundings): Surroundings {
  const closed = new AbortController();
  stdout.on?.('error', error => {
    if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error;
    closed.abort();
  });
  return {
    stdout,
    stderr,
    env,
    signal: signal === undefined ? closed.signal : AbortSignal.any([signal, closed.signal]),
  };
}

const version = (): string => JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;

/** A line for each preset. */
function list({ presets, tasks }: Library): string {
  const rows = [...presets.values()].map(experiment => {
    const { name, title, contenders, tuning, epochs, seeds, task } = experiment;
    const trials = contenders.length * (tuning.trials + finalsOf(experiment));
    const data = tasks.get(task)?.data ?? null;
    return [
      `${name}: ${title}`,
      `  ${contenders.length} contenders, ${tuning.trials} settings of each, ${seeds} seeds: ${trials} trials of at most ${epochs} epochs`,
      ...(experiment.takes === undefined ? [] : [`  takes ${experiment.takes}`]),
      ...(data === null ? [] : [`  --data: ${data}`]),
    ].join('\n');
  });
  return `${rows.join('\n') || 'There are no presets.'}\n`;
}

/** Throws for what is wrong before anything is written. */
function requestOf(name: string | undefined, given: Given, library: Library): Omit<RunRequest, 'jobs' | 'listener'> {
  const { config, short = false } = given;
  if ((name === undefined) === (config === undefined))
    throw new Error(`run: expected the name of a preset or --config, got ${name === undefined ? 'neither' : 'both'}`);
  const chosen = config === undefined ? find('preset', library.presets, name!) : readExperiment(config, library);
  const experiment = adjusted(short ? shortened(chosen) : chosen, given);
  const changed = (['seeds', 'trials', 'epochs', 'contenders', 'short'] as const).filter(
    name => given[name] !== undefined,
  );
  const flags = changed.map(name => (name === 'short' ? '--short' : `--${name} ${given[name]}`)).join(' ');
  const changes = changed.filter(name => name !== 'short').map(name => `--${name} ${given[name]}`);
  if (given.data !== undefined && library.tasks.get(experiment.task)?.data === null)
    throw new ConfigError(`--data ${given.data}: the task '${experiment.task}' takes no folder`);
  checkExperiment(`${config ?? chosen.name}${flags && ` with ${flags}`}`, experiment, library);
  const options: RunOptions = {
    data: given.data === undefined ? null : resolve(given.data),
    device: given.device,
    threads: given.threads,
    workers: given.workers,
    modules: (given.with ?? []).map(path => resolve(path)),
    keepWeights: given.keepWeights ?? false,
  };
  if (given.out === '') throw new Error("run: expected --out to be a folder, got ''");
  const folder = given.out ?? join('runs', `${experiment.name}${short ? '-short' : ''}`);
  return { folder, experiment, options, short, changes, ...(given.note !== undefined && { note: given.note }) };
}

/** With what the command line says in the place of what the experiment says. */
function adjusted(experiment: Experiment, { seeds, trials, epochs, contenders }: Given): Experiment {
  return {
    ...experiment,
    ...(seeds !== undefined && { seeds }),
    ...(epochs !== undefined && { epochs }),
    ...(contenders !== undefined && { contenders }),
    ...(trials !== undefined && { tuning: { ...experiment.tuning, trials } }),
  };
}

async function run(
  request: Omit<RunRequest, 'jobs' | 'listener'>,
  given: number | undefined,
  around: Surroundings,
): Promise<number> {
  const { folder, options, experiment, short } = request;
  const begun = isBegun(request);
  if (begun && isFinished(folder, experiment)) {
    if (request.note !== undefined) setNote(folder, request.note);
    around.stdout.write(`${folder}: this run is finished. Its report: otimes-experiments report ${folder}\n`);
    return SUCCESS;
  }
  // Of a GPU there is one.
  const jobs =
    given ?? (options.device === 'cpu' ? Math.max(1, Math.floor(availableParallelism() / options.threads)) : 1);
  const live = around.stdout.isTTY === true && !around.env.NO_COLOR && around.env.TERM !== 'dumb';
  const progress = live ? liveProgress(around.stdout as WriteStream) : plainProgress(text => around.stdout.write(text));
  const kind = short ? ', shortened: its numbers mean nothing' : '';
  progress.note(`${begun ? 'Goes on with' : 'Runs'} ${experiment.name} in ${folder}, ${jobs} at a time${kind}.`);
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  around.signal?.addEventListener('abort', onSignal);
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, onSignal);
  // The launcher in a checkout has a channel to this process: without it nobody would see what comes.
  process.on('disconnect', onSignal);
  try {
    const { status, failed } = await runExperiment({
      ...request,
      ...{ jobs, listener: progress, env: around.env, signal: stop.signal },
    });
    progress.stop();
    if (status === 'finished') {
      const { html, markdown } = writeReport(folder);
      around.stdout.write(`Finished: ${folder}. Its report: ${html}, ${markdown}\n`);
      return SUCCESS;
    }
    const what =
      status === 'stopped'
        ? 'Stopped'
        : `${failed.length === 1 ? 'A trial' : `${failed.length} trials`} failed: ${failed.join(', ')}`;
    around.stderr.write(`${what}. ${howToGoOn(folder)}\n`);
    return status === 'stopped' ? STOPPED : FAILURE;
  } catch (error) {
    progress.stop();
    const { name, message } = error as Error;
    // Before the first trial: what is asked for is wrong, and nothing is there to go on with.
    if (name === 'ChildFailed' && !existsSync(filesOf(folder).experiment))
      throw new ConfigError(message, { cause: error });
    if (existsSync(folder) && name === 'ChildDied') around.stderr.write(`${howToGoOn(folder)}\n`);
    throw error;
  } finally {
    around.signal?.removeEventListener('abort', onSignal);
    for (const signal of signals) process.off(signal, onSignal);
    process.off('disconnect', onSignal);
  }
}

const howToGoOn = (folder: string): string =>
  `What was done is kept; a trial loses at most its last epoch. To go on: otimes-experiments resume ${folder}`;
