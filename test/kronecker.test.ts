// The Kronecker family against exact Fisher blocks, its own limits, recorded trajectories and bad input.
import assert from 'node:assert/strict';
import { Generator, noGrad, ones, randint, randn, type Tensor, tensor, zeros } from '@otimes/core';
import { eigh, qr } from '@otimes/linalg';
import {
  type AnyModule,
  crossEntropy,
  Embedding,
  Flatten,
  LayerNorm,
  Linear,
  Module,
  mseLoss,
  Parameter,
  ReLU,
  Sequential,
  Sigmoid,
  Tanh,
} from '@otimes/nn';
import {
  Adam,
  type BlockState,
  type Eigensolver,
  EKFAC,
  exampleSquares,
  KFAC,
  Kfe,
  type KroneckerOptions,
  type Optimizer,
  SGD,
  STEVE,
} from '@otimes/optim';
import fc from 'fast-check';
import ndarray from 'ndarray';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { identitySolver } from './helpers/eigensolver.ts';
import { law } from './helpers/law.ts';
import {
  blocksOf,
  distance,
  empiricalFisher,
  exampleGradients,
  fromEigenbasis,
  gaussNewton,
  kronecker,
  type Loss,
  type Net,
  outerSum,
  Pool,
  statistics,
  vectorised,
} from './suites/exactness.ts';
import { type OptimizerCase, optimizerLaws } from './suites/optimizers.ts';
import { recordedTrajectories } from './suites/recorded.ts';

const dtype = 'float64';
const property = (check: (seed: number) => void, numRuns = 12) =>
  fc.assert(fc.property(fc.integer({ min: 1, max: 1e6 }), check), { seed: 42, numRuns });

const activations = [Tanh, Sigmoid, ReLU];

/** A small MLP with a batch; shared > 1 makes the input [batch, shared, 5] and pools before the loss. */
function smallNet(seed: number, { batch, shared = 1, loss }: { batch: number; shared?: number; loss: Loss }): Net {
  const rng = new Generator(seed);
  const o = { dtype, rng } as const;
  const layers: Module[] = [new Linear(5, 4, o), new activations[seed % 3]!(), new Linear(4, 3, o)];
  const model = new Sequential(...layers, ...(shared > 1 ? [new Tanh(), new Pool('mean')] : []));
  const x = randn(shared > 1 ? [batch, shared, 5] : [batch, 5], o);
  const y = loss === 'mse' ? randn([batch, 3], o) : randint(0, 3, [batch], { rng });
  return { model, x, y, loss };
}

/** Linear layers one after the other, a linear function of the input. */
function linearNet(seed: number, o: { batch: number; shared: number; pool?: 'mean' | 'sum'; bias?: boolean }): Net {
  const rng = new Generator(seed);
  const init = { dtype, rng, bias: o.bias ?? true } as const;
  const layers = [new Linear(4, 3, init), new Linear(3, 3, init), new Linear(3, 2, init)];
  const model = new Sequential(...layers, ...(o.pool ? [new Pool(o.pool)] : []));
  const x = randn(o.shared > 1 ? [o.batch, o.shared, 4] : [o.batch, 4], { dtype, rng });
  const y = randn(o.shared > 1 && !o.pool ? [o.batch, o.shared, 2] : [o.batch, 2], { dtype, rng });
  return { model, x, y, loss: 'mse' };
}

t.test('exact Fisher blocks', t => {
  for (const loss of ['crossEntropy', 'mse'] as const)
    law(t, `one example without sharing: A ⊗ G is the empirical Fisher block, bias included (${loss})`, () => {
      property(seed => {
        const net = smallNet(seed, { batch: 1, loss });
        for (const state of statistics(net)) {
          const Ds = exampleGradients(net.model, state, net.x, net.y, loss);
          mustBeClose(kronecker(state), empiricalFisher(Ds), { atol: 1e-14 }, state.label);
        }
      });
    });

  law(t, 'the damped inverse applied in the eigenbasis solves (A ⊗ G + λ) vec(X) = vec(D)', () => {
    property(seed => {
      const net = smallNet(seed, { batch: 4, loss: 'crossEntropy' });
      for (const { kfe, A, G, block } of statistics(net)) {
        const D = randn([block.dOut, block.dIn], { dtype, rng: new Generator(seed) });
        const X = kfe!.unproject(kfe!.project(D).div(kfe!.eigenvalues().add(0.1)));
        mustBeClose(G!.matmul(X).matmul(A!).add(X.mul(0.1)), D, { atol: 1e-12 });
      }
    });
  });

  for (const shared of [1, 5])
    for (const bias of [true, false])
      law(
        t,
        `deep linear net, mean squared error: expand with the GGN Fisher is the exact block (${shared} positions, bias ${bias})`,
        () => {
          property(seed => {
            const net = linearNet(seed, { batch: 3, shared, bias });
            for (const state of statistics(net, { fisher: 'ggn', loss: 'mse' })) {
              const exact = gaussNewton(net.model, state, net.x, 'mse');
              mustBeClose(kronecker(state), exact, { rtol: 1e-9, atol: 1e-13 }, state.label);
            }
          }, 3);
        },
      );

  for (const shared of [1, 5])
    law(
      t,
      `deep linear net, summed squared error: expand is exact for that sum, 2/n becomes 2 (${shared} positions)`,
      () => {
        property(seed => {
          const net = linearNet(seed, { batch: 3, shared });
          const n = net.y.size / 3;
          for (const state of statistics(net, { fisher: 'ggn', loss: 'mse', lossReduction: 'sum' })) {
            const exact = gaussNewton(net.model, state, net.x, 'mse').map(h => n * h);
            mustBeClose(kronecker(state), exact, { rtol: 1e-9, atol: 1e-13 }, state.label);
          }
        }, 3);
      },
    );

  for (const pool of ['mean', 'sum'] as const)
    law(t, `deep linear net with ${pool} pooling: reduce with the GGN Fisher is the exact block, expand is not`, () => {
      property(seed => {
        const net = linearNet(seed, { batch: 3, shared: 5, pool });
        const exact = statistics(net, { fisher: 'ggn', loss: 'mse', sharing: 'reduce' });
        const expanded = statistics(net, { fisher: 'ggn', loss: 'mse', sharing: 'expand' });
        exact.forEach((state, i) => {
          const F = gaussNewton(net.model, state, net.x, 'mse');
          mustBeClose(kronecker(state), F, { rtol: 1e-9, atol: 1e-13 }, state.label);
          assert.ok(distance(kronecker(expanded[i]!), F) > 1e-3 * distance(F, new Float64Array(F.length)));
        });
      }, 4);
    });

  for (const loss of ['crossEntropy', 'mse'] as const)
    for (const [seed, activation] of ['tanh', 'sigmoid', 'ReLU'].entries())
      law(t, `one example through ${activation}: the GGN factors give the exact Gauss–Newton block (${loss})`, () => {
        property(k => {
          const net = smallNet(3 * k + seed, { batch: 1, loss });
          for (const state of statistics(net, { fisher: 'ggn', loss }))
            mustBeClose(kronecker(state), gaussNewton(net.model, state, net.x, loss), { atol: 1e-14 }, state.label);
        }, 5);
      });

  for (const loss of ['crossEntropy', 'mse'] as const)
    law(t, `the sampled Fisher converges to the GGN, with an error like 1/√draws (${loss})`, () => {
      const net = smallNet(3, { batch: 4, loss });
      const exact = statistics(net, { fisher: 'ggn', loss });
      const rng = new Generator(5);
      const [runs, draws] = [24, 60];
      // The mean of `draws` samples of every G, run by run.
      const means = Array.from({ length: runs }, () => {
        const mean = exact.map(({ G }) => zeros(G!.shape, { dtype }));
        for (let draw = 0; draw < draws; draw++)
          statistics(net, { fisher: 'sampled', loss, rng }).forEach(({ G }, i) => {
            mean[i]!.addScaled_(G!, 1 / draws);
          });
        return mean;
      });
      exact.forEach(({ G, label }, i) => {
        /** Root mean square of the relative error when the runs are pooled by so many. */
        const error = (pool: number) => {
          const pooled = Array.from({ length: runs / pool }, (_, k) =>
            means
              .slice(k * pool, (k + 1) * pool)
              .reduce((sum, mean) => sum.add(mean[i]!.div(pool)), G!.neg())
              .norm(),
          );
          return Math.sqrt(pooled.reduce((sum, e) => sum + e.item() ** 2, 0) / pooled.length) / G!.norm().item();
        };
        assert.ok(error(runs) < 0.06, `${label}: relative error ${error(runs)}`);
        const ratio = error(1) / error(4);
        assert.ok(ratio > 1.5 && ratio < 2.7, `${label}: four times the draws, ${ratio} times the accuracy, not 2`);
      });
    });

  law(t, 'expand with independent inputs and gradients: the Fisher of all pairs is the product of the factors', () => {
    property(seed => {
      const rng = new Generator(seed);
      const [hs, gs] = [randn([5, 4], { dtype, rng }), randn([7, 3], { dtype, rng })];
      const pairs: number[][] = [];
      for (let i = 0; i < 5; i++)
        for (let j = 0; j < 7; j++) pairs.push(vectorised(gs.slice(j).unsqueeze(1).mul(hs.slice(i))));
      const A = hs.transpose().matmul(hs).div(5);
      const G = gs.transpose().matmul(gs).div(7);
      mustBeClose(kronecker({ A, G } as BlockState), outerSum(pairs, 1 / 35), { atol: 1e-12 });
    });
  });
  t.end();
});

t.test('second moments in the eigenbasis', t => {
  for (const shared of [1, 2, 9])
    law(t, `exampleSquares are the mean squares of the examples' projected gradients (${shared} positions)`, () => {
      property(seed => {
        const net = smallNet(seed, { batch: 4, shared, loss: 'crossEntropy' });
        for (const state of statistics(net, { sharing: 'expand' })) {
          const Ds = exampleGradients(net.model, state, net.x, net.y, net.loss);
          const squares = Ds.map(D => state.kfe!.project(D).square());
          const mean = squares.reduce((sum, s) => sum.add(s)).div(Ds.length);
          // With α = 0 EKFAC's S is the current batch's second moment alone.
          mustBeClose(state.slots.get('S')!, mean, { atol: 1e-14 }, state.label);
        }
      }, 6);
    });

  law(t, '‖F − EKFAC‖ ≤ ‖F − KFAC‖ in the Frobenius norm, for the same basis and batch (George et al. 2018)', () => {
    property(seed => {
      const shared = 1 + (seed % 3);
      const net = smallNet(seed, { batch: 5, shared, loss: seed % 2 ? 'mse' : 'crossEntropy' });
      for (const state of statistics(net, { sharing: seed % 5 ? 'expand' : 'reduce' })) {
        const F = empiricalFisher(exampleGradients(net.model, state, net.x, net.y, net.loss));
        const ekfac = fromEigenbasis(state.kfe!.UA!, state.kfe!.UG!, state.slots.get('S')!);
        assert.ok(distance(F, ekfac) <= distance(F, kronecker(state)) + 1e-12, state.label);
      }
    });
  });

  law(t, 'projection is (UA ⊗ UG)ᵀ vec(D), for bases that are not symmetric, and unproject undoes it', () => {
    property(seed => {
      const rng = new Generator(seed);
      const orthogonal = (n: number) => tensor(qr(randn([n, n], { dtype, rng }).ndarray()).q);
      const side = (n: number) => ({ U: orthogonal(n), s: ones([n], { dtype }), n: ones([n], { dtype }) });
      const kfe = new Kfe(side(4), side(3));
      const D = randn([3, 4], { dtype, rng });
      const dense = (i: number, j: number) => {
        let sum = 0;
        for (let k = 0; k < 3; k++)
          for (let l = 0; l < 4; l++)
            sum += kfe.UG!.slice(k, i).item() * D.slice(k, l).item() * kfe.UA!.slice(l, j).item();
        return sum;
      };
      const expected = Array.from({ length: 3 }, (_, i) => Array.from({ length: 4 }, (_, j) => dense(i, j)));
      mustBeClose(kfe.project(D), expected, { atol: 1e-13 });
      mustBeClose(kfe.unproject(kfe.project(D)), D, { atol: 1e-13 });
      const g = randn([2, 1, 3], { dtype, rng });
      const a = randn([2, 1, 4], { dtype, rng });
      const per = [0, 1].map(b => kfe.project(g.slice(b).transpose().matmul(a.slice(b))).square());
      mustBeClose(exampleSquares({ a, gs: [g] }, kfe.UA!, kfe.UG!), per[0]!.add(per[1]!).div(2), { atol: 1e-12 });
    });
  });
  t.end();
});

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

/** A model with a Linear with bias, one without, a LayerNorm and a parameter of its own. */
class Mixed extends Module {
  readonly embed = new Embedding(5, 4, { dtype, rng: new Generator(1) });
  readonly first = new Linear(4, 4, { dtype, rng: new Generator(2) });
  readonly norm = new LayerNorm(4, { dtype });
  readonly second = new Linear(4, 3, { dtype, bias: false, rng: new Generator(3) });
  readonly scale = new Parameter(ones([3], { dtype }));
  override forward(x: Tensor): Tensor {
    return this.second
      .call(this.norm.call(this.first.call(this.embed.call(x)).tanh()))
      .mean(1)
      .mul(this.scale);
  }
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

const family: readonly OptimizerCase[] = [
  { name: 'KFAC', make: m => new KFAC(m, { lr: 0.05, damping: 0.1, refreshEvery: 3 }) },
  {
    name: 'KFAC pi, momentum, klClip',
    make: m =>
      new KFAC(m, { lr: 0.05, refreshEvery: 3, factorEvery: 2, dampingSplit: 'pi', momentum: 0.9, klClip: 0.1 }),
  },
  {
    name: 'EKFAC',
    make: m => new EKFAC(m, { lr: 0.05, damping: 0.1, refreshEvery: 4, momentum: 0.5, nesterov: true }),
  },
  {
    name: 'EKFAC batch',
    make: m => new EKFAC(m, { lr: 0.05, damping: 0.1, refreshEvery: 4, secondMoment: 'batch', factorEvery: 3 }),
  },
  { name: 'STEVE', make: m => new STEVE(m, { lr: 0.05, refreshEvery: 4 }) },
  {
    name: 'STEVE zero, example',
    make: m => new STEVE(m, { lr: 0.05, refreshEvery: 4, onRefresh: 'zero', secondMoment: 'example', factorDecay: 0 }),
  },
  {
    name: 'STEVE nesterov, weight decay',
    make: m => new STEVE(m, { lr: 0.05, refreshEvery: 2, nesterov: true, weightDecay: 0.01 }),
  },
  {
    name: 'STEVE sampled',
    make: m => new STEVE(m, { lr: 0.05, refreshEvery: 4, fisher: 'sampled', loss: 'crossEntropy' }),
  },
];
for (const one of family)
  t.test(one.name, t => {
    optimizerLaws(t, one);
    t.end();
  });

recordedTrajectories(t, {
  name: 'mlp',
  runs: 11,
  model: () => new Sequential(new Linear(5, 4, { dtype }), new Tanh(), new Linear(4, 3, { dtype })),
});

t.test('what is claimed', t => {
  law(t, 'describe() names every parameter once: blocks with shapes, the others under rest', () => {
    const optimizer = new STEVE(new Mixed());
    assert.deepEqual(optimizer.describe(), [
      {
        path: 'first',
        collector: 'linear',
        shape: [4, 5],
        sharing: 'expand',
        parameters: ['first.weight', 'first.bias'],
        route: 'gradient',
        identity: [],
      },
      {
        path: 'second',
        collector: 'linear',
        shape: [3, 4],
        sharing: 'expand',
        parameters: ['second.weight'],
        route: 'gradient',
        identity: [],
      },
      ...['embed.weight', 'norm.weight', 'norm.bias', 'scale'].map(path => ({
        path,
        collector: 'rest',
        shape: path === 'embed.weight' ? [5, 4] : path === 'scale' ? [3] : [4],
        sharing: null,
        parameters: [path],
        route: null,
        identity: [],
      })),
    ]);
  });

  const step = (model: Mixed, optimizer: Optimizer) => {
    optimizer.zeroGrad();
    const x = randint(0, 5, [6, 2], { rng: new Generator(9) });
    crossEntropy(model.call(x), randint(0, 3, [6], { rng: new Generator(8) })).backward();
    void optimizer.step();
  };

  law(t, 'the rest optimizer trains what no block claims, at the learning rate in proportion', () => {
    for (const make of [(m: Mixed) => new STEVE(m, { lr: 0.01 }), (m: Mixed) => new KFAC(m, { lr: 0.01 })]) {
      const model = new Mixed();
      const before = model.stateDict();
      const optimizer = make(model);
      step(model, optimizer);
      for (const [path, p] of model.namedParameters())
        assert.ok(p.detach().sub(before[path]!).abs().max().item() > 0, path);
    }
    const model = new Mixed();
    const seen: Optimizer[] = [];
    const optimizer = new KFAC(model, {
      lr: 0.1,
      rest: unclaimed => {
        seen.push(new SGD(unclaimed, { lr: 0.02 }));
        return seen[0]!;
      },
    });
    optimizer.lr = 0.05;
    assert.equal(seen[0]!.lr, 0.01);
  });

  law(t, 'a frozen weight is not claimed and not changed; a frozen bias leaves the homogeneous column', () => {
    const model = new Mixed();
    model.first.weight.requiresGrad = false;
    model.first.bias!.requiresGrad = false;
    const before = model.stateDict();
    const optimizer = new STEVE(model);
    assert.deepEqual(
      optimizer.describe().map(row => row.path),
      ['second', 'embed.weight', 'norm.weight', 'norm.bias', 'scale'],
    );
    step(model, optimizer);
    for (const path of ['first.weight', 'first.bias'])
      mustBeClose(model.stateDict()[path]!, before[path]!, { rtol: 0, atol: 0 });

    const partly = new Mixed();
    partly.first.bias!.requiresGrad = false;
    assert.deepEqual(new STEVE(partly).describe()[0], {
      path: 'first',
      collector: 'linear',
      shape: [4, 4],
      sharing: 'expand',
      parameters: ['first.weight'],
      route: 'gradient',
      identity: [],
    });
  });

  law(t, 'reduce falls back to expand for G where Σ_t g vanishes, and describe() says so', () => {
    // Adding one vector to all positions changes nothing that follows, so the gradients over positions sum to 0.
    class Centred extends Module {
      readonly layer = new Linear(3, 3, { dtype, rng: new Generator(2) });
      override forward(x: Tensor): Tensor {
        const y = this.layer.call(x);
        return y
          .sub(y.mean(1, { keepdim: true }))
          .square()
          .sum([1, 2])
          .unsqueeze(1);
      }
    }
    const model = new Centred();
    const optimizer = new KFAC(model, { sharing: 'reduce', lr: 0 });
    const x = randn([4, 5, 3], { dtype, rng: new Generator(1) });
    mseLoss(model.call(x), ones([4, 1], { dtype })).backward();
    optimizer.step();
    assert.equal(optimizer.describe()[0]!.sharing, 'reduce, G expanded');
    assert.ok(optimizer.inspect('layer').G!.abs().max().item() > 1e-6);
  });

  law(t, 'the model itself may be a layer', () => {
    const model = new Linear(4, 2, { dtype });
    const optimizer = new STEVE(model);
    assert.equal(optimizer.describe()[0]!.path, '');
    mseLoss(model.call(ones([3, 4], { dtype })), ones([3, 2], { dtype })).backward();
    optimizer.step();
    optimizer.loadStateDict(optimizer.stateDict());
  });

  law(t, 'evaluation under noGrad and forward passes without backward leave no trace', () => {
    const run = (disturb: boolean, make: (m: Mixed) => Optimizer) => {
      const model = new Mixed();
      const optimizer = make(model);
      for (let i = 0; i < 6; i++) {
        step(model, optimizer);
        if (!disturb) continue;
        const x = randint(0, 5, [3, 2], { rng: new Generator(1) });
        noGrad(() => model.call(x));
        model.call(x);
        model.first.call(ones([2, 4], { dtype }));
      }
      return model.parameters().flatMap(p => Array.from(p.dataSync()));
    };
    const ggn = { fisher: 'ggn', loss: 'crossEntropy', factorEvery: 5 } as const;
    for (const make of [
      (m: Mixed) => new STEVE(m),
      (m: Mixed) => new STEVE(m, { ...ggn, factorEvery: 1 }),
      (m: Mixed) => new EKFAC(m, { ...ggn, secondMoment: 'batch' }),
    ])
      assert.deepEqual(run(true, make), run(false, make));
  });
  t.end();
});

t.test('bad input', t => {
  const net = () => smallNet(2, { batch: 4, loss: 'crossEntropy' });
  const poison = (value: number) => {
    const { model, y } = net();
    const optimizer = new STEVE(model);
    const before = model.stateDict();
    const x = randn([4, 5], { dtype, rng: new Generator(1) });
    x.narrow(1, 0, 1).copy_(tensor(value, { dtype }));
    crossEntropy(model.call(x), y).backward();
    return { model, optimizer, before };
  };

  for (const value of [Number.NaN, Infinity])
    law(t, `${value} in a factor names the layer; no weight and no state is touched`, () => {
      const { model, optimizer, before } = poison(value);
      const state = optimizer.stateDict();
      assert.throws(() => optimizer.step(), /STEVE: the factor A of linear '0' has NaN or infinite elements/);
      for (const [path, p] of Object.entries(model.stateDict())) mustBeClose(p, before[path]!, { rtol: 0, atol: 0 });
      assert.deepEqual(Object.keys(optimizer.stateDict()), Object.keys(state));
      // Forgetting the batch is enough to go on.
      optimizer.zeroGrad();
      crossEntropy(model.call(randn([4, 5], { dtype })), tensor([0, 1, 2, 0], { dtype: 'int32' })).backward();
      optimizer.step();
    });

  law(t, 'a failing eigensolver leaves everything as it was', () => {
    const { model, x, y } = net();
    const optimizer = new KFAC(model, {
      eigensolver: () => {
        throw new Error('no basis today');
      },
    });
    const before = model.stateDict();
    crossEntropy(model.call(x), y).backward();
    assert.throws(() => optimizer.step(), /no basis today/);
    for (const [path, p] of Object.entries(model.stateDict())) mustBeClose(p, before[path]!, { rtol: 0, atol: 0 });
    assert.equal(optimizer.steps, 0);
  });

  law(t, 'a gradient without statistics: the optimizer came after the forward pass, or forward() was used', () => {
    const { model, x, y } = net();
    const loss = crossEntropy(model.call(x), y);
    const optimizer = new KFAC(model);
    loss.backward();
    assert.throws(() => optimizer.step(), /KFAC: linear '0' has a gradient but no statistics/);
  });

  law(t, 'detach() takes the hooks away: another optimizer may follow, and step() says what happened', () => {
    const { model, x, y } = net();
    const first = new KFAC(model);
    first.detach();
    const second = new STEVE(model);
    crossEntropy(model.call(x), y).backward();
    assert.equal(first.inspect('0').statistics, null);
    second.step();
    assert.throws(() => first.step(), /KFAC: step\(\) after detach\(\)/);
  });

  law(t, 'a weight shared by two layers is refused with both names', () => {
    const embed = new Embedding(3, 3);
    const head = new Linear(3, 3, { bias: false });
    head.weight = embed.weight;
    class Tied extends Module {
      readonly embed = embed;
      readonly head = head;
      override forward(x: Tensor): Tensor {
        return this.head.call(this.embed.call(x));
      }
    }
    assert.throws(
      () => new STEVE(new Tied()),
      /'embed' and 'head' share a weight.* overrides: \{ head: \{ skip: true \} \}$/,
    );
    new STEVE(new Tied(), { overrides: { head: { skip: true } } });
    const [a, b] = [new Linear(3, 3), new Linear(3, 3)];
    b.weight = a.weight;
    assert.throws(
      () => new STEVE(new Sequential(a, b)),
      /'0' and '1' share a weight.* overrides: \{ '0': \{ skip: true \}, '1': \{ skip: true \} \}$/,
    );
    new STEVE(new Sequential(a, b), { overrides: { '0': { skip: true }, '1': { skip: true } } });
  });

  const refusals: [string, () => unknown, RegExp][] = [
    ['lr < 0', () => new STEVE(net().model, { lr: -1 }), /expected lr in \[0, Infinity\), got -1/],
    [
      'refreshEvery 0',
      () => new STEVE(net().model, { refreshEvery: 0 }),
      /expected refreshEvery to be an integer ≥ 1, got 0/,
    ],
    ['factorEvery 1.5', () => new KFAC(net().model, { factorEvery: 1.5 }), /expected factorEvery to be an integer ≥ 1/],
    ['factorDecay 1', () => new KFAC(net().model, { factorDecay: 1 }), /expected factorDecay in \[0, 1\), got 1/],
    ['damping 0', () => new EKFAC(net().model, { damping: 0 }), /EKFAC: expected damping > 0, got 0/],
    ['nesterov without momentum', () => new KFAC(net().model, { nesterov: true }), /nesterov needs a momentum above 0/],
    ['klClip 0', () => new KFAC(net().model, { klClip: 0 }), /expected klClip > 0, got 0/],
    ['beta 1', () => new STEVE(net().model, { betas: [0.9, 1] }), /expected betas\[1\] in \[0, 1\), got 1/],
    ['ggn without a loss', () => new KFAC(net().model, { fisher: 'ggn' }), /fisher 'ggn' needs the option loss/],
    [
      'a misspelt option',
      () => new STEVE(net().model, JSON.parse('{"refresh_every":5}')),
      /STEVE: there is no option 'refresh_every'/,
    ],
    [
      'an option of another optimizer',
      () => new EKFAC(net().model, JSON.parse('{"dampingSplit":"pi"}')),
      /no option 'dampingSplit'/,
    ],
    [
      'an unknown fisher',
      () => new KFAC(net().model, JSON.parse('{"fisher":"true"}')),
      /expected fisher to be 'empirical' or/,
    ],
    ['no parameters', () => new KFAC(new Flatten()), /KFAC: expected at least one parameter, got none/],
    ['no such block', () => new KFAC(net().model).inspect('7'), /no block '7'; there are '0', '2'/],
  ];
  law(t, 'an optimizer that was refused leaves no hooks behind', () => {
    const { model, x, y } = net();
    assert.throws(() => new KFAC(model, { damping: -1 }));
    assert.throws(() => new STEVE(model, { fisher: 'sampled' }));
    for (let pass = 0; pass < 2; pass++) crossEntropy(model.call(x), y).backward();
  });

  for (const [title, run, message] of refusals) law(t, title, () => assert.throws(run, message));

  law(t, 'ggn of a model whose logits are no matrix', () => {
    const net = smallNet(1, { batch: 2, loss: 'crossEntropy' });
    const optimizer = new KFAC(net.model, { fisher: 'ggn', loss: 'crossEntropy' });
    const z = net.model.call(randn([2, 4, 5], { dtype }));
    assert.throws(
      () => z.sum().backward(),
      /cross-entropy needs logits \[batch, classes\], the model returned float64\[2,4,3\]/,
    );
    assert.equal(optimizer.steps, 0);
  });
  t.end();
});
