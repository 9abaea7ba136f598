// refreshThreshold: bases in which the factors are still diagonal stay, with new eigenvalues.

import { Generator, randint, randn, type Tensor, tensor } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { crossEntropy, mlp } from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, STEVE, subspaceIteration } from '@otimes/optim';
import fc from 'fast-check';
import t from 'tap';
import { Kfe } from '../optim/src/curvature/basis.ts';
import { stillDiagonal } from '../optim/src/curvature/decompose/stays.ts';
import { Side } from '../optim/src/curvature/side.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';

const KINDS = { KFAC, EKFAC, STEVE } as const;

function training(kind: keyof typeof KINDS, o: KroneckerOptions, isConstant = false) {
  const model = mlp([6, 5, 3], { rng: new Generator(1), dtype: 'float64' });
  const optimizer = new KINDS[kind](model, { refreshEvery: 2, lr: 0.02, ...o });
  const to = (steps: number) => {
    while (optimizer.steps < steps) {
      const rng = new Generator(isConstant ? 7 : optimizer.steps + 1);
      optimizer.zeroGrad();
      const x = randn([16, 6], { rng, dtype: 'float64' });
      crossEntropy(model.call(x) as Tensor, randint(0, 3, [16], { rng })).backward();
      optimizer.step();
    }
    return optimizer.report().refreshes;
  };
  const bits = () =>
    Object.entries({ ...model.stateDict(), ...optimizer.stateDict() }).map(([key, x]) => [key, [...x.dataSync()]]);
  return { model, optimizer, to, bits };
}

/** Of a matrix. */
function diagonalOf(M: Tensor): Float64Array {
  const [n, all] = [M.shape[0]!, M.dataSync()];
  return Float64Array.from({ length: n }, (_, i) => all[i * (n + 1)] as number);
}

/** A factor [n, n] in float64. */
const gramOf = (n: number, seed: number) => {
  const x = randn([3 * n, n], { rng: new Generator(seed), dtype: 'float64' });
  return x.transpose().matmul(x);
};

law(t, 'a basis stays if no side has more than the given share of its factor outside of the diagonal', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 7 }),
      fc.integer({ min: 2, max: 7 }),
      fc.nat(1000),
      fc.double({ min: 0.01, max: 0.6, noNaN: true }),
      (a, g, seed, share) => {
        const [A, G] = [gramOf(a, seed), gramOf(g, seed + 1)];
        const kfe = Kfe.of(A, G, eigh, [g, a]);
        const [B, H] = [A.add(gramOf(a, seed + 2).mul(0.2)), G.add(gramOf(g, seed + 3).mul(0.2))];
        const outside = (F: Tensor, U: Tensor) => {
          const M = U.transpose().matmul(F).matmul(U);
          const n = M.shape[0]!;
          const off = [...M.dataSync()].map((x, i) => (i % (n + 1) === 0 ? 0 : x));
          return Math.hypot(...off) / F.norm().item();
        };
        const most = Math.max(outside(B, kfe.UA!), outside(H, kfe.UG!));
        if (Math.abs(most - share) < 1e-6) return;
        const kept = stillDiagonal(kfe, B, H, share);
        if ((kept !== null) !== most <= share) throw new Error(`${most} outside, ${share} allowed`);
        if (kept === null) return;
        if (kept.UA !== kfe.UA || kept.UG !== kfe.UG) throw new Error('other eigenvectors');
        mustBeClose(kept.sA.dataSync() as Float64Array, diagonalOf(kfe.UA!.transpose().matmul(B).matmul(kfe.UA!)), {
          rtol: 1e-9,
          atol: 1e-12,
        });
      },
    ),
    { seed: 5, numRuns: 200 },
  );
});

law(t, 'in the basis of a structured factor its eigenvalues are those of the decomposition', () => {
  const side = Side.channels(13, 4, { bias: true });
  const rows = randn([40, 13], { rng: new Generator(2), dtype: 'float64' });
  const A = side.gram(rows);
  const G = gramOf(3, 1);
  const kfe = Kfe.of(A, G, eigh, [3, 13], { A: side, G: Side.exact(3) });
  const kept = stillDiagonal(kfe, A.mul(2), G, 0.001)!;
  mustBeClose(
    kept.sA.dataSync() as Float64Array,
    Float64Array.from(kfe.sA.dataSync(), x => 2 * x),
    { rtol: 1e-9, atol: 1e-12 },
  );
  t.equal(stillDiagonal(kfe, side.gram(randn([40, 13], { rng: new Generator(3), dtype: 'float64' })), G, 0.001), null);
});

for (const kind of ['KFAC', 'EKFAC', 'STEVE'] as const) {
  law(t, `${kind}: with a threshold of 0 every basis that is due is computed`, () => {
    const { to, bits } = training(kind, { refreshThreshold: 0 });
    t.match(to(7), { done: 8, skipped: 0 });
    const without = training(kind, {});
    without.to(7);
    t.strictSame(bits(), without.bits());
  });

  law(t, `${kind}: factors that do not change are decomposed once`, () => {
    // With a learning rate of 0 every batch brings the same.
    const run = training(kind, { refreshThreshold: 0.01, lr: 0 }, true);
    t.match(run.to(7), { done: 2, skipped: 6 });
  });

  law(t, `${kind}: a run with a threshold goes on from a file bit for bit, and in the background`, () => {
    for (const o of [{}, { refresh: 'background', refreshLag: 1 }] as const) {
      const run = training(kind, { refreshThreshold: 0.35, factorDecay: 0, ...o });
      run.to(5);
      const [weights, state] = [run.model.stateDict(), run.optimizer.stateDict()];
      const { done, skipped } = run.to(11);
      t.ok(done > 2 && skipped > 0, `${done} done, ${skipped} skipped`);
      const again = training(kind, { refreshThreshold: 0.35, factorDecay: 0, ...o });
      again.model.loadStateDict(weights);
      again.optimizer.loadStateDict(state);
      again.to(11);
      t.strictSame(again.bits(), run.bits());
    }
  });

  law(t, `${kind}: a step that throws leaves a basis that was to stay as it was`, () => {
    const run = training(kind, { refreshThreshold: 0.01, lr: 0 }, true);
    run.to(2);
    const before = run.bits();
    run.optimizer.zeroGrad();
    const x = randn([16, 6], { rng: new Generator(7), dtype: 'float64' });
    crossEntropy(run.model.call(x) as Tensor, randint(0, 3, [16], { rng: new Generator(7) })).backward();
    run.model.parameters().at(-1)!.grad = tensor(new Float64Array(3).fill(Number.NaN));
    t.throws(() => run.optimizer.step(), { name: 'RangeError' });
    t.strictSame(run.bits(), before);
    t.match(run.optimizer.report().refreshes, { skipped: 0 });
  });
}

law(t, 'KFAC: the eigenvalues of a basis that stays are those of the new factors', () => {
  const run = training('KFAC', { refreshThreshold: 0.9 });
  run.to(1);
  const { kfe } = run.optimizer.inspect('layers.0');
  run.to(3);
  const now = run.optimizer.inspect('layers.0');
  t.equal(now.kfe!.UA, kfe!.UA);
  const U = now.kfe!.UA!;
  mustBeClose(now.kfe!.sA.dataSync() as Float64Array, diagonalOf(U.transpose().matmul(now.A!).matmul(U)), {
    rtol: 1e-9,
    atol: 1e-12,
  });
});

law(t, 'a threshold is refused where it cannot be kept', () => {
  const make = (o: KroneckerOptions) => () => new KFAC(mlp([2, 1]), o);
  t.throws(make({ refreshThreshold: 1 }), { message: 'KFAC: expected refreshThreshold in [0, 1), got 1' });
  t.throws(make({ refreshThreshold: -0.1 }), { name: 'RangeError' });
  t.throws(make({ refreshThreshold: Number.NaN }), { message: /refreshThreshold/ });
  t.throws(make({ refreshThreshold: 0.1, eigensolver: subspaceIteration() }), {
    name: 'TypeError',
    message: /follows them/,
  });
});
