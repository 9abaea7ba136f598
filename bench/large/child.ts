/**
 * One network under one optimizer, in a process of its own, so that its largest memory is its own. Is bundled by bench/large.ts;
 * reads a `Request` a line, and answers each with a line.
 */

import { readFileSync } from 'node:fs';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { setThreads } from '@otimes/core';
import {
  Adam,
  EKFAC,
  KFAC,
  type KroneckerOptions,
  KroneckerPreconditioner,
  type Optimizer,
  type Phase,
  STEVE,
} from '@otimes/optim';
import { type Network, type OptimizerName, problemOf } from './networks.ts';

export type Contender = {
  readonly spec: Network['spec'];
  readonly optimizer: OptimizerName;
  /** Of a Kronecker optimizer. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly threads: number;
};

/** What a step does beside training: nothing; it averages factors; it computes new bases as well. */
export type StepKind = 'plain' | 'statistics' | 'refresh';

export type Request =
  | { readonly steps: StepKind; readonly count: number }
  /** Begins a refresh and trains until the new bases have taken over, or for so many seconds. */
  | { readonly background: number }
  | { readonly describe: true };

/** Of a step, the mean: wall-clock time, CPU time of all threads, CPU time of the one that trains. */
export type Times = { readonly wall: number; readonly cpu: number; readonly thread: number };

export type Answer = Times & {
  readonly count: number;
  /** Milliseconds a step that the optimizer counts; null for Adam. */
  readonly phases: Readonly<Record<Phase, number>> | null;
  /** The longest step, milliseconds on the wall. */
  readonly longest: number;
  /** The largest resident memory since the process began, in bytes. */
  readonly peak: number;
  readonly loss: number;
};

const NEVER = 1e9;
const PHASES: readonly Phase[] = ['statistics', 'refresh', 'precondition', 'rest'];

const say = (answer: unknown) => process.stdout.write(`${JSON.stringify(answer)}\n`);
const failure = (error: unknown) => ({ error: error instanceof Error ? error.message.split('\n')[0] : String(error) });

const contender = JSON.parse(process.argv[2]!) as Contender;
if ((await setThreads(contender.threads)) !== contender.threads)
  throw new Error(`${contender.threads} threads were asked for, and are not to be had`);
const { model, batches, loss } = problemOf(contender.spec);
const optimizer = made();
let steps = 0;

/** That an option is refused is the answer to the first request. */
function made(): Optimizer {
  try {
    return make(contender);
  } catch (error) {
    say(failure(error));
    process.exit(1);
  }
}

function make({ optimizer: name, options }: Contender): Optimizer {
  const o = { lr: 1e-4, refreshEvery: NEVER, factorEvery: NEVER, refresh: 'sync', ...options } as KroneckerOptions;
  switch (name) {
    case 'adam':
      return new Adam(model.parameters(), { lr: 1e-4 });
    case 'steve':
      return new STEVE(model, o);
    case 'kfac':
      return new KFAC(model, o);
    case 'ekfac':
      return new EKFAC(model, o);
  }
}

/** CPU milliseconds of this thread (Linux; elsewhere wall-clock time). */
function threadTime(): number {
  try {
    return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
  } catch {
    return performance.now();
  }
}

function cpuTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e3;
}

const phasesNow = (): Record<Phase, number> | null =>
  optimizer instanceof KroneckerPreconditioner ? optimizer.report().milliseconds : null;

function step(): number {
  const [x, labels] = batches[steps++ % batches.length]!;
  optimizer.zeroGrad();
  const value = loss(x, labels);
  value.backward();
  optimizer.step();
  return value.item();
}

/** Steps while `goesOn`, which is asked after each with their number. */
function measure(goesOn: (count: number) => boolean): Answer {
  const before = phasesNow();
  const sum = { wall: 0, cpu: 0, thread: 0 };
  let [count, longest, last] = [0, 0, Number.NaN];
  do {
    const [wall, cpu, thread] = [performance.now(), cpuTime(), threadTime()];
    last = step();
    const own = performance.now() - wall;
    sum.wall += own;
    sum.cpu += cpuTime() - cpu;
    sum.thread += threadTime() - thread;
    longest = Math.max(longest, own);
    count++;
  } while (goesOn(count));
  const after = phasesNow();
  const each = (phase: Phase) => (after![phase] - before![phase]) / count;
  return {
    wall: sum.wall / count,
    cpu: sum.cpu / count,
    thread: sum.thread / count,
    count,
    longest,
    phases: after && (Object.fromEntries(PHASES.map(phase => [phase, each(phase)])) as Record<Phase, number>),
    peak: process.resourceUsage().maxRSS * 1024,
    loss: last,
  };
}

function setPeriods(kind: StepKind): void {
  if (!(optimizer instanceof KroneckerPreconditioner)) return;
  optimizer.refreshEvery = kind === 'refresh' ? 1 : NEVER;
  optimizer.factorEvery = kind === 'plain' ? NEVER : 1;
}

function background(seconds: number): Answer {
  if (!(optimizer instanceof KroneckerPreconditioner)) throw new Error('Adam has nothing to refresh');
  const end = performance.now() + 1000 * seconds;
  const { done } = optimizer.report().refreshes;
  setPeriods('refresh');
  const answer = measure(() => {
    setPeriods('plain');
    return optimizer.report().refreshes.inFlight > 0 && performance.now() < end;
  });
  const { refreshes } = optimizer.report();
  if (refreshes.failed > 0) throw new Error(`a refresh in the background failed: ${refreshes.lastError}`);
  if (refreshes.inFlight > 0 || refreshes.done === done)
    throw new Error(`no new basis after ${answer.count} steps in ${seconds} s`);
  return answer;
}

function reply(request: Request): unknown {
  if ('describe' in request)
    return { text: optimizer instanceof KroneckerPreconditioner ? String(optimizer.describe()) : 'Adam' };
  if ('background' in request) return background(request.background);
  setPeriods(request.steps);
  return measure(count => count < request.count);
}

for await (const line of createInterface({ input: process.stdin })) {
  try {
    say(reply(JSON.parse(line) as Request));
  } catch (error) {
    say(failure(error));
  }
}
process.exit(0);
