/** Temporaries of composed kernels, and kernels that write to them. */

import { type DType, promote } from '../../dtype.ts';
import { broadcastShapes, isContiguous, reducedShape, type Shape } from '../../shape.ts';
import type { Backend, BinaryKernel, Operand, ReduceKernel, UnaryKernel } from '../backend.ts';
import { emptyOperand } from '../operand.ts';

/** Runs `kernel` with memory that it may fill; what it took goes back when it ends. */
export function within(device: Backend, kernel: (scratch: Scratch) => void): void {
  const scratch = new Scratch(device);
  try {
    kernel(scratch);
  } finally {
    scratch.release();
  }
}

const COMPARISONS: readonly string[] = ['eq', 'ne', 'lt', 'le', 'gt', 'ge', 'and', 'or'];

export class Scratch {
  readonly #device: Backend;
  readonly #made: Operand[] = [];

  constructor(device: Backend) {
    this.#device = device;
  }

  /** Contiguous memory with any content. */
  empty(dtype: DType, shape: Shape): Operand {
    const made = emptyOperand(this.#device, dtype, shape);
    this.#made.push(made);
    return made;
  }

  release(): void {
    for (const { storage } of this.#made) storage.release();
  }

  /** One element, for kernels that take no numbers. */
  constant(value: number, dtype: DType): Operand {
    const out = this.empty(dtype, []);
    this.#device.fill(value, out);
    return out;
  }

  copy(x: Operand, dtype: DType = x.dtype): Operand {
    const out = this.empty(dtype, x.shape);
    this.#device.copy(x, out);
    return out;
  }

  /** `x` in that dtype: itself if it has it. */
  as(x: Operand, dtype: DType): Operand {
    return x.dtype === dtype ? x : this.copy(x, dtype);
  }

  /** `x` in row-major order without gaps: itself if it lies so. */
  packed(x: Operand): Operand {
    return isContiguous(x) ? x : this.copy(x);
  }

  unary(kernel: UnaryKernel, x: Operand): Operand {
    const out = this.empty(x.dtype, x.shape);
    this.#device.unary(kernel, x, out);
    return out;
  }

  binary(kernel: BinaryKernel, a: Operand | number, b: Operand | number): Operand {
    const [left, right] = [typeof a === 'number' ? (b as Operand) : a, typeof b === 'number' ? (a as Operand) : b];
    const dtype = COMPARISONS.includes(kernel) ? 'bool' : promote(left.dtype, right.dtype);
    const out = this.empty(dtype, broadcastShapes(kernel, left.shape, right.shape));
    this.#device.binary(kernel, a, b, out);
    return out;
  }

  /** condition ? a : b, where a has the shape of the result. */
  where(condition: Operand, a: Operand, b: Operand | number): Operand {
    const out = this.empty(a.dtype, a.shape);
    this.#device.where(condition, a, typeof b === 'number' ? this.constant(b, a.dtype) : b, out);
    return out;
  }

  /** The reduced axes have length 1, so that the result broadcasts to `x`. */
  reduce(kernel: Exclude<ReduceKernel, 'norm'>, x: Operand, axes: readonly number[]): Operand {
    if (axes.length === 0) return x;
    const out = this.empty(x.dtype, reducedShape(x.shape, axes, true));
    this.#device.reduce(kernel, x, axes, out);
    return out;
  }

  gather(x: Operand, axis: number, index: Operand): Operand {
    const out = this.empty(x.dtype, index.shape);
    this.#device.gather(x, axis, index, out);
    return out;
  }
}
