/**
 * How fast are the matrix products of @otimes/kernels? GFLOP/s (2·m·n·k operations each; syrk computes half of them) next
 * to the reference backend's matmul in plain TypeScript: one thread, interleaved, medians of CPU time. Each result is
 * compared with the reference first.
 *
 *   npm run bench bench/gemm.ts                 float32 and float64, all variants that run here
 *   npm run bench bench/gemm.ts -- --quick      float32 up to 256
 */

import { parseArgs } from 'node:util';
import { Generator, ReferenceBackend, randn, registerBackend, setThreads } from '@otimes/core';
import { createKernels, type FloatType, type Gemm, gemm, syrk, variants } from '@otimes/kernels';

// One thread, whose CPU time is the figure.
await setThreads(1);

const { values: options } = parseArgs({ options: { quick: { type: 'boolean', default: false } } });
const SIZES = options.quick ? [8, 16, 64, 128, 256] : [8, 16, 64, 128, 256, 512, 1024];
const SHAPES: [number, number, number][] = [...SIZES.map((n): [number, number, number] => [n, n, n]), [128, 512, 784]];
const DTYPES: FloatType[] = options.quick ? ['float32'] : ['float32', 'float64'];
const ROUNDS = 7;
/** CPU seconds of one sample, at least one call. */
const SAMPLE = 0.03;

type Contender = { name: string; run: () => void };

const cpuSeconds = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** Seconds a call of each, measured in turn. */
function interleave(contenders: Contender[]): number[] {
  const calls = contenders.map(({ run }) => {
    const start = cpuSeconds();
    let count = 0;
    do {
      run();
      count++;
    } while (cpuSeconds() - start < 2 * SAMPLE);
    return Math.max(1, Math.ceil((count * SAMPLE) / (cpuSeconds() - start)));
  });
  const samples: number[][] = contenders.map(() => []);
  for (let round = 0; round < ROUNDS; round++)
    for (const [i, { run }] of contenders.entries()) {
      const start = cpuSeconds();
      for (let c = 0; c < calls[i]!; c++) run();
      samples[i]!.push((cpuSeconds() - start) / calls[i]!);
    }
  return samples.map(xs => xs.sort((a, b) => a - b)[ROUNDS >> 1]!);
}

registerBackend(new ReferenceBackend('reference'));
const rng = new Generator(1);

function contenders(dtype: FloatType, [m, n, k]: [number, number, number]): Contender[] {
  const a = randn([m, k], { rng, dtype }).to('reference');
  const b = randn([k, n], { rng, dtype }).to('reference');
  const expected = a.matmul(b).dataSync();
  const list: Contender[] = [{ name: 'reference', run: () => void a.matmul(b) }];
  for (const variant of variants()) {
    const kernels = createKernels({ variant, memory: { initial: 2 ** 26 } })!;
    const bytes = dtype === 'float32' ? 4 : 8;
    const blocks = [m * k, k * n, m * n].map(size => kernels.heap.allocate(size * bytes)!);
    const [pa, pb, pc] = blocks.map(block => block.pointer) as [number, number, number];
    const memory = dtype === 'float32' ? kernels.memory.f32 : kernels.memory.f64;
    memory.set(a.dataSync(), pa / bytes);
    memory.set(b.dataSync(), pb / bytes);
    const product: Gemm = { dtype, m, n, k, a: pa, aRow: k, aCol: 1, b: pb, bRow: n, bCol: 1, c: pc, cRow: n };
    gemm(kernels, product);
    for (const [i, x] of expected.entries())
      if (!(Math.abs(memory[pc / bytes + i]! - x) <= k * (bytes === 4 ? 1e-5 : 1e-13)))
        throw new Error(`wrong at ${i}`);
    list.push({ name: variant, run: () => gemm(kernels, product) });
    const transposed: Gemm = { ...product, bRow: 1, bCol: k };
    list.push({ name: `${variant} A·Bᵀ`, run: () => gemm(kernels, transposed) });
    if (m === n) list.push({ name: `${variant} syrk`, run: () => syrk(kernels, product) });
  }
  return list;
}

for (const dtype of DTYPES) {
  const rows = SHAPES.map(shape => {
    const list = contenders(dtype, shape);
    const seconds = interleave(list);
    const operations = 2 * shape[0] * shape[1] * shape[2];
    return [
      shape.join('×'),
      ...list.map(({ name }, i): [string, string] => [name, (operations / seconds[i]! / 1e9).toFixed(1)]),
    ];
  });
  console.log(`${dtype}, GFLOP/s`);
  console.table(
    Object.fromEntries(rows.map(([shape, ...cells]) => [shape, Object.fromEntries(cells as [string, string][])])),
  );
}
