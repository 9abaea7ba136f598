/** Kronecker factors on every device against exact blocks, which one backward pass an example and an output makes on the CPU. */

import { Generator, randn, tensor } from '@otimes/core';
import { Conv2d, Flatten, Linear, Sequential, Tanh } from '@otimes/nn';
import type { KroneckerOptions } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { law } from './helpers/law.ts';
import { dtype, smallNet } from './helpers/nets.ts';
import {
  empiricalFisher,
  exampleGradients,
  factorsOn,
  gaussNewton,
  kronecker,
  type Net,
  Pool,
  statistics,
} from './suites/exactness.ts';

/** A linear function of [batch, shared, 4], with the squared error. */
function linearNet(seed: number, shared: number, pool?: 'mean' | 'sum'): Net {
  const o = { dtype, rng: new Generator(seed) } as const;
  const model = new Sequential(new Linear(4, 3, o), new Linear(3, 2, o), ...(pool ? [new Pool(pool)] : []));
  return { model, x: randn([3, shared, 4], o), y: randn(pool ? [3, 2] : [3, shared, 2], o), loss: 'mse' };
}

/** A convolution that sees each image once. */
function convNet(seed: number): Net {
  const o = { dtype, rng: new Generator(seed) } as const;
  const model = new Sequential(new Conv2d(1, 3, 2, o), new Flatten(), new Tanh(), new Linear(3, 3, o));
  return { model, x: randn([1, 1, 2, 2], o), y: tensor([1], { dtype: 'int32' }), loss: 'crossEntropy' };
}

type Case = { net: (seed: number) => Net; o?: KroneckerOptions };

const ggn = (loss: Net['loss']) => ({ fisher: 'ggn', loss }) as const;
const cases: Record<string, Case> = {
  'one example: A ⊗ G is the empirical Fisher block': {
    net: seed => smallNet(seed, { batch: 1, loss: 'crossEntropy' }),
  },
  'one image: A ⊗ G is the empirical Fisher block of a convolution that sees it once': { net: convNet },
  'a linear net: expand with the GGN Fisher is the exact block': { net: seed => linearNet(seed, 5), o: ggn('mse') },
  'a linear net with pooling: reduce with the GGN Fisher is the exact block': {
    net: seed => linearNet(seed, 5, 'mean'),
    o: { ...ggn('mse'), sharing: 'reduce' },
  },
  'one example: the GGN factors give the exact Gauss–Newton block': {
    net: seed => smallNet(seed, { batch: 1, loss: 'crossEntropy' }),
    o: ggn('crossEntropy'),
  },
};

for (const [title, { net, o = {} }] of Object.entries(cases))
  for (const device of DEVICES)
    law(t, `${title}, on ${device}`, async () => {
      for (const seed of [1, 2, 3]) {
        const { model, x, y, loss } = net(seed);
        const exact = statistics({ model, x, y, loss }, o).map(state =>
          o.fisher === 'ggn'
            ? gaussNewton(model, state, x, loss)
            : empiricalFisher(exampleGradients(model, state, x, y, loss)),
        );
        const factors = await factorsOn(device, net(seed), o);
        factors.forEach((pair, i) => {
          mustBeClose(kronecker(pair), exact[i]!, { rtol: 1e-9, atol: 1e-13 }, `block ${i}`);
        });
      }
    });
