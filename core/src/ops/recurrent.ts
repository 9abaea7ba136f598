/**
 * Recurrent layers over whole sequences, one layer in one direction: plain ones (Elman 1990), LSTM (Hochreiter & Schmidhuber 1997, with
 * the forget gates of Gers et al. 2000) and GRU (Cho et al. 2014, with the reset gate behind the product, as PyTorch has it). The products with the inputs are the
 * caller's, who computes those of all steps at once.
 */

import type { DeviceKernels, RecurrentCell } from '../backends/backend.ts';
import { bring } from '../backends/bring.ts';
import * as reference from '../backends/reference/layers/recurrent.ts';
import * as wasm from '../backends/wasm/layers/recurrent.ts';
import { aBoolean, checkOptions, type Kind, oneOf } from '../check.ts';
import { isFloat, promote } from '../dtype.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { arrayLike, emptyLike, fullLike } from '../fill.ts';
import { isRecording } from '../graph.ts';
import { defineOp, notDifferentiable, type Op } from '../op.ts';
import { sizeOf } from '../shape.ts';
import { aTensor, checkTensors, isTensor, type Tensor } from '../tensor.ts';
import { cast } from './cast.ts';
import { matmul } from './matmul.ts';
import { composed, composedGradients, type RecurrentInputs } from './recurrent-steps.ts';
import { sum } from './reduce.ts';
import { checkIndex } from './select.ts';
import { narrow } from './slice.ts';
import { reshape, transpose } from './view.ts';

bring<Required<Pick<DeviceKernels, 'recur' | 'recurGrad'>>>(reference, wasm);

/** Steps of each sequence of a batch. */
export type Lengths = readonly number[] | Int32Array | Tensor;

export type RecurrentOptions = {
  /** [B, h], the state before the first step; default zeros. */
  h?: Tensor | null;
  /** Steps of each sequence, 0 … T in any order: integers, or an int32 tensor [B]; default all T. */
  lengths?: Lengths | null;
  /** From the last step to the first, of each sequence; default false. */
  reverse?: boolean;
};

/** What a recurrent layer leaves. */
export type Recurrence = {
  /**
   * [T + 1, B, h], of an LSTM [T + 2, B, h]: the states, 0 from a sequence's end on; behind them the last state of each sequence, and of an LSTM the last
   * content of its cells.
   */
  readonly states: Tensor;
  /** [T, B, h]: the state before each step, without a graph. Only where a graph is recorded. */
  readonly before: Tensor;
  /** [T, B, h]: of a GRU the reset gate at each step, without a graph; else null. Only where a graph is recorded. */
  readonly reset: Tensor | null;
};

/** Rows of the weight for each unit, and numbers that are saved. */
const SIZES: Record<RecurrentCell, readonly [gates: number, saved: number]> = {
  relu: [1, 1],
  tanh: [1, 1],
  lstm: [4, 6],
  gru: [3, 4],
};

type Run = {
  readonly cell: RecurrentCell;
  readonly reverse: boolean;
  /** Which of the inputs that may be missing are there. */
  readonly has: { readonly c: boolean; readonly bias: boolean; readonly lengths: boolean };
  readonly saved: Tensor;
  readonly before: Tensor;
};

/** p, weight, h, and then those of c, bias and lengths that are there. */
function inputsOf(x: readonly Tensor[], { has, cell, reverse }: Run): RecurrentInputs {
  let at = 3;
  const [p, weight, h] = x as readonly [Tensor, Tensor, Tensor];
  const c = has.c ? x[at++]! : null;
  const bias = has.bias ? x[at++]! : null;
  return { p, weight, h, c, bias, lengths: has.lengths ? x[at]! : null, cell, reverse };
}

const listOf = ({ p, weight, h, c, bias, lengths }: RecurrentInputs): Tensor[] =>
  [p, weight, h, c, bias, lengths].filter(x => x !== null);

const recurOp: Op<Run> = defineOp<Run>({
  name: 'recurrent',
  shape: ([p, weight], { has }) => ({
    shape: [p!.shape[0]! + (has.c ? 2 : 1), p!.shape[1]!, weight!.shape[1]!],
    dtype: p!.dtype,
  }),
  forward(backend, x, out, run) {
    const { p, weight, h, c, bias, lengths } = inputsOf(x, run);
    backend.recur!(p, weight, bias, h, c, lengths, run.saved, run.before, run, out);
  },
  backward(gy, node) {
    const run = node.attrs;
    const x = inputsOf(
      node.inputs.map((_, i) => node.input(i)),
      run,
    );
    // The kernel has no gradient rule. Where a graph of the gradient is wanted, the same is written in tensor operations.
    if (isRecording())
      return listOf({ ...x, ...composedGradients(gy, x) }).map((g, i) => (i === lengthsAt(run) ? null : g));
    const [hGrad, cGrad] = [emptyLike(x.h), x.c && emptyLike(x.c)];
    const products = run.cell === 'gru' ? emptyLike(x.p) : null;
    const dp = recurGrad([gy, x.weight, ...(x.lengths === null ? [] : [x.lengths])], {
      ...run,
      hGrad,
      cGrad,
      products,
    });
    const rows = asRows(products ?? dp);
    const weight = node.needs(1) ? matmul(transpose(rows), asRows(run.before)) : null;
    const bias = run.has.bias ? [sum(rows, 0)] : [];
    return [dp, weight, hGrad, ...(cGrad === null ? [] : [cGrad]), ...bias, ...(run.has.lengths ? [null] : [])];
  },
});

const lengthsAt = ({ has }: Run) => (has.lengths ? 3 + Number(has.c) + Number(has.bias) : -1);

const recurGrad = defineOp<
  Run & { readonly hGrad: Tensor; readonly cGrad: Tensor | null; readonly products: Tensor | null }
>({
  name: 'recurrentGrad',
  shape: ([gy, weight], { cell }) => ({
    shape: [gy!.shape[0]! - (cell === 'lstm' ? 2 : 1), gy!.shape[1]!, weight!.shape[0]!],
    dtype: gy!.dtype,
  }),
  forward: (backend, [gy, weight, lengths], out, { hGrad, cGrad, products, saved, before, ...pass }) =>
    backend.recurGrad!(gy!, weight!, lengths ?? null, saved, before, pass, out, products, hGrad, cGrad),
  backward: notDifferentiable,
});

/** [T, B, n] → [T · B, n] */
const asRows = (x: Tensor): Tensor => reshape(x, [sizeOf(x.shape.slice(0, 2)), x.shape[2]!]);

const someLengths: Kind = {
  expected: 'an array of integers, or an int32 tensor',
  is: v =>
    v === null || isTensor(v) || v instanceof Int32Array || (Array.isArray(v) && v.every(n => Number.isInteger(n))),
};
const maybeTensor: Kind = { ...aTensor, is: v => v === null || aTensor.is(v) };
const OPTIONS = { h: maybeTensor, lengths: someLengths, reverse: aBoolean };

/** The steps of each sequence as an int32 tensor [B]. */
function lengthsOf(op: string, lengths: Lengths, like: Tensor): Tensor {
  const [steps, batch] = like.shape as [number, number];
  const given = isTensor(lengths) ? lengths : arrayLike(like, Int32Array.from(lengths), [lengths.length]);
  if (given.dtype !== 'int32') throw new DTypeError(`${op}: expected int32 lengths, got ${describe(given)}`);
  if (given.rank !== 1 || given.shape[0] !== batch)
    throw new ShapeError(`${op}: expected lengths [${batch}], one for each sequence, got ${describe(given)}`);
  checkIndex(op, given, steps + 1, 'length');
  return given;
}

function checkShapes(op: string, gates: number, p: Tensor, weight: Tensor, bias: Tensor | null): void {
  const hidden = weight.shape[1]!;
  const n = gates * hidden;
  if (weight.rank !== 2 || weight.shape[0] !== n)
    throw new ShapeError(
      `${op}: expected a weight [${gates === 1 ? '' : `${gates} · `}hidden, hidden], got ${describe(weight)}`,
    );
  if (p.rank !== 3 || p.shape[2] !== n)
    throw new ShapeError(`${op}: expected products of inputs [T, B, ${n}], got ${describe(p)}`);
  if (bias !== null && (bias.rank !== 1 || bias.shape[0] !== n))
    throw new ShapeError(`${op}: expected a bias [${n}], got ${describe(bias)}`);
}

function run(
  op: string,
  cell: RecurrentCell,
  p: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  o: RecurrentOptions & { c?: Tensor | null },
): Recurrence {
  checkTensors(op, p, weight, bias ?? p);
  checkOptions(op, o, cell === 'lstm' ? { ...OPTIONS, c: maybeTensor } : (OPTIONS as never));
  const [gates, numbers] = SIZES[cell];
  checkShapes(op, gates, p, weight, bias);
  const [steps, batch] = p.shape as [number, number];
  const shape = [batch, weight.shape[1]!];
  for (const [name, x] of Object.entries({ h: o.h, c: o.c }))
    if (x && x.shape.join() !== shape.join())
      throw new ShapeError(`${op}: expected ${name} [${shape.join(', ')}], got ${describe(x)}`);
  const given = [p, weight, bias, o.h, o.c].filter(x => x != null);
  const dtype = given.map(x => x.dtype).reduce(promote);
  if (!isFloat(dtype)) throw new DTypeError(`${op}: expected floating tensors, got ${describe(p)}`);
  const lengths = o.lengths ? lengthsOf(op, o.lengths, p) : null;
  const typed = (x: Tensor | null | undefined) => (x ? cast(x, dtype) : null);
  const state = (x: Tensor | null | undefined) => typed(x) ?? fullLike(op, p, 0, shape, dtype);
  const x: RecurrentInputs = {
    p: cast(p, dtype),
    weight: cast(weight, dtype),
    bias: typed(bias),
    h: state(o.h),
    c: cell === 'lstm' ? state(o.c) : null,
    lengths,
    cell,
    reverse: o.reverse ?? false,
  };
  if (p.storage.backend.recur === undefined || shape[1] === 0) return composed(x);
  // Without a gradient one step's place serves all.
  const places = isRecording() && given.some(x => x.requiresGrad) ? steps : 1;
  const saved = emptyLike(x.p, [places, batch, numbers * shape[1]!]);
  const before = emptyLike(x.p, [places, batch, shape[1]!]);
  const has = { c: x.c !== null, bias: bias !== null, lengths: lengths !== null };
  const states = recurOp(listOf(x), { cell, reverse: x.reverse, has, saved, before });
  return { states, before, reset: cell === 'gru' ? narrow(saved, 2, 0, shape[1]!) : null };
}

/**
 * A plain recurrent layer: h_t = f(p_t + weight h_{t−1}).
 *
 * @param p [T, B, h]: W x_t with all biases, of all steps
 * @param weight [h, h]
 * @param o nonlinearity: 'tanh' (default) or 'relu'
 * @throws ShapeError, DTypeError if they do not fit, RangeError for lengths out of range
 */
export function rnn(
  p: Tensor,
  weight: Tensor,
  o: RecurrentOptions & { nonlinearity?: 'tanh' | 'relu' } = {},
): Recurrence {
  checkOptions('rnn', o, { ...OPTIONS, nonlinearity: oneOf('tanh', 'relu') });
  const { nonlinearity = 'tanh', ...rest } = o;
  return run('rnn', nonlinearity, p, weight, null, rest);
}

/**
 * An LSTM: i, f, o = σ and g = tanh of p_t + weight h_{t−1}, in the order i, f, g, o; c_t = f c_{t−1} + i g, h_t = o tanh c_t.
 *
 * @param p [T, B, 4h]: W x_t with all biases, of all steps
 * @param weight [4h, h]
 * @param o c: [B, h], the content of the cells before the first step; default zeros
 * @throws ShapeError, DTypeError if they do not fit, RangeError for lengths out of range
 */
export function lstm(p: Tensor, weight: Tensor, o: RecurrentOptions & { c?: Tensor | null } = {}): Recurrence {
  return run('lstm', 'lstm', p, weight, null, o);
}

/**
 * A GRU: with q = weight h_{t−1} + bias, r and z = σ(p + q), n = tanh(p + r q), each of its part in the order r, z, n, and
 * h_t = (1 − z) n + z h_{t−1}.
 *
 * @param p [T, B, 3h]: W x_t with the bias of the inputs, of all steps
 * @param weight [3h, h]
 * @param bias [3h], or null
 * @throws ShapeError, DTypeError if they do not fit, RangeError for lengths out of range
 */
export function gru(p: Tensor, weight: Tensor, bias: Tensor | null = null, o: RecurrentOptions = {}): Recurrence {
  return run('gru', 'gru', p, weight, bias, o);
}
