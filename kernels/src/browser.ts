/** The host where there is nothing to add but workers: a browser, or another runtime without V8's flags. See `Host`. */

import type { BlasOptions, NativeBlas } from './blas.ts';
import type { Host, HostWorker } from './host.ts';

/** What of a browser's globals we use, typed here because only TypeScript's DOM library declares it. */
type Scope = {
  readonly crossOriginIsolated?: boolean;
  readonly navigator?: { readonly hardwareConcurrency?: number };
  readonly document?: object;
  readonly Worker?: new (
    url: string,
  ) => {
    onmessage: (() => void) | null;
    onerror: ((event: { message?: string; preventDefault?(): void }) => void) | null;
    postMessage(data: object): void;
    terminate(): void;
  };
};
const scope = globalThis as Scope;

/** Behind a worker's source. */
const EPILOGUE = `
onmessage = event => {
  const next = start(event.data, () => postMessage('ready'));
  if (next) onmessage = event => next(event.data);
};`;

export function whyNoWorker(): string | null {
  if (typeof SharedArrayBuffer === 'undefined' || scope.crossOriginIsolated !== true)
    return (
      'memory can be shared only on a page that is cross-origin isolated; serve it with the headers ' +
      "'Cross-Origin-Opener-Policy: same-origin' and 'Cross-Origin-Embedder-Policy: require-corp'"
    );
  return scope.Worker === undefined ? 'no workers can be started from here' : null;
}

export const cores = (): number => scope.navigator?.hardwareConcurrency ?? 1;

export function enableRelaxedSimd(): void {}

export const makeCollector = (): (() => void) | null => null;

export const openBlas = (_path: string | undefined, _o: BlasOptions): Promise<NativeBlas> =>
  Promise.reject(new Error('useBlas: native libraries need Node; here the WebAssembly kernels do the work'));

export function whyOneThread(): string | null {
  const why = whyNoWorker();
  if (scope.document === undefined) return why;
  // NOTE: so the memory of a page's main thread is not shared either, whose buffers some interfaces refuse.
  if (why === null) return 'the main thread of a page may not wait for other threads; use otimes inside of a Worker';
  return `${why}, and use otimes inside of a Worker`;
}

export function startWorker(source: string, data: object, stopped: (how: string) => void): HostWorker {
  const why = "a page's Content-Security-Policy must allow workers from blobs (worker-src blob:)";
  const url = URL.createObjectURL(new Blob([source, EPILOGUE], { type: 'text/javascript' }));
  try {
    const worker = new scope.Worker!(url);
    const ready = new Promise<void>((resolve, reject) => {
      worker.onmessage = () => {
        URL.revokeObjectURL(url);
        resolve();
      };
      worker.onerror = event => {
        event.preventDefault?.();
        URL.revokeObjectURL(url);
        stopped(`stopped (${event.message || `no reason given; ${why}`})`);
        reject(new Error(`a worker did not start: ${event.message || `no reason given; ${why}`}`));
      };
    });
    worker.postMessage(data);
    return {
      ready,
      alive: () => true, // nothing tells
      post: data => worker.postMessage(data),
      release() {}, // a page outlives none of them
      async stop() {
        worker.onerror = null;
        worker.terminate();
      },
    };
  } catch (error) {
    URL.revokeObjectURL(url);
    throw new Error(`a worker did not start: ${error instanceof Error ? error.message : error}; ${why}`, {
      cause: error,
    });
  }
}

/** All of it, for who may be given another host. Whoever imports single functions bundles no more. */
export const host: Host = { enableRelaxedSimd, makeCollector, cores, openBlas, whyOneThread, whyNoWorker, startWorker };
