// Steps of several processes in which code of the program runs: rules, rest optimizers, and writes while a step waits.

import assert from 'node:assert/strict';
import { Generator, noGrad, randn, type Tensor, zeros } from '@otimes/core';
import { crossEntropy, type Sequential } from '@otimes/nn';
import {
  type BlockState,
  KFAC,
  type KroneckerOptions,
  KroneckerPreconditioner,
  type Rotation,
  type Rule,
  rotate,
  SGD,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { bitsOf, family, labels, nets } from './helpers/family.ts';
import { law } from './helpers/law.ts';
import { RanksRun } from './helpers/ranks.ts';

const modelOf = () => nets.linear!.make({ dtype: 'float64', rng: new Generator(3) });
const SIZE = 2;

/** One step of all on random parts. */
const step = (run: RanksRun<Sequential, KroneckerPreconditioner>, at: number) =>
  run.step((model, rank) => {
    const rng = new Generator(100 + SIZE * at + rank);
    crossEntropy(model.call(randn([6, 5], { dtype: 'float64', rng })), labels(rng, 6)).backward();
  });
type Run = Parameters<typeof step>[0];

const bitsOfAll = ({ processes }: Run) =>
  processes.map(({ model, optimizer }) => `${bitsOf(model.stateDict())}\n${bitsOf(optimizer.stateDict())}`);

/** What breaks, and when. */
type Fuse = { burns: boolean };

/** Momentum in the eigenbasis, whose second direction of a step may throw. */
class Heavy implements Rule {
  readonly slots = ['m'];
  readonly gain = 1;
  readonly #fuse: Fuse;
  #calls = 0;
  constructor(fuse: Fuse) {
    this.#fuse = fuse;
  }
  needs() {
    return 'nothing' as const;
  }
  refreshed({ slots, sizes, kfe }: BlockState, rotation: Rotation | null): void {
    const { dtype, device } = kfe!.sA;
    slots.set('m', rotation === null ? zeros(sizes, { dtype, device }) : rotate(slots.get('m')!, rotation));
  }
  direction({ slots }: BlockState, D: Tensor): Tensor {
    const m = slots.get('m')!;
    m.scale_(0.9).addScaled_(D, 0.1);
    if (this.#fuse.burns && this.#calls++ % 2 === 1) throw new RangeError('the rule broke');
    return m.mul(1);
  }
}
class Mine extends KroneckerPreconditioner {
  constructor(model: Sequential, o: KroneckerOptions, fuse: Fuse) {
    super(model, o, { rule: new Heavy(fuse), lr: 0.05, rest: (unclaimed, lr) => new SGD(unclaimed, { lr }) });
  }
}
/** Breaks after its step was made. */
class Brittle extends SGD {
  readonly #fuse: Fuse;
  constructor(parameters: Iterable<Tensor>, fuse: Fuse) {
    super(parameters, { lr: 0.05, momentum: 0.9 });
    this.#fuse = fuse;
  }
  override step(): void {
    super.step();
    if (this.#fuse.burns) throw new RangeError('the rest broke');
  }
}

const kinds: Record<
  string,
  [message: string, make: (m: Sequential, o: KroneckerOptions, fuse: Fuse) => Run['processes'][0]['optimizer']]
> = {
  'a rule': ['the rule broke', (m, o, fuse) => new Mine(m, o, fuse)],
  'the rest of KFAC': [
    'the rest broke',
    (m, o, fuse) => new KFAC(m, { ...o, rest: unclaimed => new Brittle(unclaimed, fuse) }),
  ],
  'the rest of STEVE': [
    'the rest broke',
    (m, o, fuse) => new STEVE(m, { ...o, rest: unclaimed => new Brittle(unclaimed, fuse) }),
  ],
};
for (const [what, [message, make]] of Object.entries(kinds))
  law(t, `${what} of a program that throws in one process is the same error in all, and changes nothing`, async () => {
    for (const route of ['auto', 'resident'] as const)
      for (const at of [0, 2, 3])
        for (const breaks of [0, 1]) {
          const fuses: Fuse[] = [];
          const fresh = () =>
            new RanksRun(SIZE, modelOf, (m, communicator) => {
              const fuse = { burns: false };
              fuses[communicator.rank] = fuse;
              return make(m, { refreshEvery: 3, route, communicator }, fuse);
            });
          const twin = fresh();
          const run = fresh();
          for (let i = 0; i < at; i++) for (const one of [run, twin]) assert.deepEqual(await step(one, i), []);
          const before = bitsOfAll(run);
          assert.equal(before[0], before[1]);
          fuses[breaks]!.burns = true;
          const all = new Array(SIZE).fill(`RangeError: process ${breaks} of 2: ${message}`);
          assert.deepEqual(await step(run, at), all);
          assert.deepEqual(bitsOfAll(run), before);
          fuses[breaks]!.burns = false;
          for (const one of [run, twin]) assert.deepEqual(await step(one, at), []);
          for (let i = at + 1; i < at + 3; i++) for (const one of [run, twin]) assert.deepEqual(await step(one, i), []);
          assert.deepEqual(bitsOfAll(run), bitsOfAll(twin));
        }
  });

law(t, 'where the last exchange of such a step fails, all are as before, and the step works once more', async () => {
  for (const [, make] of Object.values(kinds)) {
    const fresh = () =>
      new RanksRun(SIZE, modelOf, (m, communicator) => make(m, { refreshEvery: 3, communicator }, { burns: false }));
    const [run, twin] = [fresh(), fresh()];
    await step(twin, 0);
    const before = bitsOfAll(run);
    run.ranks.failsIn = twin.ranks.exchanged.length - 1;
    assert.deepEqual(await step(run, 0), new Array(SIZE).fill('Error: the line is cut'));
    assert.deepEqual(bitsOfAll(run), before);
    assert.deepEqual(await step(run, 0), []);
    assert.deepEqual(bitsOfAll(run), bitsOfAll(twin));
  }
});

law(t, 'parameters that are written to while a step waits, or moved, are an error in all', async () => {
  const acts: Record<string, (model: Sequential) => void> = {
    to: model => model.to('reference'),
    loadStateDict: model => model.loadStateDict(modelOf().stateDict()),
    scale_: model => noGrad(() => model.parameters()[2]!.detach().scale_(2)),
  };
  for (const make of Object.values(family))
    for (const [what, act] of Object.entries(acts))
      for (const at of [0, 1]) {
        const run = new RanksRun(SIZE, modelOf, (m, communicator) => make(m, { communicator }));
        for (let i = 0; i < at; i++) assert.deepEqual(await step(run, i), []);
        const steps = step(run, at);
        act(run.processes[1]!.model);
        const before = run.processes.map(({ model }) => bitsOf(model.stateDict()));
        for (const error of [...(await steps), 'end'].slice(0, SIZE))
          assert.match(
            error,
            /: parameters of process 1 were written to, or its model was moved, while a step waited/,
            what,
          );
        assert.deepEqual(
          run.processes.map(({ model }) => bitsOf(model.stateDict())),
          before,
        );
        assert.ok(run.processes.every(({ optimizer }) => optimizer.steps === at));
      }
});

law(t, 'parameters may be read while a step waits', async () => {
  for (const route of ['auto', 'resident'] as const) {
    const run = new RanksRun(SIZE, modelOf, (m, communicator) => family.KFAC!(m, { communicator, route }));
    for (let i = 0; i < 3; i++) {
      const steps = step(run, i);
      for (const { model } of run.processes) for (const p of model.parameters()) p.toArray();
      assert.deepEqual(await steps, []);
    }
  }
});
