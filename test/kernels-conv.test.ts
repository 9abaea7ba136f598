// The laws of convolution, pooling and normalisation on the `wasm` backend, for both variants and both dtypes, against the
// reference backend: over random geometries, with operands amid others' elements, which must stay as they were.

import assert from 'node:assert/strict';
import { ReferenceBackend } from '@otimes/core';
import { createKernels, type FloatType, images, variants } from '@otimes/kernels';
import fc from 'fast-check';
import t from 'tap';
import type { Backend, ConvGeometry } from '../core/src/backends/backend.ts';
import { type Shape, sizeOf } from '../core/src/shape.ts';
import { windowsIn } from '../core/src/window.ts';
import { abs, backends, called, type Input, input, mustBeWithin, noise, run, type Values } from './helpers/conv.ts';
import { law } from './helpers/law.ts';

const EPS = { float32: 2 ** -24, float64: 2 ** -53 };
const reference = new ReferenceBackend('reference');

// --- geometries -------------------------------------------------------------------------------------------------------

const oneOf = (...values: number[]) => fc.constantFrom(...values);
const axis = fc
  .record({
    kernel: oneOf(1, 1, 2, 3, 3, 4, 5, 7),
    stride: oneOf(1, 1, 1, 2, 3, 5),
    padding: oneOf(0, 0, 1, 1, 2, 3, 8),
    dilation: oneOf(1, 1, 1, 2, 3),
    /** Positions beyond the kernel's span, so 0 is a kernel as large as its input. */
    beyond: fc.oneof(oneOf(0, 1), fc.nat(19)),
    /** Whether the padding counts towards the span. */
    within: fc.boolean(),
  })
  .map(({ beyond, within, ...rest }) => {
    const span = rest.dilation * (rest.kernel - 1) + 1 + beyond;
    return { ...rest, size: Math.max(1, span - (within ? 2 * rest.padding : 0)) };
  });

type Axis = typeof axis extends fc.Arbitrary<infer A> ? A : never;
const windowOf = (rows: Axis, columns: Axis) => ({
  kernel: [rows.kernel, columns.kernel] as const,
  stride: [rows.stride, columns.stride] as const,
  padding: [rows.padding, columns.padding] as const,
  dilation: [rows.dilation, columns.dilation] as const,
});

const convolution = fc
  .record({
    n: oneOf(0, 1, 1, 2, 3),
    share: oneOf(1, 1, 2, 3, 5, 9),
    each: oneOf(1, 1, 2, 5, 6, 7, 13),
    groups: oneOf(1, 1, 1, 2, 3),
    rows: axis,
    columns: axis,
    dtype: fc.constantFrom<FloatType>('float32', 'float64'),
    seed: fc.nat(),
  })
  .map(({ n, share, each, groups, rows, columns, dtype, seed }) =>
    problem(
      [n, share * groups, rows.size, columns.size],
      each * groups,
      { ...windowOf(rows, columns), groups },
      dtype,
      seed,
    ),
  );

function problem(x: Shape, outputs: number, geometry: ConvGeometry, dtype: FloatType, seed: number) {
  const w = [outputs, x[1]! / geometry.groups, ...geometry.kernel];
  const y = [x[0]!, outputs, ...windowsIn('test', [x[2]!, x[3]!], geometry)];
  return { geometry, dtype, x, w, y, seed };
}
type Problem = ReturnType<typeof problem>;

const square = (n: number) => [n, n] as const;
const plain = { stride: square(1), padding: square(1), dilation: square(1), groups: 1 };
/** What the random ones are too small for: several blocks of weights, of elements and of positions. */
const large: Problem[] = (['float32', 'float64'] as const).flatMap((dtype, seed) => [
  problem([1, 3, 41, 43], 7, { ...plain, kernel: square(3) }, dtype, seed),
  problem([2, 40, 9, 10], 11, { ...plain, kernel: square(3) }, dtype, seed),
  problem([3, 70, 4, 5], 205, { ...plain, kernel: square(2) }, dtype, seed),
  problem([2, 2, 33, 30], 3, { ...plain, kernel: square(17), padding: square(8) }, dtype, seed),
  problem([5, 300, 3, 3], 20, { ...plain, kernel: square(1), padding: square(0) }, dtype, seed),
]);

function check(property: fc.IProperty<[Problem]> | fc.IProperty<unknown>, numRuns: number): void {
  fc.assert(property as fc.IProperty<unknown>, { numRuns, seed: 7 });
}

// --- convolution ------------------------------------------------------------------------------------------------------

type Form = {
  readonly kernel: 'convForward' | 'convInputGrad' | 'convWeightGrad';
  readonly inputs: (p: Problem) => [Shape, Shape];
  readonly out: (p: Problem) => Shape;
  /** How many products are summed, at most. */
  readonly terms: (p: Problem) => number;
};
const FORMS: Form[] = [
  { kernel: 'convForward', inputs: p => [p.x, p.w], out: p => p.y, terms: p => sizeOf(p.w.slice(1)) },
  {
    kernel: 'convInputGrad',
    inputs: p => [p.y, p.w],
    out: p => p.x,
    terms: p => (p.w[0]! / p.geometry.groups) * p.w[2]! * p.w[3]!,
  },
  { kernel: 'convWeightGrad', inputs: p => [p.x, p.y], out: p => p.w, terms: p => p.y[0]! * p.y[2]! * p.y[3]! },
];

for (const backend of backends)
  for (const { kernel, inputs, out, terms } of FORMS) {
    const apply = (on: Backend, p: Problem, operands: readonly Input[]) =>
      run(on, p.dtype, operands, [{ dtype: p.dtype, shape: out(p) }], (b, [a, c], [y]) =>
        kernel === 'convForward' ? b.convForward(a!, c!, null, y!, p.geometry) : b[kernel](a!, c!, y!, p.geometry),
      )[0]!;
    const holds = (p: Problem) => {
      const operands = inputs(p).map((shape, i) => input(shape, p.seed + i));
      const sums = apply(reference, p, operands.map(abs));
      // γ of the sum, and the rounding of the reference.
      const bound = (i: number) => (terms(p) + 2) * EPS[p.dtype] * sums[i]!;
      mustBeWithin(apply(backend, p, operands), apply(reference, p, operands), bound, JSON.stringify(p));
    };

    law(t, `${backend.device}: ${kernel} is that of the reference backend up to k·eps of the sum of magnitudes`, () => {
      check(fc.property(convolution, holds), 300);
    });

    law(t, `${backend.device}: ${kernel} holds where operands take several blocks`, () => {
      for (const p of large) holds(p);
    });

    law(t, `${backend.device}: ${kernel} carries a NaN exactly as far as the reference backend`, () => {
      const body = (p: Problem) => {
        const operands = inputs(p).map((shape, i) => input(shape, p.seed + i));
        const { values } = operands[0]!;
        const at = p.seed % Math.max(1, values.length);
        const poisoned = [
          { ...operands[0]!, values: Array.from(values, (v, i) => (i === at ? Number.NaN : v)) },
          operands[1]!,
        ];
        const nans = (on: Backend) => apply(on, p, poisoned).map(Number.isNaN);
        assert.deepEqual(nans(backend), nans(reference));
      };
      check(fc.property(convolution, body), 100);
    });
  }

for (const variant of variants())
  law(t, `${variant}: convForward reads nothing beyond images that end where the memory ends`, () => {
    const kernels = createKernels({ variant, memory: { initial: 2 ** 24 } })!;
    const { memory, scratch } = kernels;
    const exports = kernels.load(images);
    const holds = (p: Problem) => {
      const [x, w] = [input(p.x, p.seed), input(p.w, p.seed + 1)];
      const [bytes, kernel] = p.dtype === 'float32' ? [4, exports.convForward_f32] : [8, exports.convForward_f64];
      const array = p.dtype === 'float32' ? Float32Array : Float64Array;
      const end = memory.wasm.buffer.byteLength;
      const put = (address: number, values: Values) => {
        new array(memory.wasm.buffer, address, values.length).set(Array.from(values));
        return address;
      };
      const px = put(end - x.values.length * bytes, x.values);
      const [pw, py] = [put(2 ** 23, w.values), 2 ** 23 + 2 ** 22];
      const { kernel: k, stride, padding, dilation, groups } = p.geometry;
      const [n, c, h, width] = p.x as [number, number, number, number];
      const [, o, ho, wo] = p.y as [number, number, number, number];
      kernel(n, c, h, width, o, ...k, ho, wo, ...stride, ...padding, ...dilation, groups, px, pw, py, scratch);
      const convolve = (operands: Input[]) =>
        run(reference, p.dtype, operands, [{ dtype: p.dtype, shape: p.y }], (b, [a, d], [y]) =>
          b.convForward(a!, d!, null, y!, p.geometry),
        )[0]!;
      const sums = convolve([abs(x), abs(w)]);
      const bound = (i: number) => (sizeOf(p.w.slice(1)) + 2) * EPS[p.dtype] * sums[i]!;
      mustBeWithin(new array(memory.wasm.buffer, py, sums.length), convolve([x, w]), bound, JSON.stringify(p));
    };
    for (const p of large) holds(p);
    check(fc.property(convolution, holds), 100);
  });

for (const backend of backends) {
  law(t, `${backend.device}: unfold is that of the reference backend, and fold up to rounding`, () => {
    const body = ({ x, y, dtype, geometry, seed }: Problem) => {
      const patches = [x[0]!, y[2]! * y[3]!, x[1]! * geometry.kernel[0] * geometry.kernel[1]];
      const unfolded = (on: Backend) =>
        run(on, dtype, [input(x, seed)], [{ dtype, shape: patches }], (b, [a], [out]) => b.unfold(a!, out!, geometry));
      assert.deepEqual(unfolded(backend), unfolded(reference));
      const folded = (on: Backend, p: Input) =>
        run(on, dtype, [p], [{ dtype, shape: x }], (b, [a], [out]) => b.fold(a!, out!, geometry))[0]!;
      const sums = folded(reference, abs(input(patches, seed)));
      const bound = (i: number) => (geometry.kernel[0] * geometry.kernel[1] + 1) * EPS[dtype] * sums[i]!;
      mustBeWithin(folded(backend, input(patches, seed)), folded(reference, input(patches, seed)), bound, 'fold');
    };
    check(fc.property(convolution, body), 150);
  });
}

/** Tiles of some rows, of some columns, and of so long rows that there is no tile. */
const tiled: Problem[] = (['float32', 'float64'] as const).flatMap((dtype, seed) => [
  problem([1, 50, 5, 67], 1, { ...plain, kernel: [5, 3] }, dtype, seed),
  problem(
    [1, 50, 7, 30],
    1,
    { ...plain, kernel: [3, 4], stride: [2, 1], dilation: [3, 2], padding: [4, 1] },
    dtype,
    seed,
  ),
  problem([2, 170, 604, 1], 1, { ...plain, kernel: [2, 1], padding: [0, 0], dilation: [601, 1] }, dtype, seed),
  problem([70, 1, 5, 6], 1, { ...plain, kernel: square(3), stride: [2, 3] }, dtype, seed),
]);

for (const backend of backends)
  law(t, `${backend.device}: patchGram is the gram of unfolded patches up to rounding, and exactly symmetric`, () => {
    const holds = ({ x, y, dtype, geometry, seed }: Problem, choices = [true]) => {
      for (const ones of choices) {
        const size = x[1]! * geometry.kernel[0] * geometry.kernel[1] + (ones ? 1 : 0);
        const moments = (on: Backend, operand: Input) =>
          run(on, dtype, [operand], [{ dtype, shape: [size, size] }], (b, [a], [out]) =>
            b.patchGram(a!, out!, geometry, ones),
          )[0]!;
        const sums = moments(reference, abs(input(x, seed)));
        const actual = moments(backend, input(x, seed));
        const bound = (i: number) => (y[0]! * y[2]! * y[3]! + 2) * EPS[dtype] * sums[i]!;
        mustBeWithin(actual, moments(reference, input(x, seed)), bound, JSON.stringify({ x, geometry, dtype, ones }));
        for (let i = 0; i < size; i++)
          for (let j = 0; j < i; j++)
            if (actual[i * size + j] !== actual[j * size + i]) throw new Error(`not symmetric at ${i}, ${j}`);
      }
    };
    const both = (p: Problem) => holds(p, [false, true]);
    check(fc.property(convolution, both), 200);
    for (const p of [...large, ...tiled]) holds(p);
  });

// --- pooling ----------------------------------------------------------------------------------------------------------

const pooled = fc
  .record({
    n: oneOf(0, 1, 2),
    c: oneOf(1, 2, 3),
    rows: axis,
    columns: axis,
    dtype: fc.constantFrom<FloatType>('float32', 'float64'),
    padded: fc.boolean(),
    seed: fc.nat(),
  })
  .map(({ n, c, rows, columns, ...rest }) => {
    // As the operation demands: no dilation, and padding of at most half of the kernel.
    const [r, s] = [rows, columns].map(a => {
      const padding = Math.min(a.padding, a.kernel >> 1);
      return { ...a, dilation: 1, padding, size: Math.max(a.size, a.kernel - 2 * padding, 1) };
    });
    const window = windowOf(r!, s!);
    const x = [n, c, r!.size, s!.size];
    return { ...rest, window, x, y: [n, c, ...windowsIn('test', [r!.size, s!.size], window)] };
  });

type Pooled = typeof pooled extends fc.Arbitrary<infer P> ? P : never;

for (const backend of backends) {
  law(
    t,
    `${backend.device}: max pooling and its gradient are those of the reference backend, equal values and NaN included`,
    () => {
      const body = ({ x, y, dtype, window, seed }: Pooled) => {
        const values = noise(sizeOf(x), seed).map(v =>
          v > 0.9 ? Number.NaN : v < -0.9 ? -Infinity : Math.round(v * 4),
        );
        const index = (on: Backend) =>
          run(on, dtype, [{ values, shape: x }], [{ dtype: 'int32', shape: y }], (b, [a], [out]) =>
            b.maxPoolIndex(a!, out!, window),
          );
        assert.deepEqual(index(backend), index(reference));
        const both = (on: Backend) =>
          run(
            on,
            dtype,
            [{ values, shape: x }],
            [
              { dtype: 'int32', shape: y },
              { dtype, shape: y },
            ],
            (b, [a], [at, out]) => b.maxPool!(a!, at!, out!, window),
          );
        const [at, most] = both(backend);
        assert.deepEqual([at, most], both(reference));
        assert.deepEqual([at], index(backend));
        const grad = (on: Backend) =>
          run(
            on,
            dtype,
            [input(y, seed), { values: at!, shape: y, dtype: 'int32' }],
            [{ dtype, shape: x }],
            (b, [gy, places], [out]) => b.maxPoolGrad!(gy!, places!, out!, window),
          );
        assert.deepEqual(grad(backend), grad(reference));
      };
      check(fc.property(pooled, body), 300);
    },
  );

  law(t, `${backend.device}: avgPool and its transpose are those of the reference backend up to rounding`, () => {
    const body = ({ x, y, dtype, window, padded, seed }: Pooled) => {
      const taps = window.kernel[0] * window.kernel[1];
      const mean = (on: Backend, p: Input) =>
        run(on, dtype, [p], [{ dtype, shape: y }], (b, [a], [out]) => b.avgPool(a!, out!, window, padded))[0]!;
      const grad = (on: Backend, p: Input) =>
        run(on, dtype, [p], [{ dtype, shape: x }], (b, [a], [out]) => b.avgPoolGrad(a!, out!, window, padded))[0]!;
      for (const [f, p] of [
        [mean, input(x, seed)],
        [grad, input(y, seed)],
      ] as const) {
        const sums = f(reference, abs(p));
        mustBeWithin(f(backend, p), f(reference, p), i => (2 * taps + 2) * EPS[dtype] * sums[i]!, 'avgPool');
      }
    };
    check(fc.property(pooled, body), 100);
  });
}

// --- normalisation ----------------------------------------------------------------------------------------------------

const length = oneOf(1, 1, 2, 3, 5, 8, 13);
const normalised = fc
  .record({
    x: fc.array(length, { minLength: 2, maxLength: 4 }),
    kind: fc.constantFrom('layer', 'batch', 'group', 'middle'),
    last: oneOf(1, 2),
    bias: fc.boolean(),
    dtype: fc.constantFrom<FloatType>('float32', 'float64'),
    seed: fc.nat(),
  })
  .map(({ x, kind, last, ...rest }) => {
    const rank = x.length;
    const among = (kept: (axis: number) => boolean) => x.map((n, i) => (kept(i) ? n : 1));
    const lead = Math.max(0, rank - last);
    if (kind === 'layer') return { ...rest, x, mean: among(i => i < lead), weight: x.slice(lead) };
    if (kind === 'batch') return { ...rest, x, mean: among(i => i === 1), weight: among(i => i === 1).slice(1) };
    if (kind === 'group')
      return { ...rest, x, mean: among(i => i < lead), weight: among(i => i === rank - 1 || i === 0) };
    return { ...rest, x, mean: among(i => i === rank - 1), weight: among(i => i !== 0) };
  });

type Normalised = typeof normalised extends fc.Arbitrary<infer P> ? P : never;

for (const backend of backends)
  law(t, `${backend.device}: normalize and its gradients are those of the reference backend up to rounding`, () => {
    const body = ({ x, mean, weight, bias, dtype, seed }: Normalised) => {
      const eps = 1e-2;
      const affine = [weight, weight].slice(0, bias ? 2 : 1).map((shape, i) => input(shape, seed + 1 + i));
      const like = { dtype, shape: x };
      const statistics = { dtype: 'float64', shape: mean } as const;
      const all = (on: Backend) => {
        const [y, mu, sigma2] = run(
          on,
          dtype,
          [input(x, seed), ...affine],
          [like, statistics, statistics],
          (b, [a, w, c], out) => b.normalize(a!, w!, c ?? null, eps, out[0]!, out[1]!, out[2]!),
        );
        const given = [mu!, sigma2!].map(values => ({ values, shape: mean, dtype: 'float64' }) as const);
        const gx = run(on, dtype, [input(x, seed + 3), input(x, seed), affine[0]!, ...given], [like], (b, a, out) =>
          b.normalizeInputGrad(a[0]!, a[1]!, a[2]!, eps, a[3]!, a[4]!, out[0]!),
        )[0]!;
        const gw = run(
          on,
          dtype,
          [input(x, seed + 3), input(x, seed), ...given],
          [{ dtype, shape: weight }],
          (b, a, out) => b.normalizeWeightGrad(a[0]!, a[1]!, eps, a[2]!, a[3]!, out[0]!),
        )[0]!;
        // The same in one go, and the sum of gy.
        const grads = [like, { dtype, shape: weight }, { dtype, shape: weight }];
        const together = run(
          on,
          dtype,
          [input(x, seed + 3), input(x, seed), affine[0]!, ...given],
          grads,
          (b, a, out) => b.normalizeGrads!(a[0]!, a[1]!, a[2]!, eps, a[3]!, a[4]!, out[0]!, out[1]!, out[2]!),
        );
        mustBeWithin(together[0]!, gx, () => 0, 'gx in one go');
        mustBeWithin(together[1]!, gw, () => 0, 'gw in one go');
        return [y!, mu!, sigma2!, gx, gw, together[2]!];
      };
      const [actual, expected] = [all(backend), all(reference)];
      // Numbers are below 1, 1/√(variance + eps) below 10; its derivative by the variance is below 500.
      for (const [k, name] of ['y', 'mean', 'variance', 'gx', 'gw', 'gb'].entries())
        mustBeWithin(actual[k]!, expected[k]!, () => (k >= 4 ? sizeOf(x) : 1) * 4000 * EPS[dtype], name);
    };
    check(fc.property(normalised, body), 300);
  });

law(t, 'every kernel that this file is for was called above', () => {
  const families =
    'convForward convInputGrad convWeightGrad unfold fold maxPoolIndex maxPoolGrad avgPool avgPoolGrad layerNorm layerNormBackward ' +
    'layerNormWeights batchStats batchNorm batchNormBackward';
  const names = families.split(' ').flatMap(name => [`${name}_f32`, `${name}_f64`]);
  const missing = variants()
    .flatMap(variant => names.map(name => `${variant} ${name}`))
    .filter(x => !called.has(x));
  assert.deepEqual(missing, []);
});
