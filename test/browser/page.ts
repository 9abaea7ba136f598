/**
 * The one script of the pages of test/browser.test.ts. A page trains on its main thread, then in a worker that is made of
 * the same file, and leaves both reports in `reports`. `?only=` in the address chooses the runs.
 */

import { full, nextTask, setThreads } from '@otimes/core';
import { variants } from '@otimes/kernels';
import { type Report, train } from './train.ts';

/** Makes 1.2 GB of tensors, of which none is kept, with pauses; milliseconds of the shortest. */
async function churn(): Promise<number> {
  let shortest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 600; i++) {
    full([500_000], i);
    const start = performance.now();
    await nextTask();
    shortest = Math.min(shortest, performance.now() - start);
  }
  return shortest;
}

async function report(): Promise<Report> {
  return {
    isolated: crossOriginIsolated,
    variant: variants()[0],
    threads: await setThreads(2).catch((error: Error) => error.message),
    losses: await train(new URLSearchParams(location.search).get('only') ?? ''),
  };
}

function reportOfWorker(): Promise<Report> {
  return new Promise((resolve, reject) => {
    // In a worker `location` is that of the script.
    const worker = new Worker(new URL(location.search, import.meta.url), { type: 'module' });
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = event => reject(new Error(`worker: ${event.message}`));
  });
}

if (typeof document === 'undefined') postMessage(await report());
else
  Object.assign(globalThis, {
    churn,
    reports: report().then(async page => ({ page, worker: await reportOfWorker() })),
  });
