// The Kronecker family with its usual options, small nets for it, and what is compared after a run.

import { type DType, type Generator, randint, type StateDict, type Tensor } from '@otimes/core';
import {
  type AnyModule,
  Conv2d,
  Flatten,
  LayerNorm,
  Linear,
  MultiHeadAttention,
  ReLU,
  Sequential,
  Tanh,
} from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, type KroneckerPreconditioner, type Route, STEVE } from '@otimes/optim';

/** What was warned while `run` ran. */
export const warningsOf = (run: () => void): string[] => {
  const [warn, said] = [console.warn, [] as string[]];
  console.warn = (text: string) => void said.push(text);
  try {
    run();
  } finally {
    console.warn = warn;
  }
  return said;
};

export type Make = (model: AnyModule, o?: KroneckerOptions) => KroneckerPreconditioner;

export const family: Record<string, Make> = {
  KFAC: (m, o) => new KFAC(m, { lr: 0.05, ...o }),
  EKFAC: (m, o) => new EKFAC(m, { lr: 0.05, ...o }),
  STEVE: (m, o) => new STEVE(m, { lr: 0.05, ...o }),
  'STEVE example': (m, o) => new STEVE(m, { lr: 0.05, secondMoment: 'example', ...o }),
};
export const ROUTES: readonly Route[] = ['gradient', 'activations', 'resident'];

export type LayerOptions = { dtype: DType; rng: Generator };
export type Net = { make: (o: LayerOptions) => Sequential; shape: readonly number[] };
export const nets: Record<string, Net> = {
  linear: {
    make: o => new Sequential(new Linear(5, 6, o), new LayerNorm(6, o), new Tanh(), new Linear(6, 3, o)),
    shape: [12, 5],
  },
  convolution: {
    make: o => new Sequential(new Conv2d(2, 3, 3, o), new ReLU(), new Flatten(), new Linear(12, 3, o)),
    shape: [12, 2, 4, 4],
  },
  attention: {
    make: o => new Sequential(new MultiHeadAttention(6, 2, o), new Flatten(), new Linear(18, 3, o)),
    shape: [12, 3, 6],
  },
};

/** A state dict, bit for bit. */
export const bitsOf = (state: StateDict): string =>
  Object.entries(state)
    .map(([key, x]) => `${key} ${x.dtype} ${x.shape} ${Buffer.from(x.dataSync().buffer).toString('hex')}`)
    .join('\n');

export const labels = (rng: Generator, n = 12): Tensor => randint(0, 3, [n], { rng });
