/** The number of threads of a set of kernels: starts and ends the workers, and puts their exports in the others' place. */

import { host as ownHost } from '#host';
import type { Host } from '../host.ts';
import { type Kernels, moduleFor } from '../instance.ts';
import { type SplitOptions, split } from './split.ts';
import { Team } from './team.ts';
import { MOST_WORKERS } from './worker.ts';

export type ThreadOptions = SplitOptions & {
  /** Where workers come from, defaults to what this package was bundled for. */
  readonly host?: Host;
  /** Told once why there is one thread alone, defaults to console.warn. */
  readonly warn?: (message: string) => void;
  /** Looks at the shared memory before a thread sleeps, defaults to 2,000. */
  readonly spin?: number;
};

export class Threads {
  readonly #kernels: Kernels;
  readonly #o: ThreadOptions;
  readonly #host: Host;
  #team: Team | null = null;
  #scratches: readonly number[] = [];
  #warned = false;
  /** Changes run one after the other. */
  #changes: Promise<unknown> = Promise.resolve();

  constructor(kernels: Kernels, o: ThreadOptions = {}) {
    this.#kernels = kernels;
    this.#o = o;
    this.#host = o.host ?? ownHost;
  }

  /** Threads in use now. */
  get count(): number {
    return this.#team?.threads ?? 1;
  }

  /** Calls that the present threads have shared. */
  get runs(): number {
    return this.#team?.runs ?? 0;
  }

  /**
   * Changes to `n` threads, the caller among them; resolves to how many are in use, once they are. Until then calls run on
   * one thread. Throws a RangeError unless n is a whole number of at least 1, and rejects where a worker does not start.
   */
  set(n: number): Promise<number> {
    if (!Number.isInteger(n) || n < 1 || n > MOST_WORKERS + 1)
      throw new RangeError(
        `setThreads: the number of threads is a whole number from 1 to ${MOST_WORKERS + 1}, got ${n}`,
      );
    const change = this.#changes.then(() => this.#change(n));
    this.#changes = change.catch(() => {});
    return change;
  }

  async #change(n: number): Promise<number> {
    if (n === this.count && !this.#team?.failed) return n;
    await this.#end();
    if (n === 1) return 1;
    const why = this.#whyOne();
    if (why !== null) {
      if (!this.#warned)
        (this.#o.warn ?? (message => console.warn(message)))(`otimes: setThreads(${n}): one thread is used, as ${why}`);
      this.#warned = true;
      return 1;
    }
    await this.#start(n);
    return n;
  }

  #whyOne(): string | null {
    const why = this.#host.whyOneThread();
    if (why !== null || this.#kernels.memory.shared) return why;
    return 'the memory of these kernels is not shared; make them with `memory: { shared: true }`';
  }

  async #start(n: number): Promise<void> {
    const { compiled, heap, memory, scratch, variant } = this.#kernels;
    const bytes = compiled.convScratch();
    this.#scratches = Array.from({ length: n - 1 }, () => heap.pool.alloc(bytes));
    try {
      this.#team = await Team.start({
        workers: n - 1,
        host: this.#host,
        module: moduleFor(memory.wasm, variant),
        memory: memory.wasm,
        exports: compiled,
        scratch,
        scratches: this.#scratches,
        spin: this.#o.spin,
      });
    } catch (error) {
      this.#free();
      throw new Error(`setThreads: ${error instanceof Error ? error.message : error}`, { cause: error });
    }
    const team = this.#team;
    this.#kernels.override('threads', below => split(below, team, variant, this.#o));
  }

  async #end(): Promise<void> {
    const team = this.#team;
    if (team === null) return;
    this.#kernels.override('threads', null);
    this.#team = null;
    await team.stop();
    this.#free();
  }

  /** NOTE: not before the workers have ended, as they write to it. */
  #free(): void {
    const bytes = this.#kernels.compiled.convScratch();
    for (const scratch of this.#scratches) this.#kernels.heap.pool.free(scratch, bytes);
    this.#scratches = [];
  }
}
