/** Entries of the list in `ops.ts` for normalisation and fused operations. */

import {
  attention,
  batchNorm,
  grad,
  gram,
  groupNorm,
  labelCrossEntropy,
  layerNorm,
  linear,
  promote,
  squaredError,
  type Tensor,
  tensor,
} from '@otimes/core';
import fc from 'fast-check';
import { integers, length, real, shape } from '../arbitraries/tensor.ts';
import { build, type Dense, type Index, indices } from '../helpers/dense.ts';
import { type OpEntry, sum, type Use } from './opEntry.ts';
import { windowEntries } from './opsWindows.ts';

const floats = { dtypes: ['float32', 'float64'] } as const;

/** The inputs in their common dtype, as leaves that require gradients. */
function leaves(...x: Tensor[]): Tensor[] {
  const dtype = x.map(t => t.dtype).reduce(promote);
  return x.map(t => {
    const leaf = t.astype(dtype).detach();
    leaf.requiresGrad = true;
    return leaf;
  });
}

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

/** Which positions a mask shows: all, those so far, or some, among them the first. */
const MASKS: Record<string, (b: number, i: number, j: number) => boolean> = {
  none: () => true,
  causal: (_, i, j) => j <= i,
  scattered: (_, i, j) => j === 0 || (7 * i + 3 * j) % 5 > 1,
  'of each': (b, i, j) => j === 0 || (i + j + b) % 3 > 0,
};

const attentions: OpEntry = {
  name: 'attention',
  ...floats,
  use: fc
    .tuple(
      fc.record({ batch: length({ maxLength: 2 }), t: length({ maxLength: 4 }), s: length({ maxLength: 4 }) }),
      fc.constantFrom(1, 2),
      fc.constantFrom(1, 2, 3),
      fc.constantFrom(...Object.keys(MASKS)),
    )
    .map(([{ batch, t, s }, heads, d, mask]) => {
      const shows = MASKS[mask]!;
      const masks = indices(mask === 'of each' ? [batch, t, s] : [1, t, s]).map(([b, i, j]) => shows(b!, i!, j!));
      const shape = mask === 'of each' ? [batch, t, s] : [t, s];
      const run = (q: Tensor, k: Tensor, v: Tensor) => {
        const { device } = q;
        const given = mask === 'none' ? null : tensor(Uint8Array.from(masks, Number), { shape, dtype: 'bool', device });
        return attention(q, k, v, heads, given);
      };
      const naive = (q: Dense, k: Dense, v: Dense) =>
        build([batch, t, heads * d], ([b, i, at]) => {
          const first = at! - (at! % d);
          const seen = indices([s]).flatMap(([j]) => (shows(b!, i!, j!) ? [j!] : []));
          const powers = seen.map(j => {
            const products = indices([d]).map(([c]) => q.at([b!, i!, first + c!]) * k.at([b!, j, first + c!]));
            return Math.exp(sum(products) / Math.sqrt(d));
          });
          return sum(seen.map((j, n) => (powers[n]! / sum(powers)) * v.at([b!, j, at!])));
        });
      const like = (n: number) => ({ shape: [batch, n, heads * d], domain: real });
      return { inputs: [like(t), like(s), like(s)], run, naive };
    }),
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
  ...windowEntries,
  ...normalisation('layerNorm', layers),
  ...normalisation('batchNorm', batches),
  ...normalisation('groupNorm', grouped),
  linears,
  attentions,
  grams,
  ...slopes,
  ...losses,
];
