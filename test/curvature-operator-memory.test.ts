// What an operator holds: its own copies, and nothing of its calls; and it lives as long as the program holds it.
import assert from 'node:assert/strict';
import { Generator, getBackend, randn, scope, type Tensor, tensor, WasmBackend, zeros } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { factors, Kfe, KroneckerOperator } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import './helpers/devices.ts';
import { law } from './helpers/law.ts';

const dtype = 'float64';
const o = () => ({ dtype, rng: new Generator(5) }) as const;
/** [8, 8] and [6, 6] */
const factorsOf = () => factors({ a: randn([30, 1, 8], o()), gs: [randn([30, 1, 6], o())] }, 'expand');
const X = randn([2, 6, 8], o());

/** Bytes of WebAssembly memory that tensors hold. */
function memoryInUse(): number {
  const backend = getBackend('cpu');
  assert.ok(backend instanceof WasmBackend);
  return backend.kernels.heap.stats.live;
}

const operators: Record<string, () => KroneckerOperator> = {
  factors: () => KroneckerOperator.fromFactors(factorsOf()),
  basis: () => {
    const { A, G } = factorsOf();
    return KroneckerOperator.fromBasis(Kfe.of(A, G, eigh, [6, 8]));
  },
  eigenvalues: () => {
    const { A, G } = factorsOf();
    const eigenvalues = randn([6, 8], o()).square();
    return KroneckerOperator.fromBasis(Kfe.of(A, G, eigh, [6, 8]), { eigenvalues });
  },
};

const methods: Record<string, (operator: KroneckerOperator) => Tensor> = {
  matvec: operator => operator.matvec(X),
  solve: operator => operator.solve(X, { damping: 0.1 }),
  'undamped solve': operator => operator.solve(X),
  'split solve': operator => operator.solve(X, { damping: 0.1, split: 'pi' }),
  sqrtSolve: operator => operator.sqrtSolve(X, { damping: 0.1 }),
  logdet: operator => operator.logdet({ damping: 0.1 }),
  'undamped logdet': operator => operator.logdet(),
  trace: operator => operator.trace(),
  diagonal: operator => operator.diagonal({ damping: 0.1 }),
  inverseDiagonal: operator => operator.inverseDiagonal({ damping: 0.1 }),
  sample: operator => operator.sample({ damping: 0.1, rng: new Generator(1) }),
};

/** Every operator with every method that it has. */
const everyCall = Object.entries(operators).flatMap(([kind, make]) =>
  Object.entries(methods)
    .filter(([method]) => !(kind === 'eigenvalues' && method === 'split solve'))
    .map(([method, call]) => ({ what: `${method} of ${kind}`, make, call })),
);

for (const { what, make, call } of everyCall)
  law(t, `${what}: many calls hold no memory but that of their results`, () => {
    const operator = make();
    call(operator).storage.release();
    const before = memoryInUse();
    for (let i = 0; i < 20; i++) call(operator).storage.release();
    assert.equal(memoryInUse() - before, 0, 'outside of scopes');
    scope(() => {
      for (let i = 0; i < 20; i++) call(operator);
    });
    assert.equal(memoryInUse() - before, 0, 'in a scope');
  });

for (const [kind, make] of Object.entries(operators))
  law(t, `an operator of ${kind} outlives the scope in which it was made, and those in which it is used`, () => {
    const expected = Object.entries(methods)
      .filter(([method]) => !(kind === 'eigenvalues' && method === 'split solve'))
      .map(([method, call]) => ({ method, call, values: call(make()).toArray() }));
    for (const { method, call, values } of expected) {
      const operator = scope(make);
      scope(() => void call(operator));
      mustBeClose(call(operator), tensor(values, { dtype }), { rtol: 1e-12 }, method);
    }
  });

law(t, 'a decomposition leaves the basis and its eigenvalues, and nothing of what it took', () => {
  const [n, m] = [96, 80];
  const A = randn([200, n], o());
  const G = randn([200, m], o());
  const operator = KroneckerOperator.fromFactors({ A: A.transpose().matmul(A), G: G.transpose().matmul(G) });
  const before = memoryInUse();
  // UA, UG, sA, sG, nA, nG, and sG sAᵀ.
  const shapes = [[n, n], [m, m], [n], [m], [n], [m], [m, n]];
  const same = shapes.map(shape => zeros(shape, { dtype }));
  const expected = memoryInUse() - before;
  for (const x of same) x.storage.release();
  operator.logdet({ damping: 1 }).storage.release();
  assert.equal(memoryInUse() - before, expected);
});

law(t, 'the factors may be given back once the operator is made', () => {
  const given = factorsOf();
  const expected = KroneckerOperator.fromFactors(given).solve(X).toArray();
  const operator = KroneckerOperator.fromFactors(given);
  for (const x of [given.A, given.G]) {
    x.scale_(0);
    x.storage.release();
  }
  mustBeClose(operator.solve(X), tensor(expected, { dtype }), { rtol: 1e-12 });
});

law(t, 'factors and bases whose memory was given back are refused where they are given', () => {
  const gone = scope(() => {
    const { A, G } = factorsOf();
    return { basis: [Kfe.of(A, G, eigh, [6, 8])].map(kfe => () => kfe), factors: () => ({ A, G }) };
  });
  for (const make of [
    () => KroneckerOperator.fromFactors(gone.factors()),
    () => KroneckerOperator.fromBasis(gone.basis[0]!()),
  ])
    assert.throws(make, { name: 'ReleasedError' });
});
