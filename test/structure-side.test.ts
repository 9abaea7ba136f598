// Sides of a Kronecker block: every structure against the matrices [n, n] that its packed tensors stand for.

import assert from 'node:assert/strict';
import { concat, Generator, ones, randn, type Tensor, tensor } from '@otimes/core';
import { Side } from '@otimes/optim/curvature';
import fc from 'fast-check';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law, property } from './helpers/law.ts';
import { basisOf, dense, factorOf, fullFactor, type SideCase, sideCases, sideOf, sizeOf } from './helpers/sides.ts';

const DTYPES = ['float32', 'float64'] as const;
const random = fc.record({ of: sideCases, seed: fc.integer({ min: 1, max: 1e6 }), dtype: fc.constantFrom(...DTYPES) });
type Random = { of: SideCase; seed: number; dtype: (typeof DTYPES)[number] };
const tolerance = (dtype: string) => (dtype === 'float32' ? { rtol: 1e-4, atol: 1e-4 } : { rtol: 1e-10, atol: 1e-10 });

/** Runs `holds` on random sides, with random numbers of the case's dtype. */
const sides = (holds: (side: Side, o: { rng: Generator; dtype: 'float32' | 'float64' }, of: SideCase) => void) =>
  property(random, ({ of, seed, dtype }: Random) => holds(sideOf(of), { rng: new Generator(seed), dtype }, of));

/** Rows [R, n] as a layer of the case has them, with the homogeneous 1 last where there is a bias. */
function rowsOf(R: number, of: SideCase, o: { rng: Generator; dtype: 'float32' | 'float64' }): Tensor {
  const x = randn([R, of.channels * of.taps], o);
  return of.bias ? concat([x, ones([R, 1], { dtype: o.dtype })], 1) : x;
}

law(t, 'segments cover the side in order, and the shape is that of all their matrices', () =>
  sides((side, _, of) => {
    let at = 0;
    for (const { start, size, taps } of side.segments) {
      assert.equal(start, at);
      at += size * taps;
    }
    assert.equal(at, side.turns ? sizeOf(of) : 0);
    const length = side.orders.reduce((sum, n) => sum + n * n, 0);
    assert.equal(
      side.shape.reduce((a, b) => a * b, 1),
      side.isIdentity ? 1 : side.turns ? length : side.n,
    );
    assert.equal(
      side.decompositionCost,
      side.orders.reduce((sum, n) => sum + n ** 3, 0),
    );
  }),
);

law(t, 'blocks are of whole channels, no larger than they may be unless a channel is, and differ by one channel', () =>
  property(sideCases, of => {
    const side = sideOf({ ...of, structure: 'blocks' });
    const channels = side.segments.map(
      ({ size }, i) => (size - Number(of.bias && i === side.segments.length - 1)) / of.taps,
    );
    assert.ok(channels.every(Number.isInteger));
    assert.ok(Math.max(...channels) - Math.min(...channels) <= 1);
    const least = of.taps + Number(of.bias);
    assert.ok(side.segments.every(({ size }) => size <= Math.max(of.blockDim, least)));
  }),
);

law(t, 'what pack joins, matrices take apart', () =>
  sides((side, o) => {
    const M = basisOf(side, o);
    if (M === null) return;
    assert.deepEqual(M.shape, side.shape);
    mustBeClose(side.pack(side.matrices(M)), M, { rtol: 0, atol: 0 });
  }),
);

law(t, 'rows and columns turn as by the matrix that a basis stands for, with any axes before them', () =>
  sides((side, o) => {
    const { n } = side;
    const U = basisOf(side, o);
    const D = dense(side, U).astype(o.dtype);
    for (const lead of [[3], [2, 3], [2, 1, 3], [0]]) {
      const rows = randn([...lead, n], o);
      mustBeClose(side.turn(rows, U), rows.matmul(D), tolerance(o.dtype));
      mustBeClose(side.turnBack(rows, U), rows.matmul(D.transpose()), tolerance(o.dtype));
      const columns = randn([...lead.slice(1), n, 3], o);
      mustBeClose(side.turnColumns(columns, U), D.transpose().matmul(columns), tolerance(o.dtype));
      mustBeClose(side.turnColumnsBack(columns, U), D.matmul(columns), tolerance(o.dtype));
    }
  }),
);

law(t, 'turning is undone by turning back', () =>
  sides((side, o) => {
    const U = basisOf(side, o);
    const rows = randn([4, side.n], o);
    mustBeClose(side.turnBack(side.turn(rows, U), U), rows, tolerance(o.dtype));
    const columns = randn([side.n, 4], o);
    mustBeClose(side.turnColumnsBack(side.turnColumns(columns, U), U), columns, tolerance(o.dtype));
  }),
);

law(t, 'a rotation leads exactly from one basis to the next, and its squares keep sums', () =>
  sides((side, o) => {
    const [one, two] = [basisOf(side, o), basisOf(side, o)];
    if (one === null || two === null) return;
    const R = side.rotation(one, two);
    assert.deepEqual(R.shape, side.shape);
    const rows = randn([3, side.n], o);
    mustBeClose(side.turn(side.turn(rows, one), R), side.turn(rows, two), tolerance(o.dtype));
    const squares = rows.square();
    const turned = side.turn(squares, R.square());
    assert.ok(turned.min().item() >= 0);
    mustBeClose(turned.sum(1), squares.sum(1), tolerance(o.dtype));
    mustBeClose(dense(side, R.square()), dense(side, R).square(), tolerance(o.dtype));
  }),
);

law(t, 'the factor of rows has the parts of the whole one: blocks of it, or partial traces', () =>
  sides((side, o, of) => {
    const x = rowsOf(5, of, o);
    const whole = fullFactor(x);
    const F = factorOf(side, x);
    assert.deepEqual(F.shape, side.shape);
    if (side.isIdentity) {
      mustBeClose(F, diagonalOf(whole).mean(), tolerance(o.dtype));
      return;
    }
    if (!side.turns) mustBeClose(F, diagonalOf(whole), tolerance(o.dtype));
    for (const [i, { U, V }] of side.parts(F).entries()) {
      const { start, size, taps } = side.segments[i]!;
      const own = whole
        .narrow(0, start, size * taps)
        .narrow(1, start, size * taps)
        .reshape([size, taps, size, taps]);
      const traced = (axis: 0 | 1, count: number) =>
        Array.from({ length: count }, (_, j) =>
          own
            .narrow(axis, j, 1)
            .narrow(axis + 2, j, 1)
            .squeeze([axis, axis + 2]),
        )
          .reduce((a, b) => a.add(b))
          .mul(1 / count);
      mustBeClose(U, traced(1, taps), tolerance(o.dtype));
      if (V !== null) mustBeClose(V, traced(0, size), tolerance(o.dtype));
    }
  }),
);

law(t, 'every structure keeps the trace, and its diagonal is that of the matrix it stands for', () =>
  sides((side, o, of) => {
    const x = rowsOf(6, of, o);
    const F = factorOf(side, x);
    const D = dense(side, F, { factor: true });
    mustBeClose(side.diagonal(F), diagonalOf(D), tolerance(o.dtype));
    mustBeClose(side.diagonal(F).sum(), diagonalOf(fullFactor(x)).sum(), tolerance(o.dtype));
  }),
);

law(t, 'factors are sums over rows: those of two batches are the mean of theirs', () =>
  sides((side, o, of) => {
    const [x, y] = [rowsOf(3, of, o), rowsOf(3, of, o)];
    mustBeClose(
      factorOf(side, x).add(factorOf(side, y)).mul(0.5),
      factorOf(side, concat([x, y], 0)),
      tolerance(o.dtype),
    );
    mustBeClose(
      side.gram(concat([x, y], 0).reshape([2, 3, side.n])),
      side.gram(x).add(side.gram(y)),
      tolerance(o.dtype),
    );
  }),
);

law(t, 'blocks no smaller than the side, and channels with one tap, are the exact side', () =>
  property(sideCases, of => {
    const n = sizeOf(of);
    const sizes = { taps: of.taps, bias: of.bias };
    assert.ok(Side.blocks(n, n, sizes).isExact);
    assert.ok(Side.blocks(n, n, sizes).equals(Side.exact(n)));
    if (of.taps === 1) assert.ok(Side.channels(n, 1, { bias: of.bias }).equals(Side.exact(n)));
  }),
);

law(t, 'patches that are channel ⊗ tap are exact with taps', () =>
  property(random, ({ of, seed }: Random) => {
    const { channels: C, taps: k } = of;
    const side = Side.channels(C * k, k);
    if (side.isExact) return;
    const o = { rng: new Generator(seed), dtype: 'float64' as const };
    // Every row of channels meets every row of taps: their second moments are a product.
    const [c, v] = [randn([4, C], o), randn([3, k], o)];
    const patches = c
      .reshape([4, 1, C, 1])
      .mul(v.reshape([1, 3, 1, k]))
      .reshape([12, C * k]);
    mustBeClose(dense(side, factorOf(side, patches), { factor: true }), fullFactor(patches), tolerance('float64'));
  }),
);

law(t, 'taps that are uncorrelated and alike are exact with channels', () =>
  property(random, ({ of, seed }: Random) => {
    const { channels: C, taps: k } = of;
    const side = Side.channels(C * k, k, { turnsTaps: false });
    if (side.isExact) return;
    const c = randn([4, C], { rng: new Generator(seed), dtype: 'float64' });
    // Each row of channels stands at each tap, alone there.
    const unit = dense(Side.identity(k), null);
    const patches = c
      .reshape([4, 1, C, 1])
      .mul(unit.reshape([1, k, 1, k]))
      .reshape([4 * k, C * k]);
    mustBeClose(dense(side, factorOf(side, patches), { factor: true }), fullFactor(patches), tolerance('float64'));
  }),
);

law(
  t,
  'the spectrum of the parts is that of the matrix: eigenvalues, their sum, and the diagonal in the basis where it counts',
  () =>
    sides((side, o, of) => {
      if (!side.turns) return;
      const F = factorOf(side, rowsOf(6, of, { ...o, dtype: 'float64' }));
      const U = basisOf(side, { ...o, dtype: 'float64' })!;
      const parts = side.matrices(F).map((one, i) => {
        const basis = side.matrices(U)[i]!;
        const rayleigh = basis.mul(one.matmul(basis)).sum(0);
        const n = basis.square().transpose().matmul(diagonalOf(one).unsqueeze(1)).squeeze(1);
        return { s: rayleigh, n };
      });
      const { s, n } = side.spectrum(parts);
      const [D, W] = [dense(side, F, { factor: true }), dense(side, U)];
      mustBeClose(s, W.mul(D.matmul(W)).sum(0), tolerance('float64'));
      const exact = W.square().transpose().matmul(diagonalOf(D).unsqueeze(1)).squeeze(1);
      if (side.segments.every(({ turnsTaps }) => !turnsTaps)) mustBeClose(n, exact, tolerance('float64'));
      else assert.ok(n.sub(exact).min().item() >= -1e-9);
    }),
);

law(t, 'a direction whose channels or whose taps are null to rounding is null', () => {
  const side = Side.channels(6, 3);
  const vector = (...values: number[]) => tensor(values, { dtype: 'float64' });
  const spectrum = side.spectrum([
    { s: vector(1e-9, 2), n: vector(1, 1) },
    { s: vector(0.5, 1e-9, 3), n: vector(2, 1, 0.5) },
  ]);
  const isNull = spectrum.s.le(spectrum.n.mul(1e-8)).astype('float64');
  mustBeClose(isNull, [1, 1, 1, 0, 1, 0]);
});

function diagonalOf(M: Tensor): Tensor {
  return M.reshape([-1]).slice([null, null, M.shape[0]! + 1]);
}

law(t, 'what is no side, or no tensor of it, is an error that says what was expected', () => {
  assert.throws(() => Side.exact(0), { message: /^Side\.exact: expected n to be/ });
  assert.throws(() => Side.blocks(9, 4, { taps: 2 }), {
    message: 'Side.blocks: expected n to count channels of 2 taps each, got 9',
  });
  assert.throws(() => Side.channels(2, 2, { bias: true }), {
    message: 'Side.channels: expected n to count channels of 2 taps each, and a bias, got 2',
  });
  const side = Side.blocks(4, 2);
  assert.throws(() => side.turn(ones([2, 5]), ones([8])), {
    message: 'Side: expected X [..., 4] and a packed matrix [8] of blocks, got [2,5] and [8]',
  });
  assert.throws(() => side.turnColumns(ones([4, 2]), ones([4, 4])), {
    message: 'Side: expected X [..., 4, columns] and a packed matrix [8] of blocks, got [4,2] and [4,4]',
  });
  for (const one of [Side.exact(5), Side.identity(5), Side.blocks(5, 2), Side.channels(5, 2, { bias: true })])
    assert.throws(() => one.gram(ones([2, 4])), { message: 'Side.gram: expected rows [..., 5], got [2,4]' });
  assert.throws(() => Side.exact(4).rotation(ones([3, 3]), ones([3, 3])), {
    message: 'Side.rotation: expected bases [4,4] of exact, got [3,3]',
  });
  assert.throws(() => Side.channels(9, 3, { turnstaps: false } as object), { message: /^Side\.channels: .*turnstaps/ });
  assert.throws(() => Side.blocks(6, 2, { tap: 2 } as object), { message: /^Side\.blocks: .*tap/ });
});
