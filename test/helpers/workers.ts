// Workers that are watched, or do what they should not.

import type { Host, HostWorker } from '../../kernels/src/host.ts';
import { host as node } from '../../kernels/src/node.ts';

/** Node's workers with code in front of their pieces; `workers` has those that were started. */
export function saboteur() {
  const workers: HostWorker[] = [];
  const state = { code: '', terminate: false, workers };
  const host: Host = {
    ...node,
    startWorker(source, data, stopped) {
      const before = 'const piece = at => {';
      if (!source.includes(before)) throw new Error('the source of workers has changed');
      const worker = node.startWorker(source.replace(before, `${before} ${state.code};`), data, stopped);
      workers.push(worker);
      return {
        ...worker,
        alive() {
          if (state.terminate) void worker.stop();
          return worker.alive();
        },
      };
    },
  };
  return { state, host };
}

/** Node's host, and a way to say of its last worker that it stopped. */
export function informer() {
  let last: (how: string) => void = () => {};
  const host: Host = {
    ...node,
    startWorker(source, data, stopped) {
      last = stopped;
      return node.startWorker(source, data, stopped);
    },
  };
  return { host, tell: (how: string) => last(how) };
}
