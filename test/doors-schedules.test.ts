/** The newer first-order optimizers, schedules and averages of @otimes/optim, called with wrong arguments. */

import { Generator, ones } from '@otimes/core';
import { Linear } from '@otimes/nn';
import * as optim from '@otimes/optim';
import t from 'tap';
import { checkDoors, type Door } from './helpers/doors.ts';

const parameters = () => new Linear(2, 3, { rng: new Generator(1) }).parameters();
const made = (Class: new (...args: never[]) => unknown, args: Door['args']): Door => ({
  call: (...given) => new Class(...given),
  args,
});
const optimizer = (Class: new (...args: never[]) => unknown, options: object): Door =>
  made(Class, () => [parameters(), options]);
const moments = { lr: 0.1, betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0.1 };
const cycle = { pctStart: 0.3, annealStrategy: 'cos', divFactor: 25, finalDivFactor: 10, threePhase: true };
const plateau = { patience: 2, threshold: 0.1, thresholdMode: 'abs', cooldown: 1, minLr: 0, eps: 0 };

const doors: Record<string, Door> = {
  Adadelta: optimizer(optim.Adadelta, { lr: 0.1, rho: 0.9, eps: 1e-8, weightDecay: 0 }),
  Adamax: optimizer(optim.Adamax, moments),
  RAdam: optimizer(optim.RAdam, moments),
  NAdamW: optimizer(optim.NAdamW, { ...moments, momentumDecay: 0 }),
  Lion: optimizer(optim.Lion, { lr: 0.1, betas: [0.9, 0.99], weightDecay: 0 }),
  Lamb: optimizer(optim.Lamb, moments),
  ScheduleFreeAdamW: optimizer(optim.ScheduleFreeAdamW, { ...moments, warmupSteps: 2, r: 0, weightLrPower: 2 }),
  ScheduleFree: made(optim.ScheduleFree as never, () => [
    new optim.SGD(parameters(), { lr: 0.1 }),
    { momentum: 0.9, r: 0, weightLrPower: 2 },
  ]),
  LBFGS: optimizer(optim.LBFGS, {
    ...{ lr: 1, maxIter: 2, maxEval: 3, toleranceGrad: 0, toleranceChange: 0 },
    ...{ historySize: 2, lineSearch: 'strongWolfe' },
  }),
  ExponentialMovingAverage: optimizer(optim.ExponentialMovingAverage, { decay: 0.9, warmup: true }),
  ReduceLrOnPlateau: made(optim.ReduceLrOnPlateau, () => [{ lr: 1 }, { mode: 'max', factor: 0.5, ...plateau }]),
  exponentialLr: { call: optim.exponentialLr, args: () => [{ gamma: 0.5 }] },
  multiStepLr: { call: optim.multiStepLr, args: () => [{ milestones: [2, 3], gamma: 0.5 }] },
  polynomialLr: { call: optim.polynomialLr, args: () => [{ steps: 2, power: 2 }] },
  cosineRestartsLr: { call: optim.cosineRestartsLr, args: () => [{ t0: 2, tMult: 2, etaMin: 0 }] },
  oneCycleLr: { call: optim.oneCycleLr, args: () => [{ maxLr: 1, totalSteps: 9, ...cycle }] },
  sequentialLr: {
    call: optim.sequentialLr,
    args: () => [[{ rule: optim.constantLr(), steps: 2 }, { rule: optim.constantLr() }]],
  },
};
checkDoors(t, 'optim', Object.keys(doors), doors);

/** A method of an object that is made anew for each call. */
const method = (make: () => object, name: string, args: Door['args'], says: string | readonly string[]): Door => ({
  call: (...given) => (make() as Record<string, (...all: never[]) => unknown>)[name]!(...given),
  args,
  says,
});
const lbfgs = () => new optim.LBFGS(parameters());
const average = () => new optim.ExponentialMovingAverage(parameters());
const falling = () => new optim.ReduceLrOnPlateau({ lr: 1 });
const free = () => new optim.ScheduleFreeAdamW(parameters());
const wrapped = () => new optim.ScheduleFree(new optim.SGD(parameters(), { lr: 0.1 }));
const methods: Record<string, Door> = {
  'LBFGS.zeroGrad': method(lbfgs, 'zeroGrad', () => [], 'LBFGS.zeroGrad'),
  'LBFGS.loadStateDict': method(lbfgs, 'loadStateDict', () => [lbfgs().stateDict()], 'LBFGS.loadStateDict'),
  'ExponentialMovingAverage.update': method(average, 'update', () => [], 'ExponentialMovingAverage.update'),
  'ExponentialMovingAverage.copyTo': method(average, 'copyTo', () => [], 'ExponentialMovingAverage.copyTo'),
  'ExponentialMovingAverage.use': method(average, 'use', () => [() => 1], 'ExponentialMovingAverage.use'),
  'ExponentialMovingAverage.loadStateDict': method(
    average,
    'loadStateDict',
    () => [average().stateDict()],
    'ExponentialMovingAverage.loadStateDict',
  ),
  'ReduceLrOnPlateau.step': method(falling, 'step', () => [2], 'ReduceLrOnPlateau.step'),
  'ReduceLrOnPlateau.loadStateDict': method(
    falling,
    'loadStateDict',
    () => [falling().stateDict()],
    'ReduceLrOnPlateau.loadStateDict',
  ),
  'ScheduleFreeAdamW.eval': method(free, 'eval', () => [], 'ScheduleFreeAdamW.eval'),
  'ScheduleFreeAdamW.train': method(free, 'train', () => [], 'ScheduleFreeAdamW.train'),
  'ScheduleFree.step': method(wrapped, 'step', () => [], 'ScheduleFree.step'),
  'ScheduleFree.zeroGrad': method(wrapped, 'zeroGrad', () => [], 'ScheduleFree.zeroGrad'),
  'ScheduleFree.eval': method(wrapped, 'eval', () => [], 'ScheduleFree.eval'),
  'ScheduleFree.train': method(wrapped, 'train', () => [], 'ScheduleFree.train'),
  'ScheduleFree.loadStateDict': method(wrapped, 'loadStateDict', () => [wrapped().stateDict()], [
    'ScheduleFree.loadStateDict',
    'SGD.loadStateDict',
  ]),
};
checkDoors(t, 'methods of optim', Object.keys(methods), methods);

checkDoors(t, 'LBFGS.step', ['LBFGS.step'], {
  'LBFGS.step': {
    call: given => {
      const p = ones([3], { requiresGrad: true });
      const one = new optim.LBFGS([p], { maxIter: 2 });
      p.square().sum().backward();
      return one.step(given as never);
    },
    args: () => [() => 1],
    says: ['LBFGS.step', 'LBFGS'],
  },
});
