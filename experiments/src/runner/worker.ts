/** A child process of a run: opens the task once, and does trials one after the other as it is told. Ends with its parent. */

import { setThreads } from '@otimes/core';
import { initGpu } from '@otimes/gpu';
import type { OpenTask, Task } from '../experiment.ts';
import { find, type Library, loadLibrary } from '../library.ts';
import { factsOf } from './facts.ts';
import { filesOf } from './files.ts';
import type { Answer, Order, Setup } from './messages.ts';
import { stepTimes } from './timing.ts';
import { runTrial } from './trial.ts';

type Opened = { readonly setup: Setup; readonly library: Library; readonly task: Task; readonly open: OpenTask };

let opened: Promise<Opened> | null = null;

async function open(setup: Setup): Promise<Opened> {
  const { experiment, options } = setup;
  await setThreads(options.threads);
  if (options.device === 'gpu') await initGpu();
  const library = await loadLibrary(options.modules);
  const task = find('task', library.tasks, experiment.task);
  const { data, device, workers } = options;
  return { setup, library, task, open: await task.open({ data, device, workers, options: experiment.taskOptions }) };
}

async function answer(order: Exclude<Order, { kind: 'setup' }>): Promise<Answer> {
  if (opened === null) throw new Error('worker: expected a setup first');
  const { setup, library, task, open } = await opened;
  const { experiment, folder, options } = setup;
  const contenderOf = (name: string) => find('contender', library.contenders, name);
  if (order.kind === 'facts') {
    const contenders = experiment.contenders.map(contenderOf);
    return { kind: 'facts', facts: await factsOf(experiment, task, open, contenders, options.device) };
  }
  if (order.kind === 'timing') {
    const { finalists, period, limits } = order;
    const { device } = options;
    const timing = await stepTimes({ experiment, task: open, finalists, contenderOf, period, device, limits });
    return { kind: 'timing', timing };
  }
  const { trial, giveUpAfter } = order;
  const files = filesOf(folder);
  await runTrial({
    ...{ experiment, trial, task: open, metric: task.metric, contender: contenderOf(trial.contender) },
    giveUpAfter: giveUpAfter ?? Infinity,
    record: files.record(trial.id),
    checkpoint: files.checkpoint(trial.id),
    ...(options.keepWeights && trial.stage === 'final' && { weights: files.weights(trial.id) }),
    onProgress: progress => tell({ kind: 'progress', progress }),
    beforeWrite: endWithoutParent,
  });
  return { kind: 'trial' };
}

const tell = (message: Answer): void => void process.send?.(message);

/** Nobody waits for what an orphan writes, and another run may be in its folder. */
function endWithoutParent(): void {
  if (!process.connected) process.exit(1);
}

process.on('disconnect', () => process.exit(1));
// At the terminal all processes get the signal: the parent says when children end.
process.on('SIGINT', () => {});
process.on('message', (order: Order) => {
  if (order.kind === 'setup') {
    opened = open(order.setup);
    // Told by the first order.
    opened.catch(() => {});
    return;
  }
  answer(order).then(tell, (error: unknown) => {
    const { message, stack = message } = error instanceof Error ? error : new Error(String(error));
    process.send?.({ kind: 'failed', message, stack } satisfies Answer, () => process.exit(1));
  });
});
