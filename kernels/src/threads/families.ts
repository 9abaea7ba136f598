/**
 * How a call of each kernel is cut into calls of itself with the same bits: only along axes where every element of a piece is
 * computed as in the whole. What has no such axis, or adds up across it, is not listed and runs on one thread:
 * `crossEntropy`, `squaredError`, `syrk`, `patchGram`, extrema over the first axis.
 */

import type { Element } from '../elementwise.ts';

/** Pieces a thread, at most: so that who comes late, or is held up, leaves its share to others. */
export const PER_THREAD = 4;

/** Arguments that are addresses, and the bytes by which they move for each unit of the axis that is cut. */
type Steps = Readonly<Record<number, number>>;

export type Cut = {
  /** The argument that counts what is cut. */
  readonly axis: number;
  readonly steps: Steps;
  /** Pieces are multiples of it, but for the last. */
  readonly unit?: number;
  /** What the last piece has at least. */
  readonly smallest?: number;
  /** Pieces at most. */
  readonly most?: number;
  /** Which argument is the scratch. */
  readonly scratch?: number;
  /** An argument that takes where the piece begins; `axis` then takes where it ends, not how long it is. */
  readonly from?: number;
  /** Arguments with values of their own in pieces. */
  readonly also?: Readonly<Record<number, number>>;
};

type Sharing = {
  /** Arguments of a call. */
  readonly arity: number;
  /** Nanoseconds that it takes one thread, by its first four arguments; for products m, n, k and the batch. */
  time(...x: number[]): number;
  /** Null for a call that must stay whole. */
  cut(x: readonly number[]): Cut | null;
};

type Family = (
  types: readonly Element[],
  o: {
    /** Elements that pieces are multiples of. */
    readonly line: number;
    readonly threads: number;
  },
) => Sharing;

const SIZE: Readonly<Record<Element, number>> = { f32: 4, f64: 8, i32: 4, bool: 1 };
const size = ([type]: readonly Element[]): number => SIZE[type!];
/** Addresses that move alike. */
const each = (at: readonly number[], bytes: number): Steps => Object.fromEntries(at.map(a => [a, bytes]));

/**
 * Nanoseconds of an element on one thread, or of a multiplication of a product, by what the variant `relaxed` takes for
 * 65,536 float32 on one core of 2.6 GHz; of a class the typical one. They decide only which calls are cut.
 */
const COST = {
  light: 0.15,
  middling: 1.3,
  heavy: 3,
  pow: 16,
  fill: 0.08,
  copy: 0.15,
  where: 0.44,
  moments: 0.67,
  sgd: 0.42,
  sum: 0.16,
  extreme: 0.4,
  arg: 0.65,
  softmax: 2,
  softmaxBackward: 0.55,
  stats: 0.4,
  norm: 0.9,
  gather: 1.5,
  pool: 0.7,
  patches: 1.5,
  product: 0.023,
  convolution: 0.03,
} as const;

// --- elementwise ------------------------------------------------------------------------------------------------------

/** (n, …) with operands at the arguments `at`; the last one is of type `to` if that is given. */
const ranges =
  (arity: number, at: readonly number[], cost: number, to?: Element): Family =>
  (types, { line: unit }) => {
    const steps = { ...each(at, size(types)), ...each(at.slice(-1), to === undefined ? size(types) : SIZE[to]) };
    return { arity, time: n => n! * cost, cut: () => ({ axis: 0, steps, unit }) };
  };

/** (rows, cols, …): by rows, or one row by columns. `steps` tells the addresses' strides along rows (0) and columns (1). */
const matrix = (
  arity: number,
  cost: number,
  unit: number,
  steps: (x: readonly number[], along: 0 | 1) => Steps,
): Sharing => ({
  arity,
  time: (rows, cols) => rows! * cols! * cost,
  cut: x => (x[0] === 1 ? { axis: 1, unit, steps: steps(x, 1) } : { axis: 0, steps: steps(x, 0) }),
});

const binary =
  (cost: number, to?: Element): Family =>
  (types, { line }) => {
    const [bytes, out] = [size(types), to === undefined ? size(types) : SIZE[to]];
    return matrix(9, cost, line, (x, along) => ({
      2: x[3 + along]! * bytes,
      5: x[6 + along]! * bytes,
      8: (along ? 1 : x[1]!) * out,
    }));
  };

const where: Family = (types, { line }) => {
  const bytes = size(types);
  return matrix(12, COST.where, line, (x, along) => ({
    2: x[3 + along]!,
    5: x[6 + along]! * bytes,
    8: x[9 + along]! * bytes,
    11: (along ? 1 : x[1]!) * bytes,
  }));
};

const copy: Family = ([from, to], { line }) => ({
  arity: 8,
  time: (rows, cols) => rows! * cols! * COST.copy,
  cut([rows, cols, , x0, x1, , o0, o1]) {
    const [bytes, out] = [SIZE[from!], SIZE[to!]];
    // Along the axis in which the result lies farther apart. What lies in one place is written in order, by one thread.
    const byRows = rows! > 1 && (Math.abs(o0!) >= Math.abs(o1!) || cols === 1);
    const [axis, x, o] = byRows ? [0, x0!, o0!] : [1, x1!, o1!];
    const unit = byRows && x !== 1 ? 1 : line;
    return o === 0
      ? null
      : {
          axis,
          unit,
          steps: { 2: x * bytes, 5: o * out },
        };
  },
});

/** In place: y may not lie in one place. */
const addScaled: Family = (types, { line }) => {
  const bytes = size(types);
  const all = matrix(10, COST.light, line, (x, along) => ({ 2: x[3 + along]! * bytes, 5: x[6 + along]! * bytes }));
  return { ...all, cut: x => (x[x[0] === 1 ? 4 : 3] === 0 ? null : all.cut(x)) };
};

const scale: Family = (types, { line }) => {
  const bytes = size(types);
  const all = matrix(6, COST.light, line, (x, along) => ({ 2: x[3 + along]! * bytes }));
  return { ...all, cut: x => (x[x[0] === 1 ? 4 : 3] === 0 ? null : all.cut(x)) };
};

// --- rows, reductions, channels ---------------------------------------------------------------------------------------

/**
 * (rows, cols, …): `whole` are the addresses of rows, `single` those of one element for each row, `double` those of one
 * float64.
 */
const rowwise =
  (
    arity: number,
    cost: number,
    whole: readonly number[],
    single: readonly number[] = [],
    double: readonly number[] = [],
  ): Family =>
  types => ({
    arity,
    time: (rows, cols) => rows! * cols! * cost,
    cut: ([, cols]) => ({
      axis: 0,
      steps: { ...each(whole, cols! * size(types)), ...each(single, size(types)), ...each(double, 8) },
    }),
  });

const crossEntropyBackward: Family = types => ({
  arity: 7,
  time: (rows, cols) => rows! * cols! * COST.middling,
  cut: ([, cols]) => ({
    axis: 0,
    steps: { 2: cols! * size(types), 3: 4, 4: 2 * size(types), 6: cols! * size(types) },
  }),
});

const layerNormWeights: Family = (types, { line: unit }) => ({
  arity: 10,
  time: (rows, cols) => rows! * cols! * COST.norm,
  cut: ([, cols, , , , , , , , step]) =>
    step ? null : { axis: 1, unit, steps: each([2, 3, 7, 8], size(types)), also: { 9: cols! } },
});

const extreme =
  (cost: number, to?: Element): Family =>
  types => ({
    arity: 5,
    time: (outer, length, inner) => outer! * length! * inner! * cost,
    cut: ([, length, inner]) => ({
      axis: 0,
      steps: { 3: length! * inner! * size(types), 4: inner! * (to === undefined ? size(types) : SIZE[to]) },
    }),
  });

const sum: Family = (types, { line: unit }) => ({
  arity: 6,
  time: (outer, length, inner) => outer! * length! * inner! * COST.sum,
  cut([outer, length, inner, , , step]) {
    const bytes = size(types);
    if (step || (outer === 1 && inner === 1)) return null;
    // Over the first axis: by columns.
    if (outer === 1)
      return {
        axis: 2,
        unit,
        steps: { 3: bytes, 4: bytes },
        also: { 5: inner! },
      };
    return {
      axis: 0,
      steps: { 3: length! * inner! * bytes, 4: inner! * bytes },
      also: { 5: 0 },
    };
  },
});

/**
 * (outer, channels, inner, …) by channels: `planes` are the addresses of images, `single` those of one element a channel,
 * `double` those of one float64.
 */
const channels =
  (
    arity: number,
    cost: number,
    planes: readonly number[],
    single: readonly number[],
    double: readonly number[] = [],
  ): Family =>
  types => ({
    arity,
    time: (outer, count, inner) => outer! * count! * inner! * cost,
    cut: x =>
      x[arity - 1]
        ? null
        : {
            axis: 1,
            steps: { ...each(planes, x[2]! * size(types)), ...each(single, size(types)), ...each(double, 8) },
            also: { [arity - 1]: x[1]! * x[2]! },
          },
  });

const batchNorm: Family = types => ({
  arity: 10,
  time: (outer, count, inner) => outer! * count! * inner! * COST.light,
  cut: ([, count, inner]) => ({ axis: 0, steps: each([3, 9], count! * inner! * size(types)) }),
});

/** `add` for the kernels that add to their result, whose places in one `outer` index anything may hit. */
const indexed =
  (elementwise: boolean, add: boolean): Family =>
  (types, { line }) => ({
    arity: 7,
    time: (outer, _, inner, count) => outer! * count! * inner! * (elementwise ? COST.gather : COST.copy),
    cut([outer, length, inner, count]) {
      const [full, part] = [length! * inner! * size(types), count! * inner! * size(types)];
      const index = elementwise ? count! * inner! * 4 : 0;
      if (outer! > 1 || add)
        return {
          axis: 0,
          steps: { 4: add ? part : full, 5: index, 6: add ? full : part },
        };
      const [unit, each] = [Math.ceil(line / inner!), elementwise ? inner! * 4 : 4];
      return {
        axis: 3,
        unit,
        steps: { 5: each, 6: inner! * size(types) },
      };
    },
  });

// --- images -----------------------------------------------------------------------------------------------------------

/** Bytes of an image and of its result, and elements of a patch, by the geometry that convolutions begin with. */
const convSizes = (
  [, c, h, w, o, kh, kw, ho, wo, , , , , , , groups]: readonly number[],
  types: readonly Element[],
) => ({
  image: c! * h! * w! * size(types),
  result: o! * ho! * wo! * size(types),
  plane: ho! * wo! * size(types),
  patch: (c! / groups!) * kh! * kw!,
});

const convolution =
  (
    cut: (x: readonly number[], sizes: ReturnType<typeof convSizes>, o: Parameters<Family>[1], bytes: number) => Cut,
  ): Family =>
  (types, o) => ({
    arity: 20,
    time(...x) {
      const { patch, plane } = convSizes(x, types);
      return x[0]! * x[4]! * plane * patch * (COST.convolution / 4);
    },
    cut: x => (x.length > 20 ? null : { ...cut(x, convSizes(x, types), o, size(types)), scratch: 19 }),
  });

const convForward = convolution((x, { image, result, plane, patch }, { threads, line }, bytes) =>
  // One image alone: by output channels, whose weights are packed six rows at a time.
  x[0] === 1 && x[15] === 1
    ? {
        axis: 4,
        unit: Math.min(line, 6),
        most: threads,
        steps: { 17: patch * bytes, 18: plane },
      }
    : {
        axis: 0,
        steps: { 16: image, 18: result },
      },
);
const convInputGrad = convolution((_, { image, result }) => ({
  axis: 0,
  steps: { 16: result, 18: image },
}));
/** By the elements of a patch, which are the columns of the product: each is summed over the images in order. */
const convWeightGrad = convolution((_, { patch }, { line }) => ({
  axis: 21,
  unit: Math.min(line, 8),
  steps: {},
  from: 20,
  also: { 20: 0, 21: patch },
}));

/** Images to patches, or back if `back`. */
const patches =
  (back: boolean): Family =>
  types => {
    const bytes = ([, c, , , , kh, kw, ho, wo]: readonly number[]) => c! * kh! * kw! * ho! * wo! * size(types);
    return {
      arity: 18,
      time: (...x) => (x[0]! * bytes(x) * COST.patches) / size(types),
      cut(x) {
        const { image } = convSizes(x, types);
        return {
          axis: 0,
          steps: back ? { 16: bytes(x), 17: image } : { 16: image, 17: bytes(x) },
        };
      },
    };
  };

/** (planes, h, w, ho, wo, kh, kw, …): large planes at one argument, small ones at another, of type `to` if given. */
const pool =
  (arity: number, large: number, small: number, to?: Element): Family =>
  types => ({
    arity,
    time: (planes, _h, _w, ho, wo, kh, kw) => planes! * ho! * wo! * kh! * kw! * COST.pool,
    cut: ([, h, w, ho, wo]) => ({
      axis: 0,
      steps: { [large]: h! * w! * size(types), [small]: ho! * wo! * (to === undefined ? size(types) : SIZE[to]) },
    }),
  });

// --- matrix products --------------------------------------------------------------------------------------------------

/** Rows or columns of a product that give a worker enough between two packings of the other operand. */
const STRIP = 256;
/** Fewer rows or columns are computed another way, see `FEW` in assembly/gemm.ts: a piece has so few where the whole has. */
const MANY = 13;

const gemm =
  (type: 'f32' | 'f64'): Family =>
  (_, { line, threads }) => {
    const bytes = SIZE[type];
    const block = 6; // MR in assembly/blocks.mjs
    return {
      arity: 19,
      time: (m, n, k, batch) => (m! * n! * k! * batch! * COST.product * bytes) / 4,
      cut([m, n, , , ar, , , , bc, , cr, , , , batch, aBatch, bBatch, cBatch]) {
        // Products in one place add up in order.
        if (batch! >= 2 * threads && cBatch !== 0)
          return {
            axis: 14,
            scratch: 18,
            steps: { 3: aBatch! * bytes, 6: bBatch! * bytes, 9: cBatch! * bytes },
          };
        // Each piece packs all of the operand that is not cut: let that be the smaller one.
        const byRows = n === 1 || (m! >= MANY && m! >= n!);
        // As many for each thread, or some wait for the others: three for two threads take as long as four.
        const each = Math.min(PER_THREAD, Math.floor((byRows ? m! : n!) / STRIP / threads));
        const most = threads * Math.max(1, each);
        const same = { scratch: 18, most, smallest: byRows || m! >= MANY ? MANY : 2 };
        return byRows
          ? {
              ...same,
              axis: 0,
              unit: Math.min(line, block),
              steps: { 3: ar! * bytes, 9: cr! * bytes },
            }
          : {
              ...same,
              axis: 1,
              unit: Math.min(line, 64 / bytes),
              steps: { 6: bc! * bytes, 9: bytes, 11: bytes },
            };
      },
    };
  };

// --- all of them ------------------------------------------------------------------------------------------------------

const named = (names: string, family: Family): [string, Family][] => names.split(' ').map(name => [name, family]);

/** By the name of an export without its types. */
export const FAMILIES: ReadonlyMap<string, Family> = new Map([
  ...named('neg abs sign square relu sqrt reciprocal floor ceil round', ranges(3, [1, 2], COST.light)),
  ...named('exp expm1 log log1p tanh sigmoid', ranges(3, [1, 2], COST.middling)),
  ...named('sin cos erf gelu geluTanh', ranges(3, [1, 2], COST.heavy)),
  ...named('not isNaN isFinite', ranges(3, [1, 2], COST.light, 'bool')),
  ...named('reluBackward tanhBackward sigmoidBackward', ranges(4, [1, 2, 3], COST.light)),
  ...named('geluBackward geluTanhBackward', ranges(4, [1, 2, 3], COST.heavy)),
  ...named('squaredErrorBackward', ranges(5, [1, 2, 4], COST.light)),
  ...named('fill', ranges(3, [2], COST.fill)),
  ...named('moments', ranges(11, [1, 2, 3, 4, 10], COST.moments)),
  ...named('adam', ranges(12, [1, 2, 3, 9], COST.moments)),
  ...named('sgd', ranges(9, [1, 2, 3], COST.sgd)),
  ...named('add sub mul maximum minimum div and or', binary(COST.light)),
  ...named('pow', binary(COST.pow)),
  ...named('eq ne lt le gt ge', binary(COST.light, 'bool')),
  ...named('where', where),
  ...named('copy', copy),
  ...named('addScaled', addScaled),
  ...named('addcdiv', ranges(6, [1, 2, 3], COST.light)),
  ...named('scale', scale),
  ...named('softmax logSoftmax', rowwise(4, COST.softmax, [2, 3])),
  ...named('softmaxBackward logSoftmaxBackward', rowwise(5, COST.softmaxBackward, [2, 3, 4])),
  ...named('norm', rowwise(4, COST.sum, [2], [3])),
  ...named('layerNorm', rowwise(9, COST.norm, [2, 6], [], [7, 8])),
  ...named('layerNormBackward', rowwise(9, COST.norm, [2, 3, 8], [], [6, 7])),
  ...named('crossEntropyBackward', crossEntropyBackward),
  ...named('layerNormWeights', layerNormWeights),
  ...named('sum', sum),
  ...named('max min', extreme(COST.extreme)),
  ...named('argmax argmin', extreme(COST.arg, 'i32')),
  ...named('sumChannels', channels(6, COST.sum, [3], [4])),
  ...named('batchStats', channels(7, COST.stats, [3], [], [4, 5])),
  ...named('batchNormBackward', channels(14, COST.norm, [3, 4, 10], [8, 11, 12], [5, 6])),
  ...named('batchNorm', batchNorm),
  ...named('indexSelect', indexed(false, false)),
  ...named('indexAdd', indexed(false, true)),
  ...named('gather', indexed(true, false)),
  ...named('scatterAdd', indexed(true, true)),
  ...named('convForward', convForward),
  ...named('convInputGrad', convInputGrad),
  ...named('convWeightGrad', convWeightGrad),
  ...named('unfold', patches(false)),
  ...named('fold', patches(true)),
  ...named('maxPoolIndex', pool(13, 11, 12, 'i32')),
  ...named('avgPool', pool(14, 12, 13)),
  ...named('avgPoolGrad', pool(14, 13, 12)),
  ...named('sgemm', gemm('f32')),
  ...named('dgemm', gemm('f64')),
]);
