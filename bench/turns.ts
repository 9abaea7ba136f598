/** A step beside PyTorch's on one thread: CPU milliseconds, in turns, the medians of rounds and of their ratios. */

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const ROUNDS = 9;

/** PyTorch's step, in a process of its own that takes a number of steps at a time; null where there is no PyTorch. */
async function peer(
  script: string,
  name: string,
): Promise<{ run(calls: number): Promise<number>; end(): void } | null> {
  const path = fileURLToPath(new URL(`peers/${script}`, import.meta.url));
  const child = spawn('/usr/bin/python3', [path, name], { stdio: ['pipe', 'pipe', 'ignore'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  child.on('error', () => {});
  if ((await lines.next()).done) return null;
  return {
    async run(calls) {
      child.stdin.write(`${calls}\n`);
      return Number((await lines.next()).value);
    },
    end: () => child.stdin.end(),
  };
}

const median = (x: readonly number[]) => [...x].sort((a, b) => a - b)[Math.floor(x.length / 2)]!;

/**
 * Columns of a row: our milliseconds a call, PyTorch's, and how many times as fast we are; NaN where there is no PyTorch.
 *
 * @param script in bench/peers, which is told `name`
 * @param calls in each of the rounds
 */
export async function inTurns(script: string, name: string, step: () => void, calls: number): Promise<string> {
  const other = await peer(script, name);
  const own = (n: number) => {
    const start = process.cpuUsage();
    for (let i = 0; i < n; i++) step();
    const { user, system } = process.cpuUsage(start);
    return (user + system) / 1000 / n;
  };
  own(3 * calls);
  await other?.run(calls);
  const times: { own: number; other: number }[] = [];
  for (let round = 0; round < ROUNDS; round++)
    times.push({ own: own(calls), other: (await other?.run(calls)) ?? Number.NaN });
  other?.end();
  const columns = [times.map(t => t.own), times.map(t => t.other), times.map(t => t.other / t.own)].map(median);
  return columns.map((x, i) => x.toFixed(2).padStart(i < 2 ? 11 : 12)).join('');
}
