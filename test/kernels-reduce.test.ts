// The laws of reductions, softmax and normalisation in @otimes/kernels, for both variants: against the reference backend or
// plain loops in float64, and gradients against differences.

import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { sizeOf } from '../core/src/shape.ts';
import { cube, type Double, dot, f64, mustBeGradients, one, reduced, run } from './helpers/gradients.ts';
import {
  blank,
  check,
  EPS,
  elements,
  FLOATS,
  lawsOfBoth,
  make,
  mustBe,
  mustBeWithin,
  NUMERIC,
  offset,
  operand,
  randoms,
  reference,
  ulp,
  type Values,
} from './helpers/kernels.ts';

const lawOfBoth = lawsOfBoth(t);

lawOfBoth('max, min, argmax and argmin are those of the reference backend, NaN and first index included', bench => {
  for (const type of NUMERIC)
    check(
      fc.property(cube, offset, fc.nat(), (shape, at, seed) => {
        const x = elements(type, sizeOf(shape), seed);
        if (seed % 2) for (let i = 0; i < x.length; i++) if (Number.isNaN(x[i])) x[i] = -1;
        for (const name of ['max', 'min'] as const) {
          const expected = blank(type, [shape[0], shape[2]]);
          // The reference starts from ±∞, which int32 cannot hold.
          reference.reduce(name, operand(type, x, shape), [1], expected);
          mustBe(reduced(bench, name, type, shape, x, type, at), expected.storage.array, `${name}_${type}`);
        }
        for (const name of ['argmax', 'argmin'] as const) {
          const expected = blank('i32', [shape[0], shape[2]]);
          reference.argReduce(name, operand(type, x, shape), 1, expected);
          mustBe(reduced(bench, name, type, shape, x, 'i32', at), expected.storage.array, `${name}_${type}`);
        }
      }),
      80,
    );
});

lawOfBoth('sums of float32 are rounded once, those of float64 as good as a loop, those of int32 wrap', bench => {
  for (const type of NUMERIC)
    check(
      fc.property(cube, offset, fc.nat(), fc.boolean(), (shape, at, seed, wild) => {
        const [outer, along, inner] = shape;
        const x =
          type === 'i32' || wild ? elements(type, sizeOf(shape), seed) : make(type, randoms(sizeOf(shape), seed));
        const sums = new Float64Array(outer * inner);
        const sizes = new Float64Array(outer * inner);
        for (let i = 0; i < x.length; i++) {
          const o = Math.floor(i / (along * inner)) * inner + (i % inner);
          sums[o]! += x[i]!;
          sizes[o]! += Math.abs(x[i]!);
        }
        const bound = (i: number) =>
          type === 'i32' ? 0 : along * EPS.f64 * sizes[i]! + (type === 'f32' ? ulp('f32', sums[i]!) / 2 : 0);
        const expected = type === 'i32' ? Int32Array.from(sums, s => Number(BigInt.asIntN(32, BigInt(s)))) : sums;
        mustBeWithin(reduced(bench, 'sum', type, shape, x, type, at), expected, bound, `sum_${type}`);
        if (type === 'i32') return;
        const channels = bench.with(at, () => {
          const [px, py] = [bench.put(type, x), bench.room(type, along)];
          bench.call[`sumChannels_${type}`](outer, along, inner, px, py);
          return bench.read(type, py, along);
        });
        const [sum, size] = [new Float64Array(along), new Float64Array(along)];
        for (let i = 0; i < x.length; i++) {
          const c = Math.floor(i / inner) % along;
          sum[c]! += x[i]!;
          size[c]! += Math.abs(x[i]!);
        }
        const most = (c: number) => outer * inner * EPS.f64 * size[c]! + ulp(type, sum[c]!) / 2;
        mustBeWithin(channels, sum, most, `sumChannels_${type}`);
      }),
      80,
    );
});

// --- rows -----------------------------------------------------------------------------------------------------------------

const rowsShape = fc.tuple(
  fc.nat(5),
  fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 70 })),
  offset,
);

lawOfBoth('softmax and logSoftmax are those of the reference backend; rows of −∞ are NaN', bench => {
  for (const type of FLOATS)
    check(
      fc.property(rowsShape, fc.nat(), fc.constantFrom(1, 10, 300), ([rows, cols, at], seed, scale) => {
        const x = make(
          type,
          randoms(rows * cols, seed).map(v => v * scale),
        );
        if (seed % 3 === 0) for (let i = 0; i < Math.min(cols, x.length); i++) x[i] = -Infinity;
        if (seed % 4 === 0 && rows > 1) x[cols] = [NaN, Infinity, -Infinity][seed % 3]!;
        for (const name of ['softmax', 'logSoftmax'] as const) {
          const expected = blank('f64', [rows, cols]);
          reference[name](operand(type, x, [rows, cols]), 1, expected);
          const result = bench.with(at, () => {
            const [px, py] = [bench.put(type, x), bench.room(type, rows * cols)];
            bench.call[`${name}_${type}`](rows, cols, px, py);
            return bench.read(type, py, rows * cols);
          });
          const wanted = expected.storage.array;
          // The rounding of x − max, up to 2 · scale, is that of the exponent; log Σ is taken off in two steps.
          const bound = (i: number) =>
            name === 'softmax'
              ? (16 + 2 * scale) * EPS[type] * wanted[i]! + 4 * ulp(type, 0)
              : 4 * EPS[type] * (Math.abs(wanted[i]!) + Math.abs(x[i]!) + 1);
          mustBeWithin(result, wanted, bound, `${name}_${type}`);
        }
      }),
      80,
    );
});

lawOfBoth('the backward kernels of softmax and logSoftmax are the derivatives of the forward ones', bench => {
  check(
    fc.property(rowsShape, fc.nat(), ([rows, cols], seed) => {
      const [x, dy] = [f64(rows * cols, seed), f64(rows * cols, seed + 1)];
      for (const name of ['softmax', 'logSoftmax']) {
        const forward = (z: Values) => one(run(bench, name, 'f64', [rows, cols, z, { room: rows * cols }]));
        const dx = one(run(bench, `${name}Backward`, 'f64', [rows, cols, dy, forward(x), { room: rows * cols }]));
        mustBeGradients([x], { value: ([z]) => dot(dy, forward(z!)), gradients: [dx] }, name);
      }
    }),
  );
});

lawOfBoth('crossEntropy is −Σ logSoftmax at the labels, and its backward kernel the derivative', bench => {
  check(
    fc.property(rowsShape, fc.nat(), fc.constantFrom(1, 50), ([rows, cols], seed, size) => {
      const x = f64(rows * cols, seed).map(v => v * size);
      const labels = Array.from({ length: rows }, (_, i) => (seed + 3 * i) % cols);
      const scale = 0.25;
      const loss = (z: Values) =>
        run(bench, 'crossEntropy', 'f64', [rows, cols, z, { ints: labels }, { room: 2 * rows }]);
      const logP = one(run(bench, 'logSoftmax', 'f64', [rows, cols, x, { room: rows * cols }]));
      const expected = -labels.reduce((sum, label, i) => sum + logP[i * cols + label]!, 0);
      const { returned, results } = loss(x);
      assert.ok(Math.abs(returned - expected) <= 1e-12 * (1 + Math.abs(expected)), `${returned}, expected ${expected}`);
      const dx = one(
        run(bench, 'crossEntropyBackward', 'f64', [
          rows,
          cols,
          x,
          { ints: labels },
          results[0]!,
          scale,
          { room: rows * cols },
        ]),
      );
      const value = ([z]: readonly Values[]) => scale * loss(z!).returned;
      mustBeGradients([x], { value, gradients: [dx] }, 'crossEntropy');
    }),
  );
});

lawOfBoth('squaredError is Σ (a − b)², and its backward kernel half the derivative', bench => {
  check(
    fc.property(fc.nat(13), fc.nat(), (n, seed) => {
      const [a, b] = [f64(n, seed), f64(n, seed + 1)];
      const error = (x: Values) => run(bench, 'squaredError', 'f64', [n, x, b]).returned;
      const expected = Array.from(a).reduce((sum, x, i) => sum + (x - b[i]!) ** 2, 0);
      assert.ok(Math.abs(error(a) - expected) <= 1e-13 * expected, `${error(a)}, expected ${expected}`);
      const da = one(run(bench, 'squaredErrorBackward', 'f64', [n, a, b, 0.25, { room: n }]));
      const value = ([x]: readonly Values[]) => 0.125 * error(x!);
      mustBeGradients([a], { value, gradients: [da] }, 'squaredError');
    }),
  );
});

lawOfBoth(
  'layerNorm has mean 0 and variance 1 before scale and shift; its backward kernels are the derivatives',
  bench => {
    check(
      fc.property(rowsShape, fc.nat(), fc.boolean(), ([rows, cols], seed, affine) => {
        const x = f64(rows * cols, seed).map(v => 3 * v + 5);
        const [w, b, dy] = [f64(cols, seed + 1), f64(cols, seed + 2), f64(rows * cols, seed + 3)];
        const eps = 0.1;
        const forward = (z: Values, scale: Values | 0, shift: Values | 0) =>
          run(bench, 'layerNorm', 'f64', [
            rows,
            cols,
            z,
            scale,
            shift,
            eps,
            { room: rows * cols },
            { room: rows },
            { room: rows },
          ]);
        const { results } = forward(x, affine ? w : 0, affine ? b : 0);
        const [y, mean, variance] = results as [Values, Values, Values];
        const expected = new Float64Array(rows * cols);
        for (let i = 0; i < rows; i++) {
          const row = x.subarray(i * cols, (i + 1) * cols);
          const m = row.reduce((sum, v) => sum + v, 0) / cols;
          const s2 = row.reduce((sum, v) => sum + (v - m) ** 2, 0) / cols;
          for (let j = 0; j < cols; j++)
            expected[i * cols + j] =
              ((row[j]! - m) / Math.sqrt(s2 + eps)) * (affine ? w[j]! : 1) + (affine ? b[j]! : 0);
        }
        mustBeWithin(y, expected, () => 1e-12, 'layerNorm');
        const dx = one(
          run(bench, 'layerNormBackward', 'f64', [
            rows,
            cols,
            dy,
            x,
            affine ? w : 0,
            eps,
            mean,
            variance,
            { room: rows * cols },
          ]),
        );
        const { results: weights } = run(bench, 'layerNormWeights', 'f64', [
          rows,
          cols,
          dy,
          x,
          eps,
          mean,
          variance,
          { room: cols },
          { room: cols },
        ]);
        const value = ([z, scale, shift]: readonly Values[]) =>
          dot(dy, one(forward(z!, affine ? scale! : 0, affine ? shift! : 0)));
        mustBeGradients([x, w, b], { value, gradients: affine ? [dx, ...weights] : [dx] }, 'layerNorm');
      }),
    );
  },
);

lawOfBoth(
  'batchNorm normalises with the statistics given; its backward kernel is the derivative, through them if training',
  bench => {
    const shape = fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 5 }), fc.constantFrom(1, 2, 7, 9));
    check(
      fc.property(shape, fc.nat(), fc.boolean(), ([outer, channels, inner], seed, training) => {
        const size = outer * channels * inner;
        const x = f64(size, seed).map(v => 2 * v + 3);
        const [w, b, dy] = [f64(channels, seed + 1), f64(channels, seed + 2), f64(size, seed + 3)];
        const eps = 0.1;
        const dims = [outer, channels, inner] as const;
        const stats = (z: Values) =>
          run(bench, 'batchStats', 'f64', [...dims, z, { room: channels }, { room: channels }]).results;
        const fixed = stats(x.map(v => v + 0.1)) as [Values, Values];
        const forward = ([z, scale, shift]: readonly Values[]) => {
          const [mean, variance] = training ? stats(z!) : fixed;
          return one(
            run(bench, 'batchNorm', 'f64', [...dims, z!, mean!, variance!, eps, scale!, shift!, { room: size }]),
          );
        };
        const [mean, variance] = training ? stats(x) : fixed;
        const expected = Array.from(x, (v, i) => {
          const c = Math.floor(i / inner) % channels;
          return ((v - mean![c]!) / Math.sqrt(variance![c]! + eps)) * w[c]! + b[c]!;
        });
        mustBeWithin(forward([x, w, b]), expected, () => 1e-12, 'batchNorm');
        const { results } = run(...([bench, 'batchNormBackward', 'f64'] as const), [
          ...dims,
          dy,
          x,
          mean!,
          variance!,
          eps,
          w,
          training ? 1 : 0,
          { room: size },
          { room: channels },
          { room: channels },
        ]);
        mustBeGradients([x, w, b], { value: inputs => dot(dy, forward(inputs)), gradients: results }, 'batchNorm');
        // Neither scale nor result wanted.
        const { results: plain } = run(...([bench, 'batchNormBackward', 'f64'] as const), [
          ...dims,
          dy,
          x,
          mean!,
          variance!,
          eps,
          0,
          0,
          0,
          { room: channels },
          { room: channels },
        ]);
        mustBeWithin(plain[0]!, results[1]!, () => 1e-12, 'dw alone');
        mustBeWithin(plain[1]!, results[2]!, () => 1e-12, 'db alone');
      }),
    );
  },
);

lawOfBoth('norm is √Σx² of rows, wherever that is in range', bench => {
  for (const type of FLOATS)
    check(
      fc.property(rowsShape, fc.nat(), fc.integer({ min: -45, max: 38 }), ([rows, cols, at], seed, power) => {
        const scale = 10 ** (type === 'f32' ? power : 8 * power);
        const x = make(
          type,
          f64(rows * cols, seed).map(v => v * scale),
        );
        if (seed % 5 === 0) x.fill(0, 0, cols);
        if (seed % 7 === 0 && x.length > 0) x[x.length - 1] = [NaN, Infinity, -Infinity][seed % 3]!;
        const norms = one(run(bench, 'norm', type, [rows, cols, x, { room: rows }], at));
        const expected = Array.from({ length: rows }, (_, i) => Math.hypot(...x.subarray(i * cols, (i + 1) * cols)));
        // hypot lets ∞ win over NaN.
        for (let i = 0; i < rows; i++) if (x.subarray(i * cols, (i + 1) * cols).some(Number.isNaN)) expected[i] = NaN;
        mustBeWithin(norms, expected, i => 8 * EPS[type] * expected[i]! + ulp(type, 0), `norm_${type}`);
      }),
      80,
    );
});

lawOfBoth('float32 rows: the same numbers as float64 within its rounding', bench => {
  check(
    fc.property(rowsShape, fc.nat(), ([rows, cols, at], seed) => {
      const size = rows * cols;
      const [x, dy, w, b] = [f64(size, seed), f64(size, seed + 1), f64(cols, seed + 2), f64(cols, seed + 3)];
      const labels = { ints: Array.from({ length: rows }, (_, i) => i % cols) };
      const results = FLOATS.map(type => {
        const [to, row, col] = [{ room: size }, { room: rows, double: true as const }, { room: cols }];
        const average = { room: rows };
        const soft = one(run(bench, 'softmax', type, [rows, cols, x, to], at));
        const logs = one(run(bench, 'logSoftmax', type, [rows, cols, x, to], at));
        const loss = run(bench, 'crossEntropy', type, [rows, cols, x, labels, { room: 2 * rows }], at);
        const norm = run(bench, 'layerNorm', type, [rows, cols, x, w, b, 0.1, to, row, row], at);
        const [mean, variance] = norm.results.slice(1).map(double => ({ double })) as [Double, Double];
        const stats = run(bench, 'batchStats', type, [1, rows, cols, x, row, row], at);
        const [m, v] = stats.results.map(double => ({ double })) as [Double, Double];
        const back = [1, rows, cols, dy, x, m, v, 0.1, 0, 1, to, average, average];
        return [
          ...[
            soft,
            logs,
            make(type, [loss.returned, run(bench, 'squaredError', type, [size, x, dy], at).returned]),
            ...norm.results,
            ...stats.results,
          ],
          one(run(bench, 'softmaxBackward', type, [rows, cols, dy, soft, to], at)),
          one(run(bench, 'logSoftmaxBackward', type, [rows, cols, dy, logs, to], at)),
          one(run(bench, 'crossEntropyBackward', type, [rows, cols, x, labels, loss.results[0]!, 0.5, to], at)),
          one(run(bench, 'squaredErrorBackward', type, [size, x, dy, 0.5, to], at)),
          one(run(bench, 'layerNormBackward', type, [rows, cols, dy, x, w, 0.1, mean, variance, to], at)),
          ...run(bench, 'layerNormWeights', type, [rows, cols, dy, x, 0.1, mean, variance, col, col], at).results,
          one(run(bench, 'batchNorm', type, [1, rows, cols, x, m, v, 0.1, 0, 0, to], at)),
          ...run(bench, 'batchNormBackward', type, back, at).results,
        ];
      });
      for (const [i, single] of results[0]!.entries()) {
        const double = results[1]![i]!;
        mustBeWithin(single, double, j => 2e-6 * (1 + Math.abs(double[j]!) + cols / 30), `result ${i}`);
      }
    }),
  );
});

// --- all of them ----------------------------------------------------------------------------------------------------------

lawOfBoth('every kernel of this file was called above', bench => {
  assert.deepEqual(bench.uncalled('reduce'), []);
});
