// Products of @otimes/linalg, Kronecker products too, over random layouts (strides, offsets, dtypes). Matrices of integers
// make many laws exact.

import { eigh, inverse, kron, kronMatvec, matmul, unvec, vec } from '@otimes/linalg';
import fc from 'fast-check';
import { determinant } from 'ml-matrix';
import ndarray, { type NdArray } from 'ndarray';
import t from 'tap';
import { definiteMatrix, matrix, symmetricMatrix, vector } from './arbitraries/ndarray.ts';
import { law, property } from './helpers/law.ts';
import { sized, wide } from './helpers/linalg.ts';
import { build, entries, expectClose, identity, nested, product, random, rowOf, transpose } from './helpers/ndarray.ts';

t.test('products', async t => {
  law(t, 'matmul is the sum over the inner index, for every layout, dtype, transposition and size', () =>
    property(
      sized(3, 0, (m, k, n) =>
        fc
          .tuple(fc.boolean(), fc.boolean())
          .chain(([ta, tb]) =>
            fc.tuple(fc.constant({ ta, tb }), ta ? matrix(k, m) : matrix(m, k), tb ? matrix(n, k) : matrix(k, n)),
          ),
      ),
      ([{ ta, tb }, a, b]) => {
        const c = matmul(a, b, { transposeA: ta, transposeB: tb });
        expectClose(c, product(ta ? transpose(a) : a, tb ? transpose(b) : b));
      },
      400,
    ),
  );

  law(t, 'the result is fresh, row-major, and float32 only if all inputs are', () =>
    property(
      sized(2, 1, (m, n) => fc.tuple(matrix(m, n), matrix(n, m))),
      ([a, b]) => {
        const before = entries(a);
        const c = matmul(a, b);
        const both = a.dtype === 'float32' && b.dtype === 'float32';
        if (c.dtype !== (both ? 'float32' : 'float64')) throw new Error(c.dtype);
        if (c.offset !== 0 || c.stride[1] !== 1 || c.stride[0] !== c.shape[1]) throw new Error('not row-major');
        c.data.fill(7);
        if (String(entries(a)) !== String(before)) throw new Error('the input changed');
      },
    ),
  );

  law(t, 'matmul across every panel boundary of the kernel is the triple loop', async t => {
    const next = random(3);
    const whole = () => Math.round(16 * next());
    for (const [m, k, n] of [
      [131, 259, 5],
      [3, 7, 517],
      [4, 512, 4],
      [129, 1, 1],
    ] as const) {
      const [a, b] = [build(m, k, whole), build(k, n, whole)];
      expectClose(matmul(a, b), product(a, b));
      expectClose(matmul(transpose(a), b, { transposeA: true }), product(a, b));
      t.pass(`${m} × ${k} × ${n}`);
    }
  });

  law(t, 'NaN and infinities pass through a product as IEEE says', async t => {
    const a = build(1, 2, (_, j) => [Number.NaN, 1][j]!);
    t.same(entries(matmul(a, identity(2))), [Number.NaN, Number.NaN]);
    t.same(
      entries(
        matmul(
          build(1, 1, () => Number.POSITIVE_INFINITY),
          build(1, 1, () => -2),
        ),
      ),
      [Number.NEGATIVE_INFINITY],
    );
  });
});

t.test('Kronecker products', async t => {
  law(t, '(A ⊗ B)(C ⊗ D) = AC ⊗ BD', () =>
    property(
      sized(6, 0, (m, k, n, p, q, r) => fc.tuple(matrix(m, k), matrix(p, q), matrix(k, n), matrix(q, r))),
      ([a, b, c, d]) => expectClose(matmul(kron(a, b), kron(c, d)), kron(matmul(a, c), matmul(b, d))),
    ),
  );
  law(t, '(A ⊗ B)ᵀ = Aᵀ ⊗ Bᵀ', () =>
    property(
      sized(4, 0, (m, n, p, q) => fc.tuple(matrix(m, n), matrix(p, q))),
      ([a, b]) => expectClose(transpose(kron(a, b)), kron(transpose(a), transpose(b))),
    ),
  );
  law(t, '(A ⊗ B)⁻¹ = A⁻¹ ⊗ B⁻¹', () =>
    property(
      sized(2, 0, (m, n) => fc.tuple(definiteMatrix(m, wide), definiteMatrix(n, wide))),
      ([a, b]) => expectClose(inverse(kron(a, b)), kron(inverse(a), inverse(b)), 1e-13),
    ),
  );
  law(t, 'the eigenvalues of A ⊗ B are the products of those of A and B', () =>
    property(
      sized(2, 0, (m, n) => fc.tuple(symmetricMatrix(m), symmetricMatrix(n))),
      ([a, b]) => {
        const [x, y] = [entries(eigh(a).values), entries(eigh(b).values)];
        const products = x.flatMap(p => y.map(q => p * q)).sort((p, q) => p - q);
        expectClose(eigh(kron(a, b)).values, rowOf(products), 1e-13);
      },
    ),
  );
  law(t, 'eigenvectors of A ⊗ B are UA ⊗ UB: (UA ⊗ UB)ᵀ (A ⊗ B) (UA ⊗ UB) is diagonal', () =>
    property(
      sized(2, 1, (m, n) => fc.tuple(symmetricMatrix(m, wide), symmetricMatrix(n, wide))),
      ([a, b]) => {
        const [x, y] = [eigh(a), eigh(b)];
        const u = kron(x.vectors, y.vectors);
        const values = entries(x.values).flatMap(p => entries(y.values).map(q => p * q));
        const rotated = matmul(matmul(u, kron(a, b), { transposeA: true }), u);
        expectClose(
          rotated,
          build(values.length, values.length, (i, j) => (i === j ? values[i]! : 0)),
          1e-13,
        );
      },
      50,
    ),
  );
  law(t, 'kronMatvec(A, G, v) = (A ⊗ G) v, neither factor square or symmetric', () =>
    property(
      sized(4, 0, (p, q, m, n) => fc.tuple(matrix(p, q), matrix(m, n), vector(q * n))),
      ([a, g, v]) => {
        const dense = matmul(kron(a, g), ndarray(Float64Array.from(entries(v)), [v.shape[0]!, 1]));
        expectClose(kronMatvec(a, g, v), rowOf(entries(dense)));
      },
      200,
    ),
  );
  law(t, '(A ⊗ G) vec(D) = vec(G D Aᵀ)', () =>
    property(
      sized(4, 0, (p, q, m, n) => fc.tuple(matrix(p, q), matrix(m, n), matrix(n, q))),
      ([a, g, d]) => expectClose(kronMatvec(a, g, vec(d)), vec(matmul(matmul(g, d), a, { transposeB: true }))),
      200,
    ),
  );
  law(t, 'tr(A ⊗ B) = tr A · tr B', () =>
    property(
      sized(2, 0, (m, n) => fc.tuple(matrix(m, m), matrix(n, n))),
      ([a, b]) => {
        const trace = (x: NdArray) =>
          Array.from({ length: x.shape[0]! }, (_, i) => x.get(i, i)).reduce((s, e) => s + e, 0);
        if (trace(kron(a, b)) !== trace(a) * trace(b)) throw new Error(`${trace(kron(a, b))}`);
      },
    ),
  );
  law(t, 'det(A ⊗ B) = det(A)ⁿ det(B)ᵐ for A [m, m] and B [n, n]', () =>
    property(
      fc
        .tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 }))
        .chain(([m, n]) => fc.tuple(matrix(m, m), matrix(n, n))),
      ([a, b]) => {
        const [m, n] = [a.shape[0]!, b.shape[0]!];
        const det = (x: NdArray) => determinant(nested(x));
        const expected = det(a) ** n * det(b) ** m;
        // Hadamard's bound on the determinant is the scale of its rounding.
        const scale = nested(kron(a, b)).reduce((bound, row) => bound * Math.hypot(...row), 1);
        if (!(Math.abs(det(kron(a, b)) - expected) <= 1e-13 * scale))
          throw new Error(`${det(kron(a, b))}, ${expected}`);
      },
    ),
  );
  law(t, 'unvec(vec(M)) = M, and vec stacks columns', () =>
    property(
      sized(2, 0, (m, n) => matrix(m, n)),
      m => {
        const [rows, cols] = [m.shape[0]!, m.shape[1]!];
        expectClose(unvec(vec(m), rows, cols), m);
        for (let i = 0; i < rows; i++) {
          for (let j = 0; j < cols; j++) if (vec(m).get(j * rows + i) !== m.get(i, j)) throw new Error(`${i}, ${j}`);
        }
      },
    ),
  );
});
