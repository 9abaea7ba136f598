/** Runs the program on a page's main thread, then in a worker, and leaves both results in `reports`. */
import { program } from './program.js';

function inWorker() {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = event => reject(new Error(`worker: ${event.message}`));
  });
}

globalThis.reports = program().then(async page => ({ page, worker: await inWorker() }));
