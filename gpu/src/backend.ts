/**
 * The device 'gpu'. What no method here computes is composed of the others by its base. float32; int32 for labels and
 * indices; a bool is a float32 word.
 */

import {
  type AdamOptions,
  type BinaryKernel,
  ComposedBackend,
  type ConvGeometry,
  type DType,
  type MomentOptions,
  type Operand,
  type ReduceKernel,
  type Region,
  type SgdOptions,
  type TypedArray,
  type UnaryGradKernel,
  type UnaryKernel,
  type Window,
} from '@otimes/core';
import { type BadValue, isPrecise, readError } from '@otimes/core/extend';
import type { GpuInfo } from './adapter.ts';
import * as chains from './chains.ts';
import { checkKernel } from './check.ts';
import { Commands } from './commands.ts';
import { type Context, newContext, regionOf, releaseTemporaries } from './context.ts';
import * as conv from './conv.ts';
import * as decompose from './decompose.ts';
import * as elementwise from './elementwise.ts';
import * as loss from './loss.ts';
import type { MatrixUnit } from './matrix-unit.ts';
import * as memory from './memory.ts';
import * as norm from './norm.ts';
import * as product from './product.ts';
import * as reduce from './reduce.ts';
import * as scaler from './scaler.ts';
import * as select from './select.ts';
import * as softmax from './softmax.ts';
import type { CommandStats, PoolStats } from './stats.ts';
import * as update from './update.ts';
import * as windows from './windows.ts';

/** See `CommandStats` and `PoolStats`. */
export type GpuStats = Readonly<CommandStats & PoolStats>;

export type GpuBackendOptions = {
  /** By which tensors ask for it; default 'gpu'. */
  readonly name?: string;
  /** As in `initGpu`. */
  readonly memoryLimit: number;
  /** As in `initGpu`, and the matrix units that it is to use. */
  readonly mixed?: boolean;
  readonly unit?: MatrixUnit | null;
  /**
   * How often the same launches come together before they become one dispatch, default 12; 1000 where the adapter computes on the
   * CPU, whose compiler takes as long for a joined shader as some 1000 launches; Infinity: each stays one.
   */
  readonly joinAt?: number;
};

export class GpuBackend extends ComposedBackend {
  readonly dtypes: readonly DType[] = ['bool', 'int32', 'float32'];
  readonly info: GpuInfo;
  readonly #context: Context;
  #name: string;

  /** @internal */
  constructor(
    device: GPUDevice,
    info: GpuInfo,
    { name = 'gpu', memoryLimit, joinAt, mixed = false, unit = null }: GpuBackendOptions,
  ) {
    super();
    this.#name = name;
    this.info = info;
    const commands = new Commands(device, joinAt ?? (info.isFallbackAdapter ? 1000 : undefined));
    this.#context = newContext(commands, memoryLimit, { device: name, mixed: () => mixed && !isPrecise(), unit });
  }

  get device(): string {
    return this.#name;
  }

  /** @internal */
  get gpuDevice(): GPUDevice {
    return this.#context.commands.device;
  }

  /** @internal Another takes its name. Its tensors can still be read, if it is not lost, and mix with no others; what refuses them says that name. */
  retire(): void {
    this.#name +=
      ' of an earlier initGpu() (make its model anew, or move it by await model.cpu() if that GPU is not lost)';
  }

  /** Counts since the device was opened, and what the pool holds now. A copy: it does not change. */
  get stats(): GpuStats {
    return { ...this.#context.commands.stats, ...this.#context.pool.stats };
  }

  allocate(_dtype: DType, size: number): Region {
    releaseTemporaries(this.#context);
    return regionOf(this.#context, size);
  }

  store(data: TypedArray): Region {
    return memory.store(this.#context, data);
  }

  read(): TypedArray {
    throw readError(this.device);
  }

  readAsync(x: Operand, peek = false): Promise<TypedArray> {
    return memory.fetchElements(this.#context, x, peek);
  }

  copy(x: Operand, out: Operand): void {
    memory.copy(this.#context, x, out);
  }

  fill(value: number, out: Operand): void {
    memory.fill(this.#context, value, out);
  }

  checkIndex(index: Operand, length: number, error: BadValue): void {
    checkKernel(this.#context, 'out of range', index, error, length);
  }

  checkFinite(x: Operand, error: BadValue): void {
    checkKernel(this.#context, 'not finite', x, error);
  }

  onFailure(undo: () => void): void {
    this.#context.commands.onFailure(undo);
  }

  /** out ← a function's body, in the JavaScript that gpu.js translates, of operands and numbers by their names. */
  elementwise(body: string, operands: Readonly<Record<string, Operand | number>>, out: Operand): void {
    elementwise.byGpuJs(this.#context, body, operands, out);
  }

  skipIf(found: Operand | null): void {
    scaler.skipIf(this.#context, found);
  }

  unscale(g: Operand, scale: Operand, found: Operand): void {
    scaler.unscale(this.#context, g, scale, found);
  }

  caughtUp(): Promise<void> | undefined {
    return this.#context.commands.caughtUp();
  }

  unary(kernel: UnaryKernel, x: Operand, out: Operand): void {
    elementwise.unary(this.#context, kernel, x, out);
  }

  override unaryGrad(kernel: UnaryGradKernel, gy: Operand, a: Operand, out: Operand): void {
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

  matmul(a: Operand, b: Operand, out: Operand): void {
    product.matmul(this.#context, a, b, out);
  }

  override gram(x: Operand, out: Operand): void {
    product.gram(this.#context, x, out);
  }

  override linear(x: Operand, weight: Operand, bias: Operand | null, out: Operand): void {
    product.linear(this.#context, x, weight, bias, out);
  }

  cholesky(x: Operand, shift: number, least: number, out: Operand): void {
    decompose.cholesky(this.#context, x, shift, least, out);
  }

  descending(x: Operand, out: Operand): void {
    decompose.descending(this.#context, x, out);
  }

  gather(x: Operand, axis: number, index: Operand, out: Operand): void {
    select.gather(this.#context, x, axis, index, out);
  }

  scatterAdd(x: Operand, axis: number, index: Operand, out: Operand): void {
    select.scatterAdd(this.#context, x, axis, index, out);
  }

  override indexAdd(x: Operand, axis: number, index: Operand, out: Operand): void {
    chains.indexAdd(this.#context, x, axis, index, out);
  }

  assign(y: Operand, x: Operand): void {
    update.assign(this.#context, y, x);
  }

  restore(y: Operand, x: Operand): void {
    update.restore(this.#context, y, x);
  }

  override addScaled(y: Operand, x: Operand, alpha: number, keep: number): void {
    if (update.isFloat(y)) update.addScaled(this.#context, y, x, alpha, keep);
    else super.addScaled(y, x, alpha, keep);
  }

  override addcdiv(y: Operand, x: Operand, d: Operand, value: number, keep: number): void {
    if (update.isFloat(y)) update.addcdiv(this.#context, y, x, d, value, keep);
    else super.addcdiv(y, x, d, value, keep);
  }

  override scale(y: Operand, beta: number): void {
    if (update.isFloat(y)) update.scale(this.#context, y, beta);
    else super.scale(y, beta);
  }

  override moments(m: Operand, v: Operand, g: Operand, second: Operand | null, out: Operand, o: MomentOptions): void {
    if (update.atStart(m, v, out) && update.isFloat(g, second)) update.moments(this.#context, m, v, g, second, out, o);
    else super.moments(m, v, g, second, out, o);
  }

  override adam(p: Operand, m: Operand, v: Operand, g: Operand, o: AdamOptions): void {
    if (update.atStart(p, m, v) && update.isFloat(g)) update.adam(this.#context, p, m, v, g, o);
    else super.adam(p, m, v, g, o);
  }

  override sgd(p: Operand, buf: Operand, g: Operand, o: SgdOptions): void {
    if (update.atStart(p, buf) && update.isFloat(g)) update.sgd(this.#context, p, buf, g, o);
    else super.sgd(p, buf, g, o);
  }

  override softmax(x: Operand, axis: number, out: Operand): void {
    softmax.softmax(this.#context, x, axis, out);
  }

  override logSoftmax(x: Operand, axis: number, out: Operand): void {
    softmax.logSoftmax(this.#context, x, axis, out);
  }

  override softmaxGrad(gy: Operand, y: Operand, axis: number, out: Operand): void {
    softmax.softmaxGrad(this.#context, gy, y, axis, out);
  }

  override logSoftmaxGrad(gy: Operand, y: Operand, axis: number, out: Operand): void {
    softmax.logSoftmaxGrad(this.#context, gy, y, axis, out);
  }

  override unfold(x: Operand, out: Operand, window: Window): void {
    windows.unfold(this.#context, x, out, window);
  }

  override fold(x: Operand, out: Operand, window: Window): void {
    windows.fold(this.#context, x, out, window);
  }

  override patchGram(x: Operand, out: Operand, window: Window, ones: boolean): void {
    conv.patchGram(this.#context, x, out, window, windows.placesOf(x, window), ones);
  }

  override convForward(x: Operand, w: Operand, bias: Operand | null, out: Operand, geometry: ConvGeometry): void {
    conv.convForward(this.#context, x, w, bias, out, geometry);
  }

  override convInputGrad(gy: Operand, w: Operand, out: Operand, geometry: ConvGeometry): void {
    conv.convInputGrad(this.#context, gy, w, out, geometry);
  }

  override convWeightGrad(x: Operand, gy: Operand, out: Operand, geometry: ConvGeometry): void {
    conv.convWeightGrad(this.#context, x, gy, out, geometry);
  }

  override maxPoolIndex(x: Operand, out: Operand, window: Window): void {
    windows.maxPoolIndex(this.#context, x, out, window);
  }

  maxPoolGrad(gy: Operand, index: Operand, out: Operand, window: Window): void {
    windows.maxPoolGrad(this.#context, gy, index, out, window);
  }

  override avgPool(x: Operand, out: Operand, window: Window, countIncludePad: boolean): void {
    windows.avgPool(this.#context, x, out, window, countIncludePad);
  }

  override avgPoolGrad(gy: Operand, out: Operand, window: Window, countIncludePad: boolean): void {
    windows.avgPoolGrad(this.#context, gy, out, window, countIncludePad);
  }

  override normalize(
    x: Operand,
    weight: Operand,
    bias: Operand | null,
    eps: number,
    out: Operand,
    mean: Operand,
    variance: Operand,
  ): void {
    norm.normalize(this.#context, x, weight, bias, eps, out, mean, variance);
  }

  override normalizeInputGrad(
    gy: Operand,
    x: Operand,
    weight: Operand,
    eps: number,
    mean: Operand,
    variance: Operand,
    out: Operand,
  ): void {
    norm.normalizeInputGrad(this.#context, gy, x, weight, eps, mean, variance, out);
  }

  override normalizeWeightGrad(
    gy: Operand,
    x: Operand,
    eps: number,
    mean: Operand,
    variance: Operand,
    out: Operand,
  ): void {
    norm.normalizeWeightGrad(this.#context, gy, x, eps, mean, variance, out);
  }

  normalizeGrads(
    gy: Operand,
    x: Operand,
    weight: Operand,
    eps: number,
    mean: Operand,
    variance: Operand,
    out: Operand,
    weightGrad: Operand,
    biasGrad: Operand,
  ): void {
    norm.normalizeGrads(this.#context, gy, x, weight, eps, mean, variance, out, weightGrad, biasGrad);
  }

  override crossEntropy(x: Operand, labels: Operand, stats: Operand, scale: number, out: Operand): void {
    loss.crossEntropy(this.#context, x, labels, stats, scale, out);
  }

  override crossEntropyGrad(
    gy: Operand,
    x: Operand,
    labels: Operand,
    stats: Operand,
    scale: number,
    out: Operand,
  ): void {
    loss.crossEntropyGrad(this.#context, gy, x, labels, stats, scale, out);
  }

  override squaredError(a: Operand, b: Operand, scale: number, out: Operand): void {
    loss.squaredError(this.#context, a, b, scale, out);
  }

  override squaredErrorGrad(gy: Operand, a: Operand, b: Operand, scale: number, out: Operand): void {
    loss.squaredErrorGrad(this.#context, gy, a, b, scale, out);
  }
}
