/** A second thread for a while. */

import { host as ownHost } from '#host';
import { ACCUMULATE, PRODUCTS } from '../generated/plans.gen.ts';
import type { Exports } from '../generated/types.gen.ts';
import type { Kernels } from '../instance.ts';
import {
  messageOf,
  startWorkers,
  stopWorkers,
  type ThreadOptions,
  type WorkerGroup,
  warnWith,
  whyOne,
} from './group.ts';
import { split, wrapped } from './split.ts';
import type { Kernel, Team } from './team.ts';

export class SecondThread {
  readonly #kernels: Kernels;
  readonly #o: ThreadOptions;
  /** Null where there can be none. */
  #helper: WorkerGroup | null | undefined;
  #helps = false;

  constructor(kernels: Kernels, o: ThreadOptions = {}) {
    this.#kernels = kernels;
    this.#o = o;
  }

  /** Calls that the thread has shared. */
  get runs(): number {
    return this.#helper?.team.runs ?? this.#kernels.automatic?.runs ?? 0;
  }

  /**
   * Runs `run`, which is synchronous, and lets a second thread share its long matrix products: results are the same to the
   * last bit. That thread starts with the first call, sleeps between calls, and is not waited for, so that a program that
   * never awaits anything has it too. Where the memory cannot be shared, or the thread has stopped (which is warned about
   * once), `run` has none. Where threads start by themselves they do so now, and share all there is.
   */
  withHelper<T>(run: () => T): T {
    if (this.#kernels.automatic?.start()) return run();
    const before = this.#helps;
    this.#helps = this.#hasHelper();
    try {
      return run();
    } finally {
      this.#helps = before;
    }
  }

  /** Ends the thread, whose exports something else has replaced; the next `withHelper` starts another one. */
  async end(): Promise<void> {
    const helper = this.#helper;
    this.#helper = undefined;
    if (helper) await stopWorkers(this.#kernels, helper);
  }

  #hasHelper(): boolean {
    const failure = this.#helper?.team.failure;
    if (failure) this.#giveUp(failure);
    if (this.#helper === undefined) {
      const host = this.#o.host ?? ownHost;
      this.#helper = whyOne(this.#kernels, host) === null ? this.#help() : null;
    }
    return this.#helper !== null;
  }

  #help(): WorkerGroup | null {
    try {
      const group = startWorkers(this.#kernels, this.#o.host ?? ownHost, 1, this.#o.spin);
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
      void stopWorkers(this.#kernels, this.#helper);
    }
    this.#helper = null;
    warnWith(this.#o, `otimes: a second thread does not help any more, and one goes on alone: ${messageOf(error)}`);
  }

  /** Products on both threads, but for those that add to their result and can be made only once. */
  #products(team: Team): Partial<Exports> {
    const { compiled } = this.#kernels;
    const shared = split(compiled, team, PRODUCTS, this.#o, again => again!());
    const product = (name: 'sgemm' | 'dgemm') => {
      const [both, alone] = [shared[name] as Kernel, compiled[name] as Kernel];
      return wrapped(
        alone.length,
        alone,
        () => this.#helps,
        x => (x[ACCUMULATE] === 0 ? both : alone)(...x),
      );
    };
    return { sgemm: product('sgemm'), dgemm: product('dgemm') } as Partial<Exports>;
  }
}
