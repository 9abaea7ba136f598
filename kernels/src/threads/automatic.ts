/** Threads that start by themselves, once a program has been seen to make long calls for a while. */

import { host as ownHost } from '#host';
import type { Automatic, Kernels, Loaded } from '../instance.ts';
import {
  messageOf,
  shareParts,
  startWorkers,
  stopWorkers,
  type ThreadOptions,
  type WorkerGroup,
  warnWith,
} from './group.ts';
import { plansOf, type Rescue, split, watched } from './split.ts';

/** Nanoseconds of one thread from which a call counts: a second thread ends it clearly sooner, also if it has to be woken. */
const COUNTED = 200_000;
/** Nanoseconds of such calls after which threads start: ten times what that costs, so that short programs never pay for it. */
const AFTER = 300e6;

export type AutomaticOptions = ThreadOptions & {
  /** Threads to be, the caller among them. Asked when they start; where it is below 2, they never do. */
  readonly threads: () => number;
  /** See `COUNTED` and `AFTER`, the defaults, in nanoseconds. */
  readonly counted?: number;
  readonly after?: number;
};

export class AutomaticThreads implements Automatic {
  readonly #kernels: Kernels;
  readonly #o: AutomaticOptions;
  #group: WorkerGroup | null = null;
  #worked = 0;
  #over = false;

  /** Watches from now on what the kernels do. They must have a shared memory, and no other threads. */
  constructor(kernels: Kernels, o: AutomaticOptions) {
    this.#kernels = kernels;
    this.#o = o;
    const { counted = COUNTED, after = AFTER } = o;
    kernels.override('threads', below =>
      watched(below, plansOf(kernels), counted, ns => {
        this.#worked += ns;
        if (this.#worked >= after) this.start();
      }),
    );
    kernels.automatic = this;
  }

  /** As many as there will be, once all workers have come up; 1 before. */
  get count(): number {
    const team = this.#group?.team;
    return team !== undefined && team.up === team.threads ? team.threads : 1;
  }

  get runs(): number {
    return this.#group?.team.runs ?? 0;
  }

  /**
   * Starts them now, unless they have been. Calls are shared from now on, and workers take part as they come up, also in a
   * program that never awaits anything. Returns whether there are any. NOTE: called in the middle of operations, so nothing
   * here may collect garbage.
   */
  start(): boolean {
    if (this.#group !== null || this.#over) return this.#group !== null;
    const threads = this.#o.threads();
    if (threads < 2) {
      void this.end();
      return false;
    }
    try {
      const group = startWorkers(this.#kernels, this.#o.host ?? ownHost, threads - 1, this.#o.spin, true);
      this.#group = group;
      this.#kernels.threads = group.team.threads;
      this.#kernels.override('threads', below => this.#shared(below, group));
    } catch (error) {
      this.#giveUp(error);
    }
    return this.#group !== null;
  }

  /** No threads from now on, nor a watch; resolves when the workers have ended. */
  async end(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    const group = this.#group;
    this.#group = null;
    this.#kernels.automatic = undefined;
    this.#kernels.threads = undefined;
    this.#kernels.override('threads', null);
    if (group !== null) await stopWorkers(this.#kernels, group);
  }

  #shared(below: Loaded, group: WorkerGroup): Partial<Loaded> {
    shareParts(this.#kernels, group);
    const rescue: Rescue = again => {
      const failure = group.team.failure!;
      this.#giveUp(failure);
      if (again !== null) return again();
      throw new Error(
        `threads: ${failure.message}, and tensors that were being computed hold anything; what follows has one thread`,
        { cause: failure },
      );
    };
    return split(below, group.team, plansOf(this.#kernels), this.#o, rescue);
  }

  #giveUp(error: unknown): void {
    if (this.#over) return;
    void this.end();
    warnWith(this.#o, `otimes: the device 'cpu' goes on with one thread: ${messageOf(error)}`);
  }
}
