/**
 * Elementwise kernels, copies and optimizers, as the modules export them: `operation_type`, with the types `f32`, `f64`,
 * `i32` and `bool` (a byte, 0 or 1) in the order of the operands where they differ: `exp_f32`, `copy_i32_f64`.
 *
 * Arguments are sizes in elements and byte addresses, which are multiples of the element's size; nothing is checked.
 * `rows, cols` with two strides for an operand, in elements, walk a matrix, and may be anything (0: the operand stands
 * still there, negative: backwards); results without strides are row-major without gaps. A result may be an operand
 * that it covers exactly; otherwise they must not overlap.
 *
 * Accuracy: what IEEE 754 rounds correctly (+ − × ÷ √ and the exact ones) is so rounded. Functions are at most 4 ulp off
 * over the whole range, with NaN, ±∞, −0 and denormal results as Math has them; geluTanh is 4 + 3|u| ulp off where u is
 * the argument of its tanh, and the backward kernels of both gelus are off by at most 4 ulp of 1 + |slope|. The variant
 * `relaxed` fuses multiply and add inside of functions and optimizers: there its last bits differ.
 */

export type Float = 'f32' | 'f64';
export type Numeric = Float | 'i32';
export type Element = Numeric | 'bool';

/** The kernels `name_type` for each of the names and types. */
export type Family<Name extends string, Type extends string, Kernel> = {
  readonly [K in `${Name}_${Type}`]: Kernel;
};

/** out ← f(a). */
export type UnaryExport = (n: number, a: number, out: number) => void;
/** out ← the gradient by the argument, from that of the result and from `a`: the argument, for tanh and sigmoid the result. */
export type BackwardExport = (n: number, dy: number, a: number, out: number) => void;
/** out ← f(a, b), row-major. Of comparisons `out` is bool. */
export type BinaryExport = (
  ...x: [
    ...[rows: number, cols: number],
    ...[a: number, aRow: number, aCol: number, b: number, bRow: number, bCol: number, out: number],
  ]
) => void;
/** out ← c ? a : b, row-major; c is bool. */
export type WhereExport = (
  ...x: [
    ...[rows: number, cols: number, c: number, cRow: number, cCol: number],
    ...[a: number, aRow: number, aCol: number, b: number, bRow: number, bCol: number, out: number],
  ]
) => void;
/**
 * out ← x converted: floats to int32 by truncation, to bool as ≠ 0. Returns 1 where int32 cannot hold an element, else 0.
 * Fast where rows of both are without gaps, and where one's columns are (a transposition) if the type stays.
 */
export type CopyExport = (
  ...x: [
    ...[rows: number, cols: number, x: number, xRow: number, xCol: number],
    ...[out: number, outRow: number, outCol: number],
  ]
) => number;
export type FillExport = (n: number, value: number, out: number) => void;

/**
 * m ← β₁ m + (1−β₁) g;  v ← β₂ v + (1−β₂) s, where s is `second`, or g² if that is 0; v below 1e-36 (f64: 1e-290) becomes 0;
 * out ← (m / correction1) / (√(v / correction2) + ε).
 */
export type MomentsExport = (
  ...x: [
    ...[n: number, m: number, v: number, g: number, second: number],
    ...[beta1: number, beta2: number, eps: number, correction1: number, correction2: number, out: number],
  ]
) => void;
/** As `moments` with g², then p ← keep p − lr · direction; `keep` is 1, or in AdamW 1 − lr · weightDecay. */
export type AdamExport = (
  ...x: [
    ...[n: number, m: number, v: number, g: number],
    ...[beta1: number, beta2: number, eps: number, correction1: number, correction2: number],
    ...[p: number, lr: number, keep: number],
  ]
) => void;
/**
 * buf ← keep buf + take g;  p ← p − lr (look buf + own g). SGD with momentum μ: keep = μ, take = 1 − dampening, look = 1,
 * own = 0; with Nesterov's look = μ and own = 1; at the first step keep = 0 and take = 1 (buf must hold finite numbers).
 */
export type SgdExport = (
  ...x: [
    ...[n: number, p: number, buf: number, g: number],
    ...[lr: number, keep: number, take: number, look: number, own: number],
  ]
) => void;
/** y ← keep y + α x. */
export type AddScaledExport = (
  ...x: [
    ...[rows: number, cols: number, y: number, yRow: number, yCol: number],
    ...[x: number, xRow: number, xCol: number, alpha: number, keep: number],
  ]
) => void;
/** y ← keep y + value x / d. */
export type AddcdivExport = (n: number, y: number, x: number, d: number, value: number, keep: number) => void;
/** y ← β y. */
export type ScaleExport = (rows: number, cols: number, y: number, yRow: number, yCol: number, beta: number) => void;

export type ElementwiseExports =
  // `round` is half to even; `sign` keeps ±0.
  Family<'neg' | 'abs' | 'sign' | 'square' | 'relu', Numeric, UnaryExport> &
    Family<'sqrt' | 'reciprocal' | 'floor' | 'ceil' | 'round', Float, UnaryExport> &
    Family<'exp' | 'expm1' | 'log' | 'log1p' | 'sin' | 'cos' | 'tanh' | 'sigmoid' | 'erf', Float, UnaryExport> &
    Family<'gelu' | 'geluTanh', Float, UnaryExport> &
    // To bool. `not` is = 0.
    Family<'not', Element, UnaryExport> &
    Family<'isNaN' | 'isFinite', Float, UnaryExport> &
    Family<'reluBackward' | 'tanhBackward' | 'sigmoidBackward', Float, BackwardExport> &
    Family<'geluBackward' | 'geluTanhBackward', Float, BackwardExport> &
    // int32 wraps. maximum and minimum take b where neither is larger, and NaN where one is.
    Family<'add' | 'sub' | 'mul' | 'maximum' | 'minimum', Numeric, BinaryExport> &
    Family<'div' | 'pow', Float, BinaryExport> &
    Family<'eq' | 'ne' | 'lt' | 'le' | 'gt' | 'ge', Element, BinaryExport> &
    Family<'and' | 'or', 'bool', BinaryExport> &
    Family<'where', Element, WhereExport> &
    Family<'copy', `${Element}_${Element}`, CopyExport> &
    Family<'fill', Element, FillExport> &
    Family<'moments', Float, MomentsExport> &
    Family<'adam', Float, AdamExport> &
    Family<'sgd', Float, SgdExport> &
    Family<'addScaled', Float, AddScaledExport> &
    Family<'addcdiv', Float, AddcdivExport> &
    Family<'scale', Float, ScaleExport>;
