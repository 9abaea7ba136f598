// A thread that is lent to products while a loop never awaits.

import { setTimeout } from 'node:timers/promises';
import { createKernels, gemm as multiply, type ThreadOptions, Threads } from '@otimes/kernels';
import t from 'tap';
import { host as browser } from '../kernels/src/browser.ts';
import type { Host } from '../kernels/src/host.ts';
import { host as node } from '../kernels/src/node.ts';
import { noise } from './helpers/kernels.ts';
import { law } from './helpers/law.ts';
import { informer, saboteur } from './helpers/workers.ts';

/** So that calls of any size are cut. */
const TINY = { least: 0, piece: 1e-9, line: 1 };

/** A product [n, n] = [n, n] [n, n] of known operands in a memory of its own; `product` returns C's bytes. */
function products(o: ThreadOptions) {
  const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
  const n = 64;
  const block = () => kernels.heap.allocate(4 * n * n)!.pointer;
  const [a, b, c] = [block(), block(), block()];
  const next = noise(9);
  for (const at of [a, b]) for (let i = 0; i < n * n; i++) kernels.memory.f32[at / 4 + i] = next();
  const product = (accumulate = false) => {
    if (!accumulate) kernels.memory.f32.fill(Number.NaN, c / 4, c / 4 + n * n);
    multiply(kernels, {
      dtype: 'float32',
      m: n,
      n,
      k: n,
      a,
      aRow: n,
      aCol: 1,
      b,
      bRow: 1,
      bCol: n,
      c,
      cRow: n,
      accumulate,
    });
    return Buffer.from(kernels.memory.u8.slice(c, c + 4 * n * n));
  };
  const said: string[] = [];
  const threads = new Threads(kernels, { ...TINY, warn: message => said.push(message), ...o });
  const alone = product();
  /** Lends until `enough`, without ever awaiting. */
  const until = (enough: () => boolean) => {
    const end = performance.now() + 20_000;
    while (!enough() && performance.now() < end) {
      const bits = threads.withHelper(() => product());
      if (!bits.equals(alone)) throw new Error('other bits');
    }
    if (!enough()) throw new Error('not within 20 seconds');
  };
  return { kernels, threads, said, product, alone, until, live: kernels.heap.pool.live };
}

/** Node's workers, which count their pieces in `count`. */
function counted() {
  const count = new Int32Array(new SharedArrayBuffer(4));
  const host: Host = {
    ...node,
    startWorker(source, data, stopped) {
      const before = 'const piece = at => {';
      const counts = source.replace(before, `${before} Atomics.add(data.count, 0, 1);`);
      return node.startWorker(counts, { ...data, count }, stopped);
    },
  };
  return { host, pieces: () => Atomics.load(count, 0) };
}

law(t, 'a lent thread takes part in products, in a loop that never awaits, and only while it is lent', async t => {
  const { host, pieces } = counted();
  const { threads, said, product, alone, until } = products({ host });
  t.equal(
    threads.withHelper(() => 'what it returns'),
    'what it returns',
  );
  until(() => pieces() > 3);
  t.equal(threads.count, 1);
  const { runs } = threads;
  t.strictSame(product(), alone);
  t.equal(threads.runs, runs, 'not lent');
  threads.withHelper(() => {
    t.equal(threads.runs, runs);
    product();
    threads.withHelper(product);
    product();
    t.equal(threads.runs, runs + 3, 'also around another');
    product(true);
    t.equal(threads.runs, runs + 3, 'but none that adds to its result, which could not be computed again');
  });
  t.throws(
    () =>
      threads.withHelper(() => {
        throw new Error('its own');
      }),
    { message: 'its own' },
  );
  product();
  t.equal(threads.runs, runs + 3, 'not after an error either');
  t.strictSame(said, []);
});

law(t, 'where threads are set there is no lent one beside them', async t => {
  const { threads, kernels, product, alone, until, live } = products({});
  until(() => threads.runs > 0);
  t.ok(kernels.heap.pool.live > live);
  await threads.set(2);
  const { runs } = threads;
  t.strictSame(threads.withHelper(product), alone);
  t.equal(threads.runs, runs + 1, 'those share it');
  await threads.set(1);
  t.equal(kernels.heap.pool.live, live, 'scratch is given back');
  t.equal(kernels.exports, kernels.compiled);
  until(() => threads.runs > 0);
});

law(
  t,
  'what a lent thread does not live to finish is computed again, and a warning says once that it is gone',
  async t => {
    const cases: [what: string, code: string, why: RegExp][] = [
      ['throws', "throw new Error('a piece broke')", /stopped \(a piece broke\)$/],
      ['calls process.exit', 'process.exit(7)', /stopped \(process\.exit\(7\)\)$/],
      ['dies without a word', 'process.reallyExit(7)', /stopped$/],
      ['is terminated', 'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20000)', /stopped$/],
    ];
    for (const [what, code, why] of cases) {
      const { state, host } = saboteur();
      state.code = code;
      state.terminate = code.startsWith('Atomics');
      const { threads, kernels, said, until, live } = products({ host });
      threads.withHelper(() => {});
      await state.workers[0]!.ready;
      await setTimeout(20); // from then on this thread can tell whether it lives
      const start = performance.now();
      until(() => said.length > 0);
      t.ok(performance.now() - start < 10_000, what);
      t.match(
        said[0],
        /^otimes: a second thread does not help any more, and one goes on alone: a worker thread stopped/,
      );
      t.match(said[0], why);
      until(() => true);
      t.strictSame([threads.runs, said.length, state.workers.length], [0, 1, 1], 'there is no other');
      await setTimeout(50);
      t.equal(kernels.heap.pool.live, live, 'scratch is given back');
      t.equal(kernels.exports, kernels.compiled);
    }
  },
);

law(t, 'a lent thread that stops between calls is not missed', async t => {
  const { host, tell } = informer();
  const { threads, said, product, alone, until } = products({ host });
  until(() => threads.runs > 0);
  threads.withHelper(() => {
    tell('stopped (exit code 1)');
    t.strictSame([product(), product()], [alone, alone]);
  });
  t.strictSame(said, []);
  t.strictSame(threads.withHelper(product), alone);
  t.match(said, [/: a worker thread stopped \(exit code 1\)$/]);
});

law(t, 'a lent thread that cannot start is a warning, and none where threads share nothing', async t => {
  const forbidden: Host = {
    ...node,
    startWorker() {
      throw new Error('workers are forbidden');
    },
  };
  const dying: Host = {
    ...node,
    startWorker: (_, data, stopped) => node.startWorker('process.reallyExit(3);', data, stopped),
  };
  for (const [host, why] of [
    [forbidden, /: workers are forbidden$/],
    [dying, /: a worker thread stopped \(exit code 3\)$/],
  ] as const) {
    const { threads, kernels, said, product, alone, live } = products({ host });
    t.strictSame(threads.withHelper(product), alone);
    while (said.length === 0) {
      await setTimeout(10);
      t.strictSame(threads.withHelper(product), alone);
    }
    t.strictSame(threads.withHelper(product), alone);
    t.match(said, [why]);
    t.equal(said.length, 1);
    await setTimeout(50);
    t.equal(kernels.heap.pool.live, live);
  }
  const page = products({ host: browser });
  t.strictSame(page.threads.withHelper(page.product), page.alone);
  t.strictSame([page.threads.runs, page.said], [0, []]);
});
