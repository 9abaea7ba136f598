/** Forward passes of layers whose blocks leave the route of projected gradients. */

import { type Handle, isRecording, promote, Tensor } from '@otimes/core';
import type { TurnableLayer } from '../block.ts';
import type { LayerCurvature } from '../layer.ts';
import { affineIn, type TurnedSink } from './affine.ts';
import { convolution } from './convolve.ts';
import { convolutionIn } from './images.ts';

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

function substituteForward(turnable: TurnableLayer, recorder: Recorder): Handle {
  const { module, weight, bias } = turnable;
  const { layer } = recorder;
  const own = [...module.namedParameters({ recurse: false })].filter(([, p]) => p === weight || p === bias);
  // Somebody may put other parameters there, `to` another device say.
  const isAsItWas = () => own.every(([name, p]) => Reflect.get(module, name) === p);
  const rowsFor = turnable.window === undefined ? rowsOf : placesOf;
  return module.substitute((x: Tensor): Tensor => {
    if (!isRecording() || !weight.requiresGrad || !(x instanceof Tensor)) return module.forward(x);
    const rows = rowsFor(x, turnable);
    // The layer computes in the wider dtype; in a basis it can where that is the weight's.
    const isTyped = promote(x.dtype, weight.dtype) === weight.dtype;
    if (!(rows > 0) || !isTyped || x.device !== weight.device || !isAsItWas()) return module.forward(x);
    let y: Tensor;
    if (layer.route === 'gradient' || !layer.canTurn) y = module.forward(x);
    else if (turnable.window !== undefined) y = convolutionIn(layer.frame(), turnable, x.astype(weight.dtype));
    else y = affineIn(layer.frame(), turnable, x.astype(weight.dtype), recorder);
    // It counts once backward has come by.
    layer.forwards.set(y, { rows, needsInputGrad: x.requiresGrad });
    return y;
  }, BORROWS);
}

/** Rows of an input [..., features] that fits an affine layer; 0 or NaN of one that does not. */
function rowsOf(x: Tensor, { weight }: TurnableLayer): number {
  const features = x.shape[x.rank - 1];
  return x.rank >= 2 && features === weight.shape[1] ? x.size / features! : 0;
}

/** Places of the output for an input [N, C, H, W] that fits a convolution; 0 of one that does not. */
function placesOf(x: Tensor, { weight, window }: TurnableLayer): number {
  if (x.rank !== 4 || x.shape[1] !== weight.shape[1] || x.size === 0) return 0;
  const [images, , ...places] = convolution(x.shape, weight.shape, window!).y;
  return images! * places[0]! * places[1]!;
}
