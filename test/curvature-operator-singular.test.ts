// Factors that make no curvature are refused where they are given, and inverses of singular ones where they are asked for.
import assert from 'node:assert/strict';
import { eye, full, Generator, noGrad, ones, randn, type Tensor, tensor, zeros } from '@otimes/core';
import { eigh, inverse } from '@otimes/linalg';
import { Kfe, KroneckerOperator } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import './helpers/devices.ts';
import { law } from './helpers/law.ts';

const dtype = 'float64';
const o = { dtype } as const;
const NAME = 'KroneckerOperator';
const { fromFactors, fromBasis } = KroneckerOperator;

const randomly = (shape: readonly number[], seed: number) => randn([...shape], { ...o, rng: new Generator(seed) });
/** A Gram matrix [n, n] of so many rows. */
const gramOf = (n: number, rows: number, seed = 1): Tensor => {
  const x = randomly([rows, n], seed);
  return x.transpose().matmul(x);
};
/** U diag(values) Uᵀ */
const withEigenvalues = (values: readonly number[]): Tensor => {
  const n = values.length;
  const U = tensor(eigh(gramOf(n, 2 * n, 7).ndarray()).vectors);
  const x = U.mul(tensor([...values], o)).matmul(U.transpose());
  return x.add(x.transpose()).mul(0.5);
};
const A = gramOf(3, 9);
const G = gramOf(2, 9, 2);
const X = randomly([2, 3], 3);

/** Methods that invert, as they are written in messages. */
const inverses: Record<
  string,
  readonly [hint: string, call: (operator: KroneckerOperator, damping?: number) => Tensor]
> = {
  solve: ['solve(X, ', (operator, damping = 0) => operator.solve(X.astype('float32'), { damping })],
  'split solve': ['solve(X, ', (operator, damping = 0) => operator.solve(X, { damping, split: 'pi' })],
  sqrtSolve: ['sqrtSolve(X, ', (operator, damping = 0) => operator.sqrtSolve(X, { damping })],
  inverseDiagonal: ['inverseDiagonal(', (operator, damping = 0) => operator.inverseDiagonal({ damping })],
  sample: ['sample(', (operator, damping = 0) => operator.sample({ damping, rng: new Generator(1) })],
};

const refused: Record<string, readonly [make: () => unknown, error: { name: string; message: string | RegExp }]> = {
  'two dtypes': [
    () => fromFactors({ A, G: G.astype('float32') }),
    {
      name: 'DTypeError',
      message: `${NAME}.fromFactors: expected factors of one dtype, 'float32' or 'float64', got A float64[3,3] and G float32[2,2]; astype('float64') makes one of the other`,
    },
  ],
  integers: [
    () => fromFactors({ A: eye(3, { dtype: 'int32' }), G: eye(2, { dtype: 'int32' }) }),
    { name: 'DTypeError', message: /got A int32\[3,3\] and G int32\[2,2\]/ },
  ],
  'a factor that is not there': [
    () => fromFactors({ A, G: null } as never),
    {
      name: 'TypeError',
      message: `${NAME}.fromFactors: expected factors to be two tensors { A, G }, got { A, G }; A is float64[3,3], G null`,
    },
  ],
  'a batch of factors': [
    () => fromFactors({ A: A.unsqueeze(0), G }),
    { name: 'ShapeError', message: /expected factor A to be a square matrix, .* got \[1,3,3\]/ },
  ],
  'a factor that is not symmetric': [
    () =>
      fromFactors({
        A: A.add(
          tensor([[0, 1, 0]], o)
            .transpose()
            .mul(tensor([0, 0, 1], o)),
        ),
        G,
      }),
    {
      name: 'RangeError',
      message: /expected factor A to be symmetric, got float64\[3,3\] with .* at \[1,2\] and .* at \[2,1\]/,
    },
  ],
  'a factor that is negative definite': [
    () => fromFactors({ A, G: G.neg() }),
    {
      name: 'RangeError',
      message:
        /expected factor G to be positive semidefinite, got float64\[2,2\] with -[\d.]+ at \[0,0\], so it has a negative/,
    },
  ],
  'a factor with a number that is infinite': [
    () =>
      fromFactors({
        A,
        G: G.mul(
          tensor(
            [
              [1, Infinity],
              [1, 1],
            ],
            o,
          ),
        ),
      }),
    { name: 'RangeError', message: /expected factor G to be finite, got float64\[2,2\] with -?Infinity at \[0,1\]/ },
  ],
  'a factor that requires a gradient': [
    () => {
      const w = A.detach().clone();
      w.requiresGrad = true;
      return fromFactors({ A: w, G });
    },
    {
      name: 'TypeError',
      message: /expected factors that require no gradient, got A float64\[3,3\] that does; .* give a detach\(\)/,
    },
  ],
  'eigenvalues of another dtype': [
    () => fromBasis(Kfe.of(A, G, eigh, [2, 3]), { eigenvalues: ones([2, 3]) }),
    {
      name: 'DTypeError',
      message: /^KroneckerOperator.fromBasis: expected .* got sA float64\[3\] and eigenvalues float32\[2,3\]/,
    },
  ],
  'eigenvalues that are negative': [
    () =>
      fromBasis(Kfe.of(A, G, eigh, [2, 3]), {
        eigenvalues: tensor(
          [
            [1, 1, 1],
            [1, -2, 1],
          ],
          o,
        ),
      }),
    {
      name: 'RangeError',
      message: `${NAME}.fromBasis: expected eigenvalues that are finite and ≥ 0, got -2 at [1,1]`,
    },
  ],
  'a basis with negative eigenvalues': [
    () =>
      fromBasis(
        new Kfe({ U: null, s: full([3], -1, o), n: ones([3], o) }, { U: null, s: ones([2], o), n: ones([2], o) }),
      ),
    {
      name: 'RangeError',
      message: `${NAME}.fromBasis: expected eigenvalues sA of the basis ≥ 0, got -1`,
    },
  ],
  'a basis that is not orthonormal': [
    () => fromBasis(new Kfe({ U: A, s: ones([3], o), n: ones([3], o) }, { U: null, s: ones([2], o), n: ones([2], o) })),
    { name: 'RangeError', message: /^KroneckerOperator.fromBasis: .* eigenvectors that are not orthonormal/ },
  ],
};

for (const [what, [make, error]] of Object.entries(refused))
  law(t, `refused: ${what}`, () => assert.throws(make, error));

law(t, 'factors under noGrad may require a gradient: nothing would record it', () => {
  const w = A.detach().clone();
  w.requiresGrad = true;
  const operator = noGrad(() => fromFactors({ A: w, G }));
  mustBeClose(operator.solve(X), fromFactors({ A, G }).solve(X), { rtol: 0, atol: 0 });
});

law(
  t,
  'an eigenvalue that is negative beyond rounding is refused by each method that decomposes, and by none before',
  async () => {
    const indefinite = withEigenvalues([-0.01, 1, 2]);
    const message =
      /expected factor A of A ⊗ G to be positive semidefinite, got -0\.0\d+ for its smallest eigenvalue beside [12]/;
    const operator = fromFactors({ A: indefinite, G });
    for (const [method, [, call]] of Object.entries(inverses)) {
      if (method === 'split solve') continue;
      assert.throws(() => call(operator, 1), { name: 'RangeError', message }, method);
    }
    for (const damping of [0, 1])
      assert.throws(() => operator.logdet({ damping }), { message: /^KroneckerOperator.logdet: / });
    await assert.rejects(operator.decompose(), { message: /^KroneckerOperator.decompose: / });
    operator.matvec(X);
  },
);

law(t, 'what rounding in float32 leaves below 0 stands for 0, in either dtype', () => {
  for (const type of ['float32', 'float64'] as const) {
    const factor = withEigenvalues([-1e-7, 1, 2]).astype(type);
    const operator = fromFactors({ A: factor, G: G.astype(type) });
    assert.equal(operator.logdet().item(), -Infinity);
    const exact = fromFactors({ A: withEigenvalues([0, 1, 2]).astype(type), G: G.astype(type) });
    mustBeClose(operator.logdet({ damping: 1 }), exact.logdet({ damping: 1 }), { rtol: 1e-5 });
  }
});

/** Operators without an inverse, and why. `own` is for those with eigenvalues of their own, which no split can damp. */
const singular: Record<string, { operator: () => KroneckerOperator; why: RegExp; own?: boolean }> = {
  'A is 0': {
    operator: () => fromFactors({ A: zeros([3, 3], o), G }),
    why: /factor A \[3, 3\] has 3 eigenvalues that are 0 up to the rounding of float64: its smallest is 0, its largest 0/,
  },
  'the mean of A is 0': {
    operator: () => fromFactors({ A: tensor(0, o), G }, { sizes: [2, 3] }),
    why: /factor A \[3, 3\] has 3 eigenvalues that are 0/,
  },
  'G is of rank 1': {
    operator: () => fromFactors({ A, G: gramOf(2, 1) }),
    why: /factor G \[2, 2\] has 1 eigenvalue that is 0 up to the rounding of float64: its smallest is [\d.e-]+, its largest \d/,
  },
  'both are of rank 1': {
    operator: () => fromFactors({ A: gramOf(3, 1), G: gramOf(2, 1) }),
    why: /factor A .* 2 eigenvalues that are 0.*; factor G .* 1 eigenvalue that is 0/,
  },
  'A of float32 has an eigenvalue of its rounding': {
    operator: () => fromFactors({ A: withEigenvalues([1e-7, 1, 2]).astype('float32'), G: G.astype('float32') }),
    why: /factor A \[3, 3\] has 1 eigenvalue that is 0 up to the rounding of float32/,
  },
  'a basis of rank 1': {
    operator: () => fromBasis(Kfe.of(gramOf(3, 1), G, eigh, [2, 3])),
    why: /factor A \[3, 3\] has 2 eigenvalues that are 0/,
  },
  'an eigenvalue of its own is 0': {
    operator: () =>
      fromBasis(Kfe.of(A, G, eigh, [2, 3]), {
        eigenvalues: tensor(
          [
            [1, 1, 1],
            [1, 0, 1],
          ],
          o,
        ),
      }),
    why: /the smallest of its eigenvalues float64\[2,3\] is 0/,
    own: true,
  },
};

for (const [what, { operator, why, own = false }] of Object.entries(singular)) {
  law(t, `where ${what}, inverses without damping are errors that say so, and with it they are finite`, () => {
    for (const [method, [hint, call]] of Object.entries(inverses)) {
      if (own && method === 'split solve') continue;
      const one = operator();
      assert.throws(
        () => call(one),
        (error: Error) => {
          const name = hint.slice(0, hint.indexOf('('));
          assert.ok(error instanceof RangeError && error.message.startsWith(`${NAME}.${name}: A ⊗ G is singular: `));
          assert.match(error.message, why);
          assert.ok(error.message.endsWith(`; give a damping: ${hint}{ damping: 1e-3 }), say`), error.message);
          return true;
        },
        method,
      );
      assert.ok(call(one, 0.1).dataSync().every(Number.isFinite), method);
    }
  });

  law(t, `where ${what}, log det is −∞ without damping`, () => {
    assert.equal(operator().logdet().item(), -Infinity);
    assert.ok(Number.isFinite(operator().logdet({ damping: 0.1 }).item()));
  });
}

law(t, 'a damping that the dtype cannot invert is too small, whatever it is added to', () => {
  const operator = fromFactors({ A: zeros([3, 3]), G: eye(2) });
  for (const damping of [1e-50, 1e-40])
    assert.throws(() => operator.sqrtSolve(X, { damping }), {
      name: 'RangeError',
      message: new RegExp(`^${NAME}.sqrtSolve: A ⊗ G is singular: factor A .*; damping ${damping} is too small$`),
    });
  operator.sqrtSolve(X, { damping: 1e-37 });
  // Neither side is singular, and their product is.
  const small = fromFactors({ A: eye(3).mul(1e-25), G: eye(2).mul(1e-25) });
  assert.throws(() => small.solve(X), {
    message: /its smallest eigenvalue, 0, has no inverse in float32; give a damping/,
  });
  assert.ok(Math.abs(small.logdet().item() / (6 * Math.log(1e-50)) - 1) < 1e-6);
});

law(t, 'a damping so small that Cholesky fails gives what the eigenbasis gives', () => {
  const rank1 = gramOf(3, 1);
  const damping = 1e-34;
  const found = fromFactors({ A: rank1, G }).solve(X, { damping, split: 'pi' });
  const withBasis = fromFactors({ A: rank1, G });
  withBasis.logdet();
  assert.deepEqual(found.toArray(), withBasis.solve(X, { damping, split: 'pi' }).toArray());
});

law(t, 'without damping both splits are the inverse', () => {
  const expected = tensor(inverse(G.ndarray()))
    .matmul(X)
    .matmul(tensor(inverse(A.ndarray())));
  for (const split of ['eigen', 'pi'] as const)
    mustBeClose(fromFactors({ A, G }).solve(X, { split }), expected, { rtol: 1e-10 }, split);
});

law(
  t,
  'on a device that is read with await: decompose tells what fromFactors tells elsewhere, and looks at eigenvalues',
  async () => {
    const there = (x: Tensor) => x.to('later');
    const asymmetric = A.add(tensor([[0, 0, 1]], o).mul(tensor([[1], [0], [0]], o)));
    for (const [bad, says] of [
      [asymmetric, /^RangeError: KroneckerOperator.decompose: expected factor A to be symmetric/],
      [A.neg(), /^RangeError: KroneckerOperator.decompose: expected factor A to be positive semidefinite/],
      [
        withEigenvalues([-0.01, 1, 2]),
        /^RangeError: KroneckerOperator.decompose: expected factor A of A ⊗ G to be positive semidefinite/,
      ],
    ] as const)
      await assert.rejects(fromFactors({ A: there(bad), G: there(G) }).decompose(), says);
    const operator = await fromFactors({ A: there(gramOf(3, 1)), G: there(G) }).decompose();
    assert.throws(
      () => operator.solve(there(X)),
      /^RangeError: KroneckerOperator.solve: A ⊗ G is singular: factor A \[3, 3\] has 2/,
    );
    assert.equal(await operator.logdet().number(), -Infinity);

    const basis = basisThere();
    const eigenvalues = tensor(
      [
        [1, 1, 1],
        [1, 0, 1],
      ],
      o,
    );
    const own = fromBasis(basis, { eigenvalues: there(eigenvalues) });
    assert.throws(
      () => own.sample(),
      /needs a look at the eigenvalues on 'later', .* await operator.decompose\(\) first/,
    );
    assert.ok((await own.sample({ damping: 1 }).data()).every(Number.isFinite));
    await own.decompose();
    assert.throws(() => own.sample(), /KroneckerOperator.sample: A ⊗ G is singular: the smallest of its eigenvalues/);
    const negative = fromBasis(basis, { eigenvalues: there(eigenvalues.sub(1)) });
    await assert.rejects(
      negative.trace().data(),
      /expected eigenvalues that are finite and ≥ 0, got another number at \[1,1\]/,
    );
  },
);

/** A basis on 'later' that was made there. */
function basisThere(): Kfe {
  const kfe = Kfe.of(A, G, eigh, [2, 3]);
  const there = (U: Tensor | null, s: Tensor, n: Tensor) => ({
    U: U?.to('later') ?? null,
    s: s.to('later'),
    n: n.to('later'),
  });
  return new Kfe(there(kfe.UA, kfe.sA, kfe.nA), there(kfe.UG, kfe.sG, kfe.nG));
}
