// The doors of KroneckerOperator: factors, eigensolvers and arguments that are refused, and what errors say.
import assert from 'node:assert/strict';
import { Generator, randn, type Tensor, tensor, zeros } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { type Eigensolver, factors, Kfe, KroneckerOperator } from '@otimes/optim/curvature';
import type { NdArray } from 'ndarray';
import t from 'tap';
import './helpers/devices.ts';
import { checkDoor, type Door } from './helpers/doors.ts';
import { law } from './helpers/law.ts';

const dtype = 'float64';

/** Factors of a batch, and a batch of matrices. */
function example(device = 'cpu') {
  const rng = new Generator(5);
  const o = { dtype, rng } as const;
  const { A, G } = factors({ a: randn([9, 1, 4], o), gs: [randn([9, 1, 3], o)] }, 'expand');
  const X = randn([2, 3, 4], o);
  return { A: A.to(device), G: G.to(device), X: X.to(device) };
}

t.test('errors name operation, expectation and what came', async t => {
  const { A, G, X } = example();
  const { fromFactors, fromBasis } = KroneckerOperator;
  const operator = fromFactors({ A, G });
  t.throws(() => operator.matvec(X.transpose(1, 2)), {
    message: 'KroneckerOperator.matvec: expected X [..., 3, 4], got [2,4,3]',
  });
  t.throws(
    () => operator.solve(X, { damping: -1 }),
    /KroneckerOperator.solve: expected damping in \[0, Infinity\), got -1/,
  );
  t.throws(() => operator.solve(X, { lambda: 1 } as object), /KroneckerOperator.solve: there is no option 'lambda'/);
  t.throws(() => fromFactors({ A, G: tensor(1, { dtype }) }), {
    message:
      'KroneckerOperator.fromFactors: expected factor G to be a square matrix, a diagonal, or the option sizes beside a mean, got []',
  });
  t.throws(() => fromFactors({ A, G }, { sizes: [3, 5] }), {
    message: 'KroneckerOperator.fromFactors: expected factor A to be [5, 5], got [4,4]',
  });
  const kfe = Kfe.of(A, G, eigh, [3, 4]);
  t.throws(() => fromBasis(kfe, { eigenvalues: X }), {
    message: 'KroneckerOperator.fromBasis: expected eigenvalues [3,4], got [2,3,4]',
  });
  t.throws(
    () => fromBasis(kfe, { eigenvalues: X.slice(0).square() }).solve(X, { split: 'pi' }),
    /eigenvalues of its own/,
  );
  const later = example('later');
  t.throws(() => fromFactors(later).solve(later.X), {
    message:
      "KroneckerOperator.solve: needs the eigenbasis of factors on 'later', which is read with await: await " +
      'operator.decompose() first',
  });
});

t.test('factors that make no operator are refused', t => {
  const { A, G } = example();
  const { fromFactors } = KroneckerOperator;
  const mean = (value: number) => tensor(value, { dtype });
  const o = { sizes: [3, 4] } as const;
  const name = 'KroneckerOperator.fromFactors';
  t.throws(() => fromFactors({ A, G: G.to('reference') }), {
    name: 'DTypeError',
    message: `${name}: expected factors on one device, got A on 'cpu' and G on 'reference'`,
  });
  t.throws(() => fromFactors({ A, G: zeros([0, 0], { dtype }) }), {
    message: `${name}: expected factor G to be a square matrix, a diagonal, or the option sizes beside a mean, got [0,0], which is empty`,
  });
  for (const bad of [-1, Number.NaN, Infinity]) {
    t.throws(() => fromFactors({ A: mean(bad), G }, o), {
      name: 'RangeError',
      message: `${name}: expected factor A, a mean eigenvalue, in [0, Infinity), got ${bad}`,
    });
    t.throws(() => fromFactors({ A, G: mean(bad) }, o), /expected factor G, a mean eigenvalue, in/);
  }
  fromFactors({ A: mean(0), G }, o);
  t.throws(() => fromFactors({ A: A.mul(Number.NaN), G }), {
    name: 'RangeError',
    message: `${name}: expected factor A to be finite, got float64[4,4] with NaN at [0,0]`,
  });
  t.throws(() => Reflect.construct(KroneckerOperator, [[3, 4], { factors: { A, G } }]), {
    name: 'TypeError',
    message: 'KroneckerOperator: make it by KroneckerOperator.fromFactors(…) or KroneckerOperator.fromBasis(…)',
  });
  t.end();
});

law(t, 'a mean that is none, on a device that is read with await, is told by decompose', async () => {
  const { A } = example('later');
  for (const bad of [-1, Number.NaN]) {
    const operator = KroneckerOperator.fromFactors({ A, G: tensor(bad, { dtype }).to('later') }, { sizes: [3, 4] });
    await assert.rejects(operator.decompose(), {
      name: 'RangeError',
      message: `KroneckerOperator.decompose: expected factor G, a mean eigenvalue, in [0, Infinity), got ${bad}`,
    });
  }
});

t.test('what an eigensolver returned is checked as that of an optimizer is', async t => {
  const wrong: Record<string, readonly [solve: (x: NdArray) => unknown, says: RegExp]> = {
    null: [
      () => null,
      /must return \{ values \[4\], vectors \[4,4\] \} as ndarrays for the factor A of A ⊗ G; values is no ndarray$/,
    ],
    'a promise': [async x => eigh(x), /values is no ndarray$/],
    'values alone': [x => ({ values: eigh(x).values }), /vectors is no ndarray$/],
    'too few values': [x => ({ ...eigh(x), values: eigh(x).values.hi(1) }), /values is \[1\]$/],
    'too few vectors': [x => ({ ...eigh(x), vectors: eigh(x).vectors.hi(4, 2) }), /vectors is \[4,2\]$/],
    'vectors of length 0': [
      x => ({ ...eigh(x), vectors: zeros([...x.shape], { dtype }).ndarray() }),
      /of factor A of A ⊗ G has eigenvectors that are not orthonormal/,
    ],
  };
  for (const [what, [solve, says]] of Object.entries(wrong)) {
    const { A, G, X } = example();
    const operator = KroneckerOperator.fromFactors({ A, G }, { eigensolver: solve as Eigensolver });
    t.throws(() => operator.solve(X, { damping: 1 }), says, what);
    t.throws(() => operator.logdet(), /^KroneckerOperator\.logdet: the /, `${what}, again`);
    await t.rejects(operator.decompose(), says, `${what}, by decompose`);
    operator.matvec(X);
  }
});

t.test('every method works or says what is wrong', () => {
  const { A, G, X } = example();
  const kfe = Kfe.of(A, G, eigh, [3, 4]);
  const operator = KroneckerOperator.fromBasis(kfe);
  const name = 'KroneckerOperator';
  const doors: Record<string, Door> = {
    fromFactors: {
      call: (...args: Parameters<typeof KroneckerOperator.fromFactors>) => KroneckerOperator.fromFactors(...args),
      args: () => [
        { A, G },
        { sizes: [3, 4], eigensolver: eigh },
      ],
    },
    fromBasis: {
      call: (...args: Parameters<typeof KroneckerOperator.fromBasis>) => KroneckerOperator.fromBasis(...args),
      args: () => [kfe, { eigenvalues: X.slice(0).square() }],
    },
    matvec: { call: (x: Tensor, ...none: never[]) => operator.matvec(x, ...none), args: () => [X, {}] },
    solve: {
      call: (...args: Parameters<typeof operator.solve>) => operator.solve(...args),
      args: () => [X, { damping: 1, split: 'pi' }],
    },
    sqrtSolve: {
      call: (...args: Parameters<typeof operator.sqrtSolve>) => operator.sqrtSolve(...args),
      args: () => [X, { damping: 1 }],
    },
    logdet: { call: (o: object) => operator.logdet(o), args: () => [{ damping: 1 }] },
    diagonal: { call: (o: object) => operator.diagonal(o), args: () => [{ damping: 1 }] },
    inverseDiagonal: { call: (o: object) => operator.inverseDiagonal(o), args: () => [{ damping: 1 }] },
    sample: { call: (o: object) => operator.sample(o), args: () => [{ damping: 1, rng: new Generator(1) }] },
  };
  return Promise.all(Object.entries(doors).map(([method, door]) => checkDoor(`${name}.${method}`, door)));
});
