/** NAdamW, Lion, LAMB and schedule-free AdamW by plain loops, and averages of weights. */

import assert from 'node:assert/strict';
import { Generator, noGrad, ones, packCheckpoint, type Tensor, tensor, unpackCheckpoint, zeros } from '@otimes/core';
import { Linear, Sequential, Tanh } from '@otimes/nn';
import {
  ExponentialMovingAverage,
  Lamb,
  Lion,
  NAdam,
  NAdamW,
  type Optimizer,
  ScheduleFreeAdamW,
  SGD,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { within } from './helpers/golden.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';

laterDevice();
const STEPS = 9;
const parameter = (data: readonly number[], device = 'cpu') =>
  tensor([...data], { dtype: 'float64', requiresGrad: true, device });

/** Gradients of a run; with zeros and other scales among them. */
const gradients = (n: number): number[][] => {
  const rng = new Generator(11);
  return Array.from({ length: STEPS }, (_, t) =>
    Array.from({ length: n }, (_, i) => (i === 1 && t < 3 ? 0 : rng.normal() * (i === 2 ? 1e-6 : 1))),
  );
};

function stepped(p: Tensor, optimizer: Optimizer, g: readonly number[]): void {
  p.grad = tensor([...g], { dtype: 'float64' });
  void optimizer.step();
}

const init = [0.5, -1, 2, 0];

law(t, 'the first update copies the weights, whatever was there when the average was made', () => {
  const p = tensor([NaN, Infinity, 1], { requiresGrad: true });
  const ema = new ExponentialMovingAverage([p], { warmup: true });
  noGrad(() => p.copy_(tensor([1, 2, 3])));
  ema.update();
  ema.copyTo();
  mustBeClose(p.detach(), [1, 2, 3]);
});

law(
  t,
  'NAdamW: NAdam without a penalty, after weights that decay by lr · weightDecay; NAdam with decoupledWeightDecay is the same',
  () => {
    const [b1, b2, eps, decay, psi] = [0.8, 0.95, 1e-4, 0.2, 0.3];
    const o = { lr: 0.1, betas: [b1, b2], eps, weightDecay: decay, momentumDecay: psi } as const;
    const [p, q] = [parameter(init), parameter(init)];
    const [one, other] = [new NAdamW([p], o), new NAdam([q], { ...o, decoupledWeightDecay: true })];
    const [x, m, v] = [[...init], init.map(() => 0), init.map(() => 0)];
    const mu = (t: number) => b1 * (1 - 0.5 * 0.96 ** (t * psi));
    let product = 1;
    for (const [k, g] of gradients(4).entries()) {
      const t = k + 1;
      if (t === 5) for (const optimizer of [one, other]) optimizer.lr = 0.05;
      const { lr } = one;
      stepped(p, one, g);
      stepped(q, other, g);
      product *= mu(t);
      for (let i = 0; i < x.length; i++) {
        x[i]! *= 1 - lr * decay;
        m[i] = b1 * m[i]! + (1 - b1) * g[i]!;
        v[i] = b2 * v[i]! + (1 - b2) * g[i]! ** 2;
        const root = Math.sqrt(v[i]! / (1 - b2 ** t)) + eps;
        x[i]! -= (lr * (1 - mu(t)) * g[i]!) / ((1 - product) * root);
        x[i]! -= (lr * mu(t + 1) * m[i]!) / ((1 - product * mu(t + 1)) * root);
      }
      mustBeClose(p.dataSync(), x, within(1e-13), `NAdamW after ${t}`);
      assert.deepEqual(q.dataSync(), p.dataSync());
    }
  },
);

law(t, 'the weight decay of NAdamW is 0.01, and that of NAdam 0', () => {
  const after = (make: (p: Tensor) => Optimizer) => {
    const p = parameter(init);
    stepped(p, make(p), [1, 2, -3, 0]);
    return [...p.dataSync()];
  };
  const decayed = after(p => new NAdamW([p]));
  assert.deepEqual(
    decayed,
    after(p => new NAdamW([p], { weightDecay: 0.01 })),
  );
  const plain = after(p => new NAdam([p]));
  assert.deepEqual(
    plain,
    after(p => new NAdamW([p], { weightDecay: 0 })),
  );
  assert.notDeepEqual(decayed, plain);
});

law(t, 'Lion: the sign of β₁ m + (1−β₁) g, and weights that decay', () => {
  const [lr, b1, b2, decay] = [0.1, 0.8, 0.95, 0.2];
  const p = parameter(init);
  const optimizer = new Lion([p], { lr, betas: [b1, b2], weightDecay: decay });
  const [x, m] = [[...init], init.map(() => 0)];
  for (const g of gradients(4)) {
    stepped(p, optimizer, g);
    for (let i = 0; i < x.length; i++) {
      x[i] = (1 - lr * decay) * x[i]! - lr * Math.sign(b1 * m[i]! + (1 - b1) * g[i]!);
      m[i] = b2 * m[i]! + (1 - b2) * g[i]!;
    }
    mustBeClose(p.dataSync(), x, within(1e-13), 'Lion');
  }
});

law(t, 'LAMB: Adam with weight decay, times ‖p‖ / ‖u‖; that is 1 where a norm is 0', () => {
  const [lr, b1, b2, eps, decay] = [0.1, 0.8, 0.95, 1e-4, 0.2];
  for (const start of [init, init.map(() => 0)]) {
    const p = parameter(start);
    const optimizer = new Lamb([p], { lr, betas: [b1, b2], eps, weightDecay: decay });
    const [x, m, v] = [[...start], start.map(() => 0), start.map(() => 0)];
    const norm = (a: readonly number[]) => Math.sqrt(a.reduce((sum, one) => sum + one ** 2, 0));
    for (const [k, g] of [init.map(() => 0), ...gradients(4)].entries()) {
      stepped(p, optimizer, g);
      const u = x.map((w, i) => {
        m[i] = b1 * m[i]! + (1 - b1) * g[i]!;
        v[i] = b2 * v[i]! + (1 - b2) * g[i]! ** 2;
        return m[i]! / (1 - b1 ** (k + 1)) / (Math.sqrt(v[i]! / (1 - b2 ** (k + 1))) + eps) + decay * w;
      });
      const ratio = norm(x) > 0 && norm(u) > 0 ? norm(x) / norm(u) : 1;
      for (let i = 0; i < x.length; i++) x[i]! -= lr * ratio * u[i]!;
      mustBeClose(p.dataSync(), x, within(1e-13), `LAMB ${k}`);
    }
  }
});

law(t, 'schedule-free AdamW: z by Adam, x its weighted average, gradients at y; eval shows x and train y', () => {
  const [b1, b2, eps, decay, warmupSteps, r, power] = [0.8, 0.95, 1e-4, 0.2, 4, 0.5, 1.5];
  const p = parameter(init);
  const o = { lr: 0.1, betas: [b1, b2], eps, weightDecay: decay, warmupSteps, r, weightLrPower: power } as const;
  const optimizer = new ScheduleFreeAdamW([p], o);
  const [x, z, v] = [[...init], [...init], init.map(() => 0)];
  let [sum, largest] = [0, 0];
  for (const [k, g] of gradients(4).entries()) {
    const t = k + 1;
    if (t === 6) optimizer.lr = 0.05;
    stepped(p, optimizer, g);
    const lr = optimizer.lr * Math.min(1, t / warmupSteps);
    largest = Math.max(largest, lr);
    const weight = t ** r * largest ** power;
    sum += weight;
    for (let i = 0; i < x.length; i++) {
      const y = (1 - b1) * z[i]! + b1 * x[i]!;
      v[i] = b2 * v[i]! + (1 - b2) * g[i]! ** 2;
      z[i]! -= lr * (g[i]! / (Math.sqrt(v[i]! / (1 - b2 ** t)) + eps) + decay * y);
      x[i] = x[i]! + (weight / sum) * (z[i]! - x[i]!);
    }
    const y = x.map((one, i) => (1 - b1) * z[i]! + b1 * one);
    mustBeClose(p.dataSync(), y, within(1e-12), `y at ${t}`);
    optimizer.eval();
    optimizer.eval();
    mustBeClose(p.dataSync(), x, within(1e-12), `x at ${t}`);
    assert.throws(() => optimizer.step(), /the averaged weights, since eval\(\); call train\(\) before a step/);
    optimizer.train();
    mustBeClose(p.dataSync(), y, within(1e-12), `y again at ${t}`);
  }
});

law(t, 'schedule-free AdamW: a state that was saved between eval and train goes on', () => {
  const [a, b] = [parameter(init), parameter(init)];
  const [one, two] = [a, b].map(p => new ScheduleFreeAdamW([p], { lr: 0.1 }));
  const list = gradients(4);
  for (const g of list.slice(0, 4)) stepped(a, one!, g);
  one!.eval();
  two!.loadStateDict(one!.stateDict());
  b.detach().copy_(a.detach());
  for (const [p, optimizer] of [
    [a, one!],
    [b, two!],
  ] as const) {
    assert.throws(() => stepped(p, optimizer, list[4]!), /call train\(\)/);
    optimizer.train();
    for (const g of list.slice(4)) stepped(p, optimizer, g);
  }
  assert.deepEqual(b.toArray(), a.toArray());
});

// --- averages of weights ---

const net = (device = 'cpu') => {
  const at = { dtype: 'float64', device, rng: new Generator(2) } as const;
  return new Sequential(new Linear(3, 4, at), new Tanh(), new Linear(4, 2, at));
};
const valuesOf = async (m: Sequential) => (await Promise.all(m.parameters().map(p => p.data()))).flatMap(x => [...x]);

async function trained(
  device: string,
  make: (m: Sequential) => Optimizer,
  see: (m: Sequential) => void,
): Promise<Sequential> {
  const model = net(device);
  const optimizer = make(model);
  const x = ones([4, 3], { dtype: 'float64', device });
  see(model);
  for (let i = 0; i < 5; i++) {
    optimizer.zeroGrad();
    model
      .call(x.mul(i + 1))
      .square()
      .mean()
      .backward();
    await optimizer.step();
    see(model);
  }
  return model;
}

const MAKERS: Record<string, (m: Sequential) => Optimizer> = {
  SGD: m => new SGD(m.parameters(), { lr: 0.1 }),
  'STEVE, resident': m => new STEVE(m, { lr: 0.01, route: 'resident' }),
};

for (const device of ['cpu', 'later'])
  for (const [name, make] of Object.entries(MAKERS))
    law(
      t,
      `${device}, ${name}: the average is decay · average + (1 − decay) · weights, from the first ones on`,
      async () => {
        for (const warmup of [false, true]) {
          let ema: ExponentialMovingAverage | undefined;
          const seen: Promise<number[]>[] = [];
          const model = await trained(device, make, m => {
            ema ??= new ExponentialMovingAverage(m.parameters(), { decay: 0.7, warmup });
            ema.update();
            seen.push(valuesOf(m));
          });
          const weights = await Promise.all(seen);
          const expected = weights.reduce((average, w, t) => {
            const decay = t === 0 ? 0 : warmup ? Math.min(0.7, (1 + t) / (10 + t)) : 0.7;
            return average.map((a, i) => decay * a + (1 - decay) * w[i]!);
          }, weights[0]!);
          const own = await valuesOf(model);
          await ema!.use(async () => mustBeClose(await valuesOf(model), expected, within(1e-12), 'within use'));
          assert.deepEqual(await valuesOf(model), own, 'its own weights again');
          ema!.copyTo();
          mustBeClose(await valuesOf(model), expected, within(1e-12), 'copied');
        }
      },
    );

law(t, 'whatever fails within use, the model has its own weights after it', async () => {
  const model = net();
  const ema = new ExponentialMovingAverage(model.parameters());
  ema.update();
  model
    .parameters()[0]!
    .detach()
    .copy_(zeros([4, 3], { dtype: 'float64' }));
  const own = await valuesOf(model);
  const fail = () => assert.fail('broken');
  assert.throws(() => ema.use(fail), /broken/);
  assert.deepEqual(await valuesOf(model), own);
  await assert.rejects(
    ema.use(async () => fail()),
    /broken/,
  );
  assert.deepEqual(await valuesOf(model), own);
  for (const call of [() => ema.update(), () => ema.copyTo(), () => ema.use(() => 1)])
    assert.throws(() => ema.use(call), /within use\(\)/);
  assert.equal(
    ema.use(() => 3),
    3,
  );
});

law(t, 'an average goes on from a checkpoint, also from one that was made within use', async () => {
  const model = net();
  const [first, second] = [1, 2].map(() => new ExponentialMovingAverage(model.parameters(), { decay: 0.5 }));
  first!.update();
  model
    .parameters()[1]!
    .detach()
    .copy_(ones([4], { dtype: 'float64' }));
  first!.update();
  const bytes = await first!.use(() => packCheckpoint({ ema: first! }));
  await unpackCheckpoint(bytes, { ema: second! });
  assert.equal(second!.updates, 2);
  for (const ema of [first!, second!]) ema.update();
  const shown = await Promise.all([first!, second!].map(ema => ema.use(() => valuesOf(model))));
  assert.deepEqual(shown[1], shown[0]);
  assert.throws(() => new ExponentialMovingAverage([]), /expected at least one parameter/);
  assert.throws(
    () => new ExponentialMovingAverage(model.parameters(), { decay: 1 }),
    /expected decay in \[0, 1\), got 1/,
  );
});
