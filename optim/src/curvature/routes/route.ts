/** Which way a block's gradient takes into the eigenbasis, by what each way costs a step beyond that of SGD. */

import type { Side } from '../side.ts';

/**
 * gradient: UGᵀ D UA of the gradient that backward leaves, and the update back. activations: D̃ = g̃ᵀ ã from turned inputs
 * and output gradients, and the update back. resident: the layer is computed in the basis, and nothing comes back.
 */
export type Route = 'gradient' | 'activations' | 'resident';

export const ROUTES: readonly Route[] = ['gradient', 'activations', 'resident'];

/** What the costs depend on. */
export type RouteSizes = {
  readonly A: Side;
  readonly G: Side;
  /** batch · shared positions of a step. */
  readonly rows: number;
  /** Whether backward goes on below the layer. */
  readonly needsInputGrad: boolean;
  /** Of a convolution: taps of its kernel, and pixels of its inputs in a step. */
  readonly images?: { readonly taps: number; readonly pixels: number } | undefined;
};

/** Multiplications and additions a step. */
export function routeCosts({ A, G, rows, needsInputGrad, images }: RouteSizes): Record<Route, number> {
  const back = 2 * (G.n * A.turnCost + A.n * G.turnCost);
  // Of a convolution the channels turn at each pixel, and the taps of W̃ and of D̃.
  const inputs = images === undefined ? rows * A.turnCost : images.pixels * channelCost(A, images.taps);
  const taps = images === undefined ? 0 : G.n * tapsCost(A);
  return {
    gradient: 2 * back,
    // W's gradient itself is saved, and g̃ᵀ ã costs as much.
    activations: 2 * (rows * G.turnCost + inputs + taps) + back,
    resident: 2 * (2 * rows * G.turnCost + (needsInputGrad ? 2 : 1) * inputs + 2 * taps),
  };
}

/** Multiplications that the channels of a pixel take to turn. */
const channelCost = (A: Side, taps: number): number =>
  A.segments.reduce((sum, one) => sum + (one.taps === taps ? one.size ** 2 : 0), 0);

/** Multiplications that the taps of all channels take to turn. */
const tapsCost = (A: Side): number =>
  A.segments.reduce((sum, one) => sum + (one.turnsTaps ? one.size * one.taps ** 2 : 0), 0);

/** The cheapest way; the one that touches least where they are close. */
export function cheapestRoute(sizes: RouteSizes): Route {
  const costs = routeCosts(sizes);
  let best: Route = 'gradient';
  for (const route of ROUTES) if (costs[route] < 0.9 * costs[best]) best = route;
  return best;
}
