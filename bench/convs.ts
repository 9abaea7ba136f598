/**
 * Convolutions beside those that networks of images are mostly made of: depthwise ones, along one and three axes, and training steps of
 * mobileNetV1. CPU milliseconds on one thread, and beside them PyTorch's on one thread, taken in turns.
 *
 *   npm run bench bench/convs.ts                  all
 *   npm run bench bench/convs.ts depthwise        those whose names begin so
 *
 * Needs python3 with torch; without it the column is left out.
 */

import { Generator, noGrad, randint, randn, scope, setThreads, type Tensor } from '@otimes/core';
import { Conv1d, Conv2d, Conv3d, crossEntropy, type Module, mobileNetV1 } from '@otimes/nn';
import { SGD } from '@otimes/optim';
import { inTurns } from './turns.ts';

await setThreads(1);
const rng = new Generator(0);

type Steps = { readonly forward?: () => () => void; readonly both: () => () => void; readonly calls: number };

/** The forward pass alone, and with the gradients of input, weight and bias. */
function layer(make: () => Module & { call(x: Tensor): Tensor }, shape: readonly number[], calls: number): Steps {
  return {
    calls,
    forward() {
      const [module, x] = [make(), randn(shape, { rng })];
      return () => scope(() => noGrad(() => void module.call(x)));
    },
    both() {
      const [module, x] = [make(), randn(shape, { rng, requiresGrad: true })];
      const g = randn(module.call(x).shape, { rng });
      return () =>
        scope(() => {
          x.grad = null;
          for (const p of module.parameters()) p.grad = null;
          module.call(x).backward(g);
        });
    },
  };
}

const mobile = (alpha: number, side: number, calls: number): Steps => ({
  calls,
  both() {
    const model = mobileNetV1({ alpha, numClasses: 10, rng });
    const optimizer = new SGD(model.parameters(), { lr: 0.01 });
    const [x, y] = [randn([8, 3, side, side], { rng }), randint(0, 10, [8], { rng })];
    return () =>
      scope(() => {
        optimizer.zeroGrad();
        crossEntropy(model.call(x), y).backward();
        optimizer.step();
      });
  },
});

const depthwise = (c: number, shape: readonly number[], calls: number, stride = 1) =>
  layer(() => new Conv2d(c, c, 3, { stride, padding: 1, groups: c, rng }), shape, calls);

/** As in peers/torch_convs.py. */
const problems: Record<string, Steps> = {
  'depthwise 512, 8²': depthwise(512, [8, 512, 8, 8], 20),
  'depthwise 128, 32², stride 2': depthwise(128, [8, 128, 32, 32], 10, 2),
  'depthwise 64, 32²': depthwise(64, [16, 64, 32, 32], 10),
  'depthwise 1024, 4²': depthwise(1024, [8, 1024, 4, 4], 10),
  'conv1d 32 → 64, k 5': layer(() => new Conv1d(32, 64, 5, { padding: 2, rng }), [16, 32, 128], 20),
  'conv3d 8 → 16, 3³': layer(() => new Conv3d(8, 16, 3, { padding: 1, rng }), [4, 8, 8, 24, 24], 5),
  'mobileNet .25, 32²': mobile(0.25, 32, 5),
  'mobileNet 1, 32²': mobile(1, 32, 2),
  'mobileNet .5, 64²': mobile(0.5, 64, 2),
};

const wanted = process.argv.slice(2);
console.log('                                      otimes ms   torch ms   torch / otimes');
for (const [name, { calls, ...kinds }] of Object.entries(problems)) {
  if (wanted.length > 0 && !wanted.some(one => name.startsWith(one))) continue;
  for (const [kind, make] of Object.entries(kinds))
    console.log(`${name} ${kind}`.padEnd(36) + (await inTurns('torch_convs.py', `${name}/${kind}`, make(), calls)));
}
