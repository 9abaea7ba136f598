/** What holds at the edges of functions that are imported by name, on every device. */

import assert from 'node:assert/strict';
import {
  allClose,
  allCloseAsync,
  atan2,
  cosh,
  type DType,
  elu,
  equal,
  equalAsync,
  grad,
  isClose,
  isInf,
  leakyRelu,
  log2,
  log10,
  logSigmoid,
  maskedFill,
  mish,
  ones,
  registerBackend,
  remainder,
  selu,
  silu,
  sinh,
  softplus,
  type Tensor,
  tan,
  tensor,
  zeros,
  zerosLike,
} from '@otimes/core';
import t from 'tap';
import { Dozen } from './helpers/dozen.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';

registerBackend(new Dozen('composed'));
const later = laterDevice();
const DEVICES = ['cpu', 'reference', 'composed'];
const FLOATS: readonly DType[] = ['float32', 'float64'];

/** The values of f at `values`, on a device. */
function at(f: (x: Tensor) => Tensor, values: readonly number[], dtype: DType, device: string): number[] {
  return Array.from(f(tensor([...values], { dtype, device })).dataSync());
}

for (const device of DEVICES) {
  law(t, `${device}: log2 is exact at powers of 2, denormal ones too, and log10 at powers of 10`, () => {
    for (const [dtype, low, high, tens] of [
      ['float32', -149, 127, 10],
      ['float64', -1074, 1023, 22],
    ] as const) {
      const exponents = Array.from({ length: high - low + 1 }, (_, i) => low + i);
      const powers = exponents.map(k => 2 ** k);
      assert.deepEqual(at(log2, powers, dtype, device), exponents);
      const decimal = Array.from({ length: tens + 1 }, (_, k) => k);
      assert.deepEqual(
        at(
          log10,
          decimal.map(k => 10 ** k),
          dtype,
          device,
        ),
        decimal,
      );
    }
  });

  law(t, `${device}: logarithms of 0, ∞, NaN and of numbers below 0 are −∞, ∞, NaN and NaN`, () => {
    for (const f of [log2, log10])
      for (const dtype of FLOATS)
        assert.deepEqual(at(f, [0, Infinity, Number.NaN, -1, 1], dtype, device), [
          -Infinity,
          Infinity,
          Number.NaN,
          Number.NaN,
          0,
        ]);
  });

  law(t, `${device}: sinh and cosh are finite up to where their values are, and sinh is x near 0`, () => {
    for (const [dtype, largest, eps] of [
      ['float32', 89.4, 1e-6],
      ['float64', 710.4, 1e-14],
    ] as const) {
      const edge = tensor([largest], { dtype }).item();
      for (const [f, exact] of [
        [sinh, Math.sinh],
        [cosh, Math.cosh],
      ] as const) {
        const [high] = at(f, [edge], dtype, device);
        assert.ok(Math.abs(high! / exact(edge) - 1) < eps * 4, `${high}, expected ${exact(edge)}`);
        assert.equal(at(f, [largest + 1], dtype, device)[0], Infinity);
      }
      assert.deepEqual(at(sinh, [-Infinity, Infinity], dtype, device), [-Infinity, Infinity]);
      const [tiny] = at(sinh, [2 ** -40], dtype, device);
      assert.equal(tiny, 2 ** -40);
    }
  });

  law(t, `${device}: atan2 has the quadrants, zeros and infinities of Math.atan2`, () => {
    const special = [0, -0, 1, -1, 2.5, -0.3, Infinity, -Infinity, Number.NaN];
    const pairs = special.flatMap(y => special.map(x => [y, x] as const));
    for (const dtype of FLOATS) {
      const [y, x] = [0, 1].map(i =>
        tensor(
          pairs.map(pair => pair[i]!),
          { dtype, device },
        ),
      ) as [Tensor, Tensor];
      const round = dtype === 'float32' ? Math.fround : Number;
      Array.from(atan2(y, x).dataSync()).forEach((actual, i) => {
        const expected = Math.atan2(round(pairs[i]![0]), round(pairs[i]![1]));
        const close = Math.abs(actual - expected) <= (dtype === 'float32' ? 4e-7 : 1e-15);
        assert.ok(Object.is(actual, expected) || (expected !== 0 && close), `atan2(${pairs[i]}) is ${actual}`);
      });
    }
  });

  law(t, `${device}: derivatives of atan2 are 0 infinitely far away, of all orders`, () => {
    for (const dtype of FLOATS) {
      const leaf = (values: number[]) => tensor(values, { dtype, device, requiresGrad: true });
      const [y, x] = [leaf([1, -2, Infinity, Infinity]), leaf([Infinity, -Infinity, 3, -Infinity])];
      const first = grad(atan2(y, x).sum(), [y, x], { createGraph: true });
      const second = grad(first[0].add(first[1]).sum(), [y, x]);
      for (const g of [...first, ...second]) assert.ok(equal(g, zerosLike(g)), `${g}`);
    }
  });

  law(t, `${device}: remainders have the sign of the divisor, as Python's and PyTorch's`, () => {
    const [a, b] = [
      [5, -5, 5, -5, Infinity, 5, -5, 5, 0, -3],
      [3, 3, -3, -3, 3, Infinity, Infinity, 0, -3, 3],
    ];
    const expected = [2, 1, -1, -2, Number.NaN, 5, Infinity, Number.NaN, 0, 0];
    for (const dtype of FLOATS) {
      const [p, q] = [a, b].map(values => tensor(values!, { dtype, device })) as [Tensor, Tensor];
      assert.deepEqual(
        Array.from(remainder(p, q).dataSync(), x => x + 0),
        expected,
      );
    }
    const whole = (values: number[]) => tensor(values, { dtype: 'int32', device });
    const large = 2147483647;
    assert.deepEqual(
      remainder(
        whole([7, -7, 7, -7, large, -large - 1, -large - 1, large, 1234567891, -1234567891]),
        whole([3, 3, -3, -3, 10, -1, large, -7, 1009, 65536]),
      ).toArray(),
      [1, 2, -2, -1, 7, 0, large - 1, -7 + (large % 7), 1234567891 % 1009, 65536 - (1234567891 % 65536)],
    );
    assert.throws(() => remainder(whole([1, 2]), whole([1, 0])), {
      name: 'RangeError',
      message: 'remainder: expected int32 divisors other than 0, got 0 at position 1',
    });
  });

  law(t, `${device}: activations go to their asymptotes without overflow`, () => {
    for (const dtype of FLOATS) {
      const far = [-1e4, -200, 200, 1e4];
      const close = (f: (x: Tensor) => Tensor, expected: readonly number[]) =>
        at(f, far, dtype, device).forEach((y, i) => {
          assert.ok(Math.abs(y - expected[i]!) <= 1e-6 * Math.abs(expected[i]!) + 1e-30, `${y}, not ${expected[i]}`);
        });
      close(silu, [0, 0, 200, 1e4]);
      close(mish, [0, 0, 200, 1e4]);
      close(softplus, [0, 0, 200, 1e4]);
      close(x => softplus(x, { threshold: 1e9 }), [0, 0, 200, 1e4]);
      close(logSigmoid, [-1e4, -200, 0, 0]);
      close(elu, [-1, -1, 200, 1e4]);
      close(
        selu,
        [-1, -1, 200, 1e4].map((x, i) => 1.0507009873554805 * (i < 2 ? 1.6732632423543772 : 1) * x),
      );
      close(x => leakyRelu(x, 0.5), [-5e3, -100, 200, 1e4]);
      for (const f of [silu, mish, softplus, logSigmoid, elu, selu, leakyRelu] as ((x: Tensor) => Tensor)[])
        assert.deepEqual(at(f, [Number.NaN], dtype, device), [Number.NaN]);
    }
  });

  law(t, `${device}: gradients of activations go to 0 and 1 there, and at 0 are those of PyTorch`, () => {
    const slopes = (f: (x: Tensor) => Tensor, values: number[]) => {
      const x = tensor(values, { dtype: 'float64', device, requiresGrad: true });
      const [g] = grad(f(x).sum(), [x]);
      return Array.from(g.dataSync(), slope => slope + 0);
    };
    const ends = [-800, 0, 800];
    assert.deepEqual(slopes(silu, ends), [0, 0.5, 1]);
    assert.deepEqual(slopes(softplus, ends), [0, 0.5, 1]);
    assert.deepEqual(slopes(logSigmoid, ends), [1, 0.5, 0]);
    assert.deepEqual(
      slopes(x => elu(x, 0.5), ends),
      [0, 0.5, 1],
    );
    assert.deepEqual(slopes(leakyRelu, ends), [0.01, 0.01, 1]);
    const [low, middle, high] = slopes(mish, ends);
    assert.deepEqual([low, high], [0, 1]);
    assert.ok(Math.abs(middle! - 0.6) < 1e-15);
  });

  law(t, `${device}: isInf, maskedFill, isClose, allClose and equal say of special values what PyTorch says`, () => {
    const made = (values: number[], dtype: DType = 'float32') => tensor(values, { dtype, device });
    const x = made([1, Infinity, -Infinity, Number.NaN]);
    assert.deepEqual(isInf(x).toArray(), [false, true, true, false]);
    assert.deepEqual(isInf(made([1, 0], 'bool')).toArray(), [false, false]);
    const mask = made([0, 1, 1, 1], 'bool');
    assert.deepEqual(maskedFill(x, mask, 0).toArray(), [1, 0, 0, 0]);
    assert.deepEqual(maskedFill(x, mask, tensor(2, { device })).toArray(), [1, 2, 2, 2]);
    assert.equal(maskedFill(made([1, 2, 3, 4], 'int32'), mask, 7).dtype, 'int32');
    assert.throws(() => maskedFill(made([1, 2, 3, 4], 'int32'), mask, 0.5), { name: 'DTypeError' });
    assert.deepEqual(isClose(x, x).toArray(), [true, true, true, false]);
    assert.deepEqual(isClose(x, x, { equalNan: true }).toArray(), [true, true, true, true]);
    assert.deepEqual(isClose(made([1, 1]), [1 + 1e-3, Infinity], { rtol: 1e-2 }).toArray(), [true, false]);
    const [low, high] = [made([-2147483648], 'int32'), made([2147483647], 'int32')];
    assert.equal(allClose(low, high), false);
    assert.equal(allClose(x, x), false);
    assert.equal(allClose(x, x, { equalNan: true }), true);
    assert.equal(equal(x, x), false);
    assert.equal(equal(mask, mask), true);
    assert.equal(equal(zeros([2, 0], { device }), zeros([2, 0], { device })), true);
    assert.equal(equal(zeros([2, 1], { device }), zeros([2], { device })), false);
    assert.equal(allClose(zeros([0], { device }), zeros([0], { device })), true);
  });
}

law(t, 'kernels in WebAssembly are within a few units in the last place of plain loops over the whole range', () => {
  const sizes = Array.from({ length: 2000 }, (_, i) => 2 ** ((i - 1000) / 25));
  const xs = [...sizes, ...sizes.map(x => -x), 0, 1, -1];
  const functions: readonly [(x: Tensor) => Tensor, readonly number[], number][] = [
    [log2, sizes, 4],
    [log10, sizes, 4],
    [tan, xs, 5],
    [sinh, xs, 8],
    [cosh, xs, 8],
    [silu, xs, 8],
    [mish, xs, 10],
    [logSigmoid, xs, 8],
    [softplus, xs, 8],
    [elu, xs, 6],
    [leakyRelu, xs, 2],
  ];
  for (const dtype of FLOATS) {
    // Products of x with a denormal number are x times as far off.
    const [eps, least] = dtype === 'float32' ? [2 ** -23, 2 ** -118] : [2 ** -52, 2 ** -1012];
    const close = (name: string, x: number, actual: number, expected: number, ulps: number) => {
      const most = ulps * eps * Math.max(Math.abs(expected), least);
      if (!Object.is(actual, expected))
        assert.ok(Math.abs(actual - expected) <= most, `${name}(${x}): ${actual}, not ${expected}`);
    };
    for (const [f, values, ulps] of functions) {
      const x = tensor([...values], { dtype });
      const [fast, exact] = [f(x).dataSync(), f(x.astype('float64').to('reference')).dataSync()];
      const given = x.dataSync();
      exact.forEach((y, i) => {
        close(f.name, given[i]!, fast[i]!, dtype === 'float32' ? Math.fround(y) : y, ulps);
      });
    }
    for (const y of [1, -3, 1e-20, 2.5e5]) {
      const x = tensor([...xs], { dtype });
      const angles = atan2(tensor(y, { dtype }), x).dataSync();
      angles.forEach((a, i) => {
        const exact = Math.atan2(tensor(y, { dtype }).item(), x.dataSync()[i]!);
        close('atan2', i, a, dtype === 'float32' ? Math.fround(exact) : exact, 3);
      });
    }
  }
});

law(t, 'tan of a number near π/2 is large and exact', () => {
  for (const device of DEVICES) {
    const [y] = at(tan, [Math.PI / 2], 'float64', device);
    assert.ok(Math.abs(y! / Math.tan(Math.PI / 2) - 1) < 1e-12);
  }
});

law(t, 'comparisons of whole tensors that are read with await say how to ask for them', async () => {
  const x = ones([2], { device: later.device });
  for (const [name, ask] of [
    ['allClose', () => allClose(x, x)],
    ['equal', () => equal(x, x)],
  ] as const)
    assert.throws(ask, {
      name: 'TypeError',
      message: `${name}: its result depends on values, and tensors on 'later' are read with await: await ${name}Async(…)`,
    });
  assert.equal(await allCloseAsync(x, x), true);
  assert.equal(await equalAsync(x, x.mul(2)), false);
});
