/** The namespace linalg of core: identities, PyTorch's numbers, ill-conditioned matrices, edges, and what is refused. */

import assert from 'node:assert/strict';
import { eye, Generator, grad, linalg, ones, randn, type Tensor, tensor, zeros } from '@otimes/core';
import fc from 'fast-check';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, type Stored, stored, within } from './helpers/golden.ts';
import { laterDevice } from './helpers/later.ts';
import { law, property } from './helpers/law.ts';

const wide = { dtype: 'float64' } as const;
const identity = (n: number) => eye(n, wide);
const flip = (x: Tensor) => x.transpose();

/** Seeded batches of matrices [count, m, n]. */
const batches = fc.record({
  rng: fc.integer({ min: 1, max: 1e6 }).map(seed => new Generator(seed)),
  count: fc.integer({ min: 0, max: 3 }),
  m: fc.integer({ min: 0, max: 9 }),
  n: fc.integer({ min: 0, max: 9 }),
});

law(t, 'A A⁻¹ = 1, and A (A⁻¹ b) = b', () =>
  property(batches, ({ rng, count, n, m }) => {
    const a = randn([count, n, n], { ...wide, rng }).add(identity(n).mul(4));
    const b = randn([count, n, m], { ...wide, rng });
    mustBeClose(a.matmul(linalg.inv(a)), identity(n).expand([count, n, n]), { atol: 1e-10 });
    mustBeClose(a.matmul(linalg.solve(a, b)), b, within(1e-10));
  }),
);

law(
  t,
  'det is multiplicative, slogdet is its sign and logarithm, and that of a matrix beyond any float is finite',
  () => {
    property(batches, ({ rng, count, n }) => {
      const [a, b] = [randn([count, n, n], { ...wide, rng }), randn([count, n, n], { ...wide, rng })];
      mustBeClose(linalg.det(a.matmul(b)), linalg.det(a).mul(linalg.det(b)), { rtol: 1e-8, atol: 1e-8 });
      const { sign, logabsdet } = linalg.slogdet(a);
      mustBeClose(sign.mul(logabsdet.exp()), linalg.det(a), { rtol: 1e-9 });
    });
    const { sign, logabsdet } = linalg.slogdet(identity(200).mul(-1e3));
    assert.deepEqual([sign.item(), Math.abs(logabsdet.item() - 200 * Math.log(1e3)) < 1e-9], [1, true]);
    assert.equal(linalg.det(identity(200).mul(-1e3)).item(), Infinity);
  },
);

law(t, 'A = L Lᵀ, A = Q R, A = V Λ Vᵀ, A = U Σ Vᵀ, with orthonormal columns, triangles, and values in order', () =>
  property(batches, ({ rng, count, m, n }) => {
    const a = randn([count, m, n], { ...wide, rng });
    const k = Math.min(m, n);
    const ones_ = identity(k).expand([count, k, k]);
    const { q, r } = linalg.qr(a);
    mustBeClose(q.matmul(r), a, { atol: 1e-13 });
    mustBeClose(flip(q).matmul(q), ones_, { atol: 1e-13 });
    const { u, s, vh } = linalg.svd(a);
    mustBeClose(u.mul(s.unsqueeze(-2)).matmul(vh), a, { atol: 1e-13 });
    mustBeClose(flip(u).matmul(u), ones_, { atol: 1e-13 });
    mustBeClose(vh.matmul(flip(vh)), ones_, { atol: 1e-13 });
    mustBeClose(linalg.svdvals(a), s, { rtol: 0, atol: 0 });
    if (k > 1)
      assert.ok(
        s
          .narrow(-1, 0, k - 1)
          .ge(s.narrow(-1, 1, k - 1))
          .all()
          .item(),
      );
    const gram = a.matmul(flip(a));
    const { values, vectors } = linalg.eigh(gram);
    mustBeClose(vectors.mul(values.unsqueeze(-2)).matmul(flip(vectors)), gram, { atol: 1e-12 });
    if (m > 1)
      assert.ok(
        values
          .narrow(-1, 0, m - 1)
          .le(values.narrow(-1, 1, m - 1))
          .all()
          .item(),
      );
    const definite = gram.add(identity(m));
    const l = linalg.cholesky(definite);
    mustBeClose(l.matmul(flip(l)), definite, { atol: 1e-12 });
    mustBeClose(flip(linalg.cholesky(definite, { upper: true })), l, { rtol: 0, atol: 0 });
  }),
);

law(t, 'the pseudoinverse of a matrix of any rank obeys the four equations of Penrose', () =>
  property(batches, ({ rng, count, m, n }) => {
    const rank = Math.ceil(Math.min(m, n) / 2);
    const a = randn([count, m, rank], { ...wide, rng }).matmul(randn([count, rank, n], { ...wide, rng }));
    const p = linalg.pinv(a, { rtol: 1e-12 });
    mustBeClose(a.matmul(p).matmul(a), a, within(1e-8));
    mustBeClose(p.matmul(a).matmul(p), p, within(1e-7));
    mustBeClose(flip(a.matmul(p)), a.matmul(p), { atol: 1e-7 });
    mustBeClose(flip(p.matmul(a)), p.matmul(a), { atol: 1e-7 });
    assert.deepEqual(
      linalg.matrixRank(a, { rtol: 1e-12 }).toArray(),
      Array.from({ length: count }, () => rank),
    );
  }),
);

/** U diag(κ^(−i/(n−1))) Vᵀ. */
function conditioned(n: number, kappa: number, rng: Generator): { a: Tensor; s: Tensor } {
  const [u, v] = [0, 1].map(() => linalg.qr(randn([n, n], { ...wide, rng })).q) as [Tensor, Tensor];
  const s = tensor(
    Array.from({ length: n }, (_, i) => kappa ** (-i / (n - 1))),
    wide,
  );
  return { a: u.mul(s).matmul(flip(v)), s };
}

law(t, 'errors of ill-conditioned systems are within κ ε, residuals and singular values within ε', () => {
  const eps = 2 ** -52;
  const n = 20;
  for (const kappa of [1e3, 1e8, 1e13]) {
    const rng = new Generator(7);
    const { a, s } = conditioned(n, kappa, rng);
    const x = randn([n, 2], { ...wide, rng });
    const b = a.matmul(x);
    const found = linalg.solve(a, b);
    mustBeClose(found, x, { rtol: 0, atol: 50 * n * kappa * eps });
    mustBeClose(a.matmul(found), b, { rtol: 0, atol: 20 * n * eps * found.norm().item() });
    mustBeClose(linalg.svdvals(a), s, { rtol: 0, atol: 4 * n * eps });
    // Squares would end at the root of ε: 1e-8 of the largest.
    assert.ok(Math.abs(linalg.matrixNorm(a, -2).item() * kappa - 1) < 4 * n * eps * kappa);
  }
});

law(t, 'in float32 each result is that of float64, rounded', () => {
  const a = randn([3, 5, 5], { rng: new Generator(2) }).add(eye(5).mul(3));
  for (const run of [
    linalg.inv,
    linalg.det,
    linalg.svdvals,
    linalg.eigvalsh,
    (x: Tensor) => linalg.qr(x).r,
    (x: Tensor) =>
      linalg.cholesky(
        x
          .astype('float64')
          .matmul(flip(x.astype('float64')))
          .astype(x.dtype),
      ),
  ]) {
    const [single, double] = [run(a), run(a.astype('float64'))];
    assert.equal(single.dtype, 'float32');
    mustBeClose(single, double.astype('float32'), { rtol: 1e-6, atol: 1e-6 });
  }
});

type Case = { inputs: Stored[]; y: Stored; gy?: Stored; gradients?: Stored[] };
const { cases } = golden<{ cases: Record<string, Case> }>('torch-linalg');
const definite = (a: Tensor) => a.matmul(flip(a)).add(identity(a.shape.at(-1)!));
const through = (values: Tensor, left: Tensor, right: Tensor) => left.mul(values.unsqueeze(-2)).matmul(right);
const upper = { upper: true };

const runs: Record<string, (...x: Tensor[]) => Tensor> = {
  cholesky: a => linalg.cholesky(definite(a!)),
  'cholesky, upper': a => linalg.cholesky(definite(a!), upper),
  solve: linalg.solve,
  'solve, vectors': linalg.solve,
  'solveTriangular, upper': (a, b) => linalg.solveTriangular(a!, b!, upper),
  'solveTriangular, right': (a, b) => linalg.solveTriangular(a!, b!, { upper: false, left: false }),
  'solveTriangular, unit': (a, b) => linalg.solveTriangular(a!, b!, { upper: false, unitriangular: true }),
  inv: linalg.inv,
  det: linalg.det,
  slogdet: a => {
    const { sign, logabsdet } = linalg.slogdet(a!);
    return logabsdet
      .unsqueeze(0)
      .pad([[1, 0]])
      .add(sign.unsqueeze(0).pad([[0, 1]]));
  },
  logdet: linalg.logdet,
  eigvalsh: a => linalg.eigvalsh(definite(a!)),
  eigh: a => {
    const { values, vectors } = linalg.eigh(definite(a!));
    return through(values.log(), vectors, flip(vectors));
  },
  svdvals: linalg.svdvals,
  ...Object.fromEntries(
    ['svd, tall', 'svd, wide'].map(name => [
      name,
      (a: Tensor) => {
        const { u, s, vh } = linalg.svd(a);
        return through(s.sqrt(), u, vh);
      },
    ]),
  ),
  'qr, tall': (a, b) => {
    const { q } = linalg.qr(a!);
    return q.matmul(flip(q).matmul(b!));
  },
  'pinv, tall': a => linalg.pinv(a!),
  'pinv, wide': a => linalg.pinv(a!),
  'pinv, deficient': a => linalg.pinv(a!),
  'pinv, rtol': a => linalg.pinv(a!, { rtol: 0.4 }),
  matrixPower: a => linalg.matrixPower(a!, 5),
  'matrixPower, negative': a => linalg.matrixPower(a!, -2),
  lstsq: (a, b) => linalg.lstsq(a!, b!).solution,
  matrixRank: a => linalg.matrixRank(a!).astype('float64'),
  ...Object.fromEntries(
    (['fro', 'nuc', 1, -1, 2, -2, Infinity, -Infinity] as const).map(ord => [
      `matrixNorm ${ord === Infinity ? 'inf' : ord === -Infinity ? '-inf' : ord}`,
      (a: Tensor) => linalg.matrixNorm(a, ord),
    ]),
  ),
};

law(t, "values and gradients are PyTorch's", () => {
  assert.deepEqual(Object.keys(runs).sort(), Object.keys(cases).sort());
  for (const [name, { inputs, y, gy, gradients }] of Object.entries(cases)) {
    const leaves = inputs.map(x => {
      const leaf = stored(x);
      leaf.requiresGrad = true;
      return leaf;
    });
    const found = runs[name]!(...leaves);
    mustBeClose(found, stored(y), within(1e-9), name);
    if (gy === undefined) continue;
    const gx = grad(found, leaves, { gy: stored(gy) });
    for (const [i, g] of gx.entries()) mustBeClose(g, stored(gradients![i]!), within(1e-8), `${name}: gradient ${i}`);
  }
});

law(t, 'the power 0 is the identity whatever the matrix holds, and its derivatives are 0', () => {
  const a = tensor(
    [
      [1, Number.NaN],
      [Infinity, 0],
    ],
    { dtype: 'float64', requiresGrad: true },
  );
  const y = linalg.matrixPower(a, 0);
  assert.deepEqual(y.toArray(), eye(2).toArray());
  assert.deepEqual(grad(y.sum(), [a])[0].toArray(), zeros([2, 2]).toArray());
});

law(t, 'a singular matrix is named in its batch, by inv, solve, solveTriangular and the gradient of slogdet', () => {
  const a = tensor([
    [
      [1, 0],
      [0, 1],
    ],
    [
      [1, 2],
      [2, 4],
    ],
  ]);
  const is = (message: string) => (error: Error) => error instanceof linalg.LinAlgError && error.message === message;
  const words = (op: string) => `${op}: matrix [1] is singular: pivot 1 of float32[2,2,2] is 0`;
  assert.throws(() => linalg.inv(a), is(words('linalg.inv')));
  assert.throws(() => linalg.solve(a, ones([2, 2])), is(words('linalg.solve')));
  assert.throws(
    () => linalg.solveTriangular(zeros([1, 2, 2]), ones([2, 2]), upper),
    is('linalg.solveTriangular: matrix [0] is singular: float32[1,2,2] with 0 at [0,0]'),
  );
  a.requiresGrad = true;
  const { sign, logabsdet } = linalg.slogdet(a);
  assert.deepEqual(
    [sign.toArray(), logabsdet.toArray()],
    [
      [1, 0],
      [0, -Infinity],
    ],
  );
  assert.throws(() => logabsdet.sum().backward(), is(words('linalg.inv')));
  assert.throws(
    () =>
      linalg.cholesky(
        tensor([
          [4, 2],
          [2, 1],
        ]).sub(eye(2).mul(0.5)),
      ),
    /^LinAlgError: linalg\.cholesky: the matrix is not positive definite: its leading minor of order 2 is not, by pivot -0\.6/,
  );
  assert.equal(
    linalg
      .logdet(
        tensor([
          [0, 1],
          [1, 0],
        ]),
      )
      .item(),
    Number.NaN,
  );
});

law(t, 'the gradient of det is the cofactors, of singular matrices of any rank too', () => {
  for (const [rows, cofactors] of [
    [
      [
        [1, 2],
        [2, 4],
      ],
      [
        [4, -2],
        [-2, 1],
      ],
    ],
    [
      [
        [0, 0],
        [0, 0],
      ],
      [
        [0, 0],
        [0, 0],
      ],
    ],
    [
      [
        [1, 2, 3],
        [2, 4, 6],
        [1, 1, 1],
      ],
      [
        [-2, 4, -2],
        [1, -2, 1],
        [0, 0, 0],
      ],
    ],
  ] as const) {
    const a = tensor(rows, { ...wide, requiresGrad: true });
    linalg.det(a).backward();
    mustBeClose(a.grad!, tensor(cofactors, wide), { atol: 1e-13 });
  }
});

law(t, 'equal eigenvalues and singular values: a gradient by values exists, one by vectors is a GraphError', () => {
  const a = identity(3);
  a.requiresGrad = true;
  const [g] = grad(linalg.eigvalsh(a).square().sum(), [a]);
  mustBeClose(g!, identity(3).mul(2), { atol: 1e-14 });
  const [h] = grad(linalg.matrixNorm(a, 'nuc'), [a]);
  mustBeClose(h!, identity(3), { atol: 1e-14 });
  assert.throws(
    () => linalg.eigh(a).vectors.sum().backward(),
    /^GraphError: linalg\.eigh: the loss depends on the vectors/,
  );
  assert.throws(() => linalg.svd(a).u.sum().backward(), /^GraphError: linalg\.svd: the loss depends on the vectors/);
  // The first vector's neighbours are apart; what the others do among themselves does not matter to it.
  const b = tensor(
    [
      [1, 0, 0],
      [0, 2, 0],
      [0, 0, 2],
    ],
    { ...wide, requiresGrad: true },
  );
  const first = linalg.eigh(b).vectors.narrow(1, 0, 1);
  const [k] = grad(first.matmul(flip(first)).slice(0, 1).sum(), [b]);
  mustBeClose(k!.slice(0, 1), tensor(-0.5, wide), { atol: 1e-14 });
});

law(t, 'NaN goes through what only solves, and is refused by what decomposes', () => {
  const a = tensor(
    [
      [NaN, 1],
      [1, 2],
    ],
    wide,
  );
  for (const x of [linalg.inv(a), linalg.det(a), linalg.solve(a, ones([2], wide)), linalg.slogdet(a).logabsdet])
    assert.ok(x.dataSync().every(Number.isNaN));
  for (const run of [linalg.eigh, linalg.svd, linalg.qr, linalg.cholesky, linalg.pinv])
    assert.throws(() => run(a), /^LinAlgError: linalg\.\w+: expected finite numbers/);
});

law(t, 'a device that is read with await is told how; norms without singular values run there', async () => {
  const { device } = laterDevice();
  const a = ones([2, 3, 3], { device });
  for (const run of [linalg.inv, linalg.det, linalg.svd, linalg.eigh, linalg.qr, linalg.cholesky, linalg.pinv])
    assert.throws(() => run(a), /^TypeError: linalg\.\w+: it computes on the host, .* take await x\.cpu\(\) for x/);
  for (const ord of ['fro', 1, -Infinity] as const) assert.deepEqual(await linalg.matrixNorm(a, ord).array(), [3, 3]);
  assert.equal(linalg.inv((await a.cpu()).add(eye(3))).to(device).device, device);
});

law(t, 'axes of matrixNorm may be any two, and stay with keepdim', () => {
  const a = randn([2, 3, 4], { ...wide, rng: new Generator(3) });
  for (const ord of ['fro', 'nuc', 1, Infinity] as const) {
    const found = linalg.matrixNorm(a, ord, { axis: [2, 0], keepdim: true });
    assert.deepEqual(found.shape, [1, 3, 1]);
    mustBeClose(found.reshape(3), linalg.matrixNorm(a.permute(1, 2, 0), ord));
  }
  assert.throws(() => linalg.matrixNorm(a, 1, { axis: [0, -3] }), /^ShapeError: linalg\.matrixNorm: axes \[0,-3\]/);
});
