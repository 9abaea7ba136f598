// KroneckerOperator against dense matrices: factors of real layers, Kronecker products and decompositions by @otimes/linalg.
import assert from 'node:assert/strict';
import { eye, Generator, manualSeed, rand, randn, scope, type Tensor, tensor, zeros } from '@otimes/core';
import { cholesky, eigh, inverse, kron, solve, unvec, vec } from '@otimes/linalg';
import { Linear, Sequential, Tanh } from '@otimes/nn';
import type { BlockState, Sharing } from '@otimes/optim';
import { KroneckerOperator } from '@otimes/optim/curvature';
import fc from 'fast-check';
import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { law } from './helpers/law.ts';
import { everything, example, mustAgree, operatorLaw } from './suites/curvature.ts';
import { type Net, Pool, statistics } from './suites/exactness.ts';

const dtype = 'float64';

/** The factors of real layers, with a bias and without, and with large sides at the identity. */
function layers(seed: number, sharing: Sharing, maxFactorDim = Infinity): BlockState[] {
  const rng = new Generator(seed);
  const o = { dtype, rng } as const;
  const [first, second] = [new Linear(5, 4, o), new Linear(4, 3, { ...o, bias: seed % 2 === 0 })];
  const model = new Sequential(first, new Tanh(), second, new Pool('mean'));
  const net: Net = { model, x: randn([6, 3, 5], o), y: randn([6, 3], o), loss: 'mse' };
  return statistics(net, { sharing, ...(maxFactorDim < Infinity && { maxFactorDim }) });
}

/** A factor as a matrix. */
const full = (x: Tensor, n: number): Tensor => (x.rank === 0 ? eye(n, { dtype: x.dtype }).mul(x) : x);
const basisOf = (U: Tensor | null, n: number): Tensor => U ?? eye(n, { dtype });

/** An operator and its matrix [n, n] on vec(X), columns stacked. */
type Case = { readonly what: string; readonly operator: KroneckerOperator; readonly dense: Tensor };

function casesOf({ A, G, kfe, block, label }: BlockState, seed: number): Case[] {
  const { dOut, dIn } = block;
  const product = tensor(kron(full(A!, dIn).ndarray(), full(G!, dOut).ndarray()));
  const S = rand([dOut, dIn], { dtype, rng: new Generator(seed) });
  const U = tensor(kron(basisOf(kfe!.UA, dIn).ndarray(), basisOf(kfe!.UG, dOut).ndarray()));
  const measured = U.mul(tensor(vec(S.ndarray()))).matmul(U.transpose());
  const sizes = [dOut, dIn] as const;
  return [
    {
      what: `${label}, factors`,
      operator: KroneckerOperator.fromFactors({ A: A!, G: G! }, { sizes }),
      dense: product,
    },
    { what: `${label}, basis`, operator: KroneckerOperator.fromBasis(kfe!), dense: product },
    {
      what: `${label}, eigenvalues`,
      operator: KroneckerOperator.fromBasis(kfe!, { eigenvalues: S }),
      dense: measured,
    },
  ];
}

/** Over real layers: expand and reduce, with each side, both and none at the identity. */
function everywhere(check: (one: Case, o: { seed: number; damping: number; dOut: number; dIn: number }) => void): void {
  const kinds = fc.record({
    seed: fc.integer({ min: 1, max: 1e6 }),
    sharing: fc.constantFrom<Sharing>('expand', 'reduce'),
    maxFactorDim: fc.constantFrom(2, 4, 5, Infinity),
    damping: fc.double({ min: 1e-3, max: 2, noNaN: true }),
  });
  const holds = ({
    seed,
    sharing,
    maxFactorDim,
    damping,
  }: {
    seed: number;
    sharing: Sharing;
    maxFactorDim: number;
    damping: number;
  }) => {
    for (const state of layers(seed, sharing, maxFactorDim))
      for (const one of casesOf(state, seed))
        check(one, { seed, damping, ...state.block, dOut: state.block.dOut, dIn: state.block.dIn });
  };
  fc.assert(fc.property(kinds, holds), { seed: 42, numRuns: 25 });
}

const damped = (dense: Tensor, damping: number): Tensor => dense.add(eye(dense.shape[0]!, { dtype }).mul(damping));
const columnOf = (X: Tensor) => vec(X.ndarray());
const matrixOf = (column: Tensor, dOut: number, dIn: number): Tensor => tensor(unvec(column.ndarray(), dOut, dIn));

/** A generator whose normal numbers are given: Z = e_k of a matrix in row-major order. */
class Unit extends Generator {
  #left: number;
  constructor(k: number) {
    super(1);
    this.#left = k;
  }
  override normal(): number {
    return this.#left-- === 0 ? 1 : 0;
  }
}

t.test('KroneckerOperator is the dense matrix A ⊗ G of real layers', t => {
  law(t, 'matvec, trace and diagonal', () => {
    everywhere(({ what, operator, dense }, { seed, damping, dOut, dIn }) => {
      const X = randn([dOut, dIn], { dtype, rng: new Generator(seed) });
      const product = dense.matmul(tensor(columnOf(X)));
      mustAgree(operator.matvec(X), matrixOf(product, dOut, dIn), `${what}: matvec`);
      mustAgree(operator.trace(), dense.mul(eye(dOut * dIn, { dtype })).sum(), `${what}: trace`);
      const onDiagonal = (x: Tensor) => matrixOf(x.mul(eye(dOut * dIn, { dtype })).sum(1), dOut, dIn);
      mustAgree(operator.diagonal(), onDiagonal(dense), `${what}: diagonal`);
      mustAgree(operator.diagonal({ damping }), onDiagonal(damped(dense, damping)), `${what}: damped diagonal`);
      const inverted = tensor(inverse(damped(dense, damping).ndarray()));
      mustAgree(operator.inverseDiagonal({ damping }), onDiagonal(inverted), `${what}: diagonal of the inverse`);
    });
  });

  law(t, 'solve and sqrtSolve, damped', () => {
    everywhere(({ what, operator, dense }, { seed, damping, dOut, dIn }) => {
      const X = randn([dOut, dIn], { dtype, rng: new Generator(seed) });
      const F = damped(dense, damping).ndarray();
      mustAgree(operator.solve(X, { damping }), matrixOf(tensor(solve(F, columnOf(X))), dOut, dIn), `${what}: solve`);
      const { values, vectors } = eigh(F);
      const V = tensor(vectors);
      const root = V.div(tensor(values).sqrt()).matmul(V.transpose());
      const expected = matrixOf(root.matmul(tensor(columnOf(X))), dOut, dIn);
      mustAgree(operator.sqrtSolve(X, { damping }), expected, `${what}: sqrtSolve`);
      mustAgree(
        operator.sqrtSolve(operator.sqrtSolve(X, { damping }), { damping }),
        operator.solve(X, { damping }),
        `${what}: twice the root`,
      );
    });
  });

  law(t, 'logdet, damped', () => {
    everywhere(({ what, operator, dense }, { damping }) => {
      const L = tensor(cholesky(damped(dense, damping).ndarray()));
      const n = dense.shape[0]!;
      const expected = L.mul(eye(n, { dtype })).sum(1).log().sum().mul(2);
      const found = operator.logdet({ damping });
      assert.deepEqual(found.shape, []);
      // A sum of logarithms of either sign: relative to their sizes, not to what is left.
      assert.ok(Math.abs(found.item() - expected.item()) <= 1e-10 * n, `${what}: logdet`);
    });
  });

  law(t, 'sample is linear in its normal numbers, M Z, and M Mᵀ is the damped inverse', () => {
    everywhere(({ what, operator, dense }, { damping, dOut, dIn }) => {
      const n = dOut * dIn;
      const covariance = zeros([n, n], { dtype });
      for (let k = 0; k < n; k++) {
        const column = tensor(columnOf(operator.sample({ damping, rng: new Unit(k) }))).unsqueeze(1);
        covariance.addScaled_(column.matmul(column.transpose()), 1);
      }
      mustAgree(covariance, tensor(inverse(damped(dense, damping).ndarray())), `${what}: covariance`);
    });
  });

  law(t, "split 'pi' inverts the damped factors, over factors by Cholesky and in the basis alike", () => {
    everywhere(({ what, operator }, { seed, damping, dOut, dIn }) => {
      if (!what.endsWith('factors')) return;
      const X = randn([dOut, dIn], { dtype, rng: new Generator(seed) });
      const byCholesky = operator.solve(X, { damping, split: 'pi' });
      // With the basis, which `logdet` makes.
      operator.logdet({ damping });
      mustAgree(operator.solve(X, { damping, split: 'pi' }), byCholesky, what);
    });
    for (const state of layers(3, 'expand')) {
      const [A, G] = [state.A!, state.G!];
      const X = randn([state.block.dOut, state.block.dIn], { dtype, rng: new Generator(1) });
      const mean = (x: Tensor) => x.mul(eye(x.shape[0]!, { dtype })).sum().item() / x.shape[0]!;
      const pi = Math.sqrt(mean(A) / mean(G));
      const shifted = (x: Tensor, by: number) => tensor(inverse(damped(x, by).ndarray()));
      const expected = shifted(G, Math.sqrt(0.1) / pi)
        .matmul(X)
        .matmul(shifted(A, pi * Math.sqrt(0.1)));
      const found = KroneckerOperator.fromFactors({ A, G }).solve(X, { damping: 0.1, split: 'pi' });
      mustAgree(found, expected, state.label);
    }
  });
  t.end();
});

for (const type of ['float32', 'float64'] as const) for (const device of DEVICES) operatorLaw(t, device, type);

law(t, 'of a batch of matrices each is taken alone', () => {
  const { A, G, X } = example();
  const operator = KroneckerOperator.fromFactors({ A, G });
  for (const apply of [
    (x: Tensor) => operator.matvec(x),
    (x: Tensor) => operator.solve(x, { damping: 0.1 }),
    (x: Tensor) => operator.sqrtSolve(x, { damping: 0.1 }),
  ])
    for (let i = 0; i < 2; i++) mustAgree(apply(X).slice(i), apply(X.slice(i)), `matrix ${i}`, 1e-14);
});

law(
  t,
  'the operator is that of the factors as they were, and outlives the scope in which it was made or first used',
  () => {
    const { A, G, X } = example();
    const operator = scope(() => KroneckerOperator.fromFactors({ A, G }));
    const before = everything(KroneckerOperator.fromFactors({ A, G }), X);
    A.scale_(2);
    scope(() => everything(operator, X).trace!.item());
    for (const [name, x] of Object.entries(everything(operator, X))) mustAgree(x, before[name]!, name, 1e-13);
  },
);

law(t, 'gradients pass: that of ⟨X, (A ⊗ G + λ1)⁻¹ X⟩ is twice the solution', () => {
  const { A, G, X } = example();
  const operator = KroneckerOperator.fromFactors({ A, G });
  const x = X.detach().clone();
  x.requiresGrad = true;
  x.mul(operator.solve(x, { damping: 0.1 }))
    .sum()
    .backward();
  mustAgree(x.grad!, operator.solve(X, { damping: 0.1 }).mul(2), 'gradient', 1e-13);
});

law(t, 'sample takes the generator of manualSeed by default', () => {
  const { A, G } = example();
  const operator = KroneckerOperator.fromFactors({ A, G });
  manualSeed(8);
  const drawn = operator.sample({ damping: 1 });
  assert.deepEqual([...drawn.dataSync()], [...operator.sample({ damping: 1, rng: new Generator(8) }).dataSync()]);
});
