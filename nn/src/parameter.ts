/** Tensors that belong to a module: parameters, which are trained, and buffers, which are only saved with it. */

import { Tensor } from '@otimes/core';

/** A leaf that requires a gradient. It shares the memory of the tensor it is made from. */
export class Parameter extends Tensor {
  constructor(value: Tensor, { requiresGrad = true }: { requiresGrad?: boolean } = {}) {
    super(value.storage, value.shape, value.strides, value.offset);
    this.requiresGrad = requiresGrad;
    this.keep();
  }
}

/** State that is no parameter (running statistics, say): in `stateDict`, moved by `to`, without a gradient. */
export class Buffer extends Tensor {
  constructor(value: Tensor) {
    super(value.storage, value.shape, value.strides, value.offset);
    this.keep();
  }
}
