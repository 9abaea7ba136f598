/**
 * Kernels that memory limits, in GB/s of what they must read and write: reductions, softmax, normalisation, lookups, elementwise functions. By the
 * clock of the host over many launches between two reads that are awaited, so the tensors are large.
 *
 *   npm run bench bench/gpu/functions.ts                  about a minute on a graphics card, with some 20 GB of its memory
 *   npm run bench bench/gpu/functions.ts -- --quick       small tensors: whether the program runs
 *   npm run bench bench/gpu/functions.ts -- --only norm   those with that in their names
 */

import { parseArgs } from 'node:util';
import {
  batchNorm,
  grad,
  labelCrossEntropy,
  layerNorm,
  maxPool2d,
  noGrad,
  ones,
  randint,
  scope,
  type Tensor,
  zeros,
} from '@otimes/core';
import { gpuBackend, gpuKernel, initGpu } from '@otimes/gpu';

const { values: options } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, only: { type: 'string', default: '' } },
});
const { quick, only } = options;
const on = { device: 'gpu' };
const info = await initGpu({ memoryLimit: 60e9 });
console.log(
  `${info.name}, ${info.vendor}${info.isFallbackAdapter ? ', a fallback: the figures mean nothing for a GPU' : ''}`,
);

/** Numbers that are no constants, made on the device: uploads would take longer than all else. */
function some(...shape: number[]): Tensor {
  const last = shape.at(-1)!;
  const row = randint(0, 1000, [last], { dtype: 'float32' }).to('gpu').div(1000).sub(0.4);
  return scope(() => row.expand(shape).mul(ones(shape, on)));
}
const leaf = (x: Tensor) => {
  x.requiresGrad = true;
  return x;
};
const scaled = (n: number) => (quick ? Math.max(1, Math.ceil(n / 2 ** 14)) : n);

type Case = { readonly name: string; readonly bytes: number; readonly run: () => unknown };

/** A size in elements stands for 4 bytes each. */
const cases: (() => Case)[] = [];
const add = (make: () => Case) => cases.push(make);

for (const [name, shape, axes] of [
  ['all of 2²⁸', [scaled(2 ** 14), 2 ** 14], undefined],
  ['rows [65536, 4096]', [scaled(65536), 4096], [1]],
  ['rows [2²², 64]', [scaled(2 ** 22), 64], [1]],
  ['rows [2²⁴, 16]', [scaled(2 ** 24), 16], [1]],
  ['few rows [16, 2²⁴]', [16, scaled(2 ** 24)], [1]],
  ['columns [65536, 4096]', [scaled(65536), 4096], [0]],
  ['columns [2²², 64]', [scaled(2 ** 22), 64], [0]],
  ['the middle [64, 4096, 1024]', [scaled(64), 4096, 1024], [1]],
  ['channels [256, 64, 112, 112]', [scaled(256), 64, 112, 112], [0, 2, 3]],
  ['channels [512, 512, 28, 28]', [scaled(512), 512, 28, 28], [0, 2, 3]],
] as const)
  add(() => {
    const x = some(...shape);
    return { name: `sum over ${name}`, bytes: 4 * x.size, run: () => x.sum(axes) };
  });

const big = () => some(scaled(65536), 4096);
add(() => {
  const x = big();
  return { name: 'mean of rows [65536, 4096]', bytes: 4 * x.size, run: () => x.mean(1) };
});
add(() => {
  const x = big();
  return { name: 'norm of all of 2²⁸', bytes: 4 * x.size, run: () => x.norm() };
});
add(() => {
  const x = big();
  return { name: 'argmax of rows [65536, 4096]', bytes: 4 * x.size, run: () => x.argmax(1) };
});
for (const [rows, length] of [
  [65536, 4096],
  [2 ** 20, 256],
  [4096, 50257],
] as const)
  add(() => {
    const x = some(scaled(rows), length);
    return { name: `softmax [${rows}, ${length}]`, bytes: 8 * x.size, run: () => x.softmax(1) };
  });
add(() => {
  const x = some(scaled(4096), 50257);
  const labels = zeros([x.shape[0]!], { ...on, dtype: 'int32' });
  return { name: 'cross-entropy [4096, 50257]', bytes: 4 * x.size, run: () => labelCrossEntropy(x, labels, 1) };
});
for (const [rows, length] of [
  [2 ** 18, 768],
  [2 ** 21, 64],
] as const) {
  const parts = () => ({
    x: leaf(some(scaled(rows), length)),
    w: leaf(ones([length], on)),
    b: leaf(zeros([length], on)),
  });
  add(() => {
    const { x, w, b } = parts();
    return { name: `layer norm [${rows}, ${length}]`, bytes: 8 * x.size, run: () => noGrad(() => layerNorm(x, w, b)) };
  });
  add(() => {
    const { x, w, b } = parts();
    const [y, gy] = [layerNorm(x, w, b), some(scaled(rows), length)];
    return {
      name: `layer norm's gradients [${rows}, ${length}]`,
      bytes: 20 * x.size,
      run: () => grad(y, [x, w, b], { gy }),
    };
  });
}
for (const shape of [
  [256, 64, 56, 56],
  [512, 512, 14, 14],
] as const) {
  const [n, c, rows, columns] = shape;
  const parts = () => ({ x: leaf(some(scaled(n), c, rows, columns)), w: leaf(ones([c], on)), b: leaf(zeros([c], on)) });
  add(() => {
    const { x, w, b } = parts();
    return { name: `batch norm [${shape}]`, bytes: 12 * x.size, run: () => noGrad(() => batchNorm(x, w, b)) };
  });
  add(() => {
    const { x, w, b } = parts();
    const [y, gy] = [batchNorm(x, w, b).y, some(scaled(n), c, rows, columns)];
    return { name: `batch norm's gradients [${shape}]`, bytes: 20 * x.size, run: () => grad(y, [x, w, b], { gy }) };
  });
}
add(() => {
  const table = leaf(some(quick ? 500 : 50257, 768));
  const index = randint(0, table.shape[0]!, [4096]).to('gpu');
  const y = table.indexSelect(0, index);
  const gy = some(4096, 768);
  return {
    name: 'gradient of an embedding [50257, 768] by 4096',
    bytes: 4 * table.size + 8 * y.size,
    run: () => grad(y, [table], { gy }),
  };
});
add(() => {
  const x = leaf(some(scaled(256), 64, 112, 112));
  const y = maxPool2d(x, 3, { stride: 2, padding: 1 });
  const gy = some(...y.shape);
  return {
    name: 'gradient of max pooling 3×3 [256, 64, 112, 112]',
    bytes: 4 * x.size + 8 * y.size,
    run: () => grad(y, [x], { gy }),
  };
});
for (const name of ['exp', 'gelu', 'tanh', 'log', 'sin', 'relu'] as const)
  add(() => {
    const x = big();
    return { name: `${name} of 2²⁸`, bytes: 8 * x.size, run: () => x[name]() };
  });
add(() => {
  const [x, y] = [big(), big()];
  return { name: 'add of 2²⁸', bytes: 12 * x.size, run: () => x.add(y) };
});
add(() => {
  const [x, y] = [big(), some(4096)];
  return { name: 'add of a row to 2²⁸', bytes: 8 * x.size, run: () => x.add(y) };
});
add(() => {
  const x = big();
  return { name: 'pow 2.5 of 2²⁸', bytes: 8 * x.size, run: () => x.pow(2.5) };
});
add(() => {
  const x = big();
  return { name: 'a transposed copy of 2²⁸', bytes: 8 * x.size, run: () => x.transpose(0, 1).contiguous() };
});
add(() => {
  const x = big();
  const swish = gpuKernel((x: number) => x / (1 + Math.exp(-x)));
  return { name: 'gpuKernel x / (1 + exp −x) of 2²⁸', bytes: 8 * x.size, run: () => swish(x) };
});

for (const make of cases) {
  const { name, bytes, run } = make();
  if (!name.includes(only)) continue;
  // What it makes goes back to the pool at once; reads come behind all that was launched.
  const once = () => scope(() => void run());
  const settle = async () => void (await zeros([1], on).data());
  once();
  await settle();
  const timed = async (n: number) => {
    const start = performance.now();
    const before = gpuBackend()!.stats.launches;
    for (let i = 0; i < n; i++) once();
    await settle();
    return { ms: (performance.now() - start) / n, launches: (gpuBackend()!.stats.launches - before) / n };
  };
  const first = await timed(2);
  const rounds = quick ? 2 : Math.max(3, Math.min(200, Math.ceil(400 / first.ms)));
  const { ms, launches } = await timed(rounds);
  console.log(
    `${name.padEnd(52)} ${ms.toFixed(3).padStart(9)} ms ${(bytes / ms / 1e6).toFixed(0).padStart(7)} GB/s ${launches.toFixed(1).padStart(6)} launches`,
  );
}
process.exit(0);
