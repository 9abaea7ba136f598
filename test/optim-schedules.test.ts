/** Learning rate schedules: PyTorch's rates, and their own laws. */

import assert from 'node:assert/strict';
import { tensor, zeros } from '@otimes/core';
import {
  constantLr,
  cosineLr,
  cosineRestartsLr,
  exponentialLr,
  type LrRule,
  multiStepLr,
  oneCycleLr,
  type PlateauOptions,
  polynomialLr,
  ReduceLrOnPlateau,
  Schedule,
  SGD,
  sequentialLr,
  stepLr,
  warmupLr,
} from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, within } from './helpers/golden.ts';
import { law } from './helpers/law.ts';

const torch = golden<{
  schedules: Record<string, number[]>;
  measures: number[];
  plateaus: Record<string, { options: Record<string, number | string>; rates: number[] }>;
}>('torch-optim');
const camelCase = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
const parameter = (data: number[]) => tensor(data, { dtype: 'float64', requiresGrad: true });

const rules: Record<string, LrRule> = {
  stepLr: stepLr({ stepSize: 3, gamma: 0.5 }),
  cosineLr: cosineLr({ tMax: 7 }),
  'cosineLr etaMin': cosineLr({ tMax: 16, etaMin: 0.01 }),
  warmupLr: warmupLr(),
  'warmupLr then cosineLr': warmupLr({ steps: 4, startFactor: 0.1, after: cosineLr({ tMax: 15 }) }),
  exponentialLr: exponentialLr({ gamma: 0.9 }),
  multiStepLr: multiStepLr({ milestones: [2, 5, 5, 11], gamma: 0.5 }),
  polynomialLr: polynomialLr(),
  'polynomialLr power': polynomialLr({ steps: 15, power: 2 }),
  cosineRestartsLr: cosineRestartsLr({ t0: 3, tMult: 2, etaMin: 0.01 }),
  'cosineRestartsLr equal': cosineRestartsLr({ t0: 4 }),
  oneCycleLr: oneCycleLr({ maxLr: 0.5, totalSteps: 20 }),
  'oneCycleLr linear': oneCycleLr({
    maxLr: 0.5,
    totalSteps: 21,
    pctStart: 0.4,
    annealStrategy: 'linear',
    divFactor: 5,
    finalDivFactor: 100,
    threePhase: true,
  }),
};

for (const [name, expected] of Object.entries(torch.schedules))
  law(t, `${name} = PyTorch`, () => {
    const optimizer = new SGD([parameter([0])], { lr: 0.1 });
    const schedule = new Schedule(optimizer, rules[name]!);
    const rates = expected.map(() => {
      const { lr } = optimizer;
      assert.equal(schedule.lr, lr);
      schedule.step();
      return lr;
    });
    mustBeClose(rates, expected, within(1e-14), name);
  });

law(t, 'a schedule sets the rate at once, and constantLr leaves it', () => {
  const optimizer = new SGD([parameter([0])], { lr: 0.5 });
  const schedule = new Schedule(optimizer, constantLr());
  for (let i = 0; i < 3; i++, schedule.step()) assert.equal(optimizer.lr, 0.5);
  new Schedule(optimizer, (t, base) => base / (t + 2));
  assert.equal(optimizer.lr, 0.25);
});

law(t, 'schedules: save, load, go on = the uninterrupted run', () => {
  for (const [name, rule] of Object.entries(rules)) {
    const whole = { lr: 0.3 };
    const schedule = new Schedule(whole, rule);
    const resumed = { lr: 99 };
    for (let i = 0; i < 6; i++) schedule.step();
    const second = new Schedule(resumed, rule);
    second.loadStateDict(schedule.stateDict());
    for (let i = 0; i < 9; i++) {
      assert.equal(resumed.lr, whole.lr, name);
      schedule.step();
      second.step();
    }
    assert.throws(
      () => second.loadStateDict({ step: zeros([2]), more: zeros([]) }),
      /does not fit: step.*\n.*missing: base\n.*unexpected: more/,
    );
    assert.equal(resumed.lr, whole.lr);
  }
});

law(t, 'schedules: bad options are refused', () => {
  assert.throws(() => stepLr({ stepSize: 0 }), /stepLr: expected stepSize to be an integer ≥ 1, got 0/);
  assert.throws(() => cosineLr({ tMax: 1.5 }), /expected tMax/);
  assert.throws(() => warmupLr({ steps: -1 }), /expected steps/);
  assert.throws(() => warmupLr({ startFactor: 2 }), /expected startFactor in \[0, 1\], got 2/);
});

law(t, 'a phase of a cycle that has no length is at its end: a warmup of one step begins at the top', () => {
  const curve = (o: object) => {
    const rule = oneCycleLr({ maxLr: 1, totalSteps: 10, annealStrategy: 'linear', finalDivFactor: 1, ...o });
    return Array.from({ length: 11 }, (_, t) => rule(t, 5));
  };
  const falling = Array.from({ length: 11 }, (_, t) => 1 - (Math.min(t, 9) / 9) * (1 - 1 / 25));
  mustBeClose(curve({ pctStart: 0.1 }), falling, { rtol: 1e-12 });
  mustBeClose(
    curve({ pctStart: 1 }),
    Array.from({ length: 11 }, (_, t) => (1 + (Math.min(t, 9) / 9) * 24) / 25),
    { rtol: 1e-12 },
  );
  const rates = [0, 1].map(t => oneCycleLr({ maxLr: 1, totalSteps: 2, pctStart: 0.5, finalDivFactor: 1 })(t, 5));
  mustBeClose(rates, [1, 1 / 25], { rtol: 1e-12 });
});

law(t, 'a step of the schedule after each of the optimizer ends at the least rate of the cycle', () => {
  for (const annealStrategy of ['cos', 'linear'] as const)
    for (const threePhase of [false, true]) {
      const optimizer = new SGD([parameter([1])], { lr: 1 });
      const schedule = new Schedule(optimizer, oneCycleLr({ maxLr: 1, totalSteps: 20, annealStrategy, threePhase }));
      for (let i = 0; i < 20; i++) schedule.step();
      mustBeClose([optimizer.lr], [1 / 25 / 1e4], { rtol: 1e-9 });
    }
});

law(t, 'rules one after the other: each counts from 0, the last one goes on', () => {
  const rule = sequentialLr([
    { rule: warmupLr({ steps: 2, startFactor: 0.5 }), steps: 2 },
    { rule: exponentialLr({ gamma: 0.5 }), steps: 3 },
    { rule: constantLr() },
  ]);
  const rates = Array.from({ length: 7 }, (_, i) => rule(i, 1));
  assert.deepEqual(rates, [0.5, 0.75, 1, 0.5, 0.25, 1, 1]);
});

for (const [name, { options, rates }] of Object.entries(torch.plateaus))
  law(t, `ReduceLrOnPlateau, ${name} = PyTorch, also when it is saved and loaded at any call`, () => {
    const ours = Object.fromEntries(Object.entries(options).map(([key, x]) => [camelCase(key), x])) as PlateauOptions;
    const optimizer = { lr: 0.1 };
    let plateau = new ReduceLrOnPlateau(optimizer, ours);
    for (const [i, measure] of torch.measures.entries()) {
      const next = new ReduceLrOnPlateau(optimizer, ours);
      next.loadStateDict(plateau.stateDict());
      plateau = next;
      plateau.step(measure);
      mustBeClose([optimizer.lr], [rates[i]!], within(1e-14), `call ${i}`);
    }
  });

law(t, 'a measure of NaN is no improvement', () => {
  const optimizer = { lr: 1 };
  const plateau = new ReduceLrOnPlateau(optimizer, { patience: 1, factor: 0.5 });
  for (const measure of [3, Number.NaN, Number.NaN]) plateau.step(measure);
  assert.deepEqual([optimizer.lr, plateau.best], [0.5, 3]);
});

law(t, 'more schedules: bad options and wrong measures are refused', () => {
  const cases: [() => unknown, RegExp][] = [
    [() => exponentialLr({} as never), /exponentialLr: expected gamma in \[0, Infinity\), got undefined/],
    [
      () => multiStepLr({ milestones: [3, 2] }),
      /expected milestones to be steps that ascend, such as \[30, 80\], got \[3, 2\]/,
    ],
    [() => polynomialLr({ power: -1 }), /expected power in/],
    [() => cosineRestartsLr({ t0: 2, tMult: 0 }), /expected tMult to be an integer ≥ 1, got 0/],
    [() => oneCycleLr({ maxLr: 1 } as never), /expected totalSteps to be an integer ≥ 1, got undefined/],
    [() => oneCycleLr({ maxLr: 1, totalSteps: 3, pctStart: 2 }), /expected pctStart in \[0, 1\], got 2/],
    [() => oneCycleLr({ maxLr: 1, totalSteps: 3 })(4, 1), /step 4 is beyond the 3 of the cycle/],
    [() => sequentialLr([]), /expected rules to be a list of/],
    [() => sequentialLr([{ rule: constantLr() }, { rule: constantLr() }]), /expected rules to be a list of/],
    [() => new ReduceLrOnPlateau({ lr: 1 }, { factor: 1 }), /expected factor in \[0, 1\), got 1/],
    [
      () => new ReduceLrOnPlateau({ lr: 1 }).step(zeros([]) as never),
      /got float32\[\]; of a tensor give loss.item\(\)/,
    ],
  ];
  for (const [call, message] of cases) assert.throws(call, message);
});
