/** Forward passes of layers whose blocks leave the route of projected gradients. */

import { type Handle, isRecording, promote, Tensor } from '@otimes/core';
import type { BlockState } from '../../kronecker/state.ts';
import type { AffineLayer } from '../block.ts';
import { affineIn, type TurnedSink } from './affine.ts';

/**
 * Lets layers that can be turned run in their bases, on the routes that want it; `stateOf` gives the block of a layer by its
 * position, and `sinkOf` who is told of its inputs and output gradients in the basis. All or none: where one is substituted
 * already, the error leaves nothing behind.
 */
export function substituteForwards(
  layers: readonly (AffineLayer | undefined)[],
  stateOf: (index: number) => BlockState,
  sinkOf: (index: number) => TurnedSink,
): Handle[] {
  const handles: Handle[] = [];
  try {
    for (const [index, layer] of layers.entries())
      if (layer !== undefined) handles.push(substituteForward(layer, () => stateOf(index), sinkOf(index)));
    return handles;
  } catch (error) {
    for (const handle of handles) handle.remove();
    throw error;
  }
}

/** What is seen goes with the graph. */
const BORROWS = { borrows: true };

function substituteForward(layer: AffineLayer, stateOf: () => BlockState, sink: TurnedSink): Handle {
  const { module, weight, bias } = layer;
  const features = weight.shape[1];
  const own = [...module.namedParameters({ recurse: false })].filter(([, p]) => p === weight || p === bias);
  // Somebody may put other parameters there, `to` another device say.
  const isAsItWas = () => own.every(([name, p]) => Reflect.get(module, name) === p);
  return module.substitute((x: Tensor): Tensor => {
    const state = stateOf();
    if (!isRecording() || !weight.requiresGrad || !(x instanceof Tensor) || x.rank < 2) return module.forward(x);
    const rows = x.size / x.shape[x.rank - 1]!;
    // The layer computes in the wider dtype; in a basis it can where that is the weight's.
    const isTyped = promote(x.dtype, weight.dtype) === weight.dtype;
    const fits = x.shape[x.rank - 1] === features && isTyped && x.device === weight.device;
    if (!fits || !(rows > 0) || !isAsItWas()) return module.forward(x);
    const turns = state.route !== 'gradient' && state.turnable;
    const y = turns ? affineIn(state.frame(), layer, x.astype(weight.dtype), sink) : module.forward(x);
    // It counts once backward has come by.
    state.forwards.set(y, { rows, needsInputGrad: x.requiresGrad });
    return y;
  }, BORROWS);
}
