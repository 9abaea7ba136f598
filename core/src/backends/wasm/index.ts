/** The `wasm` backend: the kernels of @otimes/kernels on tensors in their memory. */

import { automaticThreads, createKernels, type Kernels } from '@otimes/kernels';
import type { DType, TypedArray } from '../../dtype.ts';
import type { BadValue } from '../../errors.ts';
import type { Region } from '../../storage.ts';
import type {
  AdamOptions,
  Backend,
  BinaryKernel,
  MomentOptions,
  Operand,
  ReduceKernel,
  SgdOptions,
  UnaryGradKernel,
  UnaryKernel,
} from '../backend.ts';
import { kernels as reference } from '../reference/index.ts';
import * as check from './check.ts';
import { type Context, contextOf, endKernels } from './context.ts';
import * as elementwise from './elementwise.ts';
import * as loss from './layers/loss.ts';
import * as memory from './memory.ts';
import * as product from './product.ts';
import * as reduce from './reduce.ts';
import * as select from './select.ts';
import * as update from './update.ts';

/** A backend with a memory of its own, or null where the host has no WebAssembly SIMD. */
export function createWasmBackend(device = 'cpu'): WasmBackend | null {
  const kernels = createKernels();
  if (kernels === null) return null;
  automaticThreads(kernels);
  return new WasmBackend(device, kernels);
}

/** What has no kernel in this folder is the reference's. */
export interface WasmBackend extends Backend {
  readonly onHost: true;
}

/** The functions' context of a backend, for kernels that come with their operations (../parts.ts). */
export let contextIn: (backend: WasmBackend) => Context;

/**
 * The functions of this folder as methods. No function calls another through `this`: who replaces one by a subclass replaces
 * that alone.
 */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the methods that the interface adds are assigned below
export class WasmBackend {
  static readonly name: string = 'WasmBackend';
  readonly device: string;
  readonly onHost = true;
  /** Not among the enumerable fields: who prints all of an object would print all of the memory. */
  declare readonly kernels: Kernels;
  readonly #context: Context;

  static {
    contextIn = backend => backend.#context;
  }

  constructor(device: string, kernels: Kernels) {
    this.device = device;
    Object.defineProperty(this, 'kernels', { value: kernels });
    this.#context = contextOf(this, kernels);
  }

  endKernels(): void {
    endKernels(this.#context);
  }

  allocate(dtype: DType, size: number): TypedArray | Region {
    return memory.allocate(this.#context, dtype, size);
  }

  store(data: TypedArray): TypedArray | Region {
    return memory.store(this.#context, data);
  }

  read(x: Operand): TypedArray {
    return memory.read(x);
  }

  copy(x: Operand, out: Operand): void {
    memory.assign(this.#context, out, x);
  }

  fill(value: number, out: Operand): void {
    memory.fill(this.#context, value, out);
  }

  assign(y: Operand, x: Operand): void {
    memory.assign(this.#context, y, x);
  }

  unary(kernel: UnaryKernel, x: Operand, out: Operand): void {
    elementwise.unary(this.#context, kernel, x, out);
  }

  unaryGrad(kernel: UnaryGradKernel, gy: Operand, a: Operand, out: Operand): void {
    elementwise.unaryGrad(this.#context, kernel, gy, a, out);
  }

  binary(kernel: BinaryKernel, a: Operand | number, b: Operand | number, out: Operand): void {
    elementwise.binary(this.#context, kernel, a, b, out);
  }

  where(condition: Operand, a: Operand, b: Operand, out: Operand): void {
    elementwise.where(this.#context, condition, a, b, out);
  }

  reduce(kernel: ReduceKernel, x: Operand, axes: readonly number[], out: Operand): void {
    reduce.reduce(this.#context, kernel, x, axes, out);
  }

  argReduce(kernel: 'argmax' | 'argmin', x: Operand, axis: number, out: Operand): void {
    reduce.argReduce(this.#context, kernel, x, axis, out);
  }

  softmax(x: Operand, axis: number, out: Operand): void {
    reduce.softmax(this.#context, x, axis, out);
  }

  logSoftmax(x: Operand, axis: number, out: Operand): void {
    reduce.logSoftmax(this.#context, x, axis, out);
  }

  softmaxGrad(gy: Operand, y: Operand, axis: number, out: Operand): void {
    reduce.softmaxGrad(this.#context, gy, y, axis, out);
  }

  logSoftmaxGrad(gy: Operand, y: Operand, axis: number, out: Operand): void {
    reduce.logSoftmaxGrad(this.#context, gy, y, axis, out);
  }

  matmul(a: Operand, b: Operand, out: Operand): void {
    product.matmul(this.#context, a, b, out);
  }

  gram(x: Operand, out: Operand): void {
    product.gram(this.#context, x, out);
  }

  linear(x: Operand, weight: Operand, bias: Operand | null, out: Operand): void {
    product.linear(this.#context, x, weight, bias, out);
  }

  gather(x: Operand, axis: number, index: Operand, out: Operand): void {
    select.gather(this.#context, x, axis, index, out);
  }

  scatterAdd(x: Operand, axis: number, index: Operand, out: Operand): void {
    select.scatterAdd(this.#context, x, axis, index, out);
  }

  indexSelect(x: Operand, axis: number, index: Operand, out: Operand): void {
    select.indexSelect(this.#context, x, axis, index, out);
  }

  indexAdd(x: Operand, axis: number, index: Operand, out: Operand): void {
    select.indexAdd(this.#context, x, axis, index, out);
  }

  addScaled(y: Operand, x: Operand, alpha: number, keep: number): void {
    update.addScaled(this.#context, y, x, alpha, keep);
  }

  addcdiv(y: Operand, x: Operand, d: Operand, value: number, keep: number): void {
    update.addcdiv(this.#context, y, x, d, value, keep);
  }

  scale(y: Operand, beta: number): void {
    update.scale(this.#context, y, beta);
  }

  moments(m: Operand, v: Operand, g: Operand, second: Operand | null, out: Operand, o: MomentOptions): void {
    update.moments(this.#context, m, v, g, second, out, o);
  }

  adam(p: Operand, m: Operand, v: Operand, g: Operand, o: AdamOptions): void {
    update.adam(this.#context, p, m, v, g, o);
  }

  sgd(p: Operand, buf: Operand, g: Operand, o: SgdOptions): void {
    update.sgd(this.#context, p, buf, g, o);
  }

  checkIndex(index: Operand, length: number, error: BadValue): void {
    check.checkIndex(this.#context, index, length, error);
  }

  checkFinite(x: Operand, error: BadValue): void {
    check.checkFinite(this.#context, x, error);
  }

  crossEntropy(x: Operand, labels: Operand, stats: Operand, scale: number, out: Operand): void {
    loss.crossEntropy(this.#context, x, labels, stats, scale, out);
  }

  crossEntropyGrad(gy: Operand, x: Operand, labels: Operand, stats: Operand, scale: number, out: Operand): void {
    loss.crossEntropyGrad(this.#context, gy, x, labels, stats, scale, out);
  }

  squaredError(a: Operand, b: Operand, scale: number, out: Operand): void {
    loss.squaredError(this.#context, a, b, scale, out);
  }

  squaredErrorGrad(gy: Operand, a: Operand, b: Operand, scale: number, out: Operand): void {
    loss.squaredErrorGrad(this.#context, gy, a, b, scale, out);
  }
}
// What has no kernel here runs the reference's loops over the same memory.
for (const [name, kernel] of Object.entries(reference))
  if (!(name in WasmBackend.prototype))
    Object.defineProperty(WasmBackend.prototype, name, { value: kernel, writable: true });
