/** Steps in which code of the program throws, or that cannot be taken: on every device parameters and states are what they were. */

import assert from 'node:assert/strict';
import { full, Generator, ones, ReleasedError, randint, randn, type Tensor, tensor } from '@otimes/core';
import { type AnyModule, crossEntropy, type Module, mlp } from '@otimes/nn';
import {
  Adagrad,
  Adam,
  AdamW,
  type Direction,
  defaultCollectors,
  EKFAC,
  GradientOptimizer,
  KFAC,
  type LayerBlock,
  MatrixOptimizer,
  Muon,
  NAdam,
  NAdamW,
  type Optimizer,
  type ParameterState,
  RMSprop,
  SGD,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { law } from './helpers/law.ts';
import { DeviceRun, deviceTasks } from './suites/device-runs.ts';

const js = (value: unknown) => value as never;

/** Whether the program's code fails now. */
let armed = false;
const fail = (message: string) => {
  if (armed) throw new Error(message);
};

class Throws extends SGD {
  override step(): void {
    super.step();
    fail('after all');
  }
}

/** Fails at its second parameter, after that was written to. */
class Midway extends GradientOptimizer<{ lr: number }> {
  #times = 0;
  answer: (p: Tensor) => unknown = () => undefined;
  constructor(parameters: Iterable<Tensor>) {
    super(parameters, { lr: 0.1 }, {}, () => {});
  }
  protected override slotNames() {
    return ['sum'];
  }
  protected override numberNames() {
    return ['times'];
  }
  protected override update(p: Tensor, g: Tensor, state: ParameterState, { lr }: { lr: number }): void {
    state.numbers.set('times', ++this.#times);
    p.addScaled_(state.slot('sum').addScaled_(g, 1), -lr);
    if (this.#times % 2 === 0) fail('midway');
    return js(this.answer(p));
  }
}

class Matrices extends MatrixOptimizer {
  act: (g: Tensor, slots: readonly Tensor[]) => unknown = () => undefined;
  constructor(model: AnyModule, rest = (left: Tensor[]): Optimizer => new AdamW(left)) {
    super(model, { rest }, { lr: 0.02, rest, restGain: 1e8 });
  }
  protected override get slotNames() {
    return ['m'];
  }
  protected override direction(g: Tensor, slots: readonly Tensor[]): Direction {
    const done = this.act(g, slots);
    return done === undefined ? { update: g.mul(1), slots: [slots[0]!.add(g)] } : js(done);
  }
}

/** The library's collectors, with blocks that fail after the second layer was written to. */
const collectors = defaultCollectors.map(collector => ({
  ...collector,
  collect(...[module, path, options]: Parameters<typeof collector.collect>): LayerBlock[] | null {
    const blocks = collector.collect(module, path, options);
    for (const block of blocks ?? []) {
      const { add } = block;
      block.add = (update, scale) => {
        add.call(block, update, scale);
        if (path === '3') fail('add');
      };
    }
    return blocks;
  },
}));

const throwing: Record<string, (m: Module) => Optimizer> = {
  'a first-order class': m => new Midway(m.parameters()),
  'a rest of KFAC that throws at its end': m => new KFAC(m, { rest: left => new Throws(left, { momentum: 0.9 }) }),
  'a rest of STEVE that throws midway': m => new STEVE(m, { rest: left => new Midway(left) }),
  'a rest of Muon': m => new Muon(m, { rest: left => new Throws(left, { momentum: 0.9 }) }),
  'a rest of a matrix optimizer': m => new Matrices(m, left => new Midway(left)),
  'blocks of EKFAC': m => new EKFAC(m, { refreshEvery: 2, collectors }),
};

const PASSES = /\.(rows|misses|rng|needsInputGrad)$/;
const remembered = async (run: DeviceRun) => Object.entries(await run.values()).filter(([key]) => !PASSES.test(key));

for (const device of DEVICES)
  for (const [what, make] of Object.entries(throwing))
    law(t, `${device}: ${what}: what throws in a step has changed nothing, and training goes on`, async () => {
      // A step between refreshes, and one that refreshes.
      for (const steps of [0, 1, 2]) {
        armed = false;
        const run = await new DeviceRun(device, deviceTasks.mlp, make).steps(steps);
        const before = await remembered(run);
        armed = true;
        await assert.rejects(run.step(), { message: /^(after all|midway|add)$/ });
        armed = false;
        assert.deepEqual(await remembered(run), before, `after ${steps} steps`);
        await run.steps(2);
        assert.ok(run.losses.every(Number.isFinite));
      }
    });

const builtIn: Record<string, (p: Tensor[]) => Optimizer> = {
  SGD: p => new SGD(p, { momentum: 0.9 }),
  Adagrad: p => new Adagrad(p),
  RMSprop: p => new RMSprop(p),
  Adam: p => new Adam(p),
  AdamW: p => new AdamW(p),
  NAdam: p => new NAdam(p),
  NAdamW: p => new NAdamW(p),
};
for (const [name, make] of Object.entries(builtIn))
  law(t, `${name}: a parameter or gradient that was released is told before any parameter changes`, async () => {
    for (const device of DEVICES)
      for (const of of ['', 'the gradient of ']) {
        const parameters = [1, 2, 3].map(() => ones([2], { device, requiresGrad: true }));
        const optimizer = make(parameters);
        for (const p of parameters) p.grad = ones([2], { device });
        optimizer.step();
        const before = await parameters[0]!.array();
        (of === '' ? parameters[2]! : parameters[2]!.grad!).storage.release();
        assert.throws(() => optimizer.step(), {
          name: ReleasedError.name,
          message: `${name}: ${of}parameter 2, float32[2], was released; no parameter was changed`,
        });
        assert.deepEqual(await parameters[0]!.array(), before);
      }
  });

law(t, 'an update that returns something is an error, and a promise that fails ends no process', () => {
  const parameters = [1, 2].map(() => ones([2], { requiresGrad: true }));
  const optimizer = new Midway(parameters);
  for (const [answer, got] of [
    [() => Promise.reject(new Error('unheard')), 'a promise'],
    [(p: Tensor) => p.mul(2), 'float32[2]'],
  ] as const) {
    optimizer.answer = answer;
    for (const p of parameters) p.grad = ones([2]);
    assert.throws(() => optimizer.step(), {
      name: 'TypeError',
      message: `Midway: expected update() of parameter 0, float32[2], to change it in place and return nothing, got ${got}; no parameter was changed`,
    });
    for (const p of parameters) assert.deepEqual(p.toArray(), [1, 1]);
  }
});

const acts: Record<string, readonly [act: Matrices['act'], says: RegExp]> = {
  'writes to a slot': [
    (_, [m]) => void m!.scale_(2),
    /^Matrices: expected direction\(\) of '0\.weight' to write to neither g nor slots, and it wrote to slot 'm': return what/,
  ],
  'writes to g': [
    g => void g.scale_(2),
    /and it wrote to g: return what takes the place of the slots; no parameter was changed$/,
  ],
  'writes to a slot and throws': [
    (_, [m]) => {
      m!.scale_(2);
      throw new Error('own');
    },
    /^own$/,
  ],
  'is async and fails': [
    () => Promise.reject(new Error('unheard')),
    /^Matrices: expected direction\(\) of '0\.weight' to return \{ update, slots \} .* got a promise; no parameter was changed$/,
  ],
};
for (const device of DEVICES)
  for (const [what, [act, message]] of Object.entries(acts))
    law(t, `${device}: direction() of a matrix optimizer that ${what} is told, and nothing has changed`, async () => {
      const run = await new DeviceRun(device, deviceTasks.mlp, m => new Matrices(m)).steps(2);
      const before = await remembered(run);
      run.optimizer.act = act;
      await assert.rejects(run.step(), { message });
      assert.deepEqual(await remembered(run), before);
      run.optimizer.act = () => undefined;
      await run.steps(1);
    });

// --- learning rates ------------------------------------------------------------------------------------------------------------

for (const device of DEVICES) {
  const muonAfter = async (run: DeviceRun) => {
    await run.step();
    await run.model.parameters()[0]!.data();
  };
  law(
    t,
    `${device}: Muon by a learning rate that takes weights out of range is an error that changes nothing`,
    async () => {
      const run = await new DeviceRun(device, deviceTasks.mlp, m => new Muon(m, { rest: left => new SGD(left) })).steps(
        2,
      );
      const before = await remembered(run);
      const { lr } = run.optimizer;
      run.optimizer.lr = 1e39;
      await assert.rejects(muonAfter(run), {
        name: 'RangeError',
        message:
          /^Muon: the update of the weights of '0\.weight' has NaN or infinite elements; no parameter was changed\./,
      });
      run.optimizer.lr = lr;
      assert.deepEqual(await remembered(run), before);
      // And one that leaves them in it is a step.
      run.optimizer.lr = 1e6;
      await muonAfter(run);
    },
  );

  law(t, `${device}: KFAC and EKFAC step by trust and klClip alone, however large lr is, or refuse it`, async () => {
    for (const make of [KFAC, EKFAC]) {
      const moved = async (lr: number): Promise<number[]> => {
        const model = mlp([6, 7, 3], { rng: new Generator(1) }).to(device);
        const optimizer = new make(model, { lr });
        const rng = new Generator(2);
        const [x, y] = [randn([8, 6], { rng, device }), randint(0, 3, [8], { rng, device })];
        crossEntropy(model.call(x) as Tensor, y).backward();
        const before = model.parameters()[0]!.detach().clone();
        await optimizer.step();
        return [...(await model.parameters()[0]!.detach().sub(before).data())];
      };
      const ordinary = await moved(1e3);
      assert.ok(ordinary.some(v => v !== 0));
      for (const lr of [1e18, 1e20, 1e30])
        for (const [i, v] of (await moved(lr)).entries()) assert.ok(Math.abs(v - ordinary[i]!) < 1e-6, `${lr} at ${i}`);
      if (device === 'later')
        await assert.rejects(moved(1e39), {
          name: 'RangeError',
          message: `${make.name}: expected lr ≤ 1e+30 for parameters on 'later', got 1e+39 for linear 'layers.0'; no parameter was changed`,
        });
    }
  });
}

// --- who trains what -----------------------------------------------------------------------------------------------------------

law(t, 'a rest that trains what blocks have, or another model, is refused whatever it extends', () => {
  const make = () => mlp([4, 5, 3], { rng: new Generator(1) });
  const overrides = { 'layers.0': { skip: true } };
  for (const rest of [(m: AnyModule) => new Muon(m), (m: AnyModule) => new KFAC(m)]) {
    const [model, other] = [make(), make()];
    assert.throws(() => new KFAC(model, { overrides, rest: () => rest(model) }), {
      message: /^KFAC: the optimizer that rest returned trains 'layers.2.weight', which a block updates/,
    });
    assert.throws(() => new Muon(model, { rest: () => rest(other) }), {
      message:
        /^Muon: the optimizer that rest returned does not train 'layers.0.bias', 'layers.2.bias'; it must train all/,
    });
  }
  const model = make();
  assert.ok(new KFAC(model, { overrides, rest: () => new Muon(model.namedModules().get('layers.0')!) }));
});

law(t, 'an eigensolver that returns a promise is refused, and its failure ends no process', () => {
  const model = mlp([2, 3], { rng: new Generator(1) });
  const optimizer = new KFAC(model, { eigensolver: () => js(Promise.reject(new Error('unheard'))) });
  crossEntropy(model.call(full([2, 2], 1)) as Tensor, tensor([0, 1], { dtype: 'int32' })).backward();
  assert.throws(() => optimizer.step(), { message: /^KFAC: the eigensolver must return \{ values \[3\], vectors/ });
});
