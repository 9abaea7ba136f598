/** Entries of the list in `ops.ts` for padding by what lies inside. */

import { pad } from '@otimes/core';
import fc from 'fast-check';
import { shape } from '../arbitraries/tensor.ts';
import { build } from '../helpers/dense.ts';
import { type OpEntry, rearrangement } from './opEntry.ts';

/** Where the element in a place beyond an axis of n comes from. */
const sources = {
  reflect: (i: number, n: number) => (i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i),
  replicate: (i: number, n: number) => Math.min(Math.max(i, 0), n - 1),
  circular: (i: number, n: number) => (i + n) % n,
};

export const padEntries: readonly OpEntry[] = (['reflect', 'replicate', 'circular'] as const).map(mode =>
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
