/**
 * How long does a refresh of eigenvectors take on the GPU, by the size of a factor? A step of `subspaceIteration` beside `eigh` of
 * the CPU engine, and all factors of ResNet-18 one after the other. Milliseconds by the clock of the host, from a read to a read.
 *
 *   npm run bench bench/gpu/refresh.ts                    within 40 s on a graphics card
 *   npm run bench bench/gpu/refresh.ts -- --quick         small sizes: whether the program runs
 *   npm run bench bench/gpu/refresh.ts -- --seconds 60    its limit of time; what is left out is named
 */

import { parseArgs } from 'node:util';
import { Generator, noGrad, randn, scope, type Tensor } from '@otimes/core';
import { gpuBackend, initGpu } from '@otimes/gpu';
import { eigh } from '@otimes/linalg';
import { subspaceIteration } from '@otimes/optim';

const { values: options } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, seconds: { type: 'string', default: '40' } },
});
const { quick } = options;
const began = performance.now();
const spent = () => (performance.now() - began) / 1000;
const LIMIT = Number(options.seconds);
const SIZES = quick ? [64, 150] : [64, 128, 256, 576, 1024, 1152, 2304, 4608];
/** `eigh` of larger ones is estimated by n³. */
const LARGEST_ON_CPU = quick ? 150 : 576;
/** The sides of ResNet-18's factors for CIFAR: rows, and how many there are of each. */
const RESNET: readonly (readonly [n: number, count: number])[] = quick
  ? [[27, 2]]
  : [
      ...([
        [10, 1],
        [27, 1],
        [64, 6],
        [128, 6],
        [256, 6],
        [512, 5],
        [513, 1],
      ] as const),
      ...([
        [576, 5],
        [1152, 4],
        [2304, 4],
        [4608, 3],
      ] as const),
    ];

const info = await initGpu();
console.log(
  `${info.name}, ${info.vendor}${info.isFallbackAdapter ? ', a fallback: the figures mean nothing for a GPU' : ''}`,
);
const tracker = subspaceIteration();
const beginner = subspaceIteration({ firstSteps: 4 });

/** The mean of x xᵀ over n / 2 examples of features that fall off by a power. */
function factorOf(n: number, seed: number): Tensor {
  const rows = Math.max(1, n >> 1);
  const scale = randn([n, 1], { rng: new Generator(1) })
    .abs()
    .pow(3);
  const x = randn([n, rows], { rng: new Generator(seed) })
    .mul(scale)
    .to('gpu');
  return x.matmul(x.transpose()).div(rows).keep();
}

/** ‖Uᵀ A U without its diagonal‖ / ‖A‖, and the largest element of Uᵀ U − I. */
async function quality(A: Tensor, U: Tensor): Promise<[off: number, skew: number]> {
  const [off, skew] = scope(() => {
    const B = U.transpose().matmul(A).matmul(U);
    const d = U.mul(A.matmul(U)).sum(0);
    const all = B.square().sum().sub(d.square().sum()).clamp(0).sqrt();
    const x = U.transpose().matmul(U);
    const norms = x.square().sum(0).sub(1).abs().max();
    return [all.div(A.norm()).keep(), norms.keep()];
  });
  return [await off!.number(), await skew!.number()];
}

async function timed(run: () => Tensor, times: number): Promise<{ ms: number; dispatches: number; last: Tensor }> {
  let last = noGrad(run);
  // Until no kernel is compiled any more.
  for (let [i, idle, kernels] = [0, 0, -1]; i < 20 && idle < 3; i++) {
    last = noGrad(run);
    await last.narrow(0, 0, 1).sum().number();
    idle = gpuBackend()!.stats.kernels === kernels ? idle + 1 : 0;
    kernels = gpuBackend()!.stats.kernels;
  }
  const before = gpuBackend()!.stats.dispatches;
  const start = performance.now();
  for (let i = 0; i < times; i++) last = noGrad(run);
  await last.narrow(0, 0, 1).sum().number();
  const dispatches = (gpuBackend()!.stats.dispatches - before) / times;
  return { ms: (performance.now() - start) / times, dispatches: Math.round(dispatches), last };
}

const onCpu: { n: number; ms: number }[] = [];
function eighMs(n: number): { ms: number; estimated: boolean } {
  if (n > LARGEST_ON_CPU) {
    const known = onCpu.at(-1)!;
    return { ms: known.ms * (n / known.n) ** 3, estimated: true };
  }
  const x = randn([n, n], { rng: new Generator(2), dtype: 'float64' });
  const A = x.matmul(x.transpose()).ndarray();
  const start = performance.now();
  eigh(A);
  const ms = performance.now() - start;
  onCpu.push({ n, ms });
  return { ms, estimated: false };
}

console.log('     n   step ms  dispatches  TFLOP/s   eigh ms (CPU)   off before → after      |norm² − 1|');
for (const n of SIZES) {
  if (spent() > 0.6 * LIMIT) {
    console.log(`${String(n).padStart(6)}   left out: ${spent().toFixed(0)} of ${LIMIT} s are used up`);
    continue;
  }
  const [A, next] = [factorOf(n, 3), factorOf(n, 4)];
  const U = noGrad(() => beginner.begin!(A)).keep();
  const [before] = await quality(next, U);
  const { ms, dispatches, last } = await timed(() => tracker.follow(next, U), n > 2000 ? 2 : 10);
  const [after, skew] = await quality(next, last);
  const { ms: cpu, estimated } = eighMs(n);
  // About 11 products of 2n³.
  const rate = (22 * n ** 3) / ms / 1e9;
  console.log(
    `${String(n).padStart(6)} ${ms.toFixed(2).padStart(9)} ${String(dispatches).padStart(11)} ${rate.toFixed(2).padStart(8)} ` +
      `${(estimated ? '~' : '') + cpu.toFixed(cpu < 10 ? 1 : 0)}`.padStart(16) +
      `   ${before.toExponential(1)} → ${after.toExponential(1)}   ${skew.toExponential(1).padStart(14)}`,
  );
  for (const x of [A, next, U, last]) x.storage.release();
}

if (spent() < 0.75 * LIMIT) {
  const start = performance.now();
  const known = onCpu.at(-1)!;
  const cpu = RESNET.reduce((sum, [n, count]) => sum + count * known.ms * (n / known.n) ** 3, 0);
  let total = 0;
  for (const [n, count] of RESNET) {
    const A = factorOf(n, 5);
    const U = noGrad(() => tracker.follow(A, beginner.begin!(A))).keep();
    await U.narrow(0, 0, 1).sum().number();
    const { ms } = await timed(() => tracker.follow(A, U), 1);
    total += count * ms;
    for (const x of [A, U]) x.storage.release();
    if (spent() > 0.95 * LIMIT) {
      console.log(`ResNet-18: left out after ${n}: ${spent().toFixed(0)} of ${LIMIT} s are used up`);
      break;
    }
  }
  console.log(
    `a refresh of ResNet-18 (${RESNET.reduce((sum, [, count]) => sum + count, 0)} factors): ${total.toFixed(0)} ms on the GPU, ` +
      `eigh on the CPU about ${(cpu / 1000).toFixed(1)} s by n³  [measured in ${((performance.now() - start) / 1000).toFixed(0)} s]`,
  );
}
