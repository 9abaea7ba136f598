// SOAP, Shampoo and KL-Shampoo against trajectories of an independent implementation in float64 (test/golden/soap.py).
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type StateDict, tensor } from '@otimes/core';
import { Linear, type Module, mseLoss, Sequential, Tanh } from '@otimes/nn';
import { KLShampoo, type Optimizer, Shampoo, SOAP } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { law } from './helpers/law.ts';

type Weights = Record<string, number[] | number[][]>;
type Golden = {
  start: Weights;
  batches: { x: number[][]; y: number[][] }[];
  cases: Record<string, { losses: number[]; kept: Record<string, Weights> }>;
};
const golden = JSON.parse(readFileSync(new URL('golden/soap.json', import.meta.url), 'utf8')) as Golden;

const dtype = 'float64';
const grafting = (grafting: 'none' | 'sgd' | 'rmsprop' | 'adam') => ({ grafting });
const cases: Record<string, (model: Module) => Optimizer> = {
  SOAP: m => new SOAP(m, { lr: 0.02, refreshEvery: 3 }),
  'SOAP, betas apart, normalized': m =>
    new SOAP(m, {
      ...{ lr: 0.01, betas: [0.9, 0.99], shampooBeta: 0.8, eps: 1e-6, weightDecay: 0.1 },
      ...{ refreshEvery: 1, normalizeGrads: true },
    }),
  'SOAP, one-sided': m => new SOAP(m, { lr: 0.02, refreshEvery: 2, oneSided: true }),
  Shampoo: m => new Shampoo(m, { lr: 0.05, refreshEvery: 2, weightDecay: 0.1, ...grafting('none') }),
  'Shampoo, grafted to SGD': m =>
    new Shampoo(m, { lr: 0.1, momentum: 0, refreshEvery: 1, eps: 1e-3, ...grafting('sgd') }),
  'Shampoo, grafted to RMSprop': m =>
    new Shampoo(m, {
      ...{ lr: 0.02, momentum: 0.5, beta: 0.9, refreshEvery: 4, ...grafting('rmsprop') },
      ...{ graftBetas: [0.9, 0.99], graftEps: 1e-6 },
    }),
  'Shampoo, averages, power -1/2, grafted to Adam': m =>
    new Shampoo(m, { lr: 0.01, momentum: 0.5, beta: 0.95, exponent: -1 / 2, refreshEvery: 3, ...grafting('adam') }),
  'KL-Shampoo': m => new KLShampoo(m, { lr: 0.02, refreshEvery: 3 }),
  'KL-Shampoo, at the clamp': m => new KLShampoo(m, { lr: 0.02, betas: [0.9, 0.5] }),
  'KL-Shampoo, not clamped, normalized': m =>
    new KLShampoo(m, {
      ...{ lr: 0.02, betas: [0.8, 0.9], refreshEvery: 2, normalizeGrads: true },
      ...{ clamping: false, initFactor: 0.5, eps: 1e-6 },
    }),
};

assert.deepEqual(Object.keys(cases), Object.keys(golden.cases));

for (const device of DEVICES)
  for (const [name, make] of Object.entries(cases))
    law(t, `${name} on '${device}' is the independent implementation`, async () => {
      const model = new Sequential(new Linear(4, 5, { dtype }), new Tanh(), new Linear(5, 4, { dtype }));
      const start = Object.entries(golden.start).map(([key, value]) => [key, tensor(value, { dtype })]);
      model.loadStateDict(Object.fromEntries(start) as StateDict);
      model.to(device);
      const optimizer = make(model);
      const batches = golden.batches.map(({ x, y }) => ({
        x: tensor(x, { dtype }).to(device),
        y: tensor(y, { dtype }).to(device),
      }));
      const { losses, kept } = golden.cases[name]!;
      for (const [i, expected] of losses.entries()) {
        const { x, y } = batches[i % batches.length]!;
        optimizer.zeroGrad();
        const loss = mseLoss(model.call(x), y);
        loss.backward();
        await optimizer.step();
        mustBeClose(await loss.array(), expected, { rtol: 1e-8, atol: 0 }, `loss ${i}`);
        for (const [key, value] of Object.entries(kept[i + 1] ?? {}))
          mustBeClose(
            await model.stateDict()[key]!.array(),
            value,
            { rtol: 1e-7, atol: 1e-9 },
            `${key} after ${i + 1}`,
          );
      }
    });
