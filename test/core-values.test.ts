/** The values of tensors: dtypes, special values, products. */

import assert from 'node:assert/strict';
import {
  type DType,
  einsum,
  full,
  Generator,
  gram,
  ones,
  promote,
  randn,
  type Tensor,
  tensor,
  where,
  zeros,
} from '@otimes/core';
import fc from 'fast-check';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { DTYPES, runs } from './helpers/tensors.ts';

// --- dtypes ---------------------------------------------------------------------------------------------------------

law(t, 'bool < int32 < float32 < float64: the larger dtype of two operands wins', () => {
  for (const [i, a] of DTYPES.entries())
    for (const [j, b] of DTYPES.entries()) {
      const larger = DTYPES[Math.max(i, j)]!;
      assert.equal(promote(a, b), larger);
      const [x, y] = [ones([2], { dtype: a }), ones([2], { dtype: b })];
      assert.equal(where(tensor([true, false]), x, y).dtype, larger);
      assert.equal(x.eq(y).dtype, 'bool');
      assert.equal(x.div(y).dtype, larger === 'float64' ? larger : 'float32');
      if (larger === 'bool') assert.throws(() => x.add(y), /add: expected numbers, got bool\[2\] and bool\[2\]/);
      else assert.equal(x.add(y).dtype, larger);
    }
});

law(t, 'a JavaScript number beside a tensor takes its dtype, unless that cannot hold a fraction', () => {
  const table: [DType, number, DType][] = [
    ['bool', 1, 'int32'],
    ['bool', 0.5, 'float32'],
    ['int32', 2, 'int32'],
    ['int32', 0.5, 'float32'],
    ['int32', Number.NaN, 'float32'],
    ['float32', 1e-3, 'float32'],
    ['float64', 2, 'float64'],
  ];
  for (const [dtype, number, result] of table) assert.equal(ones([1], { dtype }).add(number).dtype, result);
  assert.equal(ones([2], { dtype: 'int32' }).mul([1, 0.5]).dtype, 'float32');
  assert.equal(ones([2], { dtype: 'int32' }).mul([true, false]).dtype, 'int32');
});

law(t, 'int32 arithmetic is arithmetic modulo 2³²', () => {
  const any = fc.integer({ min: -2147483648, max: 2147483647 });
  const wrap = (x: bigint) => Number(BigInt.asIntN(32, x));
  fc.assert(
    fc.property(any, any, any, any, fc.nat(40), (a, b, c, d, k) => {
      const [x, y] = [tensor(new Int32Array([a, b])), tensor(new Int32Array([c, d]))];
      const [p, q, r, s] = [BigInt(a), BigInt(b), BigInt(c), BigInt(d)];
      const pairs: [string, Tensor, bigint[]][] = [
        ['add', x.add(y), [p + r, q + s]],
        ['sub', x.sub(y), [p - r, q - s]],
        ['mul', x.mul(y), [p * r, q * s]],
        ['neg', x.neg(), [-p, -q]],
        ['square', x.square(), [p * p, q * q]],
        ['pow', x.pow(k), [p ** BigInt(k), q ** BigInt(k)]],
        ['sum', x.sum().reshape(1), [p + q]],
        ['matmul', x.matmul(y).reshape(1), [p * r + q * s]],
      ];
      for (const [name, result, exact] of pairs) {
        assert.equal(result.dtype, 'int32');
        assert.deepEqual([...result.dataSync()], exact.map(wrap), name);
      }
    }),
    runs,
  );
});

law(t, 'astype truncates to integers, takes ≠ 0 as true, and rounds to float32', () => {
  const x = tensor(new Float64Array([-1.7, 0, 0.4, 1.7]));
  assert.deepEqual(x.astype('int32').toArray(), [-1, 0, 0, 1]);
  assert.deepEqual(x.astype('bool').toArray(), [true, false, true, true]);
  assert.equal(x.astype('float32').slice(3).item(), Math.fround(1.7));
  assert.equal(x.astype('float64'), x);
});

// --- special values -------------------------------------------------------------------------------------------------

const odd = tensor(new Float64Array([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 1]));

law(t, 'NaN goes through max, min, argmax, argmin, maximum, minimum, clamp and relu', () => {
  assert.ok(Number.isNaN(odd.max().item()) && Number.isNaN(odd.min().item()));
  assert.equal(odd.argmax().item(), 0);
  assert.equal(tensor([1, Number.NaN, 3, Number.NaN]).argmin().item(), 1);
  for (const y of [odd.maximum(0), odd.minimum(0), odd.clamp(-1, 1), odd.relu(), odd.mul(0), zeros([5]).maximum(odd)])
    assert.ok(Number.isNaN(y.slice(0).item()));
  mustBeClose(odd.relu().slice([1]), [Number.POSITIVE_INFINITY, 0, 0, 1]);
  mustBeClose(odd.clamp(-2, 2).slice([1]), [2, -2, 0, 1]);
  assert.deepEqual(odd.isNaN().toArray(), [true, false, false, false, false]);
  assert.deepEqual(odd.isFinite().toArray(), [false, false, false, true, true]);
  assert.deepEqual(odd.eq(odd).toArray(), [false, true, true, true, true]);
  assert.deepEqual(odd.ne(odd).toArray(), [true, false, false, false, false]);
});

law(t, 'extrema of infinities are infinities', () => {
  const low = full([3], Number.NEGATIVE_INFINITY);
  assert.equal(low.max().item(), Number.NEGATIVE_INFINITY);
  assert.equal(low.neg().min().item(), Number.POSITIVE_INFINITY);
  assert.equal(low.argmax().item(), 0);
});

law(t, '−0 keeps its sign through neg, abs, relu of what is positive, erf, sqrt and round', () => {
  const minus = tensor([-0]);
  const sign = (x: Tensor) => (Object.is(x.item(), -0) ? -1 : 1);
  assert.deepEqual(
    [minus, minus.erf(), minus.sqrt(), minus.round(), minus.mul(2), minus.tanh()].map(sign),
    [-1, -1, -1, -1, -1, -1],
  );
  assert.deepEqual([minus.neg(), minus.abs(), minus.relu(), minus.add(0)].map(sign), [1, 1, 1, 1]);
});

law(t, 'softmax and logSoftmax hold out large logits, and rows of −∞ in part', () => {
  mustBeClose(tensor([1000, 1000]).softmax(), [0.5, 0.5]);
  mustBeClose(tensor([-1000, 0]).logSoftmax(), [-1000, 0]);
  mustBeClose(tensor([Number.NEGATIVE_INFINITY, 1]).softmax(), [0, 1]);
  mustBeClose(tensor([Number.NEGATIVE_INFINITY, 1]).logSoftmax(), [Number.NEGATIVE_INFINITY, 0]);
  assert.ok(full([2], Number.NEGATIVE_INFINITY).softmax().isNaN().all().item());
});

law(t, 'sigmoid, expm1 and log1p keep their accuracy far out and near 0', () => {
  mustBeClose(tensor(new Float64Array([-800, 800, -40])).sigmoid(), [0, 1, Math.exp(-40)], { atol: 0, rtol: 1e-14 });
  mustBeClose(tensor(new Float64Array([1e-18])).expm1(), [1e-18], { atol: 0, rtol: 1e-14 });
  mustBeClose(tensor(new Float64Array([1e-18])).log1p(), [1e-18], { atol: 0, rtol: 1e-14 });
});

law(t, 'erf is right to 1e-15, and odd', () => {
  const known: [number, number][] = [
    [0, 0],
    [1e-10, 1.1283791670955126e-10],
    [0.1, 0.1124629160182849],
    [0.5, 0.5204998778130465],
    [1, 0.8427007929497149],
    [2, 0.9953222650189527],
    [2.5, 0.9995930479825551],
    [3, 0.9999779095030014],
    [4, 0.9999999845827421],
    [6, 1],
    [Number.POSITIVE_INFINITY, 1],
  ];
  const x = tensor(Float64Array.from(known, k => k[0]));
  const y = known.map(k => k[1]);
  mustBeClose(x.erf(), y, { rtol: 1e-15, atol: 0 });
  mustBeClose(
    x.neg().erf(),
    y.map(v => -v),
    { rtol: 1e-15, atol: 0 },
  );
  // The two formulas meet at 3.
  const near = tensor(new Float64Array([3 - 1e-12, 3 + 1e-12])).erf();
  assert.ok(Math.abs(near.slice(1).item() - near.slice(0).item()) < 1e-15);
});

law(
  t,
  'of nothing: the sum is 0, the norm 0, mean and variance NaN, all true, any false, and there is no largest',
  () => {
    const none = zeros([2, 0]);
    assert.deepEqual(none.sum(1).toArray(), [0, 0]);
    assert.deepEqual(none.norm(1).toArray(), [0, 0]);
    assert.ok(none.mean(1).isNaN().all().item() && none.var(1).isNaN().all().item());
    assert.deepEqual([none.all().item(), none.any().item()], [1, 0]);
    for (const f of ['max', 'min', 'argmax', 'argmin'] as const) assert.throws(() => none[f](1), /no elements along/);
    assert.deepEqual(none.max(0).shape, [0]);
    assert.deepEqual(none.argmax(0).shape, [0]);
    assert.deepEqual(none.softmax(1).shape, [2, 0]);
  },
);

law(t, 'a product over nothing is 0', () => {
  const shapes: [number[], number[], number[]][] = [
    [
      [2, 0],
      [0, 3],
      [2, 3],
    ],
    [
      [4, 2, 0],
      [0, 3],
      [4, 2, 3],
    ],
    [
      [4, 2, 0],
      [4, 0, 3],
      [4, 2, 3],
    ],
    [[0], [0], []],
    [[2, 0], [0], [2]],
    [
      [0, 5],
      [5, 3],
      [0, 3],
    ],
    [
      [4, 2, 5],
      [5, 0],
      [4, 2, 0],
    ],
    [
      [0, 2, 5],
      [5, 3],
      [0, 2, 3],
    ],
  ];
  for (const [a, b, c] of shapes) {
    const [x, y] = [ones(a, { requiresGrad: true }), ones(b, { requiresGrad: true })];
    const z = x.matmul(y);
    assert.deepEqual(z.shape, c);
    mustBeClose(z, zeros(c));
    z.sum().backward();
    assert.deepEqual([x.grad!.shape, y.grad!.shape], [a, b]);
  }
});

law(t, 'NaN and ∞ off a diagonal do not reach the trace', () => {
  assert.equal(
    einsum(
      'ii->',
      tensor([
        [1, Number.NaN],
        [Number.POSITIVE_INFINITY, 2],
      ]),
    ).item(),
    3,
  );
});

law(t, 'gram of a batch is that of all its rows, exactly symmetric, where they lie at any distances', () => {
  for (const dtype of ['float32', 'float64'] as const)
    for (const [n, rows, columns] of [
      [3, 50, 7],
      [5, 32, 1],
      [2, 300, 33],
      [4, 31, 9],
      [1, 40, 6],
      [0, 40, 6],
      [3, 0, 4],
    ] as const) {
      const planes = randn([n, columns + 2, rows], { dtype, rng: new Generator(3) }).narrow(1, 1, columns);
      for (const x of [planes.transpose(1, 2), planes.slice([], [], [null, null, -1]).transpose(1, 2)]) {
        const product = gram(x);
        assert.deepEqual(product.toArray(), product.transpose().toArray());
        const sum = x.transpose(1, 2).matmul(x).sum(0);
        mustBeClose(product, sum, { rtol: 0, atol: dtype === 'float32' ? 2e-4 : 1e-12 });
      }
    }
});

law(t, 'reads of a whole tensor take no argument, and say so', async () => {
  const x = ones([1]);
  for (const name of ['data', 'number', 'array', 'cpu'] as const) {
    const read = x[name] as (...given: unknown[]) => Promise<unknown>;
    await assert.rejects(read.call(x, 1), {
      name: 'TypeError',
      message: new RegExp(`^${name}: takes no argument, got 1; `),
    });
  }
});
