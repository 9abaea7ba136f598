/** Training in float32, for devices that have no float64: networks, and what an optimizer makes of them. */

import { Generator, randint, randn, type Tensor } from '@otimes/core';
import {
  BatchNorm2d,
  Conv2d,
  crossEntropy,
  Flatten,
  GroupNorm,
  LayerNorm,
  Linear,
  MaxPool2d,
  type Module,
  ReLU,
  Sequential,
  TransformerBlock,
} from '@otimes/nn';
import { clipGradNorm, type Optimizer } from '@otimes/optim';

export const nets: Record<string, { shape: number[]; make(rng: Generator): Module }> = {
  MLP: {
    shape: [32, 16],
    make: rng => new Sequential(new Linear(16, 24, { rng }), new ReLU(), new Linear(24, 3, { rng })),
  },
  CNN: {
    shape: [8, 2, 8, 8],
    make: rng =>
      new Sequential(
        new Conv2d(2, 4, 3, { padding: 1, rng }),
        new BatchNorm2d(4),
        new ReLU(),
        new MaxPool2d(2),
        new Conv2d(4, 8, 3, { padding: 1, stride: 2, groups: 2, rng }),
        new ReLU(),
        new Flatten(),
        new Linear(32, 3, { rng }),
      ),
  },
  'CNN with norms': {
    shape: [6, 2, 6, 6],
    make: rng =>
      new Sequential(
        new Conv2d(2, 4, 3, { padding: 1, rng }),
        new BatchNorm2d(4),
        new ReLU(),
        new Conv2d(4, 4, 3, { stride: 2, padding: 1, rng }),
        new GroupNorm(2, 4),
        new Flatten(),
        new LayerNorm(36),
        new Linear(36, 3, { rng }),
      ),
  },
  transformer: {
    shape: [4, 6, 8],
    make: rng =>
      new Sequential(new TransformerBlock(8, 2, { rng }), new LayerNorm(8), new Flatten(), new Linear(48, 3, { rng })),
  },
};

/** The losses of some steps of an optimizer with clipped gradients; the same numbers on every device. */
export async function losses(net: string, make: (model: Module) => Optimizer, device: string): Promise<number[]> {
  const rng = new Generator(3);
  const model = nets[net]!.make(rng).to(device);
  const optimizer = make(model);
  const found: number[] = [];
  for (let step = 0; step < 8; step++) {
    const x = randn(nets[net]!.shape, { rng, device });
    const y = randint(0, 3, [x.shape[0]!], { rng, device });
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x) as Tensor, y);
    loss.backward();
    clipGradNorm(model.parameters(), 1);
    await optimizer.step();
    found.push(await loss.number());
  }
  return found;
}
