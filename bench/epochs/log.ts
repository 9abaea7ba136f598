/** Runs that are remembered, in a file as well, so that what was stopped goes on where it was. */

import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { type Make, type Run, reached, run } from './run.ts';
import type { Task } from './tasks.ts';

export class RunLog {
  readonly #file: string | undefined;
  /** Runs by what they depend on, other than the target and the epochs after which they ended. */
  readonly #known = new Map<string, Run>();

  /** @param file of runs, one a line; those in it are not made again. Undefined: none is kept. */
  constructor(file: string | undefined) {
    this.#file = file;
    if (file === undefined || !existsSync(file)) return;
    for (const line of readFileSync(file, 'utf8').split('\n').filter(Boolean)) {
      const { key, run } = JSON.parse(line) as { key: string; run: Run };
      this.#known.set(key, run);
    }
  }

  /** @param key says all that the run depends on but the target and the number of epochs */
  runOf(key: string, task: Task, make: Make, o: { seed: number; epochs: number; target: number }): Run {
    const old = this.#known.get(key);
    if (old && (old.diverged || reached(old, o.target) || old.checks.at(-1)!.epoch >= o.epochs)) return old;
    const result = run(task, make, o);
    this.#known.set(key, result);
    if (this.#file !== undefined) appendFileSync(this.#file, `${JSON.stringify({ key, run: result })}\n`);
    return result;
  }
}
