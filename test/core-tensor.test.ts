/** Tensors: making and reading them, views and memory, dtypes, special values, writing in place, random numbers. */

import assert from 'node:assert/strict';
import {
  adamMoments,
  arange,
  type DType,
  defaultGenerator,
  einsum,
  eye,
  full,
  Generator,
  gram,
  manualSeed,
  nextTask,
  noGrad,
  ones,
  promote,
  ReferenceBackend,
  rand,
  randint,
  randn,
  registerBackend,
  type Tensor,
  type TypedArray,
  tensor,
  where,
  zeros,
} from '@otimes/core';
import fc from 'fast-check';
import ndarray, { type NdArray } from 'ndarray';
import t from 'tap';
import { type Layout, laidOut, layout, real, shape } from './arbitraries/tensor.ts';
import { allclose, difference, mustBeClose } from './helpers/allclose.ts';
import { build, Dense, indices } from './helpers/dense.ts';
import { law } from './helpers/law.ts';

const DTYPES: readonly DType[] = ['bool', 'int32', 'float32', 'float64'];
const runs = { seed: 7, numRuns: 100, includeErrorInReport: true };
const sizeOf = (s: readonly number[]) => s.reduce((a, b) => a * b, 1);

/** Shape, whole numbers in row-major order, and a layout for them. */
const numbered = (o?: { repeated: boolean }): fc.Arbitrary<{ s: number[]; values: number[]; how: Layout }> =>
  shape().chain(s =>
    layout(s.length, o).map(how => ({ s, values: Array.from({ length: sizeOf(s) }, (_, i) => i + 1), how })),
  );

law(t, 'a comparison that fails tells the index, both values, and by how many tolerances', () => {
  const found = difference(
    tensor([
      [1, 2],
      [3, 4],
    ]),
    [
      [1, 2],
      [3.5, 4],
    ],
    { rtol: 0, atol: 0.1 },
  );
  assert.equal(found, 'at [1,0]: 3, expected 3.5, 5.00 × the tolerance (rtol 0, atol 0.1); 1 of 4 differ');
  assert.match(difference(1, [1])!, /^shape \[\], expected \[1\]/);
  assert.match(difference([Number.NaN], [0])!, /^at \[0\]: NaN, expected 0, Infinity ×/);
  const said: string[] = [];
  const say = (message: string) => said.push(message) > 0;
  allclose({ pass: say, fail: say }, new Float64Array([1, Number.NaN]), [1, Number.NaN], {}, 'same');
  allclose({ pass: say, fail: say }, 1, 2, {}, 'other');
  assert.equal(said[0], 'same');
  assert.match(said[1]!, /^other: at \[\]: 1, expected 2/);
});

// --- making and reading ---------------------------------------------------------------------------------------------

law(t, 'nested arrays go in and come out the same', () => {
  const nested = shape({ minLength: 1 }).chain(s => {
    const level = (axis: number): fc.Arbitrary<unknown> =>
      axis === s.length ? fc.integer() : fc.array(level(axis + 1), { minLength: s[axis]!, maxLength: s[axis]! });
    return fc.tuple(fc.constant(s), level(0) as fc.Arbitrary<number[]>);
  });
  fc.assert(
    fc.property(nested, ([s, data]) => {
      const x = tensor(data, { dtype: 'float64' });
      assert.deepEqual(x.shape, s);
      assert.deepEqual(x.toArray(), data);
    }),
    runs,
  );
  assert.deepEqual(tensor([[], []]).shape, [2, 0]);
  assert.deepEqual(tensor([true, false]).toArray(), [true, false]);
});

law(t, 'numbers make float32, booleans bool; typed arrays keep their type, bytes become int32', () => {
  const dtypes = [
    1,
    true,
    [[1]],
    [true],
    new Float64Array(2),
    new Float32Array(2),
    new Int32Array(2),
    new Uint8Array(2),
  ];
  assert.deepEqual(
    dtypes.map(data => tensor(data).dtype),
    ['float32', 'bool', 'float32', 'bool', 'float64', 'float32', 'int32', 'int32'],
  );
  assert.deepEqual(tensor(new Uint8Array([0, 3]), { dtype: 'bool' }).dataSync(), new Uint8Array([0, 1]));
  assert.deepEqual(tensor([1, 2, 3, 4], { shape: [2, 2] }).toArray(), [
    [1, 2],
    [3, 4],
  ]);
});

law(t, 'arrays that go in, and what item, toArray, dataSync and data give out, are copies', async () => {
  const source = new Float64Array([1, 2]);
  const x = tensor(source);
  source[0] = 9;
  for (const copy of [x.dataSync(), await x.data(), x.toArray() as number[]]) copy[1] = 9;
  assert.deepEqual(x.toArray(), [1, 2]);
  assert.equal(x.narrow(0, 1, 1).item(), 2);
  assert.equal(tensor([true]).item(), 1);
});

law(t, 'any layout reads back in row-major order', () =>
  fc.assert(
    fc.property(numbered(), ({ s, values, how }) => {
      for (const dtype of ['float32', 'int32'] as const)
        assert.deepEqual([...laidOut(values, s, how, dtype).dataSync()], values);
    }),
    runs,
  ),
);

law(t, 'zeros, ones, full, eye and arange are what their names say', () => {
  for (const dtype of DTYPES) {
    assert.deepEqual([...zeros([2, 2], { dtype }).dataSync()], [0, 0, 0, 0]);
    assert.deepEqual([...ones([2], { dtype }).dataSync()], [1, 1]);
    assert.deepEqual([...full([2], 3, { dtype }).dataSync()], dtype === 'bool' ? [1, 1] : [3, 3]);
    assert.deepEqual([...eye(2, { dtype }).dataSync()], [1, 0, 0, 1]);
    assert.equal(zeros([0, 3], { dtype }).size, 0);
  }
  assert.ok(Object.is(full([], -0).item(), -0));
  assert.deepEqual(arange(3).toArray(), [0, 1, 2]);
  assert.deepEqual(arange(5, 0, -2).toArray(), [5, 3, 1]);
  assert.deepEqual(arange(2, 2).toArray(), []);
  assert.equal(arange(0, 2.5).dtype, 'int32');
  mustBeClose(arange(0, 1, 0.25), tensor([0, 0.25, 0.5, 0.75]));
  assert.ok(ones([1], { requiresGrad: true }).requiresGrad);
});

law(t, 'a printed tensor tells values, dtype and shape', () => {
  assert.equal(String(tensor([[1, 2]])), 'tensor([[1, 2]], float32[1,2])');
  assert.equal(Object.prototype.toString.call(zeros([2])), '[object Tensor float32[2]]');
});

// --- memory ---------------------------------------------------------------------------------------------------------

law(t, 'a write through a view shows in exactly the elements that the view names, and the other way round', () =>
  fc.assert(
    fc.property(numbered(), ({ s, values, how }) => {
      const all = tensor(values, { shape: s, dtype: 'float64' });
      const view = laidOut(values, s, how);
      const whole = view.storage.array.slice();
      view.copy_(all.neg());
      const after = view.storage.array;
      // The storage holds each value once; what lies between is 77.
      const at = indices(s).map(index => view.offset + index.reduce((p, k, i) => p + k * view.strides[i]!, 0));
      assert.deepEqual(
        after,
        whole.map((value, p) => (at.includes(p) ? -values[at.indexOf(p)]! : value)),
      );
      assert.deepEqual(view.neg().add(0).toArray(), all.toArray());
    }),
    runs,
  ),
);

const viewOps: Record<string, (x: Tensor) => Tensor> = {
  transpose: x => x.transpose(),
  permute: x => x.permute(1, 0),
  slice: x => x.slice([null, null, -2], [1]),
  narrow: x => x.narrow(1, 1, 2),
  expand: x => x.expand(2, 4, 3),
  reshape: x => x.reshape(2, 2, -1),
  flatten: x => x.flatten(),
  unsqueeze: x => x.unsqueeze(0),
  squeeze: x => x.unsqueeze(0).squeeze(0),
  detach: x => x.detach(),
  contiguous: x => x.contiguous(),
};

for (const [name, view] of Object.entries(viewOps))
  law(t, `${name} shares memory with what it looks at; clone does not`, () => {
    const x = randn([4, 3]);
    const y = view(x);
    const copy = x.clone();
    const before = copy.dataSync();
    assert.equal(y.storage, x.storage);
    x.copy_(zeros([]));
    assert.equal(y.abs().sum().item(), 0);
    assert.deepEqual(copy.dataSync(), before);
  });

law(t, 'reshape is a view wherever strides allow, and a copy elsewhere', () => {
  const x = randn([4, 6]).transpose();
  assert.equal(x.reshape(2, 3, 4).storage, x.storage);
  assert.equal(x.reshape(6, 1, 2, 2).storage, x.storage);
  assert.notEqual(x.reshape(24).storage, x.storage);
  assert.equal(x.reshape(6, 4), x);
});

law(t, 'ndarray() of any view is the view itself: same elements, same memory', () =>
  fc.assert(
    fc.property(numbered(), ({ s, values, how }) => {
      const x = laidOut(values, s, how);
      const a = x.ndarray();
      assert.equal(a.data, x.storage.array);
      assert.deepEqual([[...a.shape], [...a.stride], a.offset], [[...x.shape], [...x.strides], x.offset]);
      for (const index of indices(s)) a.set(...index, -a.get(...index));
      assert.deepEqual(
        [...x.dataSync()],
        values.map(v => -v),
      );
    }),
    runs,
  ),
);

law(t, 'an ndarray with any strides goes in without a copy; both see each write', () => {
  const a = ndarray(
    new Float64Array(24).map((_, i) => i),
    [4, 6],
  )
    .transpose(1, 0)
    .step(-2, 1)
    .lo(0, 1);
  const x = tensor(a);
  assert.equal(x.storage.array, a.data);
  mustBeClose(x, tensor(Array.from({ length: 3 }, (_, i) => Array.from({ length: 3 }, (_, j) => a.get(i, j)))));
  a.set(1, 1, 100);
  assert.equal(x.slice(1, 1).item(), 100);
  x.slice(2, 2).copy_(tensor(-1));
  assert.equal(a.get(2, 2), -1);
  const again = tensor(x.ndarray());
  again.copy_(again.transpose());
  assert.deepEqual(x.toArray(), again.toArray());
  // Others are read, element by element, and converted.
  mustBeClose(tensor(ndarray([1, 2, 3, 4], [2, 2]).transpose(1, 0)), [
    [1, 3],
    [2, 4],
  ]);
  mustBeClose(tensor(ndarray(new Uint8Array([1, 2])), { dtype: 'int32' }), [1, 2]);
  assert.equal(tensor(ndarray(new Float32Array(2)), { dtype: 'float64', requiresGrad: true }).dtype, 'float64');
});

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

// --- writing in place -----------------------------------------------------------------------------------------------

law(t, 'copy_, addScaled_, addcdiv_ and scale_ write what plain loops write, in any layout, broadcast', () =>
  fc.assert(
    fc.property(numbered(), fc.nat(3), real(64, false), ({ s, values, how }, missing, numbers) => {
      const from = s.slice(missing).map((n, i) => (i % 2 === 1 ? 1 : n));
      const x = tensor(numbers.slice(0, sizeOf(from)), { shape: from, dtype: 'float64' });
      const [p, q] = [new Dense(s, values), new Dense(from, x.dataSync())];
      const check = (write: (y: Tensor) => Tensor, f: (before: number, value: number) => number) => {
        const y = laidOut(values, s, how);
        assert.equal(write(y), y);
        mustBeClose(y, tensor(Float64Array.from(build(s, k => f(p.at(k), q.at(k))).data), { shape: s }));
      };
      check(
        y => y.copy_(x),
        (_, value) => value,
      );
      check(
        y => y.addScaled_(x, -0.5),
        (before, value) => before - value / 2,
      );
      check(
        y => y.addScaled_(x, -0.5, 0.25),
        (before, value) => before / 4 - value / 2,
      );
      const d = x.square().add(1);
      check(
        y => y.addcdiv_(x, d, 3),
        (before, value) => before + (3 * value) / (value * value + 1),
      );
      check(
        y => y.addcdiv_(d, x.abs().add(2), 3, 0.25),
        (before, value) => before / 4 + (3 * (value * value + 1)) / (Math.abs(value) + 2),
      );
      check(
        y => y.scale_(3),
        before => before * 3,
      );
    }),
    runs,
  ),
);

law(t, 'a write whose source shares its memory reads the values from before', () => {
  const x = tensor([
    [1, 2],
    [3, 4],
  ]);
  x.copy_(x.transpose());
  assert.deepEqual(x.toArray(), [
    [1, 3],
    [2, 4],
  ]);
  x.slice([1]).copy_(x.slice([0, 1]));
  x.slice([null, null, -1]).addScaled_(x, 1);
  assert.deepEqual(x.toArray(), [
    [2, 6],
    [2, 6],
  ]);
  x.addScaled_(x, 1);
  assert.deepEqual(x.toArray(), [
    [4, 12],
    [4, 12],
  ]);
  x.addcdiv_(x.transpose(), x.slice([null, null, -1]), 1);
  assert.deepEqual(x.toArray(), [
    [5, Math.fround(12 + 4 / 12)],
    [7, 13],
  ]);
});

law(t, 'addcdiv_ is division and addScaled_, to the bit, and the one counts as a write as the other does', () => {
  const [x, d, y] = [randn([5, 7]), rand([5, 7]).add(0.1), randn([5, 7])];
  const apart = y.clone().addScaled_(x.div(d), -0.3, 0.9);
  assert.deepEqual(y.clone().addcdiv_(x, d, -0.3, 0.9).toArray(), apart.toArray());
  const { version } = y.storage;
  y.addcdiv_(x, d, 1);
  assert.equal(y.storage.version, version + 1);
});

law(t, 'copy_ converts: truncation to int32, ≠ 0 to bool', () => {
  assert.deepEqual(
    zeros([2], { dtype: 'int32' })
      .copy_(tensor([1.7, -1.7]))
      .toArray(),
    [1, -1],
  );
  assert.deepEqual(
    zeros([2], { dtype: 'bool' })
      .copy_(tensor([0.5, 0]))
      .toArray(),
    [true, false],
  );
});

law(t, 'adamMoments is Algorithm 1 of Kingma & Ba, and takes a second moment in place of g²', () => {
  const o = { beta1: 0.9, beta2: 0.99, eps: 1e-8, correction1: 0.1, correction2: 0.01 };
  for (const second of [null, tensor(new Float64Array([4, 5]))]) {
    // Windows with an offset: what lies before them must not change.
    const [ms, vs] = [ones([3], { dtype: 'float64' }), ones([3], { dtype: 'float64' })];
    const g = tensor(new Float64Array([2, -3]));
    const direction = adamMoments(ms.slice([1]), vs.slice([1]), g, second, o);
    const m = [0.9 + 0.1 * 2, 0.9 - 0.1 * 3];
    const v = [4, 9].map((s, i) => 0.99 + 0.01 * (second === null ? s : [4, 5][i]!));
    mustBeClose(ms, [1, ...m]);
    mustBeClose(vs, [1, ...v]);
    mustBeClose(
      direction,
      m.map((mi, i) => mi / 0.1 / (Math.sqrt(v[i]! / 0.01) + 1e-8)),
    );
  }
  const tiny = zeros([1]);
  adamMoments(zeros([1]), tiny, full([1], 1e-19), null, o);
  assert.equal(tiny.item(), 0, 'no denormal numbers');
});

// --- devices --------------------------------------------------------------------------------------------------------

law(t, 'to() copies between devices, gradients flow back, and devices do not mix', () => {
  registerBackend(new ReferenceBackend('second'));
  const x = randn([2, 3], { requiresGrad: true });
  const y = x.to('second');
  assert.deepEqual([y.device, y.toArray()], ['second', x.toArray()]);
  assert.equal(x.to('cpu'), x);
  y.mul(3).sum().backward();
  assert.equal(x.grad!.device, 'cpu');
  mustBeClose(x.grad!, full([2, 3], 3));
  const target = zeros([2, 3]);
  for (const mix of [() => x.add(y), () => x.matmul(y.transpose()), () => noGrad(() => target.copy_(y))])
    assert.throws(mix, /expected tensors on one device, got/);
});

// --- random numbers -------------------------------------------------------------------------------------------------

law(t, 'a seed gives these numbers, everywhere and for ever', () => {
  const rng = new Generator(42);
  const first = [rng.bits(), rng.bits(), rng.uniform(), rng.normal(), rng.integer(0, 1000)];
  assert.deepEqual(first, [660444221, 3652823732, 0.018084542542176507, 0.26752683279886763, 111]);
  assert.deepEqual([...new Generator(42).permutation(5)], [2, 4, 3, 0, 1]);
  manualSeed(42);
  assert.equal(defaultGenerator().bits(), first[0]);
});

law(t, 'the same seed gives the same tensors; another seed, or a negative or large one, gives others', () => {
  const draw = (seed: number) => randn([4], { rng: new Generator(seed) }).toArray();
  const seeds = [0, 1, -1, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1];
  for (const seed of seeds) assert.deepEqual(draw(seed), draw(seed));
  assert.equal(new Set(seeds.map(seed => String(draw(seed)))).size, seeds.length);
  manualSeed(3);
  const x = rand([4]).toArray();
  manualSeed(3);
  assert.deepEqual(rand([4]).toArray(), x);
});

/** How far a sample's distribution function is from the uniform one, times √n: above 1.95 once in a thousand. */
function kolmogorov(sample: Float64Array): number {
  const sorted = sample.slice().sort();
  const n = sorted.length;
  return Math.sqrt(n) * sorted.reduce((d, x, i) => Math.max(d, x - i / n, (i + 1) / n - x), 0);
}

law(t, 'rand is uniform on [0, 1)', () => {
  const x = rand([50000], { rng: new Generator(5), dtype: 'float64' });
  assert.ok(x.min().item() >= 0 && x.max().item() < 1);
  assert.ok(kolmogorov(x.dataSync() as Float64Array) < 1.95);
});

law(t, 'randn is standard normal, in both floating dtypes', () => {
  for (const dtype of ['float32', 'float64'] as const) {
    const x = randn([50000], { rng: new Generator(6), dtype });
    assert.equal(x.dtype, dtype);
    // Through its distribution function a normal number becomes a uniform one.
    const u = x.astype('float64').mul(Math.SQRT1_2).erf().add(1).div(2);
    assert.ok(kolmogorov(u.dataSync() as Float64Array) < 1.95);
    mustBeClose([x.mean().item(), x.var().item()], [0, 1], { atol: 0.03 });
  }
});

law(t, 'rand in float32 never reaches 1', () => {
  const high = new Generator(0);
  high.bits = () => 4294967295;
  assert.ok(rand([1], { rng: high }).item() < 1);
  assert.ok(high.uniform() < 1);
});

law(t, 'integer() and randint cover their range evenly', () => {
  const counts = new Array<number>(7).fill(0);
  const rng = new Generator(8);
  for (let i = 0; i < 70000; i++) counts[rng.integer(-3, 4) + 3]!++;
  // χ² with 6 degrees of freedom is above 22.5 once in a thousand.
  assert.ok(counts.reduce((chi, n) => chi + (n - 10000) ** 2 / 10000, 0) < 22.5);
  const low = -2147483648;
  const wide = Array.from({ length: 1000 }, () => rng.integer(low, 2147483648));
  assert.ok(wide.every(x => x >= low && x < 2147483648) && wide.some(x => x < 0) && wide.some(x => x > 0));
  const x = randint(2, 5, [1000], { rng });
  assert.deepEqual([x.dtype, x.min().item(), x.max().item()], ['int32', 2, 4]);
  assert.equal(randint(0, 9, [3], { dtype: 'float32' }).dtype, 'float32');
});

law(t, 'integer() favours no value where the range does not divide 2³²', () => {
  const words = [4294967295, 4294967294, 5];
  const rng = new Generator(0);
  rng.bits = () => words.shift()!;
  // 2³² mod 3 = 1: only the last word is rejected.
  assert.deepEqual([rng.integer(0, 3), words], [2, [5]]);
});

law(t, 'a permutation holds each number once, and each order comes up', () => {
  const rng = new Generator(9);
  assert.deepEqual(
    [...rng.permutation(100)].sort((a, b) => a - b),
    [...arange(100).dataSync()],
  );
  const orders = new Set(Array.from({ length: 200 }, () => String(rng.permutation(3))));
  assert.equal(orders.size, 6);
  assert.deepEqual([...rng.permutation(0)], []);
});

law(t, 'split() gives generators that do not repeat each other, and is itself reproducible', () => {
  const parent = new Generator(10);
  const [a, b] = [parent.split(), parent.split()];
  const draws = [a, b, parent].flatMap(rng => Array.from({ length: 300 }, () => rng.bits()));
  assert.ok(new Set(draws).size > 895);
  assert.equal(new Generator(10).split().bits(), draws[0]);
});

law(t, 'a generator goes on from its state as if nothing had happened', () => {
  const rng = new Generator(11);
  rng.normal();
  const state = rng.getState();
  const next = [rng.bits(), rng.normal(), rng.integer(0, 10)];
  const other = new Generator(0);
  other.setState(state);
  assert.deepEqual([other.bits(), other.normal(), other.integer(0, 10)], next);
  other.setState([...state]);
  assert.equal(other.bits(), next[0]);
});

law(
  t,
  'an ndarray of a tensor is, through any chain of views, what the package ndarray makes of the same memory',
  () => {
    const step = fc.tuple(
      fc.constantFrom('hi' as const, 'lo' as const, 'step' as const, 'transpose' as const, 'pick' as const),
      fc.array(fc.integer({ min: -2, max: 3 }), { minLength: 3, maxLength: 3 }),
    );
    // Axes of equal strides have no order among them.
    const order = (a: NdArray<TypedArray>) => a.order.map(i => Math.abs(a.stride[i]!));
    const tell = (a: NdArray<TypedArray>) => [a.shape, a.stride, a.offset, a.dtype, a.size, a.dimension, order(a)];
    fc.assert(
      fc.property(shape({ maxRank: 3 }), fc.array(step, { maxLength: 4 }), (s, chain) => {
        let own = ones(s).ndarray();
        let theirs = ndarray(own.data, [...s]);
        for (const [name, numbers] of chain) {
          // The package has a special value for a pick from nothing.
          if (own.dimension === 0) break;
          const given = numbers.slice(0, own.dimension);
          const args =
            name === 'transpose'
              ? given.map((_, i) => i).sort((a, b) => given[a]! - given[b]!)
              : given.map(n => (name === 'step' && n === 0 ? 1 : n));
          own = own[name](...args);
          theirs = theirs[name](...args);
          assert.deepEqual(tell(own), tell(theirs), `${name}(${args})`);
        }
        const at = own.shape.map(() => 0);
        if (!own.shape.every(length => length > 0)) return;
        own.set(...at, 7);
        assert.equal(theirs.get(...at), own.get(...at));
        assert.equal(theirs.index(...at), own.index(...at));
      }),
    );
  },
);

// --- pauses ---

/** What comes in while a program waits for `nextTask` twice. */
async function order(): Promise<string[]> {
  const seen: string[] = [];
  const { port1, port2 } = new MessageChannel();
  port2.once('message', () => seen.push('message'));
  port1.postMessage(null);
  void Promise.resolve().then(() => seen.push('promise'));
  const other = nextTask().then(() => seen.push('other'));
  await nextTask();
  seen.push('task');
  await other;
  for (let i = 0; i < 100 && !seen.includes('message'); i++) await nextTask();
  port1.close();
  return seen;
}

law(t, 'nextTask: promises come first, who waits is served in order, and messages come in', async () => {
  const seen = await order();
  assert.deepEqual(
    seen.filter(what => what !== 'message'),
    ['promise', 'other', 'task'],
  );
  assert.ok(seen.includes('message'));
});
