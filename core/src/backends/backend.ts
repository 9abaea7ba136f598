/**
 * The interface between operations and the code that computes. A backend owns one device. `reference` in this folder is
 * the slow, obviously right one; others must agree with it on every kernel.
 *
 * Kernels read operands of any layout and write `out`, which is contiguous, has its final shape and any
 * content before (in-place kernels say so). Shapes and dtypes were checked by the operation; kernels convert elements where the
 * dtypes of operand and result differ.
 */

import type { DType, TypedArray } from '../dtype.ts';
import type { Layout } from '../shape.ts';
import type { Region, Storage } from '../storage.ts';
import type { Window } from '../window.ts';

/** A tensor as kernels see it. */
export interface Operand extends Layout {
  readonly storage: Storage;
  readonly dtype: DType;
}

export type UnaryKernel =
  | 'neg'
  | 'abs'
  | 'sign'
  | 'exp'
  | 'expm1'
  | 'log'
  | 'log1p'
  | 'sqrt'
  | 'square'
  | 'reciprocal'
  | 'sin'
  | 'cos'
  | 'tanh'
  | 'sigmoid'
  | 'relu'
  | 'erf'
  | 'gelu'
  | 'geluTanh'
  | 'floor'
  | 'ceil'
  | 'round'
  | 'not'
  | 'isFinite'
  | 'isNaN';

/** Functions whose gradient is one kernel. */
export type UnaryGradKernel = 'relu' | 'tanh' | 'sigmoid' | 'gelu' | 'geluTanh';

export type BinaryKernel =
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'pow'
  | 'maximum'
  | 'minimum'
  | 'eq'
  | 'ne'
  | 'lt'
  | 'le'
  | 'gt'
  | 'ge'
  | 'and'
  | 'or';

/** `mean` and `norm` (√Σx²) must be right wherever the result is in range, whatever the sum or the squares are. */
export type ReduceKernel = 'sum' | 'max' | 'min' | 'mean' | 'norm';

/** Constants of one moment update of Adam; see `Backend.moments`. */
export type MomentOptions = {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** 1 − β₁ᵗ and 1 − β₂ᵗ, where t counts this update too. */
  readonly correction1: number;
  readonly correction2: number;
};

/** A whole step of Adam: p ← keep · p − lr · direction; keep is 1, or 1 − lr · weightDecay in AdamW. */
export type AdamOptions = MomentOptions & { readonly lr: number; readonly keep: number };

/** A step of SGD with momentum; see `Backend.sgd`. */
export type SgdOptions = {
  readonly lr: number;
  readonly keep: number;
  readonly take: number;
  readonly look: number;
  readonly own: number;
};

/** Where the kernel of a convolution goes; `groups` splits input and output channels into independent convolutions. */
export type ConvGeometry = Window & { readonly groups: number };

/**
 * Convolution of images x [N, C, H, W] with weights w [O, C/groups, kh, kw] to y [N, O, Ho, Wo], and its two transposes:
 * one form Σ gy·w·x, differentiated by gy, by x and by w. `out` has the shape of what is asked for.
 */
export interface ConvKernels {
  /** out (y) ← x ∗ w + bias [O] */
  convForward(x: Operand, w: Operand, bias: Operand | null, out: Operand, geometry: ConvGeometry): void;
  /** out (like x) ← the gradient of Σ gy · (x ∗ w) by x */
  convInputGrad(gy: Operand, w: Operand, out: Operand, geometry: ConvGeometry): void;
  /** out (like w) ← the gradient of Σ gy · (x ∗ w) by w */
  convWeightGrad(x: Operand, gy: Operand, out: Operand, geometry: ConvGeometry): void;
  /** out [N, Ho·Wo, C·kh·kw] ← the patches of x, positions row-major, each (channel, row, column); zeros outside. */
  unfold(x: Operand, out: Operand, window: Window): void;
  /**
   * out [I, I] ← Σ p pᵀ over the patches p [I] that `unfold` gives, all images and positions, exactly symmetric; with `ones`
   * [I + 1, I + 1], for patches with a 1 behind.
   */
  patchGram(x: Operand, out: Operand, window: Window, ones: boolean): void;
  /** out [N, C, H, W] ← patches x [N, Ho·Wo, C·kh·kw] added up where they overlap. */
  fold(x: Operand, out: Operand, window: Window): void;
}

/** Pooling of images x [N, C, H, W] to [N, C, Ho, Wo]. Every window holds a pixel; its dilation is 1. */
export interface PoolKernels {
  /** out (int32) ← row-major position in the plane of the first maximum of each window; NaN counts as the maximum. */
  maxPoolIndex(x: Operand, out: Operand, window: Window): void;
  /** out ← the mean of each window; the padding counts as zeros, or with `countIncludePad` false not at all. */
  avgPool(x: Operand, out: Operand, window: Window, countIncludePad: boolean): void;
  /** out (like x) ← the transpose of `avgPool`: each gy shared evenly among what it is the mean of. */
  avgPoolGrad(gy: Operand, out: Operand, window: Window, countIncludePad: boolean): void;
}

/**
 * Normalisation. `mean` and `variance` have the shape of x with the normalised axes as length 1: the last ones for layer
 * norm, all but the channels for batch norm. `weight` and `bias` broadcast to x. x̂ = (x − mean) / √(variance + eps).
 */
export interface NormKernels {
  /** out ← x̂ · weight + bias; fills `mean` and `variance` (Σ (x − mean)² / n), which are contiguous and float64. */
  normalize(
    x: Operand,
    weight: Operand,
    bias: Operand | null,
    eps: number,
    out: Operand,
    mean: Operand,
    variance: Operand,
  ): void;
  /** out (like x) ← (g − mean(g) − x̂ · mean(g · x̂)) / √(variance + eps), where g = gy · weight. */
  normalizeInputGrad(
    gy: Operand,
    x: Operand,
    weight: Operand,
    eps: number,
    mean: Operand,
    variance: Operand,
    out: Operand,
  ): void;
  /** out (like the weight) ← gy · x̂, summed over the axes along which the weight was broadcast. */
  normalizeWeightGrad(gy: Operand, x: Operand, eps: number, mean: Operand, variance: Operand, out: Operand): void;
}

/** Losses over a batch, each one number. `scale` is 1 over a count for a mean; `gy` is the gradient of the loss, a scalar. */
export interface LossKernels {
  /**
   * out ← scale · Σ over the rows of −log softmax(x)[label], for x [N, C] and int32 labels [N]. `stats` [N, 2], contiguous,
   * takes what `crossEntropyGrad` needs of the forward pass.
   */
  crossEntropy(x: Operand, labels: Operand, stats: Operand, scale: number, out: Operand): void;
  /** out (like x) ← gy · scale · (softmax(x) − 1 at the label) */
  crossEntropyGrad(gy: Operand, x: Operand, labels: Operand, stats: Operand, scale: number, out: Operand): void;
  /** out ← scale · Σ (a − b)² */
  squaredError(a: Operand, b: Operand, scale: number, out: Operand): void;
  /** out ← gy · scale · (a − b) */
  squaredErrorGrad(gy: Operand, a: Operand, b: Operand, scale: number, out: Operand): void;
}

export interface Backend extends ConvKernels, PoolKernels, NormKernels, LossKernels {
  /** The name that `Tensor.device` shows and `to` takes. */
  readonly device: string;
  /** True if kernels also take ordinary arrays as the memory of a storage: ndarrays then come in without a copy. */
  readonly onHost: boolean;

  /**
   * Gives back what earlier kernels needed while they ran, copies of their operands say. Called before an operation that
   * writes in place; `allocate` does the same.
   */
  endKernels?(): void;

  /** Memory for `size` elements, with any content. */
  allocate(dtype: DType, size: number): TypedArray | Region;
  /** Memory with the elements of `data`, which nobody else writes to: a copy, or `data` itself. */
  store(data: TypedArray): TypedArray | Region;
  /** A copy of the elements in row-major order. A device that is read with await throws; it has `readAsync`. */
  read(x: Operand): TypedArray;
  /**
   * The same, in the order of the calls, on a device that cannot be read at once. Rejects with the first check that failed
   * since the last read, which clears it. Left out by devices whose `read` works.
   */
  readAsync?(x: Operand): Promise<TypedArray>;
  /**
   * Checks int32 values to be 0 … length − 1; `error` is given the first other one and its row-major position. Throws at
   * once where `read` works. On a device that is read with await nobody waits: if a check fails, kernels that write in
   * place (addScaled, addcdiv, scale, assign, moments, adam, sgd) do nothing from there on, until a read has rejected with
   * `error`. So whatever is trained stays as it was. Default: a loop over `read`.
   */
  checkIndex?(index: Operand, length: number, error: (position: number, value: number) => Error): void;
  /** The same for elements that must be finite. */
  checkFinite?(x: Operand, error: (position: number, value: number) => Error): void;

  /** out ← x, converted to the dtype of `out`. Floats become integers by truncation (a RangeError where int32 cannot hold them), and true where not 0. */
  copy(x: Operand, out: Operand): void;
  /** out ← value everywhere. */
  fill(value: number, out: Operand): void;
  unary(kernel: UnaryKernel, x: Operand, out: Operand): void;
  /** out ← gy · f′, where `a` is the argument of f for gelu and geluTanh, and the result for the others. */
  unaryGrad(kernel: UnaryGradKernel, gy: Operand, a: Operand, out: Operand): void;
  /**
   * `a` and `b` broadcast to the shape of `out`. Comparisons take them in their common dtype. At most one is a number: an
   * element of the dtype of the other one where that floats, else of int32. Operations round it to that before.
   */
  binary(kernel: BinaryKernel, a: Operand | number, b: Operand | number, out: Operand): void;
  /** out ← condition ? a : b, all three broadcast to the shape of `out`. */
  where(condition: Operand, a: Operand, b: Operand, out: Operand): void;

  /** Reduces `axes`; `out` has the remaining axes (with or without the reduced ones as length 1). NaN wins in max, min; `mean` takes int32 too. */
  reduce(kernel: ReduceKernel, x: Operand, axes: readonly number[], out: Operand): void;
  /** Index of the first maximum (minimum) along `axis`; NaN counts as the extremum, as in PyTorch. */
  argReduce(kernel: 'argmax' | 'argmin', x: Operand, axis: number, out: Operand): void;
  softmax(x: Operand, axis: number, out: Operand): void;
  logSoftmax(x: Operand, axis: number, out: Operand): void;
  /** out ← the gradient by the argument of `softmax` from that of its result and the result y: y (gy − Σ gy y). */
  softmaxGrad(gy: Operand, y: Operand, axis: number, out: Operand): void;
  /** The same for `logSoftmax`: gy − exp(y) Σ gy. */
  logSoftmaxGrad(gy: Operand, y: Operand, axis: number, out: Operand): void;

  /** out [..., M, N] ← a [..., M, K] · b [..., K, N]; leading axes broadcast. */
  matmul(a: Operand, b: Operand, out: Operand): void;
  /** out [N, N] ← xᵀ x for x [M, N], or the sum of those of x [B, M, N], exactly symmetric. */
  gram(x: Operand, out: Operand): void;
  /** out [..., M] ← x [..., K] · weightᵀ + bias, for a weight [M, K] and a bias [M]. */
  linear(x: Operand, weight: Operand, bias: Operand | null, out: Operand): void;

  /** out[…, i, …] ← x[…, index[…, i, …], …] along `axis`; index has the shape of `out`. */
  gather(x: Operand, axis: number, index: Operand, out: Operand): void;
  /** out[…, index[…, i, …], …] += x[…, i, …] along `axis`, in row-major order of `x`. */
  scatterAdd(x: Operand, axis: number, index: Operand, out: Operand): void;
  /** out ← the slices of `x` along `axis` that `index` [n] names, in its order. */
  indexSelect(x: Operand, axis: number, index: Operand, out: Operand): void;
  /** The slice index[i] of `out` along `axis` += slice i of `x`. */
  indexAdd(x: Operand, axis: number, index: Operand, out: Operand): void;

  /** In place: y ← keep y + α x, any layouts, `x` broadcast to `y`. */
  addScaled(y: Operand, x: Operand, alpha: number, keep: number): void;
  /** In place: y ← keep y + value x / d, any layouts, `x` and `d` broadcast to `y`. */
  addcdiv(y: Operand, x: Operand, d: Operand, value: number, keep: number): void;
  /** In place: y ← β y, any layout. */
  scale(y: Operand, beta: number): void;
  /** In place: y ← x converted, any layouts, `x` broadcast to `y`. */
  assign(y: Operand, x: Operand): void;
  /**
   * Adam's moments, in place, and the direction they give (Kingma & Ba 2015, Algorithm 1):
   * m ← β₁ m + (1−β₁) g;  v ← β₂ v + (1−β₂) s;  out ← (m / c₁) / (√(v / c₂) + ε), where s is `second`, or g² if null.
   * v below 1e-36 in float32 (1e-290 in float64) is set to 0, so that no arithmetic on denormal numbers follows.
   */
  moments(m: Operand, v: Operand, g: Operand, second: Operand | null, out: Operand, options: MomentOptions): void;
  /** `moments` with g², then p ← keep p − lr · direction; p, m and v are contiguous. */
  adam(p: Operand, m: Operand, v: Operand, g: Operand, options: AdamOptions): void;
  /** In place: buf ← keep buf + take g;  p ← p − lr (look buf + own g); p and buf are contiguous. */
  sgd(p: Operand, buf: Operand, g: Operand, options: SgdOptions): void;
}
