// The laws of Winograd's convolutions as kernels, in both variants: against the direct ones, with operands between guards and
// memory to work in that is neither larger than it is said to be nor expected to hold anything.

import assert from 'node:assert/strict';
import { createKernels, images, type Variant, variants } from '@otimes/kernels';
import fc from 'fast-check';
import t from 'tap';
import { type Bench, EPS, lawsOfBoth } from './helpers/kernels.ts';
import { law, property } from './helpers/law.ts';
import { randomNumbers } from './helpers/winograd.ts';

const lawOfBoth = lawsOfBoth(t);

/** Images [n, c, h, w], filters [o, c, 3, 3] and zeros p wide around each plane. */
type Problem = { readonly [K in 'n' | 'c' | 'h' | 'w' | 'o' | 'p' | 'seed']: number };

const random = fc
  .record({
    n: fc.constantFrom(1, 1, 2, 3, 5),
    c: fc.oneof(fc.constantFrom(1, 2, 7, 8, 9), fc.integer({ min: 1, max: 40 })),
    o: fc.oneof(fc.constantFrom(1, 2, 5, 6, 7, 13), fc.integer({ min: 1, max: 40 })),
    h: fc.integer({ min: 1, max: 14 }),
    w: fc.integer({ min: 1, max: 14 }),
    p: fc.constantFrom(0, 1, 1, 2),
    seed: fc.nat(),
  })
  .map(g => ({ ...g, h: Math.max(g.h, 3 - 2 * g.p), w: Math.max(g.w, 3 - 2 * g.p) }));

/** What the random ones are too small for: sums of several parts, several blocks of tiles, filters part by part. */
const LARGE: readonly Problem[] = [
  { n: 6, c: 16, h: 40, w: 40, o: 16, p: 1, seed: 1 },
  { n: 1, c: 600, h: 5, w: 6, o: 7, p: 1, seed: 2 },
  { n: 4, c: 13, h: 2, w: 2, o: 600, p: 1, seed: 3 },
  { n: 3, c: 130, h: 6, w: 7, o: 160, p: 0, seed: 4 },
  { n: 60, c: 90, h: 8, w: 8, o: 50, p: 1, seed: 5 },
  { n: 40, c: 170, h: 8, w: 9, o: 180, p: 2, seed: 6 },
];

const KINDS = ['winogradForward_f32', 'winogradInputGrad_f32', 'winogradWeightGrad_f32'] as const;
const DIRECT = ['convForward', 'convInputGrad', 'convWeightGrad'] as const;

type Case = {
  readonly p: Problem;
  readonly kind: 0 | 1 | 2;
  /** The two operands, and the bias of the forward one. */
  readonly operands: readonly Float32Array[];
  /** Elements of the result. */
  readonly size: number;
};

function caseOf(p: Problem, kind: 0 | 1 | 2): Case {
  const { n, c, h, w, o, seed } = p;
  const [ho, wo] = [h + 2 * p.p - 2, w + 2 * p.p - 2];
  const [x, filters, y] = [n * c * h * w, o * c * 9, n * o * ho * wo];
  const sizes = [
    [x, filters, o],
    [y, filters],
    [x, y],
  ][kind]!;
  return {
    ...{ p, kind, operands: sizes.map((size, i) => randomNumbers(size, seed + i)) },
    size: [y, x, filters][kind]!,
  };
}

/** The direct convolution in float64. */
function direct(bench: Bench, { p: { n, c, h, w, o, p }, kind, operands, size }: Case): Float64Array {
  const [ho, wo] = [h + 2 * p - 2, w + 2 * p - 2];
  const out = bench.with(0, () => {
    const [a, b] = operands.map(values => bench.put('f64', values));
    const result = bench.room('f64', size);
    // biome-ignore format: the geometry in the order of the kernels
    bench.call[`${DIRECT[kind]}_f64`]!(n, c, h, w, o, 3, 3, ho, wo, 1, 1, p, p, 1, 1, 1, a!, b!, result, bench.scratch);
    return Float64Array.from(bench.view('f64', result, size));
  });
  if (kind === 0) for (let i = 0; i < size; i++) out[i]! += operands[2]![Math.floor(i / (ho * wo)) % o]!;
  return out;
}

const unitsOf = ({ call }: Bench, { p: { n, c, h, w, o, p }, kind }: Case) =>
  call.winogradUnits(kind, n, c, h, w, o, p);

/** Winograd's, computed in these pieces of its units, and what the pieces return. */
function winograd(bench: Bench, one: Case, cuts: readonly number[] = []) {
  const { kind, operands, size } = one;
  const { n, c, h, w, o, p } = one.p;
  const sizes = [n, c, h, w, o, p];
  return bench.with(one.p.seed % 4, () => {
    const addresses = operands.map(values => bench.put('f32', values));
    const result = bench.room('f32', size);
    const bytes = bench.call.winogradScratch(kind, n, c, h, w, o, p);
    assert.equal(bytes % 4, 0);
    const units = unitsOf(bench, one);
    const run = bench.call[KINDS[kind] as string]!;
    const work = bench.put('f32', new Float32Array(bytes / 4));
    const flags = [0, ...cuts].map((from, i) => {
      bench.view('f32', work, bytes / 4).fill(Number.NaN);
      const to = cuts.length === 0 ? 0 : (cuts[i] ?? units);
      return run(...sizes, ...addresses, result, work, bytes, units, from, to);
    });
    return { values: Float32Array.from(bench.view('f32', result, size)), flags };
  });
}

/**
 * So many times eps · the largest sum of magnitudes a result may be off: products of tiles and filters at the points are larger
 * than those of pixels and weights, and cancel. Measured: 15.
 */
const ERROR = 40;

for (const kind of [0, 1, 2] as const) {
  const name = KINDS[kind];

  lawOfBoth(`${name} is the direct one to ${ERROR} eps of the largest sum of magnitudes`, bench => {
    const holds = (p: Problem) => {
      const one = caseOf(p, kind);
      const sums = direct(bench, { ...one, operands: one.operands.map(values => values.map(Math.abs)) });
      const bound = ERROR * EPS.f32 * sums.reduce((a, b) => Math.max(a, b), 0);
      const [got, want] = [winograd(bench, one), direct(bench, one)];
      assert.deepEqual(got.flags, [0], 'all is finite');
      for (const [i, value] of got.values.entries())
        if (!(Math.abs(value - want[i]!) <= bound))
          throw new Error(`at ${i} ${value}, expected ${want[i]} ± ${bound}: ${JSON.stringify(p)}`);
    };
    for (const p of LARGE) holds(p);
    property(random, holds, 60);
  });

  lawOfBoth(`${name} has the same bits in pieces`, bench => {
    const holds = (p: Problem, at: number) => {
      const one = caseOf(p, kind);
      const cut = Math.floor(at * unitsOf(bench, one));
      if (cut === 0) return;
      assert.deepEqual(winograd(bench, one, [cut]).values, winograd(bench, one).values, JSON.stringify(p));
    };
    for (const p of LARGE) for (const at of [0.2, 0.7]) holds(p, at);
    property(fc.tuple(random, fc.double({ min: 0.1, max: 0.9, noNaN: true })), x => holds(...x), 40);
  });

  lawOfBoth(`${name} says so where a NaN or an infinity makes a result that is not finite`, bench => {
    const poison = fc.tuple(random, fc.constantFrom(Number.NaN, Infinity, -Infinity), fc.nat(), fc.nat());
    let found = 0;
    const holds = ([p, bad, which, where]: readonly [Problem, number, number, number]) => {
      const one = caseOf(p, kind);
      const values = one.operands[which % one.operands.length]!;
      values[where % values.length] = bad;
      const finite = direct(bench, one).every(Number.isFinite);
      if (!finite) assert.deepEqual(winograd(bench, one).flags, [1], JSON.stringify({ p, bad, which, where }));
      found += finite ? 0 : 1;
    };
    property(poison, holds, 60);
    assert.ok(found > 30, `${found} of 60`);
  });

  lawOfBoth(`${name} says so where the result overflows, or what is between it and its operands`, bench => {
    const one = caseOf({ n: 1, c: 8, h: 8, w: 8, o: 8, p: 1, seed: 1 }, kind);
    // The result is finite, products of points of tiles and filters are not.
    const between = one.operands.map((values, i) => values.map(v => v * (i === 0 ? 1e38 : 0.03)));
    assert.ok(direct(bench, { ...one, operands: between }).every(x => Math.abs(x) < 3e38));
    assert.deepEqual(winograd(bench, { ...one, operands: between }).flags, [1]);
    const over = one.operands.map(values => values.map(v => v * 1e20));
    assert.deepEqual(winograd(bench, { ...one, operands: over }).flags, [1]);
  });
}

for (const variant of variants())
  law(t, `${variant}: Winograd's convolutions read nothing beyond operands that end where the memory ends`, () => {
    for (const kind of [0, 1, 2] as const) property(random, p => readsWithin(variant, caseOf(p, kind)), 25);
  });

lawOfBoth('every kernel that this file is for was called above', bench => {
  assert.deepEqual(bench.uncalled('winograd'), []);
});

/** Runs a case with its first operand, then its second, at the end of the memory, beyond which a read would throw. */
function readsWithin(variant: Variant, { p: { n, c, h, w, o, p }, kind, operands, size }: Case): void {
  const kernels = createKernels({ variant, memory: { initial: 2 ** 23 } })!;
  const exports = kernels.load(images) as unknown as Record<string, (...x: number[]) => number>;
  const bytes = exports.winogradScratch!(kind, n, c, h, w, o, p);
  const [work, out] = [kernels.heap.pool.alloc(bytes), kernels.heap.pool.alloc(4 * size)];
  const elsewhere = operands.map(values => kernels.heap.pool.alloc(4 * values.length));
  for (const last of operands.keys()) {
    const { u8, f32 } = kernels.memory;
    const addresses = operands.map((values, i) => (i === last ? u8.length - 4 * values.length : elsewhere[i]!));
    for (const [i, values] of operands.entries()) f32.set(values, addresses[i]! / 4);
    const units = exports.winogradUnits!(kind, n, c, h, w, o, p);
    assert.equal(exports[KINDS[kind]]!(n, c, h, w, o, p, ...addresses, out, work, bytes, units), 0);
  }
}
