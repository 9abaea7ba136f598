/**
 * Normalisation. Rows that lie without gaps, as of layer and group norm, are one kernel, forwards and backwards: threads of a
 * workgroup take the mean, then the variance about it, and write. Otherwise (batch norm) a reduction takes both statistics in one
 * pass, each thread about the first element it meets, joined by Chan et al. (1983), and a second kernel is elementwise.
 */

import type { Operand } from '@otimes/core';
import { meanAxes, mergedAxes, pathTo, sizeOf, weightAxes } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf, temporary } from './context.ts';
import { rowMajor } from './copy.ts';
import { byGpuJs } from './elementwise.ts';
import { led } from './layouts.ts';
import { type Reduction, reduceBy } from './reduction.ts';
import { added, each, gathered, joined, ROW_FIELDS, ROW_TYPES, rowMain, rowPlan } from './rows.ts';
import { constants, FLAT, flatGroups, INDEX, tensor } from './wgsl.ts';

/** Rows longer than this, if there are few of them, are cut by the reduction. */
const LONG = 2 ** 15;

const STATISTICS: Reduction = {
  name: 'mean and variance',
  type: 'vec4<f32>',
  // Count, mean, and the sum of squares about it.
  start: '0.0',
  join: (a, b) => `statistics_(${a}, ${b})`,
  element: 'x',
  gather: {
    declare: 'var n = 0.0; var start = 0.0; var s = vec2<f32>(0.0);',
    add: 'if (n == 0.0) { start = v; } n += 1.0; let d = v - start; s += vec2<f32>(d, d * d);',
    close: `if (n > 0.0) {
      let d = s.x / n;
      acc = vec4<f32>(n, start + d, select(s.y, max_(s.y - d * s.x, 0.0), isfinite_(s.y)), 0.0);
    }`,
  },
  finish: ['sum.y', 'div_(sum.z, sum.x)'],
};

/** How a weight goes over rows: from row % period in steps of `rise`, and from i / inner in the row in steps of `along`. */
type Affine = readonly [period: number, rise: number, inner: number, along: number];

/** The part of a shape before and after the axes that are normalised begin, if those are the last. */
function rowsOf(x: Operand, mean: Operand): { rows: number; length: number; from: number } | null {
  const kept = [...x.shape.keys()].filter(i => mean.shape[i] === x.shape[i] && x.shape[i] !== 1);
  const from = (kept.at(-1) ?? -1) + 1;
  const rows = sizeOf(x.shape.slice(0, from));
  if (rows !== sizeOf(mean.shape)) return null;
  return { rows, length: sizeOf(x.shape.slice(from)), from };
}

/** Null where the weight goes over rows in other ways. */
function affineOf(x: Operand, from: number, weight: Operand): Affine | null {
  const { strides } = pathTo(weight, x.shape);
  const part = (a: number, b?: number) => {
    const { lengths, strides: s } = mergedAxes(x.shape.slice(a, b), [{ strides: strides.slice(a, b), offset: 0 }]);
    return { lengths: led(lengths.slice(-2), 2, 1), steps: led(s[0]!.slice(-2), 2, 0), fits: lengths.length <= 2 };
  };
  const [rows, columns] = [part(0, from), part(from)];
  if (!rows.fits || !columns.fits || rows.steps[0] !== 0) return null;
  if (columns.steps[1] === 0) return [rows.lengths[1]!, rows.steps[1]!, columns.lengths[1]!, columns.steps[0]!];
  return columns.steps[0] === 0 && columns.lengths[0] === 1
    ? [rows.lengths[1]!, rows.steps[1]!, 1, columns.steps[1]!]
    : null;
}

const NORM_FIELDS = `${ROW_FIELDS}, x0:u32, g0:u32, w0:u32, b0:u32, period:u32, rise:u32, within:u32, along:u32, biased:u32, eps:f32`;
const NORM_TYPES = `${ROW_TYPES}${'u'.repeat(9)}f`;
/** The place of the weight for element i, less where it begins. */
const WEIGHT = '(row % p.period) * p.rise + (i / p.within) * p.along';

const ROWS_FORWARD = `${constants(NORM_FIELDS)}
${tensor(1, 'X')} ${tensor(2, 'W')} ${tensor(3, 'B')} ${tensor(4, 'Y', 'read_write')} ${tensor(5, 'M', 'read_write')} ${tensor(6, 'V', 'read_write')}
${rowMain(`
  var acc = 0.0;
  ${gathered('acc += X[p.x0 + k];')}
  ${joined('sum', added)}
  let mean = sum / f32(p.length);
  acc = 0.0;
  ${gathered('let d = X[p.x0 + k] - mean; acc += d * d;')}
  ${joined('squares', added)}
  let variance = squares / f32(p.length);
  let scale = div_(1.0, sqrt_(variance + p.eps));
  ${each(`
    var y = (X[p.x0 + k] - mean) * scale * W[p.w0 + ${WEIGHT}];
    if (p.biased == 1u) { y += B[p.b0 + ${WEIGHT}]; }
    Y[k] = y;`)}
  if (is && lane == 0u) { M[row] = mean; V[row] = variance; }`)}`;

const ROWS_BACKWARD = `${constants(NORM_FIELDS)}
${tensor(1, 'G')} ${tensor(2, 'X')} ${tensor(3, 'W')} ${tensor(4, 'M')} ${tensor(5, 'V')} ${tensor(6, 'Y', 'read_write')}
${rowMain(
  `
  var acc = vec2<f32>(0.0);
  var mean = 0.0; var scale = 0.0;
  if (is) { mean = M[row]; scale = div_(1.0, sqrt_(V[row] + p.eps)); }
  ${gathered(`let g = G[p.g0 + k] * W[p.w0 + ${WEIGHT}]; acc += vec2<f32>(g, g * ((X[p.x0 + k] - mean) * scale));`)}
  ${joined('sum', added)}
  let means = sum / f32(p.length);
  ${each(`let g = G[p.g0 + k] * W[p.w0 + ${WEIGHT}]; Y[k] = (g - means.x - (X[p.x0 + k] - mean) * scale * means.y) * scale;`)}`,
  'vec2<f32>',
)}`;

/** Of images [N, C, …]: the channel of element i, and what it was normalised by. */
const CHANNEL_FIELDS =
  'n:u32, channels:u32, inner:u32, x0:u32, g0:u32, w0:u32, ws:u32, b0:u32, bs:u32, biased:u32, eps:f32, count:f32';
const CHANNEL_TYPES = 'uuuuuuuuuuff';
const CHANNEL = `
  ${INDEX}
  if (i >= p.n) { return; }
  let channel = (i / p.inner) % p.channels;
  let scale = inverseSqrt(V[channel] + p.eps);
  let normal = (X[p.x0 + i] - M[channel]) * scale;`;

const CHANNELS_FORWARD = `${constants(CHANNEL_FIELDS)}
${tensor(1, 'X')} ${tensor(2, 'M')} ${tensor(3, 'V')} ${tensor(4, 'W')} ${tensor(5, 'B')} ${tensor(6, 'Y', 'read_write')}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${CHANNEL}
  var y = normal * W[p.w0 + channel * p.ws];
  if (p.biased == 1u) { y += B[p.b0 + channel * p.bs]; }
  Y[i] = y;
}`;

const CHANNELS_BACKWARD = `${constants(CHANNEL_FIELDS)}
${tensor(1, 'X')} ${tensor(2, 'M')} ${tensor(3, 'V')} ${tensor(4, 'W')} ${tensor(5, 'G')} ${tensor(6, 'SW')} ${tensor(7, 'SB')} ${tensor(8, 'Y', 'read_write')}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${CHANNEL}
  let rest = G[p.g0 + i] - (SB[channel] + normal * SW[channel]) / p.count;
  Y[i] = rest * W[p.w0 + channel * p.ws] * scale;
}`;

/** The constants of channels, if all axes but the second are normalised, and a weight of one number for each. */
function channelsOf(x: Operand, mean: Operand, weights: readonly Operand[]): number[] | null {
  const [n, channels] = x.shape;
  if (x.shape.length < 2 || mean.shape.some((length, i) => length !== (i === 1 ? channels : 1))) return null;
  const steps = weights.map(w => pathTo(w, x.shape).strides);
  if (steps.some(s => s.some((step, i) => i !== 1 && step !== 0 && x.shape[i] !== 1))) return null;
  return [n! === 0 ? 0 : sizeOf(x.shape), channels!, sizeOf(x.shape.slice(2)), ...steps.map(s => s[1]!)];
}

/** x̂ of x with mean m and variance v. */
const NORMAL = '(x - m) / Math.sqrt(v + eps)';

/** Whether a kernel that takes each row at once has short rows, or many. */
const isForRows = ({ length, rows }: { length: number; rows: number }): boolean => length <= LONG || rows >= 256;

/** out ← x̂ · weight + bias, and the statistics. */
export function normalize(
  c: Context,
  x: Operand,
  weight: Operand,
  bias: Operand | null,
  eps: number,
  out: Operand,
  mean: Operand,
  variance: Operand,
): void {
  if (sizeOf(mean.shape) === 0) return;
  const rows = rowsOf(x, mean);
  const affine = rows && affineOf(x, rows.from, weight);
  const alike = bias === null || (rows && String(affineOf(x, rows.from, bias)) === String(affine));
  const source = rowMajor(c, x);
  if (rows && affine && alike && isForRows(rows)) {
    const plan = rowPlan(rows.rows, rows.length, 1);
    const kernel = kernelOf(c, 'normalize rows', () => ({ code: ROWS_FORWARD, types: NORM_TYPES }));
    const starts = [source.offset, 0, weight.offset, bias?.offset ?? 0];
    const values = [...plan.values, ...starts, ...affine, Number(bias !== null), eps];
    c.commands.dispatch(
      kernel,
      [source, weight, bias ?? weight, out, mean, variance].map(memoryOf),
      values,
      plan.groups,
      { stores: 3, count: sizeOf(out.shape) },
    );
    return;
  }
  reduceBy(c, STATISTICS, { x: source }, x.shape, meanAxes(mean), [mean, variance]);
  const channels = channelsOf(x, mean, [weight, bias ?? weight]);
  if (channels === null) return apply(c, source, weight, bias, eps, out, mean, variance);
  const [n, count, inner, ws, bs] = channels as [number, number, number, number, number];
  if (n === 0) return;
  const kernel = kernelOf(c, 'normalize channels', () => ({ code: CHANNELS_FORWARD, types: CHANNEL_TYPES }));
  const starts = [source.offset, 0, weight.offset, ws, bias?.offset ?? 0, bs];
  const values = [n, count, inner, ...starts, Number(bias !== null), eps, 1];
  c.commands.dispatch(
    kernel,
    [source, mean, variance, weight, bias ?? weight, out].map(memoryOf),
    values,
    flatGroups(n),
    { stores: 5, count: n },
  );
}

/** The same for weights of any layout. */
function apply(
  c: Context,
  x: Operand,
  weight: Operand,
  bias: Operand | null,
  eps: number,
  out: Operand,
  mean: Operand,
  variance: Operand,
): void {
  const operands = { x, m: mean, v: variance, w: weight, eps };
  const y = bias === null ? `${NORMAL} * w` : `${NORMAL} * w + b`;
  byGpuJs(c, `return ${y};`, bias === null ? operands : { ...operands, b: bias }, out);
}

/** Σ gy · x̂ and Σ gy. */
const GRADIENTS: Reduction = {
  name: 'gradients of weight and bias',
  type: 'vec2<f32>',
  start: '0.0',
  join: added,
  element: 'vec2<f32>(gy * ((x - m) * inverseSqrt(v + p.eps)), gy)',
  finish: ['sum.x', 'sum.y'],
};
/** As those kernels take it. */
type Of = { gy: Operand; x: Operand; eps: number; mean: Operand; variance: Operand };

/** weightGrad ← Σ gy · x̂, biasGrad ← Σ gy, over the axes along which both were broadcast: of one shape. */
function weightGrads(c: Context, { gy, x, eps, mean, variance }: Of, weightGrad: Operand, biasGrad: Operand): void {
  const axes = weightAxes(x, weightGrad);
  reduceBy(c, GRADIENTS, { gy, x, m: mean, v: variance }, x.shape, axes, [weightGrad, biasGrad], { eps });
}

export function normalizeInputGrad(
  c: Context,
  gy: Operand,
  x: Operand,
  weight: Operand,
  eps: number,
  mean: Operand,
  variance: Operand,
  out: Operand,
): void {
  normalizeGrads(c, gy, x, weight, eps, mean, variance, out, null, null);
}

export function normalizeWeightGrad(
  c: Context,
  gy: Operand,
  x: Operand,
  eps: number,
  mean: Operand,
  variance: Operand,
  out: Operand,
): void {
  if (sizeOf(out.shape) === 0) return;
  weightGrads(c, { gy, x, eps, mean, variance }, out, temporary(c, 'float32', out.shape));
}

/** All gradients, or with null that by the input alone. */
export function normalizeGrads(
  c: Context,
  gy: Operand,
  x: Operand,
  weight: Operand,
  eps: number,
  mean: Operand,
  variance: Operand,
  out: Operand,
  weightGrad: Operand | null,
  biasGrad: Operand | null,
): void {
  const of = { gy, x, eps, mean, variance };
  const channels = sizeOf(x.shape) === 0 ? null : channelsOf(x, mean, [weight]);
  const rows = rowsOf(x, mean);
  const affine = rows && affineOf(x, rows.from, weight);
  const asRows = rows && affine && isForRows(rows);
  if (channels === null || asRows) {
    if (weightGrad !== null) weightGrads(c, of, weightGrad, biasGrad ?? temporary(c, 'float32', weightGrad.shape));
    if (sizeOf(out.shape) === 0) return;
    const [source, grads] = [rowMajor(c, x), rowMajor(c, gy)];
    if (!asRows) return anyInputGrad(c, { ...of, x: source, gy: grads }, weight, out);
    const plan = rowPlan(rows.rows, rows.length, 1);
    const kernel = kernelOf(c, 'gradient of normalized rows', () => ({ code: ROWS_BACKWARD, types: NORM_TYPES }));
    const values = [...plan.values, source.offset, grads.offset, weight.offset, 0, ...affine, 0, eps];
    c.commands.dispatch(kernel, [grads, source, weight, mean, variance, out].map(memoryOf), values, plan.groups, {
      stores: 5,
      count: sizeOf(out.shape),
    });
    return;
  }
  // What a channel's input gradient takes are the sums that its weight and bias take.
  const [n, count, inner, ws] = channels as [number, number, number, number];
  const sums = [weightGrad, biasGrad].map(grad => grad ?? temporary(c, 'float32', [count])) as [Operand, Operand];
  const axes = [...x.shape.keys()].filter(i => i !== 1);
  reduceBy(c, GRADIENTS, { gy, x, m: mean, v: variance }, x.shape, axes, sums, { eps });
  const [source, grads] = [rowMajor(c, x), rowMajor(c, gy)];
  const kernel = kernelOf(c, 'gradient of normalized channels', () => ({
    code: CHANNELS_BACKWARD,
    types: CHANNEL_TYPES,
  }));
  const values = [n, count, inner, source.offset, grads.offset, weight.offset, ws, 0, 0, 0, eps, n / count];
  c.commands.dispatch(
    kernel,
    [source, mean, variance, weight, grads, ...sums, out].map(memoryOf),
    values,
    flatGroups(n),
    { stores: 7, count: n },
  );
}

/** For weights of any layout. */
function anyInputGrad(c: Context, { gy, x, eps, mean, variance }: Of, weight: Operand, out: Operand): void {
  const [g, mg, ma] = [temporary(c, 'float32', x.shape), ...[0, 1].map(() => temporary(c, 'float32', mean.shape))];
  byGpuJs(c, 'return gy * w;', { gy, w: weight }, g!);
  reduceBy(c, GRADIENTS, { gy: g!, x, m: mean, v: variance }, x.shape, meanAxes(mean), [ma!, mg!], { eps });
  const n = sizeOf(x.shape) / sizeOf(mean.shape);
  const body = `return (g - mg / n - ${NORMAL} * (ma / n)) / Math.sqrt(v + eps);`;
  byGpuJs(c, body, { g: g!, x, m: mean, v: variance, mg: mg!, ma: ma!, eps, n }, out);
}
