/** Which way a block's gradient takes into the eigenbasis, by what each way costs a step beyond that of SGD. */

/**
 * gradient: UGᵀ D UA of the gradient that backward leaves, and the update back. activations: D̃ = g̃ᵀ ã from turned inputs
 * and output gradients, and the update back. resident: the layer is computed in the basis, and nothing comes back.
 */
export type Route = 'gradient' | 'activations' | 'resident';

export const ROUTES: readonly Route[] = ['gradient', 'activations', 'resident'];

/** What the costs depend on. */
export type RouteSizes = {
  readonly dOut: number;
  readonly dIn: number;
  /** batch · shared positions of a step. */
  readonly rows: number;
  /** Whether backward goes on below the layer. */
  readonly needsInputGrad: boolean;
};

/** Multiplications and additions a step. */
export function routeCosts({ dOut: O, dIn: I, rows: R, needsInputGrad }: RouteSizes): Record<Route, number> {
  const back = 2 * O * I * (O + I);
  return {
    gradient: 2 * back,
    // W's gradient itself is saved, and g̃ᵀ ã costs as much.
    activations: 2 * R * (O * O + I * I) + back,
    resident: 2 * R * (2 * O * O + (needsInputGrad ? 2 : 1) * I * I),
  };
}

/** The cheapest way; the one that touches least where they are close. */
export function cheapestRoute(sizes: RouteSizes): Route {
  const costs = routeCosts(sizes);
  let best: Route = 'gradient';
  for (const route of ROUTES) if (costs[route] < 0.9 * costs[best]) best = route;
  return best;
}
