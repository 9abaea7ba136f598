// A thread that dies or cannot start is an error or a warning, never a wrong number or a wait; and the workers of browsers.

import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { createKernels, Threads } from '@otimes/kernels';
import t from 'tap';
import { host as browser } from '../kernels/src/browser.ts';
import type { Host } from '../kernels/src/host.ts';
import { host as node } from '../kernels/src/node.ts';
import { law } from './helpers/law.ts';
import { informer, saboteur } from './helpers/workers.ts';

/** So that calls of any size are cut. */
const TINY = { least: 0, piece: 1e-9, line: 1 };

law(t, 'a worker that stops is an error of the call, and setThreads repairs it', async t => {
  const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
  const n = 2 ** 16;
  const { pointer } = kernels.heap.allocate(4 * n)!;
  const { state, host } = saboteur();
  const threads = new Threads(kernels, { ...TINY, host });
  const run = () => kernels.exports.exp_f32(n, pointer, pointer);
  /** Calls until a worker has taken a piece. */
  const provoke = () => {
    for (let i = 0; i < 200; i++) run();
  };
  const cases: [what: string, code: string, message: RegExp][] = [
    ['throws', "throw new Error('a piece broke')", /stopped \(a piece broke\)/],
    ['traps', '(() => { const f = () => f() + 1; f(); })()', /stopped \(Maximum call stack/],
    ['calls process.exit', 'process.exit(7)', /stopped \(process\.exit\(7\)\)/],
    ['dies without a word', 'process.reallyExit(7)', /stopped, and tensors/],
  ];
  for (const [what, code, message] of cases) {
    state.code = code;
    t.equal(await threads.set(2), 2);
    const start = performance.now();
    t.throws(provoke, { name: 'Error', message }, what);
    t.throws(run, { message: /^threads: a worker thread stopped.*setThreads\(1\)/ }, 'and so the next call');
    t.ok(performance.now() - start < 5000);
    t.equal(await threads.set(1), 1);
    run();
    state.code = '';
    t.equal(await threads.set(3), 3);
    provoke();
    await threads.set(1);
  }

  // Terminated while it works on a piece, at the caller's first look.
  state.code = 'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5000)';
  state.terminate = true;
  await threads.set(2);
  const start = performance.now();
  t.throws(provoke, { message: /a worker thread stopped, and tensors/ }, 'terminated in a call');
  t.ok(performance.now() - start < 2000);
  Object.assign(state, { code: '', terminate: false });

  // Terminated between calls, of which nothing can be known yet: the caller does all the work.
  t.equal(await threads.set(2), 2, 'the same number again');
  void state.workers.at(-1)!.stop();
  await setTimeout(50);
  kernels.exports.fill_f32(n, 2, pointer);
  provoke();
  t.ok(kernels.memory.f32.subarray(pointer / 4, pointer / 4 + n).every(x => x === Number.POSITIVE_INFINITY));
  await threads.set(1);
});

law(t, 'a worker that exits between calls makes the next one throw', async t => {
  const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
  const { pointer } = kernels.heap.allocate(2 ** 18)!;
  const { host, tell } = informer();
  const threads = new Threads(kernels, { ...TINY, host });
  await threads.set(2);
  kernels.exports.neg_f32(2 ** 16, pointer, pointer);
  tell('stopped (exit code 1)');
  t.throws(() => kernels.exports.neg_f32(2 ** 16, pointer, pointer), { message: /stopped \(exit code 1\)/ });
  t.equal(await threads.set(2), 2, 'asking again starts new ones');
  kernels.exports.neg_f32(2 ** 16, pointer, pointer);
  await threads.set(1);
});

law(t, 'an error of the calling thread leaves the workers well', async t => {
  const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
  const threads = new Threads(kernels, TINY);
  await threads.set(2);
  const beyond = 2 ** 32 - 8;
  t.throws(() => kernels.exports.neg_f32(2 ** 16, beyond, beyond));
  await threads.set(2);
  const { pointer } = kernels.heap.allocate(2 ** 18)!;
  kernels.exports.fill_f32(2 ** 16, 1, pointer);
  t.equal(kernels.memory.f32[pointer / 4 + 2 ** 16 - 1], 1);
  await threads.set(1);
});

law(t, 'workers that cannot start are an error, and nothing is left behind', async t => {
  const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
  const { live } = kernels.heap.pool;
  for (const source of ['throw new Error("no luck");', 'process.reallyExit(3);']) {
    const host: Host = { ...node, startWorker: (_, data, stopped) => node.startWorker(source, data, stopped) };
    const threads = new Threads(kernels, { host });
    await t.rejects(threads.set(3), { message: /^setThreads: a worker thread did not start.*(no luck|exit code 3)/ });
    t.equal(threads.count, 1);
    t.equal(kernels.exports, kernels.compiled);
  }
  const host: Host = {
    ...node,
    startWorker() {
      throw new Error('workers are forbidden');
    },
  };
  await t.rejects(new Threads(kernels, { host }).set(2), { message: 'setThreads: workers are forbidden' });
  t.equal(kernels.heap.pool.live, live, 'scratch is given back');
});

law(t, 'where memory cannot be shared there is one thread, and it says why, once', async t => {
  const scope = globalThis as Record<string, unknown>;
  const kernels = createKernels({ memory: { initial: 2 ** 23 } })!;
  const said: string[] = [];
  const warn = (message: string) => said.push(message);
  const threads = new Threads(kernels, { host: browser, warn });
  t.equal(await threads.set(4), 1);
  t.equal(await threads.set(2), 1);
  t.equal(threads.count, 1);
  t.equal(said.length, 1);
  t.match(
    said[0],
    /^otimes: setThreads\(4\): one thread is used, as memory can be shared only on a page .*Opener-Policy/,
  );

  Object.assign(scope, { crossOriginIsolated: true, document: {}, Worker: class {} });
  t.teardown(() => {
    for (const name of ['crossOriginIsolated', 'document', 'Worker']) delete scope[name];
  });
  t.match(browser.whyOneThread(), /main thread of a page may not wait .* use otimes inside of a Worker/);
  delete scope.document;
  t.equal(browser.whyOneThread(), null);
  delete scope.Worker;
  t.match(browser.whyOneThread(), /no workers can be started/);

  const unshared = createKernels({ memory: { initial: 2 ** 23, shared: false } })!;
  t.notOk(unshared.memory.shared);
  t.equal(await new Threads(unshared, { warn }).set(2), 1);
  t.match(said.at(-1), /memory of these kernels is not shared/);

  scope.Worker = class {
    constructor() {
      throw new Error('Refused to create a worker');
    }
  };
  const refused = new Threads(kernels, { host: browser });
  await t.rejects(refused.set(2), { message: /did not start: Refused to create a worker; .*worker-src blob:/ });
});

/** A browser's Worker on top of Node's. */
class WebWorker {
  onmessage: (() => void) | null = null;
  onerror: ((event: { message: string }) => void) | null = null;
  readonly #worker: Promise<Worker>;

  constructor(url: string) {
    const prelude = `const { parentPort } = require('node:worker_threads');
      globalThis.postMessage = data => parentPort.postMessage(data);
      var onmessage;
      parentPort.on('message', data => onmessage({ data }));`;
    this.#worker = fetch(url)
      .then(response => response.text())
      .then(source => {
        const worker = new Worker(prelude + source.replace("'use strict';", ''), { eval: true, execArgv: [], env: {} });
        worker.on('message', () => {
          worker.unref();
          this.onmessage?.();
        });
        worker.on('error', ({ message }) => this.onerror?.({ message }));
        return worker;
      });
  }

  postMessage(data: object): void {
    void this.#worker.then(worker => worker.postMessage(data));
  }

  terminate(): void {
    void this.#worker.then(worker => worker.terminate());
  }
}

law(t, 'the workers of a browser compute the same', async t => {
  const scope = globalThis as Record<string, unknown>;
  Object.assign(scope, { crossOriginIsolated: true, Worker: WebWorker });
  t.teardown(() => {
    for (const name of ['crossOriginIsolated', 'Worker']) delete scope[name];
  });
  const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
  const threads = new Threads(kernels, { ...TINY, host: browser });
  t.equal(await threads.set(3), 3);
  const { pointer } = kernels.heap.allocate(2 ** 18)!;
  for (let i = 0; i < 50; i++) {
    kernels.exports.fill_f32(2 ** 16, i, pointer);
    kernels.exports.square_f32(2 ** 16, pointer, pointer);
    t.ok(kernels.memory.f32.subarray(pointer / 4, pointer / 4 + 2 ** 16).every(x => x === i * i));
  }
  t.equal(threads.runs, 100);
  t.equal(await threads.set(1), 1);
  const error = new Threads(kernels, {
    host: {
      ...browser,
      startWorker: (_, data, stopped) => browser.startWorker('throw new Error("boom");', data, stopped),
    },
  });
  await t.rejects(error.set(2), { message: /^setThreads: a worker did not start: boom/ });
});
