/** The option `init` of layers: how their first weights are made. */

import { type Shape, ShapeError, sameShape, Tensor } from '@otimes/core';
import { aFunction, checkArgument, checkOptions, isPlainObject, type Kind } from '@otimes/core/extend';
import { type Placement, placed } from './check.ts';
import type { InitOptions } from './init.ts';
import { Parameter } from './parameter.ts';

/** Makes a tensor of a shape, as the functions of `nn.init` do. */
export type Init = (shape: Shape, o: InitOptions) => Tensor;

/** For the weight alone, or for weight and bias; what is left out is as the layer says. */
export type Initial = Init | { readonly weight?: Init; readonly bias?: Init };

export const anInitial: Kind = {
  expected: 'a function of a shape, or { weight, bias } of such',
  is: v => typeof v === 'function' || isPlainObject(v),
};
const BY_NAME = { weight: aFunction, bias: aFunction };

/** The weight or bias of a layer, by `init` where that says how, else by `standard`. */
export function drawn(
  layer: string,
  name: 'weight' | 'bias',
  shape: Shape,
  o: { init?: Initial } & Placement,
  standard: Init,
): Parameter {
  const { dtype = 'float32', device = 'cpu', init = standard } = o;
  const by: { readonly weight?: Init; readonly bias?: Init } = typeof init === 'function' ? { weight: init } : init;
  checkOptions(`${layer}.init`, by, BY_NAME);
  const value = (by[name] ?? standard)(shape, placed(o));
  checkArgument(layer, `the ${name} of init`, value, {
    expected: `${dtype}[${shape}] on '${device}'`,
    is: v => v instanceof Tensor && sameShape(v.shape, shape) && v.dtype === dtype && v.device === device,
    error: ShapeError,
  });
  return new Parameter(value);
}
