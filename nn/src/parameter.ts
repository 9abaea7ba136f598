/** Tensors that belong to a module: parameters, which are trained, and buffers, which are only saved with it. */

import { Tensor } from '@otimes/core';
import { aBoolean, aTensor, checkArgument, checkOptions } from '@otimes/core/extend';

/** A leaf that requires a gradient. It shares the memory of the tensor it is made from. */
export class Parameter extends Tensor {
  /** @internal Whether anybody trains it; `Noted` of @otimes/core/extend. */
  known = false;
  /** @internal The last backward pass that left it a gradient. */
  pass = 0;
  /** For TypeScript only: a plain tensor is not assignable to Parameter. */
  declare protected readonly parameter: true;

  /** @param o requiresGrad: default true; false for one that is frozen */
  constructor(value: Tensor, o: { requiresGrad?: boolean } = {}) {
    checkArgument('Parameter', 'its value', value, aTensor);
    checkOptions('Parameter', o, { requiresGrad: aBoolean });
    super(value.storage, value.shape, value.strides, value.offset);
    this.requiresGrad = o.requiresGrad ?? true;
    this.keep();
  }
}

/** State that is not trained, such as running statistics: in `stateDict`, moved by `to`, without a gradient. */
export class Buffer extends Tensor {
  /** For TypeScript only: a plain tensor is not assignable to Buffer. */
  declare protected readonly buffer: true;

  constructor(value: Tensor) {
    checkArgument('Buffer', 'its value', value, aTensor);
    super(value.storage, value.shape, value.strides, value.offset);
    this.keep();
  }
}

/** These elements as what `value` is: a parameter, frozen or not, or a buffer. */
export function placedOn(value: Parameter | Buffer, there: Tensor): Parameter | Buffer {
  return value instanceof Parameter ? new Parameter(there, { requiresGrad: value.requiresGrad }) : new Buffer(there);
}
