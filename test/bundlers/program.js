/** What test/packages.test.ts runs everywhere: something of every package, in plain JavaScript. */

import {
  Generator,
  loadSafetensors,
  nextTask,
  ones,
  randint,
  randn,
  saveSafetensors,
  scope,
  setThreads,
  tensor,
} from '@otimes/core';
import '@otimes/core/methods';
import { DataLoader, TensorDataset } from '@otimes/data';
import { initGpu } from '@otimes/gpu';
import { Conv2d, crossEntropy, Flatten, Linear, ReLU, Sequential } from '@otimes/nn';
import { Adam, KFAC, STEVE } from '@otimes/optim';

function train(make) {
  const rng = new Generator(0);
  const model = new Sequential(
    ...[new Conv2d(1, 4, 3, { rng }), new ReLU(), new Flatten()],
    new Linear(4 * 36, 3, { rng }),
  );
  const optimizer = make(model);
  const data = new TensorDataset(randn([32, 1, 8, 8], { rng }), randint(0, 3, [32], { rng }));
  const losses = [];
  for (let epoch = 0; epoch < 3; epoch++)
    for (const [x, y] of new DataLoader(data, { batchSize: 16, shuffle: true, rng })) {
      optimizer.zeroGrad();
      const loss = crossEntropy(model.call(x), y);
      loss.backward();
      optimizer.step();
      losses.push(loss.item());
    }
  return { model, losses };
}

/** Plain data, the same on every host up to rounding. */
export async function program() {
  const adam = train(model => new Adam(model.parameters(), { lr: 0.01 }));
  const steve = train(model => new STEVE(model, { lr: 0.01, refreshEvery: 2 }));
  const bytes = saveSafetensors(adam.model.stateDict(), { made: 'here' });
  const state = loadSafetensors(bytes);
  const threads = await setThreads(2);
  await nextTask();
  const [a, b] = [randn([200, 300], { rng: new Generator(1) }), randn([300, 200], { rng: new Generator(2) })];
  const product = scope(() => a.matmul(b).mul(0.1).abs().mean()).item();
  await setThreads(1);
  // Where there is no GPU an error says what is missing, at once.
  const gpu = await initGpu().then(
    async () => (await ones([2], { device: 'gpu' }).tanh().sum().number()) > 1.523,
    ({ message }) => /^initGpu: expected (WebGPU|an adapter), got none: /.test(message),
  );
  let refused = '';
  try {
    new KFAC(adam.model, { damping: -1 });
  } catch (error) {
    refused = error.message;
  }
  return {
    threads,
    losses: { adam: adam.losses, steve: steve.losses },
    product,
    printed: `${tensor([
      [1, 2],
      [3, 4],
    ])
      .mul(2)
      .add(tensor([0.5, 0]))
      .transpose()
      .tril()}`,
    saved: { length: bytes.length, names: Object.keys(state).sort() },
    refused,
    gpu,
  };
}
