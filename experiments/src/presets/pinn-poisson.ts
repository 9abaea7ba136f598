/** A physics-informed network for Poisson's equation. */

import { fromAdamW, LEAGUE, small } from './small.ts';

export const pinnPoissonPreset = small({
  name: 'pinn-poisson',
  title: "Poisson's equation, PINN",
  about:
    'A tanh network 2-32-32-1 in float64 that solves −Δu = f on the unit square: 900 points inside, 120 at the edge, all of them in each step.',
  task: 'pinn-poisson',
  taskOptions: {},
  short: { inside: 200, edge: 10, measured: 200, stepsPerEpoch: 10 },
  target: 0.045,
  targetFrom: fromAdamW('pinn-poisson', 'rounded up to .005'),
  epochs: 24,
  checksPerEpoch: 5,
  contenders: [...LEAGUE, 'lbfgs'],
  kronecker: { refreshEvery: 20, factorEvery: 10, refresh: 'sync' },
});
