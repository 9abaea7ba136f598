// Every method of KroneckerOperator with every kind of X: of each either a right result or an error that says what was expected.
import assert from 'node:assert/strict';
import {
  concat,
  Generator,
  isRecording,
  noGrad,
  randint,
  randn,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { factors, Kfe, KroneckerOperator } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import './helpers/devices.ts';
import { law } from './helpers/law.ts';

const dtype = 'float64';
const NAME = 'KroneckerOperator';

/** [3, 3] and [2, 2] */
function factorsOf(type: 'float32' | 'float64' = dtype) {
  const o = { dtype: type, rng: new Generator(5) } as const;
  return factors({ a: randn([9, 1, 3], o), gs: [randn([9, 1, 2], o)] }, 'expand');
}
const batch = (shape: readonly number[], seed = 1) => randn([...shape], { dtype, rng: new Generator(seed) });
const mean = tensor(0.5, { dtype });

/** Operators on X [2, 3] of all kinds. */
const operators: Record<string, (type?: 'float32' | 'float64') => KroneckerOperator> = {
  factors: type => KroneckerOperator.fromFactors(factorsOf(type)),
  basis: type => {
    const { A, G } = factorsOf(type);
    return KroneckerOperator.fromBasis(Kfe.of(A, G, eigh, [2, 3]));
  },
  eigenvalues: (type = dtype) => {
    const { A, G } = factorsOf(type);
    const eigenvalues = batch([2, 3]).square().astype(type);
    return KroneckerOperator.fromBasis(Kfe.of(A, G, eigh, [2, 3]), { eigenvalues });
  },
  'A at the identity': (type = dtype) =>
    KroneckerOperator.fromFactors({ ...factorsOf(type), A: mean.astype(type) }, { sizes: [2, 3] }),
  'both at the identity': (type = dtype) =>
    KroneckerOperator.fromFactors({ A: mean.astype(type), G: mean.astype(type) }, { sizes: [2, 3] }),
};

type Method = (operator: KroneckerOperator, X: Tensor) => Tensor;

/** Linear maps of X, and the method that messages name. All of them are symmetric. */
const maps: Record<string, readonly [name: string, apply: Method]> = {
  matvec: ['matvec', (operator, X) => operator.matvec(X)],
  solve: ['solve', (operator, X) => operator.solve(X, { damping: 0.1 })],
  'undamped solve': ['solve', (operator, X) => operator.solve(X)],
  sqrtSolve: ['sqrtSolve', (operator, X) => operator.sqrtSolve(X, { damping: 0.1 })],
  'split solve': ['solve', (operator, X) => operator.solve(X, { damping: 0.1, split: 'pi' })],
};

/** Every operator with every map that it has. */
function everyPair(type?: 'float32' | 'float64'): { what: string; name: string; apply: (X: Tensor) => Tensor }[] {
  return Object.entries(operators).flatMap(([kind, make]) =>
    Object.entries(maps)
      .filter(([map]) => !(kind === 'eigenvalues' && map === 'split solve'))
      .map(([map, [name, apply]]) => {
        const operator = make(type);
        return { what: `${map} of ${kind}`, name, apply: (X: Tensor) => apply(operator, X) };
      }),
  );
}

const near = { rtol: 1e-10, atol: 1e-12 };

/** What is done with an X, and what must hold. */
const inputs: Record<string, (apply: (X: Tensor) => Tensor, what: string) => void> = {
  'an empty batch has an empty result': (apply, what) => {
    for (const shape of [
      [0, 2, 3],
      [4, 0, 2, 3],
    ])
      assert.deepEqual(apply(zeros(shape, { dtype })).shape, shape, what);
  },
  'batch axes are each matrix alone': (apply, what) => {
    const X = batch([2, 2, 2, 3]);
    const found = apply(X);
    assert.deepEqual(found.shape, X.shape);
    for (const i of [0, 1]) for (const j of [0, 1]) mustBeClose(found.slice(i, j), apply(X.slice(i, j)), near, what);
  },
  'an axis that is expanded is as many copies': (apply, what) => {
    const X = batch([2, 3]);
    mustBeClose(apply(X.expand([4, 2, 3])).slice(3), apply(X), near, what);
  },
  'views that are not contiguous are their copies': (apply, what) => {
    const turned = batch([3, 2]).transpose();
    const strided = batch([4, 6]).slice([null, null, 2], [null, null, 2]);
    for (const X of [turned, strided]) {
      assert.equal(X.isContiguous, false);
      mustBeClose(apply(X), apply(tensor(X.toArray(), { dtype })), near, what);
    }
  },
  'integers and truth values are numbers': (apply, what) => {
    const X = randint(-3, 4, [2, 3], { rng: new Generator(2) });
    for (const given of [X, X.gt(0)]) {
      const found = apply(given);
      assert.equal(found.dtype, dtype, what);
      mustBeClose(found, apply(given.astype(dtype)), near, what);
    }
  },
  'NaN spoils the matrix that has it, and no other': (apply, what) => {
    const good = batch([1, 2, 3]);
    const bad = good.mul(Number.NaN);
    const found = apply(concat([good, bad], 0));
    mustBeClose(found.slice(0), apply(good.squeeze(0)), near, what);
    assert.ok(found.slice(1).dataSync().every(Number.isNaN), what);
  },
  'the gradient of ⟨Y, f(X)⟩ is f(Y), as f is symmetric': (apply, what) => {
    const [X, Y] = [batch([2, 3], 3), batch([2, 3], 4)];
    X.requiresGrad = true;
    apply(X).mul(Y).sum().backward();
    mustBeClose(X.grad!, apply(Y), near, what);
  },
  'under noGrad nothing is recorded': (apply, what) => {
    const X = batch([2, 3]);
    X.requiresGrad = true;
    assert.equal(apply(X).requiresGrad, true, what);
    assert.equal(noGrad(() => apply(X)).requiresGrad, false, what);
    assert.ok(isRecording());
  },
  'a result leaves the scope in which it was made, and its gradient too': (apply, what) => {
    const X = batch([2, 3]);
    const expected = apply(X).toArray();
    X.requiresGrad = true;
    const found = scope(() => apply(X));
    mustBeClose(found, tensor(expected, { dtype }), near, what);
    found.sum().backward();
    mustBeClose(X.grad!, apply(zeros([2, 3], { dtype }).add(1)), near, what);
  },
};

for (const [title, holds] of Object.entries(inputs))
  law(t, `every map of every operator: ${title}`, () => {
    for (const { apply, what } of everyPair()) holds(apply, what);
  });

law(t, 'every map: results have the wider dtype of X and the operator', () => {
  for (const type of ['float32', 'float64'] as const)
    for (const { apply, what } of everyPair(type))
      for (const given of ['float32', 'float64'] as const) {
        const wider = [type, given].includes('float64') ? 'float64' : 'float32';
        assert.equal(apply(batch([2, 3]).astype(given)).dtype, wider, `${what}, ${type} of ${given}`);
      }
});

law(t, 'every map: an X of another shape, on another device, or without elements any more is refused', () => {
  for (const { name, apply, what } of everyPair()) {
    for (const shape of [[], [3], [0], [3, 2], [2, 2], [1, 3], [2, 1], [2, 3, 1], [5, 3, 2]])
      assert.throws(
        () => apply(zeros(shape, { dtype })),
        { name: 'ShapeError', message: `${NAME}.${name}: expected X [..., 2, 3], got [${shape}]` },
        what,
      );
    assert.throws(
      () => apply(batch([2, 3]).to('reference')),
      {
        name: 'DTypeError',
        message: `${NAME}.${name}: expected X on 'cpu', as the operator is, got float64[2,3] on 'reference'`,
      },
      what,
    );
    const gone: Tensor[] = [];
    scope(() => {
      gone.push(batch([2, 3]).mul(2));
    });
    assert.throws(() => apply(gone[0]!), { name: 'ReleasedError' }, what);
  }
});

/** Calls with an argument that is none, as plain JavaScript can make them. */
const misspelt: Record<string, (operator: KroneckerOperator, o: never) => unknown> = {
  matvec: (operator, o) => operator.matvec(batch([2, 3]), o),
  solve: (operator, o) => operator.solve(batch([2, 3]), o),
  sqrtSolve: (operator, o) => operator.sqrtSolve(batch([2, 3]), o),
  logdet: (operator, o) => operator.logdet(o),
  trace: (operator, o) => operator.trace(o),
  diagonal: (operator, o) => operator.diagonal(o),
  inverseDiagonal: (operator, o) => operator.inverseDiagonal(o),
  sample: (operator, o) => operator.sample(o),
  decompose: (operator, o) => operator.decompose(o),
};

for (const [method, call] of Object.entries(misspelt))
  law(t, `${method}: misspelt options, and what is no options, are refused`, async () => {
    for (const make of Object.values(operators))
      for (const wrong of [{ dampning: 1 }, { Damping: 1 }, 1, 'damping', null, [1]])
        await assert.rejects(
          async () => call(make(), wrong as never),
          (error: Error) => {
            const start = `${NAME}.${method}: `;
            assert.ok(error instanceof TypeError && error.message.startsWith(start), `${error}`);
            assert.match(error.message, /there is no option '[dD]amp|expected (no )?options|takes no argument, got/);
            return true;
          },
        );
  });

law(t, 'damping is a number in [0, ∞) that the dtype can hold', () => {
  const of = { solve: 1, sqrtSolve: 1, logdet: 0, diagonal: 0, inverseDiagonal: 0, sample: 0 } as const;
  for (const [method, takesX] of Object.entries(of) as [keyof typeof of, 0 | 1][]) {
    const call = (operator: KroneckerOperator, damping: number) =>
      Reflect.apply(operator[method], operator, takesX ? [batch([2, 3]), { damping }] : [{ damping }]);
    for (const damping of [-1, Number.NaN, Infinity])
      assert.throws(() => call(operators.factors!(), damping), {
        name: 'RangeError',
        message: `${NAME}.${method}: expected damping in [0, Infinity), got ${damping}`,
      });
    assert.throws(() => call(operators.factors!('float32'), 1e39), {
      name: 'RangeError',
      message: `${NAME}.${method}: expected damping that float32 can hold, got 1e+39`,
    });
    call(operators.factors!(), 1e39);
  }
});

law(t, 'an operator says what it is: sizes, dtype, device, sides at the identity, eigenvalues of its own', async () => {
  const printed = {
    factors: `${NAME}(A [3, 3] ⊗ G [2, 2], float64)`,
    basis: `${NAME}(A [3, 3] ⊗ G [2, 2], float64)`,
    eigenvalues: `${NAME}(A [3, 3] ⊗ G [2, 2], float64, eigenvalues of its own)`,
    'A at the identity': `${NAME}(A [3, 3] at the identity ⊗ G [2, 2], float64)`,
    'both at the identity': `${NAME}(A [3, 3] at the identity ⊗ G [2, 2] at the identity, float64)`,
  };
  const { inspect } = await import('node:util');
  for (const [kind, text] of Object.entries(printed)) {
    const operator = operators[kind]!();
    assert.equal(String(operator), text);
    assert.equal(inspect(operator), text);
    assert.equal(JSON.stringify(operator), JSON.stringify(text));
  }
  const { A, G } = factorsOf('float32');
  const there = KroneckerOperator.fromFactors({ A: A.to('later'), G: G.to('later') });
  assert.equal(String(there), `${NAME}(A [3, 3] ⊗ G [2, 2], float32 on 'later')`);
});
