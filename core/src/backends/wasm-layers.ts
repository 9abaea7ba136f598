/**
 * What layers need beyond arithmetic, on the `wasm` backend: convolution, pooling and normalisation. `WasmBackend` in
 * wasm.ts extends this by the rest.
 *
 * NOTE: as there, an operation allocates first and reads addresses after.
 */

import type { Exports, Kernels } from '@otimes/kernels';
import { bytesPerElement, type DType } from '../dtype.ts';
import { contiguousStrides, isContiguous, type Shape, sizeOf } from '../shape.ts';
import { Storage } from '../storage.ts';
import { type Window, windowsIn } from '../window.ts';
import type { ConvGeometry, Operand } from './backend.ts';
import { perChannel, withLayout } from './operand.ts';
import { ReferenceBackend } from './reference/index.ts';
import { addressOf, allocationError, inMemory, WasmRegion } from './region.ts';
import { tableOf } from './table.ts';
import { rowMajor as elementsOf } from './walk.ts';

export class WasmLayerBackend extends ReferenceBackend {
  /** Not among the enumerable fields: who prints all of an object would print all of the memory. */
  declare readonly kernels: Kernels;
  /** What kernels needed while they ran. */
  #lent: Storage[] = [];
  #layer!: ReturnType<typeof layerTable>;

  constructor(device: string, kernels: Kernels) {
    super(device);
    Object.defineProperty(this, 'kernels', { value: kernels });
    kernels.bind(exports => {
      this.#layer = layerTable(exports);
    });
  }

  /**
   * Memory for the kernel that is about to run, which goes back before the next operation. It is always in this memory, past
   * the soft limit too, because kernels read and write nowhere else.
   */
  protected empty({ dtype, shape }: Pick<Operand, 'dtype' | 'shape'>): Operand {
    const size = sizeOf(shape);
    const storage = new Storage(this, dtype, this.#regionFor(dtype, size));
    this.#lent.push(storage);
    return { storage, dtype, shape, strides: contiguousStrides(shape), offset: 0 };
  }

  #regionFor(dtype: DType, size: number): WasmRegion {
    const { heap } = this.kernels;
    try {
      return new WasmRegion(heap, heap.allocate(size * bytesPerElement(dtype), true)!, dtype, size);
    } catch (error) {
      throw allocationError(dtype, size, error);
    }
  }

  override endKernels(): void {
    if (this.#lent.length === 0) return;
    for (const storage of this.#lent) storage.release();
    this.#lent = [];
  }

  /** `x` in row-major order in this memory: itself if it lies so, else a copy. */
  protected rowMajor(x: Operand): Operand {
    return inMemory(x) && isContiguous(x) ? x : this.copied(x);
  }

  protected copied(x: Operand): Operand {
    const copy = this.empty(x);
    if (inMemory(x)) this.assign(copy, x);
    else copy.storage.array.set(elementsOf(x));
    return copy;
  }

  // --- convolution and pooling ----------------------------------------------------------------------------------------

  override convForward(x: Operand, w: Operand, bias: Operand | null, out: Operand, geometry: ConvGeometry): void {
    const run = this.#layer.convForward[out.dtype];
    if (run === undefined || !inMemory(out)) return super.convForward(x, w, bias, out, geometry);
    const [images, weights] = [this.rowMajor(x), this.rowMajor(w)];
    const sizes = convSizes(x.shape, w.shape, out.shape, geometry);
    run(...sizes, addressOf(images), addressOf(weights), addressOf(out), this.kernels.scratch);
    if (bias !== null) this.binary('add', out, perChannel(bias), out);
  }

  override convInputGrad(gy: Operand, w: Operand, out: Operand, geometry: ConvGeometry): void {
    const run = this.#layer.convInputGrad[out.dtype];
    if (run === undefined || !inMemory(out)) return super.convInputGrad(gy, w, out, geometry);
    const [grads, weights] = [this.rowMajor(gy), this.rowMajor(w)];
    const sizes = convSizes(out.shape, w.shape, gy.shape, geometry);
    run(...sizes, addressOf(grads), addressOf(weights), addressOf(out), this.kernels.scratch);
  }

  override convWeightGrad(x: Operand, gy: Operand, out: Operand, geometry: ConvGeometry): void {
    const run = this.#layer.convWeightGrad[out.dtype];
    if (run === undefined || !inMemory(out)) return super.convWeightGrad(x, gy, out, geometry);
    const [images, grads] = [this.rowMajor(x), this.rowMajor(gy)];
    const sizes = convSizes(x.shape, out.shape, gy.shape, geometry);
    run(...sizes, addressOf(images), addressOf(grads), addressOf(out), this.kernels.scratch);
  }

  override unfold(x: Operand, out: Operand, window: Window): void {
    const run = this.#layer.unfold[out.dtype];
    if (run === undefined || !inMemory(out)) return super.unfold(x, out, window);
    const images = this.rowMajor(x);
    run(...patchSizes(x.shape, window), addressOf(images), addressOf(out));
  }

  override fold(x: Operand, out: Operand, window: Window): void {
    const run = this.#layer.fold[out.dtype];
    if (run === undefined || !inMemory(out)) return super.fold(x, out, window);
    const patches = this.rowMajor(x);
    run(...patchSizes(out.shape, window), addressOf(patches), addressOf(out));
  }

  override patchGram(x: Operand, out: Operand, window: Window, ones: boolean): void {
    const run = this.#layer.patchGram[out.dtype];
    if (run === undefined || !inMemory(out) || out.shape[0] === 0) return this.#gramOfPatches(x, out, window, ones);
    const images = this.rowMajor(x);
    const [kh, kw] = window.kernel;
    const size = x.shape[1]! * kw + (ones ? 1 : 0);
    const perLine = 32 / bytesPerElement(out.dtype);
    const shape = [kh * (kh + 1) * size, Math.ceil(size / perLine) * perLine];
    const work = this.empty({ dtype: out.dtype, shape });
    const [px, pw, po] = [addressOf(images), addressOf(work), addressOf(out)];
    const done = run(...patchSizes(x.shape, window), ones ? 1 : 0, px, pw, po, this.kernels.scratch);
    // The kernel leaves padding out, but 0 · ∞ is NaN.
    const finite = out.storage.array.subarray(out.offset, out.offset + sizeOf(out.shape)).every(Number.isFinite);
    if (!done || !finite) this.#gramOfPatches(x, out, window, ones);
  }

  #gramOfPatches(x: Operand, out: Operand, window: Window, ones: boolean): void {
    const [ho, wo] = windowsIn('patchGram', [x.shape[2]!, x.shape[3]!], window);
    const elements = x.shape[1]! * window.kernel[0] * window.kernel[1];
    const patches = this.empty({ dtype: x.dtype, shape: [x.shape[0]!, ho * wo, elements] });
    this.unfold(x, patches, window);
    if (!ones) return this.gram(patches, out);
    const rows = this.empty({ dtype: x.dtype, shape: [x.shape[0]!, ho * wo, elements + 1] });
    this.fill(1, rows);
    this.assign(withLayout(rows, patches.shape, rows.strides), patches);
    this.gram(rows, out);
  }

  override maxPoolIndex(x: Operand, out: Operand, window: Window): void {
    const run = this.#layer.maxPoolIndex[x.dtype];
    if (run === undefined || !inMemory(out)) return super.maxPoolIndex(x, out, window);
    const planes = this.rowMajor(x);
    run(...poolSizes(x.shape, out.shape, window), addressOf(planes), addressOf(out));
  }

  override avgPool(x: Operand, out: Operand, window: Window, countIncludePad: boolean): void {
    const run = this.#layer.avgPool[out.dtype];
    if (run === undefined || !inMemory(out)) return super.avgPool(x, out, window, countIncludePad);
    const planes = this.rowMajor(x);
    run(...poolSizes(x.shape, out.shape, window), countIncludePad ? 1 : 0, addressOf(planes), addressOf(out));
  }

  override avgPoolGrad(gy: Operand, out: Operand, window: Window, countIncludePad: boolean): void {
    const run = this.#layer.avgPoolGrad[out.dtype];
    if (run === undefined || !inMemory(out)) return super.avgPoolGrad(gy, out, window, countIncludePad);
    const grads = this.rowMajor(gy);
    run(...poolSizes(out.shape, gy.shape, window), countIncludePad ? 1 : 0, addressOf(grads), addressOf(out));
  }

  // --- normalisation --------------------------------------------------------------------------------------------------

  override normalize(
    x: Operand,
    weight: Operand,
    bias: Operand | null,
    eps: number,
    out: Operand,
    mean: Operand,
    variance: Operand,
  ): void {
    const groups = groupsOf(x.shape, mean.shape);
    if (groups === null || ![out, mean, variance].every(inMemory))
      return super.normalize(x, weight, bias, eps, out, mean, variance);
    const affine = [weight, bias].every(p => p === null || groups.takes(p.shape));
    const source = this.rowMajor(x);
    const [w, b] = affine ? [this.rowMajor(weight), bias && this.rowMajor(bias)] : [null, null];
    const [px, pw, pb] = [addressOf(source), w === null ? 0 : addressOf(w), b === null ? 0 : addressOf(b)];
    const [po, pm, pv] = [addressOf(out), addressOf(mean), addressOf(variance)];
    if (groups.kind === 'rows') {
      const { rows, cols } = groups;
      this.#layer.layerNorm[x.dtype]!(rows, cols, px, pw, pb, eps, po, pm, pv);
    } else {
      const { outer, channels, inner } = groups;
      this.#layer.batchStats[x.dtype]!(outer, channels, inner, px, pm, pv);
      this.#layer.batchNorm[x.dtype]!(outer, channels, inner, px, pm, pv, eps, pw, pb, po);
    }
    if (affine) return;
    this.binary('mul', out, weight, out);
    if (bias !== null) this.binary('add', out, bias, out);
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
    const groups = groupsOf(x.shape, mean.shape);
    if (groups === null || ![out, mean, variance].every(inMemory))
      return super.normalizeInputGrad(gy, x, weight, eps, mean, variance, out);
    const affine = groups.takes(weight.shape);
    const source = this.rowMajor(x);
    const w = affine ? this.rowMajor(weight) : null;
    // Where the weight is not the kernel's, it is multiplied in first.
    const grads = affine ? this.rowMajor(gy) : this.empty(x);
    if (!affine) this.binary('mul', gy, weight, grads);
    const [pg, px, pw] = [addressOf(grads), addressOf(source), w === null ? 0 : addressOf(w)];
    const [po, pm, pv] = [addressOf(out), addressOf(mean), addressOf(variance)];
    if (groups.kind === 'rows') {
      const { rows, cols } = groups;
      this.#layer.layerNormBackward[x.dtype]!(rows, cols, pg, px, pw, eps, pm, pv, po);
    } else {
      const { outer, channels, inner } = groups;
      this.#layer.batchNormBackward[x.dtype]!(outer, channels, inner, pg, px, pm, pv, eps, pw, 1, po, 0, 0);
    }
  }

  override normalizeWeightGrad(
    gy: Operand,
    x: Operand,
    eps: number,
    mean: Operand,
    variance: Operand,
    out: Operand,
  ): void {
    const groups = groupsOf(x.shape, mean.shape);
    if (groups === null || ![out, mean, variance].every(inMemory))
      return super.normalizeWeightGrad(gy, x, eps, mean, variance, out);
    if (!groups.takes(out.shape)) {
      // Group norm: rows have their statistics, channels their weights. x̂ again, times gy, summed to the weight's shape.
      if (groups.kind !== 'rows') return super.normalizeWeightGrad(gy, x, eps, mean, variance, out);
      const [source, normal] = [this.rowMajor(x), this.empty(x)];
      const [px, pn, pm, pv] = [addressOf(source), addressOf(normal), addressOf(mean), addressOf(variance)];
      this.#layer.layerNorm[x.dtype]!(groups.rows, groups.cols, px, 0, 0, eps, pn, pm, pv);
      this.binary('mul', normal, gy, normal);
      const lead = x.shape.length - out.shape.length;
      const axes = x.shape.flatMap((n, i) => (i < lead || out.shape[i - lead] !== n ? [i] : []));
      return this.reduce('sum', normal, axes, out);
    }
    const [grads, source] = [this.rowMajor(gy), this.rowMajor(x)];
    const [pg, px] = [addressOf(grads), addressOf(source)];
    const [po, pm, pv] = [addressOf(out), addressOf(mean), addressOf(variance)];
    if (groups.kind === 'rows') {
      const { rows, cols } = groups;
      this.#layer.layerNormWeights[x.dtype]!(rows, cols, pg, px, eps, pm, pv, po, 0);
    } else {
      const { outer, channels, inner } = groups;
      this.#layer.batchNormBackward[x.dtype]!(outer, channels, inner, pg, px, pm, pv, eps, 0, 1, 0, po, 0);
    }
  }
}

const layerTable = (exports: Exports) =>
  tableOf(exports, [
    ...(['convForward', 'convInputGrad', 'convWeightGrad', 'unfold', 'fold', 'patchGram'] as const),
    ...(['maxPoolIndex', 'avgPool', 'avgPoolGrad'] as const),
    ...(['layerNorm', 'layerNormBackward', 'layerNormWeights'] as const),
    ...(['batchStats', 'batchNorm', 'batchNormBackward'] as const),
  ]);

/** The geometry in the order of the kernels, by the shapes of images, weights and results. */
function convSizes(x: Shape, w: Shape, y: Shape, { stride, padding, dilation, groups }: ConvGeometry) {
  const [n, c, h, width] = x as [number, number, number, number];
  const [o, , kh, kw] = w as [number, number, number, number];
  const [, , ho, wo] = y as [number, number, number, number];
  return [n, c, h, width, o, kh, kw, ho, wo, ...stride, ...padding, ...dilation, groups] as const;
}

/** The same without weights: of images and a window. */
function patchSizes(x: Shape, window: Window) {
  const y = windowsIn('unfold', [x[2]!, x[3]!], window);
  return convSizes(x, [0, 0, ...window.kernel], [0, 0, ...y], { ...window, groups: 1 });
}

function poolSizes(x: Shape, y: Shape, { kernel, stride, padding }: Window) {
  const [n, c, h, w] = x as [number, number, number, number];
  return [n * c, h, w, y[2]!, y[3]!, ...kernel, ...stride, ...padding] as const;
}

/** How a shape splits into groups with a mean of their own, and whether a parameter of a shape is one of the kernel. */
type Groups = { readonly takes: (parameter: Shape) => boolean } & (
  | { readonly kind: 'rows'; readonly rows: number; readonly cols: number }
  | { readonly kind: 'channels'; readonly outer: number; readonly channels: number; readonly inner: number }
);

/** Groups that are rows (layer and group norm) or channels (batch norm), by the shape of their means; else null. */
function groupsOf(x: Shape, mean: Shape): Groups | null {
  const rank = x.length;
  /** Whether a shape that broadcasts to x is x's along the axes from … to − 1 and 1 elsewhere. */
  const spans = (shape: Shape, from: number, to: number) =>
    x.every((length, i) => (shape[i - rank + shape.length] ?? 1) === (i >= from && i < to ? length : 1));
  let split = rank;
  while (split > 0 && mean[split - 1] === 1) split--;
  if (spans(mean, 0, split)) {
    const takes = (parameter: Shape) => spans(parameter, split, rank);
    return { kind: 'rows', rows: sizeOf(x.slice(0, split)), cols: sizeOf(x.slice(split)), takes };
  }
  if (!spans(mean, 1, 2)) return null;
  const takes = (parameter: Shape) => spans(parameter, 1, 2);
  return { kind: 'channels', outer: x[0]!, channels: x[1]!, inner: sizeOf(x.slice(2)), takes };
}
