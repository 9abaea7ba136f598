/** `defineOp`, the only way by which an operation reaches the graph and the backend. */

import type { Backend } from './backends/backend.ts';
import { aDType, aFunction, aString, checkArgument, type Kind, received } from './check.ts';
import { type DType, isFloat } from './dtype.ts';
import { DTypeError, describe, ShapeError } from './errors.ts';
import { type Differentiable, isRecording, Node } from './graph.ts';
import { checkShape, contiguousStrides, isWithin, type Layout, type Shape, sizeOf } from './shape.ts';
import { allocate } from './storage.ts';
import { aTensor, checkSameDevice, someTensors, type Tensor } from './tensor.ts';
import { watching } from './watch.ts';

/** Shape and dtype of a result. */
export type ResultType = { readonly shape: Shape; readonly dtype: DType };

/** An operation that computes new elements. */
export interface ComputeSpec<A> extends Differentiable<A> {
  /** The type of the result, or a clear error where the inputs do not fit. */
  shape(x: readonly Tensor[], attrs: A): ResultType;
  /** True if `forward` may run while inputs are lazy, and calls `materialize` on those it reads before it reads any. */
  readonly acceptsLazy?: boolean;
  /** Fills `out`, which is contiguous and may hold anything before. Inputs may have any strides. */
  forward(backend: Backend, x: readonly Tensor[], out: Tensor, attrs: A): void;
}

/** An operation that looks at the same elements differently. */
export interface ViewSpec<A> extends Differentiable<A> {
  /** The layout of the view in the storage of `x`, or a clear error. */
  view(x: Tensor, attrs: A): Layout;
}

/** An operation that moves the elements to another device. */
interface TransferSpec<A> extends Differentiable<A> {
  transfer(x: Tensor, attrs: A): Tensor;
}

/** The gradient rule of an operation that has none: integer and boolean results, say. */
export const notDifferentiable = null;

type Undifferentiable<S> = Omit<S, 'backward'> & { readonly backward: typeof notDifferentiable };

/** Runs an operation on its inputs, all on one device. */
export type Op<A> = (x: readonly Tensor[], attrs: A) => Tensor;

/**
 * Makes an operation from one record: its name, the shape rule, the forward computation through the backend (or the
 * view), and the gradient rule written in tensor operations, so that higher derivatives work. Tensors that attributes are or
 * hold at first hand leave a scope with the result, as the inputs do.
 *
 * Of the library itself: what the record's functions return is not checked, and they keep no tensors that they see.
 */
export function defineOp<A>(
  spec: ComputeSpec<A> | ViewSpec<A> | TransferSpec<A> | Undifferentiable<ComputeSpec<A>>,
): Op<A> {
  return makeOp({ builtIn: true, ...spec });
}

/** `defineOp` for operations from outside of the library: their rules may keep tensors that they see, unless `builtIn`. */
export function defineCustomOp<A>(spec: Parameters<typeof defineOp<A>>[0]): Op<A> {
  const { name } = spec ?? {};
  checkArgument('defineOp', 'name', name, aString);
  const work = 'view' in spec ? 'view' : 'transfer' in spec ? 'transfer' : 'forward';
  checkArgument('defineOp', work, (spec as Record<string, unknown>)[work], aFunction);
  const run = makeOp(spec.builtIn ? spec : checked({ builtIn: false, ...spec }));
  return (x, attrs) => {
    checkArgument(spec.name, 'inputs', x, someTensors);
    return run(x, attrs);
  };
}

/** The record with checks of what its functions return; those of the library's own need none. */
function checked<A>(spec: Parameters<typeof defineOp<A>>[0]): Parameters<typeof defineOp<A>>[0] {
  const { name } = spec;
  const checks: Record<string, unknown> = {};
  if (spec.backward !== notDifferentiable) {
    checkArgument(name, 'backward', spec.backward, aRule);
    const { backward } = spec;
    checks.backward = (gy: Tensor, node: Node<A>) => {
      const gradients: unknown = backward(gy, node);
      const expected = `${node.inputs.length} gradient${node.inputs.length === 1 ? '' : 's'}, one for each input, or null`;
      const [least, extra] = [node.inputs.length, (g: unknown, i: number) => i >= node.inputs.length && g !== null];
      if (!Array.isArray(gradients) || gradients.length < least || gradients.some(extra))
        throw new TypeError(`${name}: expected backward to return ${expected}, got ${received(gradients)}`);
      for (const [i, g] of gradients.entries())
        if (g !== null && g !== undefined) {
          checkArgument(name, 'a gradient of backward', g, aTensor);
          checkSameDevice(name, g, node.inputs[i]!.storage);
        }
      return gradients as readonly (Tensor | null)[];
    };
  }
  if ('shape' in spec) {
    const { shape } = spec;
    checks.shape = (x: readonly Tensor[], attrs: A): ResultType => {
      const result = shape(x, attrs);
      checkArgument(name, 'the result of shape', result, aResultType);
      checkArgument(name, 'the dtype of the result', result.dtype, aDType);
      checkShape(name, result.shape);
      return result;
    };
  }
  if ('view' in spec) {
    const { view } = spec;
    checks.view = (x: Tensor, attrs: A): Layout => {
      const layout = view(x, attrs);
      if (!isWithin(layout, x.storage.size))
        throw new ShapeError(
          `${name}: expected a view within the ${x.storage.size} elements of the storage, got shape [${layout?.shape}], ` +
            `strides [${layout?.strides}], offset ${layout?.offset}`,
        );
      return layout;
    };
  }
  return { ...spec, ...checks };
}

const aRule: Kind = { ...aFunction, expected: 'a function, or notDifferentiable' };
const aResultType: Kind = { expected: '{ shape, dtype }', is: v => typeof v === 'object' && v !== null };

function devicesDiffer(op: string, x: readonly Tensor[]): DTypeError {
  const all = x.map(t => `${describe(t)} on ${t.device}`).join(' and ');
  return new DTypeError(`${op}: expected tensors on one device, got ${all}`);
}

function makeOp<A>(spec: Parameters<typeof defineOp<A>>[0]): Op<A> {
  const differentiable = spec.backward === notDifferentiable ? null : (spec as Differentiable<A>);
  const record = (out: Tensor, x: readonly Tensor[], attrs: A): Tensor => {
    if (differentiable === null || !isFloat(out.dtype)) return out;
    if (!isRecording()) {
      watching?.read(x);
      return out;
    }
    for (let i = 0; i < x.length; i++) {
      if (x[i]!.requiresGrad) {
        out.requiresGrad = true;
        out.node = new Node(differentiable, x, out, attrs) as Node;
        break;
      }
    }
    return out;
  };

  if ('view' in spec)
    return (x, attrs) => {
      const { shape, strides, offset } = spec.view(x[0]!, attrs);
      return record(x[0]!.make(x[0]!.storage, shape, strides, offset), x, attrs);
    };

  if ('transfer' in spec) return (x, attrs) => record(spec.transfer(x[0]!, attrs), x, attrs);

  const acceptsLazy = spec.acceptsLazy === true;
  return (x, attrs) => {
    const { shape, dtype } = spec.shape(x, attrs);
    const backend = x[0]!.storage.backend;
    // Before `forward` reads any address, because computing lazy inputs may collect memory.
    if (!acceptsLazy) for (let i = 0; i < x.length; i++) x[i]!.storage.materialize();
    for (let i = 1; i < x.length; i++) if (x[i]!.storage.backend !== backend) throw devicesDiffer(spec.name, x);
    const out = x[0]!.make(allocate(backend, dtype, sizeOf(shape)), shape, contiguousStrides(shape));
    spec.forward(backend, x, out, attrs);
    return record(out, x, attrs);
  };
}
