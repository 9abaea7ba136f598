// Wrong arguments for the optimizers whose inverses follow the factors, as they come from plain JavaScript.
import { Generator } from '@otimes/core';
import { type AnyModule, mlp } from '@otimes/nn';
import { alone, defaultCollectors, KBFGS, SGD, SINGD } from '@otimes/optim';
import t from 'tap';
import { checkDoor } from './helpers/doors.ts';
import { law } from './helpers/law.ts';

const shared = () => ({
  lr: 0.1,
  weightDecay: 0.1,
  refreshEvery: 3,
  stagger: true,
  factorDecay: 0.5,
  factorEvery: 2,
  maxFactorDim: 5,
  structure: { A: 'blocks', G: 'exact' },
  blockDim: 3,
  sharing: 'reduce',
  overrides: { 'layers.0': { lr: 0.2 } },
  fisher: 'empirical',
  loss: 'mse',
  lossReduction: 'mean',
  collectors: defaultCollectors,
  rest: (p: never) => new SGD(p),
  rng: new Generator(1),
  communicator: alone,
});

law(t, 'SINGD works or says what is wrong, and so does what it lets change', async () => {
  const numbers = { momentum: 0.5, damping: 0.1, lrCov: 0.1, alpha1: 0.1, adaptive: false, normalizeLrCov: true };
  await checkDoor('SINGD', {
    call: (model: AnyModule, o: object) => new SINGD(model, o).detach(),
    args: () => [mlp([4, 5, 3]), { ...shared(), ...numbers }],
    says: ['SINGD', "SINGD: overrides['layers.0']"],
  });
  const optimizer = new SINGD(mlp([4, 5, 3]));
  for (const property of ['damping', 'lrCov'])
    for (const value of [-1, NaN, Infinity, '0.5', null, undefined])
      t.throws(
        () => Object.assign(optimizer, { [property]: value }),
        { message: new RegExp(`^SINGD: expected .*${property}`) },
        `${property} = ${String(value)}`,
      );
  t.match(optimizer, { damping: 1e-3, lrCov: 1e-2 });
});

law(t, 'KBFGS works or says what is wrong, and so does what it lets change', async () => {
  const { lr, weightDecay, factorDecay, lossReduction, rest, overrides } = shared();
  const options = {
    lr,
    weightDecay,
    factorDecay,
    lossReduction,
    rest,
    overrides,
    momentum: 0.5,
    damping: 0.1,
    mu1: 0.1,
  };
  await checkDoor('KBFGS', {
    call: (model: AnyModule, o: object) => new KBFGS(model, o).detach(),
    args: () => [mlp([4, 5, 3]), options],
    says: ['KBFGS', "KBFGS: overrides['layers.0']"],
  });
  const optimizer = new KBFGS(mlp([4, 5, 3]));
  for (const damping of [0, -1, NaN, Infinity, '0.5', null, undefined])
    t.throws(() => Object.assign(optimizer, { damping }), { message: /^KBFGS: expected damping/ }, String(damping));
});
