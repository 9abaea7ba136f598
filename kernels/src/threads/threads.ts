/** The number of threads of a set of kernels: starts and ends the workers, and puts their exports in the others' place. */

import { host as ownHost } from '#host';
import type { Host } from '../host.ts';
import type { Kernels } from '../instance.ts';
import {
  messageOf,
  shareParts,
  startWorkers,
  stopWorkers,
  type ThreadOptions,
  type WorkerGroup,
  warnWith,
  whyOne,
} from './group.ts';
import { SecondThread } from './second.ts';
import { plansOf, split } from './split.ts';
import { MOST_WORKERS } from './worker.ts';

export class Threads {
  readonly #kernels: Kernels;
  readonly #o: ThreadOptions;
  readonly #host: Host;
  #workers: WorkerGroup | null = null;
  readonly #second: SecondThread;
  #warned = false;
  /** Changes run one after the other. */
  #changes: Promise<unknown> = Promise.resolve();

  /** `second` is ended when others start. */
  constructor(kernels: Kernels, o: ThreadOptions = {}, second: SecondThread = new SecondThread(kernels, o)) {
    this.#kernels = kernels;
    this.#second = second;
    this.#o = o;
    this.#host = o.host ?? ownHost;
  }

  /** Threads in use now. */
  get count(): number {
    return this.#workers?.team.threads ?? this.#kernels.automatic?.count ?? 1;
  }

  /** Calls that the present threads have shared, or the second one. */
  get runs(): number {
    return (this.#workers?.team ?? this.#second).runs;
  }

  /**
   * Changes to `n` threads, the caller among them, and lets none start by themselves any more; resolves to how many are in use, once they are. Until then calls run on
   * one thread. Throws a RangeError unless n is a whole number of at least 1, and rejects where a worker does not start.
   */
  set(n: number): Promise<number> {
    if (!Number.isInteger(n) || n < 1 || n > MOST_WORKERS + 1)
      throw new RangeError(
        `setThreads: the number of threads is a whole number from 1 to ${MOST_WORKERS + 1}, got ${n}`,
      );
    // At once, so that a program that does not await this computes on one thread too.
    const ended = this.#kernels.automatic?.end();
    const change = this.#changes.then(() => ended).then(() => this.#change(n));
    this.#changes = change.catch(() => {});
    return change;
  }

  async #change(n: number): Promise<number> {
    if (n === this.count && !this.#workers?.team.failure) return n;
    await this.#end();
    if (n === 1) return 1;
    const why = whyOne(this.#kernels, this.#host);
    if (why !== null) {
      if (!this.#warned) warnWith(this.#o, `otimes: setThreads(${n}): one thread is used, as ${why}`);
      this.#warned = true;
      return 1;
    }
    await this.#start(n);
    return n;
  }

  async #start(n: number): Promise<void> {
    let group: WorkerGroup | null = null;
    try {
      group = startWorkers(this.#kernels, this.#host, n - 1, this.#o.spin);
      await group.team.ready();
    } catch (error) {
      if (group !== null) await stopWorkers(this.#kernels, group);
      throw new Error(`setThreads: ${messageOf(error)}`, { cause: error });
    }
    const workers = group;
    this.#workers = workers;
    this.#kernels.threads = workers.team.threads;
    this.#kernels.override('threads', below => {
      shareParts(this.#kernels, workers);
      return split(below, workers.team, plansOf(this.#kernels), this.#o);
    });
    // Of no use beside them.
    await this.#second.end();
  }

  async #end(): Promise<void> {
    const group = this.#workers;
    if (group === null) return;
    this.#kernels.override('threads', null);
    this.#kernels.threads = undefined;
    this.#workers = null;
    await stopWorkers(this.#kernels, group);
  }

  /** As `SecondThread.withHelper`. Where `set` has more than one thread in use, those share the products already. */
  withHelper<T>(run: () => T): T {
    return this.#workers === null ? this.#second.withHelper(run) : run();
  }
}
