/** Entries of the list in `ops.ts` for pooling along one and three axes, and to a given size. */

import {
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveMaxPool1d,
  adaptiveMaxPool2d,
  avgPool1d,
  avgPool3d,
  maxPool1d,
  maxPool3d,
  type Tensor,
} from '@otimes/core';
import fc from 'fast-check';
import { type Domain, distinct, length, real } from '../arbitraries/tensor.ts';
import { build } from '../helpers/dense.ts';
import { type OpEntry, sum, type Use } from './opEntry.ts';

const floats = { dtypes: ['float32', 'float64'] } as const;
const mean = (values: number[]) => sum(values) / values.length;
const largest = (values: number[]) => Math.max(...values);

/** Positions of each result along an axis; null in the padding. */
type Places = (number | null)[][];
type Axis = { kernel: number; stride: number; padding: number; size: number; places: Places };

const windows: fc.Arbitrary<Axis> = fc
  .tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 }), fc.nat(1), fc.nat(2))
  .map(([kernel, stride, p, extra]) => {
    const padding = Math.min(p, Math.floor(kernel / 2));
    const size = Math.max(1, kernel - 2 * padding) + extra;
    const count = Math.floor((size + 2 * padding - kernel) / stride) + 1;
    const places = Array.from({ length: count }, (_, i) =>
      Array.from({ length: kernel }, (_, k) => i * stride + k - padding).map(at => (at >= 0 && at < size ? at : null)),
    );
    return { kernel, stride, padding, size, places };
  });

/** All combinations of one of each list. */
const combined = (lists: readonly (number | null)[][]): (number | null)[][] =>
  lists.reduce<(number | null)[][]>((all, list) => all.flatMap(one => list.map(next => [...one, next])), [[]]);

/** The values that the result at an index is of: null in the padding. */
const seen = (x: Parameters<Use['naive']>[0], at: readonly number[], places: readonly Places[]) =>
  combined(places.map((axis, i) => axis[at[i + 2]!]!)).map(one =>
    one.includes(null) ? null : x.at([at[0]!, at[1]!, ...(one as number[])]),
  );

function pool(
  name: string,
  axes: number,
  domain: Domain,
  run: (x: Tensor, kernel: never, o: never) => Tensor,
  f: (values: (number | null)[]) => number,
  more: object = {},
): OpEntry {
  const use = fc
    .tuple(fc.array(windows, { minLength: axes, maxLength: axes }), length({ maxLength: 2 }), fc.constantFrom(1, 2))
    .map(([drawn, images, channels]): Use => {
      const each = (key: 'kernel' | 'stride' | 'padding') => drawn.map(axis => axis[key]);
      const places = drawn.map(axis => axis.places);
      const o = { stride: each('stride'), padding: each('padding'), ...more };
      return {
        inputs: [{ shape: [images, channels, ...drawn.map(axis => axis.size)], domain }],
        run: x => run(x, each('kernel') as never, o as never),
        naive: x => build([images, channels, ...places.map(p => p.length)], at => f(seen(x, at, places))),
      };
    });
  return { name, ...floats, use };
}

/** The bins by the definition: from ⌊i · size / to⌋ up to ⌈(i + 1) · size / to⌉. */
const bins = (size: number, to: number): Places =>
  Array.from({ length: to }, (_, i) => {
    const [from, end] = [Math.floor((i * size) / to), Math.ceil(((i + 1) * size) / to)];
    return Array.from({ length: end - from }, (_, k) => from + k);
  });

function adaptive(
  name: string,
  axes: number,
  domain: Domain,
  run: (x: Tensor, size: never) => Tensor,
  f: (values: number[]) => number,
): OpEntry {
  const size = fc.integer({ min: 1, max: 5 });
  const sizes = fc.array(size, { minLength: axes, maxLength: axes });
  const targets = fc.array(fc.option(size), { minLength: axes, maxLength: axes });
  const use = fc
    .tuple(sizes, targets, length({ maxLength: 2 }), fc.constantFrom(1, 2))
    .map(([from, to, images, channels]): Use => {
      const places = from.map((n, i) => bins(n, to[i] ?? n));
      return {
        inputs: [{ shape: [images, channels, ...from], domain }],
        run: x => run(x, to as never),
        naive: x => build([images, channels, ...places.map(p => p.length)], at => f(seen(x, at, places) as number[])),
      };
    });
  return { name, ...floats, use };
}

const inside = (values: (number | null)[]) => values.filter(value => value !== null);
const ofAll = (values: (number | null)[]) => sum(inside(values)) / values.length;
const ofInside = (values: (number | null)[]) => mean(inside(values));

export const poolEntries: readonly OpEntry[] = [
  pool('maxPool1d', 1, distinct, maxPool1d, values => largest(inside(values))),
  pool('maxPool3d', 3, distinct, maxPool3d, values => largest(inside(values))),
  pool('avgPool1d', 1, real, avgPool1d, ofAll),
  pool('avgPool1d, the padding left out', 1, real, avgPool1d, ofInside, { countIncludePad: false }),
  pool('avgPool3d', 3, real, avgPool3d, ofAll),
  pool('avgPool3d, the padding left out', 3, real, avgPool3d, ofInside, { countIncludePad: false }),
  adaptive('adaptiveAvgPool1d', 1, real, adaptiveAvgPool1d, mean),
  adaptive('adaptiveAvgPool2d', 2, real, adaptiveAvgPool2d, mean),
  adaptive('adaptiveMaxPool1d', 1, distinct, adaptiveMaxPool1d, largest),
  adaptive('adaptiveMaxPool2d', 2, distinct, adaptiveMaxPool2d, largest),
];
