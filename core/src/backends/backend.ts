/**
 * The interface between operations and the code that computes. A backend owns one device. `reference` in this folder is
 * the slow, obviously right one; others must agree with it on every kernel.
 */

import type { Device, Operand } from '../device.ts';
import type { BadValue } from '../errors.ts';
import type { Window } from '../window.ts';
import type { ComposedKernels } from './composed.ts';

export type { Operand };

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

/** Functions of one element that come with their operations; those from `softplus` on have two parameters. */
export type MathKernel =
  | 'log2'
  | 'log10'
  | 'tan'
  | 'sinh'
  | 'cosh'
  | 'silu'
  | 'mish'
  | 'logSigmoid'
  | 'softplus'
  | 'elu'
  | 'leakyRelu';

/** Those of them whose gradient is one kernel. */
export type MathGradKernel = 'silu' | 'mish' | 'logSigmoid' | 'softplus' | 'elu' | 'leakyRelu';

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
  /** What stays of the buffer: μ, or 0 at the first step. */
  readonly momentum: number;
  /** What enters of the gradient: 1 − dampening, or 1 at the first step. */
  readonly gain: number;
  /** The shares of both in the step: 1 and 0, or with Nesterov's momentum μ and 1. */
  readonly bufferWeight: number;
  readonly gradientWeight: number;
};

/** A cell: max(0, ·) or tanh of the sum, an LSTM with the gates i, f, g, o, a GRU with r, z, n. */
export type RecurrentCell = 'relu' | 'tanh' | 'lstm' | 'gru';

/** How `recur` runs over a sequence. */
export type RecurrentPass = {
  readonly cell: RecurrentCell;
  /** From the last step to the first. */
  readonly reverse: boolean;
};

/** Where the kernel of a convolution goes; `groups` splits input and output channels into independent convolutions. */
export type ConvGeometry = Window & { readonly groups: number };

/**
 * What every device does itself, beside memory. Kernels read operands of any layout and write `out`, which is contiguous, has its final shape
 * and any content before (in-place kernels say so). Shapes and dtypes were checked by the operation; kernels convert elements
 * where the dtypes of operand and result differ.
 */
export interface DeviceKernels extends Device {
  /**
   * Gives back what earlier kernels needed while they ran, copies of their operands say. Called before an operation that
   * writes in place; `allocate` does the same.
   */
  endKernels?(): void;

  /**
   * Checks int32 values to be 0 … length − 1; `error` is given the first other one and its row-major position. Throws at
   * once where `read` works. On a device that is read with await nobody waits: if a check fails, kernels that write in
   * place (addScaled, addcdiv, scale, assign, moments, adam, sgd) do nothing from there on, until a read has rejected with
   * `error`. So whatever is trained stays as it was. Default: a loop over `read`.
   */
  checkIndex?(index: Operand, length: number, error: BadValue): void;
  /** The same for elements that must be finite. */
  checkFinite?(x: Operand, error: BadValue): void;
  /**
   * Devices that are read with await: runs `undo` when a read tells the failure of a check that was entered before this call; then
   * nothing was written in place meanwhile. It is for what the host has counted of such work. The last one runs first, and all before
   * the read rejects; those that throw are the `cause` of the error that it tells. Where the checks passed, `undo` is dropped.
   */
  onFailure?(undo: () => void): void;
  /**
   * A device that lets the program run ahead: a promise for when it is no longer far behind, undefined where it is not. Steps of
   * optimizers return it, so that a loop that awaits them, and reads nothing, does not fill up the device's queue. It rejects where the
   * device is gone: such a loop has no other way to hear of it.
   */
  caughtUp?(): Promise<void> | undefined;

  /**
   * Devices that are read with await: kernels that write in place do nothing from here on where the element of `found` is not 0, until a
   * call with null. Nobody is told.
   */
  skipIf?(found: Operand | null): void;
  /**
   * Devices that are read with await: `assign` without regard to checks that failed, for what is restored from outside. Values of y that
   * are floats become floats.
   */
  restore?(y: Operand, x: Operand): void;
  /** In place: g ← g / scale, and found ← 1 if an element of g is not finite. Default: of other kernels. */
  unscale?(g: Operand, scale: Operand, found: Operand): void;

  /**
   * out ← x, converted to the dtype of `out`. Floats become integers by truncation, and true where not 0. A RangeError where
   * int32 cannot hold them; on a device that is read with await, as that of a check that failed (`AwaitedBackend` does this).
   */
  copy(x: Operand, out: Operand): void;
  /** In place: y ← x converted as by `copy`, any layouts, `x` broadcast to `y`. */
  assign(y: Operand, x: Operand): void;
  /** out ← value everywhere. */
  fill(value: number, out: Operand): void;

  unary(kernel: UnaryKernel, x: Operand, out: Operand): void;
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

  /**
   * out [2, n, n] ← L and L⁻¹, with zeros above the diagonal, for L Lᵀ = x + shift · I, x [n, n] of at most 64 rows, of which the lower
   * triangle is read; a pivot below `least` counts as that. Default, for devices that are read with await: products of ever smaller blocks.
   */
  cholesky?(x: Operand, shift: number, least: number, out: Operand): void;
  /** out ← the positions of x [n] in descending order of its elements, int32; of equals the first one first. Default: comparisons and sums. */
  descending?(x: Operand, out: Operand): void;
  /**
   * Max pooling x [N, C, H, W] in one go: index [N, C, Ho, Wo] ← what `maxPoolIndex` gives, out ← the elements there. Default:
   * `maxPoolIndex`, then `gather`.
   */
  maxPool?(x: Operand, index: Operand, out: Operand, window: Window): void;
  /**
   * The gradient of max pooling: out [N, C, H, W] ← the sums of gy [N, C, Ho, Wo] at the places in the plane that `index`, as
   * `maxPoolIndex` gives it, has for each window. Default: `scatterAdd`.
   */
  maxPoolGrad?(gy: Operand, index: Operand, out: Operand, window: Window): void;
  /**
   * What `normalizeInputGrad` and `normalizeWeightGrad` compute, and Σ gy, in the shape of the weight, in one go: batch norm needs the
   * same sums for all three. `out` is the gradient by x. Default: each by itself.
   */
  normalizeGrads?(
    gy: Operand,
    x: Operand,
    weight: Operand,
    eps: number,
    mean: Operand,
    variance: Operand,
    out: Operand,
    weightGrad: Operand,
    biasGrad: Operand,
  ): void;

  /**
   * Attention of several heads, which lie side by side in the last axis of q and out [B, T, heads · D] and of k and v [B, S, heads · D]:
   * in each, w ← softmax(q kᵀ / √D), of −∞ where `mask` (bool, [T, S] or [B, T, S], or null) is false, and out ← w v. `weights`, of
   * shape [B, heads, T, S rounded up to a multiple of 8], keeps w for `attentionGrad` alone. D is at most 256, T and S are at most 16384.
   * Both or neither; default: products and softmax.
   */
  attention?(
    q: Operand,
    k: Operand,
    v: Operand,
    mask: Operand | null,
    heads: number,
    weights: Operand,
    out: Operand,
  ): void;
  /** out, kGrad, vGrad ← the gradients of `attention` by q, k and v, from that of its result and the weights that it left. */
  attentionGrad?(
    gy: Operand,
    q: Operand,
    k: Operand,
    v: Operand,
    mask: Operand | null,
    heads: number,
    weights: Operand,
    out: Operand,
    kGrad: Operand,
    vGrad: Operand,
  ): void;

  /**
   * out[…, j, …] ← (1 − weight[j]) · x[…, left[j], …] + weight[j] · x[…, right[j], …] along `axis`, or x[…, left[j], …] where both are
   * null. `left` and `right` are int32 vectors, in range, `weight` has the dtype of x, which is floating. Both or neither; default:
   * `indexSelect` and `indexAdd`, products and sums.
   */
  resample?(x: Operand, axis: number, left: Operand, right: Operand | null, weight: Operand | null, out: Operand): void;
  /** out ← the transpose of `resample`: each element of gy adds its shares to what it was made of. */
  resampleGrad?(
    gy: Operand,
    axis: number,
    left: Operand,
    right: Operand | null,
    weight: Operand | null,
    out: Operand,
  ): void;

  /**
   * out ← f(x), where softplus is log(1 + e^(p x)) / p, and x where p x > q; elu is q x above 0, else q p (eˣ − 1); leakyRelu is x above
   * 0, else p x. Default: other operations.
   */
  math?(kernel: MathKernel, x: Operand, p: number, q: number, out: Operand): void;
  /** out ← gy · f′(x). Default: other operations. */
  mathGrad?(kernel: MathGradKernel, gy: Operand, x: Operand, p: number, q: number, out: Operand): void;
  /** out ← the angle of (x, y), both broadcast, in (−π, π]. Default: other operations. */
  atan2?(y: Operand, x: Operand, out: Operand): void;
  /** out ← a mod b with the sign of b, both broadcast to out. Default: other operations. */
  remainder?(a: Operand, b: Operand, out: Operand): void;
  /** out ← the products over the last axis. Default: products of halves. */
  prod?(x: Operand, out: Operand): void;
  /** out ← the products of the elements up to each one along `axis`. Default: products of ever longer stretches. */
  cumprod?(x: Operand, axis: number, out: Operand): void;
  /** out_i ← b_i + a_i out_(i−1) along `axis`, from out_0 = b_0 on; a and b have the shape of `out`. Default: as that of `cumprod`. */
  recurrence?(a: Operand, b: Operand, axis: number, out: Operand): void;
  /**
   * out ← the positions along `axis` in ascending or descending order of x, int32; of equals the first one first, and NaN counts as
   * largest. Default: a sorting network of other operations.
   */
  argsort?(x: Operand, axis: number, descending: boolean, out: Operand): void;
  /** The same, only as many as `out` has along `axis`: of the largest, or of the smallest. Default: of `argsort`. */
  topk?(x: Operand, axis: number, largest: boolean, out: Operand): void;

  /** out ← where along `axis` the last element of index stands that names a place of `out`, −1 if none does. Default: a sort. */
  lastWriter?(index: Operand, axis: number, out: Operand): void;
  /**
   * out ← x, then out[…, index[…, i, …], …] ← the larger of itself and src[…, i, …] along `axis`; NaN wins. Index has the shape of src.
   * Default: a sort.
   */
  scatterMax?(x: Operand, src: Operand, axis: number, index: Operand, out: Operand): void;

  /**
   * A recurrent layer: p [T, B, n h] are the products of the inputs with the bias in them, n is 4 for an LSTM, 3 for a GRU, else 1;
   * `weight` [n h, h], `bias` [n h] of the products of the state, for GRUs alone, or null; h and, for LSTMs alone, c [B, h]. `lengths`,
   * int32 [B] or null, are the steps of each sequence, 0 … T. The rows of out [T + 1 or T + 2, B, h] are the states, 0 from a sequence's
   * end on, then the last h, then the last c. `saved` [T, B, k h], k is 6 for an LSTM, 4 for a GRU, else 1, is for `recurGrad`, of a GRU with the reset gate first and 0 behind a sequence's end, and `before` [T, B, h] gets the
   * state before each step; both are [1, B, …] where no gradient follows. Both or neither; default: products and functions of each step.
   */
  recur?(
    p: Operand,
    weight: Operand,
    bias: Operand | null,
    h: Operand,
    c: Operand | null,
    lengths: Operand | null,
    saved: Operand,
    before: Operand,
    pass: RecurrentPass,
    out: Operand,
  ): void;
  /**
   * out, hGrad, cGrad ← the gradients of `recur` by p, h and c, and `products` ← of a GRU that by the products of the state, else
   * null, since it is `out`.
   */
  recurGrad?(
    gy: Operand,
    weight: Operand,
    lengths: Operand | null,
    saved: Operand,
    before: Operand,
    pass: RecurrentPass,
    out: Operand,
    products: Operand | null,
    hGrad: Operand,
    cGrad: Operand | null,
  ): void;

  /** out [..., M, N] ← a [..., M, K] · b [..., K, N]; leading axes broadcast. Zeros where K is 0. */
  matmul(a: Operand, b: Operand, out: Operand): void;

  /** out[…, i, …] ← x[…, index[…, i, …], …] along `axis`; index has the shape of `out`. */
  gather(x: Operand, axis: number, index: Operand, out: Operand): void;
  /** out ← 0, then out[…, index[…, i, …], …] += x[…, i, …] along `axis`, in row-major order of `x`. */
  scatterAdd(x: Operand, axis: number, index: Operand, out: Operand): void;
}

/** Memory and kernels of one device: those of `DeviceKernels`, and those that composed.ts defines by them. */
export interface Backend extends DeviceKernels, ComposedKernels {}
