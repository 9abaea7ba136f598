// refresh: 'background' in training: the same bases as synchronous ones, to the last bit, only later.

import { Generator, noGrad, randint, randn, type Tensor, where } from '@otimes/core';
import { SecondThread } from '@otimes/kernels';
import { eigh } from '@otimes/linalg';
import { type AnyModule, crossEntropy, mlp } from '@otimes/nn';
import { KFAC, Kfe, type KroneckerOptions, STEVE } from '@otimes/optim';
import t from 'tap';
import type { Host, HostWorker } from '../kernels/src/host.ts';
import { host as node } from '../kernels/src/node.ts';
import { rotate, rotateSquares } from '../optim/src/curvature/basis.ts';
import { DELAYED, optimizers, polled, Run, withBackground } from './helpers/background.ts';
import { endsByItself } from './helpers/program.ts';

type Name = keyof typeof optimizers;

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
    polled(() => first!.job!.ready(false) || null);
    t.notOk(second!.job!.ready(false));
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
    polled(() => (first!.job?.ready(false) ?? true) || null);
    run.to(8);
    t.strictSame([first!.job, second!.job?.ready(false)], [null, false], 'other steps do not concern each other');
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
  const { withHelper } = SecondThread.prototype;
  t.teardown(() => Object.assign(SecondThread.prototype, { withHelper }));
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
  SecondThread.prototype.withHelper = function <T>(run: () => T): T {
    calls++;
    const { runs } = this;
    const result = withHelper.call(this, run) as T;
    shared += this.runs - runs;
    return result;
  };
  const both = train();
  t.equal(calls, 11, 'once a refresh, for all blocks');
  t.ok(shared >= 11, `${shared} calls were shared`);
  SecondThread.prototype.withHelper = run => run();
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
