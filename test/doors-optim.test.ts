// Wrong arguments for the Kronecker optimizers, as they come from plain JavaScript.
import { Generator, randint, randn } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { type AnyModule, crossEntropy, mlp } from '@otimes/nn';
import {
  adaptiveDamping,
  alone,
  defaultCollectors,
  EKFAC,
  KFAC,
  KLShampoo,
  Muon,
  SGD,
  Shampoo,
  SOAP,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { checkDoor, type Door } from './helpers/doors.ts';
import { law } from './helpers/law.ts';

const shared = () => ({
  lr: 0.1,
  weightDecay: 0.1,
  refreshEvery: 3,
  refresh: 'sync',
  stagger: true,
  factorDecay: 0.5,
  factorEvery: 2,
  maxFactorDim: 5,
  structure: { A: 'blocks', G: 'exact' },
  blockDim: 3,
  refreshBudget: 1,
  sharing: 'reduce',
  overrides: { 'layers.0': { lr: 0.2 } },
  route: 'gradient',
  fisher: 'empirical',
  loss: 'mse',
  lossReduction: 'mean',
  collectors: defaultCollectors,
  rest: (p: never) => new SGD(p),
  eigensolver: eigh,
  rng: new Generator(1),
  communicator: alone,
});
const own = {
  KFAC: { damping: 0.1, dampingSplit: 'pi', momentum: 0.5, nesterov: true, klClip: 0.1, trust: false },
  EKFAC: {
    damping: 0.1,
    momentum: 0.5,
    nesterov: true,
    klClip: 0.1,
    trust: 0.1,
    secondMoment: 'batch',
    averageNull: false,
  },
  STEVE: {
    betas: [0.5, 0.9],
    eps: 0.1,
    secondMoment: 'batch',
    onRefresh: 'zero',
    nesterov: true,
    graft: false,
    nullRule: 'none',
  },
};
const classes = { KFAC, EKFAC, STEVE };

for (const [name, Made] of Object.entries(classes)) {
  const door: Door = {
    call: (model: AnyModule, o: object) => new Made(model, o).detach(),
    args: () => [mlp([4, 5, 3]), { ...shared(), ...own[name as keyof typeof own] }],
    says: [name, `${name}: overrides['layers.0']`],
  };
  t.test(`new ${name}() works or says what is wrong`, () => checkDoor(name, door));

  law(t, `the methods of ${name} work or say what is wrong`, async () => {
    const model = mlp([4, 5, 3]);
    const optimizer = new Made(model);
    crossEntropy(model.call(randn([6, 4])), randint(0, 3, [6])).backward();
    optimizer.step();
    await checkDoor(`${name}.inspect`, {
      call: (path: never) => optimizer.inspect(path),
      args: () => ['layers.0'],
      says: name,
    });
    await checkDoor(`${name}.observe`, { call: (on: never) => optimizer.observe(on), args: () => [true] });
    optimizer.observe(false);
    for (const surplus of [true, null, { setToNone: true }])
      t.throws(() => optimizer.zeroGrad(...([surplus] as never[])), {
        name: 'TypeError',
        message: new RegExp(`^${name}\\.zeroGrad: takes no argument, got `),
      });
  });

  law(t, `what ${name} lets change is checked as at the start`, async () => {
    const optimizer = new Made(mlp([4, 5, 3]), { refresh: 'background', refreshLag: 2 });
    const counts = [0, -1, 1.5, NaN, Infinity, '3', null, undefined, {}];
    const wrong: Record<string, readonly unknown[]> = {
      refreshEvery: [...counts, 1],
      factorEvery: counts,
      factorDecay: [1, -0.1, NaN, '0.5', null, undefined],
      weightDecay: [-1, NaN, Infinity, '0.5', null, undefined],
      ...(optimizer instanceof KFAC && { damping: [0, -1, NaN, '0.5', null, undefined, false, adaptiveDamping()] }),
    };
    for (const [property, values] of Object.entries(wrong)) {
      const before: unknown = Reflect.get(optimizer, property);
      for (const value of values)
        t.throws(
          () => Object.assign(optimizer, { [property]: value }),
          { message: new RegExp(`^${name}: expected .*(${property}|refreshLag)`) },
          `${property} = ${String(value)}`,
        );
      t.equal(Reflect.get(optimizer, property), before);
    }
    Object.assign(optimizer, { refreshEvery: 2, factorEvery: 3, factorDecay: 0, weightDecay: 0.5 });
    t.match(optimizer, { refreshEvery: 2, factorEvery: 3, factorDecay: 0, weightDecay: 0.5 });
    optimizer.detach();
  });
}

const ofMatrices = () => ({
  lr: 0.1,
  weightDecay: 0.1,
  overrides: { 'layers.0': { lr: 0.2 } },
  collectors: defaultCollectors,
  rest: (p: never) => new SGD(p),
});
const factored = { maxFactorDim: 4, refreshEvery: 2 };
const inBases = { ...factored, betas: [0.5, 0.9], shampooBeta: 0.8, eps: 0.1, normalizeGrads: true };
const grafted = { grafting: 'adam', graftBetas: [0.5, 0.9], graftEps: 0.1 };
const matrices = {
  Muon: [Muon, { momentum: 0.5, nesterov: false, steps: 3 }],
  SOAP: [SOAP, { ...inBases, oneSided: true }],
  Shampoo: [Shampoo, { ...factored, momentum: 0.5, beta: 0.9, eps: 0.1, exponent: -0.5, ...grafted }],
  KLShampoo: [KLShampoo, { ...inBases, initFactor: 0.5, clamping: false }],
} as const;
for (const [name, [Made, its]] of Object.entries(matrices))
  law(t, `new ${name}() works or says what is wrong`, () =>
    checkDoor(name, {
      call: (model: AnyModule, o: object) => new Made(model, o),
      args: () => [mlp([4, 5, 3]), { ...ofMatrices(), ...its }],
      says: [name, `${name}: overrides['layers.0']`],
    }),
  );

law(t, 'zeroGrad of first-order optimizers takes nothing', async () => {
  const optimizer = new SGD(mlp([2, 2]).parameters());
  t.throws(() => optimizer.zeroGrad(...([true] as never[])), /^SGD\.zeroGrad: takes no argument, got true/);
});
