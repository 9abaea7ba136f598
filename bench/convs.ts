/**
 * Convolutions beside those that networks of images are mostly made of: depthwise ones, along one and three axes, and training steps of
 * mobileNetV1. CPU milliseconds on one thread, and beside them PyTorch's on one thread, taken in turns.
 *
 *   npm run bench bench/convs.ts                  all
 *   npm run bench bench/convs.ts depthwise        those whose names begin so
 *
 * Needs python3 with torch; without it the column is left out.
 */

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Generator, noGrad, randint, randn, scope, setThreads, type Tensor } from '@otimes/core';
import { Conv1d, Conv2d, Conv3d, crossEntropy, type Module, mobileNetV1 } from '@otimes/nn';
import { SGD } from '@otimes/optim';

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

/** PyTorch's calls, in a process of its own that takes a number of them at a time; null where there is no PyTorch. */
async function peer(name: string): Promise<{ run(calls: number): Promise<number>; end(): void } | null> {
  const path = fileURLToPath(new URL('peers/torch_convs.py', import.meta.url));
  const child = spawn('/usr/bin/python3', [path, name], { stdio: ['pipe', 'pipe', 'ignore'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  child.on('error', () => {});
  if ((await lines.next()).done) return null;
  return {
    async run(calls) {
      child.stdin.write(`${calls}\n`);
      return Number((await lines.next()).value);
    },
    end: () => child.stdin.end(),
  };
}

const median = (x: readonly number[]) => [...x].sort((a, b) => a - b)[Math.floor(x.length / 2)]!;
const wanted = process.argv.slice(2);
const ROUNDS = 9;
console.log('                                      otimes ms   torch ms   torch / otimes');
for (const [name, { calls, ...kinds }] of Object.entries(problems)) {
  if (wanted.length > 0 && !wanted.some(one => name.startsWith(one))) continue;
  for (const [kind, make] of Object.entries(kinds)) {
    const step = make();
    const other = await peer(`${name}/${kind}`);
    const own = (n: number) => {
      const start = process.cpuUsage();
      for (let i = 0; i < n; i++) step();
      const { user, system } = process.cpuUsage(start);
      return (user + system) / 1000 / n;
    };
    own(3 * calls);
    await other?.run(calls);
    const times: { own: number; other: number }[] = [];
    for (let round = 0; round < ROUNDS; round++)
      times.push({ own: own(calls), other: (await other?.run(calls)) ?? Number.NaN });
    other?.end();
    const [a, b, ratio] = [
      median(times.map(t => t.own)),
      median(times.map(t => t.other)),
      median(times.map(t => t.other / t.own)),
    ];
    const label = `${name} ${kind}`.padEnd(36);
    console.log(`${label}${a.toFixed(2).padStart(11)}${b.toFixed(2).padStart(11)}${ratio.toFixed(2).padStart(12)}`);
  }
}
