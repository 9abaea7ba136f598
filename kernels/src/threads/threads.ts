/** The number of threads of a set of kernels: starts and ends the workers, and puts their exports in the others' place. */

import { host as ownHost } from '#host';
import { ACCUMULATE, OTHERS, PRODUCTS } from '../generated/plans.gen.ts';
import type { Exports } from '../generated/types.gen.ts';
import type { Host } from '../host.ts';
import { type Kernels, moduleFor } from '../instance.ts';
import { type SplitOptions, split, wrapped } from './split.ts';
import { type Kernel, Team } from './team.ts';
import { MOST_WORKERS } from './worker.ts';

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

export type ThreadOptions = SplitOptions & {
  /** Where workers come from, defaults to what this package was bundled for. */
  readonly host?: Host;
  /** Told once why there is one thread alone, and when the second thread stopped; defaults to console.warn. */
  readonly warn?: (message: string) => void;
  /** Looks at the shared memory before a thread sleeps, defaults to 2,000. */
  readonly spin?: number;
};

/** Workers, and the scratch memory that they were given. */
type WorkerGroup = { readonly team: Team; readonly scratches: readonly number[] };

export class Threads {
  readonly #kernels: Kernels;
  readonly #o: ThreadOptions;
  readonly #host: Host;
  #workers: WorkerGroup | null = null;
  /** The second thread of `withHelper`, null where there can be none; and whether calls share their work with it now. */
  #helper: WorkerGroup | null | undefined;
  #helps = false;
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
    return this.#workers?.team.threads ?? 1;
  }

  /** Calls that the present threads have shared, or the second thread of `withHelper`. */
  get runs(): number {
    return (this.#workers ?? this.#helper)?.team.runs ?? 0;
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
    if (n === this.count && !this.#workers?.team.failure) return n;
    await this.#end();
    if (n === 1) return 1;
    const why = this.#whyOne();
    if (why !== null) {
      if (!this.#warned) this.#warn(`otimes: setThreads(${n}): one thread is used, as ${why}`);
      this.#warned = true;
      return 1;
    }
    await this.#start(n);
    return n;
  }

  #warn(message: string): void {
    (this.#o.warn ?? (message => console.warn(message)))(message);
  }

  #whyOne(): string | null {
    const why = this.#host.whyOneThread();
    if (why !== null || this.#kernels.memory.shared) return why;
    return 'the memory of these kernels is not shared; make them with `memory: { shared: true }`';
  }

  async #start(n: number): Promise<void> {
    let group: WorkerGroup | null = null;
    try {
      group = this.#startWorkers(n - 1);
      await group.team.ready();
    } catch (error) {
      if (group !== null) await this.#stopWorkers(group);
      throw new Error(`setThreads: ${messageOf(error)}`, { cause: error });
    }
    const { team } = group;
    this.#workers = group;
    this.#kernels.override('threads', below => split(below, team, [...PRODUCTS, ...OTHERS], this.#o));
    // Of no use beside them.
    const helper = this.#helper;
    this.#helper = undefined;
    if (helper) await this.#stopWorkers(helper);
  }

  async #end(): Promise<void> {
    const group = this.#workers;
    if (group === null) return;
    this.#kernels.override('threads', null);
    this.#workers = null;
    await this.#stopWorkers(group);
  }

  #startWorkers(count: number): WorkerGroup {
    const { compiled, heap, memory, scratch, variant } = this.#kernels;
    const scratches = Array.from({ length: count }, () => heap.pool.alloc(compiled.convScratch()));
    try {
      const [module, { spin }, host] = [moduleFor(memory.wasm, variant), this.#o, this.#host];
      const shared = { module, memory: memory.wasm, exports: compiled, scratch, scratches };
      return { team: new Team({ workers: count, host, spin, ...shared }), scratches };
    } catch (error) {
      this.#free(scratches);
      throw error;
    }
  }

  async #stopWorkers({ team, scratches }: WorkerGroup): Promise<void> {
    await team.stop();
    this.#free(scratches);
  }

  /** NOTE: not before the workers have ended, as they write to it. */
  #free(scratches: readonly number[]): void {
    const bytes = this.#kernels.compiled.convScratch();
    for (const scratch of scratches) this.#kernels.heap.pool.free(scratch, bytes);
  }

  // --- a second thread for a while ---------------------------------------------------------------------------------------

  /**
   * Runs `run`, which is synchronous, and lets a second thread share its long matrix products: results are the same to the
   * last bit. That thread starts with the first call, sleeps between calls, and is not waited for, so that a program that
   * never awaits anything has it too. Where `set` has more than one thread in use, those do it. Where the memory cannot be
   * shared, or the thread has stopped (which is warned about once), `run` has none.
   */
  withHelper<T>(run: () => T): T {
    const before = this.#helps;
    this.#helps = this.#workers === null && this.#hasHelper();
    try {
      return run();
    } finally {
      this.#helps = before;
    }
  }

  #hasHelper(): boolean {
    const failure = this.#helper?.team.failure;
    if (failure) this.#giveUp(failure);
    if (this.#helper === undefined) this.#helper = this.#whyOne() === null ? this.#startHelper() : null;
    return this.#helper !== null;
  }

  #startHelper(): WorkerGroup | null {
    try {
      const group = this.#startWorkers(1);
      // NOTE: stays in its place between calls, as every change of exports costs whoever calls them a millisecond.
      this.#kernels.override('threads', () => this.#products(group.team));
      return group;
    } catch (error) {
      this.#giveUp(error);
      return null;
    }
  }

  #giveUp(error: unknown): void {
    if (this.#helper) {
      this.#kernels.override('threads', null);
      void this.#stopWorkers(this.#helper);
    }
    this.#helper = null;
    this.#warn(`otimes: a second thread does not help any more, and one goes on alone: ${messageOf(error)}`);
  }

  /** Products on both threads. What the other one did not live to finish is computed again here, where that can be done. */
  #products(team: Team): Partial<Exports> {
    const { compiled } = this.#kernels;
    const shared = split(compiled, team, PRODUCTS, this.#o);
    const product = (name: 'sgemm' | 'dgemm') => {
      const [both, alone] = [shared[name] as Kernel, compiled[name] as Kernel];
      return wrapped(
        alone.length,
        alone,
        () => this.#helps,
        x => {
          // One that adds to its result can be made only once.
          if (x[ACCUMULATE] !== 0 || team.failure !== null) return alone(...x);
          try {
            return both(...x);
          } catch (error) {
            if (team.failure === null) throw error;
            return alone(...x);
          }
        },
      );
    };
    return { sgemm: product('sgemm'), dgemm: product('dgemm') } as Partial<Exports>;
  }
}
