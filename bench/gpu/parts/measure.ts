/** Samples of a task: so many units without a read in between, and a read that waits for all of them. */

import { setTimeout } from 'node:timers/promises';
import type { BenchGpu } from './gpu.ts';
import type { Task } from './tasks.ts';

/** Milliseconds a unit. */
export type Sample = {
  readonly ms: number;
  /** In which the host was at work, until it had told the device everything. */
  readonly hostMs: number;
  /** In which the device was at work, by its own clock; null where that is not known. */
  readonly gpuMs: number | null;
  readonly dispatches: number;
  readonly submits: number;
};

/** Runs `count` units. */
export async function sample(task: Task, count: number, gpu: BenchGpu | null): Promise<Sample> {
  const before = gpu?.backend.stats;
  gpu?.clock?.start();
  let host = 0;
  const begun = performance.now();
  for (let i = 0; i < count; i++) {
    const from = performance.now();
    const promise = task.run();
    host += performance.now() - from;
    if (promise !== undefined) await promise;
  }
  await task.finish();
  const ms = (performance.now() - begun) / count;
  const after = gpu?.backend.stats;
  const told = gpu?.clock ? await gpu.clock.stop() : null;
  const whole = told !== null && told.missed === 0 && told.passes.length > 0;
  return {
    ms,
    hostMs: host / count,
    gpuMs: whole ? told.passes.reduce((sum, pass) => sum + pass.ms, 0) / count : null,
    dispatches: after === undefined ? 0 : (after.dispatches - before!.dispatches) / count,
    submits: after === undefined ? 0 : (after.submits - before!.submits) / count,
  };
}

/** Units without a new kernel after which no more are expected, units before that, and seconds after which it is given up. */
const [QUIET, FEWEST, GIVE_UP] = [3, 15, 10];

/** Runs units until no kernel is compiled any more: joined ones come after a dozen units. False where they still come. */
async function settle(task: Task, { backend }: BenchGpu): Promise<boolean> {
  const begun = performance.now();
  let quiet = 0;
  for (let units = 0; quiet < QUIET || units < FEWEST; units++) {
    if (performance.now() - begun > 1000 * GIVE_UP) return false;
    const { kernels } = backend.stats;
    await sample(task, 1, null);
    while (backend.stats.compiling > 0) await setTimeout(2);
    quiet = backend.stats.kernels === kernels ? quiet + 1 : 0;
  }
  return true;
}

/** A unit that takes longer is sampled alone, and not again and again. */
const LONG = 2000;

/**
 * How many units take about so many seconds, after a warm-up, and in how many rounds of them at most; and the first unit's
 * milliseconds, with all compiling.
 */
export async function warmUp(
  task: Task,
  seconds: number,
  gpu: BenchGpu | null,
): Promise<{ count: number; rounds: number; firstMs: number }> {
  const { ms: firstMs } = await sample(task, 1, gpu);
  const { ms } = await sample(task, 1, gpu);
  if (ms > LONG) return { count: 1, rounds: 1, firstMs };
  if (gpu !== null && !gpu.info.isFallbackAdapter && !(await settle(task, gpu)))
    console.log(`  kernels are still being compiled after ${GIVE_UP} s: the times below are too long`);
  let count = countFor((await sample(task, 1, gpu)).ms, seconds);
  if (count > 2) count = countFor((await sample(task, count, gpu)).ms, seconds);
  return { count, rounds: Infinity, firstMs };
}

const countFor = (ms: number, seconds: number): number => Math.max(1, Math.min(400, Math.round((1000 * seconds) / ms)));

export function median(xs: readonly number[]): number {
  const sorted = [...xs].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** The median of each number. */
export function medians(samples: readonly Sample[]): Sample {
  const of = (field: 'ms' | 'hostMs' | 'dispatches' | 'submits') => median(samples.map(one => one[field]));
  const gpu = samples.map(one => one.gpuMs).filter(ms => ms !== null);
  return {
    ms: of('ms'),
    hostMs: of('hostMs'),
    gpuMs: gpu.length === 0 ? null : median(gpu),
    dispatches: of('dispatches'),
    submits: of('submits'),
  };
}
