/** The reference backend: plain typed arrays and plain loops. Slow and obviously right; the twin of every fast backend. */

import { type DType, isFloat, type TypedArray } from '../dtype.ts';
import { broadcastStrides, contiguousStrides, isContiguous, reducedShape, type Shape, sizeOf } from '../shape.ts';
import { type Region, Storage } from '../storage.ts';
import { type Window, windowsIn } from '../window.ts';
import type {
  AdamOptions,
  Backend,
  BinaryKernel,
  ConvGeometry,
  MomentOptions,
  Operand,
  ReduceKernel,
  SgdOptions,
  UnaryGradKernel,
  UnaryKernel,
} from './backend.ts';
import { int32Product, packed, product } from './product.ts';
import * as conv from './reference-conv.ts';
import * as loss from './reference-loss.ts';
import * as norm from './reference-norm.ts';
import * as pool from './reference-pool.ts';
import {
  addScaledLoop,
  assignLoop,
  binaryLoop,
  convertLoop,
  FAST_BINARY,
  FAST_UNARY,
  REDUCE,
  type ReduceLoop,
  reduceLoop,
  scaleLoop,
  type UpdateLoop,
  unaryLoop,
} from './rows.ts';
import { BINARY, INT32, UNARY, UNARY_GRAD } from './scalar.ts';
import { Slabs } from './slab.ts';
import { lastStride, rowMajor, runStep, walkRows } from './walk.ts';

const array = (x: Operand): TypedArray => x.storage.array;

/** Where `x` walks when it is read with the shape `to`. */
function pathTo(x: Operand, to: Shape) {
  return { strides: broadcastStrides('broadcast', x, to), offset: x.offset };
}

/** Elements before, along and after an axis: row-major index = (before · length + i) · after + j. */
function around(shape: Shape, axis: number): { before: number; length: number; after: number } {
  return { before: sizeOf(shape.slice(0, axis)), length: shape[axis]!, after: sizeOf(shape.slice(axis + 1)) };
}

/** The fields alone, so that some can be replaced. */
const asOperand = ({ storage, dtype, shape, strides, offset }: Operand): Operand => ({
  storage,
  dtype,
  shape,
  strides,
  offset,
});

/** `x`, or a copy where it shares the memory of `y` in another order: what is still to be read must not be overwritten. */
function apart(x: Operand, y: Operand): Operand {
  if (array(x) !== array(y) || x === y) return x;
  const storage = new Storage(x.storage.backend, x.dtype, rowMajor(x).slice());
  return { storage, dtype: x.dtype, shape: x.shape, strides: contiguousStrides(x.shape), offset: 0 };
}

/** A bias [O] as it broadcasts to images [N, O, H, W]. */
export const perChannel = (bias: Operand): Operand => ({
  ...asOperand(bias),
  shape: [bias.shape[0]!, 1, 1],
  strides: [bias.strides[0]!, 0, 0],
});

export class ReferenceBackend implements Backend {
  static readonly name: string = 'ReferenceBackend';
  readonly device: string;
  readonly onHost = true;
  readonly #slabs = new Slabs();

  constructor(device = 'cpu') {
    this.device = device;
  }

  allocate(dtype: DType, size: number): TypedArray | Region {
    return this.#slabs.allocate(dtype, size);
  }

  store(data: TypedArray): TypedArray | Region {
    return data;
  }

  read(x: Operand): TypedArray {
    return rowMajor(x).slice();
  }

  copy(x: Operand, out: Operand): void {
    this.assign(out, x);
  }

  fill(value: number, out: Operand): void {
    array(out).fill(value, out.offset, out.offset + sizeOf(out.shape));
  }

  unary(kernel: UnaryKernel, x: Operand, out: Operand): void {
    const exact = out.dtype === 'int32' ? INT32.unary[kernel] : undefined;
    const loop = FAST_UNARY[kernel] ?? unaryLoop(exact ?? UNARY[kernel]);
    loop(rowMajor(x), array(out));
  }

  unaryGrad(kernel: UnaryGradKernel, gy: Operand, a: Operand, out: Operand): void {
    const [p, q, target] = [rowMajor(gy), rowMajor(a), array(out)];
    const f = UNARY_GRAD[kernel];
    for (let i = 0; i < p.length; i++) target[i] = f(p[i]!, q[i]!);
  }

  binary(kernel: BinaryKernel, a: Operand, b: Operand, out: Operand): void {
    const exact = out.dtype === 'int32' ? INT32.binary[kernel] : undefined;
    const loop = exact === undefined ? (FAST_BINARY[kernel] ?? binaryLoop(BINARY[kernel])) : binaryLoop(exact);
    const [p, q, target] = [array(a), array(b), array(out)];
    const size = sizeOf(out.shape);
    const [runA, runB] = [runStep(a, size), runStep(b, size)];
    if (runA !== null && runB !== null) {
      loop(p, a.offset, runA, q, b.offset, runB, target, 0, size);
      return;
    }
    const pathA = pathTo(a, out.shape);
    const pathB = pathTo(b, out.shape);
    const stepA = lastStride(pathA.strides);
    const stepB = lastStride(pathB.strides);
    const length = out.shape.at(-1) ?? 1;
    walkRows(out.shape, [pathA, pathB], (start, at) =>
      loop(p, at[0]!, stepA, q, at[1]!, stepB, target, start, start + length),
    );
  }

  where(condition: Operand, a: Operand, b: Operand, out: Operand): void {
    const [c, p, q, target] = [array(condition), array(a), array(b), array(out)];
    const paths = [condition, a, b].map(x => pathTo(x, out.shape));
    const [stepC, stepA, stepB] = paths.map(path => lastStride(path.strides));
    const length = out.shape.at(-1) ?? 1;
    walkRows(out.shape, paths, (start, at) => {
      for (let k = 0; k < length; k++)
        target[start + k] = c[at[0]! + k * stepC!] !== 0 ? p[at[1]! + k * stepA!]! : q[at[2]! + k * stepB!]!;
    });
  }

  reduce(kernel: ReduceKernel, x: Operand, axes: readonly number[], out: Operand): void {
    if (kernel === 'mean' || kernel === 'norm') return this.#average(kernel, x, axes, out);
    const { start, loop } = REDUCE[kernel];
    array(out).set(this.#reduced(x, axes, start, loop), out.offset);
  }

  /** Means and norms, of elements relative to a power of 2 near the largest: exact, and no sum or square leaves float64. */
  #average(kernel: 'mean' | 'norm', x: Operand, axes: readonly number[], out: Operand): void {
    const largest = this.#reduced(
      x,
      axes,
      0,
      reduceLoop((max, value) => Math.max(max, Math.abs(value))),
    );
    const unit = largest.map(max => (max > 0 && max < Infinity ? 2 ** Math.min(1023, Math.floor(Math.log2(max))) : 1));
    const add = reduceLoop((sum, value, j) => sum + (kernel === 'norm' ? (value / unit[j]!) ** 2 : value / unit[j]!));
    const count = sizeOf(x.shape) / sizeOf(out.shape);
    const finish = (sum: number, i: number) => unit[i]! * (kernel === 'norm' ? Math.sqrt(sum) : sum / count);
    array(out).set(this.#reduced(x, axes, 0, add).map(finish), out.offset);
  }

  /** Sums and the like, by a loop over rows. They run in float64, and whoever stores them rounds once. */
  #reduced(x: Operand, axes: readonly number[], start: number, loop: ReduceLoop): Float64Array {
    const data = array(x);
    const acc = new Float64Array(sizeOf(reducedShape(x.shape, axes, false))).fill(start);
    const kept = contiguousStrides(x.shape.map((length, i) => (axes.includes(i) ? 1 : length)));
    const path = { strides: kept.map((stride, i) => (axes.includes(i) ? 0 : stride)), offset: 0 };
    const length = x.shape.at(-1) ?? 1;
    const stepX = lastStride(x.strides);
    const stepOut = lastStride(path.strides);
    if (acc.length === 1 && isContiguous(x)) loop(data, x.offset, 1, acc, 0, 0, sizeOf(x.shape));
    else walkRows(x.shape, [x, path], (_, at) => loop(data, at[0]!, stepX, acc, at[1]!, stepOut, length));
    return acc;
  }

  argReduce(kernel: 'argmax' | 'argmin', x: Operand, axis: number, out: Operand): void {
    const better = kernel === 'argmax' ? (a: number, b: number) => a > b : (a: number, b: number) => a < b;
    const data = rowMajor(x);
    const target = array(out);
    const { before, length, after } = around(x.shape, axis);
    for (let b = 0; b < before; b++)
      for (let j = 0; j < after; j++) {
        let best = 0;
        for (let i = 1; i < length; i++) {
          const value = data[(b * length + i) * after + j]!;
          const champion = data[(b * length + best) * after + j]!;
          if (Number.isNaN(champion)) break;
          if (Number.isNaN(value) || better(value, champion)) best = i;
        }
        target[b * after + j] = best;
      }
  }

  softmax(x: Operand, axis: number, out: Operand): void {
    this.#normalise(x, axis, out, (value, max, sum) => Math.exp(value - max) / sum);
  }

  logSoftmax(x: Operand, axis: number, out: Operand): void {
    this.#normalise(x, axis, out, (value, max, sum) => value - max - Math.log(sum));
  }

  softmaxGrad(gy: Operand, y: Operand, axis: number, out: Operand): void {
    this.#slopes(
      gy,
      y,
      axis,
      out,
      (g, p) => g * p,
      (g, p, dot) => p * (g - dot),
    );
  }

  logSoftmaxGrad(gy: Operand, y: Operand, axis: number, out: Operand): void {
    this.#slopes(
      gy,
      y,
      axis,
      out,
      g => g,
      (g, logP, sum) => g - Math.exp(logP) * sum,
    );
  }

  /** out ← f(gy, y, Σ term(gy, y)), the sum along an axis. */
  #slopes(
    gy: Operand,
    y: Operand,
    axis: number,
    out: Operand,
    term: (g: number, y: number) => number,
    f: (g: number, y: number, sum: number) => number,
  ): void {
    const [p, q, target] = [rowMajor(gy), rowMajor(y), array(out)];
    const { before, length, after } = around(y.shape, axis);
    for (let b = 0; b < before; b++)
      for (let j = 0; j < after; j++) {
        const at = b * length * after + j;
        let sum = 0;
        for (let i = 0; i < length; i++) sum += term(p[at + i * after]!, q[at + i * after]!);
        for (let i = 0; i < length; i++) target[at + i * after] = f(p[at + i * after]!, q[at + i * after]!, sum);
      }
  }

  /** Calls `f(value, max, Σ exp(value − max))` along an axis. */
  #normalise(x: Operand, axis: number, out: Operand, f: (value: number, max: number, sum: number) => number): void {
    const data = rowMajor(x);
    const target = array(out);
    const { before, length, after } = around(x.shape, axis);
    for (let b = 0; b < before; b++)
      for (let j = 0; j < after; j++) {
        const at = b * length * after + j;
        let max = -Infinity;
        for (let i = 0; i < length; i++) max = Math.max(max, data[at + i * after]!);
        // A row of −∞ alone: exp(−∞ − 0) = 0, so the result is 0/0 = NaN, as it should be.
        if (max === -Infinity) max = 0;
        let sum = 0;
        for (let i = 0; i < length; i++) sum += Math.exp(data[at + i * after]! - max);
        for (let i = 0; i < length; i++) target[at + i * after] = f(data[at + i * after]!, max, sum);
      }
  }

  matmul(a: Operand, b: Operand, out: Operand): void {
    const rank = out.shape.length;
    const batch = out.shape.slice(0, -2);
    const [m, n] = [out.shape[rank - 2]!, out.shape[rank - 1]!];
    const k = a.shape.at(-1)!;
    const multiply = out.dtype === 'int32' ? int32Product : product;
    const lead = (x: Operand) => {
      const [rows, columns] = x.shape.slice(-2);
      return {
        strides: broadcastStrides('matmul', x, [...batch, rows!, columns!]).slice(0, -2),
        offset: x.offset,
      };
    };
    const [aRow, aColumn] = a.strides.slice(-2);
    const [bRow, bColumn] = b.strides.slice(-2);
    // Each batch entry is a "row" of length 1 of the walk.
    const [pathA, pathB] = [lead(a), lead(b)];
    const one = { strides: [0] };
    walkRows(
      [...batch, 1],
      [
        { strides: [...pathA.strides, ...one.strides], offset: pathA.offset },
        { strides: [...pathB.strides, ...one.strides], offset: pathB.offset },
      ],
      (entry, at) => {
        const left = packed(array(a), m, k, aRow!, aColumn!, at[0]!);
        const right = packed(array(b), n, k, bColumn!, bRow!, at[1]!);
        multiply(m, n, k, left, right, array(out), out.offset + entry * m * n);
      },
    );
  }

  gram(x: Operand, out: Operand): void {
    const n = x.shape.at(-1)!;
    const m = sizeOf(x.shape.slice(0, -1));
    const storage = new Storage(this, x.dtype, this.store(this.read(x)));
    const rows = { storage, dtype: x.dtype, shape: [m, n], strides: [n, 1], offset: 0 };
    this.matmul({ ...rows, shape: [n, m], strides: [1, n] }, rows, out);
  }

  linear(x: Operand, weight: Operand, bias: Operand | null, out: Operand): void {
    const [m, n] = weight.shape as [number, number];
    const transposed = { ...asOperand(weight), shape: [n, m], strides: [weight.strides[1]!, weight.strides[0]!] };
    // A vector counts as one row.
    const row = { shape: [1, m], strides: [0, 1] };
    const isVector = x.shape.length === 1;
    this.matmul(
      isVector ? { ...asOperand(x), shape: [1, n], strides: [0, x.strides[0]!] } : x,
      transposed,
      isVector ? { ...asOperand(out), ...row } : out,
    );
    if (bias !== null) this.addScaled(out, bias, 1, 1);
  }

  gather(x: Operand, axis: number, index: Operand, out: Operand): void {
    const [data, at, target] = [rowMajor(x), rowMajor(index), array(out)];
    this.#alongIndex(x.shape, index.shape, axis, (i, j) => {
      target[j] = data[i(at[j]!)]!;
    });
  }

  scatterAdd(x: Operand, axis: number, index: Operand, out: Operand): void {
    this.fill(0, out);
    const [data, at, target] = [rowMajor(x), rowMajor(index), array(out)];
    this.#alongIndex(out.shape, index.shape, axis, (i, j) => {
      target[i(at[j]!)]! += data[j]!;
    });
  }

  /**
   * Visits the elements j of `index` in row-major order; `i(p)` is the row-major position in `full` with p in place of
   * the coordinate along `axis`.
   */
  #alongIndex(full: Shape, index: Shape, axis: number, visit: (i: (p: number) => number, j: number) => void): void {
    const strides = contiguousStrides(full);
    const stride = strides[axis]!;
    const path = { strides: strides.map((s, i) => (i === axis ? 0 : s)), offset: 0 };
    const step = lastStride(path.strides);
    const length = index.at(-1)!;
    walkRows(index, [path], (start, at) => {
      for (let k = 0; k < length; k++) visit(p => at[0]! + k * step + p * stride, start + k);
    });
  }

  indexSelect(x: Operand, axis: number, index: Operand, out: Operand): void {
    const [data, at, target] = [rowMajor(x), rowMajor(index), array(out)];
    const { before, length, after } = around(x.shape, axis);
    for (let b = 0; b < before; b++)
      for (let i = 0; i < at.length; i++) {
        const from = (b * length + at[i]!) * after;
        target.set(data.subarray(from, from + after), (b * at.length + i) * after);
      }
  }

  indexAdd(x: Operand, axis: number, index: Operand, out: Operand): void {
    this.fill(0, out);
    const [data, at, target] = [rowMajor(x), rowMajor(index), array(out)];
    const { before, length, after } = around(out.shape, axis);
    for (let b = 0; b < before; b++)
      for (let i = 0; i < at.length; i++)
        for (let j = 0; j < after; j++)
          target[(b * length + at[i]!) * after + j]! += data[(b * at.length + i) * after + j]!;
  }

  addScaled(y: Operand, x: Operand, alpha: number, keep: number): void {
    this.#inPlace(y, x, addScaledLoop, alpha, keep);
  }

  addcdiv(y: Operand, x: Operand, d: Operand, value: number, keep: number): void {
    const target = array(y);
    const [numerator, divisor] = [apart(x, y), apart(d, y)];
    const [p, q] = [array(numerator), array(divisor)];
    const paths = [y, pathTo(numerator, y.shape), pathTo(divisor, y.shape)];
    const [stepY, stepX, stepD] = paths.map(path => lastStride(path.strides));
    const length = y.shape.at(-1) ?? 1;
    walkRows(y.shape, paths, (_, [i, j, l]) => {
      for (let k = 0; k < length; k++) {
        const at = i! + k * stepY!;
        target[at] = keep * target[at]! + (value * p[j! + k * stepX!]!) / q[l! + k * stepD!]!;
      }
    });
  }

  scale(y: Operand, beta: number): void {
    this.#inPlace(y, y, scaleLoop, beta);
  }

  assign(y: Operand, x: Operand): void {
    this.#inPlace(y, x, y.dtype === x.dtype || isFloat(y.dtype) ? assignLoop : convertLoop(y.dtype));
  }

  #inPlace(y: Operand, x: Operand, loop: UpdateLoop, by = 1, keep = 1): void {
    const target = array(y);
    const layout = apart(x, y);
    const source = array(layout);
    const size = sizeOf(y.shape);
    const run = runStep(layout, size);
    if (run !== null && isContiguous(y)) {
      loop(target, y.offset, 1, source, layout.offset, run, size, by, keep);
      return;
    }
    const path = { strides: broadcastStrides('assign', layout, y.shape), offset: layout.offset };
    const [stepY, stepX] = [lastStride(y.strides), lastStride(path.strides)];
    const length = y.shape.at(-1) ?? 1;
    walkRows(y.shape, [y, path], (_, at) => loop(target, at[0]!, stepY, source, at[1]!, stepX, length, by, keep));
  }

  moments(
    m: Operand,
    v: Operand,
    g: Operand,
    second: Operand | null,
    out: Operand,
    { beta1, beta2, eps, correction1, correction2 }: MomentOptions,
  ): void {
    const [first, variance, direction] = [rowMajor(m), rowMajor(v), array(out)];
    const gradient = rowMajor(g);
    const squares = second === null ? null : rowMajor(second);
    const tiny = v.dtype === 'float32' ? 1e-36 : 1e-290;
    for (let i = 0; i < gradient.length; i++) {
      const gi = gradient[i]!;
      const si = squares === null ? gi * gi : squares[i]!;
      const mi = beta1 * first[i]! + (1 - beta1) * gi;
      const vi = beta2 * variance[i]! + (1 - beta2) * si;
      first[i] = mi;
      variance[i] = vi < tiny ? 0 : vi;
      direction[i] = first[i]! / correction1 / (Math.sqrt(variance[i]! / correction2) + eps);
    }
  }

  adam(p: Operand, m: Operand, v: Operand, g: Operand, options: AdamOptions): void {
    const direction = this.empty(p);
    this.moments(m, v, g, null, direction, options);
    this.addScaled(p, direction, -options.lr, options.keep);
  }

  sgd(p: Operand, buf: Operand, g: Operand, { lr, keep, take, look, own }: SgdOptions): void {
    const [value, momentum, gradient] = [rowMajor(p), rowMajor(buf), rowMajor(g)];
    for (let i = 0; i < value.length; i++) {
      momentum[i] = keep * momentum[i]! + take * gradient[i]!;
      value[i]! -= lr * (look * momentum[i]! + own * gradient[i]!);
    }
  }

  /** Memory of its own, which may hold anything. */
  protected empty({ dtype, shape }: Pick<Operand, 'dtype' | 'shape'>): Operand {
    const storage = new Storage(this, dtype, this.allocate(dtype, sizeOf(shape)));
    return { storage, dtype, shape, strides: contiguousStrides(shape), offset: 0 };
  }

  crossEntropy(...operands: Parameters<typeof loss.crossEntropy>): void {
    loss.crossEntropy(...operands);
  }

  crossEntropyGrad(...operands: Parameters<typeof loss.crossEntropyGrad>): void {
    loss.crossEntropyGrad(...operands);
  }

  squaredError(...operands: Parameters<typeof loss.squaredError>): void {
    loss.squaredError(...operands);
  }

  squaredErrorGrad(...operands: Parameters<typeof loss.squaredErrorGrad>): void {
    loss.squaredErrorGrad(...operands);
  }

  convForward(x: Operand, w: Operand, bias: Operand | null, out: Operand, geometry: ConvGeometry): void {
    conv.convForward(x, w, out, geometry);
    if (bias !== null) this.addScaled(out, perChannel(bias), 1, 1);
  }

  convInputGrad(gy: Operand, w: Operand, out: Operand, geometry: ConvGeometry): void {
    conv.convInputGrad(gy, w, out, geometry);
  }

  convWeightGrad(x: Operand, gy: Operand, out: Operand, geometry: ConvGeometry): void {
    conv.convWeightGrad(x, gy, out, geometry);
  }

  unfold(x: Operand, out: Operand, window: Window): void {
    conv.unfold(x, out, window);
  }

  patchGram(x: Operand, out: Operand, window: Window, ones: boolean): void {
    const [n, c] = x.shape as [number, number];
    const [ho, wo] = windowsIn('patchGram', [x.shape[2]!, x.shape[3]!], window);
    const elements = c * window.kernel[0] * window.kernel[1];
    const patches = this.empty({ dtype: x.dtype, shape: [n, ho * wo, elements] });
    this.unfold(x, patches, window);
    if (!ones) return this.gram(patches, out);
    const rows = this.empty({ dtype: x.dtype, shape: [n, ho * wo, elements + 1] });
    this.fill(1, rows);
    this.assign({ ...rows, shape: patches.shape }, patches);
    this.gram(rows, out);
  }

  fold(x: Operand, out: Operand, window: Window): void {
    conv.fold(x, out, window);
  }

  maxPoolIndex(x: Operand, out: Operand, window: Window): void {
    pool.maxPoolIndex(x, out, window);
  }

  avgPool(x: Operand, out: Operand, window: Window, countIncludePad: boolean): void {
    pool.avgPool(x, out, window, countIncludePad);
  }

  avgPoolGrad(gy: Operand, out: Operand, window: Window, countIncludePad: boolean): void {
    pool.avgPoolGrad(gy, out, window, countIncludePad);
  }

  normalize(...operands: Parameters<typeof norm.normalize>): void {
    norm.normalize(...operands);
  }

  normalizeInputGrad(...operands: Parameters<typeof norm.normalizeInputGrad>): void {
    norm.normalizeInputGrad(...operands);
  }

  normalizeWeightGrad(...operands: Parameters<typeof norm.normalizeWeightGrad>): void {
    norm.normalizeWeightGrad(...operands);
  }
}
