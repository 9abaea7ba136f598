/**
 * A device by a dozen kernels: `ComposedBackend` has those of `DeviceKernels` still to be written, and all others as the files in
 * composed/ define them. A device replaces those that it can do faster; each replacement speeds up what is composed of it too.
 *
 * No kernel there looks at values on the host, so that devices which are read with await have them too. Temporaries go back
 * when a kernel ends.
 */

import type { Region } from '../device.ts';
import type { DType, TypedArray } from '../dtype.ts';
import type { BinaryKernel, DeviceKernels, Operand, ReduceKernel, UnaryKernel } from './backend.ts';
import { ConvKernels } from './composed/conv.ts';
import { ElementwiseKernels } from './composed/elementwise.ts';
import { LossKernels } from './composed/loss.ts';
import { NormKernels } from './composed/norm.ts';
import { PoolKernels } from './composed/pool.ts';
import { ProductKernels } from './composed/product.ts';
import { ReduceKernels } from './composed/reduce.ts';
import { SelectKernels } from './composed/select.ts';
import { UpdateKernels } from './composed/update.ts';

/** Kernels that are defined by those of `DeviceKernels`. */
export interface ComposedKernels
  extends ElementwiseKernels,
    ReduceKernels,
    ProductKernels,
    SelectKernels,
    UpdateKernels,
    ConvKernels,
    PoolKernels,
    NormKernels,
    LossKernels {}

const FAMILIES = [
  ElementwiseKernels,
  ReduceKernels,
  ProductKernels,
  SelectKernels,
  UpdateKernels,
  ConvKernels,
  PoolKernels,
  NormKernels,
  LossKernels,
];

/** The methods of all families in one class. */
const Composed = class {} as new () => ComposedKernels;
for (const { prototype } of FAMILIES) {
  const { constructor: _, ...methods } = Object.getOwnPropertyDescriptors(prototype);
  Object.defineProperties(Composed.prototype, methods);
}

/** A device by a dozen kernels; what they must do is said in `DeviceKernels`. */
export abstract class ComposedBackend extends Composed implements DeviceKernels {
  abstract readonly device: string;
  readonly onHost: boolean = false;
  abstract allocate(dtype: DType, size: number): TypedArray | Region;
  abstract store(data: TypedArray): TypedArray | Region;
  abstract read(x: Operand): TypedArray;
  abstract copy(x: Operand, out: Operand): void;
  abstract assign(y: Operand, x: Operand): void;
  abstract fill(value: number, out: Operand): void;
  abstract unary(kernel: UnaryKernel, x: Operand, out: Operand): void;
  abstract binary(kernel: BinaryKernel, a: Operand | number, b: Operand | number, out: Operand): void;
  abstract where(condition: Operand, a: Operand, b: Operand, out: Operand): void;
  abstract reduce(kernel: ReduceKernel, x: Operand, axes: readonly number[], out: Operand): void;
  abstract argReduce(kernel: 'argmax' | 'argmin', x: Operand, axis: number, out: Operand): void;
  abstract matmul(a: Operand, b: Operand, out: Operand): void;
  abstract gather(x: Operand, axis: number, index: Operand, out: Operand): void;
  abstract scatterAdd(x: Operand, axis: number, index: Operand, out: Operand): void;
}
