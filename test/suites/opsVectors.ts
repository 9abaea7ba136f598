/** Entries of the list in `ops.ts` for products and distances of vectors. */

import { cdist, cosineSimilarity, cross, dot, normalize, outer, pairwiseDistance, type Tensor } from '@otimes/core';
import fc from 'fast-check';
import { axis, broadcasting, type Domain, lattice, length, real, shape } from '../arbitraries/tensor.ts';
import { along, broadcastShape, build, type Dense, elementwise } from '../helpers/dense.ts';
import { entry, floating, type OpEntry, sum } from './opEntry.ts';

const positive = (a: number, rank: number) => (a < 0 ? a + rank : a);
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);

const toFloat = { result: floating };
const norms: Readonly<Record<string, (row: readonly number[], p: number) => number>> = {
  2: row => Math.hypot(...row),
  1: row => sum(row.map(Math.abs)),
  3: (row, p) => sum(row.map(x => Math.abs(x) ** p)) ** (1 / p),
  Infinity: row => Math.max(0, ...row.map(Math.abs)),
};
const orders = fc.constantFrom(1, 2, 3, Infinity);
const length3 = fc.tuple(length({ maxLength: 3 }), length({ maxLength: 3 }), length({ minLength: 1, maxLength: 4 }));
/** Two inputs with no equal elements, so that no distance is at a kink. */
const apart = [lattice(0), lattice(1 / 8)] as const;
/** The same, whose differences are at least 1: the curvature of a norm is as large as one over it. */
const far = apart.map(
  (domain): Domain =>
    (size, whole) =>
      domain(size, whole).map(values => values.map(x => x * 8)),
);
/** A sum of two rows' functions along the last axis of what they broadcast to. */
const rowsOf = (a: Dense, b: Dense, f: (p: number[], q: number[]) => number, at: number): Dense => {
  const [p, q] = [elementwise(x => x!, a, b), elementwise((_, y) => y!, a, b)];
  const whole = positive(at, p.rank);
  return build(p.shape.toSpliced(whole, 1), index => {
    const row = (x: Dense) => upTo(x.shape[whole]!).map(i => x.at(index.toSpliced(whole, 0, i)));
    return f(row(p), row(q));
  });
};
const product = (p: readonly number[], q: readonly number[]) => sum(p.map((x, i) => x * q[i]!));
const pairs = (limits: Parameters<typeof broadcasting>[1]) =>
  broadcasting(2, limits).filter(([p, q]) => broadcastShape(p!, q!).length > 0);

export const vectorEntries: readonly OpEntry[] = [
  entry(
    'outer',
    fc.tuple(length(), length()).map(([m, n]) => ({
      inputs: [m, n].map(size => ({ shape: [size], domain: real })),
      run: outer,
      naive: (a: Dense, b: Dense) => build([m, n], ([i, j]) => a.at([i!]) * b.at([j!])),
    })),
  ),
  entry(
    'dot',
    length().map(n => ({
      inputs: [0, 1].map(() => ({ shape: [n], domain: real })),
      run: dot,
      naive: (a: Dense, b: Dense) => build([], () => product([...Array.from(a.data)], [...Array.from(b.data)])),
    })),
  ),
  entry(
    'cross',
    fc.tuple(broadcasting(2, { maxRank: 2 }), fc.nat(2)).map(([[p, q], at]) => {
      // Three elements in the same place, counted from the end.
      const a = -1 - Math.min(at, p!.length, q!.length);
      const wide = [p!, q!].map(s => s.toSpliced(s.length + a + 1, 0, 3));
      return {
        inputs: wide.map(s => ({ shape: s, domain: real })),
        run: (x: Tensor, y: Tensor) => cross(x, y, a),
        naive: (x: Dense, y: Dense) => {
          const to = broadcastShape(...wide);
          const place = to.length + a;
          return build(to, index => {
            const i = index[place]!;
            const of = (one: Dense, k: number) => one.at(index.with(place, (i + k) % 3));
            return of(x, 1) * of(y, 2) - of(x, 2) * of(y, 1);
          });
        },
      };
    }),
  ),
  entry(
    'cdist',
    fc.tuple(broadcasting(2, { maxRank: 1, maxLength: 2 }), length3, orders).map(([[s, t], [m, n, k], p]) => ({
      inputs: [
        { shape: [...s!, m, k], domain: apart[0] },
        { shape: [...t!, n, k], domain: apart[1] },
      ],
      run: (a: Tensor, b: Tensor) => cdist(a, b, { p }),
      naive: (a: Dense, b: Dense) =>
        build([...broadcastShape(s!, t!), m, n], index => {
          const [lead, i, j] = [index.slice(0, -2), index.at(-2)!, index.at(-1)!];
          return norms[p]!(
            upTo(k).map(l => a.at([...lead, i, l]) - b.at([...lead, j, l])),
            p,
          );
        }),
      ...toFloat,
    })),
    { dtypes: ['float32', 'float64'] },
  ),
  entry(
    'pairwiseDistance',
    fc.tuple(pairs({ minLength: 1 }), orders).map(([[s, t], p]) => ({
      inputs: [
        { shape: s!, domain: far[0]! },
        { shape: t!, domain: far[1]! },
      ],
      run: (a: Tensor, b: Tensor) => pairwiseDistance(a, b, { p, eps: 1 / 64 }),
      naive: (a: Dense, b: Dense) =>
        rowsOf(
          a,
          b,
          (x, y) =>
            norms[p]!(
              x.map((v, i) => v - y[i]! + 1 / 64),
              p,
            ),
          -1,
        ),
      ...toFloat,
    })),
    { dtypes: ['float32', 'float64'] },
  ),
  entry(
    'cosineSimilarity',
    pairs({}).chain(([s, t]) => {
      const rank = broadcastShape(s!, t!).length;
      return axis(rank).map(a => ({
        inputs: [
          { shape: s!, domain: apart[1] },
          { shape: t!, domain: apart[1] },
        ],
        run: (x: Tensor, y: Tensor) => cosineSimilarity(x, y, a),
        naive: (x: Dense, y: Dense) => {
          const length = (row: number[]) => Math.max(Math.hypot(...row), 1e-8);
          return rowsOf(x, y, (p, q) => product(p, q) / length(p) / length(q), a);
        },
        ...toFloat,
      }));
    }),
  ),
  entry(
    'normalize',
    shape({ minRank: 1 }).chain(s =>
      fc.tuple(axis(s.length), orders).map(([a, p]) => ({
        inputs: [{ shape: s, domain: apart[1] }],
        run: (x: Tensor) => normalize(x, a, { p }),
        naive: (x: Dense) => along(x, a, row => row.map(v => v / Math.max(norms[p]!(row, p), 1e-12))),
        ...toFloat,
      })),
    ),
    { dtypes: ['float32', 'float64'] },
  ),
];
