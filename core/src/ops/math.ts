/** Records of functions of one element that come with their operations, and what they are where a device has no kernel for them. */

import type { DeviceKernels, MathGradKernel, MathKernel } from '../backends/backend.ts';
import { bring } from '../backends/bring.ts';
import * as reference from '../backends/reference/layers/math.ts';
import * as wasm from '../backends/wasm/layers/math.ts';
import { toFloat } from '../dtype.ts';
import type { Node } from '../graph.ts';
import { defineOp, type Op } from '../op.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { cast } from './cast.ts';
import { composeInto } from './compose.ts';
import { mul } from './elementwise.ts';

bring<Required<Pick<DeviceKernels, 'math' | 'mathGrad'>>>(reference, wasm);

/** The parameters of a function; 0 where it has none. */
export type Parameters = { readonly p: number; readonly q: number };
export const NONE: Parameters = { p: 0, q: 0 };

/** A function of one tensor by tensor operations. */
export type Composition = (x: Tensor, parameters: Parameters) => Tensor;

/** f by the kernel of that name, or by `compose`; its gradient in tensor operations. */
export function defineMath(
  name: MathKernel,
  compose: Composition,
  backward: (gy: Tensor, node: Node<Parameters>) => readonly (Tensor | null)[],
): Op<Parameters> {
  return defineOp<Parameters>({
    name,
    shape: ([x]) => ({ shape: x!.shape, dtype: toFloat(x!.dtype) }),
    forward(backend, [x], out, o) {
      if (backend.math !== undefined) backend.math(name, x!, o.p, o.q, out);
      else composeInto(backend, out, () => compose(cast(x!, out.dtype), o));
    },
    backward,
  });
}

/** f whose gradient is one kernel too, or `slope`; `curve` is f″, null where that is 0. */
export function defineActivation(
  name: MathGradKernel,
  compose: Composition,
  slope: Composition,
  curve: Composition | null,
): Op<Parameters> {
  const gradient: Op<Parameters> = defineOp<Parameters>({
    name: `${name}Grad`,
    shape: ([, x]) => x!,
    forward(backend, [gy, x], out, o) {
      if (backend.mathGrad !== undefined) backend.mathGrad(name, gy!, x!, o.p, o.q, out);
      else composeInto(backend, out, () => mul(gy!, slope(x!, o)));
    },
    backward(ggx, node) {
      const x = node.input(1);
      return [
        node.needs(0) ? gradient([ggx, x], node.attrs) : null,
        node.needs(1) && curve !== null ? mul(mul(ggx, node.input(0)), curve(x, node.attrs)) : null,
      ];
    },
  });
  return defineMath(name, compose, (gy, node) => [gradient([gy, node.input(0)], node.attrs)]);
}

/** The public function of a record without parameters. */
export function functionOf(name: string, op: Op<Parameters>): (x: Tensor) => Tensor {
  return x => {
    checkTensors(name, x);
    return op([x], NONE);
  };
}
