// The Kronecker family against exact Fisher blocks.

import assert from 'node:assert/strict';
import { Generator, ones, randn, tensor, zeros } from '@otimes/core';
import { qr } from '@otimes/linalg';
import { Linear, Sequential } from '@otimes/nn';
import { type BlockState, exampleSquares, Kfe } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law, overSeeds } from './helpers/law.ts';
import { dtype, smallNet } from './helpers/nets.ts';
import {
  distance,
  empiricalFisher,
  exampleGradients,
  fromEigenbasis,
  gaussNewton,
  kronecker,
  type Net,
  outerSum,
  Pool,
  statistics,
  vectorised,
} from './suites/exactness.ts';

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
      overSeeds(12, seed => {
        const net = smallNet(seed, { batch: 1, loss });
        for (const state of statistics(net)) {
          const Ds = exampleGradients(net.model, state, net.x, net.y, loss);
          mustBeClose(kronecker(state), empiricalFisher(Ds), { atol: 1e-14 }, state.label);
        }
      });
    });

  law(t, 'the damped inverse applied in the eigenbasis solves (A ⊗ G + λ) vec(X) = vec(D)', () => {
    overSeeds(12, seed => {
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
          overSeeds(3, seed => {
            const net = linearNet(seed, { batch: 3, shared, bias });
            for (const state of statistics(net, { fisher: 'ggn', loss: 'mse' })) {
              const exact = gaussNewton(net.model, state, net.x, 'mse');
              mustBeClose(kronecker(state), exact, { rtol: 1e-9, atol: 1e-13 }, state.label);
            }
          });
        },
      );

  for (const shared of [1, 5])
    law(
      t,
      `deep linear net, summed squared error: expand is exact for that sum, 2/n becomes 2 (${shared} positions)`,
      () => {
        overSeeds(3, seed => {
          const net = linearNet(seed, { batch: 3, shared });
          const n = net.y.size / 3;
          for (const state of statistics(net, { fisher: 'ggn', loss: 'mse', lossReduction: 'sum' })) {
            const exact = gaussNewton(net.model, state, net.x, 'mse').map(h => n * h);
            mustBeClose(kronecker(state), exact, { rtol: 1e-9, atol: 1e-13 }, state.label);
          }
        });
      },
    );

  for (const pool of ['mean', 'sum'] as const)
    law(t, `deep linear net with ${pool} pooling: reduce with the GGN Fisher is the exact block, expand is not`, () => {
      overSeeds(4, seed => {
        const net = linearNet(seed, { batch: 3, shared: 5, pool });
        const exact = statistics(net, { fisher: 'ggn', loss: 'mse', sharing: 'reduce' });
        const expanded = statistics(net, { fisher: 'ggn', loss: 'mse', sharing: 'expand' });
        exact.forEach((state, i) => {
          const F = gaussNewton(net.model, state, net.x, 'mse');
          mustBeClose(kronecker(state), F, { rtol: 1e-9, atol: 1e-13 }, state.label);
          assert.ok(distance(kronecker(expanded[i]!), F) > 1e-3 * distance(F, new Float64Array(F.length)));
        });
      });
    });

  for (const loss of ['crossEntropy', 'mse'] as const)
    for (const [seed, activation] of ['tanh', 'sigmoid', 'ReLU'].entries())
      law(t, `one example through ${activation}: the GGN factors give the exact Gauss–Newton block (${loss})`, () => {
        overSeeds(5, k => {
          const net = smallNet(3 * k + seed, { batch: 1, loss });
          for (const state of statistics(net, { fisher: 'ggn', loss }))
            mustBeClose(kronecker(state), gaussNewton(net.model, state, net.x, loss), { atol: 1e-14 }, state.label);
        });
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
    overSeeds(12, seed => {
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
      overSeeds(6, seed => {
        const net = smallNet(seed, { batch: 4, shared, loss: 'crossEntropy' });
        for (const state of statistics(net, { sharing: 'expand' })) {
          const Ds = exampleGradients(net.model, state, net.x, net.y, net.loss);
          const squares = Ds.map(D => state.kfe!.project(D).square());
          const mean = squares.reduce((sum, s) => sum.add(s)).div(Ds.length);
          // With α = 0 EKFAC's S is the current batch's second moment alone.
          mustBeClose(state.slots.get('S')!, mean, { atol: 1e-14 }, state.label);
        }
      });
    });

  law(t, '‖F − EKFAC‖ ≤ ‖F − KFAC‖ in the Frobenius norm, for the same basis and batch (George et al. 2018)', () => {
    overSeeds(12, seed => {
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
    overSeeds(12, seed => {
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
