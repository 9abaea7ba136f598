/** Values that a dtype does not hold, and sizes that are too large. On all devices. */

import assert from 'node:assert/strict';
import {
  arange,
  avgPool2d,
  conv2d,
  type DType,
  Generator,
  grad,
  maxPool2d,
  oneHot,
  ones,
  patchGram,
  randint,
  randn,
  type Tensor,
  tensor,
  unfold,
  where,
  zeros,
} from '@otimes/core';
import fc from 'fast-check';
import ndarray from 'ndarray';
import t from 'tap';
import { law } from './helpers/law.ts';
import { list, mustBe } from './helpers/numbers.ts';

const DEVICES = ['cpu', 'reference'] as const;

// --- numbers on the way in --------------------------------------------------------------------------------------------

law(t, 'arange gives the numbers or refuses', () => {
  assert.deepEqual(arange(0, 5, 1, { dtype: 'bool' }).toArray(), [false, true, true, true, true]);
  assert.equal(arange(0, 5, 1, { dtype: 'bool' }).sum().item(), 4);
  assert.deepEqual(list(arange(2147483646, 2147483648)), [2147483646, 2147483647]);
  assert.deepEqual(list(arange(3e9, 3e9 + 3, 1, { dtype: 'float64' })), [3e9, 3e9 + 1, 3e9 + 2]);
  for (const [range, bad] of [
    [[2147483646, 2147483650], 2147483649],
    [[3e9, 3e9 + 3], 3000000002],
    [[-2147483648, -2147483650, -1], -2147483649],
    [[0, 1e12], 999999999999],
  ] as const)
    assert.throws(() => arange(range[0], range[1], range[2] ?? 1), {
      name: 'DTypeError',
      message: new RegExp(`^arange: int32 holds .* ${bad}$`),
    });
  assert.throws(() => arange(0, 2, 0.5, { dtype: 'int32' }), /arange: int32 holds .* 1.5$/);
});

law(t, 'randint and oneHot refuse what their dtype does not hold', () => {
  assert.throws(() => randint(0, 2 ** 32, [2]), /randint: int32 holds/);
  assert.throws(
    () => randint(0, 2 ** 25, [2], { dtype: 'float32' }),
    /randint: float32 holds all integers to 2²⁴ only/,
  );
  assert.throws(() => randint(3, 3, [0]), /randint: expected integers low < high/);
  assert.throws(() => randint(0.5, 3, [1], { dtype: 'float64' }), /randint: expected low to be an integer, got 0.5/);
  assert.ok(list(randint(2 ** 40, 2 ** 40 + 5, [9], { dtype: 'float64' })).every(v => v >= 2 ** 40 && v < 2 ** 40 + 5));
  assert.throws(() => oneHot(tensor([1], { dtype: 'int32' }), 3e9), /^DTypeError: oneHot: int32 holds/);
});

const numbers = fc.oneof(
  fc.constantFrom(3e9, -3e9, 2147483647.5, 0.5, NaN, Infinity, -Infinity, 2 ** 31, -(2 ** 31) - 1, 16777216.5),
  fc.double(),
  fc.integer(),
);
const ints = fc.array(fc.oneof(fc.integer(), fc.constantFrom(16777217, 2147483647, -2147483648, 0)), { minLength: 1 });

law(t, 'comparisons of int32 and bool with any number are those of JavaScript', () => {
  const compare = {
    eq: (a: number, b: number) => a === b,
    ne: (a: number, b: number) => a !== b,
    lt: (a: number, b: number) => a < b,
    le: (a: number, b: number) => a <= b,
    gt: (a: number, b: number) => a > b,
    ge: (a: number, b: number) => a >= b,
  };
  fc.assert(
    fc.property(ints, numbers, fc.constantFrom(...DEVICES), fc.boolean(), (values, number, device, bits) => {
      const x = tensor(bits ? values.map(v => Number(v > 0)) : values, { dtype: bits ? 'bool' : 'int32', device });
      for (const name of Object.keys(compare) as (keyof typeof compare)[]) {
        const expected = list(x).map(v => compare[name](v, number));
        assert.deepEqual(x[name](number).toArray(), expected, `${name} ${number}`);
        assert.deepEqual(x[name](expected.map(() => number)).toArray(), expected, `${name} list of ${number}`);
      }
    }),
  );
});

law(t, 'arithmetic of int32 with an integer beyond it names the operation; division needs no int32', () => {
  const x = tensor([1, 2147483647], { dtype: 'int32' });
  for (const name of ['add', 'sub', 'mul', 'pow', 'maximum', 'minimum'] as const)
    assert.throws(() => x[name](3e9), new RegExp(`^DTypeError: ${name}: int32 holds .* 3000000000$`));
  assert.throws(() => where(x.gt(1), x, [3e9, 1]), /^DTypeError: where: int32 holds/);
  mustBe(x.div(3e9), [1 / 3e9, 2147483647 / 3e9]);
});

law(t, 'every typed array is a tensor: int32 from integers, and lists of them are rows', () => {
  const arrays = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array];
  const all: [ArrayBufferView, DType][] = arrays.map(A => [A.of(1, 2), 'int32']);
  all.push([BigInt64Array.of(1n, 2n), 'int32'], [BigUint64Array.of(1n, 2n), 'int32']);
  all.push([Float32Array.of(1, 2), 'float32'], [Float64Array.of(1, 2), 'float64']);
  for (const [array, dtype] of all) {
    const data = array as Int32Array;
    for (const x of [tensor(data), tensor([data, data]).slice(1), tensor(ndarray(data, [2]))]) {
      assert.equal(x.dtype, dtype, data.constructor.name);
      assert.deepEqual(list(x), [1, 2], data.constructor.name);
    }
    assert.deepEqual(list(tensor(data, { dtype: 'float64' })), [1, 2]);
    assert.deepEqual(list(tensor([data], { dtype: 'bool' })), [1, 1]);
  }
  assert.equal(tensor([Int8Array.of(1), Float64Array.of(0.5)]).dtype, 'float64');
  assert.deepEqual(list(tensor(BigInt64Array.of(2n ** 40n), { dtype: 'float64' })), [2 ** 40]);
  assert.equal(tensor(ndarray([1, 2], [2])).dtype, 'float64');
  assert.equal(tensor(ndarray(Float32Array.of(1, 2), [2]), { device: 'reference' }).dtype, 'float32');
  for (const bad of [Uint32Array.of(4e9), BigInt64Array.of(2n ** 31n), BigUint64Array.of(2n ** 63n)])
    for (const data of [bad, [bad]]) assert.throws(() => tensor(data), /^DTypeError: tensor: int32 holds integers/);
  assert.throws(() => tensor([Int8Array.of(1), Int8Array.of(1, 2)]), /nested arrays must be regular/);
  assert.throws(() => tensor(Reflect.construct(DataView, [new ArrayBuffer(4)])), /expected numbers, got a DataView/);
});

law(t, 'copy_ into int32 writes all or nothing', () => {
  for (const device of DEVICES)
    for (const bad of [NaN, Infinity, 3e9]) {
      const x = tensor([1, 2, 3], { dtype: 'int32', device });
      assert.throws(() => x.copy_(tensor([7, bad, 8], { device })), /^RangeError: copy_: int32 holds/);
      assert.deepEqual(list(x), [1, 2, 3]);
      assert.deepEqual(list(x.copy_(tensor([7.9, -7.9], { device }).narrow(0, 0, 1))), [7, 7, 7]);
    }
});

law(t, 'functions of int32 beyond 2²⁴ see the integer itself', () => {
  const values = [2147483647, 16777217, -33554433, 5];
  for (const device of DEVICES) {
    const x = tensor(values, { dtype: 'int32', device });
    for (const name of ['sin', 'cos', 'log', 'sqrt', 'tanh', 'exp'] as const)
      mustBe(
        x[name](),
        values.map(v => Math.fround(Math[name](v))),
        1e-6,
        name,
      );
  }
});

// --- sizes ------------------------------------------------------------------------------------------------------------

law(t, 'reshape finds the length of −1 or says why there is none', () => {
  assert.deepEqual(zeros([0]).reshape(-1).shape, [0]);
  assert.deepEqual(zeros([0]).reshape(2, -1).shape, [2, 0]);
  for (const shape of [
    [0, -1],
    [-1, 0],
    [0, -1, 3],
  ])
    assert.throws(() => zeros([0]).reshape(shape), /−1 in \[.*\] could be any length/);
  assert.throws(() => zeros([6]).reshape(-1, -1), /^ShapeError: reshape: expected at most one −1, got \[-1,-1\]/);
  assert.throws(() => zeros([6]).reshape(0, -1), /has 6 elements, which do not fill/);
  assert.throws(() => zeros([6]).reshape(-2, -1), /a shape is made of integers ≥ 0/);
  assert.throws(() => zeros([1]).expand(2 ** 40, 2 ** 40), /^ShapeError: expand: .* more than 2⁵³ elements/);
});

law(t, 'windows of any size give what the reference gives, or are refused by one error', () => {
  const large = fc.constantFrom(1, 2, 3, 2 ** 28, 2 ** 29, 2 ** 29 + 1, 2 ** 31, 2 ** 32);
  const options = fc.record({ stride: large, dilation: large, padding: fc.constantFrom(0, 1, 2 ** 29, 2 ** 31) });
  const kernels = fc.constantFrom(1, 2);
  fc.assert(
    fc.property(options, kernels, ({ stride, padding, dilation }, kernel) => {
      // Small strides and large paddings are too many windows for any memory.
      const o = { stride: padding > 1 ? Math.max(stride, padding) : stride, padding, dilation };
      const results = DEVICES.map(device => {
        const x = tensor(
          [
            [
              [
                [1, 2],
                [3, 4],
              ],
            ],
          ],
          { device },
        );
        const outcome = (run: () => Tensor) => {
          try {
            const y = run();
            return `[${y.shape}] ${list(y)}`;
          } catch (error) {
            assert.match(
              String(error),
              /^RangeError: \w+: expected (stride|padding|dilation) to be |^ShapeError: \w+: a kernel .* does not fit into a plane /,
            );
            return 'refused';
          }
        };
        return [
          ...[unfold, patchGram].map(f => outcome(() => f(x, kernel, o))),
          ...[maxPool2d, avgPool2d].map(f => outcome(() => f(x, kernel, { stride: o.stride, padding }))),
          outcome(() => conv2d(x, ones([1, 1, kernel, kernel], { device }), o)),
        ];
      });
      assert.deepEqual(results[0], results[1], JSON.stringify({ ...o, kernel }));
    }),
  );
});

// --- padding and infinities -------------------------------------------------------------------------------------------

law(
  t,
  'a convolution with padding has zeros there: times an infinite weight or gradient they are NaN, on all devices',
  () => {
    const kind = (v: number) => (Number.isFinite(v) ? 'finite' : String(v));
    const size = fc.integer({ min: 1, max: 7 });
    const geometry = fc.record({
      shape: fc.tuple(fc.integer({ min: 1, max: 2 }), fc.integer({ min: 1, max: 3 }), size, size),
      outputs: size,
      kernel: fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
      stride: fc.integer({ min: 1, max: 3 }),
      padding: fc.integer({ min: 0, max: 2 }),
      dilation: fc.integer({ min: 1, max: 2 }),
    });
    const poison = fc.record({ where: fc.nat(2), at: fc.nat(), what: fc.constantFrom(Infinity, -Infinity, NaN) });
    fc.assert(
      fc.property(geometry, poison, ({ shape, outputs, kernel, ...o }, bad) => {
        fc.pre(kernel.every((k, i) => o.dilation * (k - 1) < shape[i + 2]! + 2 * o.padding));
        const rng = new Generator(bad.at);
        const draw = (lengths: readonly number[], i: number) => {
          const data = randn(lengths, { rng }).dataSync().slice();
          if (bad.where === i) data[bad.at % data.length] = bad.what;
          return tensor(data, { shape: lengths });
        };
        const [x, w] = [draw(shape, 0), draw([outputs, shape[1], ...kernel], 1)];
        const gy = draw(conv2d(x, w, o).shape, 2);
        const results = DEVICES.map(device => {
          const leaves = [x, w].map(v => v.to(device).clone());
          for (const leaf of leaves) leaf.requiresGrad = true;
          const y = conv2d(leaves[0]!, leaves[1]!, o);
          const gram = patchGram(leaves[0]!, kernel, o, { ones: true });
          return [y, ...grad(y, leaves, { gy: gy.to(device) }), gram].map(r => list(r).map(kind).join());
        });
        assert.deepEqual(results[0], results[1]);
      }),
    );
  },
);
