/** The entries of orders, selections and scatters that are imported by name. */

import {
  argsort,
  indexAdd,
  indexCopy,
  indexFill,
  scatter,
  scatterAdd,
  scatterMax,
  sort,
  type Tensor,
  topk,
} from '@otimes/core';
import fc from 'fast-check';
import { axis, coarse, distinct, integers, lattice, real, shape } from '../arbitraries/tensor.ts';
import { along, build, Dense, type Index, indices } from '../helpers/dense.ts';
import { entry, type OpEntry } from './opEntry.ts';

/** The places of a row in order; of equals the first one first. */
function order(row: readonly number[], descending: boolean): number[] {
  const places = row.map((_, i) => i);
  return places.sort((i, j) => (descending ? row[j]! - row[i]! : row[i]! - row[j]!) || i - j);
}

const orders: OpEntry[] = (['sort', 'argsort'] as const).map(name =>
  entry(
    name,
    fc.tuple(shape({ minRank: 1, maxLength: 6 }), fc.boolean()).chain(([s, descending]) =>
      axis(s.length).map(a => ({
        inputs: [{ shape: s, domain: name === 'sort' ? distinct : coarse }],
        run: (x: Tensor) => (name === 'sort' ? sort(x, a, { descending }).values : argsort(x, a, { descending })),
        naive: (x: Dense) =>
          along(x, a, row => {
            const places = order(row, descending);
            return name === 'sort' ? places.map(i => row[i]!) : places;
          }),
        ...(name === 'argsort' && { result: () => 'int32' as const }),
      })),
    ),
    name === 'argsort' ? { differentiable: false } : {},
  ),
);

/** The first `count` along an axis. */
function first(x: Dense, at: number, count: number, f: (row: number[]) => number[]): Dense {
  const sorted = along(x, at, f);
  const shape = x.shape.map((n, i) => (i === at ? count : n));
  return build(shape, index => sorted.at(index));
}

const firsts: OpEntry[] = (['values', 'indices'] as const).map(part =>
  entry(
    part === 'values' ? 'topk' : 'topk, its indices',
    shape({ minRank: 1, maxLength: 6 }).chain(s =>
      axis(s.length).chain(a =>
        fc.tuple(fc.nat(s.at(a)!), fc.boolean()).map(([k, largest]) => ({
          inputs: [{ shape: s, domain: part === 'values' ? distinct : coarse }],
          run: (x: Tensor) => topk(x, k, a, { largest })[part],
          naive: (x: Dense) =>
            first(x, a < 0 ? a + s.length : a, k, row => {
              const places = order(row, largest);
              return part === 'values' ? places.map(i => row[i]!) : places;
            }),
          ...(part === 'indices' && { result: () => 'int32' as const }),
        })),
      ),
    ),
    part === 'indices' ? { differentiable: false } : {},
  ),
);

/** x after each element of `src` was written to where `index` says, by f of what was there. */
function scattered(x: Dense, at: number, index: Dense, src: Dense, f: (old: number, value: number) => number): Dense {
  const out = Array.from(x.data);
  const flat = (i: Index) => i.reduce((position, k, a) => position * x.shape[a]! + k, 0);
  for (const i of indices(index.shape)) {
    const to = flat(i.map((k, a) => (a === at ? index.at(i) : k)));
    out[to] = f(out[to]!, src.at(i));
  }
  return new Dense(x.shape, out);
}

// The elements of x are never those of `src`: the larger of two is one of them.
const scatters: OpEntry[] = (
  [
    ['scatter', scatter, (_: number, value: number) => value],
    ['scatterAdd', scatterAdd, (old: number, value: number) => old + value],
    ['scatterMax', scatterMax, Math.max],
  ] as const
).map(([name, run, f]) =>
  entry(
    name,
    shape({ minRank: 1, minLength: 1 }).chain(s =>
      fc
        .tuple(axis(s.length), fc.array(fc.nat(4), { minLength: s.length, maxLength: s.length }))
        .map(([a, lengths]) => {
          const at = a < 0 ? a + s.length : a;
          const shorter = s.map((n, i) => (i === at ? lengths[i]! : Math.min(n, lengths[i]! + 1)));
          return {
            inputs: [
              { shape: s, domain: lattice(1 / 16) },
              { shape: shorter, domain: name === 'scatterMax' ? distinct : real },
              { shape: shorter, domain: integers(0, s[at]!), dtype: 'int32' as const },
            ],
            run: (x: Tensor, src: Tensor, index: Tensor) => run(x.astype(wider(x, src)), a, index, src),
            naive: (x: Dense, src: Dense, index: Dense) => scattered(x, at, index, src, f),
          };
        }),
    ),
  ),
);

const RANK = ['bool', 'int32', 'float32', 'float64'] as const;
const wider = (a: Tensor, b: Tensor) => RANK[Math.max(RANK.indexOf(a.dtype), RANK.indexOf(b.dtype))]!;

const slices: OpEntry[] = (
  [
    ['indexAdd', indexAdd, (old: number, value: number) => old + value],
    ['indexCopy', indexCopy, (_: number, value: number) => value],
  ] as const
).map(([name, run, f]) =>
  entry(
    name,
    shape({ minRank: 1, minLength: 1 }).chain(s =>
      fc.tuple(axis(s.length), fc.nat(4)).map(([a, count]) => {
        const at = a < 0 ? a + s.length : a;
        const shape = s.map((n, i) => (i === at ? count : n));
        return {
          inputs: [
            { shape: s, domain: real },
            { shape, domain: real },
            { shape: [count], domain: integers(0, s[at]!), dtype: 'int32' as const },
          ],
          run: (x: Tensor, src: Tensor, index: Tensor) => run(x.astype(wider(x, src)), a, index, src),
          naive: (x: Dense, src: Dense, index: Dense) => {
            const whole = build(shape, i => index.at([i[at]!]));
            return scattered(x, at, whole, src, f);
          },
        };
      }),
    ),
  ),
);

const filling = entry(
  'indexFill',
  shape({ minRank: 1, minLength: 1 }).chain(s =>
    fc.tuple(axis(s.length), fc.nat(3)).map(([a, count]) => {
      const at = a < 0 ? a + s.length : a;
      return {
        inputs: [
          { shape: s, domain: real },
          { shape: [count], domain: integers(0, s[at]!), dtype: 'int32' as const },
        ],
        run: (x: Tensor, index: Tensor) => indexFill(x, a, index, 3),
        naive: (x: Dense, index: Dense) => build(s, i => (Array.from(index.data).includes(i[at]!) ? 3 : x.at(i))),
      };
    }),
  ),
);

export const orderEntries: readonly OpEntry[] = [...orders, ...firsts, ...scatters, ...slices, filling];
