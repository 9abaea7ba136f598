/** Entries of the list in `ops.ts` for operations of windows: convolution, patches and pooling. */

import {
  avgPool2d,
  conv2d,
  fold,
  globalAvgPool2d,
  grad,
  maxPool2d,
  patchGram,
  promote,
  type Tensor,
  unfold,
  zeros,
} from '@otimes/core';
import fc from 'fast-check';
import { distinct, length, real } from '../arbitraries/tensor.ts';
import { build, type Dense, type Index, indices } from '../helpers/dense.ts';
import { type OpEntry, sum, type Use } from './opEntry.ts';

const floats = { dtypes: ['float32', 'float64'] } as const;

const blank = (s: readonly number[], like: Tensor): Tensor =>
  zeros(s, { dtype: like.dtype, device: like.device, requiresGrad: true });

type Axis = { kernel: number; stride: number; padding: number; dilation: number; size: number; count: number };

/** One axis of a window and of a plane into which it fits `count` times, with up to two positions to spare. */
function axisOf(kernels: readonly (readonly [number, number])[], paddings: (kernel: number) => number) {
  return fc
    .tuple(fc.constantFrom(...kernels), fc.integer({ min: 1, max: 3 }), fc.nat(2), fc.nat(2))
    .map(([[kernel, dilation], stride, p, extra]): Axis => {
      const padding = Math.min(p, paddings(kernel));
      const span = dilation * (kernel - 1) + 1;
      const size = Math.max(1, span - 2 * padding + extra);
      return { kernel, stride, padding, dilation, size, count: Math.floor((size + 2 * padding - span) / stride) + 1 };
    });
}

/** [kernel, dilation] of convolutions; of pooling, where the padding is at most half of the kernel. */
const sliding = axisOf(
  [
    [1, 1],
    [2, 1],
    [3, 1],
    [2, 2],
  ],
  () => 2,
);
const pooling = axisOf(
  [
    [1, 1],
    [2, 1],
    [3, 1],
  ],
  kernel => Math.floor(kernel / 2),
);

const pair = <K extends keyof Axis>(rows: Axis, columns: Axis, key: K) => [rows[key], columns[key]] as const;
const poolOptions = (rows: Axis, columns: Axis) => ({
  stride: pair(rows, columns, 'stride'),
  padding: pair(rows, columns, 'padding'),
});
const options = (rows: Axis, columns: Axis) => ({
  ...poolOptions(rows, columns),
  dilation: pair(rows, columns, 'dilation'),
});

/** The input position of a tap, or null in the padding. */
function tap(at: number, k: number, { stride, padding, dilation, size }: Axis): number | null {
  const position = at * stride + k * dilation - padding;
  return position >= 0 && position < size ? position : null;
}

/** A convolution: the axes of its planes, and the shapes of input, weight and output. */
type Geometry = { rows: Axis; columns: Axis; groups: number; x: number[]; w: number[]; y: number[] };

const geometry: fc.Arbitrary<Geometry> = fc
  .tuple(
    sliding,
    sliding,
    length({ maxLength: 2 }),
    fc.constantFrom(1, 1, 2),
    fc.constantFrom(1, 2),
    fc.constantFrom(1, 2),
  )
  .map(([rows, columns, images, groups, share, outputs]) => ({
    rows,
    columns,
    groups,
    x: [images, groups * share, rows.size, columns.size],
    w: [groups * outputs, share, rows.kernel, columns.kernel],
    y: [images, groups * outputs, rows.count, columns.count],
  }));

/** All triples of indices of x, w and y that are multiplied in a convolution. */
function products({ rows, columns, groups, w, y }: Geometry): { x: Index; w: Index; y: Index }[] {
  return indices(y).flatMap(([n, o, i, j]) =>
    indices(w.slice(1)).flatMap(([c, p, q]) => {
      const [row, column] = [tap(i!, p!, rows), tap(j!, q!, columns)];
      if (row === null || column === null) return [];
      const first = Math.floor((o! * groups) / w[0]!) * w[1]!;
      return [{ x: [n!, first + c!, row, column], w: [o!, c!, p!, q!], y: [n!, o!, i!, j!] }];
    }),
  );
}

/** Adds a · b at the index of the third, which has the shape `to`. */
function contract(g: Geometry, a: ['x' | 'w' | 'y', Dense], b: ['x' | 'w' | 'y', Dense], to: 'x' | 'w' | 'y'): Dense {
  const totals = new Map<string, number>();
  for (const product of products(g)) {
    const key = product[to].join();
    totals.set(key, (totals.get(key) ?? 0) + a[1].at(product[a[0]]) * b[1].at(product[b[0]]));
  }
  return build(g[to], index => totals.get(index.join()) ?? 0);
}

function convolution(name: string, use: (g: Geometry, o: Parameters<typeof conv2d>[2]) => Use): OpEntry {
  return { name, ...floats, use: geometry.map(g => use(g, { ...options(g.rows, g.columns), groups: g.groups })) };
}

const convolutions: OpEntry[] = [
  convolution('conv2d', (g, o) => ({
    inputs: [
      { shape: g.x, domain: real },
      { shape: g.w, domain: real },
    ],
    run: (x, w) => conv2d(x, w, o),
    naive: (x, w) => contract(g, ['x', x], ['w', w], 'y'),
  })),
  convolution('conv2d with a bias', (g, o) => ({
    inputs: [
      { shape: g.x, domain: real },
      { shape: g.w, domain: real },
      { shape: [g.w[0]!], domain: real },
    ],
    run: (x, w, bias) => conv2d(x, w, { ...o, bias }),
    naive: (x, w, bias) => {
      const y = contract(g, ['x', x], ['w', w], 'y');
      return build(g.y, index => y.at(index) + bias.at([index[1]!]));
    },
  })),
  convolution('conv2d: the gradient of the input', (g, o) => ({
    inputs: [
      { shape: g.y, domain: real },
      { shape: g.w, domain: real },
    ],
    run: (gy, w) => {
      const x = blank(g.x, gy.astype(promote(gy.dtype, w.dtype)));
      return grad(conv2d(x, w, o), [x], { gy, createGraph: true })[0]!;
    },
    naive: (gy, w) => contract(g, ['y', gy], ['w', w], 'x'),
  })),
  convolution('conv2d: the gradient of the weight', (g, o) => ({
    inputs: [
      { shape: g.x, domain: real },
      { shape: g.y, domain: real },
    ],
    run: (x, gy) => {
      const w = blank(g.w, gy.astype(promote(x.dtype, gy.dtype)));
      return grad(conv2d(x, w, o), [w], { gy, createGraph: true })[0]!;
    },
    naive: (x, gy) => contract(g, ['x', x], ['y', gy], 'w'),
  })),
];

const planes = (axes: fc.Arbitrary<Axis>) =>
  fc.tuple(axes, axes, length({ maxLength: 2 }), fc.constantFrom(1, 2)).map(([rows, columns, images, channels]) => ({
    rows,
    columns,
    x: [images, channels, rows.size, columns.size],
    y: [images, channels, rows.count, columns.count],
    kernel: pair(rows, columns, 'kernel'),
    taps: indices(pair(rows, columns, 'kernel')),
  }));

type Planes = ReturnType<typeof planes> extends fc.Arbitrary<infer P> ? P : never;

/** The values that a window sees at [n, c, i, j], null in the padding. */
function seen({ rows, columns, taps }: Planes, x: Dense, [n, c, i, j]: Index): (number | null)[] {
  return taps.map(([p, q]) => {
    const [row, column] = [tap(i!, p!, rows), tap(j!, q!, columns)];
    return row === null || column === null ? null : x.at([n!, c!, row, column]);
  });
}

const patches: OpEntry[] = [
  {
    name: 'unfold',
    ...floats,
    use: planes(sliding).map(g => ({
      inputs: [{ shape: g.x, domain: real }],
      run: x => unfold(x, g.kernel, options(g.rows, g.columns)),
      naive: x => {
        const [n, c, ho, wo] = g.y as [number, number, number, number];
        return build([n, ho * wo, c * g.taps.length], ([image, position, feature]) => {
          const channel = Math.floor(feature! / g.taps.length);
          const index = [image!, channel, Math.floor(position! / wo), position! % wo];
          return seen(g, x, index)[feature! % g.taps.length] ?? 0;
        });
      },
    })),
  },
  ...[false, true].map(
    (ones): OpEntry => ({
      name: ones ? 'patchGram with ones' : 'patchGram',
      ...floats,
      use: planes(sliding).map(g => ({
        inputs: [{ shape: g.x, domain: real }],
        run: x => patchGram(x, g.kernel, options(g.rows, g.columns), { ones }),
        naive: x => {
          const [n, c, ho, wo] = g.y as [number, number, number, number];
          const all = indices([n, ho, wo]).map(([image, i, j]) => [
            ...indices([c]).flatMap(([channel]) => seen(g, x, [image!, channel!, i!, j!]).map(pixel => pixel ?? 0)),
            ...(ones ? [1] : []),
          ]);
          const size = c * g.taps.length + (ones ? 1 : 0);
          return build([size, size], ([i, j]) => sum(all.map(patch => patch[i!]! * patch[j!]!)));
        },
      })),
    }),
  ),
  {
    name: 'fold',
    ...floats,
    use: planes(sliding).map(g => {
      const [n, c, ho, wo] = g.y as [number, number, number, number];
      return {
        inputs: [{ shape: [n, ho * wo, c * g.taps.length], domain: real }],
        run: x => fold(x, [g.rows.size, g.columns.size], g.kernel, options(g.rows, g.columns)),
        naive: x =>
          build(g.x, ([image, channel, row, column]) =>
            sum(
              indices([ho, wo]).flatMap(([i, j]) =>
                g.taps.map(([p, q], k) =>
                  tap(i!, p!, g.rows) === row && tap(j!, q!, g.columns) === column
                    ? x.at([image!, i! * wo + j!, channel! * g.taps.length + k])
                    : 0,
                ),
              ),
            ),
          ),
      };
    }),
  },
];

const pools: OpEntry[] = [
  {
    name: 'maxPool2d',
    ...floats,
    use: planes(pooling).map(g => ({
      inputs: [{ shape: g.x, domain: distinct }],
      run: x => maxPool2d(x, g.kernel, poolOptions(g.rows, g.columns)),
      naive: x => build(g.y, at => Math.max(...seen(g, x, at).filter(value => value !== null))),
    })),
  },
  {
    name: 'avgPool2d',
    ...floats,
    use: fc.tuple(planes(pooling), fc.boolean()).map(([g, countIncludePad]) => ({
      inputs: [{ shape: g.x, domain: real }],
      run: x => avgPool2d(x, g.kernel, { ...poolOptions(g.rows, g.columns), countIncludePad }),
      naive: x =>
        build(g.y, at => {
          const values = seen(g, x, at);
          const inside = values.filter(value => value !== null);
          return sum(inside) / (countIncludePad ? values : inside).length;
        }),
    })),
  },
  {
    name: 'globalAvgPool2d',
    ...floats,
    use: planes(pooling).map(g => ({
      inputs: [{ shape: g.x, domain: real }],
      run: globalAvgPool2d,
      naive: x =>
        build(g.x.slice(0, 2), ([n, c]) => {
          const values = indices(g.x.slice(2)).map(([i, j]) => x.at([n!, c!, i!, j!]));
          return sum(values) / values.length;
        }),
    })),
  },
];

export const windowEntries: readonly OpEntry[] = [...convolutions, ...patches, ...pools];
