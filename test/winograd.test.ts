// The laws of convolutions on the device 'cpu' where Winograd's filtering takes them: how far off they are, what else differs from
// the direct ones (nothing), and when they are taken.

import assert from 'node:assert/strict';
import {
  type Convolution,
  conv2d,
  getBackend,
  getConvolution,
  grad,
  releaseBlas,
  setConvolution,
  setThreads,
  type Tensor,
  tensor,
  useBlas,
  WasmBackend,
} from '@otimes/core';
import fc from 'fast-check';
import t from 'tap';
import { winogradIsFaster } from '../core/src/backends/wasm/layers/winograd.ts';
import { law, property } from './helpers/law.ts';
import { testNeeding } from './helpers/requires.ts';
import { randomNumbers } from './helpers/winograd.ts';

type Shape = { readonly [K in 'n' | 'c' | 'h' | 'w' | 'o' | 'p']: number };
type Values = Float32Array | Float64Array;

const SHAPES: readonly Shape[] = [
  { n: 4, c: 64, h: 8, w: 8, o: 64, p: 1 },
  { n: 16, c: 8, h: 8, w: 8, o: 8, p: 1 },
  { n: 8, c: 16, h: 14, w: 14, o: 32, p: 1 },
  { n: 3, c: 17, h: 23, w: 19, o: 11, p: 2 },
  { n: 1, c: 9, h: 37, w: 41, o: 13, p: 0 },
  { n: 12, c: 128, h: 5, w: 5, o: 64, p: 1 },
  { n: 32, c: 20, h: 3, w: 3, o: 24, p: 1 },
  { n: 8, c: 256, h: 6, w: 4, o: 40, p: 1 },
];

/**
 * How the elements of the operands are drawn, and so many times the errors of the direct convolution those of Winograd's are at
 * most. Measured: 7.8 and 11; where numbers span six decades 18 and 18, because the error of a result is relative to the largest
 * numbers of its tile, not of its own window.
 */
const DRAWS: Record<string, { draw: (values: Float32Array) => Float32Array; mean: number; max: number }> = {
  'mean 0': { draw: values => values, mean: 8, max: 12 },
  'mean 1': { draw: values => values.map(v => v + 1), mean: 8, max: 12 },
  'a size far from 1': { draw: values => values.map(v => v * 1e-12), mean: 8, max: 12 },
  'six decades': { draw: values => values.map(v => Math.sign(v) * 10 ** (2 * v)), mean: 20, max: 20 },
};

/** x, filters, the gradient of the result, and something like x and like the filters for second derivatives. */
function drawn({ n, c, h, w, o, p }: Shape, draw = (values: Float32Array) => values): Float32Array[] {
  const [x, filters, y] = [n * c * h * w, o * c * 9, n * o * (h + 2 * p - 2) * (w + 2 * p - 2)];
  return [x, filters, y, x, filters].map((size, i) => draw(randomNumbers(size, size + i)));
}

/**
 * The result, the gradients by x and by the filters, and the gradients of Σ gx · vx + Σ gw · vw by x, the filters and gy.
 */
function derivatives({ n, c, h, w, o, p }: Shape, values: readonly Values[], method: Convolution): Values[] {
  const before = getConvolution();
  setConvolution(method);
  try {
    const [ix, iw] = [
      [n, c, h, w],
      [o, c, 3, 3],
    ];
    const shapes = [ix, iw, [n, o, h + 2 * p - 2, w + 2 * p - 2], ix, iw];
    const [x, filters, gy, vx, vw] = values.map((data, i) => tensor(data, { shape: shapes[i]! })) as [
      ...[Tensor, Tensor, Tensor, Tensor, Tensor],
    ];
    for (const leaf of [x, filters, gy]) leaf.requiresGrad = true;
    const y = conv2d(x, filters, { padding: p });
    const [gx, gw] = grad(y, [x, filters], { gy, createGraph: true }) as [Tensor, Tensor];
    const second = grad(gx.mul(vx).sum().add(gw.mul(vw).sum()), [x, filters, gy]);
    return [y, gx, gw, ...second].map(result => result.dataSync() as Values);
  } finally {
    setConvolution(before);
  }
}
const RESULTS = ['y', 'gx', 'gw', 'second x', 'second w', 'second gy'];

/** Mean and largest error, relative to the root mean square of what is exact. */
function errors(got: Values, exact: Values): { mean: number; max: number } {
  let [sum, max, square] = [0, 0, 0];
  for (let i = 0; i < exact.length; i++) {
    const error = Math.abs(got[i]! - exact[i]!);
    sum += error;
    max = Math.max(max, error);
    square += exact[i]! ** 2;
  }
  const rms = Math.sqrt(square / exact.length);
  return { mean: sum / exact.length / rms, max: max / rms };
}

const wide = (values: readonly Values[]) => values.map(v => Float64Array.from(v));

for (const [name, { draw, mean, max }] of Object.entries(DRAWS))
  law(t, `numbers of ${name}: errors are at most ${mean} times the direct ones, the largest ${max} times`, () => {
    for (const shape of SHAPES) {
      const values = drawn(shape, draw);
      const exact = derivatives(shape, wide(values), 'direct');
      const [direct, auto] = [derivatives(shape, values, 'direct'), derivatives(shape, values, 'auto')];
      for (const [i, result] of RESULTS.entries()) {
        assert.notDeepEqual(auto[i], direct[i], `${result} of ${JSON.stringify(shape)} is Winograd's`);
        const [theirs, mine] = [errors(direct[i]!, exact[i]!), errors(auto[i]!, exact[i]!)];
        const what = `${result} of ${JSON.stringify(shape)}, off by`;
        assert.ok(mine.mean <= mean * theirs.mean, `${what} ${mine.mean} on average, directly ${theirs.mean}`);
        assert.ok(mine.max <= max * theirs.max, `${what} ${mine.max} at most, directly ${theirs.max}`);
        if (name !== 'six decades') assert.ok(mine.mean <= 1e-6 && mine.max <= 1.5e-5, `${what} ${mine.max}`);
      }
    }
  });

// --- what is the same ---------------------------------------------------------------------------------------------------

law(
  t,
  "'direct' and float64 have the bits that they have without Winograd's filtering, and 'auto' has its own each time",
  () => {
    const values = drawn(SHAPES[0]!);
    const direct = derivatives(SHAPES[0]!, values, 'direct');
    const auto = derivatives(SHAPES[0]!, values, 'auto');
    assert.deepEqual(derivatives(SHAPES[0]!, values, 'direct'), direct);
    assert.deepEqual(derivatives(SHAPES[0]!, values, 'auto'), auto);
    assert.deepEqual(derivatives(SHAPES[0]!, wide(values), 'auto'), derivatives(SHAPES[0]!, wide(values), 'direct'));
  },
);

law(t, 'what has no rule for it has the same bits either way', () => {
  const { n, c, h, w, o } = { n: 4, c: 16, h: 12, w: 12, o: 16 };
  const [images, filters] = [
    tensor(randomNumbers(n * c * h * w, 1), { shape: [n, c, h, w] }),
    randomNumbers(o * c * 25, 2),
  ];
  const cases: readonly (readonly [size: number, o: NonNullable<Parameters<typeof conv2d>[2]>])[] = [
    [3, { stride: 2, padding: 1 }],
    [3, { stride: [1, 2], padding: 1 }],
    [3, { dilation: 2, padding: 1 }],
    [3, { padding: 3 }],
    [3, { padding: [1, 2] }],
    [3, { groups: 2, padding: 1 }],
    [5, { padding: 2 }],
    [1, {}],
  ];
  for (const [size, options] of cases) {
    const share = c / (options.groups ?? 1);
    const weight = tensor(filters.slice(0, o * share * size * size), { shape: [o, share, size, size] });
    const [auto, direct] = (['auto', 'direct'] as const).map(method => {
      setConvolution(method);
      return conv2d(images, weight, options).dataSync();
    });
    setConvolution('auto');
    assert.deepEqual(auto, direct, JSON.stringify([size, options]));
  }
});

law(t, 'NaN and infinities, given or by overflow, stand where they stand in the direct convolution', () => {
  const shape = { n: 2, c: 9, h: 13, w: 10, o: 10, p: 1 };
  const poison = fc.tuple(fc.constantFrom(Number.NaN, Infinity, -Infinity, 3e38), fc.nat(4), fc.nat());
  property(
    poison,
    ([bad, which, where]) => {
      const values = drawn(shape);
      values[which]![where % values[which]!.length] = bad;
      const [auto, direct] = [derivatives(shape, values, 'auto'), derivatives(shape, values, 'direct')];
      for (const [i, result] of RESULTS.entries()) {
        const notFinite = (x: Values) => Array.from(x, v => (Number.isFinite(v) ? 0 : v));
        assert.deepEqual(notFinite(auto[i]!), notFinite(direct[i]!), `${result}, ${[bad, which, where]}`);
      }
    },
    40,
  );
});

law(t, 'a bias is added as to the direct one', () => {
  const { n, c, h, w, o, p } = SHAPES[3]!;
  const [x, filters] = drawn(SHAPES[3]!);
  const [images, weight] = [tensor(x!, { shape: [n, c, h, w] }), tensor(filters!, { shape: [o, c, 3, 3] })];
  const bias = tensor(randomNumbers(2 * o, 5), { shape: [o, 2] });
  // Every second number of that memory.
  const column = bias.slice([0, o], 0);
  const got = conv2d(images, weight, { padding: p, bias: column }).dataSync();
  const want = conv2d(images, weight, { padding: p })
    .add(column.reshape([1, o, 1, 1]))
    .dataSync();
  assert.deepEqual(got, want);
});

law(t, 'bits are the same on 1, 2 and 3 threads', async () => {
  const shapes: readonly Shape[] = [...SHAPES, { n: 6, c: 96, h: 20, w: 20, o: 88, p: 1 }];
  const all = () => shapes.map(shape => derivatives(shape, drawn(shape), 'auto'));
  const one = all();
  try {
    for (const n of [2, 3]) {
      assert.equal(await setThreads(n), n);
      assert.deepEqual(all(), one, `${n} threads`);
    }
  } finally {
    await setThreads(1);
  }
});

const withBlas = await testNeeding(t, 'openblas');
withBlas("beside a native BLAS 'auto' is as right, takes it less often, and its bits are back without", async () => {
  const before = SHAPES.map(shape => derivatives(shape, drawn(shape), 'auto'));
  // Faster than direct sums by the kernels, not by the library.
  const between = [2, 6, 6, 128, 128] as const;
  assert.ok(winogradIsFaster(...between));
  await useBlas();
  try {
    assert.ok(!winogradIsFaster(...between));
    for (const shape of SHAPES) {
      const values = drawn(shape);
      const exact = derivatives(shape, wide(values), 'direct');
      for (const [i, got] of derivatives(shape, values, 'auto').entries()) {
        const { mean, max } = errors(got, exact[i]!);
        assert.ok(mean <= 1e-6 && max <= 1.5e-5, `${RESULTS[i]} of ${JSON.stringify(shape)}, off by ${max}`);
      }
    }
  } finally {
    releaseBlas();
  }
  assert.deepEqual(
    SHAPES.map(shape => derivatives(shape, drawn(shape), 'auto')),
    before,
  );
});

law(t, 'memory to work in is given back before the next operation', () => {
  const backend = getBackend('cpu');
  if (!(backend instanceof WasmBackend)) throw new Error('there is no SIMD here');
  const { n, c, h, w, o, p } = { n: 4, c: 64, h: 16, w: 16, o: 64, p: 1 };
  const [x, filters] = drawn({ n, c, h, w, o, p });
  const [images, weight] = [tensor(x!, { shape: [n, c, h, w] }), tensor(filters!, { shape: [o, c, 3, 3] })];
  const kept: Tensor[] = [];
  const grown = (method: Convolution) => {
    setConvolution(method);
    const before = backend.kernels.heap.pool.stats.live;
    kept.push(conv2d(images, weight, { padding: p }), tensor([0]));
    return backend.kernels.heap.pool.stats.live - before;
  };
  // What ran before may have left something that goes back now.
  grown('direct');
  const direct = grown('direct');
  assert.ok(direct >= n * o * h * w * 4);
  assert.equal(grown('auto'), direct);
  assert.equal(kept.length, 6);
});

// --- when it is taken -----------------------------------------------------------------------------------------------------

law(t, 'nothing is filtered where there are no images, no results, or few channels', () => {
  property(fc.tuple(fc.nat(40), fc.nat(40), fc.nat(300)), ([h, w, c]) => {
    assert.equal(winogradIsFaster(0, h, w, c, c), false);
    assert.equal(winogradIsFaster(c, 0, w, 64, 64), false);
    assert.equal(winogradIsFaster(c, h, w, c % 8, 64), false);
    assert.equal(winogradIsFaster(c, h, w, 64, c % 8), false);
  });
});

law(t, "setConvolution takes 'auto' and 'direct' and nothing else", () => {
  assert.equal(getConvolution(), 'auto');
  setConvolution('direct');
  assert.equal(getConvolution(), 'direct');
  setConvolution('auto');
  for (const wrong of ['winograd', '', null, undefined, true, 4])
    assert.throws(() => setConvolution(wrong as Convolution), {
      name: 'TypeError',
      message: /^setConvolution: expected method to be 'auto' or 'direct', got /,
    });
  assert.equal(getConvolution(), 'auto');
});
