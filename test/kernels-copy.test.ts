// The laws of copies, optimizers and selection by index in @otimes/kernels, for both variants: against plain loops and the
// reference backend.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import type { Operand } from '../core/src/backends/backend.ts';
import { sizeOf } from '../core/src/shape.ts';
import {
  BYTES,
  blank,
  check,
  EPS,
  element,
  elements,
  FLOATS,
  LAYS,
  lawsOfBoth,
  lay,
  length,
  make,
  matrix,
  mustBe,
  mustBeWithin,
  noise,
  offset,
  operand,
  randoms,
  reference,
  round,
  TYPES,
  type Values,
  walked,
} from './helpers/kernels.ts';

const lawOfBoth = lawsOfBoth(t);

// --- copies ---------------------------------------------------------------------------------------------------------------

lawOfBoth('copy converts between all types and layouts, and says where int32 cannot hold an element', bench => {
  const writable = fc.constantFrom('dense', 'transposed', 'gaps', 'thinned', 'backwards');
  const big = fc.tuple(fc.integer({ min: 0, max: 90 }), fc.integer({ min: 0, max: 90 }), offset);
  for (const from of TYPES)
    for (const to of TYPES)
      check(
        fc.property(
          fc.oneof(matrix, big),
          lay,
          writable,
          fc.nat(),
          fc.boolean(),
          ([rows, cols, at], layX, layY, seed, small) => {
            bench.with(at, () => {
              const [x, y] = [LAYS[layX]!(rows, cols), LAYS[layY]!(rows, cols)];
              const toInt = to === 'i32' && from !== 'bool' && from !== 'i32';
              const values = elements(from, x.span, seed).map(v => (toInt && small && !(Math.abs(v) < 1e9) ? 3.7 : v));
              const [px, py] = [bench.put(from, values), bench.room(to, y.span)];
              const before = bench.read(to, py, y.span);
              const lost = bench.call[`copy_${from}_${to}`](
                ...([rows, cols, px + x.start * BYTES[from], x.row, x.col] as const),
                ...([py + y.start * BYTES[to], y.row, y.col] as const),
              );
              const source = walked(values, x, rows, cols);
              const unfit = toInt && source.some(v => !(Math.trunc(v) >= -(2 ** 31) && Math.trunc(v) < 2 ** 31));
              assert.equal(lost, unfit ? 1 : 0, `copy_${from}_${to}: lost`);
              const after = bench.read(to, py, y.span);
              const result = walked(after, y, rows, cols);
              const expected =
                to === 'bool'
                  ? source.map(v => (v !== 0 ? 1 : 0))
                  : make(
                      to,
                      source.map(v => (to === 'i32' ? Math.trunc(v) : v)),
                    );
              if (!unfit) mustBe(result, expected, `copy_${from}_${to} ${layX} → ${layY}`);
              // Elements in the gaps of the target stay.
              const touched = new Set(
                walked(
                  Array.from(after, (_, i) => i),
                  y,
                  rows,
                  cols,
                ),
              );
              for (let i = 0; i < after.length; i++) if (!touched.has(i)) assert.equal(after[i], before[i]);
            });
          },
        ),
        60,
      );
});

lawOfBoth('fill fills', bench => {
  for (const type of TYPES)
    check(
      fc.property(length, offset, element[type], (n, at, value) => {
        bench.with(at, () => {
          const out = bench.room(type, n);
          bench.call[`fill_${type}`](n, value, out);
          mustBe(bench.read(type, out, n), make(type, new Array(n).fill(value)), `fill_${type}`);
        });
      }),
    );
});

// --- optimizers -----------------------------------------------------------------------------------------------------------

lawOfBoth('moments and adam follow the reference backend, what is tiny becoming 0', bench => {
  const options = fc.record({
    beta1: fc.constantFrom(0, 0.9),
    beta2: fc.constantFrom(0, 0.5, 0.999),
    eps: fc.constantFrom(0, 1e-8, 1e-60),
    correction1: fc.constantFrom(0.1, 1),
    correction2: fc.constantFrom(0.001, 1),
  });
  for (const type of FLOATS)
    check(
      fc.property(length, offset, fc.nat(), options, fc.boolean(), (n, at, seed, o, own) => {
        const [m, g] = [make(type, randoms(n, seed)), make(type, randoms(n, seed + 1))];
        const v = make(type, randoms(n, seed + 2).map(Math.abs));
        const s = make(type, randoms(n, seed + 3).map(Math.abs));
        for (let i = 0; i < n; i += 4) {
          const tiny = type === 'f32' ? 1e-37 : 1e-291;
          [v[i], s[i]] = [i % 8 ? tiny : 0, i % 8 ? tiny : 0];
          if (own) g[i] = i % 3 ? Math.sqrt(tiny) / 2 : 0;
        }
        const shape = [n];
        const [em, ev, out] = [operand(type, m, shape), operand(type, v, shape), blank(type, shape)];
        reference.moments(em, ev, operand(type, g, shape), own ? null : operand(type, s, shape), out, o);
        const numbers = [o.beta1, o.beta2, o.eps, o.correction1, o.correction2] as const;
        bench.with(at, () => {
          const [pm, pv, pg, ps] = [bench.put(type, m), bench.put(type, v), bench.put(type, g), bench.put(type, s)];
          const py = bench.room(type, n);
          bench.call[`moments_${type}`](n, pm, pv, pg, own ? 0 : ps, ...numbers, py);
          const [ym, yv] = [bench.read(type, pm, n), bench.read(type, pv, n)];
          const near = (by: number) => (i: number) => by * EPS[type] * (Math.abs(m[i]!) + Math.abs(g[i]!));
          mustBeWithin(ym, em.storage.array, near(4), 'm');
          mustBeWithin(yv, ev.storage.array, i => 6 * EPS[type] * (v[i]! + (own ? g[i]! ** 2 : s[i]!)), 'v');
          // The direction of the moments as they were rounded.
          const expected = make(
            type,
            Array.from(ym, (mi, i) => mi / o.correction1 / (Math.sqrt(yv[i]! / o.correction2) + o.eps)),
          );
          mustBeWithin(bench.read(type, py, n), expected, i => 8 * EPS[type] * Math.abs(expected[i]!), 'direction');
        });
        if (!own) return;
        const p = make(type, randoms(n, seed + 4));
        const [direction, updated] = bench.with(at, () => {
          const [pm, pv, pg, pp] = [bench.put(type, m), bench.put(type, v), bench.put(type, g), bench.put(type, p)];
          const [qm, qv, py] = [bench.put(type, m), bench.put(type, v), bench.room(type, n)];
          bench.call[`moments_${type}`](n, qm, qv, pg, 0, ...numbers, py);
          bench.call[`adam_${type}`](n, pm, pv, pg, ...numbers, pp, 0.1, 0.875);
          mustBe(bench.read(type, pm, n), bench.read(type, qm, n), 'm of adam');
          mustBe(bench.read(type, pv, n), bench.read(type, qv, n), 'v of adam');
          return [bench.read(type, py, n), bench.read(type, pp, n)] as const;
        });
        const expected = Array.from(p, (pi, i) => 0.875 * pi - 0.1 * direction[i]!);
        const bound = (i: number) => 4 * EPS[type] * (Math.abs(p[i]!) + Math.abs(direction[i]!));
        mustBeWithin(updated, expected, bound, 'p of adam');
      }),
      60,
    );
});

lawOfBoth(
  'sgd keeps its momentum and looks ahead; addScaled and scale update rows with any strides; addcdiv adds quotients',
  bench => {
    for (const type of FLOATS) {
      check(
        fc.property(length, offset, fc.nat(), fc.boolean(), (n, at, seed, nesterov) => {
          const [p, buf, g] = [0, 1, 2].map(k => make(type, randoms(n, seed + k))) as [Values, Values, Values];
          const [keep, take, look, own] = nesterov ? [0.9, 1, 0.9, 1] : [0.9, 0.5, 1, 0];
          const momentum = Array.from(buf, (b, i) => keep * b + take * g[i]!);
          const moved = Array.from(p, (pi, i) => pi - 0.1 * (look * momentum[i]! + own * g[i]!));
          bench.with(at, () => {
            const [pp, pb, pg] = [bench.put(type, p), bench.put(type, buf), bench.put(type, g)];
            bench.call[`sgd_${type}`](n, pp, pb, pg, 0.1, keep, take, look, own);
            mustBeWithin(bench.read(type, pb, n), momentum, () => 6 * EPS[type], 'buf');
            mustBeWithin(bench.read(type, pp, n), moved, () => 6 * EPS[type], 'p');
          });
          const d = make(
            type,
            Array.from(g, v => v + Math.sign(v)),
          );
          const divided = Array.from(p, (pi, i) => 0.9 * pi - (0.3 * buf[i]!) / d[i]!);
          bench.with(at, () => {
            const [pp, pb, pd] = [bench.put(type, p), bench.put(type, buf), bench.put(type, d)];
            bench.call[`addcdiv_${type}`](n, pp, pb, pd, -0.3, 0.9);
            mustBeWithin(bench.read(type, pp, n), divided, () => 6 * EPS[type], 'addcdiv');
          });
        }),
      );
      const writable = fc.constantFrom('dense', 'transposed', 'gaps', 'thinned', 'backwards');
      check(
        fc.property(matrix, writable, lay, fc.nat(), ([rows, cols, at], layY, layX, seed) => {
          const [y, x] = [LAYS[layY]!(rows, cols), LAYS[layX]!(rows, cols)];
          const [before, add] = [make(type, randoms(y.span, seed)), make(type, randoms(x.span, seed + 1))];
          bench.with(at, () => {
            const [py, px] = [bench.put(type, before), bench.put(type, add)];
            const [fromY, fromX] = [py + y.start * BYTES[type], px + x.start * BYTES[type]];
            bench.call[`addScaled_${type}`](rows, cols, fromY, y.row, y.col, fromX, x.row, x.col, -0.3, 0.9);
            const sum = walked(before, y, rows, cols).map((v, i) => 0.9 * v - 0.3 * walked(add, x, rows, cols)[i]!);
            const first = bench.read(type, py, y.span);
            mustBeWithin(walked(first, y, rows, cols), sum, () => 3 * EPS[type], `addScaled_${type}`);
            bench.call[`scale_${type}`](rows, cols, fromY, y.row, y.col, 0.7);
            const factor = round(type, 0.7);
            const scaled = make(
              type,
              walked(first, y, rows, cols).map(v => v * factor),
            );
            mustBe(walked(bench.read(type, py, y.span), y, rows, cols), scaled, `scale_${type}`);
          });
        }),
        60,
      );
    }
  },
);

// --- indices --------------------------------------------------------------------------------------------------------------

lawOfBoth('indexSelect, indexAdd, gather and scatterAdd are those of the reference backend', bench => {
  const shape = fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 6 }), fc.oneof(fc.constant(1), fc.nat(12)), fc.nat(6));
  for (const type of TYPES)
    check(
      fc.property(shape, offset, fc.nat(), ([outer, along, inner, count], at, seed) => {
        const next = noise(seed);
        const indices = (n: number) => Array.from({ length: n }, () => Math.floor(((next() + 1) / 2) * along) % along);
        const dims = [outer, along, inner, count] as const;
        const [full, part] = [
          [outer, along, inner],
          [outer, count, inner],
        ];
        // Sums of small integers are exact in any order.
        const source = (n: number, k: number) =>
          make(
            type,
            randoms(n, seed + k).map(v => Math.round(v * (type === 'bool' ? 0.9 : 9)) & (type === 'bool' ? 1 : -1)),
          );
        const [rowsOf, each] = [indices(count), indices(sizeOf(part))];
        const apply = (name: string, x: Values, index: readonly number[], start: Values | null, size: number) =>
          bench.with(at, () => {
            const [px, pi] = [bench.put(type, x), bench.put('i32', index)];
            const out = start === null ? bench.room(type, size) : bench.put(type, start);
            bench.call[`${name}_${type}`]!(...dims, px, pi, out);
            return bench.read(type, out, size);
          });
        const x = source(sizeOf(full), 1);
        const selected = blank(type, part);
        reference.indexSelect(operand(type, x, full), 1, operand('i32', rowsOf, [count]), selected);
        mustBe(apply('indexSelect', x, rowsOf, null, sizeOf(part)), selected.storage.array, 'indexSelect');
        const gathered = blank(type, part);
        if (sizeOf(part) > 0) reference.gather(operand(type, x, full), 1, operand('i32', each, part), gathered);
        mustBe(apply('gather', x, each, null, sizeOf(part)), gathered.storage.array, 'gather');
        if (type === 'bool') return;
        const z = source(sizeOf(part), 2);
        // The reference starts from 0.
        const plusX = (sum: Operand) =>
          make(
            type,
            Array.from(sum.storage.array, (v, i) => v + x[i]!),
          );
        const added = blank(type, full);
        reference.indexAdd(operand(type, z, part), 1, operand('i32', rowsOf, [count]), added);
        mustBe(apply('indexAdd', z, rowsOf, x, sizeOf(full)), plusX(added), 'indexAdd');
        const scattered = blank(type, full);
        if (sizeOf(part) > 0) reference.scatterAdd(operand(type, z, part), 1, operand('i32', each, part), scattered);
        mustBe(apply('scatterAdd', z, each, x, sizeOf(full)), plusX(scattered), 'scatterAdd');
      }),
      60,
    );
});

// --- all of them ----------------------------------------------------------------------------------------------------------

lawOfBoth('every kernel of this file was called above', bench => {
  assert.deepEqual(bench.uncalled('copy'), []);
});
