/** The number of threads of a set of kernels: starts and ends the workers, and puts their exports in the others' place. */

import { host as ownHost } from '#host';
import { OTHERS, PRODUCTS } from '../generated/plans.gen.ts';
import type { Host } from '../host.ts';
import type { Kernels } from '../instance.ts';
import { dismiss, type Hired, hire, messageOf, type ThreadOptions, warnWith, whyOne } from './hire.ts';
import { SecondThread } from './second.ts';
import { split } from './split.ts';
import { MOST_WORKERS } from './worker.ts';

export class Threads {
  readonly #kernels: Kernels;
  readonly #o: ThreadOptions;
  readonly #host: Host;
  #hired: Hired | null = null;
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
    return this.#hired?.team.threads ?? 1;
  }

  /** Calls that the present threads have shared, or a lent one. */
  get runs(): number {
    return (this.#hired?.team ?? this.#second).runs;
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
    if (n === this.count && !this.#hired?.team.failure) return n;
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
    let hired: Hired | null = null;
    try {
      hired = hire(this.#kernels, this.#host, n - 1, this.#o.spin);
      await hired.team.ready();
    } catch (error) {
      if (hired !== null) await dismiss(this.#kernels, hired);
      throw new Error(`setThreads: ${messageOf(error)}`, { cause: error });
    }
    const { team } = hired;
    this.#hired = hired;
    this.#kernels.override('threads', below => split(below, team, [...PRODUCTS, ...OTHERS], this.#o));
    // Of no use beside them.
    await this.#second.end();
  }

  async #end(): Promise<void> {
    const hired = this.#hired;
    if (hired === null) return;
    this.#kernels.override('threads', null);
    this.#hired = null;
    await dismiss(this.#kernels, hired);
  }

  /** As `SecondThread.lend`. Where `set` has more than one thread in use, those share the products already. */
  lend<T>(run: () => T): T {
    return this.#hired === null ? this.#second.lend(run) : run();
  }
}
