/**
 * What differs between Node and browsers. `#host` in package.json resolves to node.ts or browser.ts by export condition,
 * so that no `node:` module reaches a browser's bundle.
 */

import type { BlasOptions, NativeBlas } from './blas.ts';

/** A thread that runs what `threads/worker.ts` or `background/worker.ts` says. Once it is ready it does not keep the program alive. */
export interface HostWorker {
  /** Resolves once it waits for calls; rejects where it cannot start. */
  readonly ready: Promise<void>;
  /**
   * False once it has certainly stopped. Asked while the caller's event loop stands still, and can tell only where that has
   * run since the worker was ready.
   */
  alive(): boolean;
  /** Sends what the function gets that `start` returned, also while the caller's event loop stands still. */
  post(data: object): void;
  /** From now on it does not keep the program alive, though it may not be ready yet. */
  release(): void;
  /** Ends it, and resolves when it has ended. */
  stop(): Promise<void>;
}

export interface Host {
  /** Turns relaxed SIMD on where the runtime has it behind a flag. */
  enableRelaxedSimd(): void;
  /**
   * A function that collects garbage before it returns and makes WeakRefs of unreachable objects empty, those made in the
   * running job too; null where there is none.
   */
  makeCollector(): (() => void) | null;
  /** Processors that this process may use, as the system tells; at least 1. */
  cores(): number;
  /** See `openBlas` of blas.ts. */
  openBlas(path: string | undefined, o: BlasOptions): Promise<NativeBlas>;
  /** Why kernels run on one thread here, and what to do about it; null where workers can share their memory. */
  whyOneThread(): string | null;
  /** The same, where it is enough that this thread looks at memory that it shares with a worker, and never waits. */
  whyNoWorker(): string | null;
  /**
   * Starts a worker that runs `source`, which defines `start(data, ready)` and `failed(data, error)`, with `data`. Where `start`
   * returns a function, that gets what is posted later. `stopped` is told how it ended, unless `stop` was called. Throws an
   * Error, or rejects `ready`, where it cannot start.
   */
  startWorker(source: string, data: object, stopped: (how: string) => void): HostWorker;
}
