// SOAP, Shampoo and KL-Shampoo train models: on every device, all of a step or nothing, also where a step waits for the host.
import assert from 'node:assert/strict';
import { Generator, getBackend, randint, randn, type StateDict, tensor, zeros } from '@otimes/core';
import { Conv2d, crossEntropy, Flatten, Linear, type Module, Sequential, Tanh } from '@otimes/nn';
import { KLShampoo, type Optimizer, SGD, Shampoo, SOAP } from '@otimes/optim';
import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { instantReadsIn, laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { optimizerLaws, trainingLaws } from './suites/optimizers.ts';

const dtype = 'float64';
const later = laterDevice().device;

const family: Record<string, (m: Module) => Optimizer> = {
  SOAP: m => new SOAP(m, { lr: 0.02, refreshEvery: 3 }),
  'one-sided SOAP': m => new SOAP(m, { lr: 0.02, refreshEvery: 2, oneSided: true, normalizeGrads: true }),
  Shampoo: m => new Shampoo(m, { lr: 0.02, refreshEvery: 3 }),
  KLShampoo: m => new KLShampoo(m, { lr: 0.02, refreshEvery: 3 }),
};
for (const [name, make] of Object.entries(family)) {
  optimizerLaws(t, { name, make });
  // One side is as two there.
  if (name !== 'one-sided SOAP') trainingLaws(t, { name, make }, later);
  if (name === 'SOAP') trainingLaws(t, { name, make }, 'reference');
}
optimizerLaws(t, {
  name: 'Shampoo, averaged, without momentum, with SGD for the rest',
  make: m =>
    new Shampoo(m, {
      ...{ lr: 0.02, beta: 0.9, momentum: 0, grafting: 'rmsprop', weightDecay: 0.1, maxFactorDim: 4 },
      rest: p => new SGD(p, { lr: 0.05 }),
    }),
});

// --- devices ----------------------------------------------------------------------------------------------------------------

const net = (device: string, seed = 1) => {
  const o = { dtype, rng: new Generator(seed) } as const;
  return new Sequential(new Conv2d(1, 3, 2, o), new Tanh(), new Flatten(), new Linear(12, 3, o)).to(device);
};

function backward(model: Module, i: number): void {
  const rng = new Generator(100 + i);
  const { device } = model.parameters()[0]!;
  const [x, y] = [randn([5, 1, 3, 3], { dtype, rng }).to(device), randint(0, 3, [5], { rng }).to(device)];
  crossEntropy(model.call(x), y).backward();
}

async function train(model: Module, optimizer: Optimizer, from: number, to: number): Promise<void> {
  for (let i = from; i < to; i++) {
    optimizer.zeroGrad();
    backward(model, i);
    await optimizer.step();
  }
}

async function readAll(...states: StateDict[]): Promise<Record<string, number[]>> {
  const all: Record<string, number[]> = {};
  for (const [i, state] of states.entries())
    for (const [key, x] of Object.entries(state)) all[`${i} ${key}`] = [...(await x.data())];
  return all;
}
const everything = (model: Module, optimizer: Optimizer) => readAll(model.stateDict(), optimizer.stateDict());

for (const [name, make] of Object.entries(family))
  law(t, `${name}: nothing is read that is not awaited, and most steps wait for nothing`, async () => {
    const model = net(later);
    const optimizer = make(model);
    const waits: boolean[] = [];
    const reads = await instantReadsIn(async () => {
      for (let i = 0; i < 7; i++) {
        optimizer.zeroGrad();
        backward(model, i);
        const open = optimizer.step();
        waits.push(open !== undefined);
        await open;
      }
    });
    assert.equal(reads, 0);
    const every = name.startsWith('one') ? 2 : 3;
    assert.deepEqual(
      waits,
      Array.from({ length: 7 }, (_, i) => i % every === 0),
    );
  });

// --- all or nothing ---------------------------------------------------------------------------------------------------------

/** The first step, one that refreshes, and one that does not. */
const moments = [0, 3, 4];
const spoilt: Record<string, { where: string; value: number; says: RegExp }> = {
  'NaN in a weight': { where: '3.weight', value: NaN, says: /the gradient of '3.weight' has NaN or infinite elements/ },
  'Infinity in a bias': { where: '3.bias', value: Infinity, says: /the gradient of '3.bias' has NaN or infinite/ },
  'a gradient whose square overflows': { where: '0.weight', value: 1e160, says: /'0\.weight'/ },
};
for (const device of DEVICES)
  for (const [name, make] of Object.entries(family).filter(([one]) => one !== 'one-sided SOAP'))
    law(t, `${name} on '${device}': a step that goes wrong changes nothing, at every kind of step`, async () => {
      for (const [what, { where, value, says }] of Object.entries(spoilt))
        for (const steps of moments) {
          const model = net(device);
          const optimizer = make(model);
          await train(model, optimizer, 0, steps);
          const before = await everything(model, optimizer);
          optimizer.zeroGrad();
          backward(model, steps);
          const p = model.namedParameters().get(where)!;
          const spoil = zeros([p.size], { dtype });
          spoil.narrow(0, p.size - 1, 1).copy_(tensor([value], { dtype }));
          p.grad = p.grad!.add(spoil.reshape(p.shape).to(device));
          const step = async () => {
            await optimizer.step();
            await p.data();
          };
          await assert.rejects(step, { name: 'RangeError', message: says }, `${what} at ${steps}`);
          assert.deepEqual(await everything(model, optimizer), before, `${what} at ${steps}`);
          await train(model, optimizer, steps, steps + 4);
          const other = net(device);
          const undisturbed = make(other);
          await train(other, undisturbed, 0, steps + 4);
          const [run, expected] = [await everything(model, optimizer), await everything(other, undisturbed)];
          assert.deepEqual(run, expected, `on after ${what} at ${steps}`);
        }
    });

for (const [name, make] of Object.entries(family))
  law(t, `${name}: what comes while a step waits is refused, and gradients that change reject it`, async () => {
    const model = net(later);
    const optimizer = make(model);
    const called = optimizer.constructor.name;
    backward(model, 0);
    const before = await everything(model, optimizer);
    const open = optimizer.step();
    const calls: Record<string, () => unknown> = {
      'step()': () => optimizer.step(),
      'zeroGrad()': () => optimizer.zeroGrad(),
      'loadStateDict()': () => optimizer.loadStateDict({}),
      'setting lr': () => {
        optimizer.lr = 1;
      },
    };
    for (const [what, call] of Object.entries(calls))
      assert.throws(call, {
        message: `${called}: ${what} while a step waits for values from the device: await step() before it`,
      });
    backward(model, 1);
    await assert.rejects(async () => open, /gradients changed while a step was waiting: .* that of '0.weight'$/);
    assert.deepEqual(await everything(model, optimizer), before);
    optimizer.zeroGrad();
    await train(model, optimizer, 0, 5);
    const other = net(later);
    const undisturbed = make(other);
    await train(other, undisturbed, 0, 5);
    assert.deepEqual(await everything(model, optimizer), await everything(other, undisturbed));
  });

law(t, 'a check that failed on the device before a step that waits rejects it, and leaves no trace', async () => {
  for (const make of Object.values(family))
    for (const steps of [0, 6]) {
      const model = net(later);
      const optimizer = make(model);
      await train(model, optimizer, 0, steps);
      const before = await everything(model, optimizer);
      optimizer.zeroGrad();
      backward(model, steps);
      const bad = tensor([9], { device: later, dtype: 'int32' });
      getBackend(later).checkIndex!(bad, 3, () => new RangeError('bad: 9'));
      await assert.rejects(async () => optimizer.step(), { message: 'bad: 9' });
      assert.deepEqual(await everything(model, optimizer), before);
    }
});

law(t, 'lr far beyond what weights have room for is an error that changes nothing', async () => {
  for (const device of DEVICES)
    for (const make of [(m: Module) => new SOAP(m), (m: Module) => new Shampoo(m), (m: Module) => new KLShampoo(m)]) {
      const model = net(device);
      const optimizer = make(model);
      await train(model, optimizer, 0, 2);
      optimizer.lr = 1e308;
      const before = await everything(model, optimizer);
      backward(model, 2);
      const step = async () => {
        await optimizer.step();
        await model.parameters()[0]!.data();
      };
      await assert.rejects(step, {
        name: 'RangeError',
        message: /has NaN or infinite elements|no parameter was changed/,
      });
      assert.deepEqual(await everything(model, optimizer), before, device);
    }
});

// --- which sides ------------------------------------------------------------------------------------------------------------

t.test('describe() tells the sides that stay at the identity; a convolution is [out, in · kh · kw]', t => {
  const rows = (optimizer: SOAP | Shampoo | KLShampoo) =>
    optimizer.describe().map(({ path, shape, identity, structure }) => ({ path, shape, identity, structure }));
  const both = { A: 'exact', G: 'exact' };
  t.match(rows(new SOAP(net('cpu'))), [
    { path: '0.weight', shape: [3, 4], identity: [], structure: both },
    { path: '3.weight', shape: [3, 12], identity: [], structure: both },
    { path: '0.bias', shape: [3], identity: [], structure: null },
  ]);
  const left = { identity: ['A'], structure: { A: 'identity', G: 'exact' } };
  t.match(rows(new SOAP(net('cpu'), { oneSided: true })), [left, left]);
  for (const Made of [SOAP, Shampoo, KLShampoo])
    t.match(rows(new Made(net('cpu'), { maxFactorDim: 11 })), [{ identity: [], structure: both }, left]);
  t.match(rows(new Shampoo(net('cpu'), { maxFactorDim: 2 })), [{ identity: ['A', 'G'] }, { identity: ['A', 'G'] }]);
  t.match(
    String(new SOAP(net('cpu'), { maxFactorDim: 11 })),
    /^SOAP\(lr 0.003, weightDecay 0.01\) of Sequential\npath +collector +shape +route\n0.weight +conv2d +3 × 4\n3.weight +linear +3 × 12 +A identity\n/,
  );
  t.end();
});

t.test('errors', t => {
  const wrong: [object, RegExp][] = [
    [{ refreshEvery: 0 }, /: expected refreshEvery to be an integer ≥ 1, got 0/],
    [{ maxFactorDim: 1.5 }, /: expected maxFactorDim to be an integer ≥ 1, got 1.5/],
    [{ eps: 0 }, /: expected eps to be a finite number > 0, got 0/],
    [{ weightDecay: -1 }, /: expected weightDecay/],
    [{ refreshevery: 3 }, /: there is no option 'refreshevery'/],
  ];
  for (const Made of [SOAP, Shampoo, KLShampoo])
    for (const [o, message] of wrong) t.throws(() => new Made(net('cpu'), o), { message });
  for (const Made of [SOAP, KLShampoo]) {
    t.throws(() => new Made(net('cpu'), { betas: [0.9, 1] }), /: expected betas\[1\] in \[0, 1\), got 1/);
    t.throws(() => new Made(net('cpu'), { shampooBeta: 1 }), /: expected shampooBeta/);
  }
  t.throws(() => new Shampoo(net('cpu'), { exponent: 0.25 }), {
    message: 'Shampoo: expected exponent below 0, such as -1/4, got 0.25',
  });
  t.throws(() => new Shampoo(net('cpu'), { beta: 1.5 }), /^Shampoo: expected beta in \[0, 1\], got 1\.5/);
  t.equal(new Shampoo(net('cpu'), { beta: 1 }).beta, 1);
  t.throws(
    () => new Shampoo(net('cpu'), { graftBetas: [0.9, 1] }),
    /^Shampoo: expected graftBetas\[1\] in \[0, 1\), got 1/,
  );
  const optimizer = new SOAP(net('cpu'));
  const state = { ...optimizer.stateDict(), 'matrices.0.weight.v': zeros([3, 4], { dtype }).sub(1) };
  t.throws(() => optimizer.loadStateDict(state), /matrices.0.weight.v has elements below 0/);
  t.end();
});
