/** `gpuKernel`: a user's elementwise function is the same on the CPU and on the GPU, and has the gradient it was given. */

import assert from 'node:assert/strict';
import { grad, type Tensor, tensor } from '@otimes/core';
import { gpuKernel, type KernelThis } from '@otimes/gpu';
import { transform } from 'esbuild';
import t from 'tap';
import { gradcheck, gradgradcheck } from './helpers/gradcheck.ts';
import { testNeeding } from './helpers/requires.ts';

const law = await testNeeding(t, 'gpu');

type Any = (...x: never) => number | boolean;
const horner = (x: number) => {
  let sum = 0;
  for (let i = 8; i > 0; i--) sum = sum * x + 1 / i;
  return sum;
};
const samples: Record<string, Any | string> = {
  polynomial: horner,
  'more steps than gpu.js would take': (x: number) => {
    let n = 0;
    while (n < 1500 + x) n += 1;
    return n;
  },
  'breaks and nested loops': (x: number, y: number) => {
    let count = 0;
    for (let i = 0, n = 4; i < n; i++) {
      let j = 0;
      do {
        if (j > x) break;
        j++;
        count += 2;
      } while (j < 3);
      if (y > 0 && i === 2) {
        const count = 7;
        return count;
      }
    }
    return count;
  },
  'early returns': (x: number) => {
    if (x > 1) return 2 * x;
    else if (x < -1) {
      return -x;
    }
    return Number.isNaN(x) ? -1 : x ** 3;
  },
  // As minifiers write them.
  logic: '(x, y) => !(x > y) || (x !== x && !y)',
  'numbers as conditions': (x: number, y: number) => (x ? 1 : 2) + (x || y) + (x && 3) + +(y <= x),
  assignments: `(x, y) => {
    x *= 2, x -= y;
    let a = x, b = y;
    a > b ? (a = 1) : (b = 2);
    x > 0 && (a += 5);
    a %= 3;
    if (a++, a > 2) return (a /= 2), a + b;
    return !0;
  }`,
  'values that come after the declaration': `(x, y) => {
    let z, w, sum = 0;
    if (x > y) z = 1;
    else { z = x; z += 2; }
    y > 0 ? (w = 1) : (w = z);
    for (let i = 0; i < 3; i++) { let part; part = i * w; sum += part; }
    let late;
    if (x > 5) return z;
    else late = w;
    return sum + z * late;
  }`,
  'names of inner blocks': (x: number, y: number) => {
    let z = y;
    {
      const z = x;
      if (z > 1) return z * 2;
    }
    for (let z = 0; z < 2; z++) x *= 2;
    z += x;
    return z;
  },
  'assignments read the left first': '(x, y) => { x += (x = y, x); return x; }',
  names: (x: number) => x + Infinity * 0 + Math.PI + Number.EPSILON + NaN,
  remainder: (x: number, y: number) => (x % y) + (-7.5 % 2) + x / 0,
  'largest of several': (x: number, y: number) => Math.max(x, y, 0.5) - Math.min(y, 2) + Math.max(x),
};
const unary =
  'abs acos acosh asin asinh atan atanh cbrt ceil cos cosh exp expm1 floor fround log log10 log1p log2 round sign sin sinh sqrt tan tanh trunc'.split(
    ' ',
  );
for (const name of unary) samples[`Math.${name}`] = new Function('x', `return Math.${name}(x)`) as Any;

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
const numbers = [
  0,
  -0,
  1,
  -1,
  0.5,
  -0.5,
  0.499999970197678,
  2.5,
  -2.5,
  0.3,
  1.7,
  -3.2,
  1e-5,
  20,
  -20,
  1e5,
  1e30,
  inf,
  -inf,
  nan,
];
const column = numbers.map(x => [Math.fround(x)]);
const line = [[0, 1, -1, 2, 0.75, -3, inf, nan]];

for (const [name, f] of Object.entries(samples))
  law(`${name}: the GPU computes what the CPU does`, async () => {
    const kernel = gpuKernel(f as (...x: number[]) => number);
    const single = typeof f !== 'string' && f.length === 1;
    const make = (device: string) => (single ? [column] : [column, line]).map(x => tensor(x, { device }));
    // A loop to x + 1500 ends for moderate x only.
    const cut = (x: Tensor[]) => (name.startsWith('more') ? [x[0]!.slice([0, 12])] : x);
    const [found, expected] = await Promise.all(['gpu', 'cpu'].map(d => kernel(...cut(make(d))).data()));
    for (let i = 0; i < expected!.length; i++) {
      const near = Math.abs(found![i]! - expected![i]!) <= 4e-6 * Math.max(1e-30, Math.abs(expected![i]!));
      assert.ok(
        near || Object.is(found![i]! + 0, expected![i]! + 0),
        `${name} of element ${i}: ${found![i]}, expected ${expected![i]}`,
      );
    }
  });

const leaky = gpuKernel((x: number, slope: number) => (x > 0 ? x : slope * x), {
  name: 'leaky',
  gradient: (gy, x, slope) => [x > 0 ? gy : slope * gy, x > 0 ? 0 : x * gy],
});
const cubes = gpuKernel((x: number, y: number) => x * x * x * y, {
  backward: (gy, x, y) => [
    gy
      .mul((x as Tensor).square())
      .mul(3)
      .mul(y),
    gy.mul((x as Tensor).pow(3)),
  ],
});
const double = (values: number[][]) => tensor(values, { dtype: 'float64' });

t.test('gradients are those that were given, summed where tensors were broadcast', async () => {
  const [x, y] = [
    double([
      [1.5, -2, 0.3],
      [0.2, 1, -1],
    ]),
    double([[0.1], [0.4]]),
  ];
  await gradcheck(leaky, [x, y]);
  await gradcheck(x => leaky(x, 0.25), [x]);
  await gradgradcheck(cubes, [x, y]);
});

t.test(
  'backward in tensor operations gives second gradients; a gradient of numbers says that it has none',
  async () => {
    const x = double([[2]]);
    x.requiresGrad = true;
    const [g] = grad(cubes(x, 1).sum(), [x], { createGraph: true });
    const [h] = grad(g!.sum(), [x]);
    assert.equal(h!.item(), 12);
    const [slope] = grad(leaky(x, 0.1).mul(x).sum(), [x], { createGraph: true });
    assert.throws(() => grad(slope!.sum(), [x]), {
      name: 'GraphError',
      message: /leaky's gradient: has no gradient itself/,
    });
    const plain = gpuKernel((x: number) => x + 1);
    assert.throws(() => grad(plain(x).sum(), [x]), {
      name: 'GraphError',
      message: /has no gradient; the option gradient/,
    });
  },
);

law('gradients are the same on the GPU', async () => {
  const all = async (device: string) => {
    const [x, y] = [
      tensor([
        [1.5, -2, 0.3],
        [0.2, 1, -1],
      ]),
      tensor([[0.1], [0.4]]),
    ].map(z => z.to(device)) as [Tensor, Tensor];
    for (const z of [x, y]) z.requiresGrad = true;
    const made = [leaky(x, y), cubes(x, y), leaky(x, 0.5)].flatMap(z => [
      z,
      ...grad(z.square().sum(), [x, y], { allowUnused: true }),
    ]);
    return (await Promise.all(made.map(async z => (z === null ? [] : [...(await z.data())])))).flat();
  };
  const [found, expected] = [await all('gpu'), await all('cpu')];
  for (const [i, value] of expected.entries()) assert.ok(Math.abs(found[i]! - value) <= 2e-6 * Math.abs(value), `${i}`);
});

law('constants are numbers of the kernel', async () => {
  const kernel = gpuKernel(
    function (this: KernelThis, x: number) {
      return this.constants.a! * x + this.constants.b!;
    },
    { constants: { a: -2, b: 1e3 } },
  );
  for (const device of ['cpu', 'gpu'])
    assert.deepEqual([...(await kernel(tensor([1, 2], { device })).data())], [998, 996]);
});

law('a kernel survives a minifier, and so does one of text', async () => {
  const code = `
    globalThis.kernels = gpuKernel => [
      gpuKernel((value, other) => {
        let total = 0;
        for (let step = 0; step < 3; step++) {
          if (value > 0) total += other;
          else total -= value;
          total *= 2;
        }
        const isLarge = total > 5;
        if (isLarge) { total = total / 2; return total; }
        return Number.isNaN(value) ? Infinity : total;
      }, { gradient: (gradient, value, other) => { const scaled = gradient * 2; return [scaled * other, scaled * value]; } }),
      gpuKernel('(x, y) => x * y'),
    ];`;
  const { code: minified } = await transform(code, { minify: true, target: 'es2022' });
  assert.ok(minified.length < 0.6 * code.length);
  const values = async (text: string, device: string) => {
    const made: { kernels?: (f: typeof gpuKernel) => ((...x: Tensor[]) => Tensor)[] } = {};
    new Function('globalThis', text)(made);
    const [x, y] = [tensor([1, -1, 4, nan]), tensor([0.5, 3, 2, 1])].map(z => z.to(device)) as [Tensor, Tensor];
    x.requiresGrad = true;
    const [first, second] = made.kernels!(gpuKernel);
    const z = first!(x, y);
    return [...(await z.data()), ...(await grad(z.sum(), [x])[0]!.data()), ...(await second!(x, y).data())];
  };
  const expected = await values(code, 'cpu');
  assert.deepEqual(expected.slice(0, 4), [3.5, 7, 14, inf]);
  for (const text of [code, minified])
    for (const device of ['cpu', 'gpu']) assert.deepEqual(await values(text, device), expected);
});

law('tensors of two devices do not meet in a kernel', () => {
  assert.throws(() => leaky(tensor([1]), tensor([1], { device: 'gpu' })), {
    name: 'DTypeError',
    message: /on cpu and .* on gpu/,
  });
});
