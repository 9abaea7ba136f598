// The laws of the kernels for convolutions of single planes, in both variants: against products in float64, with operands between
// guards and memory to work in that is no larger than it is said to be and holds what it likes.

import assert from 'node:assert/strict';
import { createKernels, type Float, images, variants } from '@otimes/kernels';
import fc from 'fast-check';
import t from 'tap';
import { type Bench, BYTES, EPS, FLOATS, lawsOfBoth, make, type Values } from './helpers/kernels.ts';
import { law, property } from './helpers/law.ts';
import { randomNumbers } from './helpers/winograd.ts';

const lawOfBoth = lawsOfBoth(t);

const axis = fc
  .record({
    kernel: fc.constantFrom(1, 2, 3, 3, 3, 5, 7),
    stride: fc.constantFrom(1, 1, 1, 2, 2, 3),
    padding: fc.constantFrom(0, 1, 1, 2, 6),
    dilation: fc.constantFrom(1, 1, 2, 3),
    beyond: fc.oneof(fc.constantFrom(0, 1), fc.nat(21)),
  })
  .map(({ beyond, ...a }) => {
    const size = Math.max(1, a.dilation * (a.kernel - 1) + 1 + beyond - (beyond % 2) * 2 * a.padding);
    const places = Math.floor((size + 2 * a.padding - a.dilation * (a.kernel - 1) - 1) / a.stride) + 1;
    return { ...a, size, places };
  })
  .filter(a => a.places > 0);
const random = fc.record({
  n: fc.constantFrom(0, 1, 1, 2, 3),
  c: fc.integer({ min: 1, max: 5 }),
  each: fc.constantFrom(1, 1, 1, 2, 3),
  y: axis,
  x: axis,
  bias: fc.boolean(),
  type: fc.constantFrom(...FLOATS),
  seed: fc.nat(),
});
type Problem = typeof random extends fc.Arbitrary<infer P> ? P : never;

const KINDS = ['Forward', 'InputGrad', 'WeightGrad'] as const;
type Kind = 0 | 1 | 2;

const sizesOf = ({ n, c, each, y, x }: Problem, outputs: number) =>
  // biome-ignore format: the geometry in the order of the kernels
  [
    n, c, y.size, x.size, outputs * each, y.kernel, x.kernel, y.places, x.places, y.stride, x.stride, y.padding, x.padding,
    y.dilation, x.dilation,
  ] as const;

/** The operands of a kind, bias last, and the number of its results. */
function caseOf(p: Problem, kind: Kind): { operands: Values[]; size: number } {
  const [n, c, h, w, each, kh, kw, ho, wo] = sizesOf(p, 1);
  const [x, weights, y] = [n * c * h * w, c * each * kh * kw, n * c * each * ho * wo];
  const sizes = [
    [x, weights, ...(p.bias ? [c * each] : [])],
    [y, weights],
    [x, y],
  ][kind]!;
  return {
    operands: sizes.map((size, i) => make(p.type, randomNumbers(size, p.seed + i))),
    size: [y, x, weights][kind]!,
  };
}

/** The same by products of one group for each channel, in float64. */
function expected(bench: Bench, p: Problem, kind: Kind, [a, b, bias]: readonly ArrayLike<number>[], size: number) {
  return bench.with(0, () => {
    const [pa, pb] = [bench.put('f64', a!), bench.put('f64', b!)];
    const out = bench.room('f64', size);
    bench.call[`conv${KINDS[kind]}_f64`]!(...sizesOf(p, p.c), p.c, pa, pb, out, bench.scratch);
    const plane = p.y.places * p.x.places;
    return Array.from(bench.read('f64', out, size), (v, i) =>
      bias === undefined ? v : v + bias[Math.floor(i / plane) % bias.length]!,
    );
  });
}

/** The kernel's results, in these pieces of the channels. */
function computed(bench: Bench, p: Problem, kind: Kind, cuts: readonly number[] = []): Values {
  const { operands, size } = caseOf(p, kind);
  return bench.with(p.seed % 4, () => {
    const addresses = operands.map(values => bench.put(p.type, values));
    if (addresses.length === 2) addresses.push(0);
    const out = bench.room(p.type, size);
    const bytes = bench.call.depthwiseScratch(kind, BYTES[p.type], ...sizesOf(p, 1));
    assert.equal(bytes % 16, 0);
    const work = bench.put('f64', new Float64Array(bytes / 8));
    for (const [i, from] of [0, ...cuts].entries()) {
      bench.view('f64', work, bytes / 8).fill(Number.NaN);
      const to = cuts.length === 0 ? 0 : (cuts[i] ?? p.c);
      const name: string = `depthwise_${p.type}`;
      bench.call[name]!(kind, ...sizesOf(p, 1), ...addresses, out, work, bytes, from, to);
    }
    return bench.read(p.type, out, size);
  });
}

const terms = ({ n, each, y, x }: Problem, kind: Kind) =>
  [y.kernel * x.kernel, each * y.kernel * x.kernel, n * y.places * x.places][kind]!;

/** Throws where results are farther from those of products than sums of so many terms may be. */
function within(bench: Bench, p: Problem, kind: Kind, got: Values): void {
  const { operands, size } = caseOf(p, kind);
  const want = expected(bench, p, kind, operands, size);
  const magnitudes = operands.map(values => Array.from(values, Math.abs));
  const sums = expected(bench, p, kind, magnitudes, size);
  for (const [i, value] of got.entries())
    if (!(Math.abs(value - want[i]!) <= (terms(p, kind) + 2) * 1.01 * EPS[p.type] * sums[i]!))
      throw new Error(`at ${i} ${value}, expected ${want[i]}: ${JSON.stringify(p)}`);
}

for (const kind of [0, 1, 2] as const) {
  lawOfBoth(
    `depthwise${KINDS[kind]} is convolution in groups of one channel to k·eps of the sum of magnitudes`,
    bench => {
      property(random, p => within(bench, p, kind, computed(bench, p, kind)), 150);
    },
  );

  lawOfBoth(`depthwise, ${KINDS[kind]}: it has the same bits in pieces`, bench => {
    const cut = ([p, at]: [Problem, number]) => {
      const where = at % p.c;
      if (where > 0) assert.deepEqual(computed(bench, p, kind, [where]), computed(bench, p, kind));
    };
    property(fc.tuple(random, fc.nat()), cut, 60);
  });
}

for (const variant of variants())
  law(t, `${variant}: kernels of single planes read nothing beyond operands that end where the memory ends`, () => {
    const kernels = createKernels({ variant, memory: { initial: 2 ** 24 } })!;
    const exports = kernels.load(images) as unknown as Record<string, (...x: number[]) => number>;
    const [work, out] = [2 ** 20, 2 ** 19].map(bytes => kernels.heap.pool.alloc(bytes)) as [number, number];
    const elsewhere = [0, 1, 2].map(() => kernels.heap.pool.alloc(2 ** 19));
    const last = (type: Float, values: Values, end: number) => {
      const at = end - values.length * BYTES[type];
      new (values.constructor as Float32ArrayConstructor)(kernels.memory.wasm.buffer, at, values.length).set(values);
      return at;
    };
    const holds = (p: Problem, kind: Kind, which: 0 | 1) => {
      const { operands } = caseOf(p, kind);
      const end = kernels.memory.wasm.buffer.byteLength;
      const addresses = operands.map((values, i) =>
        last(p.type, values, i === which ? end : elsewhere[i]! + values.length * BYTES[p.type]),
      );
      if (addresses.length === 2) addresses.push(0);
      const bytes = exports.depthwiseScratch!(kind, BYTES[p.type], ...sizesOf(p, 1));
      exports[`depthwise_${p.type}`]!(kind, ...sizesOf(p, 1), ...addresses, out, work, bytes, 0, 0);
    };
    for (const kind of [0, 1, 2] as const)
      for (const which of [0, 1] as const) property(random, p => holds(p, kind, which), 40);
  });

lawOfBoth('every kernel that this file is for was called above', bench => {
  assert.deepEqual(bench.uncalled('depthwise'), []);
});
