// A background worker that breaks is a warning or an error of its job, never a wrong basis or a wait.

import { setTimeout } from 'node:timers/promises';
import { tensor } from '@otimes/core';
import type { BackgroundOptions } from '@otimes/kernels';
import { eigh, eighInBackground } from '@otimes/linalg';
import t, { type Test } from 'tap';
import { host as browser } from '../kernels/src/browser.ts';
import type { Host, HostWorker } from '../kernels/src/host.ts';
import { host as node } from '../kernels/src/node.ts';
import {
  begunOn,
  bytes,
  DELAYED,
  optimizers,
  pause,
  polled,
  Run,
  symmetric,
  withBackground,
} from './helpers/background.ts';
import { law } from './helpers/law.ts';

/** Node's workers with code in front of each job; `workers` has those that were started. */
function saboteur() {
  const workers: HostWorker[] = [];
  const state = { code: '', workers };
  const host: Host = {
    ...node,
    startWorker(source, data, stopped) {
      const before = 'if (room === null) room = open();';
      if (!source.includes(before)) throw new Error('the source of the worker has changed');
      const worker = node.startWorker(source.replace(before, `${state.code}; ${before}`), data, stopped);
      workers.push(worker);
      return worker;
    },
  };
  return { state, host };
}

const sleep = (ms: number) => `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${ms})`;
const SLEEP = sleep(20_000);

law(t, 'a worker that breaks is an error of its job, and the next job has a new one', async t => {
  const [good, bad] = [symmetric(30, 'float32'), symmetric(31, 'float32')];
  const want = bytes(eigh(good).vectors.data);
  const cases: [what: string, code: string, message: RegExp, lives: boolean][] = [
    ['throws', "throw new Error('a job broke')", /^eigh: the worker in the background failed: a job broke$/, true],
    ['traps', '(() => { const f = () => f() + 1; f(); })()', /^eigh: .* background failed: Maximum call stack/, true],
    ['calls process.exit', 'process.exit(7)', /^eigh: the worker in the background failed: process\.exit\(7\)$/, false],
    ['dies without a word', 'process.reallyExit(7)', /^eigh: the worker in the background stopped$/, false],
    ['is terminated', SLEEP, /^eigh: the worker in the background stopped$/, false],
  ];
  for (const [what, code, message, lives] of cases)
    for (const wait of [false, true]) {
      const { state, host } = saboteur();
      state.code = `if (n === 31) { ${code} }`;
      await withBackground({ host }, async warnings => {
        const first = eighInBackground(good);
        polled(() => first.take(false));
        await setTimeout(20);
        const job = eighInBackground(bad);
        const started = performance.now();
        while (!begunOn(job)) pause();
        if (code === SLEEP) void state.workers[0]!.stop();
        t.throws(() => (wait ? job.take(true) : polled(() => job.take(false))), { name: 'Error', message }, what);
        t.throws(() => job.take(wait), { message }, 'and again');
        t.ok(performance.now() - started < 10_000);
        const next = eighInBackground(good);
        t.strictSame(bytes(polled(() => next.take(false)).vectors.data), want);
        t.equal(state.workers.length, lives ? 1 : 2);
        t.strictSame(warnings, []);
      });
    }
});

law(t, 'a worker that was ended between jobs is replaced', async t => {
  const { state, host } = saboteur();
  await withBackground({ host }, async () => {
    for (let i = 1; i < 4; i++) {
      const job = eighInBackground(symmetric(20, 'float32'));
      t.ok(polled(() => job.take(false)));
      t.equal(state.workers.length, i);
      await setTimeout(20);
      await state.workers.at(-1)!.stop();
    }
  });
});

law(t, 'no memory for a matrix is an error of that job', async t => {
  const { state, host } = saboteur();
  state.code = 'n = n === 31 ? 20000 : n';
  await withBackground({ host }, async () => {
    const job = eighInBackground(symmetric(31, 'float32'));
    t.throws(() => polled(() => job.take(false)), {
      message: /^eigh: the worker in the background failed: no memory for \d{10,} bytes$/,
    });
    const next = eighInBackground(symmetric(30, 'float32'));
    t.ok(polled(() => next.take(false)));
    t.equal(state.workers.length, 1);
  });
});

law(t, 'a worker that makes no progress is given up where the host knows nothing of it', async t => {
  const { state, host } = saboteur();
  const blind: Host = { ...host, startWorker: (...o) => ({ ...host.startWorker(...o), alive: () => true }) };
  const message = 'eigh: the worker in the background made no progress and was given up';
  for (const wait of [false, true])
    await withBackground({ host: blind, patience: () => 150 }, async () => {
      state.code = SLEEP;
      const [job, behind] = [eighInBackground(symmetric(5, 'float32')), eighInBackground(symmetric(5, 'float32'))];
      while (!begunOn(job)) pause();
      t.throws(() => (wait ? job.take(true) : polled(() => job.take(false))), { message }, 'in a job');
      state.code = '';
      t.ok(wait ? behind.take(true) : polled(() => behind.take(false)), 'another does the next');

      const done = eighInBackground(symmetric(5, 'float32'));
      polled(() => done.take(false));
      await state.workers.at(-1)!.stop();
      const unseen = eighInBackground(symmetric(5, 'float32'));
      t.ok(wait ? unseen.take(true) : polled(() => unseen.take(false)), 'ended between jobs');
    });
});

law(t, 'a decomposition that fails leaves the old basis, warns and is counted', async t => {
  const { state, host } = saboteur();
  const paths = ['layers.0', 'layers.2'];
  // The first refresh has four matrices. The second is under way as a whole before the worker dies.
  state.code = `globalThis.jobs = (globalThis.jobs ?? 0) + 1; if (jobs > 4) { ${sleep(300)}; process.reallyExit(7); }`;
  await withBackground({ host }, async warnings => {
    const run = new Run(optimizers.STEVE, { refresh: 'background' });
    const bases = () => paths.map(path => run.optimizer.inspect(path).kfe);
    run.to(5).wait();
    run.to(6);
    await setTimeout(20);
    run.to(8);
    const old = bases();
    t.match(run.optimizer.report().refreshes, { done: 4, failed: 0, inFlight: 0 });
    run.to(9).wait();
    run.to(10);
    t.strictSame(
      bases().map((kfe, i) => kfe === old[i]),
      [true, false],
    );
    const lastError = "linear 'layers.0': eigh: the worker in the background stopped";
    t.match(run.optimizer.report().refreshes, { done: 5, failed: 1, inFlight: 0, lastError });
    t.strictSame(warnings, [`STEVE: a decomposition in the background failed and the old basis stays: ${lastError}`]);
    state.code = '';
    await state.workers.at(-1)!.stop();
    run.to(13).wait();
    run.to(14);
    t.match(run.optimizer.report().refreshes, { done: 7, failed: 1, inFlight: 0 }, 'the next refresh does not');
    t.ok(run.losses.every(Number.isFinite));
  });
});

law(t, 'a factor that is not finite is a failure with its reason', async t => {
  const run = new Run(optimizers.KFAC, DELAYED).to(5);
  const state = run.optimizer.stateDict();
  state['blocks.layers.0.job.A'] = tensor(new Float32Array(100).fill(Number.NaN), { shape: [10, 10] });
  run.optimizer.loadStateDict(state);
  const { warn } = console;
  const warnings: string[] = [];
  console.warn = (message: string) => warnings.push(message);
  run.to(8);
  console.warn = warn;
  t.strictSame(warnings, [
    "KFAC: a decomposition in the background failed and the old basis stays: linear 'layers.0': eigh: expected finite numbers: float32[10,10] with NaN at [0,0]",
  ]);
  t.match(run.optimizer.report().refreshes, { failed: 1, inFlight: 0 });
});

law(t, 'where there is no worker one warning says why, and bases are those of a lag all the same', async t => {
  const want = new Run(optimizers.STEVE, DELAYED).to(16).bits;
  const scope = globalThis as Record<string, unknown>;
  t.teardown(() => {
    for (const name of ['crossOriginIsolated', 'Worker']) delete scope[name];
  });
  const check = (t: Test, o: BackgroundOptions, why: RegExp) =>
    withBackground(o, async warnings => {
      t.strictSame(new Run(optimizers.STEVE, DELAYED).to(16).bits, want);
      t.match(warnings, [why]);
      t.equal(warnings.length, 1);
      t.match(warnings[0], /^otimes: decompositions do not run in the background but .*, as /);
      const job = eighInBackground(symmetric(3, 'float64'));
      t.ok(job.take(false), 'also where nobody waits');
      job.release();
    });
  await check(
    t,
    { host: browser },
    /memory can be shared only on a page that is cross-origin isolated; .*Embedder-Policy/,
  );
  scope.crossOriginIsolated = true;
  await check(t, { host: browser }, /no workers can be started from here$/);
  scope.Worker = class {
    constructor() {
      throw new Error('Refused to create a worker');
    }
  };
  await check(t, { host: browser }, /a worker did not start: Refused to create a worker; .*\(worker-src blob:\)$/);
});

law(t, 'a worker that never starts is not waited for', async t => {
  const dying: Host = {
    ...node,
    startWorker: (_, data, stopped) => node.startWorker('process.reallyExit(3)', data, stopped),
  };
  await withBackground({ host: dying }, async warnings => {
    const first = eighInBackground(symmetric(4, 'float64'));
    t.equal(first.take(false), null, 'it may yet');
    await setTimeout(500);
    t.ok(first.take(false));
    t.ok(eighInBackground(symmetric(4, 'float64')).take(false));
    t.match(warnings, [/, as a worker did not start: it stopped \(exit code 3\)$/]);
    t.equal(warnings.length, 1);
  });
  const deaf: Host = {
    ...node,
    startWorker: (_, data, stopped) => node.startWorker('function start() {}', data, stopped),
  };
  await withBackground({ host: deaf, late: 200 }, async warnings => {
    const job = eighInBackground(symmetric(4, 'float64'));
    t.equal(job.take(false), null);
    pause(300);
    t.ok(job.take(false));
    t.equal(warnings.length, 1);
    t.match(
      warnings[0],
      /, as a worker has not started within 0.2 seconds; browsers start one only while the program awaits/,
    );
  });
});
