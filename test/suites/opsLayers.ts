/** Entries of the list in `ops.ts` for the operations of layers: convolution, pooling and normalisation. */

import {
  avgPool2d,
  batchNorm,
  conv2d,
  fold,
  globalAvgPool2d,
  grad,
  gram,
  groupNorm,
  labelCrossEntropy,
  layerNorm,
  linear,
  maxPool2d,
  patchGram,
  promote,
  squaredError,
  type Tensor,
  unfold,
  zeros,
} from '@otimes/core';
import fc from 'fast-check';
import { distinct, integers, length, real, shape } from '../arbitraries/tensor.ts';
import { build, type Dense, type Index, indices } from '../helpers/dense.ts';
import type { OpEntry, Use } from './ops.ts';

const floats = { dtypes: ['float32', 'float64'] } as const;
const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

/** The inputs in their common dtype, as leaves that require gradients. */
function leaves(...x: Tensor[]): Tensor[] {
  const dtype = x.map(t => t.dtype).reduce(promote);
  return x.map(t => {
    const leaf = t.astype(dtype).detach();
    leaf.requiresGrad = true;
    return leaf;
  });
}

const blank = (s: readonly number[], like: Tensor): Tensor =>
  zeros(s, { dtype: like.dtype, device: like.device, requiresGrad: true });

// --- windows --------------------------------------------------------------------------------------------------------

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

// --- normalisation --------------------------------------------------------------------------------------------------

/** Large, so that second derivatives stay moderate where the variance is 0. */
const EPS = 0.5;

/** How a normalisation sees x: which elements belong together, and which element of the weight each one takes. */
type View = { x: number[]; w: number[]; group(index: Index): string; weight(index: Index): Index };

/** x̂ and √(variance + ε), element by element. */
function standardized(x: Dense, { group }: View): { normal: Dense; deviation: Dense } {
  const groups = new Map<string, number[]>();
  for (const index of indices(x.shape)) groups.set(group(index), [...(groups.get(group(index)) ?? []), x.at(index)]);
  const moments = new Map(
    [...groups].map(([key, values]) => {
      const mean = sum(values) / values.length;
      const variance = sum(values.map(v => (v - mean) ** 2)) / values.length;
      return [key, { mean, deviation: Math.sqrt(variance + EPS) }];
    }),
  );
  const of = (index: Index) => moments.get(group(index))!;
  return {
    normal: build(x.shape, index => (x.at(index) - of(index).mean) / of(index).deviation),
    deviation: build(x.shape, index => of(index).deviation),
  };
}

/** The mean over the group of each element. */
function groupMeans(x: Dense, view: View): Dense {
  const all = indices(x.shape);
  return build(x.shape, index => {
    const values = all.filter(other => view.group(other) === view.group(index)).map(other => x.at(other));
    return sum(values) / values.length;
  });
}

type Normalise = (x: Tensor, weight: Tensor, bias: Tensor | null) => Tensor;

/** A normalisation with and without bias, and its two gradients, which backends compute by kernels of their own. */
function normalisation(name: string, views: fc.Arbitrary<View & { run: Normalise }>): OpEntry[] {
  const input = (s: number[]) => ({ shape: s, domain: real });
  /** By `grad` without a graph of its own: with one, the gradients are composed of other operations. */
  const gradient = (of: 0 | 1, { x, w, run }: View & { run: Normalise }): Pick<Use, 'inputs' | 'run'> => ({
    inputs: [input(x), input(x), input(w)],
    run: (...operands) => {
      const [gy, xs, ws] = leaves(...operands);
      return grad(run(xs!, ws!, null), [[xs!, ws!][of]!], { gy: gy!.detach() })[0]!;
    },
  });
  return [
    {
      name,
      ...floats,
      use: fc.tuple(views, fc.boolean()).map(([view, biased]) => ({
        inputs: [input(view.x), input(view.w), ...(biased ? [input(view.w)] : [])],
        run: (x, w, b) => view.run(x, w, b ?? null),
        naive: (x, w, b) => {
          const { normal } = standardized(x, view);
          return build(x.shape, index => {
            const at = view.weight(index);
            return normal.at(index) * w.at(at) + (b?.at(at) ?? 0);
          });
        },
      })),
    },
    {
      name: `${name}: the gradient of the input`,
      ...floats,
      differentiable: false,
      use: views.map(view => ({
        ...gradient(0, view),
        naive: (gy, x, w) => {
          const { normal, deviation } = standardized(x, view);
          const g = build(x.shape, index => gy.at(index) * w.at(view.weight(index)));
          const means = groupMeans(g, view);
          const along = groupMeans(
            build(x.shape, index => g.at(index) * normal.at(index)),
            view,
          );
          return build(
            x.shape,
            index => (g.at(index) - means.at(index) - normal.at(index) * along.at(index)) / deviation.at(index),
          );
        },
      })),
    },
    {
      name: `${name}: the gradient of the weight`,
      ...floats,
      differentiable: false,
      use: views.map(view => ({
        ...gradient(1, view),
        naive: (gy, x) => {
          const { normal } = standardized(x, view);
          const all = indices(x.shape);
          return build(view.w, at =>
            sum(
              all
                .filter(index => view.weight(index).join() === at.join())
                .map(index => gy.at(index) * normal.at(index)),
            ),
          );
        },
      })),
    },
  ];
}

const layers = fc
  .tuple(shape({ maxRank: 2 }), shape({ minRank: 1, maxRank: 2, minLength: 1, maxLength: 3 }))
  .map(([lead, w]): View & { run: Normalise } => ({
    x: [...lead, ...w],
    w,
    group: index => index.slice(0, lead.length).join(),
    weight: index => index.slice(lead.length),
    run: (x, weight, bias) => layerNorm(x, weight, bias, EPS),
  }));

const batches = fc
  .tuple(
    length({ minLength: 1, maxLength: 3 }),
    length({ minLength: 1, maxLength: 3 }),
    shape({ minRank: 0, maxRank: 2, minLength: 1, maxLength: 3 }),
  )
  .filter(([n, , rest]) => n * rest.reduce((a, b) => a * b, 1) > 1)
  .map(([n, c, rest]): View & { run: Normalise } => ({
    x: [n, c, ...rest],
    w: [c],
    group: index => String(index[1]),
    weight: index => [index[1]!],
    run: (x, weight, bias) => batchNorm(x, weight, bias, EPS).y,
  }));

const grouped = fc
  .tuple(
    length({ maxLength: 2 }),
    fc.constantFrom(1, 2),
    fc.constantFrom(1, 2, 3),
    shape({ maxRank: 2, minLength: 1, maxLength: 2 }),
  )
  .map(([n, groups, share, rest]): View & { run: Normalise } => ({
    x: [n, groups * share, ...rest],
    w: [groups * share],
    group: index => `${index[0]} ${Math.floor(index[1]! / share)}`,
    weight: index => [index[1]!],
    run: (x, weight, bias) => groupNorm(x, groups, weight, bias, EPS),
  }));

// --- fused operations -----------------------------------------------------------------------------------------------

const linears: OpEntry = {
  name: 'linear',
  ...floats,
  use: fc
    .tuple(shape({ maxLength: 2 }), length({ maxLength: 4 }), length({ maxLength: 4 }), fc.boolean())
    .map(([lead, inputs, outputs, biased]) => ({
      inputs: [
        { shape: [...lead, inputs], domain: real },
        { shape: [outputs, inputs], domain: real },
        ...(biased ? [{ shape: [outputs], domain: real }] : []),
      ],
      run: (x, w, b) => linear(x, w, b ?? null),
      naive: (x, w, b) =>
        build([...lead, outputs], index => {
          const row = indices([inputs]).map(([k]) => x.at([...index.slice(0, -1), k!]) * w.at([index.at(-1)!, k!]));
          return sum(row) + (b?.at([index.at(-1)!]) ?? 0);
        }),
    })),
};

const grams: OpEntry = {
  name: 'gram',
  ...floats,
  use: fc.tuple(shape({ maxRank: 1 }), length({ maxLength: 5 }), length({ maxLength: 5 })).map(([lead, m, n]) => ({
    inputs: [{ shape: [...lead, m, n], domain: real }],
    run: gram,
    naive: x => build([n, n], ([i, j]) => sum(indices([...lead, m]).map(k => x.at([...k, i!]) * x.at([...k, j!])))),
  })),
};

const SLOPES: Record<string, (x: number) => number> = {
  relu: x => Number(x > 0),
  tanh: x => 1 - Math.tanh(x) ** 2,
  sigmoid: x => 1 / (2 + Math.exp(x) + Math.exp(-x)),
};

/** The gradients of activations are kernels of their own where they are not differentiated again. */
const slopes: OpEntry[] = Object.entries(SLOPES).map(([name, slope]) => ({
  name: `${name}: the gradient`,
  ...floats,
  differentiable: false,
  use: shape().map(s => ({
    inputs: [
      { shape: s, domain: real },
      { shape: s, domain: real },
    ],
    run: (...operands) => {
      const [gy, x] = leaves(...operands);
      const y = x![name as 'relu' | 'tanh' | 'sigmoid']();
      return grad(y, [x!], { gy: gy!.detach() })[0]!;
    },
    naive: (gy, x) => build(s, index => gy.at(index) * slope(x.at(index))),
  })),
}));

const logits = fc
  .tuple(length({ maxLength: 4 }), fc.integer({ min: 1, max: 5 }), fc.constantFrom(1, 0.25))
  .map(([rows, classes, scale]) => ({
    scale,
    x: [rows, classes],
    inputs: [
      { shape: [rows, classes], domain: real },
      { shape: [rows], domain: integers(0, classes), dtype: 'int32' as const },
    ],
  }));

/** softmax(x) of a row. */
function probabilities(x: Dense, row: number): number[] {
  const powers = indices([x.shape[1]!]).map(([c]) => Math.exp(x.at([row, c!])));
  return powers.map(p => p / sum(powers));
}

const losses: OpEntry[] = [
  {
    name: 'labelCrossEntropy',
    ...floats,
    use: logits.map(({ x: [rows], inputs, scale }) => ({
      inputs,
      run: (x, labels) => labelCrossEntropy(x, labels, scale),
      naive: (x, labels) =>
        build([], () => scale * sum(indices([rows!]).map(([r]) => -Math.log(probabilities(x, r!)[labels.at([r!])]!)))),
    })),
  },
  {
    name: 'labelCrossEntropy: the gradient',
    ...floats,
    differentiable: false,
    use: logits.map(({ x: s, inputs, scale }) => ({
      inputs,
      run: (x, labels) => {
        const [leaf] = leaves(x);
        return grad(labelCrossEntropy(leaf!, labels, scale).mul(3), [leaf!])[0]!;
      },
      naive: (x, labels) =>
        build(s, ([r, c]) => 3 * scale * (probabilities(x, r!)[c!]! - Number(labels.at([r!]) === c))),
    })),
  },
  {
    name: 'squaredError',
    ...floats,
    use: fc.tuple(shape(), fc.constantFrom(1, 0.25)).map(([s, scale]) => ({
      inputs: [
        { shape: s, domain: real },
        { shape: s, domain: real },
      ],
      run: (a, b) => {
        const dtype = promote(a.dtype, b.dtype);
        return squaredError(a.astype(dtype), b.astype(dtype), scale);
      },
      naive: (a, b) => build([], () => scale * sum(indices(s).map(index => (a.at(index) - b.at(index)) ** 2))),
    })),
  },
];

export const layerEntries: readonly OpEntry[] = [
  ...convolutions,
  ...patches,
  ...pools,
  ...normalisation('layerNorm', layers),
  ...normalisation('batchNorm', batches),
  ...normalisation('groupNorm', grouped),
  linears,
  grams,
  ...slopes,
  ...losses,
];
