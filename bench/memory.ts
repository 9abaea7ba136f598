/**
 * Does a synchronous training loop hold its memory? 20,000 steps of a small MLP with Adam, nothing disposed, nothing
 * awaited. Prints resident memory on the way; ends with exit code 1 if it grew by more than 20 MB after step 1,000.
 *
 *   npm run bench bench/memory.ts
 */

import { Generator, randint, randn } from '@otimes/core';
import { crossEntropy, mlp } from '@otimes/nn';
import { Adam } from '@otimes/optim';

const STEPS = 20_000;
const ALLOWED_MB = 20;

const rng = new Generator(0);
const model = mlp([64, 128, 10], { rng });
const optimizer = new Adam(model.parameters(), { lr: 1e-3 });
const x = randn([64, 64], { rng });
const y = randint(0, 10, [64], { rng });
const residentMb = () => process.memoryUsage.rss() / 1e6;

let before = 0;
const start = performance.now();
for (let step = 1; step <= STEPS; step++) {
  optimizer.zeroGrad();
  const loss = crossEntropy(model.call(x), y);
  loss.backward();
  optimizer.step();
  if (step === 1000) before = residentMb();
  if (step === 1000 || step % 5000 === 0)
    console.log(`step ${step}: ${residentMb().toFixed(1)} MB resident, loss ${loss.item().toExponential(2)}`);
}
const grown = residentMb() - before;
console.log(
  `${STEPS} steps in ${((performance.now() - start) / 1000).toFixed(1)} s; ` +
    `resident memory ${grown >= 0 ? '+' : ''}${grown.toFixed(1)} MB since step 1000 (allowed ${ALLOWED_MB})`,
);
if (grown > ALLOWED_MB) process.exitCode = 1;
