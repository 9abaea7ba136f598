/**
 * How fast are the convolutions of @otimes/kernels? GFLOP/s (2·N·O·Ho·Wo·C·kh·kw operations each) of the three kernels, one
 * thread, interleaved, medians of CPU time; each result is compared with the reference backend's first, on one image. Then
 * the milliseconds of whole training steps of a small network, on device 'cpu' and, before there were these kernels, on
 * 'reference'.
 *
 *   npm run bench bench/conv.ts                 float32, all variants that run here
 *   npm run bench bench/conv.ts -- --quick      without the steps on 'reference'
 */

import { parseArgs } from 'node:util';
import { conv2d, Generator, ReferenceBackend, randint, randn, registerBackend, scope, setThreads } from '@otimes/core';
import { createKernels, images, variants } from '@otimes/kernels';
import { Conv2d, crossEntropy, Flatten, Linear, MaxPool2d, ReLU, Sequential } from '@otimes/nn';
import { Adam } from '@otimes/optim';

// One thread, whose CPU time is the figure.
await setThreads(1);

const { values: options } = parseArgs({ options: { quick: { type: 'boolean', default: false } } });
const ROUNDS = 7;
/** CPU seconds of one sample, at least one call. */
const SAMPLE = 0.05;

const cpuSeconds = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
const median = (xs: number[]) => xs.toSorted((a, b) => a - b)[xs.length >> 1]!;

/** Seconds a call of each, measured in turn. */
function interleave(runs: (() => void)[]): number[] {
  const calls = runs.map(run => {
    const start = cpuSeconds();
    let count = 0;
    do {
      run();
      count++;
    } while (cpuSeconds() - start < 2 * SAMPLE);
    return Math.max(1, Math.ceil((count * SAMPLE) / (cpuSeconds() - start)));
  });
  const samples: number[][] = runs.map(() => []);
  for (let round = 0; round < ROUNDS; round++)
    for (const [i, run] of runs.entries()) {
      const start = cpuSeconds();
      for (let c = 0; c < calls[i]!; c++) run();
      samples[i]!.push((cpuSeconds() - start) / calls[i]!);
    }
  return samples.map(median);
}

// --- kernels ----------------------------------------------------------------------------------------------------------

type Case = { n: number; c: number; size: number; o: number; kernel: number; stride: number; padding: number };
const CASES: Case[] = [
  { n: 32, c: 32, size: 32, o: 64, kernel: 3, stride: 1, padding: 1 },
  { n: 32, c: 3, size: 64, o: 64, kernel: 7, stride: 2, padding: 3 },
  { n: 64, c: 16, size: 28, o: 32, kernel: 3, stride: 1, padding: 1 },
  { n: 64, c: 1, size: 28, o: 16, kernel: 3, stride: 1, padding: 1 },
  { n: 32, c: 128, size: 8, o: 128, kernel: 3, stride: 1, padding: 1 },
  { n: 32, c: 64, size: 16, o: 64, kernel: 1, stride: 1, padding: 0 },
];

registerBackend(new ReferenceBackend('reference'));
const rng = new Generator(1);

function measured({ n, c, size, o, kernel, stride, padding }: Case): [title: string, row: Record<string, string>] {
  const out = Math.floor((size + 2 * padding - kernel) / stride) + 1;
  const flops = 2 * n * o * out * out * c * kernel * kernel;
  const [x, w, gy] = [
    randn([n, c, size, size], { rng }),
    randn([o, c, kernel, kernel], { rng }),
    randn([n, o, out, out], { rng }),
  ];
  const expected = conv2d(x.slice([0, 1]).to('reference'), w.to('reference'), { stride, padding }).dataSync();
  const runs: [string, () => void][] = [];
  const held: object[] = [];
  for (const variant of variants()) {
    const kernels = createKernels({ variant, memory: { initial: 2 ** 27 } })!;
    const { heap, memory, scratch } = kernels;
    const exports = kernels.load(images);
    const put = (values: ArrayLike<number>) => {
      const block = heap.allocate(values.length * 4)!;
      held.push(block);
      memory.f32.set(values, block.pointer / 4);
      return block.pointer;
    };
    const [px, pw, pg] = [put(x.dataSync()), put(w.dataSync()), put(gy.dataSync())];
    const [dx, dw, y] = [put(x.dataSync()), put(w.dataSync()), put(gy.dataSync())];
    // biome-ignore format: the geometry in the order of the kernels
    const g = [n, c, size, size, o, kernel, kernel, out, out, stride, stride, padding, padding, 1, 1, 1] as const;
    runs.push([`${variant} forward`, () => exports.convForward_f32(...g, px, pw, y, scratch)]);
    runs.push([`${variant} weight grad`, () => exports.convWeightGrad_f32(...g, px, pg, dw, scratch)]);
    runs.push([`${variant} input grad`, () => exports.convInputGrad_f32(...g, pg, pw, dx, scratch)]);
    exports.convForward_f32(...g, px, pw, y, scratch);
    for (const [i, value] of expected.entries())
      if (!(Math.abs(memory.f32[y / 4 + i]! - value) <= 1e-4 * kernel * Math.sqrt(c))) throw new Error(`wrong at ${i}`);
  }
  const seconds = interleave(runs.map(([, run]) => run));
  const cells = runs.map(([name], i) => [name, (flops / seconds[i]! / 1e9).toFixed(1)]);
  return [`N${n} ${c}→${o} ${size}² ${kernel}×${kernel} s${stride} p${padding}`, Object.fromEntries(cells)];
}

console.log('GFLOP/s, float32');
console.table(Object.fromEntries(CASES.map(measured)));

// --- a training step --------------------------------------------------------------------------------------------------

function step(device: string): () => void {
  const model = new Sequential(
    ...[new Conv2d(1, 16, 3, { padding: 1, rng }), new ReLU(), new MaxPool2d(2)],
    ...[new Conv2d(16, 32, 3, { padding: 1, rng }), new ReLU(), new MaxPool2d(2)],
    ...[new Flatten(), new Linear(32 * 7 * 7, 10, { rng })],
  ).to(device);
  const optimizer = new Adam(model.parameters(), { lr: 1e-3 });
  const x = randn([64, 1, 28, 28], { rng, device });
  const labels = randint(0, 10, [64], { rng, device });
  return () => {
    optimizer.zeroGrad();
    crossEntropy(model.call(x), labels).backward();
    optimizer.step();
  };
}

/** Milliseconds of a step: the median of `rounds` after some to warm up. */
function milliseconds(run: () => void, rounds: number): number {
  const times = Array.from({ length: rounds + Math.ceil(rounds / 3) }, () => {
    const start = performance.now();
    run();
    return performance.now() - start;
  });
  return median(times.slice(-rounds));
}

console.log('CNN 1→16→32, 28×28, B=64, Adam: one step');
console.log(`  cpu:           ${milliseconds(step('cpu'), 60).toFixed(1)} ms`);
const scoped = step('cpu');
console.log(`  cpu, in scope: ${milliseconds(() => scope(scoped), 60).toFixed(1)} ms`);
if (!options.quick) console.log(`  reference:     ${milliseconds(step('reference'), 3).toFixed(1)} ms`);
