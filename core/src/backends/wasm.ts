/**
 * The `wasm` backend: tensors live in WebAssembly memory, and SIMD kernels compute on them where they lie. What has no
 * kernel here runs the reference backend's loops over the same memory.
 *
 * NOTE: an operation allocates first and reads addresses after, because an allocation may collect what is unreachable.
 * Kernels never allocate.
 */

import { type Block, createKernels, type Exports, type Kernels } from '@otimes/kernels';
import { bytesPerElement, type DType, dtypeOfArray, isFloat, type TypedArray } from '../dtype.ts';
import { broadcastStrides, isContiguous, type Layout, type Shape, sameShape, sizeOf } from '../shape.ts';
import type { Region } from '../storage.ts';
import type {
  AdamOptions,
  BinaryKernel,
  MomentOptions,
  Operand,
  ReduceKernel,
  SgdOptions,
  UnaryGradKernel,
  UnaryKernel,
} from './backend.ts';
import { walkPlanes } from './planes.ts';
import { addressOf, allocationError, inMemory, WasmRegion } from './region.ts';
import { copiesOf, tableOf } from './table.ts';
import { runStep, walkRows } from './walk.ts';
import { WasmLayerBackend } from './wasm-layers.ts';

/** Rows of the matrices of a batch below which `gram` rather copies them into one: then a product each takes longer. */
const SHORT = 32;

/** A backend with a memory of its own, or null where the host has no WebAssembly SIMD. */
export function createWasmBackend(device = 'cpu'): WasmBackend | null {
  const kernels = createKernels();
  return kernels === null ? null : new WasmBackend(device, kernels);
}

export class WasmBackend extends WasmLayerBackend {
  #unary!: ReturnType<typeof unaryTable>;
  #binary!: ReturnType<typeof binaryTable>;
  #slope!: ReturnType<typeof slopeTable>;
  #other!: ReturnType<typeof otherTable>;
  #copy!: ReturnType<typeof copiesOf>;

  constructor(device: string, kernels: Kernels) {
    super(device, kernels);
    kernels.bind(exports => {
      this.#unary = unaryTable(exports);
      this.#binary = binaryTable(exports);
      this.#slope = slopeTable(exports);
      this.#other = otherTable(exports);
      this.#copy = copiesOf(exports);
    });
  }

  override allocate(dtype: DType, size: number): TypedArray | Region {
    this.endKernels();
    const { heap } = this.kernels;
    let block: Block | null;
    try {
      block = heap.allocate(size * bytesPerElement(dtype));
    } catch (error) {
      throw allocationError(dtype, size, error);
    }
    // Null: the heap is full as far as it can know, and has said so; an ordinary array is slower and right.
    return block === null ? super.allocate(dtype, size) : new WasmRegion(heap, block, dtype, size);
  }

  override store(data: TypedArray): TypedArray | Region {
    const memory = this.allocate(dtypeOfArray(data), data.length);
    ('array' in memory ? memory.array : memory).set(data);
    return memory;
  }

  override read(x: Operand): TypedArray {
    if (!inMemory(x) || !isContiguous(x)) return super.read(x);
    return x.storage.array.slice(x.offset, x.offset + sizeOf(x.shape));
  }

  override fill(value: number, out: Operand): void {
    if (!inMemory(out)) return super.fill(value, out);
    this.#other.fill[out.dtype]!(sizeOf(out.shape), value, addressOf(out));
  }

  override assign(y: Operand, x: Operand): void {
    if (!inMemory(y) || x.storage === y.storage) return super.assign(y, x);
    const source = this.#resident(x);
    const copy = this.#copy[x.dtype][y.dtype];
    const [px, py] = [addressOf(source), addressOf(y)];
    const [bx, by] = [bytesPerElement(x.dtype), bytesPerElement(y.dtype)];
    const from = { strides: broadcastStrides('assign', source, y.shape), offset: 0 };
    let failed = 0;
    walkPlanes(
      y.shape,
      [from, { strides: y.strides, offset: 0 }],
      (rows, cols, _, at, { row, col }) => {
        failed |= copy(rows, cols, px + at[0]! * bx, row[0]!, col[0]!, py + at[1]! * by, row[1]!, col[1]!);
      },
      true,
    );
    // An element that int32 cannot hold: the plain loop finds it and says which.
    if (failed) super.assign(y, x);
  }

  override unary(kernel: UnaryKernel, x: Operand, out: Operand): void {
    const predicate = out.dtype === 'bool';
    const run = this.#unary[kernel][predicate ? x.dtype : out.dtype];
    // float32 does not hold int32 from 2²⁴ on.
    const rounds = x.dtype === 'int32' && out.dtype === 'float32';
    if (run === undefined || rounds || !inMemory(out)) return super.unary(kernel, x, out);
    const size = sizeOf(out.shape);
    if (predicate || (x.dtype === out.dtype && isContiguous(x))) {
      const source = this.rowMajor(x);
      run(size, addressOf(source), addressOf(out));
      return;
    }
    this.assign(out, x);
    run(size, addressOf(out), addressOf(out));
  }

  override unaryGrad(kernel: UnaryGradKernel, gy: Operand, a: Operand, out: Operand): void {
    const run = this.#slope[`${kernel}Backward`][out.dtype];
    if (run === undefined || !inMemory(out)) return super.unaryGrad(kernel, gy, a, out);
    const [grads, at] = [this.rowMajor(gy), this.rowMajor(a)];
    run(sizeOf(out.shape), addressOf(grads), addressOf(at), addressOf(out));
  }

  override binary(kernel: BinaryKernel, a: Operand | number, b: Operand | number, out: Operand): void {
    if (typeof a === 'number' || typeof b === 'number') {
      if (typeof a !== 'number') this.binary(kernel, a, this.#fillNumber(b as number, a), out);
      else if (typeof b !== 'number') this.binary(kernel, this.#fillNumber(a, b), b, out);
      else super.binary(kernel, a, b, out);
      return;
    }
    const run = this.#binary[kernel][a.dtype];
    if (run === undefined || a.dtype !== b.dtype || !inMemory(out)) return super.binary(kernel, a, b, out);
    const [left, right] = [this.#resident(a), this.#resident(b)];
    const [pa, pb, pc] = [addressOf(left), addressOf(right), addressOf(out)];
    const size = sizeOf(out.shape);
    const [stepA, stepB] = [runStep(left, size), runStep(right, size)];
    if (stepA !== null && stepB !== null) {
      run(1, size, pa, 0, stepA, pb, 0, stepB, pc);
      return;
    }
    const [bytes, bytesOut] = [bytesPerElement(a.dtype), bytesPerElement(out.dtype)];
    walkPlanes(out.shape, [pathTo(left, out), pathTo(right, out)], (rows, cols, start, at, { row, col }) => {
      const [p, q] = [pa + at[0]! * bytes, pb + at[1]! * bytes];
      run(rows, cols, p, row[0]!, col[0]!, q, row[1]!, col[1]!, pc + start * bytesOut);
    });
  }

  /** A number operand in this memory, where kernels read it. */
  #fillNumber(value: number, beside: Operand): Operand {
    const one = this.empty({ dtype: isFloat(beside.dtype) ? beside.dtype : 'int32', shape: [] });
    one.storage.array[0] = value;
    return one;
  }

  override where(condition: Operand, a: Operand, b: Operand, out: Operand): void {
    if (a.dtype !== out.dtype || b.dtype !== out.dtype || !inMemory(out)) return super.where(condition, a, b, out);
    const run = this.#other.where[out.dtype]!;
    const [c, left, right] = [this.#resident(condition), this.#resident(a), this.#resident(b)];
    const [pc, pa, pb, po] = [addressOf(c), addressOf(left), addressOf(right), addressOf(out)];
    const bytes = bytesPerElement(out.dtype);
    const paths = [pathTo(c, out), pathTo(left, out), pathTo(right, out)];
    walkPlanes(out.shape, paths, (rows, cols, start, at, { row, col }) => {
      const [p, q] = [pa + at[1]! * bytes, pb + at[2]! * bytes];
      const to = po + start * bytes;
      run(rows, cols, pc + at[0]!, row[0]!, col[0]!, p, row[1]!, col[1]!, q, row[2]!, col[2]!, to);
    });
  }

  override reduce(kernel: ReduceKernel, x: Operand, axes: readonly number[], out: Operand): void {
    if (kernel === 'norm') return this.#norm(x, axes, out);
    if (kernel === 'mean') return this.#mean(x, axes, out);
    const run = this.#other[kernel][out.dtype];
    const span = spanOf(x.shape, axes);
    if (span === null && kernel === 'sum' && this.#sumChannels(x, axes, out)) return;
    if (run === undefined || span === null || x.dtype !== out.dtype || !inMemory(out))
      return super.reduce(kernel, x, axes, out);
    const source = this.rowMajor(x);
    run(span.outer, span.length, span.inner, addressOf(source), addressOf(out));
  }

  /** The rows of a copy with the reduced axes last, unless they are. */
  #norm(x: Operand, axes: readonly number[], out: Operand): void {
    const run = this.#other.norm[out.dtype];
    if (run === undefined || !inMemory(out)) return super.reduce('norm', x, axes, out);
    const { storage, dtype, offset } = x;
    const order = [...x.shape.keys()].sort((a, b) => Number(axes.includes(a)) - Number(axes.includes(b)));
    const [shape, strides] = [x.shape, x.strides].map(lengths => order.map(axis => lengths[axis]!));
    const source = this.rowMajor({ storage, dtype, shape: shape!, strides: strides!, offset });
    const rows = sizeOf(out.shape);
    run(rows, sizeOf(x.shape) / Math.max(1, rows), addressOf(source), addressOf(out));
  }

  /** The sum by its length, or where that is not finite by the plain loop, since a mean can be though its sum is not. */
  #mean(x: Operand, axes: readonly number[], out: Operand): void {
    if (x.dtype === out.dtype) this.reduce('sum', x, axes, out);
    const count = sizeOf(x.shape) / sizeOf(out.shape);
    const means = out.storage.array.subarray(out.offset, out.offset + sizeOf(out.shape));
    if (x.dtype !== out.dtype || !means.every(Number.isFinite)) super.reduce('mean', x, axes, out);
    else for (let i = 0; i < means.length; i++) means[i]! /= count;
  }

  /** Sums over all axes but some side by side in the middle, as the gradient of a bias of channels. */
  #sumChannels(x: Operand, axes: readonly number[], out: Operand): boolean {
    const run = this.#other.sumChannels[out.dtype];
    const kept = spanOf(
      x.shape,
      x.shape.flatMap((_, axis) => (axes.includes(axis) ? [] : [axis])),
    );
    if (run === undefined || kept === null || x.dtype !== out.dtype || !inMemory(out)) return false;
    const source = this.rowMajor(x);
    run(kept.outer, kept.length, kept.inner, addressOf(source), addressOf(out));
    return true;
  }

  override argReduce(kernel: 'argmax' | 'argmin', x: Operand, axis: number, out: Operand): void {
    const run = this.#other[kernel][x.dtype];
    if (run === undefined || !inMemory(out)) return super.argReduce(kernel, x, axis, out);
    const { outer, length, inner } = spanOf(x.shape, [axis])!;
    const source = this.rowMajor(x);
    run(outer, length, inner, addressOf(source), addressOf(out));
  }

  override softmax(x: Operand, axis: number, out: Operand): void {
    if (!this.#rowwise('softmax', x, axis, out)) super.softmax(x, axis, out);
  }

  override logSoftmax(x: Operand, axis: number, out: Operand): void {
    if (!this.#rowwise('logSoftmax', x, axis, out)) super.logSoftmax(x, axis, out);
  }

  #rowwise(kernel: 'softmax' | 'logSoftmax', x: Operand, axis: number, out: Operand): boolean {
    const { outer, length, inner } = spanOf(x.shape, [axis])!;
    if (inner !== 1 || !inMemory(out)) return false;
    const source = this.rowMajor(x);
    this.#other[kernel][x.dtype]!(outer, length, addressOf(source), addressOf(out));
    return true;
  }

  override softmaxGrad(gy: Operand, y: Operand, axis: number, out: Operand): void {
    if (!this.#rowwiseGrad('softmaxBackward', gy, y, axis, out)) super.softmaxGrad(gy, y, axis, out);
  }

  override logSoftmaxGrad(gy: Operand, y: Operand, axis: number, out: Operand): void {
    if (!this.#rowwiseGrad('logSoftmaxBackward', gy, y, axis, out)) super.logSoftmaxGrad(gy, y, axis, out);
  }

  #rowwiseGrad(
    kernel: 'softmaxBackward' | 'logSoftmaxBackward',
    gy: Operand,
    y: Operand,
    axis: number,
    out: Operand,
  ): boolean {
    const { outer, length, inner } = spanOf(y.shape, [axis])!;
    if (inner !== 1 || !inMemory(out)) return false;
    const [grads, results] = [this.rowMajor(gy), this.rowMajor(y)];
    this.#other[kernel][y.dtype]!(outer, length, addressOf(grads), addressOf(results), addressOf(out));
    return true;
  }

  override crossEntropy(x: Operand, labels: Operand, stats: Operand, scale: number, out: Operand): void {
    if (!inMemory(stats)) return super.crossEntropy(x, labels, stats, scale, out);
    const [logits, index] = [this.rowMajor(x), this.rowMajor(labels)];
    const [rows, classes] = x.shape as [number, number];
    const run = this.#other.crossEntropy[x.dtype]!;
    const loss = run(rows, classes, addressOf(logits), addressOf(index), addressOf(stats));
    out.storage.array[out.offset] = scale * loss;
  }

  override crossEntropyGrad(
    gy: Operand,
    x: Operand,
    labels: Operand,
    stats: Operand,
    scale: number,
    out: Operand,
  ): void {
    if (!inMemory(stats) || !inMemory(out)) return super.crossEntropyGrad(gy, x, labels, stats, scale, out);
    const [logits, index] = [this.rowMajor(x), this.rowMajor(labels)];
    const [rows, classes] = x.shape as [number, number];
    const factor = scale * scalarOf(gy);
    const run = this.#other.crossEntropyBackward[x.dtype]!;
    run(rows, classes, addressOf(logits), addressOf(index), addressOf(stats), factor, addressOf(out));
  }

  override squaredError(a: Operand, b: Operand, scale: number, out: Operand): void {
    const [left, right] = [this.rowMajor(a), this.rowMajor(b)];
    const sum = this.#other.squaredError[a.dtype]!(sizeOf(a.shape), addressOf(left), addressOf(right));
    out.storage.array[out.offset] = scale * sum;
  }

  override squaredErrorGrad(gy: Operand, a: Operand, b: Operand, scale: number, out: Operand): void {
    if (!inMemory(out)) return super.squaredErrorGrad(gy, a, b, scale, out);
    const [left, right] = [this.rowMajor(a), this.rowMajor(b)];
    const factor = scale * scalarOf(gy);
    const run = this.#other.squaredErrorBackward[a.dtype]!;
    run(sizeOf(a.shape), addressOf(left), addressOf(right), factor, addressOf(out));
  }

  override gather(x: Operand, axis: number, index: Operand, out: Operand): void {
    if (!this.#indexed('gather', x.shape, axis, x, index, out)) super.gather(x, axis, index, out);
  }

  override scatterAdd(x: Operand, axis: number, index: Operand, out: Operand): void {
    if (!this.#indexed('scatterAdd', out.shape, axis, x, index, out)) super.scatterAdd(x, axis, index, out);
  }

  override indexSelect(x: Operand, axis: number, index: Operand, out: Operand): void {
    if (!this.#indexed('indexSelect', x.shape, axis, x, index, out)) super.indexSelect(x, axis, index, out);
  }

  override indexAdd(x: Operand, axis: number, index: Operand, out: Operand): void {
    if (!this.#indexed('indexAdd', out.shape, axis, x, index, out)) super.indexAdd(x, axis, index, out);
  }

  /** Kernels over a shape `full` [outer, length, inner] whose middle axis is indexed; those that add start from 0. */
  #indexed(
    kernel: 'gather' | 'scatterAdd' | 'indexSelect' | 'indexAdd',
    full: Shape,
    axis: number,
    x: Operand,
    index: Operand,
    out: Operand,
  ): boolean {
    const run = this.#other[kernel][x.dtype];
    const elementwise = kernel === 'gather' || kernel === 'scatterAdd';
    // An index that is smaller than the tensor along another axis has no such form.
    const fits = !elementwise || index.shape.every((length, i) => i === axis || length === full[i]);
    if (run === undefined || !fits || !inMemory(out)) return false;
    const { outer, length, inner } = spanOf(full, [axis])!;
    const [source, positions] = [this.rowMajor(x), this.rowMajor(index)];
    if (kernel === 'scatterAdd' || kernel === 'indexAdd') this.fill(0, out);
    const count = elementwise ? index.shape[axis]! : index.shape[0]!;
    run(outer, length, inner, count, addressOf(source), addressOf(positions), addressOf(out));
    return true;
  }

  override addScaled(y: Operand, x: Operand, alpha: number, keep: number): void {
    const run = this.#other.addScaled[y.dtype];
    if (run === undefined || x.dtype !== y.dtype || x.storage === y.storage || !holds(y, alpha, keep))
      return super.addScaled(y, x, alpha, keep);
    if (!inMemory(y)) return this.#through([y], ([to]) => this.addScaled(to!, x, alpha, keep));
    const source = this.#resident(x);
    const [px, py] = [addressOf(source), addressOf(y)];
    const bytes = bytesPerElement(y.dtype);
    const from = { strides: broadcastStrides('addScaled', source, y.shape), offset: 0 };
    walkPlanes(
      y.shape,
      [{ strides: y.strides, offset: 0 }, from],
      (rows, cols, _, at, { row, col }) =>
        run(rows, cols, py + at[0]! * bytes, row[0]!, col[0]!, px + at[1]! * bytes, row[1]!, col[1]!, alpha, keep),
      true,
    );
  }

  override addcdiv(y: Operand, x: Operand, d: Operand, value: number, keep: number): void {
    const run = this.#other.addcdiv[y.dtype];
    const fits = (s: Operand) => s.dtype === y.dtype && s.storage !== y.storage && sameShape(s.shape, y.shape);
    if (run === undefined || !isContiguous(y) || !fits(x) || !fits(d) || !holds(y, value, keep))
      return super.addcdiv(y, x, d, value, keep);
    if (!inMemory(y)) return this.#through([y], ([to]) => this.addcdiv(to!, x, d, value, keep));
    const [numerator, divisor] = [this.rowMajor(x), this.rowMajor(d)];
    run(sizeOf(y.shape), addressOf(y), addressOf(numerator), addressOf(divisor), value, keep);
  }

  override scale(y: Operand, beta: number): void {
    const run = this.#other.scale[y.dtype];
    if (run === undefined || !holds(y, beta)) return super.scale(y, beta);
    if (!inMemory(y)) return this.#through([y], ([to]) => this.scale(to!, beta));
    const [address, bytes] = [addressOf(y), bytesPerElement(y.dtype)];
    walkPlanes(
      y.shape,
      [{ strides: y.strides, offset: 0 }],
      (rows, cols, _, at, { row, col }) => run(rows, cols, address + at[0]! * bytes, row[0]!, col[0]!, beta),
      true,
    );
  }

  override moments(m: Operand, v: Operand, g: Operand, second: Operand | null, out: Operand, o: MomentOptions): void {
    const run = this.#other.moments[m.dtype];
    if (run === undefined) return super.moments(m, v, g, second, out, o);
    if (!inMemory(m) || !inMemory(v) || !inMemory(out))
      return this.#through([m, v, out], ([m, v, out]) => this.moments(m!, v!, g, second, out!, o));
    const gradient = this.rowMajor(g);
    const squares = second === null ? null : this.rowMajor(second);
    const [pm, pv, pg, ps] = [
      addressOf(m),
      addressOf(v),
      addressOf(gradient),
      squares === null ? 0 : addressOf(squares),
    ];
    const { beta1, beta2, eps, correction1, correction2 } = o;
    run(sizeOf(m.shape), pm, pv, pg, ps, beta1, beta2, eps, correction1, correction2, addressOf(out));
  }

  override adam(p: Operand, m: Operand, v: Operand, g: Operand, o: AdamOptions): void {
    const run = this.#other.adam[p.dtype];
    if (run === undefined) return super.adam(p, m, v, g, o);
    if (!inMemory(p) || !inMemory(m) || !inMemory(v))
      return this.#through([p, m, v], ([p, m, v]) => this.adam(p!, m!, v!, g, o));
    const gradient = this.rowMajor(g);
    const [pm, pv, pg, pp] = [addressOf(m), addressOf(v), addressOf(gradient), addressOf(p)];
    run(sizeOf(p.shape), pm, pv, pg, o.beta1, o.beta2, o.eps, o.correction1, o.correction2, pp, o.lr, o.keep);
  }

  override sgd(p: Operand, buf: Operand, g: Operand, o: SgdOptions): void {
    const run = this.#other.sgd[p.dtype];
    if (run === undefined) return super.sgd(p, buf, g, o);
    if (!inMemory(p) || !inMemory(buf)) return this.#through([p, buf], ([p, buf]) => this.sgd(p!, buf!, g, o));
    const gradient = this.rowMajor(g);
    const [pp, pb, pg] = [addressOf(p), addressOf(buf), addressOf(gradient)];
    run(sizeOf(p.shape), pp, pb, pg, o.lr, o.keep, o.take, o.look, o.own);
  }

  override gram(x: Operand, out: Operand): void {
    if (!inMemory(out)) return super.gram(x, out);
    const { exports, scratch } = this.kernels;
    const product = out.dtype === 'float32' ? exports.ssyrk : exports.dsyrk;
    const [m, n] = x.shape.slice(-2) as [number, number];
    const batch = x.shape.length === 3 ? x.shape[0]! : 1;
    const even = asMatrix(x) ?? (m < SHORT ? asMatrix(this.rowMajor(x))! : null);
    if (even !== null) {
      const rows = this.#resident(even);
      product(n, batch * m, addressOf(rows), rows.strides[1]!, rows.strides[0]!, addressOf(out), n, 0, scratch);
      return;
    }
    const entries = this.#resident(x);
    const [step, row, column] = entries.strides as [number, number, number];
    const [from, to] = [addressOf(entries), addressOf(out)];
    const bytes = step * bytesPerElement(out.dtype);
    for (let i = 0; i < batch; i++) product(n, m, from + i * bytes, column, row, to, n, i > 0 ? 1 : 0, scratch);
  }

  override linear(x: Operand, weight: Operand, bias: Operand | null, out: Operand): void {
    if (!inMemory(out)) return super.linear(x, weight, bias, out);
    // Many rows against one matrix are one product: the rows must lie at equal distances.
    const rows = x.shape.length === 2 ? this.#resident(x) : this.rowMajor(x);
    const [w, b] = [this.#resident(weight), bias && this.rowMajor(bias)];
    const { exports, scratch } = this.kernels;
    const product = out.dtype === 'float32' ? exports.sgemm : exports.dgemm;
    const [n, k] = weight.shape as [number, number];
    const m = k === 0 ? sizeOf(out.shape) / Math.max(1, n) : sizeOf(x.shape) / k;
    const [xRow, xColumn] = x.shape.length === 2 ? [rows.strides[0]!, rows.strides[1]!] : [k, 1];
    const [px, pw, pb, po] = [addressOf(rows), addressOf(w), b === null ? 0 : addressOf(b), addressOf(out)];
    product(m, n, k, px, xRow, xColumn, pw, w.strides[1]!, w.strides[0]!, po, n, pb, 0, 0, 1, 0, 0, 0, scratch);
  }

  override matmul(a: Operand, b: Operand, out: Operand): void {
    if (!isFloat(out.dtype) || !inMemory(out)) {
      super.matmul(a, b, out);
      return;
    }
    const [left, right] = [this.#resident(a), this.#resident(b)];
    const { exports, scratch } = this.kernels;
    const product = out.dtype === 'float32' ? exports.sgemm : exports.dgemm;
    const bytes = bytesPerElement(out.dtype);
    const rank = out.shape.length;
    const [m, n, k] = [out.shape[rank - 2]!, out.shape[rank - 1]!, a.shape.at(-1)!];
    const [aRow, aColumn] = left.strides.slice(-2) as [number, number];
    const [bRow, bColumn] = right.strides.slice(-2) as [number, number];
    const [pa, pb, pc] = [addressOf(left), addressOf(right), addressOf(out)];
    // NOTE: spread arguments would cost 0.25 µs a call.
    const run = (count: number, aAt: number, aBatch: number, bAt: number, bBatch: number, entry: number) => {
      const [p, q, c] = [pa + aAt * bytes, pb + bAt * bytes, pc + entry * m * n * bytes];
      product(m, n, k, p, aRow, aColumn, q, bRow, bColumn, c, n, 0, 0, 0, count, aBatch, bBatch, m * n, scratch);
    };
    if (rank === 2) {
      run(1, 0, 0, 0, 0, 0);
      return;
    }
    // The entries of a row of the batch lie at equal distances in every operand: one call a row.
    const batch = out.shape.slice(0, -2);
    const [pathA, pathB] = [batchPath(left, batch), batchPath(right, batch)];
    const [aStep, bStep] = [pathA.strides.at(-1)!, pathB.strides.at(-1)!];
    walkRows(batch, [pathA, pathB], (entry, at) => run(batch.at(-1)!, at[0]!, aStep, at[1]!, bStep, entry));
  }

  /** `x` itself if it is in this memory, else a copy that is. */
  #resident(x: Operand): Operand {
    return inMemory(x) ? x : this.copied(x);
  }

  /** Runs a kernel that writes to `targets` on copies in this memory, and writes them back. */
  #through(targets: readonly Operand[], run: (copies: Operand[]) => void): void {
    const copies = targets.map(y => this.#resident(y));
    run(copies);
    copies.forEach((copy, i) => {
      if (copy !== targets[i]) super.assign(targets[i]!, copy);
    });
  }
}

/** x [N, T, C] as one matrix [N·T, C], and a matrix as it is; null where the rows do not lie at equal distances. */
function asMatrix({ storage, dtype, shape, strides, offset }: Operand): Operand | null {
  if (shape.length === 2) return { storage, dtype, shape, strides, offset };
  const [n, t, c] = shape as [number, number, number];
  const [step, row, column] = strides as [number, number, number];
  if (n > 1 && t > 1 && step !== t * row) return null;
  return { storage, dtype, shape: [n * t, c], strides: [t === 1 ? step : row, column], offset };
}

/** Whether kernels of y's dtype may round the factors to it: in the range of float32 they keep their digits. */
const holds = (y: Operand, a: number, b = 1): boolean => y.dtype === 'float64' || (inRange(a) && inRange(b));
const inRange = (x: number) => x === Math.fround(x) || (Math.abs(x) > 1e-36 && Math.abs(x) < 3e38);

/** The element of a tensor of one. */
const scalarOf = (x: Operand): number => x.storage.array[x.offset]!;

const pathTo = (x: Operand, { shape }: Layout) => ({ strides: broadcastStrides('broadcast', x, shape), offset: 0 });

/** A shape around the axes that are reduced or indexed: before, along and after. Null if they do not lie side by side. */
function spanOf(shape: Shape, axes: readonly number[]): { outer: number; length: number; inner: number } | null {
  const [first, last] = [axes[0] ?? shape.length, axes.at(-1) ?? shape.length - 1];
  if (last - first + 1 !== axes.length) return null;
  const [before, along, after] = [shape.slice(0, first), shape.slice(first, last + 1), shape.slice(last + 1)];
  return { outer: sizeOf(before), length: sizeOf(along), inner: sizeOf(after) };
}

const unaryTable = (exports: Exports) =>
  tableOf(exports, [
    ...(['neg', 'abs', 'sign', 'exp', 'expm1', 'log', 'log1p', 'sqrt', 'square', 'reciprocal', 'sin', 'cos'] as const),
    ...([
      'tanh',
      'sigmoid',
      'relu',
      'erf',
      'gelu',
      'geluTanh',
      'floor',
      'ceil',
      'round',
      'not',
      'isFinite',
      'isNaN',
    ] as const),
  ]);

const binaryTable = (exports: Exports) =>
  tableOf(exports, [
    ...(['add', 'sub', 'mul', 'div', 'pow', 'maximum', 'minimum'] as const),
    ...(['eq', 'ne', 'lt', 'le', 'gt', 'ge', 'and', 'or'] as const),
  ]);

const slopeTable = (exports: Exports) =>
  tableOf(exports, ['reluBackward', 'tanhBackward', 'sigmoidBackward', 'geluBackward', 'geluTanhBackward']);

const otherTable = (exports: Exports) =>
  tableOf(exports, [
    ...(['fill', 'where', 'sum', 'max', 'min', 'argmax', 'argmin', 'norm', 'softmax', 'logSoftmax'] as const),
    ...(['softmaxBackward', 'logSoftmaxBackward', 'crossEntropy', 'crossEntropyBackward'] as const),
    ...(['squaredError', 'squaredErrorBackward', 'adam', 'sgd'] as const),
    ...(['gather', 'scatterAdd', 'indexSelect', 'indexAdd', 'moments', 'sumChannels'] as const),
    ...(['addScaled', 'addcdiv', 'scale'] as const),
  ]);

/** The way through the batch axes of an operand of matmul, in elements from its first one. */
function batchPath(x: Layout, batch: readonly number[]): { strides: readonly number[]; offset: number } {
  const full = [...batch, ...x.shape.slice(-2)];
  return { strides: broadcastStrides('matmul', x, full).slice(0, -2), offset: 0 };
}
