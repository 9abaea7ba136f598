/** The entries of orders, selections and scatters that are imported by name. */

import { argsort, sort, type Tensor, topk } from '@otimes/core';
import fc from 'fast-check';
import { axis, coarse, distinct, shape } from '../arbitraries/tensor.ts';
import { along, build, type Dense } from '../helpers/dense.ts';
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

export const orderEntries: readonly OpEntry[] = [...orders, ...firsts];
