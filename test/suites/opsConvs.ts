/** Entries of the list in `ops.ts` for convolutions along one and three axes, and for transposed ones. */

import { conv1d, conv2d, conv3d, convTranspose1d, convTranspose2d, type Tensor } from '@otimes/core';
import fc from 'fast-check';
import { length, real } from '../arbitraries/tensor.ts';
import { build, type Dense, type Index, indices } from '../helpers/dense.ts';
import type { OpEntry, Use } from './opEntry.ts';

const floats = { dtypes: ['float32', 'float64'] } as const;

/** Along one axis: a kernel, and the sizes of the larger and the smaller side of a convolution. */
type Axis = {
  kernel: number;
  stride: number;
  dilation: number;
  padding: number;
  more: number;
  large: number;
  small: number;
};

/** `small` windows in `large` positions, of which `more` are behind the last window; `more` is below stride or dilation. */
const axisOf = (most: number): fc.Arbitrary<Axis> =>
  fc
    .tuple(
      fc.constantFrom(
        ...([
          [1, 1],
          [2, 1],
          [3, 1],
          [2, 2],
          [2, 3],
        ] as const),
      ),
      fc.integer({ min: 1, max: 3 }),
      fc.nat(2),
      fc.nat(2),
      fc.integer({ min: 1, max: most }),
    )
    .map(([[kernel, dilation], stride, p, behind, least]) => {
      const more = Math.min(behind, Math.max(stride, dilation) - 1);
      const span = dilation * (kernel - 1) + 1;
      // Enough windows for a result of one position at least.
      const room = (small: number) => (small - 1) * stride + span + more - 2 * p;
      let small = least;
      while (room(small) < 1) small++;
      return { kernel, stride, dilation, padding: p, more, small, large: room(small) };
    });

/** The position on the larger side of a tap, or null outside. */
function tap(at: number, k: number, { stride, padding, dilation, large }: Axis): number | null {
  const position = at * stride + k * dilation - padding;
  return position >= 0 && position < large ? position : null;
}

type Geometry = { axes: Axis[]; groups: number; large: number[]; w: number[]; small: number[] };

/** Of a convolution: `large` is its input [N, C, …], `small` its result [N, O, …] and w [O, C/groups, …]. */
const geometry = (rank: number, most: number): fc.Arbitrary<Geometry> =>
  fc
    .tuple(
      fc.tuple(axisOf(2), ...Array.from({ length: rank - 1 }, () => axisOf(most))),
      length({ maxLength: 2 }),
      fc.constantFrom(1, 1, 2),
      fc.constantFrom(1, 2),
      fc.constantFrom(1, 2),
    )
    .map(([axes, images, groups, share, outputs]) => ({
      axes,
      groups,
      large: [images, groups * share, ...axes.map(a => a.large)],
      w: [groups * outputs, share, ...axes.map(a => a.kernel)],
      small: [images, groups * outputs, ...axes.map(a => a.small)],
    }));

/** Calls `visit` for all triples of indices that are multiplied. */
function products({ axes, groups, w, small }: Geometry, visit: (large: Index, w: Index, small: Index) => void): void {
  for (const at of indices(small))
    for (const of of indices(w.slice(1))) {
      const positions = axes.map((axis, i) => tap(at[i + 2]!, of[i + 1]!, axis));
      if (positions.includes(null)) continue;
      const first = Math.floor((at[1]! * groups) / w[0]!) * w[1]!;
      visit([at[0]!, first + of[0]!, ...(positions as number[])], [at[1]!, ...of], at);
    }
}

function added(shape: number[], add: (to: (index: Index, value: number) => void) => void): Dense {
  const totals = new Map<string, number>();
  add((index, value) => totals.set(index.join(), (totals.get(index.join()) ?? 0) + value));
  return build(shape, index => totals.get(index.join()) ?? 0);
}

const each = <K extends keyof Axis>(axes: Axis[], key: K) => axes.map(axis => axis[key]);
const withBias = (y: Dense, bias: Dense) => build(y.shape, index => y.at(index) + bias.at([index[1]!]));

function convolution(
  name: string,
  call: (x: Tensor, w: Tensor, o: never) => Tensor,
  g: fc.Arbitrary<Geometry>,
): OpEntry {
  const use = g.map(({ axes: drawn, ...rest }): Use => {
    // A convolution needs no positions left over, which change nothing.
    const of = { axes: drawn, ...rest };
    const o = {
      stride: each(drawn, 'stride'),
      padding: each(drawn, 'padding'),
      dilation: each(drawn, 'dilation'),
      groups: of.groups,
    };
    // What is behind the last window may hold another one.
    const places = drawn.map(
      a => Math.floor((a.large + 2 * a.padding - a.dilation * (a.kernel - 1) - 1) / a.stride) + 1,
    );
    const whole = { ...of, small: [of.small[0]!, of.small[1]!, ...places] };
    return {
      inputs: [
        { shape: of.large, domain: real },
        { shape: of.w, domain: real },
        { shape: [of.w[0]!], domain: real },
      ],
      run: (x, w, bias) => call(x!, w!, { ...o, bias } as never),
      naive: (x, w, bias) =>
        withBias(
          added(whole.small, to => products(whole, (l, k, s) => to(s, x!.at(l) * w!.at(k)))),
          bias!,
        ),
    };
  });
  return { name, ...floats, use };
}

function transposed(
  name: string,
  call: (x: Tensor, w: Tensor, o: never) => Tensor,
  g: fc.Arbitrary<Geometry>,
): OpEntry {
  const use = g.map((of): Use => {
    const o = {
      stride: each(of.axes, 'stride'),
      padding: each(of.axes, 'padding'),
      dilation: each(of.axes, 'dilation'),
      outputPadding: each(of.axes, 'more'),
      groups: of.groups,
    };
    return {
      inputs: [
        { shape: of.small, domain: real },
        { shape: of.w, domain: real },
        { shape: [of.large[1]!], domain: real },
      ],
      run: (x, w, bias) => call(x!, w!, { ...o, bias } as never),
      naive: (x, w, bias) =>
        withBias(
          added(of.large, to => products(of, (l, k, s) => to(l, x!.at(s) * w!.at(k)))),
          bias!,
        ),
    };
  });
  return { name, ...floats, use };
}

/** The size is kept, and the zeros of an odd number are more at the end. */
const same: OpEntry = {
  name: "conv2d with padding 'same'",
  ...floats,
  use: fc
    .tuple(fc.constantFrom(1, 2, 3, 4), fc.constantFrom(1, 2, 3), fc.constantFrom(1, 2), length({ minLength: 1 }))
    .map(([kh, kw, dilation, size]): Use => {
      const before = [kh, kw].map(k => Math.floor((dilation * (k - 1)) / 2));
      const x = [1, 1, size, size + 1];
      return {
        inputs: [
          { shape: x, domain: real },
          { shape: [1, 1, kh, kw], domain: real },
        ],
        run: (x, w) => conv2d(x!, w!, { padding: 'same', dilation }),
        naive: (x, w) =>
          build(x!.shape, ([n, c, i, j]) =>
            indices([kh, kw])
              .map(([p, q]) => {
                const [row, column] = [i! + p! * dilation - before[0]!, j! + q! * dilation - before[1]!];
                const inside = row >= 0 && row < size && column >= 0 && column <= size;
                return inside ? w!.at([0, 0, p!, q!]) * x!.at([n!, c!, row, column]) : 0;
              })
              .reduce((a, b) => a + b),
          ),
      };
    }),
};

export const convEntries: readonly OpEntry[] = [
  convolution('conv1d', conv1d, geometry(1, 3)),
  convolution('conv3d', conv3d, geometry(3, 1)),
  transposed('convTranspose1d', convTranspose1d, geometry(1, 3)),
  transposed('convTranspose2d', convTranspose2d, geometry(2, 2)),
  same,
];
