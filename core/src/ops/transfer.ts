/** Moving tensors between devices. */

import type { Backend } from '../backends/backend.ts';
import { getBackend } from '../backends/registry.ts';
import { aDevice, checkArgument } from '../check.ts';
import { defineOp } from '../op.ts';
import { contiguousStrides } from '../shape.ts';
import { Storage } from '../storage.ts';
import type { Tensor } from '../tensor.ts';

const toOp = defineOp<Backend>({
  name: 'to',
  transfer: (x, backend) =>
    x.make(new Storage(backend, x.dtype, backend.store(x.dataSync())), x.shape, contiguousStrides(x.shape)),
  backward: (gy, { inputs }) => [to(gy, inputs[0]!.device)],
});

/** `x` on another device; `x` itself if it is there already. */
export function to(x: Tensor, device: string): Tensor {
  checkArgument('to', 'device', device, aDevice);
  const backend = getBackend(device);
  return x.storage.backend === backend ? x : toOp([x], backend);
}
