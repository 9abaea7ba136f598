/**
 * Tensors whose elements are computed when somebody first reads them, and what their makers ask about them. For authors of
 * packages: an optimizer that keeps a weight in another basis computes the weight itself only where it is looked at.
 */

import { aFunction, checkArgument } from './check.ts';
import { describe, ShapeError } from './errors.ts';
import { noGrad } from './graph.ts';
import { clone } from './ops/view.ts';
import { scope } from './scope.ts';
import { contiguousStrides, type Shape, sameShape, sizeOf } from './shape.ts';
import { Storage } from './storage.ts';
import { checkTensors, type Tensor } from './tensor.ts';

/** Options of `lazyTensor`. */
export type LazyOptions = {
  /** Default that of `like`. */
  shape?: Shape;
  /** What `originOf` gives while the elements are those that were left to be computed. Default null. */
  origin?: unknown;
  /** Called once: when the memory is released, or when `makeLazy` replaces the elements, whether they were computed or not. */
  dispose?: () => void;
};

/**
 * A contiguous tensor with the dtype and the device of `like`, whose elements are computed when somebody first reads or writes
 * them. Without a graph.
 *
 * @param make computes them, at most once: a tensor of that shape and dtype, on that device. It runs inside a `scope`, is not
 *   recorded, and runs again at the next read if it threw
 */
export function lazyTensor(like: Tensor, make: () => Tensor, o: LazyOptions = {}): Tensor {
  checkTensors('lazyTensor', like);
  checkArgument('lazyTensor', 'make', make, aFunction);
  const { shape = like.shape, origin = null, dispose = null } = o;
  const storage = new Storage(like.storage.backend, like.dtype, null, sizeOf(shape));
  const x = like.make(storage, shape, contiguousStrides(shape));
  storage.origin = origin;
  storage.defer(() => {
    const first = Storage.count;
    const made = noGrad(() =>
      scope(() => {
        const y = checked('lazyTensor', make(), x);
        // Its memory becomes that of x, so it must be all of it, new, and nobody else's.
        return y.isContiguous && y.size === y.storage.size && y.storage.id >= first && !y.storage.kept ? y : clone(y);
      }),
    );
    return made.storage.memory;
  }, dispose);
  return x;
}

/**
 * Replaces the elements of `x`, a parameter say, by what `make` computes when somebody next reads or writes them, as in
 * `lazyTensor`. Counts as a write now. An Error if an ndarray sees the elements (`isExposed`), which would read the old ones.
 */
export function makeLazy(x: Tensor, make: () => Tensor): void {
  checkTensors('makeLazy', x);
  checkArgument('makeLazy', 'make', make, aFunction);
  const { storage } = x;
  if (storage.exposed) throw new Error(`makeLazy: an ndarray sees the elements of ${describe(x)}`);
  // The others in the storage stay what they are.
  if (x.size < storage.size) storage.materialize();
  storage.version++;
  storage.defer(() => {
    noGrad(() =>
      scope(() => {
        const y = checked('makeLazy', make(), x);
        // `assign` does nothing after a check that failed on a device which is read with await, and these elements are due.
        if (x.size === storage.size && x.isContiguous) storage.backend.copy(y, x);
        else storage.backend.assign(x, y);
      }),
    );
    return storage.memory;
  }, null);
}

/** What `make` returned, which must be like `x`. */
function checked(op: string, y: Tensor, x: Tensor): Tensor {
  if (!sameShape(y.shape, x.shape) || y.dtype !== x.dtype || y.storage.backend !== x.storage.backend)
    throw new ShapeError(
      `${op}: expected make to return ${describe(x)} on '${x.device}', got ${describe(y)} on '${y.device}'`,
    );
  return y;
}

/** Computes the elements now if they are lazy. For operations with `acceptsLazy`, and to end what `makeLazy` began. */
export const materialize = (x: Tensor): void => x.storage.materialize();

/**
 * The `origin` that `lazyTensor` was given, if `x` is all of that tensor and nobody can have changed its elements: none wrote to
 * them, and no ndarray sees them. Else null.
 */
export function originOf(x: Tensor): unknown {
  const { origin, version, exposed, size } = x.storage;
  return version === 0 && !exposed && x.size === size && x.isContiguous ? origin : null;
}

/** How many writes to the memory of `x` there were since it was made. Writes through an ndarray are not counted. */
export const versionOf = (x: Tensor): number => x.storage.version;

/** Whether something outside of the library can write to the elements unseen: an ndarray over them. */
export const isExposed = (x: Tensor): boolean => x.storage.exposed;
