// The Kronecker family in its limits, where it is another optimizer, and its invariances.

import assert from 'node:assert/strict';
import { Generator, randint, randn, type Tensor, tensor } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { type AnyModule, crossEntropy, Linear, type Module, Sequential, Tanh } from '@otimes/nn';
import { Adam, type Eigensolver, EKFAC, KFAC, type KroneckerOptions, type Optimizer, SGD, STEVE } from '@otimes/optim';
import ndarray from 'ndarray';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { identitySolver } from './helpers/eigensolver.ts';
import { law } from './helpers/law.ts';
import { dtype, Mixed, smallNet } from './helpers/nets.ts';
import { blocksOf, statistics } from './suites/exactness.ts';

/** Parameters after some steps on seeded batches. */
function train(
  make: (model: Module) => Optimizer,
  {
    steps = 9,
    reduction = 'mean',
    float = dtype,
  }: { steps?: number; reduction?: 'mean' | 'sum'; float?: 'float32' | 'float64' } = {},
): number[] {
  const rng = new Generator(3);
  const o = { dtype: float, rng } as const;
  const model = new Sequential(new Linear(5, 4, o), new Tanh(), new Linear(4, 3, o));
  const optimizer = make(model);
  for (let step = 0; step < steps; step++) {
    const [x, y] = [randn([8, 5], o), randint(0, 3, [8], { rng })];
    optimizer.zeroGrad();
    crossEntropy(model.call(x), y, { reduction }).backward();
    void optimizer.step();
  }
  return model.parameters().flatMap(p => Array.from(p.dataSync()));
}

t.test('limits in which the family is something else', t => {
  law(t, 'KFAC with A = G = I is SGD with lr / (1 + λ)', () => {
    const kfac = train(
      m => new KFAC(m, { lr: 0.5, damping: 1, trust: false, eigensolver: identitySolver, refreshEvery: 3 }),
    );
    assert.deepEqual(
      kfac,
      train(m => new SGD(m.parameters(), { lr: 0.25 })),
    );
  });

  law(t, 'KFAC with A = G = I, momentum and Nesterov is SGD with momentum and Nesterov', () => {
    const o = { momentum: 0.9, nesterov: true };
    const kfac = train(m => new KFAC(m, { lr: 0.5, damping: 1, trust: false, eigensolver: identitySolver, ...o }));
    mustBeClose(
      kfac,
      train(m => new SGD(m.parameters(), { lr: 0.25, ...o })),
      { atol: 1e-14 },
    );
  });

  for (const float of ['float64', 'float32'] as const)
    law(t, `STEVE with UA = UG = I and batch second moments is Adam, bit for bit (${float})`, () => {
      const adam = train(m => new Adam(m.parameters(), { lr: 0.02, eps: 1e-7 }), { float });
      for (const refreshEvery of [1, 3, 100]) {
        const o = { lr: 0.02, eps: 1e-7, eigensolver: identitySolver, refreshEvery };
        assert.deepEqual(
          train(m => new STEVE(m, o), { float }),
          adam,
          `refresh every ${refreshEvery}`,
        );
      }
    });

  law(t, 'STEVE that claims nothing is its rest optimizer, Adam', () => {
    assert.deepEqual(
      train(m => new STEVE(m, { lr: 0.02, collectors: [] })),
      train(m => new Adam(m.parameters(), { lr: 0.02 })),
    );
  });

  law(t, 'EKFAC that never updates its second moments is KFAC', () => {
    const free = { klClip: false, trust: false } as const;
    const [a, b] = [KFAC, EKFAC].map(Kind =>
      train(m => new Kind(m, { refreshEvery: 1, factorDecay: 1 - 2 ** -53, ...free })),
    );
    mustBeClose(a!, b!, { rtol: 1e-9 });
  });

  law(t, 'the two damping splits agree where the factors are multiples of the identity', () => {
    const scaled: Eigensolver = a => ({
      ...identitySolver(a),
      values: ndarray(new Float64Array(a.shape[0]!).fill(4), [a.shape[0]!]),
    });
    // (4 + √λ)² against 16 + λ': the same for λ' = 8√λ + λ.
    const pi = train(m => new KFAC(m, { damping: 0.01, dampingSplit: 'pi', eigensolver: scaled }));
    const eigen = train(m => new KFAC(m, { damping: 0.81, dampingSplit: 'eigen', eigensolver: scaled }));
    mustBeClose(pi, eigen, { rtol: 1e-12 });
  });
  t.end();
});

t.test('invariances', t => {
  const cases: Record<string, (m: AnyModule, o: KroneckerOptions) => Optimizer> = {
    KFAC: (m, o) => new KFAC(m, o),
    'KFAC pi': (m, o) => new KFAC(m, { ...o, dampingSplit: 'pi', momentum: 0.9, klClip: 1e-3 }),
    EKFAC: (m, o) => new EKFAC(m, o),
    'EKFAC batch': (m, o) => new EKFAC(m, { ...o, secondMoment: 'batch' }),
    STEVE: (m, o) => new STEVE(m, o),
    'STEVE zero, example': (m, o) => new STEVE(m, { ...o, onRefresh: 'zero', secondMoment: 'example' }),
    'STEVE nesterov': (m, o) => new STEVE(m, { ...o, nesterov: true, weightDecay: 0.1 }),
  };
  for (const [name, make] of Object.entries(cases)) {
    law(t, `${name}: the signs of eigenvectors change nothing`, () => {
      const rng = new Generator(11);
      const flipped: Eigensolver = a => {
        const { values, vectors } = eigh(a);
        for (let j = 0; j < a.shape[0]!; j++)
          if (rng.uniform() < 0.5) for (let i = 0; i < a.shape[0]!; i++) vectors.set(i, j, -vectors.get(i, j));
        return { values, vectors };
      };
      const plain = train(m => make(m, { lr: 0.02, refreshEvery: 3 }));
      mustBeClose(
        train(m => make(m, { lr: 0.02, refreshEvery: 3, eigensolver: flipped })),
        plain,
        { rtol: 1e-7, atol: 1e-8 },
      );
    });

    law(t, `${name}: a sum loss with lossReduction 'sum' takes the steps of the mean loss`, () => {
      const mean = train(m => make(m, { lr: 0.02, refreshEvery: 3 }));
      const sum = train(m => make(m, { lr: 0.02, refreshEvery: 3, lossReduction: 'sum' }), { reduction: 'sum' });
      mustBeClose(sum, mean, { rtol: 1e-7, atol: 1e-8 });
    });
  }

  law(t, 'the rest optimizer takes the steps of the mean loss too, and gradients stay as backward left them', () => {
    const run = (reduction: 'mean' | 'sum') => {
      const model = new Mixed();
      const optimizer = new KFAC(model, { lossReduction: reduction });
      const x = randint(0, 5, [6, 2], { rng: new Generator(9) });
      crossEntropy(model.call(x), randint(0, 3, [6], { rng: new Generator(8) }), { reduction }).backward();
      const before = model.scale.grad!.clone();
      optimizer.step();
      mustBeClose(model.scale.grad!, before, { rtol: 0, atol: 0 });
      return model.parameters().flatMap(p => Array.from(p.dataSync()));
    };
    mustBeClose(run('sum'), run('mean'), { rtol: 1e-9 });
  });

  law(t, 'sum and mean loss give the same factors', () => {
    const net = smallNet(4, { batch: 6, loss: 'crossEntropy' });
    const mean = statistics(net);
    const optimizer = new KFAC(net.model, { lr: 0, factorDecay: 0, lossReduction: 'sum' });
    crossEntropy(net.model.call(net.x), net.y, { reduction: 'sum' }).backward();
    optimizer.step();
    blocksOf(optimizer).forEach((state, i) => {
      mustBeClose(state.A!, mean[i]!.A!, { rtol: 1e-12 });
      mustBeClose(state.G!, mean[i]!.G!, { rtol: 1e-12, atol: 1e-16 });
    });
  });

  law(t, 'carried moments are exact for m: the direction of m in parameter space does not jump at a refresh', () => {
    const net = smallNet(8, { batch: 8, loss: 'crossEntropy' });
    const optimizer = new STEVE(net.model, { lr: 0, refreshEvery: 4, betas: [0.999999, 0.999] });
    const inParameterSpace = () => blocksOf(optimizer).map(({ kfe, slots }) => kfe!.unproject(slots.get('m')!));
    let before: Tensor[] = [];
    for (let step = 0; step < 5; step++) {
      if (step === 4) before = inParameterSpace();
      optimizer.zeroGrad();
      const x = randn([8, 5], { dtype, rng: new Generator(step) });
      crossEntropy(net.model.call(x), net.y).backward();
      optimizer.step();
    }
    inParameterSpace().forEach((m, i) => {
      mustBeClose(m, before[i]!, { atol: 3e-6 * before[i]!.abs().max().item() + 2e-6 });
    });
  });

  law(t, 'float32: a rank-deficient factor moves no coordinate of its null space', () => {
    const rng = new Generator(6);
    const model = new Sequential(new Linear(40, 12, { rng }), new Tanh(), new Linear(12, 3, { rng }));
    const optimizer = new STEVE(model, { lr: 0.01, factorDecay: 0, refreshEvery: 5 });
    const x = randn([8, 40], { rng });
    const y = randint(0, 3, [8], { rng });
    const before = model.namedParameters().get('0.weight')!.detach().clone();
    crossEntropy(model.call(x), y).backward();
    optimizer.step();
    const change = model.namedParameters().get('0.weight')!.detach().sub(before).astype('float64');
    // A direction in which no input varies: orthogonal to the rows of x and to the homogeneous column.
    const rows = x.astype('float64');
    const { vectors, values } = eigh(rows.transpose().matmul(rows).ndarray());
    const U = tensor(vectors);
    const nulls = Array.from({ length: 40 }, (_, j) => j).filter(j => values.get(j) < 1e-9 * values.get(39));
    assert.ok(nulls.length >= 31);
    const inNull = change
      .matmul(U.indexSelect(1, tensor(nulls, { dtype: 'int32' })))
      .norm()
      .item();
    // Without the mask 32 of 41 directions would get steps of full length.
    assert.ok(inNull < 0.02 * change.norm().item(), `${inNull} of ${change.norm().item()}`);
  });
  t.end();
});
