/**
 * Derivatives of functions of tensors: products of the Jacobian with vectors, Jacobians, Hessians and their products. Shapes and results are
 * those of PyTorch's `torch.autograd.functional`.
 */

import { grad } from '../autograd.ts';
import { aBoolean, aFunction, checkArgument, checkOptions, type Kind, received } from '../check.ts';
import { isFloat } from '../dtype.ts';
import { DTypeError, describe, GraphError, ShapeError } from '../errors.ts';
import { arrayLike, fullLike } from '../fill.ts';
import { withRecording } from '../graph.ts';
import { add, mul } from '../ops/elementwise.ts';
import { sum } from '../ops/reduce.ts';
import { stack } from '../ops/slice.ts';
import { clone, reshape } from '../ops/view.ts';
import { sameShape } from '../shape.ts';
import { aTensor, checkSameDevice, isTensor, someTensors, type Tensor } from '../tensor.ts';

/** One tensor, or several: results have the form of the inputs. */
export type OneOrMore = Tensor | readonly Tensor[];

/** For each tensor of `T` what `R` is. */
export type Like<T extends OneOrMore, R> = T extends readonly Tensor[] ? R[] : R;

/** Options of the transforms. */
export type TransformOptions = {
  /**
   * Records the computation, so that results can be differentiated by the inputs that require a gradient. Default false: results belong
   * to no graph.
   */
  createGraph?: boolean;
  /** A GraphError where an output does not depend on an input, or a gradient on it, instead of zeros. Default false. */
  strict?: boolean;
};

const OPTIONS = { createGraph: aBoolean, strict: aBoolean };
const oneOrMore: Kind = {
  expected: 'a tensor or an array of tensors',
  is: v => isTensor(v) || (someTensors.is(v) && (v as readonly unknown[]).length > 0),
  hint: v => aTensor.hint?.(v) ?? '',
};

const listed = (x: OneOrMore): readonly Tensor[] => (isTensor(x) ? [x] : x);
/** In the form of `like`. */
const formed = <R>(like: OneOrMore, list: readonly R[]): R | R[] => (isTensor(like) ? list[0]! : [...list]);

/** What is known of one call: names for messages, options, and the inputs that `fn` gets. */
type Call = { readonly op: string; readonly strict: boolean; readonly createGraph: boolean; readonly xs: Tensor[] };

/** Checks what all transforms take, and runs `run` with recording on; results leave the graph unless `createGraph`. */
function transformed<R>(
  op: string,
  fn: unknown,
  inputs: OneOrMore,
  o: TransformOptions | undefined,
  run: (call: Call) => R,
): R {
  checkArgument(op, 'fn', fn, aFunction);
  checkArgument(op, 'inputs', inputs, oneOrMore);
  checkOptions(op, o, OPTIONS);
  const { createGraph = false, strict = false } = o ?? {};
  for (const x of listed(inputs))
    if (!isFloat(x.dtype)) throw new DTypeError(`${op}: expected floating inputs, got ${describe(x)}`);
  return withRecording(true, () => {
    // Of a tensor that is given twice each is an input of its own.
    const xs = listed(inputs).map(x => {
      if (createGraph && x.requiresGrad) return clone(x);
      const leaf = outside(x);
      leaf.requiresGrad = true;
      return leaf;
    });
    return run({ op, strict, createGraph, xs });
  });
}

/** The same values outside of the graph. */
const outside = (x: Tensor): Tensor => x.make(x.storage, x.shape, x.strides, x.offset);
const finished = ({ createGraph }: Call, x: Tensor): Tensor => (createGraph ? x : outside(x));
const zerosLike = (x: Tensor): Tensor => fullLike('zeros', x, 0, x.shape);

function outputsOf({ op, xs }: Call, fn: unknown): OneOrMore {
  const y: unknown = (fn as (...x: Tensor[]) => unknown)(...xs);
  if (!oneOrMore.is(y))
    throw new TypeError(`${op}: expected fn to return a tensor or an array of tensors, got ${received(y)}`);
  for (const one of listed(y as OneOrMore))
    if (!isFloat(one.dtype))
      throw new DTypeError(`${op}: expected fn to return floating tensors, got ${describe(one)}`);
  return y as OneOrMore;
}

/** The vectors of a product, each like its tensor. */
function vectorsOf(op: string, what: string, v: OneOrMore | undefined, like: readonly Tensor[]): readonly Tensor[] {
  if (v === undefined) {
    if (like.length === 1 && like[0]!.size === 1) return [fullLike(op, like[0]!, 1, like[0]!.shape)];
    throw new ShapeError(
      `${op}: expected ${what}, which may be left out for a single element, got ${like.map(describe)}`,
    );
  }
  checkArgument(op, what, v, oneOrMore);
  const list = listed(v);
  if (list.length !== like.length || list.some((x, i) => !sameShape(x.shape, like[i]!.shape)))
    throw new ShapeError(
      `${op}: expected ${what} like ${like.map(describe).join(', ')}, got ${list.map(describe).join(', ')}`,
    );
  for (const [i, x] of list.entries()) checkSameDevice(op, x, like[i]!.storage);
  return list;
}

/** Σ ⟨ys, vs⟩ over those that require a gradient; null if none does. */
function inner(ys: readonly (Tensor | null)[], vs: readonly Tensor[]): Tensor | null {
  let total: Tensor | null = null;
  for (const [i, y] of ys.entries()) {
    if (!y?.requiresGrad) continue;
    const share = sum(mul(y, vs[i]!));
    total = total === null ? share : add(total, share);
  }
  return total;
}

/** The gradients of `y` by `xs`, zeros where it does not depend on one, or a GraphError if `strict`. */
function gradients(call: Call, y: Tensor | null, xs: readonly Tensor[], createGraph: boolean, gy?: Tensor): Tensor[] {
  const o = { createGraph, allowUnused: true, ...(gy && { gy }) };
  const found = y?.requiresGrad ? grad(y, xs, o) : xs.map(() => null);
  return found.map((g, i) => {
    if (g === null && call.strict)
      throw new GraphError(
        `${call.op}: the result does not depend on ${describe(xs[i]!)}, number ${i}; without strict it is 0`,
      );
    return g ?? zerosLike(xs[i]!);
  });
}

type Fn<X extends OneOrMore, Y extends OneOrMore> = (
  ...x: X extends readonly Tensor[] ? { [I in keyof X]: Tensor } : [Tensor]
) => Y;
type Forms = OneOrMore | OneOrMore[];

/**
 * [outputs, vᵀ J] of `fn` at `inputs`, J the Jacobian: the gradients by the inputs, from those by the outputs.
 *
 * @param fn takes the inputs as arguments, returns a tensor or an array of tensors
 * @param v like the outputs; may be left out for a single element
 */
export function vjp<X extends OneOrMore, Y extends OneOrMore>(
  fn: Fn<X, Y>,
  inputs: X,
  v?: OneOrMore,
  o?: TransformOptions,
): [outputs: Y, vjp: Like<X, Tensor>];
export function vjp(fn: unknown, inputs: OneOrMore, v?: OneOrMore, o?: TransformOptions): [OneOrMore, OneOrMore] {
  return transformed('vjp', fn, inputs, o, call => {
    const y = outputsOf(call, fn);
    const ys = listed(y);
    const total = inner(ys, vectorsOf('vjp', 'v', v, ys));
    const gx = gradients(call, total, call.xs, call.createGraph);
    return [
      formed(
        y,
        ys.map(one => finished(call, one)),
      ),
      formed(inputs, gx),
    ];
  });
}

/**
 * [outputs, J t] of `fn` at `inputs`, J the Jacobian: how outputs change when inputs move along the tangents. By two backward passes, of
 * which the second differentiates the first, since vᵀ J is linear in v; so every operation that is twice differentiable will do.
 *
 * @param fn as for `vjp`
 * @param tangents like the inputs; may be left out for a single element
 */
export function jvp<X extends OneOrMore, Y extends OneOrMore>(
  fn: Fn<X, Y>,
  inputs: X,
  tangents?: OneOrMore,
  o?: TransformOptions,
): [outputs: Y, jvp: Like<Y, Tensor>];
export function jvp(
  fn: unknown,
  inputs: OneOrMore,
  tangents?: OneOrMore,
  o?: TransformOptions,
): [OneOrMore, OneOrMore] {
  return transformed('jvp', fn, inputs, o, call => {
    const ts = vectorsOf('jvp', 'tangents', tangents, call.xs);
    const y = outputsOf(call, fn);
    const ys = listed(y);
    const weights = ys.map(one => {
      const u = zerosLike(one);
      u.requiresGrad = true;
      return u;
    });
    const gx = gradients(call, inner(ys, weights), call.xs, true);
    const moved = gradients(call, inner(gx, ts), weights, call.createGraph);
    return [
      formed(
        y,
        ys.map(one => finished(call, one)),
      ),
      formed(y, moved),
    ];
  });
}

/** The rows of the Jacobian of `y` by each input: [...y.shape, ...x.shape], a backward pass for each element of `y`. */
function rowsOf(call: Call, y: Tensor): Tensor[] {
  const rows = Array.from({ length: y.size }, (_, i) => {
    const unit = y.dtype === 'float64' ? new Float64Array(y.size) : new Float32Array(y.size);
    unit[i] = 1;
    return gradients(call, y, call.xs, call.createGraph, arrayLike(y, unit, y.shape));
  });
  return call.xs.map((x, k) => {
    const shape = [...y.shape, ...x.shape];
    if (rows.length === 0) return fullLike('jacobian', x, 0, shape);
    return reshape(stack(rows.map(row => row[k]!)), shape);
  });
}

/** The Jacobian by each input, of each output: arrays where the outputs, and where the inputs are arrays. */
export type Jacobian<X extends OneOrMore, Y extends OneOrMore> = Like<Y, Like<X, Tensor>>;

/**
 * The Jacobian of `fn` at `inputs`: of each output y by each input x a tensor [...y.shape, ...x.shape], in arrays as outputs and inputs
 * are. A backward pass for each element of the outputs.
 *
 * @param fn as for `vjp`
 */
export function jacobian<X extends OneOrMore, Y extends OneOrMore>(
  fn: Fn<X, Y>,
  inputs: X,
  o?: TransformOptions,
): Jacobian<X, Y>;
export function jacobian(fn: unknown, inputs: OneOrMore, o?: TransformOptions): Forms {
  return transformed('jacobian', fn, inputs, o, call => {
    const y = outputsOf(call, fn);
    return formed(
      y,
      listed(y).map(one => formed(inputs, rowsOf(call, one))),
    );
  });
}

/** The value of `fn`, which must be a single element, and its gradients, which are recorded. */
function valueAndGradients(call: Call, fn: unknown): { value: Tensor; gx: Tensor[] } {
  const value = outputsOf(call, fn);
  if (!isTensor(value) || value.size !== 1)
    throw new ShapeError(
      `${call.op}: expected fn to return a single element, got ${listed(value).map(describe).join(', ')}`,
    );
  return { value, gx: gradients(call, inner([value], vectorsOf(call.op, 'v', undefined, [value])), call.xs, true) };
}

/**
 * The second derivatives of `fn`, of a single element, at `inputs`: by inputs a and b a tensor [...a.shape, ...b.shape], for an array of
 * inputs an array of arrays. A backward pass for each element of the inputs.
 *
 * @param fn as for `vjp`
 */
export function hessian<X extends OneOrMore>(fn: Fn<X, Tensor>, inputs: X, o?: TransformOptions): Jacobian<X, X>;
export function hessian(fn: unknown, inputs: OneOrMore, o?: TransformOptions): Forms {
  return transformed('hessian', fn, inputs, o, call => {
    const { gx } = valueAndGradients(call, fn);
    return formed(
      inputs,
      gx.map(one => formed(inputs, rowsOf(call, one))),
    );
  });
}

/**
 * [value, H v] of `fn`, of a single element, at `inputs`, H the Hessian, by differentiating ⟨gradient, v⟩: two backward passes, whatever
 * the size (Pearlmutter 1994).
 *
 * @param fn as for `vjp`
 * @param v like the inputs; may be left out for a single element
 */
export function hessianVectorProduct<X extends OneOrMore>(
  fn: Fn<X, Tensor>,
  inputs: X,
  v?: OneOrMore,
  o?: TransformOptions,
): [value: Tensor, product: Like<X, Tensor>];
export function hessianVectorProduct(
  fn: unknown,
  inputs: OneOrMore,
  v?: OneOrMore,
  o?: TransformOptions,
): [Tensor, OneOrMore] {
  return transformed('hessianVectorProduct', fn, inputs, o, call => {
    const vs = vectorsOf(call.op, 'v', v, call.xs);
    const { value, gx } = valueAndGradients(call, fn);
    return [finished(call, value), formed(inputs, gradients(call, inner(gx, vs), call.xs, call.createGraph))];
  });
}
