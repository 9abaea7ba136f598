/**
 * What the functions of this folder work with. Tensors live in WebAssembly memory, and SIMD kernels compute on them where they
 * lie; what has no kernel runs the reference's loops over the same memory.
 *
 * NOTE: an operation allocates first and reads addresses after, because an allocation may collect what is unreachable.
 * Kernels never allocate.
 */

import type { Exports, Kernels } from '@otimes/kernels';
import { bytesPerElement, type DType } from '../../dtype.ts';
import { contiguousStrides, sizeOf } from '../../shape.ts';
import { Storage } from '../../storage.ts';
import type { Backend, Operand } from '../backend.ts';
import { allocationError, WasmRegion } from './region.ts';
import { copiesOf, tableOf } from './table.ts';

/** Kernels by operation and dtype, looked up once; others when `Kernels.override` changes them. */
export type Tables = ReturnType<typeof tablesOf>;

export type Context = Tables & {
  /** The backend that storages belong to. */
  readonly backend: Backend;
  readonly kernels: Kernels;
  /** What kernels needed while they ran. */
  lent: Storage[];
};

export function contextOf(backend: Backend, kernels: Kernels): Context {
  const c = { backend, kernels, lent: [] as Storage[] } as Context;
  kernels.bind(exports => Object.assign(c, tablesOf(exports)));
  return c;
}

function tablesOf(exports: Exports) {
  return {
    copy: copiesOf(exports),
    unary: tableOf(exports, [
      ...([
        'neg',
        'abs',
        'sign',
        'exp',
        'expm1',
        'log',
        'log1p',
        'sqrt',
        'square',
        'reciprocal',
        'sin',
        'cos',
      ] as const),
      ...(['tanh', 'sigmoid', 'relu', 'erf', 'gelu', 'geluTanh', 'floor', 'ceil', 'round'] as const),
      ...(['not', 'isFinite', 'isNaN'] as const),
    ]),
    slope: tableOf(exports, ['reluBackward', 'tanhBackward', 'sigmoidBackward', 'geluBackward', 'geluTanhBackward']),
    binary: tableOf(exports, [
      ...(['add', 'sub', 'mul', 'div', 'pow', 'maximum', 'minimum'] as const),
      ...(['eq', 'ne', 'lt', 'le', 'gt', 'ge', 'and', 'or'] as const),
    ]),
    other: tableOf(exports, [
      ...(['fill', 'where', 'sum', 'max', 'min', 'argmax', 'argmin', 'norm', 'softmax', 'logSoftmax'] as const),
      ...(['softmaxBackward', 'logSoftmaxBackward', 'crossEntropy', 'crossEntropyBackward'] as const),
      ...(['squaredError', 'squaredErrorBackward', 'adam', 'sgd', 'firstOutside', 'firstNotFinite'] as const),
      ...(['gather', 'scatterAdd', 'indexSelect', 'indexAdd', 'moments', 'sumChannels'] as const),
      ...(['addScaled', 'addcdiv', 'scale'] as const),
    ]),
  };
}

/**
 * Memory for the kernel that is about to run, which goes back before the next operation. It is always in this memory, past
 * the soft limit too, because kernels read and write nowhere else.
 */
export function empty(c: Context, { dtype, shape }: Pick<Operand, 'dtype' | 'shape'>): Operand {
  const storage = new Storage(c.backend, dtype, regionFor(c, dtype, sizeOf(shape)));
  c.lent.push(storage);
  return { storage, dtype, shape, strides: contiguousStrides(shape), offset: 0 };
}

function regionFor({ kernels: { heap } }: Context, dtype: DType, size: number): WasmRegion {
  try {
    return new WasmRegion(heap, heap.allocate(size * bytesPerElement(dtype), true)!, dtype, size);
  } catch (error) {
    throw allocationError(dtype, size, error);
  }
}

export function endKernels(c: Context): void {
  if (c.lent.length === 0) return;
  for (const storage of c.lent) storage.release();
  c.lent = [];
}
