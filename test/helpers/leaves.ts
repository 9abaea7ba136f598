// Random tensors of float64 from one generator.

import { Generator, randn } from '@otimes/core';

export const rng = new Generator(1);
export const leaf = (...shape: number[]) => randn(shape, { dtype: 'float64', requiresGrad: true, rng });
export const plain = (...shape: number[]) => randn(shape, { dtype: 'float64', rng });
