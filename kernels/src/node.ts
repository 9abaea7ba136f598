/**
 * What Node adds to the host: V8's flags, and with them a synchronous garbage collection; worker threads, and native libraries.
 * Deno and Bun have Node's modules and come here too. See `Host`.
 */

import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { createContext, runInNewContext, Script } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { openBlas } from './blas/library.ts';
import type { Host, HostWorker } from './host.ts';

/** In front of a worker's source. NOTE: `exit` is emitted by process.exit, not by Worker.terminate. */
const PRELUDE = `
const { parentPort } = require('node:worker_threads');
parentPort.once('message', data => {
  process.on('exit', code => failed(data, 'process.exit(' + code + ')'));
  const next = start(data, () => parentPort.postMessage('ready'));
  if (next) parentPort.on('message', next);
});`;

/** What of Bun's globals we use. */
const { Bun } = globalThis as { readonly Bun?: { gc(now: boolean): void } };

/**
 * Whether a worker's event loop can be asked: Deno has no such function, and that of Bun prints that it is not there. NOTE:
 * what is left then is that threads wait two minutes for a worker that stopped.
 */
export const canAsk = Bun === undefined && process.versions.deno === undefined;

export function enableRelaxedSimd(): void {
  // Newer versions have it on and print an error for the unknown flag.
  if (Number(process.versions.node.split('.')[0]) < 21) setFlagsFromString('--experimental-wasm-relaxed-simd');
}

export function makeCollector(): (() => void) | null {
  if (Bun !== undefined) return () => Bun.gc(true);
  setFlagsFromString('--expose-gc');
  const gc: unknown = runInNewContext('gc');
  if (typeof gc !== 'function') return null;
  // NOTE: the language keeps the target of a WeakRef alive until the running job ends, which in a synchronous loop is
  // never. Evaluating any script in a context with microtasks of its own ends that; it runs none of the main queue.
  const context = createContext({}, { microtaskMode: 'afterEvaluate' });
  const nothing = new Script('0');
  return () => {
    nothing.runInContext(context);
    gc();
  };
}

export const cores = (): number => availableParallelism();
export const whyOneThread = (): string | null => null;
export const whyNoWorker = (): string | null => null;

export function startWorker(source: string, data: object, stopped: (how: string) => void): HostWorker {
  // Nothing of the program's own flags and environment: a loader would be loaded by every worker.
  const worker = new Worker(source + PRELUDE, { eval: true, execArgv: [], env: {} });
  let stopping = false;
  const end = (how: string) => {
    if (!stopping) stopped(how);
  };
  const ready = new Promise<void>((resolve, reject) => {
    worker.once('message', () => {
      // Only since now; until then the program waits for it.
      if (!stopping) worker.unref();
      if (canAsk) worker.performance.eventLoopUtilization();
      resolve();
    });
    worker.once('error', error => {
      end(`stopped (${error.message})`);
      reject(new Error(`a worker thread did not start: ${error.message}`, { cause: error }));
    });
    worker.once('exit', code => {
      end(`stopped (exit code ${code})`);
      reject(new Error(`a worker thread did not start (exit code ${code})`));
    });
  });
  worker.postMessage(data);
  return {
    ready,
    // NOTE: events come only when the event loop runs. This asks the thread itself, which answers −1 once it has stopped
    // (and 0 before its loop began, which the call at 'ready' rules out, and until this thread's loop has run since then).
    alive: () => worker.threadId !== -1 && (!canAsk || worker.performance.eventLoopUtilization().idle >= 0),
    post: data => worker.postMessage(data),
    release: () => worker.unref(),
    async stop() {
      stopping = true;
      await worker.terminate();
    },
  };
}

export { openBlas };

/** All of it, for who may be given another host. */
export const host: Host = { enableRelaxedSimd, makeCollector, cores, openBlas, whyOneThread, whyNoWorker, startWorker };
