/** On how many threads the device 'cpu' computes. */

import { SecondThread, Threads } from '@otimes/kernels';
import { getBackend } from './backends/registry.ts';
import { WasmBackend } from './backends/wasm/index.ts';
import { aFunction, checkArgument } from './check.ts';

// Made when first asked for; by backend, as the device may be registered anew. Apart, so that a bundle with `withSecondThread`
// alone has nothing of the other.
const threadsOf = new WeakMap<WasmBackend, Threads>();
const secondOf = new WeakMap<WasmBackend, SecondThread>();

function cpu(): WasmBackend | null {
  const backend = getBackend('cpu');
  return backend instanceof WasmBackend ? backend : null;
}

function secondThread(backend: WasmBackend): SecondThread {
  const second = secondOf.get(backend) ?? new SecondThread(backend.kernels);
  secondOf.set(backend, second);
  return second;
}

let warned = false;

/**
 * Lets the device 'cpu' compute on `n` threads, this one among them, from now on. Await it: it resolves to the number in use
 * once the workers are ready, and until then all runs on one thread. Results are the same to the last bit for every n.
 * Workers sleep between calls and do not keep the program alive.
 *
 * Where it was never called, Node begins with one thread and starts up to three more by itself once calls of 0.2 ms and longer
 * add up to about 0.3 s; not on one core, nor in a worker_threads Worker. `setThreads(1)` turns that off.
 *
 * Where threads cannot share memory (a page that is not cross-origin isolated, a page's main thread, no WebAssembly SIMD) it
 * resolves to 1 and says why on the console, once. Throws a RangeError unless n is a whole number from 1 to 64; rejects with
 * an Error where a worker does not start. If one stops later, operations that would use it throw an Error until the next
 * setThreads. Of workers that started by themselves the operation's work is done again where it can be, a warning says so, and
 * one thread goes on.
 */
export async function setThreads(n: number): Promise<number> {
  const backend = cpu();
  if (backend !== null) {
    const threads = threadsOf.get(backend) ?? new Threads(backend.kernels, {}, secondThread(backend));
    threadsOf.set(backend, threads);
    return threads.set(n);
  }
  if (!Number.isInteger(n) || n < 1)
    throw new RangeError(`setThreads: the number of threads is a whole number of at least 1, got ${n}`);
  if (n > 1 && !warned) {
    warned = true;
    console.warn(`otimes: setThreads(${n}): one thread is used, as the device 'cpu' has no WebAssembly SIMD here`);
  }
  return 1;
}

/**
 * Runs `run`, which is synchronous and returns what this returns, and lets a second thread share its long matrix products on
 * the device 'cpu', to the same last bit: for a burst of work in a program that otherwise computes on one thread. With
 * `setThreads(n)` in force it does nothing, as those threads share them already; where threads start by themselves they do now.
 *
 * The second thread starts with the first call and takes part once it runs; it sleeps between calls and does not keep the
 * program alive. Where threads cannot share memory, `run` has this one alone. If the second thread stops, a warning says so
 * once, this one computes again what was lost, and goes on alone.
 */
export function withSecondThread<T>(run: () => T): T {
  checkArgument('withSecondThread', 'run', run, aFunction);
  const backend = cpu();
  const result = backend === null ? run() : (threadsOf.get(backend) ?? secondThread(backend)).withHelper(run);
  if (result instanceof Promise)
    throw new TypeError('withSecondThread: expected a synchronous function, got one that returns a promise');
  return result;
}

/** The number of threads that the device 'cpu' computes on now. */
export function getThreads(): number {
  const backend = cpu();
  return (backend && (threadsOf.get(backend) ?? backend.kernels.automatic)?.count) ?? 1;
}
