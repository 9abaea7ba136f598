// refresh: 'background': the same bases as synchronous ones, to the last bit, only later; and a worker that dies is a warning,
// never a wrong basis or a wait.
import { setTimeout } from 'node:timers/promises';
import { Generator, noGrad, randint, randn, type StateDict, type Tensor, tensor, where } from '@otimes/core';
import { Background, type BackgroundOptions, Threads } from '@otimes/kernels';
import { eigh, eighInBackground } from '@otimes/linalg';
import { type AnyModule, crossEntropy, type Module, mlp } from '@otimes/nn';
import { EKFAC, KFAC, Kfe, type KroneckerOptions, type KroneckerPreconditioner, STEVE } from '@otimes/optim';
import fc from 'fast-check';
import ndarray from 'ndarray';
import t, { type Test } from 'tap';
import { host as browser } from '../kernels/src/browser.ts';
import type { Host, HostWorker } from '../kernels/src/host.ts';
import { host as node } from '../kernels/src/node.ts';
import { replaceBackground } from '../linalg/src/background.ts';
import { rotate, rotateSquares } from '../optim/src/curvature/basis.ts';
import { noise } from './helpers/kernels.ts';
import { endsByItself } from './helpers/program.ts';

type Dtype = 'float32' | 'float64';
type Matrix = ndarray.NdArray<Float32Array | Float64Array>;

const bytes = (x: Float32Array | Float64Array) =>
  Buffer.from(Uint8Array.from(new Uint8Array(x.buffer, x.byteOffset, x.byteLength)));

function symmetric(n: number, dtype: Dtype, scale = 1, rank = n): Matrix {
  const next = noise(n + 1);
  const rows = Array.from({ length: rank }, () => Float64Array.from({ length: n }, next));
  const data = dtype === 'float32' ? new Float32Array(n * n) : new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (const row of rows) sum += row[i]! * row[j]!;
      data[i * n + j] = data[j * n + i] = sum * scale;
    }
  return ndarray(data, [n, n]);
}

/** Runs with another worker, and puts the process's own back. Returns what was warned about. */
async function withBackground(o: BackgroundOptions, run: (warnings: string[]) => void | Promise<void>): Promise<void> {
  const background = new Background(o);
  const before = replaceBackground(background);
  const { warn } = console;
  const warnings: string[] = [];
  console.warn = (message: string) => warnings.push(message);
  try {
    await run(warnings);
  } finally {
    console.warn = warn;
    replaceBackground(before);
    await background.stop();
  }
}

const pause = (ms = 1) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

/** Looks without taking: whether the first word says that a worker has begun. */
function begunOn(job: { matrix: Matrix }): boolean {
  return Atomics.load(new Int32Array(job.matrix.data.buffer, 0, 1), 0) !== 0;
}

/** What comes of polling: as a training loop does, without ever awaiting. */
function polled<T>(poll: () => T | null): T {
  const end = performance.now() + 30_000;
  for (;;) {
    const found = poll();
    if (found !== null) return found;
    if (performance.now() > end) throw new Error('nothing came within 30 seconds');
    pause();
  }
}

// --- one matrix ---------------------------------------------------------------------------------------------------------

t.test(
  'eighInBackground finds what eigh finds, bit for bit, whether polled, waited for or computed by who waits',
  async t => {
    const cases = fc.record({
      n: fc.oneof(fc.constantFrom(0, 1, 2, 3, 24, 25), fc.nat(70)),
      dtype: fc.constantFrom<Dtype>('float32', 'float64'),
      exponent: fc.constantFrom(0, -9, -20, 12),
      deficient: fc.boolean(),
      wait: fc.boolean(),
    });
    fc.assert(
      fc.property(cases, ({ n, dtype, exponent, deficient, wait }) => {
        const a = symmetric(n, dtype, 10 ** exponent, deficient ? n >> 2 : n);
        const want = eigh(a);
        const job = eighInBackground(a);
        const kept = bytes(a.data);
        a.data.fill(Number.NaN); // it has a copy
        const got = wait ? job.take(true)! : polled(() => job.take(false));
        if (job.take(false) !== got) throw new Error('not the same again');
        for (const name of ['values', 'vectors'] as const) {
          if (Buffer.compare(bytes(got[name].data), bytes(want[name].data)) !== 0) throw new Error(`${name} differ`);
          t.strictSame(got[name].shape, want[name].shape);
        }
        t.equal(got.vectors.dtype, dtype);
        t.strictSame(bytes(job.matrix.data), kept);
        job.release();
      }),
      { seed: 3, numRuns: 60 },
    );
    const a = symmetric(200, 'float32');
    const jobs = Array.from({ length: 4 }, () => eighInBackground(a));
    const want = bytes(eigh(a).vectors.data);
    for (const job of jobs.reverse()) t.strictSame(bytes(job.take(true)!.vectors.data), want);
  },
);

/** fromᵀ · vectors as the training thread's own product. */
const turned = (from: Matrix, vectors: Matrix) => {
  const [U, V] = [from, vectors].map(x => tensor(x.data, { shape: x.shape })) as [Tensor, Tensor];
  return U.transpose().matmul(V).dataSync() as Float32Array;
};

t.test("the rotation from an old basis has the bits of the training thread's product, whoever computes it", async t => {
  const cases = fc.record({
    n: fc.oneof(fc.constantFrom(0, 1, 2, 3, 5, 6, 7, 8, 9, 16), fc.nat(90)),
    dtype: fc.constantFrom<Dtype>('float32', 'float64'),
    wait: fc.boolean(),
  });
  const check = (n: number, dtype: Dtype, wait: boolean) => {
    const [a, from] = [symmetric(n, dtype), symmetric(n, dtype, 0.1, n >> 1)];
    const want = eigh(a);
    const job = eighInBackground(a, { from });
    const before = from.data.slice();
    from.data.fill(Number.NaN); // it has a copy
    const got = wait ? job.take(true)! : polled(() => job.take(false));
    const right = turned(ndarray(before, [n, n]), want.vectors as Matrix);
    if (!bytes(got.rotation!.data).equals(bytes(right))) throw new Error('the rotation differs');
    if (!bytes(got.vectors.data).equals(bytes(want.vectors.data))) throw new Error('the vectors differ');
    t.strictSame([got.rotation!.dtype, got.rotation!.shape], [dtype, [n, n]]);
    job.release();
  };
  const all = () =>
    fc.assert(
      fc.property(cases, ({ n, dtype, wait }) => check(n, dtype, wait)),
      { seed: 5, numRuns: 40 },
    );
  all();
  for (const dtype of ['float32', 'float64'] as const) check(300, dtype, false);
  await withBackground({ host: browser }, async warnings => {
    all();
    t.match(warnings, [/decompositions do not run in the background/]);
  });
  const [a, from] = [symmetric(4, 'float32'), symmetric(4, 'float64')];
  t.equal(polled(() => eighInBackground(a).take(true)).rotation, null);
  t.throws(() => eighInBackground(a, { from }), {
    message: 'eigh: expected a basis of the shape and dtype of the matrix: float64[4,4] and float32[4,4]',
  });
});

t.test('who may not sleep waits by looking again and again', async t => {
  const { wait } = Atomics;
  t.teardown(() => Object.assign(Atomics, { wait }));
  const a = symmetric(300, 'float64');
  const job = eighInBackground(a);
  while (!begunOn(job)) pause();
  let looks = 0;
  Object.assign(Atomics, {
    wait() {
      looks++;
      throw new TypeError('Atomics.wait cannot be called in this context');
    },
  });
  t.strictSame(bytes(job.take(true)!.vectors.data), bytes(eigh(a).vectors.data));
  t.ok(looks > 1);
});

t.test('memory is used again for the next matrix of the same size, and not before it was released', async t => {
  const a = symmetric(40, 'float32');
  const start = () => {
    const job = eighInBackground(a);
    polled(() => job.take(false));
    return job;
  };
  const [first, second] = [start(), start()];
  const place = first.matrix.data.buffer;
  t.not(second.matrix.data.buffer, place);
  first.release();
  first.release();
  t.throws(() => first.take(false), { message: 'eighInBackground: take() after release()' });
  const third = start();
  t.equal(third.matrix.data.buffer, place);
  t.strictSame(bytes(third.matrix.data), bytes(a.data));
  t.not(start().matrix.data.buffer, place);
});

t.test('what eigh refuses is refused in the same words', async t => {
  const message = (run: () => unknown) => {
    try {
      run();
    } catch (error) {
      return (error as Error).message;
    }
    return 'nothing was thrown';
  };
  const bad: Record<string, (data: Float32Array | Float64Array) => void> = {
    NaN: data => data.fill(Number.NaN, 2, 3),
    infinity: data => data.fill(Number.POSITIVE_INFINITY, 4, 5),
    asymmetry: data => data.fill(9, 3, 4),
  };
  for (const [what, spoil] of Object.entries(bad)) {
    const a = symmetric(3, 'float64');
    spoil(a.data);
    const want = message(() => eigh(a));
    t.match(want, /^eigh: expected (finite numbers|a symmetric matrix)/);
    const [waited, looked] = [eighInBackground(a), eighInBackground(a)];
    t.equal(
      message(() => polled(() => looked.take(false))),
      want,
      what,
    );
    t.equal(
      message(() => waited.take(true)),
      want,
      what,
    );
  }
  t.throws(() => eighInBackground(ndarray(new Float64Array(6), [2, 3])), {
    message: 'eigh: expected a square matrix: float64[2,3]',
  });
});

// --- training -----------------------------------------------------------------------------------------------------------

const optimizers = {
  KFAC: (model: AnyModule, o: KroneckerOptions) => new KFAC(model, { damping: 0.1, momentum: 0.5, ...o }),
  EKFAC: (model: AnyModule, o: KroneckerOptions) => new EKFAC(model, { damping: 0.1, ...o }),
  STEVE: (model: AnyModule, o: KroneckerOptions) => new STEVE(model, o),
};
type Name = keyof typeof optimizers;

/** A small MLP with its optimizer, and batches that are a function of the step. */
class Run {
  readonly model: Module;
  readonly optimizer: KroneckerPreconditioner;
  readonly losses: number[] = [];
  readonly #dtype: Dtype;

  constructor(
    make: (model: AnyModule, o: KroneckerOptions) => KroneckerPreconditioner,
    o: KroneckerOptions,
    dtype: Dtype = 'float32',
  ) {
    this.model = mlp([9, 12, 5], { rng: new Generator(4), dtype });
    this.optimizer = make(this.model, { refreshEvery: 4, ...o });
    this.#dtype = dtype;
  }

  step(between: () => void = () => {}): void {
    const rng = new Generator(100 + this.optimizer.steps);
    const [x, y] = [randn([16, 9], { rng, dtype: this.#dtype }), randint(0, 5, [16], { rng })];
    this.optimizer.zeroGrad();
    const loss = crossEntropy(this.model.call(x) as Tensor, y);
    loss.backward();
    between();
    this.optimizer.step();
    this.losses.push(loss.item());
  }

  to(step: number): this {
    while (this.optimizer.steps < step) this.step();
    return this;
  }

  /** Returns when all decompositions are there, or have failed. */
  wait(): void {
    for (const path of ['layers.0', 'layers.2'])
      polled(() => (this.optimizer.inspect(path).job?.ended(false) ?? true) || null);
  }

  /** Every bit of the model and the optimizer, and the losses so far. */
  get bits(): Record<string, string> {
    const hex = (state: StateDict, prefix: string) =>
      Object.entries(state).map(([key, x]) => [prefix + key, Buffer.from(x.dataSync().buffer).toString('hex')]);
    return Object.fromEntries([
      ...hex(this.model.stateDict(), 'model.'),
      ...hex(this.optimizer.stateDict(), ''),
      ['losses', this.losses.join()],
    ]);
  }
}

const DELAYED = { refresh: 'background', refreshLag: 3 } as const;

for (const name of Object.keys(optimizers) as Name[]) {
  const make = optimizers[name];

  t.test(`${name}: with a lag runs repeat bit for bit, saved and loaded while jobs are under way too`, async t => {
    const whole = new Run(make, DELAYED).to(16);
    t.match(whole.optimizer.report().refreshes, { done: 2 * 4, failed: 0, inFlight: 0 });
    const { bits } = whole;
    t.strictSame(new Run(make, DELAYED).to(16).bits, bits);
    t.notSame(new Run(make, {}).to(16).bits.losses, bits.losses, 'the old basis counts');
    for (const [at, inFlight] of [
      [5, 2],
      [6, 2],
      [8, 0],
    ] as const) {
      const before = new Run(make, DELAYED).to(at);
      t.equal(before.optimizer.report().refreshes.inFlight, inFlight);
      const [model, state] = [before.model.stateDict(), before.optimizer.stateDict()];
      t.equal(Object.keys(state).filter(key => key.endsWith('job.step')).length, inFlight);
      const after = new Run(make, DELAYED);
      after.model.loadStateDict(model);
      after.optimizer.loadStateDict(state);
      after.losses.push(...before.losses);
      t.strictSame(after.to(16).bits, bits, `saved after step ${at}`);
    }
  });

  t.test(`${name}: without a lag a basis takes over as soon as it is there, in a loop that never awaits`, async t => {
    const run = new Run(make, { refresh: 'background' }).to(1);
    t.match(run.optimizer.report().refreshes, { done: 2, inFlight: 0 }, 'the first bases at once');
    const state = () => run.optimizer.inspect('layers.0');
    const old = run.to(4).optimizer.inspect('layers.0').kfe;
    run.to(5);
    const want = Kfe.of(state().A!, state().G!, eigh, [12, 10]); // of the factors as the last step left them
    run.wait();
    run.to(6);
    t.not(state().kfe, old);
    t.match(run.optimizer.report().refreshes, { done: 4, failed: 0, inFlight: 0 });
    const now = state().kfe!;
    for (const part of ['UA', 'UG', 'sA', 'sG'] as const)
      t.strictSame(now[part]!.dataSync(), want[part]!.dataSync(), part);
  });
}

/** Node's workers, which get jobs of [n, n] only once `release` was called. */
function withheld(n: number) {
  const waiting: [HostWorker, object][] = [];
  const host: Host = {
    ...node,
    startWorker(source, data, stopped) {
      const worker = node.startWorker(source, data, stopped);
      const post = (message: object) => {
        if ((message as { n: number }).n === n) waiting.push([worker, message]);
        else worker.post(message);
      };
      return { ...worker, post };
    },
  };
  const release = () => {
    for (const [worker, message] of waiting.splice(0)) worker.post(message);
  };
  return { host, release };
}

t.test('without a lag the bases that one step began take over together', async t => {
  const { host, release } = withheld(13);
  await withBackground({ host }, async () => {
    const run = new Run(optimizers.STEVE, { refresh: 'background' }).to(5);
    const [first, second] = ['layers.0', 'layers.2'].map(path => run.optimizer.inspect(path));
    polled(() => first!.job!.ended(false) || null);
    t.notOk(second!.job!.ended(false));
    run.to(7);
    t.match(run.optimizer.report().refreshes, { done: 2, inFlight: 2 });
    t.ok(first!.job, 'the other one is not there');
    release();
    run.wait();
    run.to(8);
    t.match(run.optimizer.report().refreshes, { done: 4, inFlight: 0 });
  });
  const staggered = withheld(13);
  await withBackground({ host: staggered.host }, async () => {
    const run = new Run(optimizers.STEVE, { refresh: 'background', stagger: true }).to(7);
    const [first, second] = ['layers.0', 'layers.2'].map(path => run.optimizer.inspect(path));
    polled(() => (first!.job?.ended(false) ?? true) || null);
    run.to(8);
    t.strictSame([first!.job, second!.job?.ended(false)], [null, false], 'other steps do not concern each other');
  });
});

t.test('a basis that somebody else put in meanwhile is the one that is turned from', async t => {
  const path = 'layers.0';
  const o = { ...DELAYED, route: 'gradient' } as const;
  const want = new Run(optimizers.STEVE, o).to(16);
  const run = new Run(optimizers.STEVE, o).to(6);
  const state = run.optimizer.inspect(path);
  t.equal(state.job!.from, state.kfe);
  // The same basis with other signs: all that depends on them changes its sign, and no rounding does.
  noGrad(() => {
    const { UA, UG, sA, sG, nA, nG } = state.kfe!;
    state.kfe = new Kfe({ U: UA!.neg(), s: sA, n: nA }, { U: UG, s: sG, n: nG });
    state.slots.set('m', state.slots.get('m')!.neg());
  });
  t.strictSame(run.to(16).losses, want.losses);
  t.strictSame(run.bits, want.bits);
});

t.test('turning with a second thread gives the bits of one', async t => {
  const { lend } = Threads.prototype;
  t.teardown(() => Object.assign(Threads.prototype, { lend }));
  const train = () => {
    const rng = new Generator(6);
    const model = mlp([150, 130, 10], { rng });
    const optimizer = new STEVE(model, { refreshEvery: 5, ...DELAYED });
    while (optimizer.steps < 60) {
      optimizer.zeroGrad();
      crossEntropy(model.call(randn([16, 150], { rng })) as Tensor, randint(0, 10, [16], { rng })).backward();
      optimizer.step();
    }
    return [...Object.values(model.stateDict()), ...Object.values(optimizer.stateDict())].map(x => x.dataSync());
  };
  let [calls, shared] = [0, 0];
  Threads.prototype.lend = function <T>(run: () => T): T {
    calls++;
    const { runs } = this;
    const result = lend.call(this, run) as T;
    shared += this.runs - runs;
    return result;
  };
  const both = train();
  t.equal(calls, 11, 'once a refresh, for all blocks');
  t.ok(shared >= 11, `${shared} calls were shared`);
  Threads.prototype.lend = run => run();
  t.strictSame(train(), both);
});

t.test('a lag is a synchronous run whose bases take over by hand, so many steps later', async t => {
  for (const dtype of ['float32', 'float64'] as const)
    for (const name of ['KFAC', 'STEVE'] as const) {
      const make = (model: AnyModule, o: KroneckerOptions) =>
        name === 'STEVE' ? new STEVE(model, { graft: false, ...o }) : new KFAC(model, { damping: 0.1, ...o });
      const o = { route: 'gradient' } as const;
      const run = new Run(make, { ...o, ...DELAYED }, dtype).to(16);
      const byHand = new Run(make, { ...o, refreshEvery: 1000 }, dtype);
      const states = ['layers.0', 'layers.2'];
      let waiting: Kfe[] = [];
      while (byHand.optimizer.steps < 16) {
        const step = byHand.optimizer.steps;
        byHand.step(() => {
          if (step > 4 && step % 4 === 3)
            for (const [i, path] of states.entries()) {
              const state = byHand.optimizer.inspect(path);
              const next = waiting[i]!;
              noGrad(() => {
                const rotation = state.kfe!.rotationTo(next);
                const [m, v] = [state.slots.get('m'), state.slots.get('v')];
                if (m === undefined || v === undefined) return;
                const nulls = next.nullSpace;
                const [first, second] = [rotate(m, rotation), rotateSquares(v, rotation)];
                // The factors are those of some steps before: what came since is more than noise.
                state.slots.set('m', nulls === null ? first : where(nulls.noise(first), 0, first));
                state.slots.set('v', nulls?.average(second) ?? second);
              });
              state.kfe = next;
            }
        });
        if (step > 0 && step % 4 === 0)
          waiting = states.map(path => {
            const { A, G, block } = byHand.optimizer.inspect(path);
            return noGrad(() => Kfe.of(A!, G!, eigh, [block.dOut, block.dIn]));
          });
      }
      t.equal(run.losses.length, 16);
      t.strictSame(run.losses, byHand.losses, `${name}, ${dtype}`);
      t.strictSame(
        [...run.model.parameters()].map(p => p.dataSync()),
        [...byHand.model.parameters()].map(p => p.dataSync()),
      );
    }
});

t.test('sides at the identity need no worker', async t => {
  const o = { ...DELAYED, maxFactorDim: 10 };
  const run = new Run(optimizers.STEVE, o).to(5);
  const { job } = run.optimizer.inspect('layers.0');
  t.strictSame([job!.A.shape, job!.G.shape], [[10, 10], []]);
  const state = run.optimizer.stateDict();
  const model = run.model.stateDict();
  const again = new Run(optimizers.STEVE, o);
  again.model.loadStateDict(model);
  again.optimizer.loadStateDict(state);
  again.losses.push(...run.losses);
  t.strictSame(again.to(16).bits, run.to(16).bits);
});

// --- what can break -----------------------------------------------------------------------------------------------------

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

t.test('a worker that breaks is an error of its job, and the next job has a new one', async t => {
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

t.test('a worker that was ended between jobs is replaced', async t => {
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

t.test('no memory for a matrix is an error of that job', async t => {
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

t.test('a worker that makes no progress is given up where the host knows nothing of it', async t => {
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

t.test('a decomposition that fails leaves the old basis, warns and is counted', async t => {
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

t.test('a factor that is not finite is a failure with its reason', async t => {
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

t.test('where there is no worker one warning says why, and bases are those of a lag all the same', async t => {
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

t.test('a worker that never starts is not waited for', async t => {
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

// --- programs -----------------------------------------------------------------------------------------------------------

const PROGRAM = `import { Generator, randint, randn } from '@otimes/core';
import { crossEntropy, mlp } from '@otimes/nn';
import { STEVE } from '@otimes/optim';
const model = mlp([30, 40, 10], { rng: new Generator(0) });
const optimizer = new STEVE(model, { refreshEvery: 5, refresh: 'background' });
const rng = new Generator(1);
const end = performance.now() + 20_000;
let loss;
while (optimizer.steps < 60 || (optimizer.report().refreshes.done < 6 && performance.now() < end)) {
  optimizer.zeroGrad();
  loss = crossEntropy(model.call(randn([16, 30], { rng })), randint(0, 10, [16], { rng }));
  loss.backward();
  optimizer.step();
}
const { done, failed } = optimizer.report().refreshes;
console.log(JSON.stringify([done >= 6, failed, Number.isFinite(loss.item())]));
`;

t.test('a program ends by itself, from the sources and bundled into one file', { timeout: 120_000 }, t =>
  endsByItself(t, PROGRAM, {
    prints: '[true,0,true]',
    inBrowser: {
      warning: /^otimes: decompositions do not run in the background .*cross-origin isolated/,
      prints: '[true,0,true]',
    },
  }),
);
