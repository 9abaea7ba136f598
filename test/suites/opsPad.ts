/** Entries of the list in `ops.ts` for padding by what lies inside, and for interpolation. */

import { interpolate, pad, type Tensor } from '@otimes/core';
import fc from 'fast-check';
import { real, shape } from '../arbitraries/tensor.ts';
import { build, type Dense } from '../helpers/dense.ts';
import { entry, type OpEntry, rearrangement } from './opEntry.ts';

/** Where the element in a place beyond an axis of n comes from. */
const sources = {
  reflect: (i: number, n: number) => (i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i),
  replicate: (i: number, n: number) => Math.min(Math.max(i, 0), n - 1),
  circular: (i: number, n: number) => (i + n) % n,
};

const pads: readonly OpEntry[] = (['reflect', 'replicate', 'circular'] as const).map(mode =>
  rearrangement(`pad ${mode}`, shape(), s => {
    const most = (n: number) => (n === 0 ? 0 : { reflect: n - 1, replicate: 3, circular: n }[mode]);
    const end = (n: number) => fc.nat(Math.min(3, most(n)));
    return fc.tuple(fc.tuple(...s.map(n => fc.tuple(end(n), end(n)))), fc.nat(s.length)).map(([all, count]) => {
      const pads = all.slice(0, count);
      return {
        run: x => pad(x, pads, { mode }),
        naive: x =>
          build(
            s.map((n, i) => n + (pads[i]?.[0] ?? 0) + (pads[i]?.[1] ?? 0)),
            index => x.at(index.map((k, i) => sources[mode](k - (pads[i]?.[0] ?? 0), s[i]!))),
          ),
      };
    });
  }),
);

/** Linear interpolation between the elements of an axis of n, at place `at`; beyond the outer ones their values go on. */
const hats = (at: number, n: number): number[] => {
  const place = Math.min(Math.max(at, 0), n - 1);
  return Array.from({ length: n }, (_, i) => Math.max(0, 1 - Math.abs(place - i)));
};

/** By the sum over all elements, each weighed by its hat function along every spatial axis. */
function weighed(
  x: Dense,
  counts: readonly number[],
  weights: (j: number, n: number, count: number) => number[],
): Dense {
  const spatial = x.shape.slice(2);
  return build([...x.shape.slice(0, 2), ...counts], index => {
    let total = 0;
    const add = (axis: number, at: readonly number[], weight: number): void => {
      if (axis === spatial.length) {
        total += weight * x.at([index[0]!, index[1]!, ...at]);
        return;
      }
      const row = weights(index[axis + 2]!, spatial[axis]!, counts[axis]!);
      row.forEach((w, i) => {
        if (w !== 0) add(axis + 1, [...at, i], weight * w);
      });
    };
    add(0, [], 1);
    return total;
  });
}

const linearModes = ['linear', 'bilinear', 'trilinear'] as const;
const images = fc
  .tuple(shape({ minRank: 2, maxRank: 2, maxLength: 2 }), shape({ minRank: 1, minLength: 1 }))
  .chain(([lead, spatial]) =>
    fc.tuple(
      fc.constant([...lead, ...spatial]),
      fc.array(fc.integer({ min: 1, max: 7 }), { minLength: spatial.length, maxLength: spatial.length }),
    ),
  );

const interpolations: readonly OpEntry[] = [
  entry(
    'interpolate nearest',
    images.map(([s, size]) => ({
      inputs: [{ shape: s, domain: real }],
      run: (x: Tensor) => interpolate(x, { size }),
      naive: (x: Dense) =>
        weighed(x, size, (j, n, count) =>
          Array.from({ length: n }, (_, i) => Number(i === Math.floor((j * n) / count))),
        ),
    })),
  ),
  ...[false, true].map(alignCorners =>
    entry(
      `interpolate linearly${alignCorners ? ' with corners on each other' : ''}`,
      images.map(([s, size]) => ({
        inputs: [{ shape: s, domain: real }],
        run: (x: Tensor) => interpolate(x, { size, mode: linearModes[s.length - 3]!, alignCorners }),
        naive: (x: Dense) =>
          weighed(x, size, (j, n, count) =>
            hats(alignCorners ? (count === 1 ? 0 : (j * (n - 1)) / (count - 1)) : ((j + 0.5) * n) / count - 0.5, n),
          ),
      })),
      { dtypes: ['float32', 'float64'] },
    ),
  ),
];

export const padEntries: readonly OpEntry[] = [...pads, ...interpolations];
