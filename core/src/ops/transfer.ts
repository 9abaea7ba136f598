/** Moving tensors between devices. */

import type { Backend } from '../backends/backend.ts';
import { getBackend } from '../backends/registry.ts';
import { aDevice, checkArgument } from '../check.ts';
import type { TypedArray } from '../dtype.ts';
import { defineOp } from '../op.ts';
import { contiguousStrides } from '../shape.ts';
import { storageOf } from '../storage.ts';
import type { Tensor } from '../tensor.ts';
import { readsLater } from '../values.ts';

const toOp = defineOp<Backend>({
  name: 'to',
  transfer(x, backend) {
    if (readsLater(x))
      throw new TypeError(
        `to: tensors on '${x.device}' are read with await: await x.cpu() is a copy on 'cpu' outside of the graph, ` +
          'await x.data() the elements',
      );
    return stored(x, x.dataSync(), backend);
  },
  backward: (gy, { inputs }) => [to(gy, inputs[0]!.device)],
});

/** `x` with its elements, row-major, on a device. */
function stored(x: Tensor, data: TypedArray, backend: Backend): Tensor {
  return x.make(storageOf(backend, x.dtype, data), x.shape, contiguousStrides(x.shape));
}

/** A copy on 'cpu', outside of the graph. */
export async function toCpu(x: Tensor): Promise<Tensor> {
  return stored(x, await x.data(), getBackend('cpu'));
}

/** `x` on another device; `x` itself if it is there already. */
export function to(x: Tensor, device: string): Tensor {
  checkArgument('to', 'device', device, aDevice);
  const backend = getBackend(device);
  return x.storage.backend === backend ? x : toOp([x], backend);
}
