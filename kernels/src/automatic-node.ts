/** Threads that start by themselves, for Node: '#automatic' in package.json resolves to this file or to automatic-browser.ts. */

import { readFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import type { Kernels } from './instance.ts';
import { canAsk, cores } from './node.ts';
import { AutomaticThreads } from './threads/automatic.ts';

/** Threads at most. More than two were not measured, and cores that share their arithmetic are counted twice: a moderate number. */
const MOST = 4;

/**
 * Starts watching the kernels: once they have computed at length, they get threads (threads/automatic.ts). Not on one core, and not
 * in a worker, where a program distributes its work itself, nor in Deno and Bun, where it takes minutes to find out that a worker is gone.
 */
export function automaticThreads(kernels: Kernels): void {
  if (kernels.memory.shared && isMainThread && canAsk && cores() > 1)
    new AutomaticThreads(kernels, { threads: () => Math.min(MOST, cores(), quota()) });
}

/** Processors' worth of time that Linux grants this container, rounded down; infinite where it says nothing. */
function quota(): number {
  try {
    const [most, period] = readFileSync('/sys/fs/cgroup/cpu.max', 'utf8').split(' ').map(Number) as [number, number];
    return most > 0 ? Math.floor(most / period) : Number.POSITIVE_INFINITY;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
