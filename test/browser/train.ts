/** What test/browser.test.ts trains in Node and in a browser: a few runs from one seed, their losses. */

import { Generator, randint, randn, type Tensor } from '@otimes/core';
import { Conv2d, crossEntropy, Flatten, Linear, type Module, mlp, ReLU, Sequential } from '@otimes/nn';
import { Adam, STEVE } from '@otimes/optim';

/** What a page or a worker reports. */
export type Report = {
  readonly isolated: boolean;
  readonly variant: string | undefined;
  /** Of two that were asked for; or the message of the error that came instead. */
  readonly threads: number | string;
  readonly losses: Readonly<Record<string, readonly number[]>>;
};

type Optimizer = { zeroGrad(): void; step(): void | Promise<void> };

/** @param after awaited after each step */
async function losses(
  model: Module,
  optimizer: Optimizer,
  x: Tensor,
  y: Tensor,
  after = async () => {},
): Promise<number[]> {
  const seen: number[] = [];
  for (let step = 0; step < 8; step++) {
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x), y);
    loss.backward();
    await optimizer.step();
    seen.push(loss.item());
    await after();
  }
  return seen;
}

/** Losses of each run whose name has `only` in it. Products are large enough that several threads share them. */
export async function train(only = ''): Promise<Record<string, number[]>> {
  const rng = new Generator(11);
  const vectors = randn([128, 200], { rng });
  const images = randn([32, 3, 12, 12], { rng });
  const labels = randint(0, 10, [128], { rng });
  const perceptron = () => mlp([200, 256, 96, 10], { rng: new Generator(1) });
  const runs: Record<string, () => Promise<number[]>> = {
    'MLP, Adam'() {
      const model = perceptron();
      return losses(model, new Adam(model.parameters(), { lr: 1e-2 }), vectors, labels);
    },
    'CNN, Adam'() {
      const model = new Sequential(
        new Conv2d(3, 16, 3, { padding: 1, rng }),
        new ReLU(),
        new Conv2d(16, 24, 3, { stride: 2, rng }),
        new ReLU(),
        new Flatten(),
        new Linear(24 * 5 * 5, 10, { rng }),
      );
      return losses(model, new Adam(model.parameters(), { lr: 1e-2 }), images, labels.slice([0, 32]));
    },
    'MLP, STEVE'() {
      const model = perceptron();
      return losses(model, new STEVE(model, { lr: 1e-2, refreshEvery: 3 }), vectors, labels);
    },
    'MLP, STEVE refreshed in the background'() {
      const model = perceptron();
      const optimizer = new STEVE(model, { lr: 1e-2, refreshEvery: 3, refresh: 'background', refreshLag: 2 });
      // Until the bases are there, so that the next step takes them over whoever computed them.
      const arrival = async () => {
        for (const { path } of optimizer.describe().filter(({ collector }) => collector === 'linear'))
          while (optimizer.inspect(path).job?.ready(false) === false)
            await new Promise(resolve => setTimeout(resolve, 1));
      };
      return losses(model, optimizer, vectors, labels, arrival);
    },
  };
  const results: Record<string, number[]> = {};
  for (const [name, run] of Object.entries(runs)) if (name.includes(only)) results[name] = await run();
  return results;
}
