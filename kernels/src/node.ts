/** What Node adds to the host: V8's flags, and with them a synchronous garbage collection. See `Host`. */

import { setFlagsFromString } from 'node:v8';
import { createContext, runInNewContext, Script } from 'node:vm';
import type { Host } from './host.ts';

export const host: Host = {
  enableRelaxedSimd() {
    // Newer versions have it on and print an error for the unknown flag.
    if (Number(process.versions.node.split('.')[0]) < 21) setFlagsFromString('--experimental-wasm-relaxed-simd');
  },

  makeCollector() {
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
  },
};
