/**
 * What is tuned. Each contender has its learning rate, over two decades on a log scale, and one dimension more, the one that matters most
 * beside it: with a handful of trials a third would hardly be seen. What is not in a space is at the optimizer's default.
 */

import type { Dimension } from '../experiment.ts';

/** Two decades, the ends included. */
export const decades = (low: number, byDefault: number): Dimension => ({
  scale: 'log',
  low,
  high: 100 * low,
  default: byDefault,
});

/**
 * Learning rates of whatever moves weights by about lr a step: Adam's relatives, in parameter coordinates and in an eigenbasis. The same
 * range for all, so that the same points are the same rates. It holds the defaults, from Adam's 1e-3 (Kingma & Ba 2015) to STEVE's
 * 1e-2, and what was best for Adam on small networks here, 3e-3 to 1e-2, well inside.
 */
export const adamLike = (byDefault: number): Dimension => decades(5e-4, byDefault);

/** Decoupled decay of weights: none, PyTorch's default for AdamW (0.01), and ten times that. */
export const decay = (byDefault: number): Dimension => ({
  scale: 'choice',
  choices: [0, 0.01, 0.1],
  default: byDefault,
});
