/** ScheduleFree makes any optimizer schedule-free: z by its steps, x the weighted average of z, gradients at y (Defazio et al. 2024). */

import assert from 'node:assert/strict';
import { full, Generator, type Tensor, tensor } from '@otimes/core';
import { Linear, type Module, Sequential, Tanh } from '@otimes/nn';
import {
  Adam,
  AdamW,
  GradScaler,
  KBFGS,
  KFAC,
  LBFGS,
  Muon,
  type Optimizer,
  ScheduleFree,
  ScheduleFreeAdamW,
  SGD,
  SINGD,
  SOAP,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { within } from './helpers/golden.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';

laterDevice();
const BETA = 0.8;
const net = (device = 'cpu', seed = 2): Sequential => {
  const at = { dtype: 'float64', device, rng: new Generator(seed) } as const;
  return new Sequential(new Linear(3, 4, at), new Tanh(), new Linear(4, 2, at));
};
const batches = Array.from({ length: 7 }, (_, i) =>
  Array.from({ length: 5 }, (_, j) => Array.from({ length: 3 }, (_, k) => Math.sin(1 + i + 2 * j + 5 * k))),
);
function backward(model: Module, i: number, device = 'cpu'): void {
  for (const p of model.parameters()) p.grad = null;
  model
    .call(tensor(batches[i]!, { dtype: 'float64', device }))
    .sub(0.3)
    .square()
    .mean()
    .backward();
}
const valuesOf = (model: Module): number[] => [...model.parameters()].flatMap(p => [...p.dataSync()]);
const set = (model: Module, values: readonly number[]): void => {
  let at = 0;
  for (const p of model.parameters()) {
    p.detach().copy_(tensor(values.slice(at, at + p.size), { dtype: 'float64' }).reshape(p.shape));
    at += p.size;
  }
};

const MAKERS: Readonly<Record<string, (m: Module) => Optimizer>> = {
  SGD: m => new SGD(m.parameters(), { lr: 0.1, weightDecay: 0.1 }),
  Adam: m => new Adam(m.parameters(), { lr: 0.05, betas: [0, 0.9] }),
  Muon: m => new Muon(m, { lr: 0.05, momentum: 0 }),
  SOAP: m => new SOAP(m, { lr: 0.05, betas: [0, 0.9] }),
  'KFAC, gradient': m => new KFAC(m, { lr: 0.05, route: 'gradient', damping: 0.1 }),
  'STEVE, gradient': m =>
    new STEVE(m, { lr: 0.05, betas: [0, 0.9], route: 'gradient', weightDecay: 0.1, refreshEvery: 3 }),
  'STEVE, resident': m => new STEVE(m, { lr: 0.05, betas: [0, 0.9], route: 'resident', refreshEvery: 3 }),
};

for (const [name, make] of Object.entries(MAKERS))
  law(t, `${name}: z moves as the optimizer moves y, x is the weighted average of z, and eval shows it`, () => {
    const [model, twin] = [net(), net()];
    const [r, power] = [0.5, 1.5];
    const optimizer = new ScheduleFree(make(model), { momentum: BETA, r, weightLrPower: power });
    const plain = make(twin);
    let [x, y, z] = [valuesOf(model), valuesOf(model), valuesOf(model)];
    let [sum, largest] = [0, 0];
    for (const i of batches.keys()) {
      if (i === 3) for (const one of [optimizer, plain]) one.lr *= 2;
      if (i === 5) for (const one of [optimizer, plain]) one.lr /= 4;
      backward(model, i);
      void optimizer.step();
      set(twin, y);
      backward(twin, i);
      void plain.step();
      const moved = valuesOf(twin).map((value, k) => value - y[k]!);
      largest = Math.max(largest, plain.lr);
      const weight = (i + 1) ** r * largest ** power;
      sum += weight;
      z = z.map((value, k) => value + moved[k]!);
      x = x.map((value, k) => value + (weight / sum) * (z[k]! - value));
      y = z.map((value, k) => (1 - BETA) * value + BETA * x[k]!);
      const own = valuesOf(model);
      mustBeClose(own, y, within(1e-9), `y at ${i}`);
      optimizer.eval();
      optimizer.eval();
      mustBeClose(valuesOf(model), x, within(1e-9), `x at ${i}`);
      assert.throws(() => optimizer.step(), /the averaged weights, since eval\(\); call train\(\) before a step/);
      optimizer.train();
      optimizer.train();
      assert.deepEqual(valuesOf(model), own, 'y again, bit for bit');
    }
  });

law(t, 'of AdamW without first moments it makes ScheduleFreeAdamW, with its weight decay and its groups', () => {
  const [a, b] = [net(), net()];
  const groups = (m: Sequential) => {
    const [one, two, ...rest] = [...m.parameters()];
    return [{ params: [one!, two!], lr: 0.02 }, { params: rest }];
  };
  const o = { lr: 0.05, weightDecay: 0.2 };
  const one = new ScheduleFree(new AdamW(groups(a), { ...o, betas: [0, 0.95] }), { momentum: BETA });
  const two = new ScheduleFreeAdamW(groups(b), { ...o, betas: [BETA, 0.95] });
  for (const i of batches.keys())
    for (const [model, optimizer] of [
      [a, one],
      [b, two],
    ] as const) {
      backward(model, i);
      void optimizer.step();
    }
  mustBeClose(valuesOf(a), valuesOf(b), within(1e-12));
  for (const optimizer of [one, two]) optimizer.eval();
  mustBeClose(valuesOf(a), valuesOf(b), within(1e-12), 'the averages');
});

for (const name of ['Adam', 'STEVE, gradient', 'STEVE, resident'])
  law(t, `${name}: a state that was saved on the way, also between eval and train, goes on to the same bits`, () => {
    for (const shown of [false, true]) {
      const [a, b] = [net(), net('cpu', 3)];
      const [one, two] = [a, b].map(m => new ScheduleFree(MAKERS[name]!(m), { momentum: BETA }));
      for (const i of [0, 1, 2, 3]) {
        backward(a, i);
        void one!.step();
      }
      if (shown) one!.eval();
      two!.loadStateDict(one!.stateDict());
      b.loadStateDict(a.stateDict());
      for (const [model, optimizer] of [
        [a, one!],
        [b, two!],
      ] as const) {
        optimizer.train();
        for (const i of [4, 5, 6]) {
          backward(model, i);
          void optimizer.step();
        }
      }
      assert.deepEqual(valuesOf(b), valuesOf(a));
    }
  });

law(t, 'a state that does not fit is refused whole', () => {
  const [a, b] = [net(), net()];
  const [one, two] = [a, b].map(m => new ScheduleFree(MAKERS.Adam!(m)));
  backward(a, 0);
  void one!.step();
  const before = two!.stateDict();
  const { '1.z': _, ...without } = one!.stateDict();
  assert.throws(
    () => two!.loadStateDict(without),
    /ScheduleFree\.loadStateDict: nothing was loaded.*\n {2}missing: 1\.z/,
  );
  const { 'base.0.m': __, ...part } = one!.stateDict();
  assert.throws(() => two!.loadStateDict(part), /Adam\.loadStateDict: nothing was loaded.*\n {2}missing: 0\.m/);
  assert.throws(
    () => two!.loadStateDict({ ...one!.stateDict(), averaged: tensor(2) }),
    /averaged expects 0 or 1, got 2/,
  );
  const other = new ScheduleFree(MAKERS.Adam!(net()), { momentum: 0.5 });
  assert.throws(() => other.loadStateDict(one!.stateDict()), /momentum expects that of this optimizer, 0\.5, got 0\.9/);
  assert.throws(() => two!.loadStateDict({ ...one!.stateDict(), more: tensor(2) }), /unexpected: more/);
  assert.deepEqual(
    Object.entries(two!.stateDict()).map(([name, x]) => [name, x.item()]),
    Object.entries(before).map(([name, x]) => [name, x.item()]),
  );
});

law(t, 'a step that throws leaves weights, average and counters as they were', () => {
  for (const name of ['KFAC, gradient', 'STEVE, gradient', 'STEVE, resident']) {
    const model = net();
    const optimizer = new ScheduleFree(MAKERS[name]!(model), { momentum: BETA });
    for (const i of [0, 1]) {
      backward(model, i);
      void optimizer.step();
    }
    const [weights, state] = [valuesOf(model), optimizer.stateDict()];
    backward(model, 2);
    const [p] = model.parameters();
    p!.grad = p!.grad!.mul(NaN);
    assert.throws(() => optimizer.step(), /not finite|NaN/);
    assert.deepEqual(valuesOf(model), weights);
    for (const [key, x] of Object.entries(optimizer.stateDict())) {
      if (!key.startsWith('base.')) assert.deepEqual(x.toArray(), state[key]!.toArray(), key);
    }
    backward(model, 3);
    void optimizer.step();
    assert.notDeepEqual(valuesOf(model), weights);
  }
});

law(t, 'a GradScaler tells the optimizer within its scale, and what it refuses it refuses here', () => {
  for (const make of [
    (m: Module) => new KFAC(m, { lr: 0.05, damping: 0.01 }),
    (m: Module) => new SINGD(m, { lr: 0.01 }),
  ]) {
    const [scaled, plain] = [net(), net()];
    const scaler = new GradScaler({ initScale: 1024 });
    const [one, two] = [scaled, plain].map(m => new ScheduleFree(make(m)));
    for (const i of batches.keys()) {
      one!.zeroGrad();
      const loss = scaled
        .call(tensor(batches[i]!, { dtype: 'float64' }))
        .sub(0.3)
        .square()
        .mean();
      (scaler.scale(loss) as Tensor).backward();
      void scaler.step(one!);
      scaler.update();
      backward(plain, i);
      void two!.step();
    }
    mustBeClose(valuesOf(scaled), valuesOf(plain), within(1e-9));
  }
});

law(t, 'what was frozen from the start is left alone by eval and train, whatever is written to it', () => {
  const model = net();
  const [first] = [...model.parameters()];
  const optimizer = new ScheduleFree(MAKERS.SGD!(model));
  first!.requiresGrad = false;
  backward(model, 0);
  void optimizer.step();
  first!.detach().copy_(full([4, 3], 5, { dtype: 'float64' }));
  optimizer.eval();
  assert.ok(first!.dataSync().every(x => x === 5));
  optimizer.train();
  assert.ok(first!.dataSync().every(x => x === 5));
});

law(t, 'a weight of the average beyond all numbers is refused before the step', () => {
  const model = net();
  const optimizer = new ScheduleFree(MAKERS.SGD!(model), { r: 2000 });
  backward(model, 0);
  void optimizer.step();
  const weights = valuesOf(model);
  backward(model, 1);
  assert.throws(
    () => optimizer.step(),
    /RangeError: ScheduleFree: expected weights of the average with a finite sum, got step 2 to the power r 2000/,
  );
  assert.deepEqual(valuesOf(model), weights);
});

law(t, 'parameters without a gradient, and frozen ones, stay what they are', () => {
  const model = net();
  const [first, second] = [...model.parameters()] as unknown as [Tensor, Tensor];
  const optimizer = new ScheduleFree(MAKERS.SGD!(model));
  for (const i of [0, 1, 2]) {
    backward(model, i);
    first.grad = null;
    if (i > 0) second.requiresGrad = false;
    const before = [first, second].map(p => [...p.dataSync()]);
    void optimizer.step();
    assert.deepEqual([...first.dataSync()], before[0]);
    if (i > 0) assert.deepEqual([...second.dataSync()], before[1]);
  }
});

law(t, 'a step without any gradient counts nothing', () => {
  const model = net();
  const optimizer = new ScheduleFree(MAKERS.SGD!(model));
  void optimizer.step();
  assert.equal(optimizer.stateDict().steps!.item(), 0);
});

law(t, 'with lr 0 nothing moves, and eval before the first step shows the weights', () => {
  const model = net();
  const optimizer = new ScheduleFree(new Adam(model.parameters(), { lr: 0 }));
  const weights = valuesOf(model);
  optimizer.eval();
  assert.deepEqual(valuesOf(model), weights);
  optimizer.train();
  backward(model, 0);
  void optimizer.step();
  assert.deepEqual(valuesOf(model), weights);
  optimizer.eval();
  mustBeClose(valuesOf(model), weights, within(1e-15));
});

for (const name of ['Adam', 'STEVE, gradient'])
  law(
    t,
    `${name}, on a device that is read with await: the same weights and averages; a check that failed changes nothing`,
    async () => {
      const [here, there] = [net(), net('later')];
      const [one, two] = [here, there].map(m => new ScheduleFree(MAKERS[name]!(m), { momentum: BETA }));
      const read = async (m: Module) =>
        (await Promise.all([...m.parameters()].map(p => p.data()))).flatMap(x => [...x]);
      for (const i of batches.keys()) {
        backward(here, i);
        await one!.step();
        backward(there, i, 'later');
        await two!.step();
      }
      mustBeClose(await read(there), valuesOf(here), within(1e-9));
      for (const optimizer of [one, two]) optimizer!.eval();
      const averages = valuesOf(here);
      mustBeClose(await read(there), averages, within(1e-9));
      for (const optimizer of [one, two]) optimizer!.train();
      if (name === 'Adam') return;
      const before = await read(there);
      backward(there, 0, 'later');
      const [p] = there.parameters();
      p!.grad = p!.grad!.mul(NaN);
      await assert.rejects(async () => {
        await two!.step();
        await read(there);
      }, /not finite|NaN/);
      assert.deepEqual(await read(there), before);
      two!.eval();
      mustBeClose(await read(there), averages, within(1e-9), 'the average is where it was');
    },
  );

law(t, 'what is no optimizer, and what is no option, is refused', () => {
  const base = MAKERS.Adam!(net());
  for (const wrong of [undefined, null, {}, 'adam', net().parameters()])
    assert.throws(
      () => new ScheduleFree(wrong as never),
      /^TypeError: ScheduleFree: expected an optimizer of this library that steps once with .*, got/,
    );
  const model = net();
  const others = [
    new LBFGS(model.parameters()),
    new KBFGS(model),
    new ScheduleFree(base),
    new ScheduleFreeAdamW(model.parameters()),
  ];
  for (const wrong of others)
    assert.throws(
      () => new ScheduleFree(wrong as never),
      /^TypeError: ScheduleFree: .* has no average of its own, got a (LBFGS|KBFGS|ScheduleFree)/,
    );
  assert.throws(() => new ScheduleFree(base, { beta: 0.9 } as object), /beta/);
  assert.throws(() => new ScheduleFree(base, { momentum: 0 }), /expected momentum above 0, got 0/);
  assert.throws(() => new ScheduleFree(base, { momentum: 1.5 }), /momentum/);
  assert.throws(() => new ScheduleFree(base, { momentum: '0.9' as never }), /expected momentum to be a number/);
  assert.throws(() => new ScheduleFree(base, { r: -1 }), /r/);
  assert.throws(() => new ScheduleFree(base, { weightLrPower: NaN }), /weightLrPower/);
  assert.match(
    String(new ScheduleFree(base)),
    /^ScheduleFree\(momentum 0\.9, r 0, weightLrPower 2\)\n {2}Adam\(lr 0\.05/,
  );
});
