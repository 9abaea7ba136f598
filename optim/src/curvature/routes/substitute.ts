/** Forward passes of layers whose blocks leave the route of projected gradients. */

import { type Handle, isRecording, promote, Tensor } from '@otimes/core';
import type { AffineLayer } from '../block.ts';
import type { LayerCurvature } from '../layer.ts';
import { affineIn, type TurnedSink } from './affine.ts';

/** Who collects of a layer. */
type Recorder = TurnedSink & { readonly layer: LayerCurvature };

/**
 * Lets layers that can be turned run in their bases, on the routes that want it, and their recorders know of the rows there. All
 * or none: where one is substituted already, the error leaves nothing behind.
 */
export function substituteForwards(recorders: readonly Recorder[]): Handle[] {
  const handles: Handle[] = [];
  try {
    for (const recorder of recorders) {
      const { layer } = recorder.layer.block;
      if (layer !== undefined) handles.push(substituteForward(layer, recorder));
    }
    return handles;
  } catch (error) {
    for (const handle of handles) handle.remove();
    throw error;
  }
}

/** What is seen goes with the graph. */
const BORROWS = { borrows: true };

function substituteForward(affine: AffineLayer, recorder: Recorder): Handle {
  const { module, weight, bias } = affine;
  const { layer } = recorder;
  const features = weight.shape[1];
  const own = [...module.namedParameters({ recurse: false })].filter(([, p]) => p === weight || p === bias);
  // Somebody may put other parameters there, `to` another device say.
  const isAsItWas = () => own.every(([name, p]) => Reflect.get(module, name) === p);
  return module.substitute((x: Tensor): Tensor => {
    if (!isRecording() || !weight.requiresGrad || !(x instanceof Tensor) || x.rank < 2) return module.forward(x);
    const rows = x.size / x.shape[x.rank - 1]!;
    // The layer computes in the wider dtype; in a basis it can where that is the weight's.
    const isTyped = promote(x.dtype, weight.dtype) === weight.dtype;
    const fits = x.shape[x.rank - 1] === features && isTyped && x.device === weight.device;
    if (!fits || !(rows > 0) || !isAsItWas()) return module.forward(x);
    const turns = layer.route !== 'gradient' && layer.canTurn;
    const y = turns ? affineIn(layer.frame(), affine, x.astype(weight.dtype), recorder) : module.forward(x);
    // It counts once backward has come by.
    layer.forwards.set(y, { rows, needsInputGrad: x.requiresGrad });
    return y;
  }, BORROWS);
}
