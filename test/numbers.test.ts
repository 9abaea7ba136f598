/** Numbers at the edges: what overflows on the way, limits of derivatives, and values that a dtype does not hold. On all devices. */

import assert from 'node:assert/strict';
import {
  arange,
  avgPool2d,
  batchNorm,
  batchNormEval,
  conv2d,
  type DType,
  Generator,
  grad,
  groupNorm,
  layerNorm,
  maxPool2d,
  oneHot,
  ones,
  patchGram,
  randint,
  randn,
  squaredError,
  type Tensor,
  tensor,
  unfold,
  where,
  zeros,
} from '@otimes/core';
import { bceWithLogits, mseLoss } from '@otimes/nn';
import fc from 'fast-check';
import ndarray from 'ndarray';
import t from 'tap';
import { law } from './helpers/law.ts';

type Values = ArrayLike<number>;
const DEVICES = ['cpu', 'reference'] as const;
const FLOATS = ['float32', 'float64'] as const;
const list = (x: Tensor): number[] => Array.from(x.contiguous().dataSync(), Number);

/** Equal up to `rtol` of the expected; infinite, NaN or 0 exactly where that is. The sign of 0 does not count. */
function mustBe(actual: Tensor, expected: Values, rtol = 1e-6, what = ''): void {
  const values = list(actual);
  assert.equal(values.length, expected.length, what);
  for (const [i, x] of values.entries()) {
    const y = expected[i]!;
    if (x === y || (Number.isNaN(x) && Number.isNaN(y))) continue;
    if (!(Math.abs(x - y) <= rtol * Math.abs(y) && Math.abs(y) < Infinity))
      throw new Error(`${what} at ${i}: ${x}, expected ${y}, of [${values}]`);
  }
}

const onEach = (title: string, holds: (device: string, dtype: 'float32' | 'float64') => void): void => {
  for (const device of DEVICES)
    for (const dtype of FLOATS) law(t, `${device} ${dtype}: ${title}`, () => holds(device, dtype));
};

// --- sums of squares --------------------------------------------------------------------------------------------------

onEach('norm, its gradient and its second derivatives are right wherever they are in range', (device, dtype) => {
  const scales = dtype === 'float32' ? [1, 1e20, 1e37, 1e-23, 1e-30] : [1, 1e150, 1e200, 1e300, 1e-170, 1e-300];
  const [bound, far] = dtype === 'float32' ? [1e-6, 1e-5] : [1e-14, 1e-13];
  for (const s of scales) {
    const x = tensor(
      [
        [3, 0, 1],
        [4, 0, 2],
        [0, 0, 2],
      ].map(row => row.map(v => v * s)),
      { dtype, device, requiresGrad: true },
    );
    const gy = tensor([1, 1, 0.5], { dtype, device });
    for (const axis of [0, 1]) {
      const view = axis === 0 ? x : x.transpose();
      const norms = view.norm(axis);
      mustBe(norms, [5 * s, 0, 3 * s], bound, `norm of ${s}`);
      const [g] = grad(norms, [x], { gy, createGraph: true });
      const wanted = [0.6, 0, 1 / 6, 0.8, 0, 1 / 3, 0, 0, 1 / 3];
      mustBe(axis === 0 ? g! : g!.transpose(), axis === 0 ? wanted : list(g!.transpose()), bound, 'gradient');
      mustBe(g!, wanted, bound, 'gradient');
      const [h] = grad(g!.slice(null, 0).sum(), [x]);
      // Σ over i of ∂²n/∂xᵢ∂xⱼ = (Σ − u (u·1))ⱼ / n for the unit vector u.
      const second = [(1 - 0.6 * 1.4) / (5 * s), (1 - 0.8 * 1.4) / (5 * s), 1 / (5 * s)];
      mustBe(h!, [second[0]!, 0, 0, second[1]!, 0, 0, second[2]!, 0, 0], far, 'second derivative');
    }
    mustBe(x.norm(), [s * Math.sqrt(34)], bound, 'whole');
    mustBe(x.slice(null, [null, null, -2]).norm(undefined, { keepdim: true }), [s * Math.sqrt(34)], bound, 'parts');
  }
  for (const [x, n] of [
    [[Infinity, 1], Infinity],
    [[Infinity, NaN], NaN],
    [[], 0],
  ] as const)
    mustBe(tensor([...x], { dtype, device, shape: [x.length] }).norm(), [n], 0, `[${x}]`);
});

onEach('mean is in range wherever the elements are', (device, dtype) => {
  const most = dtype === 'float32' ? 3e38 : 1.7e308;
  const x = tensor(
    [
      [most, 1, NaN],
      [most, 2, 1],
    ],
    { dtype, device, requiresGrad: true },
  );
  mustBe(x.mean(0), [most, 1.5, NaN]);
  mustBe(x.slice(null, [0, 2]).mean(), [most / 2]);
  mustBe(grad(x.mean(), [x])[0]!, new Array(6).fill(1 / 6));
  mustBe(zeros([0, 2], { dtype, device }).mean(0), [NaN, NaN]);
  mustBe(tensor([16777217, -16777216], { dtype: 'int32', device }).mean(), [0.5]);
  mustBe(tensor([true, false, true, true], { device }).mean(), [0.75]);
});

onEach('squares of a loss do not leave the range before they are summed', (device, dtype) => {
  const [whole, none] = [
    [70000, 3],
    [0, 3],
  ].map(v => tensor(v, { dtype: 'int32', device }));
  mustBe(mseLoss(whole!, none!), [2.45e9], 1e-7, 'int32');
  mustBe(mseLoss(whole!.astype(dtype), none!), [2.45e9], 1e-7, 'mixed');
  const s = dtype === 'float32' ? 1e20 : 1e150;
  const [a, b] = [tensor([3 * s, 0], { dtype, device }), zeros([2], { dtype, device })];
  mustBe(
    squaredError(a, b, 1e-10),
    [9e-10 * s * s].map(v => (dtype === 'float32' ? 9e30 : v)),
    1e-6,
  );
  mustBe(
    bceWithLogits(tensor([1e38, 1e38, 1e38, 1e38, 1e38], { dtype, device }), zeros([5], { dtype, device })),
    [1e38],
  );
});

law(t, 'float32 normalisation far from 0 is that of float64 on the same numbers, with gradients', () => {
  const rng = new Generator(3);
  for (const device of DEVICES)
    for (const mean of [1000, 1e5])
      for (const size of [2, 30]) {
        const [x32, gy32] = [randn([4, size, 3], { rng }).add(mean), randn([4, size, 3], { rng })];
        const all = (dtype: DType) => {
          const [x, gy] = [x32, gy32].map(v => v.astype(dtype).to(device)) as [Tensor, Tensor];
          const leaf = x.detach();
          leaf.requiresGrad = true;
          const w = tensor([1, 2, 0.5], { dtype, device });
          const wide = tensor(
            Float64Array.from({ length: size }, (_, i) => 1 + (i % 3)),
            { dtype, device },
          );
          const results = [
            layerNorm(leaf.transpose(1, 2), wide),
            batchNorm(leaf, wide).y,
            groupNorm(leaf.transpose(1, 2), 3, w),
            leaf.var(1),
          ];
          return results.flatMap(y => {
            const g =
              y.shape.length === 3 ? (y.shape[1] === 3 ? gy.transpose(1, 2) : gy) : gy.narrow(1, 0, 1).squeeze(1);
            const plain = grad(y, [leaf], { gy: g })[0]!;
            const again =
              y === results[3] ? plain : grad(batchNorm(leaf, wide).y, [leaf], { gy, createGraph: true })[0]!;
            return [y, plain, again].map(list);
          });
        };
        const [single, double] = [all('float32'), all('float64')];
        for (const [k, values] of single.entries()) {
          const largest = Math.max(...double[k]!.map(Math.abs), 1);
          for (const [i, v] of values.entries())
            assert.ok(Math.abs(v - double[k]![i]!) < 1e-5 * largest, `${device} ${mean} ${size}: ${k} at ${i}: ${v}`);
        }
      }
});

law(t, 'statistics of a batch of 1e20 are used before they are rounded', () => {
  for (const device of DEVICES) {
    const x = tensor([[1e20], [-1e20], [3e20], [1e20]], { device });
    mustBe(batchNorm(x, ones([1], { device })).y, [0, -Math.SQRT2, Math.SQRT2, 0], 1e-6);
  }
});

law(t, 'batchNormEval subtracts the mean first', () => {
  for (const device of DEVICES) {
    const [x, one] = [tensor([[1000.0625]], { device }), ones([1], { device })];
    const y = batchNormEval(x, tensor([1000], { device }), tensor([1e-6], { device }), one, one, 0);
    mustBe(y, [63.5], 1e-6);
  }
});

// --- limits of derivatives --------------------------------------------------------------------------------------------

const ENDS = [0, 1e-30, 50, -50, 1e20, -1e20, 3e38, -3e38, Infinity, -Infinity, NaN];

onEach('derivatives of functions that become flat are 0 there, of the first and the second order', (device, dtype) => {
  const step = ENDS.map(v => (Number.isNaN(v) ? NaN : Math.abs(v) < 1 ? 0.5 : v > 0 ? 1 : 0));
  const bump = (top: number) => ENDS.map(v => (Number.isNaN(v) ? NaN : Math.abs(v) < 1 ? top : 0));
  const cases: [string, (x: Tensor) => Tensor, number[], number[]][] = [
    ['gelu', x => x.gelu(), step, bump(Math.sqrt(2 / Math.PI))],
    ['gelu by tanh', x => x.gelu({ approximate: 'tanh' }), step, bump(Math.sqrt(2 / Math.PI))],
    ['erf', x => x.erf(), bump(2 / Math.sqrt(Math.PI)), []],
    ['tanh', x => x.tanh(), bump(1), []],
  ];
  for (const [name, f, first, second] of cases) {
    const x = tensor(ENDS, { dtype, device, requiresGrad: true });
    const [g] = grad(f(x), [x], { gy: ones([ENDS.length], { dtype, device }), createGraph: true });
    const [h] = grad(g!.sum(), [x]);
    mustBe(g!, first, 1e-6, name);
    if (second.length > 0) mustBe(h!, second, 1e-6, `${name}, second`);
    else
      for (const [i, v] of list(h!).entries())
        assert.ok(Math.abs(ENDS[i]!) >= 1 ? v === 0 : true, `${name}, second at ${ENDS[i]}: ${v}`);
  }
  const x = tensor([-20, 0, 1], { dtype, device, requiresGrad: true });
  mustBe(grad(x.expm1().sum(), [x])[0]!, [Math.exp(-20), 1, Math.E], 1e-6, 'expm1');
  const y = tensor([1e-10, 1e30], { dtype, device, requiresGrad: true });
  const gy = tensor([1e-20, 1], { dtype, device });
  mustBe(grad(y.reciprocal(), [y], { gy })[0]!, [-1, dtype === 'float32' ? 0 : -1e-60], 1e-6, 'reciprocal');
});

onEach(
  'powers: the derivative by the base is 0 where the exponent is, that by the exponent has its limits',
  (device, dtype) => {
    const slopes = (a: number[], b: number[]) => {
      const [x, y] = [a, b].map(v => tensor(v, { dtype, device, requiresGrad: true })) as [Tensor, Tensor];
      const gs = grad(x.pow(y), [x, y], { gy: ones([a.length], { dtype, device }), createGraph: true });
      return { gs, seconds: () => grad(gs[0]!.sum(), [x, y]) };
    };
    const ends = [0, -0, 1e-45, 1e-40, NaN, Infinity, -Infinity, 3, -3];
    const flat = slopes(ends, new Array(9).fill(0));
    mustBe(flat.gs[0]!, new Array(9).fill(0), 0, 'x⁰');
    mustBe(flat.seconds()[0]!, new Array(9).fill(0), 0, 'x⁰, second');
    // ∂²/∂a∂b a^b at b = 0 is 1/a.
    mustBe(
      flat.seconds()[1]!.slice([7, 9]),
      [1 / 3, -1 / 3].map((v, i) => (i === 0 ? v : NaN)),
      1e-6,
      'mixed',
    );
    const { gs } = slopes([0, 0, 0, 0, Infinity, Infinity, -2, 2, 1, -3], [-1, 1, 2, 0, -1, 2, 2, 3, 5, 1]);
    mustBe(gs[0]!, [-Infinity, 1, 0, 0, 0, Infinity, -4, 12, 5, 1], 1e-6, 'by the base');
    const log8 = 8 * Math.LN2;
    mustBe(gs[1]!, [-Infinity, 0, 0, 0, 0, Infinity, NaN, log8, 0, NaN], 1e-6, 'by the exponent');
    // An infinite gradient from above does not make it NaN.
    const x = tensor([0, 2], { dtype, device, requiresGrad: true });
    mustBe(grad(x.pow(0), [x], { gy: tensor([Infinity, 1], { dtype, device }) })[0]!, [0, 0]);
  },
);

onEach('sqrt, abs, reciprocal and log at 0 have PyTorch’s derivatives', (device, dtype) => {
  const at0 = (f: (x: Tensor) => Tensor) => {
    const x = tensor(0, { dtype, device, requiresGrad: true });
    return grad(f(x), [x])[0]!.item();
  };
  assert.equal(
    at0(x => x.sqrt()),
    Infinity,
  );
  assert.equal(
    at0(x => x.abs()),
    0,
  );
  assert.equal(
    at0(x => x.reciprocal()),
    -Infinity,
  );
  assert.equal(
    at0(x => x.log()),
    Infinity,
  );
  assert.equal(
    at0(x => x.norm()),
    0,
  );
});

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
              /^RangeError: \w+: expected (stride|padding|dilation) |^ShapeError: .*does not fit|half of the kernel/,
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
